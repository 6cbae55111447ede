//! What a controller proves itself with, and what those who join are told to believe. It changes as a whole when keys
//! are replaced (`docs/keys.md`), so whoever needs it looks at the newest each time.

pub mod config_maps;

use std::sync::Arc;

use sluice_proto::KeySet;
use tokio::sync::watch;

use crate::pki::Pki;

/// See the file's comment.
#[derive(Debug)]
pub struct Trust {
    /// Certificates: the controller's own, and those it makes.
    pub pki: Pki,
    /// The keys that instances are to verify with.
    pub trusted: KeySet,
}

impl Trust {
    /// One that never changes: keys are read when the controller starts.
    pub fn fixed(self) -> watch::Receiver<Arc<Self>> {
        watch::channel(Arc::new(self)).1
    }
}
