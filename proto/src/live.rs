//! The live lane: a Service's endpoints, or a certificate with its key, as they are now. Signed like orders, with keys
//! of a role of their own, and outside of revisions: pod churn and renewals cannot wait for a rollout.
//!
//! Each update is the whole new value of one subject. Which of two counts is decided per subject by [`LiveUpdate::stamp`];
//! comparing is the receiver's. What holds a private key redacts itself here, sealed or not.

use std::fmt;
use std::net::SocketAddr;

use bytes::Bytes;
use sluice_model::limits::{
    MAX_AUTHORITY_BYTES, MAX_CERTIFICATE_BYTES, MAX_CHAIN_CERTIFICATES, MAX_CLIENT_AUTHORITIES,
    MAX_ENVELOPE_OVERHEAD_BYTES, MAX_LIVE_ENDPOINTS, MAX_LIVE_HELD, MAX_LIVE_HELD_BYTES, MAX_LIVE_UPDATE_BYTES,
    MAX_PRIVATE_KEY_BYTES,
};
use sluice_model::{CertificateRef, Digest, LiveSubject, ServiceRef, Zone};
use zeroize::Zeroizing;

use crate::canonical::{DecodeError, Wire, ascending, each, required, strict_decode, wrong};
use crate::envelope::{PayloadType, sign, verify};
use crate::hash::labelled;
use crate::identity::{certificate_from, certificate_to, service_from, service_to, text};
use crate::keys::{KeySet, Signer};
use crate::pb;
use crate::signed::{Audience, OpenError};

/// The value of one subject, for one audience.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LiveUpdate {
    /// Whom it is for.
    pub audience: Audience,
    /// When, in that order: see [`LiveStamp`].
    pub stamp: LiveStamp,
    /// What.
    pub value: LiveValue,
}

/// Orders the updates of one subject: by term, which every controller begins anew and higher, then by sequence.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct LiveStamp {
    /// Of the controller that signed it; never 0.
    pub term: u64,
    /// Counts the updates of a term, of all subjects together; never 0.
    pub sequence: u64,
}

/// What a subject's value is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum LiveValue {
    /// Of a Service.
    Endpoints {
        /// Which.
        service: ServiceRef,
        /// In ascending order of address, none twice. Empty: nobody is there.
        endpoints: Vec<LiveEndpoint>,
    },
    /// Of a certificate.
    Certificate {
        /// Which.
        certificate: CertificateRef,
        /// DER, the leaf first; never empty. Not looked into here.
        chain: Vec<Bytes>,
        /// Its private key.
        key: PrivateKeyBytes,
    },
    /// Of those who sign clients' certificates.
    Authorities {
        /// The Secret that holds them.
        secret: CertificateRef,
        /// DER; never empty. Not looked into here.
        certificates: Vec<Bytes>,
    },
}

/// One endpoint of a Service.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LiveEndpoint {
    /// Where it listens; never port 0.
    pub address: SocketAddr,
    /// Whether it takes requests.
    pub state: EndpointState,
    /// Where it is, if that is known.
    pub zone: Option<Zone>,
}

/// Whether an endpoint takes requests.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum EndpointState {
    /// It does.
    Ready,
    /// It does still, on its way out: for when nobody else is ready.
    Draining,
}

/// A private key (PKCS#8 DER). Cannot be printed, and wipes itself when dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct PrivateKeyBytes(Zeroizing<Vec<u8>>);

/// A signed live update as it travels. It may hold a private key in the clear, so it cannot be printed.
#[derive(Clone, PartialEq, Eq)]
pub struct SealedLive(pub Bytes);

/// What an instance says it holds of one subject.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HeldValue {
    /// Of which.
    pub subject: LiveSubject,
    /// Of the value, see [`LiveValue::digest`].
    pub digest: Digest,
}

impl PrivateKeyBytes {
    /// These bytes; not looked into.
    pub fn new(der: Vec<u8>) -> Self {
        Self(Zeroizing::new(der))
    }

    /// The key, for whoever needs it to sign.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for PrivateKeyBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKeyBytes(redacted)")
    }
}

impl fmt::Debug for SealedLive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SealedLive({} bytes, redacted)", self.0.len())
    }
}

