//! Deflate for what travels and for what is kept. Whoever unpacks says how much may come out.

use std::io::{Read, Write};

use bytes::Bytes;
use sluice_model::Digest;
use sluice_model::limits::{MAX_ORIGINS_BYTES, MAX_SECTION_BYTES};

use crate::hash::sha256;

/// The name of what is packed as `wire`, a section or origins: the digest of its content. `None` if it is neither.
pub fn content_digest(wire: &[u8]) -> Option<Digest> {
    let max = MAX_SECTION_BYTES.max(MAX_ORIGINS_BYTES);
    let raw = inflate(wire, u64::try_from(max).unwrap_or(u64::MAX))?;
    (raw.len() <= max).then(|| sha256(&raw))
}

/// `raw` compressed.
pub(crate) fn deflate(raw: &[u8]) -> Bytes {
    let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::default());
    // Writing into memory cannot fail; if it did, the content would be refused by its digest.
    let _ = encoder.write_all(raw);
    encoder.finish().unwrap_or_default().into()
}

/// What was compressed, or its first `max_bytes` and one more; `None` if it is no deflate.
pub(crate) fn inflate(wire: &[u8], max_bytes: u64) -> Option<Vec<u8>> {
    let mut raw = Vec::new();
    flate2::read::DeflateDecoder::new(wire)
        .take(max_bytes.saturating_add(1))
        .read_to_end(&mut raw)
        .ok()?;
    Some(raw)
}
