//! One set of keys: three that sign, and an authority that makes certificates. Read as a whole: each is looked at, and
//! the authority's certificate has to be that of its key.

use sluice_proto::TrustedKey;
use zeroize::Zeroizing;

use super::{KeyringError, Parts, take_text, wrong};
use crate::pki::{self, Pem};
use crate::sign;

const CA_CERTIFICATE: &str = "ca.pem";
const CA_KEY: &str = "ca.key";

/// See the file's comment.
#[derive(Clone)]
pub(super) struct Material {
    /// In the order of [`sign::FILES`], each as in its file.
    keys: [Zeroizing<String>; 3],
    public: [TrustedKey; 3],
    pub(super) authority: Pem,
}

impl std::fmt::Debug for Material {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Material({:?}, redacted)", self.public.map(|key| key.id()))
    }
}

impl PartialEq for Material {
    fn eq(&self, other: &Self) -> bool {
        self.keys == other.keys && self.authority == other.authority
    }
}

impl Eq for Material {}

impl Material {
    /// New keys.
    pub(super) fn draw() -> Result<Self, KeyringError> {
        let mut parts = Parts::new();
        for (file, _) in sign::FILES {
            let key = sign::drawn().map_err(|error| wrong(file, error))?;
            parts.insert(file.to_owned(), Zeroizing::new(key.as_bytes().to_vec()));
        }
        let Pem { certificate, key } = pki::new_authority().map_err(|error| wrong(CA_KEY, error))?;
        parts.insert(CA_CERTIFICATE.to_owned(), Zeroizing::new(certificate.into_bytes()));
        parts.insert(CA_KEY.to_owned(), Zeroizing::new(key.into_bytes()));
        Self::take(&mut parts, "")
    }

    /// The keys in the parts that begin with `prefix`.
    pub(super) fn take(parts: &mut Parts, prefix: &str) -> Result<Self, KeyringError> {
        let [manifest, order, live] = sign::FILES;
        let mut key = |(file, role)| {
            let part = format!("{prefix}{file}");
            let text = take_text(parts, &part)?;
            let public = sign::public_half(&text, role);
            let public = public.ok_or_else(|| wrong(&part, "is not a private key of this program"))?;
            Ok((text, public))
        };
        let (manifest, order, live) = (key(manifest)?, key(order)?, key(live)?);
        let (certificate, key) = (format!("{prefix}{CA_CERTIFICATE}"), format!("{prefix}{CA_KEY}"));
        let authority = Pem {
            certificate: take_text(parts, &certificate)?.to_string(),
            key: take_text(parts, &key)?.to_string(),
        };
        pki::check_authority(&authority)
            .map_err(|error| wrong(&certificate, format!("or {key} is damaged: {error}")))?;
        Ok(Self {
            public: [manifest.1, order.1, live.1],
            keys: [manifest.0, order.0, live.0],
            authority,
        })
    }

    /// Hands out each part, its name beginning with `prefix`.
    pub(super) fn put(&self, prefix: &str, put: &mut impl FnMut(&str, &str)) {
        for ((file, _), key) in sign::FILES.iter().zip(&self.keys) {
            put(&format!("{prefix}{file}"), key);
        }
        put(&format!("{prefix}{CA_CERTIFICATE}"), &self.authority.certificate);
        put(&format!("{prefix}{CA_KEY}"), &self.authority.key);
    }

    /// The public halves, each with its role.
    pub(super) fn public(&self) -> [TrustedKey; 3] {
        self.public
    }
}
