//! The live lane at its end: endpoints and certificates that arrive outside of revisions.
//!
//! ```text
//!  envelope ─► verify (live key, audience) ─► newer than what is held? ─► check ─► keep on disk ─► swap
//! ```
//!
//! Each value stands for itself and is applied at once; an order does not wait for one. The controller sends values
//! before the order that needs them on the same stream, so they are there; what is not is said when the order takes effect.
//! Decisions and reasons: `docs/decisions/live-values.md`.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use sha2::{Digest as _, Sha256};
use sluice_model::limits::{MAX_ENVELOPE_OVERHEAD_BYTES, MAX_LIVE_HELD, MAX_LIVE_UPDATE_BYTES, MAX_TOLD_ERRORS};
use sluice_model::{Digest, LiveSubject, epoch};
use sluice_proto::live::{HeldValue, LiveStamp, LiveUpdate, LiveValue, SealedLive};

use super::files::StateError;
use super::last_good::Kept;
use super::refusal::Refusal;
use super::target::{NewValue, Target};
use super::{Answer, Intake, verify};
use crate::tls::certificate::Certificate;
use crate::tls::clients::Authorities;

/// One value that is held. The value itself is with the target, and its envelope on disk.
#[derive(Clone, Copy, Debug)]
struct Held {
    stamp: LiveStamp,
    digest: Digest,
}

/// What is held of the live lane, by subject.
#[derive(Debug, Default)]
pub(super) struct Values {
    held: BTreeMap<LiveSubject, Held>,
    /// Whether the folder of private keys, which may be on another device, refused the last write.
    keys_unwritten: bool,
}

impl Values {
    /// The highest term of a value; 0: there is none.
    pub(super) fn term(&self) -> u64 {
        self.held.values().map(|held| held.stamp.term).max().unwrap_or_default()
    }

    /// For a hello.
    pub(super) fn told(&self) -> Vec<HeldValue> {
        let told = self.held.iter().map(|(subject, held)| HeldValue {
            subject: subject.clone(),
            digest: held.digest,
        });
        HeldValue::within_bounds(told)
    }

    /// Whether `update` counts: it is newer than what is held of its subject, and there is room.
    fn judge(&self, subject: &LiveSubject, update: &Held) -> Result<Standing, Refusal> {
        match self.held.get(subject) {
            None if self.held.len() >= MAX_LIVE_HELD => Err(Refusal::LiveTooMany { max: MAX_LIVE_HELD }),
            None => Ok(Standing::New),
            Some(held) if update.stamp > held.stamp && update.digest == held.digest => Ok(Standing::Same),
            Some(held) if update.stamp > held.stamp => Ok(Standing::New),
            // Sent again, as after a stream that broke: nothing to do, and nobody to blame.
            Some(held) if update.digest == held.digest => Ok(Standing::Known),
            Some(held) => Err(Refusal::LiveStale {
                subject: subject.clone(),
                stamp: update.stamp,
                held: held.stamp,
            }),
        }
    }
}

/// How an update stands to what is held.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Standing {
    /// Another value, and newer.
    New,
    /// The value that is held, said anew.
    Same,
    /// Nothing new at all.
    Known,
}

/// Private keys lie elsewhere than addresses.
fn kept(subject: &LiveSubject) -> Kept {
    match subject {
        LiveSubject::Service(_) | LiveSubject::Authorities(_) => Kept::Value,
        LiveSubject::Certificate(_) => Kept::Key,
    }
}

/// Names a subject's file.
fn file_of(subject: &LiveSubject) -> Digest {
    Digest(Sha256::digest(subject.to_string().as_bytes()).into())
}

impl<T: Target> Intake<T> {
    /// Takes one live update. `None`: it is in use, or known already.
    pub(super) fn take_live(&mut self, sealed: &SealedLive, now_unix_seconds: u64) -> Option<Answer> {
        let update = match verify::live(&self.identity, sealed) {
            Ok(update) => update,
            Err(refusal) => return Some(self.refuse_live(None, refusal)),
        };
        let subject = update.value.subject();
        let taken = self.apply_live(&subject, sealed, update, now_unix_seconds);
        taken.err().map(|refusal| self.refuse_live(Some(subject), refusal))
    }

    fn refuse_live(&self, subject: Option<LiveSubject>, refusal: Refusal) -> Answer {
        self.metrics.refused(&refusal);
        let (text, reason) = (subject.as_ref().map(ToString::to_string), refusal.reason());
        tracing::warn!(subject = text, reason, %refusal, "live value refused; the one in use stays");
        Answer::LiveRefused { subject, refusal }
    }

    fn apply_live(
        &mut self,
        subject: &LiveSubject,
        sealed: &SealedLive,
        update: LiveUpdate,
        now_unix_seconds: u64,
    ) -> Result<(), Refusal> {
        let LiveUpdate { stamp, value, .. } = update;
        if epoch::is_too_far(stamp.term, now_unix_seconds) {
            return Err(Refusal::LiveFarFuture { term: stamp.term });
        }
        let digest = value.digest();
        let held = Held { stamp, digest };
        match self.values.judge(subject, &held)? {
            Standing::Known => return Ok(()),
            Standing::Same => {}
            Standing::New => {
                let value = check(value)?;
                self.metrics.live_applied(subject);
                say(&value);
                self.target.set(value);
            }
        }
        self.values.held.insert(subject.clone(), held);
        // In use even if the disk takes nothing: where pods are is true whether or not it is written down.
        let kept = kept(subject);
        let written = self.disk.keep(kept, &file_of(subject), &sealed.0);
        self.note_kept(kept, written);
        Ok(())
    }