impl LiveValue {
    /// What it is the value of.
    pub fn subject(&self) -> LiveSubject {
        match self {
            Self::Endpoints { service, .. } => LiveSubject::Service(service.clone()),
            Self::Certificate { certificate, .. } => LiveSubject::Certificate(certificate.clone()),
            Self::Authorities { secret, .. } => LiveSubject::Authorities(secret.clone()),
        }
    }

    /// Names the value, whoever signed it and when.
    pub fn digest(&self) -> Digest {
        let encoded = Zeroizing::new(prost::Message::encode_to_vec(&value_to(self)));
        labelled("sluice.live-value.v1", [encoded.as_slice()])
    }
}

impl HeldValue {
    /// As many of `held` as one hello may name.
    pub fn within_bounds(held: impl IntoIterator<Item = Self>) -> Vec<Self> {
        let mut left = MAX_LIVE_HELD_BYTES;
        let fits = |held: &Self| {
            // The digest, and protobuf's tags and lengths.
            let bytes = held.subject.to_string().len().saturating_add(48);
            left.checked_sub(bytes).map(|rest| left = rest).is_some()
        };
        held.into_iter().take(MAX_LIVE_HELD).take_while(fits).collect()
    }
}

/// The signed envelope of an update, unchecked: whoever signs opens what it sealed before it is sent.
pub fn seal_live(signers: &[&Signer], update: &LiveUpdate) -> SealedLive {
    SealedLive(sign(signers, PayloadType::Live, &update.encode()))
}

/// The update in the envelope `bytes`, if it is signed by a live key and for this audience. Whether it is newer than
/// what is held is for the instance to say.
///
/// # Errors
/// When it is not.
pub fn open_live(keys: &KeySet, audience: &Audience, bytes: &[u8]) -> Result<LiveUpdate, OpenError> {
    let max = MAX_LIVE_UPDATE_BYTES.saturating_add(MAX_ENVELOPE_OVERHEAD_BYTES);
    let verified = verify(keys, PayloadType::Live, bytes, max)?;
    let update: LiveUpdate = strict_decode(&verified.payload, MAX_LIVE_UPDATE_BYTES)?;
    update.audience.must_be(audience)?;
    Ok(update)
}

impl Wire for LiveUpdate {
    type Proto = pb::LiveUpdate;

    fn to_proto(&self) -> pb::LiveUpdate {
        let Self {
            audience: Audience { cluster, fleet },
            stamp: LiveStamp { term, sequence },
            value,
        } = self;
        pb::LiveUpdate {
            cluster: cluster.to_string(),
            fleet: fleet.to_string(),
            term: *term,
            sequence: *sequence,
            value: Some(value_to(value)),
        }
    }

    fn from_proto(proto: pb::LiveUpdate) -> Result<Self, DecodeError> {
        let pb::LiveUpdate {
            cluster,
            fleet,
            term,
            sequence,
            value,
        } = proto;
        for (field, number) in [("term", term), ("sequence", sequence)] {
            if number == 0 {
                return Err(wrong(field, "is never 0"));
            }
        }
        Ok(Self {
            audience: Audience {
                cluster: text("cluster", &cluster)?,
                fleet: text("fleet", &fleet)?,
            },
            stamp: LiveStamp { term, sequence },
            value: value_from(required("value", value)?)?,
        })
    }
}

fn value_to(value: &LiveValue) -> pb::LiveValue {
    use pb::live_value::Value;
    let value = match value {
        LiveValue::Endpoints { service, endpoints } => Value::Endpoints(pb::ServiceEndpoints {
            service: Some(service_to(service)),
            endpoints: endpoints.iter().map(endpoint_to).collect(),
        }),
        LiveValue::Certificate {
            certificate,
            chain,
            key,
        } => Value::Certificate(pb::CertificateMaterial {
            certificate: Some(certificate_to(certificate)),
            chain: chain.clone(),
            key: Bytes::copy_from_slice(key.expose()),
        }),
        LiveValue::Authorities { secret, certificates } => Value::Authorities(pb::ClientAuthorities {
            secret: Some(certificate_to(secret)),
            certificates: certificates.clone(),
        }),
    };
    pb::LiveValue { value: Some(value) }
}

