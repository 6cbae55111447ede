//! A keyring in Kubernetes: the Secret `sluice-keys`. Made at the first start; whichever replica comes second reads what
//! the first one made. It is put into the state folder, the working copy, where everybody reads it as if it had always
//! been there. Every replica looks at the Secret again and again; the one that leads replaces keys when it is asked to, or
//! when the authority has a year left.
//!
//! Keys that are made where fleets have records already are marked as new to those: their instances trust others.
//!
//! A Secret that is damaged is never replaced: what is held goes on, and a start says what is wrong. One that was deleted
//! while somebody holds what was in it is put back, unless the installation that it belongs to is gone as well.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};
use sluice_model::limits::{CA_ROTATION_DAYS, KEYS_LOOK_MS, SERVER_CERTIFICATE_RENEWAL_SECONDS};
use sluice_model::{ClusterId, FleetName};
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use super::folder::FolderError;
use super::{Keyring, KeyringError, Pace, Phase};
use crate::installation::{Installation, NoOwner, Owner};
use crate::keys::{self, KeyError, Keys};
use crate::labels;
use crate::leader::Leadership;
use crate::pipeline::Clock;
use crate::pki::{Pki, PkiError};
use crate::revisions;
use crate::sign::secret_marks;
use crate::trust::Trust;

/// The Secret's name.
pub const NAME: &str = "sluice-keys";

/// The annotation that asks for a replacement of the keys: any text that it did not have before.
pub const ROTATE: &str = "sluice.dev/rotate";

