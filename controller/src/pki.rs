//! The controller's own certificate authority: made at first start, it vouches for the stream's server and for each
//! instance. An instance is who its certificate says, never who it says.
//!
//! Who that is, is one URI in the certificate, with a second one for pods (`names`). Beside the authority that signs
//! stand others that are believed as well, `also.pem`: the next one before it signs, the last one while certificates of
//! it are about (`docs/keys.md`).
//!
//! Standalone, certificates are made by a command and renewed when the controller starts or enrols an instance and they are near
//! their end. In Kubernetes they last a day, and instances ask for the next one themselves (`enrol`).

mod making;
mod names;
mod tls;

use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, Issuer, KeyPair, PublicKeyData, SanType};
use rustls::ServerConfig;
use sluice_model::limits::{CERTIFICATE_DAYS, CERTIFICATE_RENEWAL_DAYS, ENROLLED_CERTIFICATE_SECONDS};
use sluice_model::{FleetName, InstanceId};
use x509_parser::parse_x509_certificate;
use x509_parser::pem::parse_x509_pem;

use crate::durable::{self, Access};
use crate::keys;

use making::Validity;
pub(crate) use making::days_left;
pub use names::{Identity, Peer, PodUid, PodUidError, Workload, instance_of_pod, pod_of_instance};
pub use tls::TlsError;

/// The name that the server's certificate carries, whatever address it is reached at.
pub const SERVER_NAME: &str = "sluice-controller";

const CERTIFICATE: &str = "ca.pem";
const KEY: &str = "ca.key";
/// Authorities that are believed and do not sign; may be missing.
const ALSO: &str = "also.pem";

/// Why certificates could not be read or made.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// A file.
    #[error("{path}: {source}; the state folder must be writable by the user who runs the controller", path = .path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file that does not hold what it should.
    #[error("{path}: {what}; remove the folder {folder} to have new certificates made, then enrol every instance again", path = .path.display(), folder = .path.parent().unwrap_or(Path::new(".")).display())]
    Corrupt {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// A certificate could not be made.
    #[error("cannot make a certificate: {0}")]
    Make(#[from] rcgen::Error),
    /// They do not fit together.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// A private key that others can read, or the like.
    #[error(transparent)]
    Key(#[from] keys::KeyError),
}

/// The certificate authority, which vouches for instances and for the server.
pub struct Authority {
    dir: PathBuf,
    certificate: String,
    key: KeyPair,
    /// Others that are believed, as PEM; often none.
    also: String,
}

/// The authority, and the certificate with which a running controller serves.
#[derive(Debug)]
pub struct Pki {
    authority: Authority,
    server: Pem,
    tls: Arc<ServerConfig>,
}

/// A certificate with its private key, as PEM.
#[derive(Clone, PartialEq, Eq)]
pub struct Pem {
    /// The certificate.
    pub certificate: String,
    /// Its private key. Never printed.
    pub key: String,
}

/// A certificate for a key that somebody else keeps.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Certified {
    /// As PEM.
    pub certificate: String,
    /// When to ask for the next one, in seconds of Unix time.
    pub renew_at: u64,
}

impl std::fmt::Debug for Pem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Pem(certificate and private key)")
    }
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Authority({})", self.dir.display())
    }
}

impl Authority {
    /// Reads the authority in `state/pki`, and makes it if it is missing or near its end. Whatever else is there stays
    /// as it is.
    ///
    /// # Errors
    /// Names the file and how to mend it.
    pub fn open(state: &Path) -> Result<Self, PkiError> {
        let dir = state.join("pki");
        keys::private_folder(&dir)?;
        let (certificate, key) = (dir.join(CERTIFICATE), dir.join(KEY));
        let is_there = certificate.exists() && key.exists();
        if is_there {
            let held = Self::read(state)?;
            if days_left(&held.certificate) > CERTIFICATE_RENEWAL_DAYS {
                return Ok(held);
            }
        }
        let made = new_authority()?;
        put(&key, &made.key, Access::Owner)?;
        put(&certificate, &made.certificate, Access::Everybody)?;
        Self::read(state)
    }

    /// Reads the authority in `state/pki`, which somebody else keeps and renews.
    ///
    /// # Errors
    /// Names the file and how to mend it.
    pub fn read(state: &Path) -> Result<Self, PkiError> {
        let dir = state.join("pki");
        let (certificate, key, also) = (dir.join(CERTIFICATE), dir.join(KEY), dir.join(ALSO));
        let pem = take(&certificate)?;
        keys::check_private(&key)?;
        let pair = KeyPair::from_pem(&take(&key)?).map_err(|error| corrupt(&key, &error))?;
        Issuer::from_ca_cert_pem(&pem, &pair).map_err(|error| corrupt(&certificate, &error))?;
        let also = if also.exists() {
            certificates(&also)?
        } else {
            String::new()
        };
        Ok(Self {
            dir,
            certificate: pem,
            key: pair,
            also,
        })
    }

