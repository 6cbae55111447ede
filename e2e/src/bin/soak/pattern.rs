//! Bodies that are known at every byte and cost nothing to make: pieces of one block without a pattern of its own, over and
//! over. Its length is a prime, so that no piece that is left out, doubled or moved leaves the rest where it was.

use std::sync::LazyLock;

use bytes::Bytes;
use sha2::{Digest, Sha256};

const BLOCK: usize = 1_048_573;
/// What a body is handed over in: no multiple of anything.
const PIECE: usize = 60_013;

static BYTES: LazyLock<Bytes> = LazyLock::new(|| {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut all = Vec::with_capacity(BLOCK + 8);
    while all.len() < BLOCK {
        // xorshift64.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        all.extend(state.to_le_bytes());
    }
    all.truncate(BLOCK);
    Bytes::from(all)
});

/// The pieces of the body with this seed and length.
pub(crate) fn pieces(seed: usize, length: usize) -> impl Iterator<Item = Bytes> {
    let mut sent = 0;
    std::iter::from_fn(move || {
        let at = (seed + sent) % BLOCK;
        let size = PIECE.min(BLOCK - at).min(length - sent);
        sent += size;
        (size > 0).then(|| BYTES.slice(at..at + size))
    })
}

/// The digest of such a body, in hexadecimal.
pub(crate) fn digest(seed: usize, length: usize) -> String {
    let mut hash = Sha256::new();
    pieces(seed, length).for_each(|piece| hash.update(&piece));
    hex(hash)
}

/// What has been hashed, in hexadecimal.
pub(crate) fn hex(hash: Sha256) -> String {
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_have_their_length_and_differ_by_their_seed() {
        let length = |seed, length| pieces(seed, length).map(|piece| piece.len()).sum::<usize>();
        assert_eq!(length(5, 3 * BLOCK), 3 * BLOCK);
        assert_eq!(length(0, 0), 0);
        assert_ne!(digest(0, 100_000), digest(1, 100_000));
        assert_eq!(digest(7, 100_000), digest(BLOCK + 7, 100_000));
    }
}
