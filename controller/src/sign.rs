//! Signs manifests, orders and live updates. The only file that touches the private signing keys: they are read here, held here, and
//! nothing else ever sees them.
//!
//! Three keys, each of one role, so that what can describe a revision cannot order it, and what can move an address or
//! renew a certificate can do nothing else. While keys are being replaced, those of before stand in the folder `last` and
//! sign too: whoever trusts either accepts what is sent (`docs/keys.md`). What they ever signed for is in their [`marks`].

pub mod marks;
pub mod secret_marks;

use std::fs;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use sluice_model::FleetName;
use sluice_proto::{
    Envelope, KeySet, LiveUpdate, Manifest, OpenError, Order, Provenance, Role, SealedLive, Signer, TrustedKey,
    open_live, open_manifest, open_order, open_provenance, seal_live, seal_manifest, seal_order, seal_provenance,
};
use zeroize::Zeroizing;

use crate::durable::{self, Access};
use crate::keys::{self, KeyError};
use marks::FileMarks;
pub use marks::{MarkError, Marks};
pub use secret_marks::SecretMarks;

const MANIFEST: &str = "manifest.key";
const ORDER: &str = "order.key";
const LIVE: &str = "live.key";
/// The keys' files, each with its role.
pub(crate) const FILES: [(&str, Role); 3] = [(MANIFEST, Role::Manifest), (ORDER, Role::Order), (LIVE, Role::Live)];
/// Has the keys of before in it, while they are being replaced.
pub(crate) const LAST: &str = "last";
/// What the file of a private key begins with; 64 hex digits follow.
const FORM: &str = "sluice-ed25519-private-key-v1 ";

/// Why something was not signed.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    /// That the keys are in use from now on could not be noted.
    #[error(transparent)]
    Mark(#[from] MarkError),
    /// No instance would accept it: it is larger than the limits allow, or not in order.
    #[error(transparent)]
    Content(#[from] OpenError),
}

/// One key of each role.
struct Three {
    manifest: Signer,
    order: Signer,
    live: Signer,
}

impl Three {
    fn read(dir: &Path) -> Result<Self, KeyError> {
        Ok(Self {
            manifest: read(&dir.join(MANIFEST), Role::Manifest)?,
            order: read(&dir.join(ORDER), Role::Order)?,
            live: read(&dir.join(LIVE), Role::Live)?,
        })
    }

    fn trusted(&self) -> [TrustedKey; 3] {
        [self.manifest.trusted(), self.order.trusted(), self.live.trusted()]
    }
}

/// The private keys. Prints nothing of them.
pub struct Signers {
    now: Three,
    /// Those of before, which sign too while they are trusted.
    last: Option<Three>,
    /// The public halves: what is signed here is opened once more before anybody sees it.
    trusted: KeySet,
    marks: Arc<dyn Marks>,
}

impl std::fmt::Debug for Signers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Signers(redacted)")
    }
}

/// Makes all keys in `dir`, in place of any that are there.
///
/// # Errors
/// Names the file.
pub(crate) fn make(dir: &Path) -> Result<(), KeyError> {
    let begun = FileMarks::of(dir).begin();
    begun.map_err(|(path, error)| KeyError::file(&path)(error))?;
    [MANIFEST, ORDER, LIVE].into_iter().try_for_each(|name| draw(dir, name))
}

/// Makes the key for live updates in `dir`, unless it is there: folders of a build that sent none have none.
///
/// # Errors
/// Names the file.
pub(crate) fn make_missing(dir: &Path) -> Result<(), KeyError> {
    match dir.join(LIVE).exists() {
        true => Ok(()),
        false => draw(dir, LIVE),
    }
}

fn draw(dir: &Path, name: &str) -> Result<(), KeyError> {
    let path = dir.join(name);
    durable::write(&path, drawn()?.as_bytes(), Access::Owner).map_err(KeyError::file(&path))
}

/// A new private key, as in its file.
///
/// # Errors
/// When the operating system gives no random numbers.
pub(crate) fn drawn() -> Result<Zeroizing<String>, KeyError> {
    let digits = Zeroizing::new(hex::encode(*Zeroizing::new(keys::random::<32>()?)));
    Ok(Zeroizing::new(format!("{FORM}{}\n", *digits)))
}

/// The public half of a private key as in its file; `None` if it is not one.
pub(crate) fn public_half(text: &str, role: Role) -> Option<TrustedKey> {
    signer(text, role).map(|signer| signer.trusted())
}

fn signer(text: &str, role: Role) -> Option<Signer> {
    let digits = text.trim_end().strip_prefix(FORM)?;
    let mut seed = Zeroizing::new([0; 32]);
    hex::decode_to_slice(digits, seed.as_mut()).ok()?;
    Some(Signer::from_seed(&seed, role))
}

