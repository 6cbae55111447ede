//! Keys: who may sign what. Each key has one role, so that one that leaks can do only what its role allows.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use ed25519_dalek::{Signer as _, SigningKey, VerifyingKey};
use serde::{Deserialize, Serialize};

use crate::hash::sha256;

/// What a key may sign.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// What revisions are.
    Manifest,
    /// Which revision is served by whom.
    Order,
    /// Addresses and certificates of things that exist.
    Live,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Manifest => "manifest",
            Self::Order => "order",
            Self::Live => "live",
        })
    }
}

/// The name of a key: the first 16 bytes of the SHA-256 of its public half. Prints as 32 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId([u8; 16]);

impl KeyId {
    /// The name of the key with this public half.
    pub fn of(public: &[u8; 32]) -> Self {
        let mut id = [0; 16];
        for (to, from) in id.iter_mut().zip(sha256(public).0) {
            *to = from;
        }
        Self(id)
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for KeyId {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let mut id = [0; 16];
        hex::decode_to_slice(text, &mut id).map_err(|_| KeyError::Id(text.chars().take(80).collect()))?;
        let id = Self(id);
        // One spelling only: upper-case digits would be a second.
        if id.to_string() == text {
            Ok(id)
        } else {
            Err(KeyError::Id(text.chars().take(80).collect()))
        }
    }
}

/// Why something is not a key or a set of keys.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// Not a key id.
    #[error("{0:?} is not a key id: 32 lower-case hex digits")]
    Id(String),
    /// Not a public key, or one that proves nothing.
    #[error("not an ed25519 public key: 64 hex digits of a point that is not weak")]
    Public,
    /// The id in the file is not that of the key beside it.
    #[error("key {stated} is really {computed}: the key file was edited or damaged")]
    Mismatch {
        /// In the file.
        stated: KeyId,
        /// Of the key.
        computed: KeyId,
    },
    /// One key with two entries.
    #[error("key {0} is there twice; a key has one role")]
    Twice(KeyId),
    /// Not the JSON of a key set.
    #[error("not a key set: {0}")]
    Json(#[from] serde_json::Error),
}

/// A key that is believed, within its role.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TrustedKey {
    public: VerifyingKey,
    role: Role,
}

impl TrustedKey {
    /// The key with this public half. Weak points (of small order) are refused: anybody can sign for them.
    pub fn new(public: &[u8; 32], role: Role) -> Result<Self, KeyError> {
        let public = VerifyingKey::from_bytes(public).map_err(|_| KeyError::Public)?;
        if public.is_weak() {
            return Err(KeyError::Public);
        }
        Ok(Self { public, role })
    }

    /// Its name.
    pub fn id(&self) -> KeyId {
        KeyId::of(self.public.as_bytes())
    }

    /// What it may sign.
    pub fn role(&self) -> Role {
        self.role
    }

    pub(crate) fn has_signed(&self, message: &[u8], signature: &[u8]) -> bool {
        let signature = ed25519_dalek::Signature::from_slice(signature);
        signature.is_ok_and(|signature| self.public.verify_strict(message, &signature).is_ok())
    }
}

/// The keys that an instance believes. Several of one role allow rotation.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct KeySet {
    keys: BTreeMap<KeyId, TrustedKey>,
}

/// As in the file `trusted.json`.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct KeyFile {
    keys: Vec<KeyEntry>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct KeyEntry {
    key_id: String,
    role: Role,
    public_key: String,
}

impl KeySet {
    /// These keys.
    pub fn new(keys: impl IntoIterator<Item = TrustedKey>) -> Result<Self, KeyError> {
        let mut set = Self::default();
        for key in keys {
            set.add(key)?;
        }
        Ok(set)
    }

    fn add(&mut self, key: TrustedKey) -> Result<(), KeyError> {
        match self.keys.insert(key.id(), key) {
            None => Ok(()),
            Some(twin) => Err(KeyError::Twice(twin.id())),
        }
    }

    /// The key of this name.
    pub fn get(&self, id: &KeyId) -> Option<&TrustedKey> {
        self.keys.get(id)
    }

    /// All keys, by name.
    pub fn iter(&self) -> impl Iterator<Item = &TrustedKey> {
        self.keys.values()
    }

    /// From the text of a key file.
    pub fn from_json(text: &str) -> Result<Self, KeyError> {
        let KeyFile { keys } = serde_json::from_str(text)?;
        let mut set = Self::default();
        for entry in keys {
            set.add(entry.check()?)?;
        }
        Ok(set)
    }

