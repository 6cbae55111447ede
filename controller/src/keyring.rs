//! Everything secret that a cluster has, as one value: signing keys, the certificate authority, the cluster's id, and
//! how far their replacement is. Pure, but for the folder that it is written to.
//!
//! ```text
//!               instances believe    content is signed by    certificates are made by
//! at rest       the keys             them                    the authority
//! announced     them and the next    them                    the authority
//! signing       the last and them    both                    the next authority
//! at rest       the new ones         them                    it
//! ```
//!
//! So whatever an instance has heard of, it can verify: the next keys are believed everywhere before they sign anything,
//! and the last ones sign along until nothing is left that only they have signed. A keyring is complete and consistent, or it is not one:
//! damage is an error that names the part, and nothing is ever made anew in place of something that cannot be read.

mod folder;
mod material;
pub mod secret;

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use sluice_model::ClusterId;
use sluice_model::limits::{ROTATION_ANNOUNCED_SECONDS, ROTATION_SIGNING_SECONDS};
use sluice_proto::KeySet;
use zeroize::Zeroizing;

use crate::keys;
use crate::pki;

use material::Material;

/// The parts of a keyring, by name, as they are kept.
pub type Parts = BTreeMap<String, Zeroizing<Vec<u8>>>;

const CLUSTER: &str = "cluster";
const TRUSTED: &str = "trusted.json";
/// Authorities that are believed beside the one that makes certificates.
const ALSO: &str = "also.pem";
const ROTATION: &str = "rotation.json";
/// What the parts of keys begin with that do not sign yet.
const NEXT: &str = "next-";
/// What the parts of keys begin with that sign along for a while.
const LAST: &str = "last-";

/// Why something is not a keyring.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{part} {what}")]
pub struct KeyringError {
    /// Which part.
    pub part: String,
    /// What is wrong with it.
    pub what: String,
}

fn wrong(part: &str, what: impl ToString) -> KeyringError {
    KeyringError {
        part: part.to_owned(),
        what: what.to_string(),
    }
}

/// See the file's comment. Prints nothing that is secret.
#[derive(Clone, PartialEq, Eq)]
pub struct Keyring {
    cluster: ClusterId,
    now: Material,
    rotation: Rotation,
}

/// How far a replacement of the keys is.
#[derive(Clone, PartialEq, Eq)]
enum Rotation {
    Resting {
        /// Which was the last that came to its end, and when.
        finished: Option<Since>,
    },
    Announced {
        since: Since,
        next: Box<Material>,
    },
    Signing {
        since: Since,
        last: Box<Material>,
    },
}

/// Which replacement, and since when it is where it is.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Since {
    id: String,
    unix_seconds: u64,
}

/// How far a replacement is, for people.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// None is under way.
    Resting,
    /// The next keys are believed, and sign nothing yet.
    Announced,
    /// They sign, and those before them along with them.
    Signing,
}

/// As in `rotation.json`.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RotationFile {
    id: String,
    phase: Phase,
    since_unix_seconds: u64,
}

/// How long each phase lasts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pace {
    /// Until the next keys sign: every instance has heard of them by then.
    pub announced_seconds: u64,
    /// Until the last keys go: every instance holds what the next have signed, and has a certificate of the next authority.
    pub signing_seconds: u64,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            announced_seconds: ROTATION_ANNOUNCED_SECONDS,
            signing_seconds: ROTATION_SIGNING_SECONDS,
        }
    }
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keyring({}, {:?}, redacted)", self.cluster, self.phase())
    }
}

impl Keyring {
    /// A new cluster's.
    ///
    /// # Errors
    /// When the operating system gives no random numbers.
    pub fn draw() -> Result<Self, KeyringError> {
        let id = keys::drawn_cluster().map_err(|error| wrong(CLUSTER, error))?;
        Ok(Self {
            cluster: id,
            now: Material::draw()?,
            rotation: Rotation::Resting { finished: None },
        })
    }