    /// Its certificate.
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// The certificates of all authorities that are believed, its own first.
    pub fn bundle(&self) -> String {
        format!("{}{}", self.certificate, self.also)
    }

    /// A new certificate for one instance, with its key.
    ///
    /// # Errors
    /// When none can be made.
    pub fn issue(&self, identity: &Identity) -> Result<Pem, PkiError> {
        let mut params = making::leaf(
            identity.instance.as_str(),
            ExtendedKeyUsagePurpose::ClientAuth,
            Validity::of_days(CERTIFICATE_DAYS),
        );
        params.subject_alt_names = vec![uri(identity.uri())?];
        self.sign(params)
    }

    /// A new certificate for the one who holds the other half of `key`: as `peer` and nobody else, for a day.
    ///
    /// # Errors
    /// When none can be made.
    pub fn certify(&self, peer: &Peer, key: &impl PublicKeyData, now: u64) -> Result<Certified, PkiError> {
        let Peer { identity, workload } = peer;
        let mut params = making::leaf(
            identity.instance.as_str(),
            ExtendedKeyUsagePurpose::ClientAuth,
            Validity::of_seconds(now, ENROLLED_CERTIFICATE_SECONDS),
        );
        let uris = std::iter::once(identity.uri()).chain(workload.as_ref().map(Workload::uri));
        params.subject_alt_names = uris.map(uri).collect::<Result<_, _>>()?;
        let certificate = params.signed_by(key, &Issuer::from_ca_cert_pem(&self.certificate, &self.key)?)?;
        Ok(Certified {
            certificate: certificate.pem(),
            renew_at: now.saturating_add(ENROLLED_CERTIFICATE_SECONDS / 3 * 2),
        })
    }

    fn sign(&self, params: CertificateParams) -> Result<Pem, PkiError> {
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &Issuer::from_ca_cert_pem(&self.certificate, &self.key)?)?;
        Ok(Pem {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
        })
    }
}

impl Pki {
    /// Opens the authority, and makes the server's certificate. Only for a controller that is about to serve, and holds
    /// the lock of `state`. `host` is where the server is reached at.
    ///
    /// # Errors
    /// Names the file and how to mend it.
    pub fn open(state: &Path, host: Option<IpAddr>) -> Result<Self, PkiError> {
        Self::of(Authority::open(state)?, host)
    }

    /// The same with an authority that somebody else keeps and renews.
    ///
    /// # Errors
    /// Names the file and how to mend it.
    pub fn read(state: &Path, host: Option<IpAddr>) -> Result<Self, PkiError> {
        Self::of(Authority::read(state)?, host)
    }

    fn of(authority: Authority, host: Option<IpAddr>) -> Result<Self, PkiError> {
        let server = server(&authority, host)?;
        let tls = tls::config(&authority.bundle(), &server)?;
        Ok(Self { authority, server, tls })
    }

    /// The authority.
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// The server's certificate and key.
    pub fn server(&self) -> &Pem {
        &self.server
    }

    /// How the server speaks TLS.
    pub(crate) fn tls(&self) -> &Arc<ServerConfig> {
        &self.tls
    }
}

/// A new authority, which nobody believes yet.
///
/// # Errors
/// When none can be made.
pub(crate) fn new_authority() -> Result<Pem, PkiError> {
    Ok(making::authority()?)
}

/// Whether this is an authority: a certificate that may vouch for others, and its own key.
///
/// # Errors
/// Says what is wrong with it.
pub(crate) fn check_authority(authority: &Pem) -> Result<(), String> {
    let pair = KeyPair::from_pem(&authority.key).map_err(|error| error.to_string())?;
    let (_, pem) = parse_x509_pem(authority.certificate.as_bytes()).map_err(|error| error.to_string())?;
    let (_, certificate) = parse_x509_certificate(&pem.contents).map_err(|error| error.to_string())?;
    if !certificate.is_ca() {
        return Err("the certificate may not vouch for others".to_owned());
    }
    if certificate.public_key().raw != pair.subject_public_key_info() {
        return Err("the key is not that of the certificate".to_owned());
    }
    Ok(())
}