fn read(path: &Path, role: Role) -> Result<Signer, KeyError> {
    keys::check_private(path)?;
    let text = Zeroizing::new(fs::read_to_string(path).map_err(KeyError::file(path))?);
    signer(&text, role).ok_or_else(|| KeyError::corrupt(path, "is not a private key of this program"))
}

impl Signers {
    /// Reads all keys from `dir`.
    ///
    /// # Errors
    /// Names the file and how to mend it.
    pub(crate) fn open(dir: &Path) -> Result<Self, KeyError> {
        let now = Three::read(dir)?;
        let last = dir.join(LAST);
        let last = if last.exists() { Some(Three::read(&last)?) } else { None };
        let trusted = now.trusted().into_iter().chain(last.iter().flat_map(Three::trusted));
        let trusted = KeySet::new(trusted).map_err(|_| {
            KeyError::corrupt(
                &dir.join(MANIFEST),
                "is the same key as another beside it: they are not all different",
            )
        })?;
        Ok(Self {
            now,
            last,
            trusted,
            marks: Arc::new(FileMarks::of(dir)),
        })
    }

    /// The public halves, each with its role.
    pub(crate) fn trusted(&self) -> &KeySet {
        &self.trusted
    }

    /// Whether instances that trust `set` accept what is signed here.
    pub(crate) fn are_in(&self, set: &KeySet) -> bool {
        self.trusted.iter().all(|key| set.get(&key.id()) == Some(key))
    }

    fn each(&self, of: impl Fn(&Three) -> &Signer) -> Vec<&Signer> {
        std::iter::once(&self.now).chain(&self.last).map(of).collect()
    }

    /// Whether an envelope bears a signature of now, as far as it says itself: whoever asks has verified it already, or
    /// signs it anew if it does not. One that bears only those of before is worth nothing when these are gone.
    pub fn have_signed(&self, envelope: &[u8]) -> bool {
        let Ok(envelope) = Envelope::open(envelope, envelope.len()) else {
            return false;
        };
        let now = self.now.trusted().map(|key| key.id().to_string());
        envelope
            .signatures
            .iter()
            .any(|signature| now.contains(&signature.key_id))
    }

    /// The same keys with marks that are kept elsewhere than beside them: their folder is a copy.
    pub fn with_marks(self, marks: Arc<dyn Marks>) -> Self {
        Self { marks, ..self }
    }

    /// Whether nothing was ever signed with these keys, so that no instance can hold anything valid.
    pub fn are_unused(&self) -> bool {
        self.marks.are_unused()
    }

    /// Whether nothing was ever signed for `fleet`.
    pub fn never_signed_for(&self, fleet: &FleetName) -> bool {
        self.marks.never_signed_for(fleet)
    }

    /// Whether `fleet` had other keys before these, which are lost: its instances trust those.
    pub fn are_new_to(&self, fleet: &FleetName) -> bool {
        self.marks.are_new_to(fleet)
    }

    /// Notes that an instance of `fleet` trusts these keys.
    ///
    /// # Errors
    /// When it cannot be noted.
    pub fn are_trusted_in(&self, fleet: &FleetName) -> Result<(), MarkError> {
        self.marks.are_trusted_in(fleet)
    }

    /// A signed manifest.
    ///
    /// # Errors
    /// When no instance would accept it, or when it cannot be noted that the keys are in use from now on.
    pub fn manifest(&self, manifest: &Manifest) -> Result<Bytes, SignError> {
        self.marks.note(&manifest.fleet)?;
        let sealed = seal_manifest(&self.each(|keys| &keys.manifest), manifest);
        open_manifest(&self.trusted, &manifest.audience(), &sealed)?;
        Ok(sealed)
    }

    /// Where a revision came from, signed by the key that signs what it is.
    ///
    /// # Errors
    /// When nobody would accept it, or when it cannot be noted that the keys are in use from now on.
    pub fn provenance(&self, provenance: &Provenance) -> Result<Bytes, SignError> {
        self.marks.note(&provenance.fleet)?;
        let sealed = seal_provenance(&self.each(|keys| &keys.manifest), provenance);
        open_provenance(&self.trusted, &provenance.audience(), &sealed)?;
        Ok(sealed)
    }

    /// A signed order. The same order gives the same bytes.
    ///
    /// # Errors
    /// When no instance would accept it, or when it cannot be noted that the keys are in use from now on.
    pub fn order(&self, order: &Order) -> Result<Bytes, SignError> {
        self.marks.note(&order.fleet)?;
        let sealed = seal_order(&self.each(|keys| &keys.order), order);
        open_order(&self.trusted, &order.audience(), &sealed)?;
        Ok(sealed)
    }

    /// A signed live update. It follows an order, which notes that the keys are in use.
    ///
    /// # Errors
    /// When no instance would accept it.
    pub fn live(&self, update: &LiveUpdate) -> Result<SealedLive, SignError> {
        let sealed = seal_live(&self.each(|keys| &keys.live), update);
        open_live(&self.trusted, &update.audience, &sealed.0)?;
        Ok(sealed)
    }
}
