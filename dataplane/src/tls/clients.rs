//! Client certificates: who has to have signed them, and whether one that was shown is believed.
//!
//! A handshake can only ask, since it does not know yet what will be requested on the connection; whether a request gets
//! in is decided where its route is known (`proxy.rs`), by the certificate that the connection has shown and by the
//! authorities as they are at that moment. Decisions and their reasons: `docs/decisions/tls.md`.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::HeaderValue;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{RootCertStore, ServerConnection};
use sha2::{Digest as _, Sha256};
use sluice_model::Digest;
use sluice_model::limits::CLIENT_CERTIFICATE_BELIEVED_SECONDS;
use sluice_model::unit::CertificatePart;

use super::certificate::PROVIDER;
use super::client_details;

/// For how long a verdict holds: certificates end.
const BELIEVED: Duration = Duration::from_secs(CLIENT_CERTIFICATE_BELIEVED_SECONDS);

/// Those who sign clients' certificates.
pub struct Authorities {
    roots: Vec<CertificateDer<'static>>,
    store: Arc<RootCertStore>,
    verifier: Arc<dyn ClientCertVerifier>,
}

impl Authorities {
    /// These.
    ///
    /// # Errors
    /// When there are none, or one of them cannot be used; for people.
    pub fn new(roots: Vec<CertificateDer<'static>>) -> Result<Self, String> {
        let store = store(&roots)?;
        let verifier = asking(store.clone())?;
        Ok(Self { roots, store, verifier })
    }

    /// Whether they have signed for the client of this chain, and it is in its time.
    fn vouch_for(&self, chain: &[CertificateDer<'static>]) -> bool {
        let Some((leaf, between)) = chain.split_first() else {
            return false;
        };
        self.verifier.verify_client_cert(leaf, between, UnixTime::now()).is_ok()
    }

    /// The same, for verifying whoever they may have signed for.
    pub fn store(&self) -> &Arc<RootCertStore> {
        &self.store
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.roots.len()
    }
}

impl fmt::Debug for Authorities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Authorities({})", self.roots.len())
    }
}

