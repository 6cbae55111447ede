//! Who this instance is and whom it trusts: the folder `identity` in its state folder, made by the controller's `enroll`
//! or by the instance's own enrolment.
//!
//! ```text
//! instance.json   {"cluster": …, "fleet": …, "instance": …}: whose orders to follow, and the name to report under
//! trusted.json    the keys that may sign manifests, orders and live values
//! ca.pem          who vouches for the controller
//! cert.pem        what we show the controller …
//! key.pem         … and its private key, which is never printed
//! pair.pem        both of these in one, of an instance that enrolled itself; it lies in the folder given by --keys
//! ```
//!
//! Who it is never changes while the process lives: another instance is another process. Whom it trusts and what it shows
//! do, without anything that serves being touched: `keeper` looks, and [`Current`] is what everybody goes by.

mod folder;
pub mod keeper;
pub mod trust;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use sluice_model::InstanceId;
use sluice_proto::keys::KeySet;
use sluice_proto::signed::Audience;
use tokio::sync::watch;

pub use folder::Folder;

/// Why there is no identity, in which file, and what to do.
#[derive(Debug, thiserror::Error)]
#[error("{}: {problem}; {advice}", path.display())]
pub struct IdentityError {
    path: PathBuf,
    problem: String,
    advice: &'static str,
}

const ADVICE: &str = "`sluice up` and `sluice-controller` make a complete folder `identity` for each instance; copy it \
                      whole into the folder given by --state";

/// Who this instance is, and whom it trusts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Identity {
    /// Its name, unique over time.
    pub instance: InstanceId,
    /// Whose manifests and orders are for it.
    pub audience: Audience,
    /// Who may sign them.
    pub trusted: KeySet,
    /// What it shows and expects on the stream.
    pub tls: TlsIdentity,
    /// When to ask for the next certificate, in seconds of Unix time; `None`: whoever made this one sees to it.
    pub renew_at: Option<u64>,
}

/// PEM texts for mutual TLS. Cannot be printed.
#[derive(Clone, PartialEq, Eq)]
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

impl Identity {
    /// Whether `other` is of the same instance: its keys and certificates may be used in the place of these.
    pub fn is_of(&self, other: &Self) -> bool {
        self.instance == other.instance && self.audience == other.audience
    }
}

/// The identity as it is now. All that it ever holds is of one instance.
pub type Current = watch::Receiver<Arc<Identity>>;

/// One that never changes.
pub fn fixed(identity: Arc<Identity>) -> Current {
    watch::channel(identity).1
}