fn value_from(value: pb::LiveValue) -> Result<LiveValue, DecodeError> {
    use pb::live_value::Value;
    let pb::LiveValue { value } = value;
    match required("value", value)? {
        Value::Endpoints(endpoints) => endpoints_from(endpoints).map_err(|error| error.within("endpoints")),
        Value::Certificate(material) => material_from(material).map_err(|error| error.within("certificate")),
        Value::Authorities(authorities) => authorities_from(authorities).map_err(|error| error.within("authorities")),
    }
}

fn endpoints_from(proto: pb::ServiceEndpoints) -> Result<LiveValue, DecodeError> {
    let pb::ServiceEndpoints { service, endpoints } = proto;
    at_most("endpoints", endpoints.len(), MAX_LIVE_ENDPOINTS)?;
    let endpoints = each("endpoints", endpoints, endpoint_from)?;
    let addresses: Vec<SocketAddr> = endpoints.iter().map(|endpoint| endpoint.address).collect();
    ascending("endpoints", &addresses)?;
    Ok(LiveValue::Endpoints {
        service: service_from(required("service", service)?)?,
        endpoints,
    })
}

fn endpoint_to(endpoint: &LiveEndpoint) -> pb::LiveEndpoint {
    let LiveEndpoint { address, state, zone } = endpoint;
    let state = match state {
        EndpointState::Ready => pb::EndpointState::Ready,
        EndpointState::Draining => pb::EndpointState::Draining,
    };
    pb::LiveEndpoint {
        address: address.to_string(),
        state: state.into(),
        zone: zone.as_ref().map(ToString::to_string),
    }
}

fn endpoint_from(endpoint: pb::LiveEndpoint) -> Result<LiveEndpoint, DecodeError> {
    let pb::LiveEndpoint { address, state, zone } = endpoint;
    let address: SocketAddr = text("address", &address)?;
    if address.port() == 0 {
        return Err(wrong("address", "has port 0"));
    }
    let state = match pb::EndpointState::try_from(state) {
        Ok(pb::EndpointState::Ready) => EndpointState::Ready,
        Ok(pb::EndpointState::Draining) => EndpointState::Draining,
        Ok(pb::EndpointState::Unspecified) | Err(_) => return Err(wrong("state", format!("unknown state {state}"))),
    };
    let zone = zone.map(|zone| text("zone", &zone)).transpose()?;
    Ok(LiveEndpoint { address, state, zone })
}

fn authorities_from(proto: pb::ClientAuthorities) -> Result<LiveValue, DecodeError> {
    let pb::ClientAuthorities { secret, certificates } = proto;
    at_most("certificates", certificates.len(), MAX_CLIENT_AUTHORITIES)?;
    if certificates.is_empty() || certificates.iter().any(Bytes::is_empty) {
        return Err(wrong("certificates", "is empty"));
    }
    for one in &certificates {
        at_most("certificates", one.len(), MAX_AUTHORITY_BYTES)?;
    }
    Ok(LiveValue::Authorities {
        secret: certificate_from(required("secret", secret)?)?,
        certificates,
    })
}

fn material_from(proto: pb::CertificateMaterial) -> Result<LiveValue, DecodeError> {
    let pb::CertificateMaterial {
        certificate,
        chain,
        key,
    } = proto;
    at_most("chain", chain.len(), MAX_CHAIN_CERTIFICATES)?;
    for (field, bytes, max) in chain
        .iter()
        .map(|one| ("chain", one.len(), MAX_CERTIFICATE_BYTES))
        .chain([("key", key.len(), MAX_PRIVATE_KEY_BYTES)])
    {
        at_most(field, bytes, max)?;
        if bytes == 0 {
            return Err(wrong(field, "is empty"));
        }
    }
    if chain.is_empty() {
        return Err(wrong("chain", "is empty"));
    }
    Ok(LiveValue::Certificate {
        certificate: certificate_from(required("certificate", certificate)?)?,
        // Copied out of the message, which as a whole holds the key too.
        chain: chain.iter().map(|one| Bytes::copy_from_slice(one)).collect(),
        key: PrivateKeyBytes::new(key.to_vec()),
    })
}