    /// The keyring that consists of these parts.
    ///
    /// # Errors
    /// Names the part that is missing, damaged or not known.
    pub fn of_parts(mut parts: Parts) -> Result<Self, KeyringError> {
        let cluster = take_text(&mut parts, CLUSTER)?;
        let cluster = cluster.trim().parse().map_err(|error| wrong(CLUSTER, error))?;
        let now = Material::take(&mut parts, "")?;
        let rotation = match parts.remove(ROTATION) {
            None => Rotation::Resting { finished: None },
            Some(bytes) => Rotation::take(&bytes, &mut parts)?,
        };
        let keyring = Self { cluster, now, rotation };
        keyring.check_derived(&mut parts)?;
        match parts.into_keys().next() {
            None => Ok(keyring),
            Some(part) => Err(wrong(
                &part,
                "is no part of a keyring that this build knows; a newer one may have put it there",
            )),
        }
    }

    /// What follows from the keys and is kept beside them, so that others can use it as it is, has to fit them.
    fn check_derived(&self, parts: &mut Parts) -> Result<(), KeyringError> {
        let text = take_text(parts, TRUSTED)?;
        let listed = KeySet::from_json(&text).map_err(|error| wrong(TRUSTED, error))?;
        if listed != self.trusted()? {
            return Err(wrong(TRUSTED, "lists other keys than those beside it"));
        }
        let also = match parts.remove(ALSO) {
            None => String::new(),
            Some(bytes) => text_of(ALSO, &bytes)?.to_string(),
        };
        if also == self.also() {
            Ok(())
        } else {
            Err(wrong(ALSO, "has other authorities than the replacement of keys says"))
        }
    }

    /// What it consists of.
    ///
    /// # Errors
    /// Never for one that was read or drawn.
    pub fn parts(&self) -> Result<Parts, KeyringError> {
        let mut parts = Parts::new();
        let mut put = |part: &str, text: &str| {
            parts.insert(part.to_owned(), Zeroizing::new(text.as_bytes().to_vec()));
        };
        put(CLUSTER, self.cluster.as_str());
        put(TRUSTED, &self.trusted()?.to_json());
        self.now.put("", &mut put);
        let also = self.also();
        if !also.is_empty() {
            put(ALSO, &also);
        }
        match &self.rotation {
            Rotation::Resting { .. } => {}
            Rotation::Announced { next, .. } => next.put(NEXT, &mut put),
            Rotation::Signing { last, .. } => last.put(LAST, &mut put),
        }
        if let Some(Since { id, unix_seconds }) = self.since() {
            let file = RotationFile {
                id: id.clone(),
                phase: self.phase(),
                since_unix_seconds: *unix_seconds,
            };
            // Texts and numbers cannot fail to be written.
            put(ROTATION, &serde_json::to_string(&file).unwrap_or_default());
        }
        Ok(parts)
    }

    /// The cluster's id.
    pub fn cluster(&self) -> &ClusterId {
        &self.cluster
    }

    /// The keys that instances are to believe.
    ///
    /// # Errors
    /// When two of them are the same.
    pub fn trusted(&self) -> Result<KeySet, KeyringError> {
        let beside = self.beside();
        let keys = std::iter::once(&self.now).chain(beside).flat_map(Material::public);
        KeySet::new(keys).map_err(|error| wrong(TRUSTED, error))
    }

    /// The authorities that instances are to believe, as PEM.
    pub fn ca_bundle(&self) -> String {
        format!("{}{}", self.now.authority.certificate, self.also())
    }

    fn also(&self) -> String {
        self.beside()
            .map_or_else(String::new, |material| material.authority.certificate.clone())
    }

    fn beside(&self) -> Option<&Material> {
        match &self.rotation {
            Rotation::Resting { .. } => None,
            Rotation::Announced { next, .. } => Some(next),
            Rotation::Signing { last, .. } => Some(last),
        }
    }

    fn since(&self) -> Option<&Since> {
        match &self.rotation {
            Rotation::Resting { finished } => finished.as_ref(),
            Rotation::Announced { since, .. } | Rotation::Signing { since, .. } => Some(since),
        }
    }

    /// How far a replacement of the keys is.
    pub fn phase(&self) -> Phase {
        match &self.rotation {
            Rotation::Resting { .. } => Phase::Resting,
            Rotation::Announced { .. } => Phase::Announced,
            Rotation::Signing { .. } => Phase::Signing,
        }
    }

    /// The replacement that is under way, or else the last that came to its end.
    pub fn rotation(&self) -> Option<&str> {
        self.since().map(|since| since.id.as_str())
    }

    /// Whole days until the authority that makes certificates ends.
    pub fn authority_days_left(&self) -> i64 {
        pki::days_left(&self.now.authority.certificate)
    }

