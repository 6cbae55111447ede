//! The controller's own certificate authority: made at first start, it vouches for the stream's server and for each
//! instance. An instance is who its certificate says, never who it says.
//!
//! The identity is one URI in the certificate: `sluice://CLUSTER/FLEET/INSTANCE`. Certificates are renewed when the
//! controller starts or enrols an instance and they are near their end.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use jiff::{Timestamp, ToSpan, tz::TimeZone};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    SanType, date_time_ymd,
};
use sluice_model::limits::{CA_DAYS, CERTIFICATE_DAYS, CERTIFICATE_RENEWAL_DAYS};
use sluice_model::{ClusterId, FleetName, InstanceId};
use x509_parser::extensions::GeneralName;
use x509_parser::parse_x509_certificate;
use x509_parser::pem::parse_x509_pem;

use crate::durable::{self, Access};
use crate::keys;

/// The name that the server's certificate carries, whatever address it is reached at.
pub const SERVER_NAME: &str = "sluice-controller";

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
    /// A private key that others can read, or the like.
    #[error(transparent)]
    Key(#[from] keys::KeyError),
}

/// Who a certificate says somebody is.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Identity {
    /// Of which cluster.
    pub cluster: ClusterId,
    /// Of which fleet.
    pub fleet: FleetName,
    /// Which instance.
    pub instance: InstanceId,
}

impl Identity {
    /// As it stands in a certificate.
    pub fn uri(&self) -> String {
        format!("sluice://{}/{}/{}", self.cluster, self.fleet, self.instance)
    }

    fn parse(uri: &str) -> Option<Self> {
        let mut parts = uri.strip_prefix("sluice://")?.split('/');
        let identity = Self {
            cluster: parts.next()?.parse().ok()?,
            fleet: parts.next()?.parse().ok()?,
            instance: parts.next()?.parse().ok()?,
        };
        parts.next().is_none().then_some(identity)
    }

    /// Reads the identity out of a certificate that TLS has already verified. `None` unless there is exactly one.
    pub fn of_certificate(der: &[u8]) -> Option<Self> {
        let (_, certificate) = parse_x509_certificate(der).ok()?;
        let names = certificate.subject_alternative_name().ok()??;
        let mut uris = names.value.general_names.iter().filter_map(|name| {
            let GeneralName::URI(uri) = name else { return None };
            Some(*uri)
        });
        let identity = Self::parse(uris.next()?)?;
        uris.next().is_none().then_some(identity)
    }
}

/// The certificate authority, which vouches for instances and for the server.
pub struct Authority {
    dir: PathBuf,
    certificate: String,
    key: KeyPair,
}

/// The authority, and the certificate with which a running controller serves.
#[derive(Debug)]
pub struct Pki {
    authority: Authority,
    server: Pem,
}

/// A certificate with its private key, as PEM.
#[derive(Clone)]
pub struct Pem {
    /// The certificate.
    pub certificate: String,
    /// Its private key. Never printed.
    pub key: String,
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
        let (certificate, key) = authority(&dir)?;
        Ok(Self { dir, certificate, key })
    }

    /// Its certificate.
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// A new certificate for one instance.
    ///
    /// # Errors
    /// When none can be made.
    pub fn issue(&self, identity: &Identity) -> Result<Pem, PkiError> {
        let uri = identity.uri().try_into()?;
        let mut params = leaf(identity.instance.as_str(), ExtendedKeyUsagePurpose::ClientAuth);
        params.subject_alt_names = vec![SanType::URI(uri)];
        self.sign(params)
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
        let authority = Authority::open(state)?;
        let server = server(&authority, host)?;
        Ok(Self { authority, server })
    }

    /// The authority.
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// The server's certificate and key.
    pub fn server(&self) -> &Pem {
        &self.server
    }
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
    if !holds(&dir, &identity, authority.certificate()) {
        let pem = authority.issue(&identity)?;
        put(&dir.join("key.pem"), &pem.key, Access::Owner)?;
        put(&dir.join("cert.pem"), &pem.certificate, Access::Everybody)?;
    }
    let about = serde_json::json!({
        "cluster": identity.cluster, "fleet": identity.fleet, "instance": identity.instance,
    });
    put(&dir.join("ca.pem"), authority.certificate(), Access::Everybody)?;
    put(&dir.join("trusted.json"), &trusted, Access::Everybody)?;
    put(&dir.join("instance.json"), &format!("{about:#}\n"), Access::Everybody)?;
    Ok(dir)
}