fn at_most(field: &str, found: usize, max: usize) -> Result<(), DecodeError> {
    if found > max {
        return Err(wrong(field, format!("{found}, more than {max}")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arbitrary;
    use crate::delivery::Refusal;
    use crate::envelope::VerifyError;
    use crate::keys::Role;
    use crate::order::Order;
    use crate::signed::{open_manifest, open_order, seal_order};
    use proptest::prelude::*;

    fn keys() -> (Signer, Signer, KeySet) {
        let (live, order) = (
            Signer::from_seed(&[3; 32], Role::Live),
            Signer::from_seed(&[2; 32], Role::Order),
        );
        let keys = KeySet::new([live.trusted(), order.trusted()]).unwrap();
        (live, order, keys)
    }

    fn audience() -> Audience {
        Audience {
            cluster: "c-1".parse().unwrap(),
            fleet: "edge".parse().unwrap(),
        }
    }

    fn update(value: LiveValue) -> LiveUpdate {
        let stamp = LiveStamp { term: 1, sequence: 1 };
        LiveUpdate {
            audience: audience(),
            stamp,
            value,
        }
    }

    fn endpoint(address: &str) -> LiveEndpoint {
        LiveEndpoint {
            address: address.parse().unwrap(),
            state: EndpointState::Ready,
            zone: None,
        }
    }

    fn endpoints(addresses: &[&str]) -> LiveValue {
        LiveValue::Endpoints {
            service: "shop/api:http".parse().unwrap(),
            endpoints: addresses.iter().map(|address| endpoint(address)).collect(),
        }
    }

    fn material(chain: Vec<Bytes>, key: Vec<u8>) -> LiveValue {
        LiveValue::Certificate {
            certificate: "shop/tls".parse().unwrap(),
            chain,
            key: PrivateKeyBytes::new(key),
        }
    }

    fn refused(value: LiveValue, expected: &str) {
        let error = strict_decode::<LiveUpdate>(&update(value).encode(), 16 << 20).unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
    }

    #[test]
    fn nonsense_is_refused() {
        refused(
            endpoints(&["10.0.0.2:80", "10.0.0.1:80"]),
            "endpoints.endpoints: is not in",
        );
        refused(
            endpoints(&["10.0.0.1:80", "10.0.0.1:80"]),
            "endpoints.endpoints: is not in",
        );
        refused(endpoints(&["10.0.0.1:0"]), "endpoints.endpoints[0].address: has port 0");
        let many: Vec<String> = (0..=MAX_LIVE_ENDPOINTS)
            .map(|n| format!("10.0.{}.{}:80", n >> 8, n & 255))
            .collect();
        refused(
            endpoints(&many.iter().map(String::as_str).collect::<Vec<_>>()),
            "5001, more than 5000",
        );
        let one = Bytes::from_static(b"certificate");
        refused(material(vec![], vec![1]), "chain: is empty");
        refused(material(vec![Bytes::new()], vec![1]), "chain: is empty");
        refused(material(vec![one.clone()], vec![]), "key: is empty");
        refused(material(vec![one.clone(); 11], vec![1]), "chain: 11, more than 10");
        refused(
            material(vec![one], vec![1; MAX_PRIVATE_KEY_BYTES + 1]),
            "certificate.key",
        );
        let mut zero = update(endpoints(&[]));
        zero.stamp.term = 0;
        let error = strict_decode::<LiveUpdate>(&zero.encode(), 1 << 20).unwrap_err();
        assert!(error.to_string().contains("term: is never 0"), "{error}");
    }

    #[test]
    fn a_key_is_never_printed() {
        let secret = b"very-secret".to_vec();
        let live = update(material(vec![Bytes::from_static(b"leaf")], secret.clone()));
        let sealed = seal_live(&[&keys().0], &live);
        let opened = crate::Envelope::open(&sealed.0, 1 << 20).unwrap();
        let verified = verify(&keys().2, PayloadType::Live, &sealed.0, 1 << 20).unwrap();
        let downward = crate::Downward::Live(sealed.clone());
        let numbers = format!("{secret:?}");
        let numbers = numbers.trim_matches(['[', ']']);
        for printed in [
            format!("{live:?}"),
            format!("{:?}", live.to_proto()),
            format!("{sealed:?}"),
            format!("{opened:?}"),
            format!("{:?}", opened.to_proto()),
            format!("{verified:?}"),
            format!("{downward:?}"),
            format!("{:?}", pb::Downward::from(&downward)),
        ] {
            assert!(
                !printed.contains("very-secret") && !printed.contains(numbers),
                "{printed}"
            );
        }
    }

    #[test]
    fn only_live_keys_sign_values_and_they_sign_nothing_else() {
        let (live, order_key, keys) = keys();
        let value = update(endpoints(&["10.0.0.1:80"]));
        let wrong_key = open_live(&keys, &audience(), &seal_live(&[&order_key], &value).0).unwrap_err();
        assert!(
            matches!(wrong_key, OpenError::Verify(VerifyError::WrongRole { .. })),
            "{wrong_key}"
        );
        let order = Order {
            cluster: audience().cluster,
            fleet: audience().fleet,
            epoch: 1,
            stable: sluice_model::RevisionId {
                number: 1,
                digest: Digest([1; 32]),
            },
            candidate: None,
            counted: vec![],
        };
        let by_live = seal_order(&[&live], &order);
        let error = open_order(&keys, &audience(), &by_live).unwrap_err();
        assert!(
            matches!(error, OpenError::Verify(VerifyError::WrongRole { .. })),
            "{error}"
        );
        // Nor is a sealed value an order or a manifest.
        let sealed = seal_live(&[&live], &value);
        for error in [
            open_order(&keys, &audience(), &sealed.0).unwrap_err(),
            open_manifest(&keys, &audience(), &sealed.0).unwrap_err(),
            open_live(&keys, &audience(), &by_live).unwrap_err(),
        ] {
            assert!(
                matches!(error, OpenError::Verify(VerifyError::PayloadType { .. })),
                "{error}"
            );
        }
    }

    #[test]
    fn values_are_for_one_audience() {
        let (live, _, keys) = keys();
        let sealed = seal_live(&[&live], &update(endpoints(&[])));
        let other = Audience {
            fleet: "other".parse().unwrap(),
            ..audience()
        };
        assert_eq!(
            open_live(&keys, &other, &sealed.0).unwrap_err().refusal(),
            Refusal::Audience
        );
    }

    #[test]
    fn the_largest_values_fit() {
        let (live, _, keys) = keys();
        let zone: Zone = "z".repeat(63).parse().unwrap();
        let one = |n: u16| LiveEndpoint {
            address: format!("[ffff:ffff:ffff:ffff:ffff:ffff:ffff:{n:x}]:65535")
                .parse()
                .unwrap(),
            state: EndpointState::Draining,
            zone: Some(zone.clone()),
        };
        let value = LiveValue::Endpoints {
            service: "shop/api:http".parse().unwrap(),
            endpoints: (1..=u16::try_from(MAX_LIVE_ENDPOINTS).unwrap()).map(one).collect(),
        };
        let chain = vec![Bytes::from(vec![7; MAX_CERTIFICATE_BYTES]); MAX_CHAIN_CERTIFICATES];
        for value in [value, material(chain, vec![7; MAX_PRIVATE_KEY_BYTES])] {
            let update = update(value);
            assert_eq!(
                open_live(&keys, &audience(), &seal_live(&[&live], &update).0),
                Ok(update)
            );
        }
    }

    #[test]
    fn a_hello_names_as_many_as_fit() {
        let held = |n: usize| HeldValue {
            subject: format!("Certificate {}/{n}", "n".repeat(253)).parse().unwrap(),
            digest: Digest([0; 32]),
        };
        let some = HeldValue::within_bounds((0..MAX_LIVE_HELD).map(held));
        assert!(some.len() < MAX_LIVE_HELD && some.len() > 20_000, "{}", some.len());
        assert_eq!(HeldValue::within_bounds((0..9).map(held)).len(), 9);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn what_is_sealed_opens(update in arbitrary::live_updates()) {
            let (live, _, keys) = keys();
            prop_assert_eq!(open_live(&keys, &audience(), &seal_live(&[&live], &update).0), Ok(update));
        }

        #[test]
        fn digests_name_the_value_alone(one in arbitrary::live_updates(), other in arbitrary::live_updates()) {
            prop_assert_eq!(one.value.digest() == other.value.digest(), one.value == other.value);
        }

        #[test]
        fn a_changed_byte_opens_to_nothing(update in arbitrary::live_updates(), at in any::<prop::sample::Index>()) {
            let (live, _, keys) = keys();
            let mut bytes = seal_live(&[&live], &update).0.to_vec();
            let at = at.index(bytes.len());
            bytes[at] ^= 1;
            prop_assert!(open_live(&keys, &audience(), &bytes).is_err());
        }
    }
}