fn store(roots: &[CertificateDer<'static>]) -> Result<Arc<RootCertStore>, String> {
    let mut store = RootCertStore::empty();
    for root in roots {
        store.add(root.clone()).map_err(|error| error.to_string())?;
    }
    Ok(Arc::new(store))
}

/// Asks for a certificate of one of these, and takes it if there is none: a wrong one ends the handshake.
fn asking(store: Arc<RootCertStore>) -> Result<Arc<dyn ClientCertVerifier>, String> {
    let builder = WebPkiClientVerifier::builder_with_provider(store, Arc::clone(&PROVIDER));
    builder
        .allow_unauthenticated()
        .build()
        .map_err(|error| error.to_string())
}

/// Asks for a certificate that any of them has signed. `None`: there is nobody to ask for.
pub fn verifier(all: &[Arc<Authorities>]) -> Option<Arc<dyn ClientCertVerifier>> {
    match all {
        [] => None,
        [one] => Some(Arc::clone(&one.verifier)),
        several => {
            let roots: Vec<_> = several.iter().flat_map(|one| one.roots.iter().cloned()).collect();
            // Each of them is usable by itself.
            asking(store(&roots).ok()?).ok()
        }
    }
}

/// What a client has shown, and proven to have the key of.
#[derive(Debug)]
pub struct Shown {
    chain: Vec<CertificateDer<'static>>,
    fingerprint: Digest,
    verdict: RefCell<Option<Verdict>>,
    /// What upstreams are told, by which parts.
    details: RefCell<Option<(BTreeSet<CertificatePart>, Option<HeaderValue>)>>,
}

/// What was found last.
#[derive(Debug)]
struct Verdict {
    of: Arc<Authorities>,
    at: Instant,
    is_vouched_for: bool,
}

impl Shown {
    /// By a handshake that is complete; `None`: nothing.
    pub fn of(connection: &ServerConnection) -> Option<Self> {
        Self::new(connection.peer_certificates()?)
    }

    fn new(chain: &[CertificateDer<'_>]) -> Option<Self> {
        let leaf = chain.first()?;
        Some(Self {
            fingerprint: Digest(Sha256::digest(leaf).into()),
            chain: chain.iter().map(|one| one.clone().into_owned()).collect(),
            verdict: RefCell::default(),
            details: RefCell::default(),
        })
    }

    /// SHA-256 of the certificate.
    pub fn fingerprint(&self) -> &Digest {
        &self.fingerprint
    }

    /// These parts of it, as upstreams are told them; `None`: there is nothing that can be told. Put together once for as long as
    /// the same is asked, as on most connections.
    pub fn details(&self, parts: &BTreeSet<CertificatePart>) -> Option<HeaderValue> {
        let mut details = self.details.borrow_mut();
        if let Some((known, value)) = details.as_ref()
            && known == parts
        {
            return value.clone();
        }
        let value = client_details::value(self.chain.first()?, &self.fingerprint, parts);
        *details = Some((parts.clone(), value.clone()));
        value
    }

    /// Whether these have signed it. Looked at once for as long as they stay the same, and anew every minute.
    pub fn is_vouched_for_by(&self, authorities: &Arc<Authorities>, now: Instant) -> bool {
        let mut verdict = self.verdict.borrow_mut();
        if let Some(Verdict { of, at, is_vouched_for }) = verdict.as_ref()
            && Arc::ptr_eq(of, authorities)
            && now.saturating_duration_since(*at) < BELIEVED
        {
            return *is_vouched_for;
        }
        let is_vouched_for = authorities.vouch_for(&self.chain);
        *verdict = Some(Verdict {
            of: Arc::clone(authorities),
            at: now,
            is_vouched_for,
        });
        is_vouched_for
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

    struct Authority(CertifiedIssuer<'static, KeyPair>);

    impl Authority {
        fn new() -> Self {
            let mut params = CertificateParams::new(vec![]).unwrap();
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
        }

        fn root(&self) -> CertificateDer<'static> {
            self.0.der().clone()
        }

        fn shown(&self, change: impl Fn(&mut CertificateParams)) -> Shown {
            let mut params = CertificateParams::new(vec!["client.test".to_owned()]).unwrap();
            change(&mut params);
            let leaf = params.signed_by(&KeyPair::generate().unwrap(), &self.0).unwrap();
            Shown::new(&[leaf.der().clone()]).unwrap()
        }
    }

    #[test]
    fn only_what_they_signed_and_while_it_lasts() {
        let [one, other] = [Authority::new(), Authority::new()];
        let ones = Arc::new(Authorities::new(vec![one.root()]).unwrap());
        let others = Arc::new(Authorities::new(vec![other.root()]).unwrap());
        let both = Arc::new(Authorities::new(vec![other.root(), one.root()]).unwrap());
        let now = Instant::now();
        let shown = one.shown(|_| {});
        // Asked about each in turn: what is remembered of one is not taken for another.
        for _ in 0..2 {
            assert!(shown.is_vouched_for_by(&ones, now));
            assert!(!shown.is_vouched_for_by(&others, now));
            assert!(shown.is_vouched_for_by(&both, now));
        }
        let ended = one.shown(|params| params.not_after = rcgen::date_time_ymd(2020, 1, 1));
        assert!(!ended.is_vouched_for_by(&ones, now));
        let server = one.shown(|params| params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth]);
        assert!(!server.is_vouched_for_by(&ones, now), "for servers only");
    }

    #[test]
    fn what_cannot_vouch_is_refused() {
        assert!(Authorities::new(vec![]).is_err());
        assert!(Authorities::new(vec![CertificateDer::from(vec![0x30, 1, 2])]).is_err());
        assert!(verifier(&[]).is_none());
    }
}
