//! Who this instance is: the folder `identity` in its state folder, made by the controller or by enrolment.
//!
//! ```text
//! instance.json   {"cluster": …, "fleet": …, "instance": …}: whose orders to follow, and the name to report under
//! trusted.json    the keys that may sign manifests and orders
//! ca.pem          who vouches for the controller
//! cert.pem        what we show the controller …
//! key.pem         … and its private key, which is never printed
//! ```
//!
//! It is read once, at start: another identity is another process.

use std::fmt;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use sluice_model::InstanceId;
use sluice_model::limits::MAX_IDENTITY_FILE_BYTES;
use sluice_proto::keys::KeySet;
use sluice_proto::signed::Audience;

/// Why there is no identity, in which file, and what to do.
#[derive(Debug, thiserror::Error)]
#[error("{}: {problem}; {ADVICE}", path.display())]
pub struct IdentityError {
    path: PathBuf,
    problem: String,
}

const ADVICE: &str = "`sluice up` and `sluice-controller` make a complete folder `identity` for each instance; copy it \
                      whole into the folder given by --state";

/// Who this instance is, and whom it trusts.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Its name, unique over time.
    pub instance: InstanceId,
    /// Whose manifests and orders are for it.
    pub audience: Audience,
    /// Who may sign them.
    pub trusted: KeySet,
    /// What it shows and expects on the stream.
    pub tls: TlsIdentity,
}

/// PEM texts for mutual TLS. Cannot be printed.
#[derive(Clone)]
pub struct TlsIdentity {
    /// Who vouches for the controller.
    pub ca_pem: String,
    /// Our certificate.
    pub cert_pem: String,
    /// Its private key.
    pub key_pem: String,
}

impl fmt::Debug for TlsIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TlsIdentity(redacted)")
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct InstanceFile {
    cluster: String,
    fleet: String,
    instance: String,
}

impl Identity {
    /// Reads the folder `identity` in the state folder.
    pub fn load(state: &Path) -> Result<Self, IdentityError> {
        let folder = state.join("identity");
        let path = folder.join("instance.json");
        let wrong = |problem: String| IdentityError {
            path: path.clone(),
            problem,
        };
        let file: InstanceFile = serde_json::from_str(&text(&path)?).map_err(|e| wrong(e.to_string()))?;
        let audience = Audience {
            cluster: file.cluster.parse().map_err(|e| wrong(format!("{e}")))?,
            fleet: file.fleet.parse().map_err(|e| wrong(format!("{e}")))?,
        };
        Ok(Self {
            instance: file.instance.parse().map_err(|e| wrong(format!("{e}")))?,
            audience,
            trusted: trusted(&folder.join("trusted.json"))?,
            tls: TlsIdentity {
                ca_pem: pem(&folder.join("ca.pem"), "CERTIFICATE")?,
                cert_pem: pem(&folder.join("cert.pem"), "CERTIFICATE")?,
                key_pem: pem(&folder.join("key.pem"), "PRIVATE KEY")?,
            },
        })
    }
}

fn trusted(path: &Path) -> Result<KeySet, IdentityError> {
    KeySet::from_json(&text(path)?).map_err(|error| IdentityError {
        path: path.to_owned(),
        problem: format!("it is not a set of trusted keys: {error}"),
    })
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
    })
}

fn text(path: &Path) -> Result<String, IdentityError> {
    let failed = |error: std::io::Error| IdentityError {
        path: path.to_owned(),
        problem: format!("cannot be read: {error}"),
    };
    let mut text = String::new();
    let file = fs::File::open(path).map_err(failed)?;
    file.take(MAX_IDENTITY_FILE_BYTES)
        .read_to_string(&mut text)
        .map_err(failed)?;
    Ok(text)
}
