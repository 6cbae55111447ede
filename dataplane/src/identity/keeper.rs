//! Keeps an identity good: the first one, by whatever way there is; then the files that say whom to trust, as they
//! change; and the next certificate before this one ends. Whoever goes by [`super::Current`] sees each change; nothing that serves
//! is touched by any.
//!
//! ```text
//! start ─ on disk? ─yes─► it, with the trust folder's newest word
//!            └no─► enrol by token, again and again, until the controller gives one
//! then:  the files are looked at every few seconds
//!        two thirds of a certificate's life over ─► renewed by itself, or else by token
//!        the controller refused us ─► by token
//! ```

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use sluice_model::limits::{
    ENROL_REFUSED_LONGEST_STEP_MS, ENROL_SPREAD_SECONDS, IDENTITY_LOOK_MS, RECONNECT_LONGEST_STEP_MS,
};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, MissedTickBehavior, sleep};
use tokio_util::sync::CancellationToken;

use super::trust::{Trust, TrustFolder};
use super::{Folder, Identity, IdentityError};
use crate::config::backoff::Backoff;
use crate::dial::chance;
use crate::enrol::metrics::IdentityMetrics;
use crate::enrol::{By, EnrolError, Enrolment, Given};

/// See the file's comment.
#[derive(Debug)]
pub struct Keeper {
    /// Where the identity lies.
    pub folder: Folder,
    /// Where others say whom to trust; `None`: the folder above does, as it was made.
    pub trust: Option<TrustFolder>,
    /// How to get one; `None`: somebody else makes it.
    pub enrolment: Option<Enrolment>,
    /// What is told about it.
    pub metrics: IdentityMetrics,
    /// Told when the controller refuses this instance for who it says it is.
    pub refused: Arc<Notify>,
}

/// Why a keeper ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum KeptUntil {
    /// It was stopped.
    Stopped,
    /// This pod is another instance than the one whose state it found: what is on disk now is that of the right one, and a
    /// new process is to begin with it.
    Replaced,
}

/// What the present certificate is worth to the controller.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Worth {
    Something,
    /// It refused us.
    Nothing,
}

/// What came of an attempt.
enum Renewed {
    Here(Arc<Identity>),
    /// For another instance than this process is.
    Other,
}

impl Keeper {
    /// The identity to begin with. Waits for it as long as it takes, if it can come by enrolment; `say` is told why there
    /// is none yet.
    ///
    /// # Errors
    /// When there is none, and nobody can be asked for one.
    pub async fn first(&self, say: impl Fn(&str)) -> Result<Arc<Identity>, IdentityError> {
        let held = self.folder.load().map(|identity| self.with_newest_trust(identity));
        let identity = match (held, &self.enrolment) {
            (Ok(identity), _) => Arc::new(identity),
            (Err(error), None) => return Err(error),
            (Err(error), Some(enrolment)) => {
                if self.folder.is_there() {
                    tracing::warn!(%error, "the identity on disk cannot be used; this instance enrols anew");
                }
                self.enrol_first(enrolment, say).await
            }
        };
        self.metrics.show(&identity);
        Ok(identity)
    }

    async fn enrol_first(&self, enrolment: &Enrolment, say: impl Fn(&str)) -> Arc<Identity> {
        let mut patience = Patience::default();
        loop {
            match self.by_token(enrolment).await {
                Ok(given) => return Arc::new(self.keep_given(given)),
                Err(error) => {
                    let why = error.to_string();
                    patience.tell("this instance is not enrolled yet", &why);
                    say(&why);
                    sleep(patience.wait(&error)).await;
                }
            }
        }
    }

    async fn by_token(&self, enrolment: &Enrolment) -> Result<Given, EnrolError> {
        let trust = match &self.trust {
            Some(folder) => folder.read().map_err(|error| EnrolError::NotReady(error.to_string())),
            None => Err(EnrolError::NotReady(
                "nothing says which controller to believe; give the folder with --trust".to_owned(),
            )),
        };
        let asked = match trust {
            Ok(Trust { ca_pem, .. }) => enrolment.ask(By::Token { ca_pem: &ca_pem }).await,
            Err(error) => Err(error),
        };
        self.metrics.tried(&asked);
        asked
    }

