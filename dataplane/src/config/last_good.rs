//! What an instance keeps on disk, so that it can serve with nobody there and never goes back across a restart.
//!
//! ```text
//! last-good/epoch                  the last order heeded: its epoch and digest (see `epoch`), with a checksum
//! last-good/order.dsse             the last order activated
//! last-good/candidate              there while a candidate is live: its revision. A clean shutdown removes it
//! last-good/manifests/<digest>     by revision digest
//! last-good/sections/<digest>      as they travel: compressed
//! last-good/live/<digest>          endpoints of services, by digest of the subject
//! keys/<digest>                    certificates with their private keys, readable by this user alone. --keys moves it
//! ```
//!
//! Each file is written whole (`files`). Nothing here is trusted for having been on disk: `start` verifies signatures and digests again. This file knows bytes and paths,
//! not what they mean.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use sluice_model::Digest;

use super::epoch::Heeded;
use super::files::{self, Care, StateError, read_bounded, sync_folder};

/// What is kept under a digest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kept {
    /// A manifest's envelope, by the digest of its revision.
    Manifest,
    /// A section as it travels, by the digest of its raw bytes.
    Section,
    /// A live update's envelope, by the digest of its subject.
    Value,
    /// The same, with a private key in it.
    Key,
}

impl Kept {
    fn care(self) -> Care {
        match self {
            Self::Manifest | Self::Section => Care::Durable,
            // Endpoints change with every pod, and a lost one is sent again.
            Self::Value => Care::Passing,
            Self::Key => Care::Private,
        }
    }
}

/// The folder `last-good` of one instance.
#[derive(Clone, Debug)]
pub struct LastGood {
    root: PathBuf,
    keys: PathBuf,
}

const EPOCH: &str = "epoch";
const ORDER: &str = "order.dsse";
const CANDIDATE: &str = "candidate";

impl LastGood {
    /// Of the instance whose state is in `state`, private keys in its folder `keys`. Touches nothing yet.
    pub fn new(state: &Path) -> Self {
        Self {
            root: state.join("last-good"),
            keys: state.join("keys"),
        }
    }

    /// With private keys in this folder instead, which may be in memory.
    pub fn with_keys(self, keys: PathBuf) -> Self {
        Self { keys, ..self }
    }

    /// Where it is, for messages.
    pub fn path(&self) -> &Path {
        &self.root
    }

    /// Remembers the last order heeded.
    pub fn remember(&self, heeded: &Heeded) -> Result<(), StateError> {
        let line = format!("{} {}", heeded.epoch, heeded.order);
        let text = format!("{line} {}\n", checksum(&line));
        files::write(&self.root.join(EPOCH), text.as_bytes(), Care::Durable)
    }

    /// The last order heeded. `Err` if the file is there but unreadable or damaged.
    pub fn heeded(&self) -> Result<Option<Heeded>, StateError> {
        let path = self.root.join(EPOCH);
        let Some(text) = read_bounded(&path, 512)? else {
            return Ok(None);
        };
        let damaged = || StateError {
            action: "understand",
            path: path.clone(),
            source: io::Error::new(io::ErrorKind::InvalidData, "it is damaged"),
        };
        let text = std::str::from_utf8(&text).map_err(|_| damaged())?;
        parse_heeded(text).map(Some).ok_or_else(damaged)
    }

    /// Keeps the order that is being activated.
    pub fn keep_order(&self, envelope: &[u8]) -> Result<(), StateError> {
        files::write(&self.root.join(ORDER), envelope, Care::Durable)
    }

    /// The last order activated.
    pub fn order(&self, max_bytes: usize) -> Result<Option<Bytes>, StateError> {
        read_bounded(&self.root.join(ORDER), max_bytes)
    }

    /// Notes that this candidate is about to serve.
    pub fn note_candidate(&self, revision: &str) -> Result<(), StateError> {
        files::write(&self.root.join(CANDIDATE), revision.as_bytes(), Care::Durable)
    }

    /// The candidate that served when the process last stopped, unless it stopped cleanly.
    pub fn candidate(&self) -> Result<Option<String>, StateError> {
        let bytes = read_bounded(&self.root.join(CANDIDATE), 256)?;
        Ok(bytes.map(|b| String::from_utf8_lossy(&b).into_owned()))
    }

    /// No candidate serves any more, or the process stops cleanly.
    pub fn forget_candidate(&self) -> Result<(), StateError> {
        let path = self.root.join(CANDIDATE);
        match fs::remove_file(&path) {
            Ok(()) => sync_folder(&self.root),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(source) => Err(StateError {
                action: "remove",
                path,
                source,
            }),
        }
    }

    /// Keeps something under its digest.
    pub fn keep(&self, kept: Kept, digest: &Digest, bytes: &[u8]) -> Result<(), StateError> {
        files::write(&self.path_of(kept, digest), bytes, kept.care())
    }

    /// Reads what is kept under a digest; as it is on disk, to be verified.
    pub fn read(&self, kept: Kept, digest: &Digest, max_bytes: usize) -> Result<Option<Bytes>, StateError> {
        read_bounded(&self.path_of(kept, digest), max_bytes)
    }

    /// Removes what turned out to be damaged, so that it is fetched and written anew. Best effort.
    pub fn discard(&self, kept: Kept, digest: &Digest) {
        let _ = fs::remove_file(self.path_of(kept, digest));
    }