    /// A key that could be written says nothing of the rest of the state folder.
    fn note_kept(&mut self, kept: Kept, written: Result<(), StateError>) {
        let failed = written.is_err();
        let before = match kept {
            Kept::Key => std::mem::replace(&mut self.values.keys_unwritten, failed),
            Kept::Manifest | Kept::Section | Kept::Value => true,
        };
        if failed || before {
            self.note_writable(written);
        }
    }

    /// What is on disk is taken as if it had just arrived, but for its age.
    pub(super) fn restore_live(&mut self) {
        for kept in [Kept::Value, Kept::Key] {
            for file in self.disk.list(kept, MAX_LIVE_HELD) {
                if let Err(error) = self.restore_one(kept, &file) {
                    tracing::error!(%file, error, "a live value on disk is damaged; the controller sends it again");
                    self.disk.discard(kept, &file);
                }
            }
        }
        if !self.values.held.is_empty() {
            tracing::info!(values = self.values.held.len(), "live values from disk");
        }
    }

    fn restore_one(&mut self, kept: Kept, file: &Digest) -> Result<(), String> {
        let max = MAX_LIVE_UPDATE_BYTES.saturating_add(MAX_ENVELOPE_OVERHEAD_BYTES);
        let read = self.disk.read(kept, file, max).map_err(|error| error.to_string())?;
        let Some(bytes) = read else { return Ok(()) };
        let update = verify::live(&self.identity, &SealedLive(bytes)).map_err(|refusal| refusal.to_string())?;
        let LiveUpdate { stamp, value, .. } = update;
        let subject = value.subject();
        if file_of(&subject) != *file {
            return Err(format!("it holds {subject}, which has another name"));
        }
        let digest = value.digest();
        self.target.set(check(value).map_err(|refusal| refusal.to_string())?);
        self.values.held.insert(subject, Held { stamp, digest });
        Ok(())
    }

    /// Forgets, in memory and on disk, what nothing that serves or is about to refers to. Only where a stream begins: the
    /// hello that follows says what is left, so that the controller never believes this instance to hold what it does not.
    pub(super) fn tidy_live(&mut self) {
        let wanted = self.live_subjects();
        let gone = self.values.held.keys().filter(|subject| !wanted.contains(*subject));
        let gone: Vec<LiveSubject> = gone.cloned().collect();
        for subject in gone {
            self.values.held.remove(&subject);
            self.target.forget(&subject);
        }
        for kept_as in [Kept::Value, Kept::Key] {
            let subjects = self.values.held.keys().filter(|subject| kept(subject) == kept_as);
            self.disk.sweep(kept_as, &subjects.map(file_of).collect());
        }
    }

    fn live_subjects(&self) -> BTreeSet<LiveSubject> {
        let sides = self.live.iter();
        sides
            .flat_map(|live| std::iter::once(&live.stable).chain(&live.candidate))
            .flat_map(|side| side.snapshot.live_subjects())
            .collect()
    }

    /// Says which values are lacking: their pools answer 503, their hosts have no certificate.
    pub(super) fn say_lacking(&self) {
        let wanted = self.live_subjects();
        let lacking = wanted.iter().filter(|subject| !self.values.held.contains_key(*subject));
        let lacking: Vec<String> = lacking.map(ToString::to_string).collect();
        if !lacking.is_empty() {
            let first = lacking.get(..MAX_TOLD_ERRORS).unwrap_or(&lacking).join(", ");
            tracing::warn!(
                count = lacking.len(),
                first,
                "live without values that it refers to; they are used as soon as they come"
            );
        }
    }
}

fn say(value: &NewValue) {
    match value {
        // Many times a second, perhaps.
        NewValue::Endpoints(service, endpoints) => tracing::debug!(%service, count = endpoints.len(), "endpoints"),
        NewValue::Certificate(reference, certificate) => {
            let (fingerprint, ends) = (certificate.fingerprint(), certificate.not_after_seconds());
            tracing::info!(%reference, %fingerprint, ends, hosts = ?certificate.names(), "certificate");
        }
        NewValue::Authorities(reference, authorities) => {
            tracing::info!(%reference, count = authorities.count(), "authorities");
        }
    }
}

/// Makes a value ready for use. A panic of a parser is a refusal, as for revisions.
fn check(value: LiveValue) -> Result<NewValue, Refusal> {
    match value {
        LiveValue::Endpoints { service, endpoints } => Ok(NewValue::Endpoints(service, endpoints.into())),
        LiveValue::Certificate {
            certificate: reference,
            chain,
            key,
        } => {
            let unusable = |detail: String| Refusal::CertificateUnusable {
                certificate: reference.clone(),
                detail,
            };
            let made = catch_unwind(AssertUnwindSafe(|| {
                let chain = chain.iter().map(|der| CertificateDer::from(der.to_vec())).collect();
                let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.expose().to_vec()));
                Certificate::new(chain, key)
            }));
            let made = made.map_err(|_| unusable("reading it hit a bug; please report it".to_owned()))?;
            let certificate = made.map_err(|error| unusable(error.to_string()))?;
            Ok(NewValue::Certificate(reference, Arc::new(certificate)))
        }
        LiveValue::Authorities { secret, certificates } => {
            let unusable = |detail: String| Refusal::CertificateUnusable {
                certificate: secret.clone(),
                detail,
            };
            let made = catch_unwind(AssertUnwindSafe(|| {
                Authorities::new(
                    certificates
                        .iter()
                        .map(|der| CertificateDer::from(der.to_vec()))
                        .collect(),
                )
            }));
            let made = made.map_err(|_| unusable("reading it hit a bug; please report it".to_owned()))?;
            let authorities = made.map_err(unusable)?;
            Ok(NewValue::Authorities(secret, Arc::new(authorities)))
        }
    }
}