/// Why the keys cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The API server.
    #[error("Secret {namespace}/{NAME} cannot be {verb}: {source}; the controller needs get, create and update on it")]
    Api {
        /// Where.
        namespace: String,
        /// What was tried.
        verb: &'static str,
        /// Why not.
        source: kube::Error,
    },
    /// Whether there were other keys.
    #[error(
        "the records in namespace {namespace} cannot be listed: {source}; the controller needs list on configmaps there"
    )]
    Records {
        /// Where.
        namespace: String,
        /// Why not.
        source: kube::Error,
    },
    /// It is there, and it is no keyring.
    #[error(
        "Secret {namespace}/{NAME} is damaged: {error}; restore it from a backup. To begin with new keys instead, scale the \
         controller to zero, delete the Secret, start the controller and replace every pod of the data plane"
    )]
    Damaged {
        /// Where.
        namespace: String,
        /// What is wrong with it.
        error: KeyringError,
    },
    /// There is no installation that it would belong to.
    #[error(transparent)]
    NoOwner(#[from] NoOwner),
    /// It is another installation's.
    #[error(
        "Secret {0}/{NAME} belongs to an installation that was removed; waiting until Kubernetes has deleted it. If it is a \
         backup that you have restored, remove its ownerReferences"
    )]
    Past(String),
    /// It appears and disappears.
    #[error("Secret {0}/{NAME} is made and deleted again and again; find out by whom")]
    Unsteady(String),
    /// No new keys.
    #[error("no new keys can be made: {0}")]
    Draw(KeyringError),
    /// The working copy.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// Keys in the working copy.
    #[error(transparent)]
    Keys(#[from] KeyError),
    /// Certificates.
    #[error(transparent)]
    Pki(#[from] PkiError),
}

/// Annotations of the Secret.
type Annotations = BTreeMap<String, String>;

/// The Secret.
#[derive(Clone)]
struct KeySecret {
    client: Client,
    api: Api<Secret>,
    namespace: String,
    /// What it belongs to.
    installation: Installation,
}

/// A keyring as it was read.
struct Kept {
    keyring: Keyring,
    /// As the API server has it; what is written is written in its place and no other's.
    object: Secret,
}

impl Kept {
    /// Which replacement somebody asks for.
    fn asked(&self) -> Option<&str> {
        let asked = self.object.metadata.annotations.as_ref()?.get(ROTATE)?;
        Some(asked.trim()).filter(|asked| !asked.is_empty())
    }
}

/// How a write went.
enum Written {
    /// It is there.
    Here(Box<Kept>),
    /// Somebody else wrote first.
    Overtaken,
}

impl KeySecret {
    fn new(client: Client, namespace: String, installation: Installation) -> Self {
        Self {
            api: Api::namespaced(client.clone(), &namespace),
            client,
            namespace,
            installation,
        }
    }

    /// What is there, or else what is made here.
    async fn open(&self) -> Result<Kept, SecretError> {
        const TRIES: usize = 5;
        self.installation.is_read().await;
        let owner = self.installation.owner()?;
        for _ in 0..TRIES {
            if let Some(kept) = self.read().await? {
                // Its keys are as good as gone: whoever began with them would have others in a moment.
                let is_past = owner.is_past(&kept.object.metadata);
                return if is_past {
                    Err(SecretError::Past(self.namespace.clone()))
                } else {
                    Ok(kept)
                };
            }
            let keyring = Keyring::draw().map_err(SecretError::Draw)?;
            let before = self.fleets_before(&owner).await?;
            if let Written::Here(kept) = self.create(&keyring, secret_marks::new_to(&before)).await? {
                tell_new(&keyring, &before);
                return Ok(*kept);
            }
        }
        Err(SecretError::Unsteady(self.namespace.clone()))
    }

    /// The fleets that something is kept of, although there are no keys: they had others.
    async fn fleets_before(&self, owner: &Owner) -> Result<BTreeSet<FleetName>, SecretError> {
        let maps: Api<ConfigMap> = Api::namespaced(self.client.clone(), &self.namespace);
        revisions::kubernetes::fleets(&maps, owner)
            .await
            .map_err(|source| SecretError::Records {
                namespace: self.namespace.clone(),
                source,
            })
    }

    async fn read(&self) -> Result<Option<Kept>, SecretError> {
        match self.api.get_opt(NAME).await {
            Ok(None) => Ok(None),
            Ok(Some(object)) => self.kept(object).map(Some),
            Err(error) => Err(self.failed("read", error)),
        }
    }

    fn kept(&self, object: Secret) -> Result<Kept, SecretError> {
        let data = object.data.clone().unwrap_or_default();
        let parts = data
            .into_iter()
            .map(|(part, ByteString(bytes))| (part, Zeroizing::new(bytes)));
        let keyring = Keyring::of_parts(parts.collect()).map_err(|error| self.damaged(error))?;
        Ok(Kept { keyring, object })
    }

    async fn create(&self, keyring: &Keyring, annotations: Annotations) -> Result<Written, SecretError> {
        let object = Secret {
            metadata: ObjectMeta {
                name: Some(NAME.to_owned()),
                namespace: Some(self.namespace.clone()),
                labels: Some(labels::of_part(labels::Part::Keys)),
                annotations: Some(annotations),
                ..ObjectMeta::default()
            },
            type_: Some("Opaque".to_owned()),
            ..Secret::default()
        };
        let object = self.filled(object, keyring)?;
        let made = self.api.create(&PostParams::default(), &object).await;
        self.written("created", made)
    }

    /// Writes `keyring` in the place of what was read as `before`.
    async fn replace(&self, before: &Kept, keyring: &Keyring) -> Result<Written, SecretError> {
        let object = self.filled(before.object.clone(), keyring)?;
        let replaced = self.api.replace(NAME, &PostParams::default(), &object).await;
        self.written("updated", replaced)
    }

    fn filled(&self, mut object: Secret, keyring: &Keyring) -> Result<Secret, SecretError> {
        self.installation.owner()?.put_on(&mut object.metadata);
        let parts = keyring.parts().map_err(|error| self.damaged(error))?;
        let data = parts
            .into_iter()
            .map(|(part, bytes)| (part, ByteString(bytes.to_vec())));
        object.data = Some(data.collect());
        Ok(object)
    }

    /// Whether it was made by a version that knew no owner, or before the installation was made again.
    fn is_to_be_owned(&self, kept: &Kept) -> Result<bool, SecretError> {
        Ok(self.installation.owner()?.put_on(&mut kept.object.metadata.clone()))
    }

    fn written(&self, verb: &'static str, result: kube::Result<Secret>) -> Result<Written, SecretError> {
        match result {
            Ok(object) => Ok(Written::Here(Box::new(self.kept(object)?))),
            Err(kube::Error::Api(status)) if status.is_conflict() || status.is_already_exists() => {
                Ok(Written::Overtaken)
            }
            Err(error) => Err(self.failed(verb, error)),
        }
    }

    fn failed(&self, verb: &'static str, source: kube::Error) -> SecretError {
        SecretError::Api {
            namespace: self.namespace.clone(),
            verb,
            source,
        }
    }

    fn damaged(&self, error: KeyringError) -> SecretError {
        SecretError::Damaged {
            namespace: self.namespace.clone(),
            error,
        }
    }
}

/// Says that keys were made, and what that means to whoever had others.
fn tell_new(keyring: &Keyring, before: &BTreeSet<FleetName>) {
    let cluster = keyring.cluster();
    if before.is_empty() {
        return tracing::info!(%cluster, "a new cluster: its keys are made");
    }
    let fleets: Vec<&str> = before.iter().map(FleetName::as_str).collect();
    tracing::warn!(
        %cluster,
        fleets = fleets.join(", "),
        "new keys are made, since Secret {NAME} is gone: instances trust the old ones, and must be restarted"
    );
}

/// Where a keyring is put to be used.
#[derive(Clone, Debug)]
pub struct WorkingCopy {
    /// The state folder.
    pub state: PathBuf,
    /// Where the server is reached at, for its certificate.
    pub host: Option<IpAddr>,
    /// How long the phases of a replacement last.
    pub pace: Pace,
}

/// The keys of a cluster, kept in step with the Secret.
pub struct KeptKeys {
    secret: KeySecret,
    copy: WorkingCopy,
    held: Keyring,
    /// Of the Secret as it was last read: for whom its keys have signed is among them, and goes with them.
    annotations: Annotations,
    trust: watch::Sender<Arc<Trust>>,
    changes: watch::Sender<u64>,
    story: watch::Sender<String>,
    /// When the server's certificate was made, in seconds of Unix time; `None`: at the start.
    certified_at: Option<u64>,
    /// What went wrong last, said once.
    trouble: Option<String>,
}

impl std::fmt::Debug for KeptKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "KeptKeys({:?} of {})", self.held, self.secret.namespace)
    }
}