    /// The digests of what is kept, at most `max` of them. Empty if the folder cannot be read.
    pub fn list(&self, kept: Kept, max: usize) -> Vec<Digest> {
        let Ok(entries) = fs::read_dir(self.folder(kept)) else {
            return Vec::new();
        };
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        names.filter_map(|name| name.parse().ok()).take(max).collect()
    }

    /// Removes everything of this sort but `wanted`, temporary files of a crash included; nothing that has another kind
    /// of name, since whoever chose the folder for keys may keep more in it. Best effort: what stays is only space.
    pub fn sweep(&self, kept: Kept, wanted: &BTreeSet<Digest>) {
        let Ok(entries) = fs::read_dir(self.folder(kept)) else {
            return;
        };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let Some(name) = name.to_str() else { continue };
            let (name, half_written) = match name.strip_suffix(files::TEMPORARY) {
                Some(name) => (name, true),
                None => (name, false),
            };
            let ours = name.parse::<Digest>();
            if ours.is_ok_and(|digest| half_written || !wanted.contains(&digest)) {
                let _ = fs::remove_file(entry.path());
            }
        }
    }

    fn folder(&self, kept: Kept) -> PathBuf {
        match kept {
            Kept::Manifest => self.root.join("manifests"),
            Kept::Section => self.root.join("sections"),
            Kept::Value => self.root.join("live"),
            Kept::Key => self.keys.clone(),
        }
    }

    fn path_of(&self, kept: Kept, digest: &Digest) -> PathBuf {
        self.folder(kept).join(digest.to_string())
    }
}

fn checksum(line: &str) -> Digest {
    Digest(Sha256::digest(line.as_bytes()).into())
}

fn parse_heeded(text: &str) -> Option<Heeded> {
    let (line, sum) = text.strip_suffix('\n')?.rsplit_once(' ')?;
    if sum.parse::<Digest>().ok()? != checksum(line) {
        return None;
    }
    let (epoch, order) = line.split_once(' ')?;
    Some(Heeded {
        epoch: epoch.parse().ok()?,
        order: order.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heeded(epoch: u64) -> Heeded {
        Heeded {
            epoch,
            order: Digest([7; 32]),
        }
    }

    #[test]
    fn reads_back_what_it_wrote() {
        let dir = tempfile::tempdir().unwrap();
        let last = LastGood::new(dir.path());
        assert_eq!(last.heeded().unwrap(), None);
        assert_eq!(last.order(100).unwrap(), None);
        last.remember(&heeded(42)).unwrap();
        last.remember(&heeded(43)).unwrap();
        last.keep_order(b"order").unwrap();
        last.keep(Kept::Section, &Digest([1; 32]), b"one").unwrap();
        last.keep(Kept::Section, &Digest([2; 32]), b"two").unwrap();
        last.note_candidate("7-abababab").unwrap();

        let last = LastGood::new(dir.path());
        assert_eq!(last.heeded().unwrap(), Some(heeded(43)));
        assert_eq!(last.order(100).unwrap().as_deref(), Some(&b"order"[..]));
        assert!(last.order(4).unwrap_err().to_string().contains("longer than 4 bytes"));
        assert_eq!(last.candidate().unwrap().as_deref(), Some("7-abababab"));
        last.forget_candidate().unwrap();
        last.forget_candidate().unwrap();
        assert_eq!(last.candidate().unwrap(), None);

        last.sweep(Kept::Section, &BTreeSet::from([Digest([2; 32])]));
        assert_eq!(last.list(Kept::Section, 10), [Digest([2; 32])]);
        assert_eq!(last.read(Kept::Section, &Digest([1; 32]), 10).unwrap(), None);
    }

    #[test]
    fn every_damage_to_the_epoch_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let last = LastGood::new(dir.path());
        last.remember(&heeded(1 << 50)).unwrap();
        let path = last.path().join("epoch");
        let good = fs::read(&path).unwrap();
        for cut in 0..good.len() {
            fs::write(&path, &good[..cut]).unwrap();
            assert!(last.heeded().is_err(), "cut at {cut}");
        }
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            fs::write(&path, &bad).unwrap();
            // A flipped case bit of a hex digit means the same number.
            assert!(
                last.heeded().is_err() || last.heeded().unwrap() == Some(heeded(1 << 50)),
                "bit {bit}"
            );
        }
    }

    #[test]
    fn says_which_file_and_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("last-good"), "a file where the folder should be").unwrap();
        let error = LastGood::new(dir.path()).remember(&heeded(1)).unwrap_err().to_string();
        assert!(error.contains("last-good") && error.contains("--state"), "{error}");
    }

    #[test]
    fn sweeping_takes_what_is_ours_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let keys = dir.path().join("shared");
        let last = LastGood::new(dir.path()).with_keys(keys.clone());
        let [wanted, unwanted] = [Digest([1; 32]), Digest([2; 32])];
        for digest in [wanted, unwanted] {
            last.keep(Kept::Key, &digest, b"key").unwrap();
        }
        fs::write(keys.join(format!("{wanted}.tmp")), "half").unwrap();
        fs::write(keys.join("somebody-elses.pem"), "not ours").unwrap();
        last.sweep(Kept::Key, &[wanted].into());
        let mut left: Vec<_> = fs::read_dir(&keys)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        left.sort();
        assert_eq!(left, [wanted.to_string(), "somebody-elses.pem".to_owned()]);
    }
}
