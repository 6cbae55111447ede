//! SHA-256, and the labels that keep digests of different things apart.

use sha2::{Digest as _, Sha256};
use sluice_model::Digest;

/// The SHA-256 of `bytes`: names content by itself.
pub fn sha256(bytes: &[u8]) -> Digest {
    Digest(Sha256::digest(bytes).into())
}

/// The SHA-256 of parts under a label. The label ends in a zero byte, so that no label is the beginning of another;
/// callers give parts of fixed length, or only one part.
pub(crate) fn labelled<'a>(label: &str, parts: impl IntoIterator<Item = &'a [u8]>) -> Digest {
    let mut hasher = Sha256::new();
    hasher.update(label.as_bytes());
    hasher.update([0]);
    for part in parts {
        hasher.update(part);
    }
    Digest(hasher.finalize().into())
}
