//! Whom an instance trusts: the authorities that vouch for its controller, and the keys that may sign what it follows. In
//! a folder that others keep up to date, such as a ConfigMap that is mounted (`--trust`).
//!
//! Such a volume is replaced as a whole behind a symbolic link, at no moment that anybody tells: it is read again and
//! again. What cannot be read, or is not whole, changes nothing.

use std::path::{Path, PathBuf};

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use sluice_proto::keys::KeySet;

use super::IdentityError;
use super::folder::bounded_text;

/// Whom to trust.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Trust {
    /// Who vouches for the controller, as PEM.
    pub ca_pem: String,
    /// Who may sign.
    pub trusted: KeySet,
}

/// The authorities of the controller, in that folder.
pub const CA_FILE: &str = "ca.pem";

/// A folder with the files `ca.pem` and `trusted.json` that others keep.
#[derive(Clone, Debug)]
pub struct TrustFolder(PathBuf);

const ADVICE: &str = "the controller keeps these files in the ConfigMap sluice-trust of every namespace that a Rollout's \
                      spec.members names; mount it there";

impl TrustFolder {
    /// This folder.
    pub fn new(path: PathBuf) -> Self {
        Self(path)
    }

    /// What it says now.
    ///
    /// # Errors
    /// Names the file and what to do.
    pub fn read(&self) -> Result<Trust, IdentityError> {
        read(&self.0, ADVICE)
    }
}

pub(super) fn read(folder: &Path, advice: &'static str) -> Result<Trust, IdentityError> {
    let path = folder.join(CA_FILE);
    let wrong = |path: &Path, problem: String| IdentityError {
        path: path.to_owned(),
        problem,
        advice,
    };
    let ca_pem = bounded_text(&path, advice)?;
    check_authorities(&ca_pem).map_err(|problem| wrong(&path, problem))?;
    let path = folder.join("trusted.json");
    let trusted = KeySet::from_json(&bounded_text(&path, advice)?)
        .map_err(|error| wrong(&path, format!("it is not a set of trusted keys: {error}")))?;
    if trusted.iter().next().is_none() {
        return Err(wrong(
            &path,
            "it lists no key, and then nothing could be believed".to_owned(),
        ));
    }
    Ok(Trust { ca_pem, trusted })
}

/// Every certificate can be read, and there is one: half a file would take back trust without anybody noticing.
fn check_authorities(pem: &str) -> Result<(), String> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        let certificate = certificate.map_err(|error| format!("it is not PEM: {error}"))?;
        roots
            .add(certificate)
            .map_err(|error| format!("a certificate in it cannot be used: {error}"))?;
    }
    if roots.is_empty() {
        return Err("it has no PEM block \"CERTIFICATE\"".to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, KeyPair};
    use sluice_proto::keys::{Role, Signer};

    fn authority() -> String {
        let params = CertificateParams::new(vec!["ca".to_owned()]).unwrap();
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().pem()
    }

    fn keys() -> KeySet {
        KeySet::new([Signer::from_seed(&[1; 32], Role::Order).trusted()]).unwrap()
    }

    #[test]
    fn only_whole_files_are_believed() {
        let dir = tempfile::tempdir().unwrap();
        let folder = TrustFolder::new(dir.path().to_owned());
        let check = |ca: &str, trusted: &str, says: &str| {
            std::fs::write(dir.path().join("ca.pem"), ca).unwrap();
            std::fs::write(dir.path().join("trusted.json"), trusted).unwrap();
            let said = folder.read().map(drop).map_err(|error| error.to_string());
            assert!(said.as_ref().is_err_and(|said| said.contains(says)), "{said:?}");
        };
        let said = folder.read().unwrap_err().to_string();
        assert!(
            said.contains("ca.pem: cannot be read") && said.contains("sluice-trust"),
            "{said}"
        );
        let (ca, trusted) = (authority(), keys().to_json());
        check("", &trusted, "ca.pem: it has no PEM block");
        check(&ca[..ca.len() / 2], &trusted, "ca.pem");
        check(&ca.replace('M', "A"), &trusted, "ca.pem");
        check(&ca, "", "trusted.json: it is not a set");
        check(&ca, r#"{"keys": []}"#, "lists no key");
        let two = ca.clone() + &authority();
        std::fs::write(dir.path().join("ca.pem"), &two).unwrap();
        std::fs::write(dir.path().join("trusted.json"), &trusted).unwrap();
        let both = folder.read().unwrap();
        assert_eq!((both.ca_pem, both.trusted), (two, keys()));
    }
}