    /// Begins to replace the keys by new ones.
    ///
    /// # Errors
    /// When they are being replaced already, or the operating system gives no random numbers.
    pub fn begin(&self, id: &str, now: u64) -> Result<Self, KeyringError> {
        match &self.rotation {
            Rotation::Resting { .. } => Ok(Self {
                rotation: Rotation::Announced {
                    since: Since {
                        id: id.to_owned(),
                        unix_seconds: now,
                    },
                    next: Box::new(Material::draw()?),
                },
                ..self.clone()
            }),
            Rotation::Announced { since, .. } | Rotation::Signing { since, .. } => Err(wrong(
                ROTATION,
                format!("says that the keys are being replaced already ({})", since.id),
            )),
        }
    }

    /// When the next phase begins, in seconds of Unix time; `None`: nothing is under way.
    pub fn due(&self, pace: Pace) -> Option<u64> {
        let (since, lasts) = match &self.rotation {
            Rotation::Resting { .. } => return None,
            Rotation::Announced { since, .. } => (since, pace.announced_seconds),
            Rotation::Signing { since, .. } => (since, pace.signing_seconds),
        };
        Some(since.unix_seconds.saturating_add(lasts))
    }

    /// The same keyring in the next phase of a replacement, which begins `now`. The same if none is under way.
    #[must_use]
    pub fn next_phase(&self, now: u64) -> Self {
        let (now_signs, rotation) = match &self.rotation {
            Rotation::Resting { .. } => return self.clone(),
            Rotation::Announced { since, next } => (
                (**next).clone(),
                Rotation::Signing {
                    since: since.from(now),
                    last: Box::new(self.now.clone()),
                },
            ),
            Rotation::Signing { since, .. } => (
                self.now.clone(),
                Rotation::Resting {
                    finished: Some(since.from(now)),
                },
            ),
        };
        Self {
            cluster: self.cluster.clone(),
            now: now_signs,
            rotation,
        }
    }

    /// How far a replacement is, as a sentence without secrets.
    pub fn story(&self, pace: Pace) -> String {
        let time = |seconds: u64| keys::moment(seconds);
        let due = self.due(pace).map(time).unwrap_or_default();
        match (&self.rotation, self.since()) {
            (Rotation::Announced { .. }, Some(since)) => format!(
                "{}: the next keys are announced since {}; they sign from {due}",
                since.id,
                time(since.unix_seconds)
            ),
            (Rotation::Signing { .. }, Some(since)) => format!(
                "{}: the new keys sign since {}; the last ones are believed until {due}",
                since.id,
                time(since.unix_seconds)
            ),
            (Rotation::Resting { .. }, Some(since)) => {
                format!("{}: the keys were replaced at {}", since.id, time(since.unix_seconds))
            }
            (Rotation::Resting { .. } | Rotation::Announced { .. } | Rotation::Signing { .. }, None) => {
                "the keys were never replaced".to_owned()
            }
        }
    }
}

impl Since {
    fn from(&self, now: u64) -> Self {
        Self {
            id: self.id.clone(),
            unix_seconds: now,
        }
    }
}

impl Rotation {
    fn take(bytes: &[u8], parts: &mut Parts) -> Result<Self, KeyringError> {
        let RotationFile {
            id,
            phase,
            since_unix_seconds,
        } = serde_json::from_slice(bytes).map_err(|error| wrong(ROTATION, error))?;
        let since = Since {
            id,
            unix_seconds: since_unix_seconds,
        };
        Ok(match phase {
            Phase::Resting => Self::Resting { finished: Some(since) },
            Phase::Announced => Self::Announced {
                since,
                next: Box::new(Material::take(parts, NEXT)?),
            },
            Phase::Signing => Self::Signing {
                since,
                last: Box::new(Material::take(parts, LAST)?),
            },
        })
    }
}

fn take_text(parts: &mut Parts, part: &str) -> Result<Zeroizing<String>, KeyringError> {
    let bytes = parts.remove(part).ok_or_else(|| wrong(part, "is missing"))?;
    text_of(part, &bytes)
}

fn text_of(part: &str, bytes: &[u8]) -> Result<Zeroizing<String>, KeyringError> {
    let text = std::str::from_utf8(bytes).map_err(|_| wrong(part, "is not text"))?;
    Ok(Zeroizing::new(text.to_owned()))
}

#[cfg(test)]
mod tests;