    /// Keeps what was given on disk, and makes an identity of it.
    fn keep_given(&self, given: Given) -> Identity {
        let Given { enrolled, key_pem } = given;
        let renew_at = spread(enrolled.renew_at_unix_seconds, now_unix_seconds(), chance());
        if let Err(error) = self.folder.store(&enrolled, &key_pem, renew_at) {
            tracing::error!(%error, "the new identity is not on disk: a restart enrols anew");
        }
        tracing::info!(instance = %enrolled.instance, fleet = %enrolled.audience.fleet, "enrolled");
        let identity = Identity {
            instance: enrolled.instance,
            audience: enrolled.audience,
            trusted: enrolled.trusted,
            tls: super::TlsIdentity {
                ca_pem: enrolled.ca_pem,
                cert_pem: enrolled.certificate_pem,
                key_pem,
            },
            renew_at: Some(renew_at),
        };
        self.metrics.show(&identity);
        self.with_newest_trust(identity)
    }

    /// What the trust folder says counts; what was kept or given, only while it says nothing.
    fn with_newest_trust(&self, mut identity: Identity) -> Identity {
        let Some(Ok(Trust { ca_pem, trusted })) = self.trust.as_ref().map(TrustFolder::read) else {
            return identity;
        };
        identity.tls.ca_pem = ca_pem;
        identity.trusted = trusted;
        identity
    }

    /// Keeps `current` good until `stop`.
    pub async fn keep(self, current: watch::Sender<Arc<Identity>>, stop: CancellationToken) -> KeptUntil {
        let mut look = tokio::time::interval(Duration::from_millis(IDENTITY_LOOK_MS));
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut patience = Patience::default();
        let mut files = Said::default();
        let mut worth = Worth::Something;
        loop {
            tokio::select! {
                () = stop.cancelled() => return KeptUntil::Stopped,
                () = self.refused.notified() => worth = Worth::Nothing,
                _ = look.tick() => self.look(&current, &mut files),
            }
            let now = Arc::clone(&current.borrow());
            let is_due = worth == Worth::Nothing || now.renew_at.is_some_and(|at| at <= now_unix_seconds());
            let Some(enrolment) = self.enrolment.as_ref().filter(|_| is_due && patience.is_over()) else {
                continue;
            };
            let attempt = self.renew(enrolment, &now, worth);
            let renewed = tokio::select! {
                () = stop.cancelled() => return KeptUntil::Stopped,
                renewed = attempt => renewed,
            };
            match renewed {
                Ok(Renewed::Here(identity)) => {
                    current.send_replace(identity);
                    worth = Worth::Something;
                    patience = Patience::after_success();
                }
                Ok(Renewed::Other) => return KeptUntil::Replaced,
                Err(error) => {
                    patience.tell(
                        "no new certificate for this instance; what serves goes on",
                        &error.to_string(),
                    );
                    patience.begin(&error);
                }
            }
        }
    }

    /// By the certificate that ends, and where that is of no use by the token.
    async fn renew(&self, enrolment: &Enrolment, now: &Identity, worth: Worth) -> Result<Renewed, EnrolError> {
        if worth == Worth::Something {
            let asked = enrolment.ask(By::Certificate(&now.tls)).await;
            self.metrics.tried(&asked);
            match asked {
                Ok(given) => return self.take(given, now),
                Err(error) => tracing::debug!(%error, "not renewed by certificate"),
            }
        }
        let given = self.by_token(enrolment).await?;
        self.take(given, now)
    }

    fn take(&self, given: Given, now: &Identity) -> Result<Renewed, EnrolError> {
        let enrolled = &given.enrolled;
        if enrolled.instance != now.instance {
            let (was, is) = (&now.instance, &enrolled.instance);
            tracing::warn!(%was, %is, "the state folder is that of another pod; this process ends, and the next one is the right instance");
            self.keep_given(given);
            return Ok(Renewed::Other);
        }
        if enrolled.audience != now.audience {
            return Err(EnrolError::Useless(format!(
                "this pod belongs to fleet {} of cluster {} now, and serves fleet {} of cluster {}; replace the pod",
                enrolled.audience.fleet, enrolled.audience.cluster, now.audience.fleet, now.audience.cluster
            )));
        }
        Ok(Renewed::Here(Arc::new(self.keep_given(given))))
    }

