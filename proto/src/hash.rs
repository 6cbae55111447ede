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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sha256_is_sha256() {
        // FIPS 180-2, appendix B.1.
        let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(sha256(b"abc").to_string(), expected);
    }

    #[test]
    fn labels_keep_things_apart() {
        assert_ne!(labelled("a", [b"bc".as_slice()]), labelled("ab", [b"c".as_slice()]));
        assert_eq!(labelled("a", [b"b".as_slice(), b"c".as_slice()]), sha256(b"a\0bc"));
    }
}
