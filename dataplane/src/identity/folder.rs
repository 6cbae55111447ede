//! The files of an identity: reading them with an error for each that is wrong, and writing those of an enrolment, the
//! one that makes the rest count last.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sluice_model::limits::MAX_IDENTITY_FILE_BYTES;
use sluice_proto::enrol::Enrolled;
use sluice_proto::signed::Audience;

use super::trust::{self, CA_FILE, Trust};
use super::{ADVICE, Identity, IdentityError, TlsIdentity};
use crate::config::files::{self, Care, StateError};

const ABOUT: &str = "instance.json";
const PAIR: &str = "pair.pem";

/// Where an identity lies.
#[derive(Clone, Debug)]
pub struct Folder {
    public: PathBuf,
    private: PathBuf,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct InstanceFile {
    cluster: String,
    fleet: String,
    instance: String,
    /// Only of an instance that enrolled itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    renew_at_unix_seconds: Option<u64>,
}

impl Folder {
    /// The folder `identity` in the state folder; private keys of enrolments in the folder of the same name in `keys`.
    pub fn new(state: &Path, keys: Option<&Path>) -> Self {
        Self {
            public: state.join("identity"),
            private: keys.unwrap_or(state).join("identity"),
        }
    }

    /// Whether there is an identity, whole or not.
    pub fn is_there(&self) -> bool {
        self.public.join(ABOUT).exists()
    }

    /// What lies in the folder.
    ///
    /// # Errors
    /// Names the file and what to do.
    pub fn load(&self) -> Result<Identity, IdentityError> {
        let path = self.public.join(ABOUT);
        let wrong = |problem: String| IdentityError {
            path: path.clone(),
            problem,
            advice: ADVICE,
        };
        let file: InstanceFile = serde_json::from_str(&text(&path)?).map_err(|e| wrong(e.to_string()))?;
        let audience = Audience {
            cluster: file.cluster.parse().map_err(|e| wrong(format!("{e}")))?,
            fleet: file.fleet.parse().map_err(|e| wrong(format!("{e}")))?,
        };
        let Trust { ca_pem, trusted } = trust::read(&self.public, ADVICE)?;
        let (cert_pem, key_pem) = self.pair()?;
        Ok(Identity {
            instance: file.instance.parse().map_err(|e| wrong(format!("{e}")))?,
            audience,
            trusted,
            tls: TlsIdentity {
                ca_pem,
                cert_pem,
                key_pem,
            },
            renew_at: file.renew_at_unix_seconds,
        })
    }

    /// The certificate and its key. Written together they are in one file, so that they always fit.
    fn pair(&self) -> Result<(String, String), IdentityError> {
        let pair = self.private.join(PAIR);
        let (cert, key) = if pair.exists() {
            (pair.clone(), pair)
        } else {
            (self.public.join("cert.pem"), self.public.join("key.pem"))
        };
        Ok((pem(&cert, "CERTIFICATE")?, pem(&key, "PRIVATE KEY")?))
    }

    /// Keeps what an enrolment gave, and the key that it was made for.
    ///
    /// # Errors
    /// Names the file that could not be written.
    pub(crate) fn store(&self, enrolled: &Enrolled, key_pem: &str, renew_at: u64) -> Result<(), StateError> {
        let pair = format!("{}{key_pem}", enrolled.certificate_pem);
        files::write(&self.private.join(PAIR), pair.as_bytes(), Care::Private)?;
        self.store_trust(&Trust {
            ca_pem: enrolled.ca_pem.clone(),
            trusted: enrolled.trusted.clone(),
        })?;
        let about = InstanceFile {
            cluster: enrolled.audience.cluster.to_string(),
            fleet: enrolled.audience.fleet.to_string(),
            instance: enrolled.instance.to_string(),
            renew_at_unix_seconds: Some(renew_at),
        };
        // Texts and a number cannot fail to be written.
        let about = serde_json::to_vec_pretty(&about).unwrap_or_default();
        files::write(&self.public.join(ABOUT), &about, Care::Durable)
    }

    /// Keeps whom to trust, for a start at which nobody says so.
    ///
    /// # Errors
    /// Names the file that could not be written.
    pub(crate) fn store_trust(&self, trust: &Trust) -> Result<(), StateError> {
        files::write(&self.public.join(CA_FILE), trust.ca_pem.as_bytes(), Care::Durable)?;
        let trusted = trust.trusted.to_json();
        files::write(&self.public.join("trusted.json"), trusted.as_bytes(), Care::Durable)
    }
}

/// A PEM file, looked at only so far that swapped or empty files are named here instead of in a TLS error.
fn pem(path: &Path, label: &str) -> Result<String, IdentityError> {
    let text = text(path)?;
    if text.contains(&format!("{label}-----")) {
        return Ok(text);
    }
    Err(IdentityError {
        path: path.to_owned(),
        problem: format!("it has no PEM block \"{label}\""),
        advice: ADVICE,
    })
}

fn text(path: &Path) -> Result<String, IdentityError> {
    bounded_text(path, ADVICE)
}

/// The text of a file, as far as a file of an identity may be long.
pub(super) fn bounded_text(path: &Path, advice: &'static str) -> Result<String, IdentityError> {
    let failed = |error: std::io::Error| IdentityError {
        path: path.to_owned(),
        problem: format!("cannot be read: {error}"),
        advice,
    };
    let mut text = String::new();
    let file = fs::File::open(path).map_err(failed)?;
    file.take(MAX_IDENTITY_FILE_BYTES)
        .read_to_string(&mut text)
        .map_err(failed)?;
    Ok(text)
}