impl KeptKeys {
    /// Reads the Secret in `namespace`, or makes it for `installation`, and puts it into the working copy.
    ///
    /// # Errors
    /// Says what is wrong, and how to mend it.
    pub async fn open(
        client: Client,
        namespace: String,
        installation: Installation,
        copy: WorkingCopy,
    ) -> Result<Self, SecretError> {
        let secret = KeySecret::new(client, namespace, installation);
        let Kept { keyring: held, object } = secret.open().await?;
        let trust = watch::Sender::new(Arc::new(put(&held, &copy)?));
        let story = watch::Sender::new(held.story(copy.pace));
        Ok(Self {
            secret,
            copy,
            held,
            annotations: object.metadata.annotations.unwrap_or_default(),
            trust,
            changes: watch::Sender::new(0),
            story,
            certified_at: None,
            trouble: None,
        })
    }

    /// Which cluster this is.
    pub fn cluster(&self) -> &ClusterId {
        self.held.cluster()
    }

    /// What connects and enrols goes by this.
    pub fn trust(&self) -> watch::Receiver<Arc<Trust>> {
        self.trust.subscribe()
    }

    /// Counts the times that the keys in the working copy changed: whoever has opened them opens them again.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// How far a replacement of the keys is, for people.
    pub fn story(&self) -> watch::Receiver<String> {
        self.story.subscribe()
    }