/// Whether `dir` has a certificate of this authority for `identity` with time left, and a key.
fn holds(dir: &Path, identity: &Identity, ca: &str) -> bool {
    let read = |name: &str| fs::read_to_string(dir.join(name)).ok();
    let (Some(certificate), Some(key), Some(old_ca)) = (read("cert.pem"), read("key.pem"), read("ca.pem")) else {
        return false;
    };
    let right = parse_x509_pem(certificate.as_bytes())
        .ok()
        .and_then(|(_, pem)| Identity::of_certificate(&pem.contents))
        .is_some_and(|held| held == *identity);
    right && old_ca == ca && KeyPair::from_pem(&key).is_ok() && days_left(&certificate) > CERTIFICATE_RENEWAL_DAYS
}

fn authority(dir: &Path) -> Result<(String, KeyPair), PkiError> {
    let (certificate, key) = (dir.join("ca.pem"), dir.join("ca.key"));
    if certificate.exists() && key.exists() {
        let pem = take(&certificate)?;
        keys::check_private(&key)?;
        let pair = KeyPair::from_pem(&take(&key)?).map_err(|error| corrupt(&key, &error))?;
        Issuer::from_ca_cert_pem(&pem, &pair).map_err(|error| corrupt(&certificate, &error))?;
        if days_left(&pem) > CERTIFICATE_RENEWAL_DAYS {
            return Ok((pem, pair));
        }
    }
    let pair = KeyPair::generate()?;
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    named(&mut params, "sluice", CA_DAYS);
    let pem = params.self_signed(&pair)?.pem();
    put(&key, &pair.serialize_pem(), Access::Owner)?;
    put(&certificate, &pem, Access::Everybody)?;
    Ok((pem, pair))
}

fn server(authority: &Authority, host: Option<IpAddr>) -> Result<Pem, PkiError> {
    // Made anew with each start: nobody pins it, and so it is always for the address that is used now.
    let mut params = leaf(SERVER_NAME, ExtendedKeyUsagePurpose::ServerAuth);
    let names = CertificateParams::new([SERVER_NAME, "localhost", "127.0.0.1", "::1"].map(str::to_owned))?;
    params.subject_alt_names = names.subject_alt_names;
    let host = host.filter(|host| !host.is_unspecified() && !host.is_loopback());
    params.subject_alt_names.extend(host.map(SanType::IpAddress));
    let pem = authority.sign(params)?;
    put(&authority.dir.join("server.key"), &pem.key, Access::Owner)?;
    put(&authority.dir.join("server.pem"), &pem.certificate, Access::Everybody)?;
    Ok(pem)
}

fn leaf(name: &str, usage: ExtendedKeyUsagePurpose) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![usage];
    params.use_authority_key_identifier_extension = true;
    named(&mut params, name, CERTIFICATE_DAYS);
    params
}

fn named(params: &mut CertificateParams, name: &str, days: i64) {
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    // Valid from yesterday: clocks differ.
    let today = Timestamp::now().to_zoned(TimeZone::UTC).date();
    let day = |offset: i64| {
        let date = today.saturating_add(offset.days());
        date_time_ymd(
            i32::from(date.year()),
            date.month().unsigned_abs(),
            date.day().unsigned_abs(),
        )
    };
    params.not_before = day(-1);
    params.not_after = day(days);
}

/// Whole days until a certificate ends; negative or zero if it has, or cannot be read.
fn days_left(pem: &str) -> i64 {
    let Ok((_, pem)) = parse_x509_pem(pem.as_bytes()) else {
        return 0;
    };
    let Ok((_, certificate)) = parse_x509_certificate(&pem.contents) else {
        return 0;
    };
    let left = certificate.validity().not_after.timestamp() - Timestamp::now().as_second();
    left / 86_400
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
        let identity = Identity::of_certificate(&der(&certificate)).unwrap();
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
        assert_eq!(Identity::of_certificate(&der(&pki.server().certificate)), None);
        for wrong in [
            "sluice://a/b",
            "sluice://a/b/c/d",
            "http://a/b/c",
            "sluice://a/b/C",
            "sluice:///b/c",
        ] {
            assert_eq!(Identity::parse(wrong), None, "{wrong}");
        }
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