/// Writes the identity of one instance to `out` (by default `state/instances/INSTANCE/identity`): certificate, key,
/// the authority, the keys to trust, and who it is. Keeps a certificate that is for the same identity and not near
/// its end. Returns the folder.
///
/// # Errors
/// Names the file and how to mend it.
pub fn enroll(state: &Path, fleet: &FleetName, instance: &InstanceId, out: Option<&Path>) -> Result<PathBuf, PkiError> {
    let cluster = keys::cluster(state)?;
    let trusted = keys::Keys::open(state)?.trusted_json().to_owned();
    let authority = Authority::open(state)?;
    let identity = Identity {
        cluster,
        fleet: fleet.clone(),
        instance: instance.clone(),
    };
    let default = state.join("instances").join(instance.as_str()).join("identity");
    let dir = out.map_or(default, Path::to_path_buf);
    keys::private_folder(&dir)?;
    if !holds(&dir, &identity, &authority) {
        let pem = authority.issue(&identity)?;
        put(&dir.join("key.pem"), &pem.key, Access::Owner)?;
        put(&dir.join("cert.pem"), &pem.certificate, Access::Everybody)?;
    }
    let about = serde_json::json!({
        "cluster": identity.cluster, "fleet": identity.fleet, "instance": identity.instance,
    });
    put(&dir.join("ca.pem"), &authority.bundle(), Access::Everybody)?;
    put(&dir.join("trusted.json"), &trusted, Access::Everybody)?;
    put(&dir.join("instance.json"), &format!("{about:#}\n"), Access::Everybody)?;
    Ok(dir)
}

/// Whether `dir` has a certificate of the authority that signs now for `identity` with time left, and a key.
fn holds(dir: &Path, identity: &Identity, authority: &Authority) -> bool {
    let read = |name: &str| fs::read_to_string(dir.join(name)).ok();
    let (Some(certificate), Some(key)) = (read("cert.pem"), read("key.pem")) else {
        return false;
    };
    let is_right = |pem: &str| {
        let (_, pem) = parse_x509_pem(pem.as_bytes()).ok()?;
        let peer = Peer::of_certificate(&pem.contents)?;
        (peer.identity == *identity && authority.signed(&pem.contents)).then_some(())
    };
    is_right(&certificate).is_some()
        && KeyPair::from_pem(&key).is_ok()
        && days_left(&certificate) > CERTIFICATE_RENEWAL_DAYS
}

impl Authority {
    /// Whether this authority, and none before it, has signed a certificate.
    fn signed(&self, der: &[u8]) -> bool {
        let own = parse_x509_pem(self.certificate.as_bytes());
        let own = own.ok().map(|(_, pem)| pem.contents);
        let own = own.as_deref().and_then(|der| parse_x509_certificate(der).ok());
        let (Some((_, own)), Ok((_, certificate))) = (own, parse_x509_certificate(der)) else {
            return false;
        };
        certificate.verify_signature(Some(own.public_key())).is_ok()
    }
}

fn server(authority: &Authority, host: Option<IpAddr>) -> Result<Pem, PkiError> {
    // Made anew with each start: nobody pins it, and so it is always for the address that is used now.
    let mut params = making::leaf(
        SERVER_NAME,
        ExtendedKeyUsagePurpose::ServerAuth,
        Validity::of_days(CERTIFICATE_DAYS),
    );
    let names = CertificateParams::new([SERVER_NAME, "localhost", "127.0.0.1", "::1"].map(str::to_owned))?;
    params.subject_alt_names = names.subject_alt_names;
    let host = host.filter(|host| !host.is_unspecified() && !host.is_loopback());
    params.subject_alt_names.extend(host.map(SanType::IpAddress));
    let pem = authority.sign(params)?;
    put(&authority.dir.join("server.key"), &pem.key, Access::Owner)?;
    put(&authority.dir.join("server.pem"), &pem.certificate, Access::Everybody)?;
    Ok(pem)
}

/// A file of certificates. One without any is damaged: it would take back trust without anybody noticing.
fn certificates(path: &Path) -> Result<String, PkiError> {
    let pem = take(path)?;
    parse_x509_pem(pem.as_bytes()).map_err(|error| corrupt(path, &error))?;
    Ok(pem)
}

fn uri(uri: String) -> Result<SanType, PkiError> {
    Ok(SanType::URI(uri.try_into()?))
}

fn take(path: &Path) -> Result<String, PkiError> {
    fs::read_to_string(path).map_err(|source| PkiError::File {
        path: path.to_owned(),
        source,
    })
}

fn put(path: &Path, text: &str, access: Access) -> Result<(), PkiError> {
    durable::write(path, text.as_bytes(), access).map_err(|source| PkiError::File {
        path: path.to_owned(),
        source,
    })
}