    /// Keeps the working copy in step with the Secret until `stop`, and replaces keys while this controller leads: also
    /// when it cannot begin to, for want of the Secret.
    pub async fn keep(mut self, leadership: watch::Receiver<Leadership>, clock: Clock, stop: CancellationToken) {
        let mut look = tokio::time::interval(Duration::from_millis(KEYS_LOOK_MS));
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = look.tick() => {}
            }
            let role = Role::of(&leadership.borrow());
            let looked = self.look(role, clock().seconds()).await;
            self.say(looked);
        }
    }

    async fn look(&mut self, role: Role, now: u64) -> Result<(), SecretError> {
        let Some(kept) = self.secret.read().await? else {
            return self.restore(role).await;
        };
        self.annotations = kept.object.metadata.annotations.clone().unwrap_or_default();
        self.take(&kept.keyring)?;
        self.renew_certificate(now)?;
        match role {
            Role::Leads => self.write_what_is_due(&kept, now).await,
            Role::Follows => Ok(()),
        }
    }

    async fn write_what_is_due(&mut self, kept: &Kept, now: u64) -> Result<(), SecretError> {
        let next = decide(&kept.keyring, kept.asked(), self.copy.pace, now).map_err(SecretError::Draw)?;
        let next = match next {
            Some(next) => next,
            None if self.secret.is_to_be_owned(kept)? => kept.keyring.clone(),
            None => return Ok(()),
        };
        match self.secret.replace(kept, &next).await? {
            Written::Here(kept) => {
                tracing::info!(phase = ?kept.keyring.phase(), "{}", kept.keyring.story(self.copy.pace));
                self.take(&kept.keyring)
            }
            Written::Overtaken => Ok(()), // the next look sees by whom
        }
    }

    async fn restore(&self, role: Role) -> Result<(), SecretError> {
        match role {
            Role::Follows => {}
            Role::Leads => {
                self.secret.create(&self.held, self.annotations.clone()).await?;
                tracing::warn!(
                    "Secret {}/{NAME} was deleted; it is put back as it was",
                    self.secret.namespace
                );
            }
        }
        Ok(())
    }

    fn take(&mut self, keyring: &Keyring) -> Result<(), SecretError> {
        if *keyring == self.held {
            return Ok(());
        }
        let trust = put(keyring, &self.copy)?;
        self.held = keyring.clone();
        self.story.send_replace(keyring.story(self.copy.pace));
        self.trust.send_replace(Arc::new(trust));
        self.changes.send_modify(|changes| *changes += 1);
        tracing::info!(phase = ?keyring.phase(), "keys changed");
        Ok(())
    }

    /// The server's own certificate lasts a year, and a controller may run for longer.
    fn renew_certificate(&mut self, now: u64) -> Result<(), SecretError> {
        let made = *self.certified_at.get_or_insert(now);
        if now.saturating_sub(made) >= SERVER_CERTIFICATE_RENEWAL_SECONDS {
            self.trust.send_replace(Arc::new(put(&self.held, &self.copy)?));
            self.certified_at = Some(now);
        }
        Ok(())
    }

    /// A trouble is said once for as long as it lasts.
    fn say(&mut self, looked: Result<(), SecretError>) {
        let trouble = looked.err().map(|error| error.to_string());
        if let Some(trouble) = trouble
            .as_ref()
            .filter(|trouble| self.trouble.as_ref() != Some(*trouble))
        {
            tracing::error!("{trouble}; what is held goes on");
        }
        self.trouble = trouble;
    }
}

/// Whether this controller is the one that may write.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Role {
    Leads,
    Follows,
}

impl Role {
    fn of(leadership: &Leadership) -> Self {
        match leadership {
            Leadership::Leads => Self::Leads,
            Leadership::Follows { .. } => Self::Follows,
        }
    }
}

/// Puts a keyring into the working copy, and opens it there.
fn put(keyring: &Keyring, copy: &WorkingCopy) -> Result<Trust, SecretError> {
    keys::private_folder(&copy.state)?;
    keyring.write(&copy.state)?;
    Ok(Trust {
        pki: Pki::read(&copy.state, copy.host)?,
        trusted: Keys::open(&copy.state)?.trusted().clone(),
    })
}

/// What comes next for `keyring`, if something is due.
fn decide(keyring: &Keyring, asked: Option<&str>, pace: Pace, now: u64) -> Result<Option<Keyring>, KeyringError> {
    match keyring.phase() {
        Phase::Announced | Phase::Signing => {
            let is_due = keyring.due(pace).is_some_and(|due| due <= now);
            Ok(is_due.then(|| keyring.next_phase(now)))
        }
        Phase::Resting => match asked.filter(|asked| keyring.rotation() != Some(*asked)) {
            Some(asked) => keyring.begin(asked, now).map(Some),
            None if keyring.authority_days_left() <= CA_ROTATION_DAYS => {
                let id = format!("the authority ends, {}", keys::moment(now));
                keyring.begin(&id, now).map(Some)
            }
            None => Ok(None),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACE: Pace = Pace {
        announced_seconds: 10,
        signing_seconds: 100,
    };

    #[test]
    fn keys_are_replaced_once_for_each_time_that_somebody_asks() {
        let decide = |keyring: &Keyring, asked, now| decide(keyring, asked, PACE, now).unwrap();
        let rest = Keyring::draw().unwrap();
        assert_eq!(decide(&rest, None, 0), None);
        let announced = decide(&rest, Some("june"), 1_000).unwrap();
        assert_eq!(announced.phase(), Phase::Announced);
        assert_eq!(decide(&announced, Some("july"), 1_009), None, "one at a time");
        let signing = decide(&announced, Some("july"), 1_010).unwrap();
        assert_eq!(signing.phase(), Phase::Signing);
        assert_eq!(decide(&signing, None, 1_109), None);
        let done = decide(&signing, None, 1_110).unwrap();
        assert_eq!((done.phase(), done.rotation()), (Phase::Resting, Some("june")));
        assert_eq!(decide(&done, Some("june"), 9_999), None, "it was done");
        assert_eq!(decide(&done, Some("july"), 9_999).unwrap().rotation(), Some("july"));
    }
}