    /// Looks at the files that others write.
    fn look(&self, current: &watch::Sender<Arc<Identity>>, said: &mut Said) {
        let now = Arc::clone(&current.borrow());
        match self.found(&now) {
            Ok(found) if found == *now => said.clear(),
            Ok(found) if found.is_of(&now) => {
                said.clear();
                tracing::info!("whom to trust, or what to show, has changed; it counts from now on");
                self.remember(&found);
                self.metrics.show(&found);
                current.send_replace(Arc::new(found));
            }
            Ok(found) => said.once(&format!(
                "the folder identity is that of {} now; another instance is another process, so restart this one",
                found.instance
            )),
            Err(error) => said.once(&error.to_string()),
        }
    }

    fn found(&self, now: &Identity) -> Result<Identity, IdentityError> {
        let mut found = match &self.enrolment {
            Some(_) => now.clone(), // nobody else writes it
            None => self.folder.load()?,
        };
        if let Some(folder) = &self.trust {
            let Trust { ca_pem, trusted } = folder.read()?;
            found.tls.ca_pem = ca_pem;
            found.trusted = trusted;
        }
        Ok(found)
    }

    /// For a start at which the trust folder is empty.
    fn remember(&self, found: &Identity) {
        if self.trust.is_none() {
            return; // it was read from there
        }
        let trust = Trust {
            ca_pem: found.tls.ca_pem.clone(),
            trusted: found.trusted.clone(),
        };
        if let Err(error) = self.folder.store_trust(&trust) {
            tracing::warn!(%error, "whom to trust is not on disk; the trust folder says it at the next start");
        }
    }
}

/// When to renew, of the time that a controller names: a fleet that began together does not renew together.
fn spread(at: u64, now: u64, chance: u64) -> u64 {
    let left = at.saturating_sub(now);
    at - chance % (left.min(4 * ENROL_SPREAD_SECONDS) / 4 + 1)
}

fn now_unix_seconds() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

/// Waits between attempts, and what was said about them.
#[derive(Debug)]
struct Patience {
    soon: Backoff,
    later: Backoff,
    until: Option<Instant>,
    said: Said,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            soon: Backoff::up_to(RECONNECT_LONGEST_STEP_MS),
            later: Backoff::up_to(ENROL_REFUSED_LONGEST_STEP_MS),
            until: None,
            said: Said::default(),
        }
    }
}

impl Patience {
    /// A controller that gives certificates and refuses them is not asked for more of them at once.
    fn after_success() -> Self {
        Self {
            until: Some(Instant::now() + Duration::from_millis(ENROL_REFUSED_LONGEST_STEP_MS)),
            ..Self::default()
        }
    }

    fn wait(&mut self, error: &EnrolError) -> Duration {
        match error {
            EnrolError::NotReady(_) | EnrolError::Unreachable(_) => self.soon.next_wait(chance()),
            EnrolError::Refused(_) | EnrolError::Useless(_) => self.later.next_wait(chance()),
        }
    }

    fn begin(&mut self, error: &EnrolError) {
        let wait = self.wait(error);
        self.until = Some(Instant::now() + wait);
    }

    fn is_over(&self) -> bool {
        self.until.is_none_or(|until| until <= Instant::now())
    }

    fn tell(&mut self, what: &str, why: &str) {
        self.said.once(&format!("{what}: {why}"));
    }
}

/// Says a thing once, until something else was said.
#[derive(Debug, Default)]
struct Said(String);

impl Said {
    fn once(&mut self, what: &str) {
        if self.0 != what {
            tracing::warn!("{what}");
            what.clone_into(&mut self.0);
        }
    }

    fn clear(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fleet_that_began_together_does_not_renew_together() {
        let (now, at) = (1_000_000, 1_000_000 + 16 * 3_600);
        for chance in [0, 1, 12_345, u64::MAX] {
            let renewed = spread(at, now, chance);
            assert!(renewed <= at && renewed >= at - ENROL_SPREAD_SECONDS, "{renewed}");
            assert!(spread(now + 8, now, chance) >= now + 6, "a short life keeps most of it");
            assert_eq!(spread(now, now + 5, chance), now);
        }
        let times: std::collections::BTreeSet<_> = (0..100_u64).map(|chance| spread(at, now, chance * 7_919)).collect();
        assert!(times.len() > 50);
    }
}