fn corrupt(path: &Path, what: &dyn std::fmt::Display) -> PkiError {
    PkiError::Corrupt {
        path: path.to_owned(),
        what: what.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn der(pem: &str) -> Vec<u8> {
        parse_x509_pem(pem.as_bytes()).unwrap().1.contents
    }

    #[test]
    fn an_identity_survives_its_certificate() {
        let state = tempfile::tempdir().unwrap();
        let dir = enroll(state.path(), &"edge".parse().unwrap(), &"i-1".parse().unwrap(), None).unwrap();
        let certificate = fs::read_to_string(dir.join("cert.pem")).unwrap();
        let identity = Peer::of_certificate(&der(&certificate)).unwrap().identity;
        assert_eq!((identity.fleet.as_str(), identity.instance.as_str()), ("edge", "i-1"));
        assert!(days_left(&certificate) > CERTIFICATE_RENEWAL_DAYS);

        enroll(state.path(), &identity.fleet, &identity.instance, None).unwrap();
        assert_eq!(fs::read_to_string(dir.join("cert.pem")).unwrap(), certificate, "kept");
        enroll(state.path(), &"other".parse().unwrap(), &identity.instance, None).unwrap();
        assert_ne!(
            fs::read_to_string(dir.join("cert.pem")).unwrap(),
            certificate,
            "another fleet"
        );
    }

    #[test]
    fn enrolling_leaves_a_running_server_its_certificate() {
        let state = tempfile::tempdir().unwrap();
        let (fleet, instance) = ("edge".parse().unwrap(), "i-1".parse().unwrap());
        enroll(state.path(), &fleet, &instance, None).unwrap();
        assert!(!state.path().join("pki/server.pem").exists(), "nobody serves yet");

        Pki::open(state.path(), None).unwrap();
        let files = ["server.pem", "server.key"].map(|name| state.path().join("pki").join(name));
        let served = files.clone().map(|file| fs::read_to_string(file).unwrap());
        enroll(state.path(), &fleet, &"i-2".parse().unwrap(), None).unwrap();
        assert_eq!(files.map(|file| fs::read_to_string(file).unwrap()), served);
    }

    #[test]
    fn the_servers_certificate_is_no_identity() {
        let state = tempfile::tempdir().unwrap();
        let pki = Pki::open(state.path(), None).unwrap();
        assert_eq!(Peer::of_certificate(&der(&pki.server().certificate)), None);
    }

    #[test]
    fn a_pod_is_certified_for_a_day_as_who_it_is() {
        let state = tempfile::tempdir().unwrap();
        let authority = Authority::open(state.path()).unwrap();
        let peer = Peer {
            identity: Identity {
                cluster: "c".parse().unwrap(),
                fleet: "edge".parse().unwrap(),
                instance: "edge-1.0a1b2c3d".parse().unwrap(),
            },
            workload: Some(Workload {
                namespace: "shop".parse().unwrap(),
                service_account: "sluice-dataplane".parse().unwrap(),
                pod: "0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9".parse().unwrap(),
            }),
        };
        let now = making::now();
        let certified = authority.certify(&peer, &KeyPair::generate().unwrap(), now).unwrap();
        let contents = der(&certified.certificate);
        assert_eq!(Peer::of_certificate(&contents), Some(peer));
        assert!(authority.signed(&contents));
        let (_, certificate) = parse_x509_certificate(&contents).unwrap();
        let ends = u64::try_from(certificate.validity().not_after.timestamp()).unwrap();
        assert_eq!(ends, now + ENROLLED_CERTIFICATE_SECONDS);
        assert!(certificate.validity().is_valid() && !certificate.is_ca());
        assert!(now < certified.renew_at && certified.renew_at < ends);
    }

    #[test]
    fn an_authority_that_is_kept_elsewhere_is_never_made() {
        let state = tempfile::tempdir().unwrap();
        assert!(Authority::read(state.path()).is_err());
        assert!(!state.path().join("pki/ca.key").exists());
    }

    #[test]
    fn others_are_believed_beside_the_one_that_signs() {
        let state = tempfile::tempdir().unwrap();
        let next = making::authority().unwrap();
        let authority = Authority::open(state.path()).unwrap();
        assert_eq!(authority.bundle(), authority.certificate());
        fs::write(state.path().join("pki/also.pem"), &next.certificate).unwrap();
        let pki = Pki::read(state.path(), None).unwrap();
        assert_eq!(
            pki.authority().bundle(),
            format!("{}{}", authority.certificate(), next.certificate)
        );
        fs::write(state.path().join("pki/also.pem"), "nonsense").unwrap();
        let said = Pki::read(state.path(), None).unwrap_err().to_string();
        assert!(said.contains("also.pem"), "{said}");
    }

    #[test]
    fn a_corrupt_authority_is_said() {
        let state = tempfile::tempdir().unwrap();
        Pki::open(state.path(), None).unwrap();
        fs::write(state.path().join("pki/ca.key"), "nonsense").unwrap();
        let said = Pki::open(state.path(), None).unwrap_err().to_string();
        assert!(said.contains("ca.key") && said.contains("remove the folder"), "{said}");
    }
}