    /// The text of a key file.
    pub fn to_json(&self) -> String {
        let entry = |key: &TrustedKey| KeyEntry {
            key_id: key.id().to_string(),
            role: key.role,
            public_key: hex::encode(key.public.as_bytes()),
        };
        let file = KeyFile {
            keys: self.iter().map(entry).collect(),
        };
        // Strings and lists cannot fail to be written.
        serde_json::to_string_pretty(&file).unwrap_or_default()
    }
}

impl KeyEntry {
    fn check(self) -> Result<TrustedKey, KeyError> {
        let Self {
            key_id,
            role,
            public_key,
        } = self;
        let mut public = [0; 32];
        hex::decode_to_slice(&public_key, &mut public).map_err(|_| KeyError::Public)?;
        let key = TrustedKey::new(&public, role)?;
        let stated: KeyId = key_id.parse()?;
        let computed = key.id();
        if stated == computed {
            Ok(key)
        } else {
            Err(KeyError::Mismatch { stated, computed })
        }
    }
}

/// A private key. Cannot be printed, and wipes itself when dropped.
pub struct Signer {
    key: SigningKey,
    role: Role,
}

impl Signer {
    /// The key that these 32 random bytes make.
    pub fn from_seed(seed: &[u8; 32], role: Role) -> Self {
        Self {
            key: SigningKey::from_bytes(seed),
            role,
        }
    }

    /// Its name.
    pub fn id(&self) -> KeyId {
        KeyId::of(self.key.verifying_key().as_bytes())
    }

    /// What it may sign.
    pub fn role(&self) -> Role {
        self.role
    }

    /// Its public half.
    pub fn trusted(&self) -> TrustedKey {
        TrustedKey {
            public: self.key.verifying_key(),
            role: self.role,
        }
    }

    pub(crate) fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.key.sign(message).to_bytes()
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signer({}, {}, private)", self.id(), self.role)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signer(seed: u8, role: Role) -> Signer {
        Signer::from_seed(&[seed; 32], role)
    }

    #[test]
    fn a_private_key_cannot_be_printed() {
        let printed = format!("{:?}", signer(0xab, Role::Order));
        assert!(
            printed.contains("order, private") && !printed.contains("abab"),
            "{printed}"
        );
    }

    #[test]
    fn rfc_8032_test_1() {
        let seed = "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60";
        let mut bytes = [0; 32];
        hex::decode_to_slice(seed, &mut bytes).unwrap();
        let signer = Signer::from_seed(&bytes, Role::Live);
        let public = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";
        assert_eq!(hex::encode(signer.trusted().public.as_bytes()), public);
        let mut key_bytes = [0; 32];
        hex::decode_to_slice(public, &mut key_bytes).unwrap();
        assert_eq!(signer.id().to_string(), sha256(&key_bytes).to_string()[..32]);
        assert!(hex::encode(signer.sign(b"")).starts_with("e5564300c360ac729086e2cc806e828a"));
        assert!(signer.trusted().has_signed(b"", &signer.sign(b"")));
    }

    #[test]
    fn key_files_read_back() {
        let keys = [signer(1, Role::Manifest).trusted(), signer(2, Role::Order).trusted()];
        let set = KeySet::new(keys).unwrap();
        assert_eq!(KeySet::from_json(&set.to_json()).unwrap(), set);
        assert_eq!(set.get(&keys[0].id()), Some(&keys[0]));
    }

    #[test]
    fn bad_key_files_are_refused() {
        let check = |json: &str, expected: &str| {
            let error = KeySet::from_json(json).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        };
        let entry = |id: &str, role: &str, public: &str| {
            format!(r#"{{"keyId": "{id}", "role": "{role}", "publicKey": "{public}"}}"#)
        };
        let key = signer(1, Role::Order).trusted();
        let (id, public) = (key.id().to_string(), hex::encode(key.public.as_bytes()));
        let good = entry(&id, "order", &public);
        check("", "not a key set");
        check(r#"{"keys": [], "more": 1}"#, "unknown field");
        check(&format!(r#"{{"keys": [{good}, {good}]}}"#), "is there twice");
        check(
            &format!(r#"{{"keys": [{}]}}"#, entry(&id, "root", &public)),
            "unknown variant",
        );
        check(
            &format!(r#"{{"keys": [{}]}}"#, entry(&id, "order", "00")),
            "not an ed25519 public key",
        );
        let other = signer(2, Role::Order).id().to_string();
        check(
            &format!(r#"{{"keys": [{}]}}"#, entry(&other, "order", &public)),
            "is really",
        );
        check(
            &format!(r#"{{"keys": [{}]}}"#, entry(&id.to_uppercase(), "order", &public)),
            "is not a key id",
        );
        // The neutral point: of order 1, anybody can sign for it.
        let weak = format!("01{}", "00".repeat(31));
        check(&format!(r#"{{"keys": [{}]}}"#, entry(&id, "order", &weak)), "not weak");
    }
}
