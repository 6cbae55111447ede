//! Who a certificate says that somebody is: two URIs among its names, and nothing else of it.
//!
//! ```text
//! sluice://CLUSTER/FLEET/INSTANCE                 of every instance
//! k8s://NAMESPACE/SERVICEACCOUNT/PODUID           beside it, of one that enrolled as a pod
//! ```

use std::fmt;
use std::str::FromStr;

use sluice_model::{ClusterId, FleetName, InstanceId, Name};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::parse_x509_certificate;

/// Who an instance is.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Identity {
    /// Of which cluster.
    pub cluster: ClusterId,
    /// Of which fleet.
    pub fleet: FleetName,
    /// Which instance.
    pub instance: InstanceId,
}

/// The UID of a pod: as Kubernetes draws it, hex digits in groups. No two pods ever share one.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct PodUid(String);

/// The pod that an instance runs in.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Workload {
    /// Its namespace.
    pub namespace: Name,
    /// The service account that it runs as.
    pub service_account: Name,
    /// Its UID.
    pub pod: PodUid,
}

/// What a certificate says of the one who shows it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Peer {
    /// Which instance.
    pub identity: Identity,
    /// In which pod; `None`: the certificate was made by a command, not for a pod.
    pub workload: Option<Workload>,
}

/// Why a text is not the UID of a pod.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0:?} is not the UID of a pod: hex digits in groups, as in 0a1b2c3d-4e5f-…")]
pub struct PodUidError(String);

/// How many digits of a pod's UID are part of its instance's name.
const SHORT_UID: usize = 8;

impl PodUid {
    /// The UID as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What tells the pods of one name apart: its first digits.
    pub fn short(&self) -> &str {
        self.0.get(..SHORT_UID).unwrap_or(&self.0)
    }
}

impl FromStr for PodUid {
    type Err = PodUidError;

    fn from_str(text: &str) -> Result<Self, PodUidError> {
        let digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        let beginning = text.get(..SHORT_UID).is_some_and(|short| short.bytes().all(digit));
        let rest = text.bytes().all(|byte| digit(byte) || byte == b'-');
        if beginning && rest && text.len() <= 64 {
            Ok(Self(text.to_owned()))
        } else {
            Err(PodUidError(text.chars().take(80).collect()))
        }
    }
}

impl fmt::Display for PodUid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What the instance in this pod is called: a replacement of the same name is another instance. `None` if the pod's name
/// leaves no room for its UID.
pub fn instance_of_pod(pod_name: &str, uid: &PodUid) -> Option<InstanceId> {
    format!("{pod_name}.{}", uid.short()).parse().ok()
}

/// The name of the pod that an instance was named after, and the beginning of its UID; `None` if it was named otherwise.
pub fn pod_of_instance(instance: &InstanceId) -> Option<(&str, &str)> {
    let (name, short) = instance.as_str().rsplit_once('.')?;
    let is_uid = short.len() == SHORT_UID && short.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_uid.then_some((name, short))
}

impl Identity {
    /// As it stands in a certificate.
    pub fn uri(&self) -> String {
        format!("sluice://{}/{}/{}", self.cluster, self.fleet, self.instance)
    }

    fn parse(uri: &str) -> Option<Self> {
        let [cluster, fleet, instance] = three(uri.strip_prefix("sluice://")?)?;
        Some(Self {
            cluster: cluster.parse().ok()?,
            fleet: fleet.parse().ok()?,
            instance: instance.parse().ok()?,
        })
    }
}

impl Workload {
    /// As it stands in a certificate.
    pub fn uri(&self) -> String {
        format!("k8s://{}/{}/{}", self.namespace, self.service_account, self.pod)
    }

    fn parse(uri: &str) -> Option<Self> {
        let [namespace, service_account, pod] = three(uri.strip_prefix("k8s://")?)?;
        Some(Self {
            namespace: namespace.parse().ok()?,
            service_account: service_account.parse().ok()?,
            pod: pod.parse().ok()?,
        })
    }
}

impl fmt::Display for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.service_account)
    }
}

fn three(text: &str) -> Option<[&str; 3]> {
    let mut parts = text.split('/');
    let three = [parts.next()?, parts.next()?, parts.next()?];
    parts.next().is_none().then_some(three)
}

impl Peer {
    /// Reads who it is out of a certificate that TLS has already verified. `None` unless it names exactly one instance,
    /// at most one pod, and no other URI.
    pub fn of_certificate(der: &[u8]) -> Option<Self> {
        let (_, certificate) = parse_x509_certificate(der).ok()?;
        let uris = uris(&certificate)?;
        let (identity, workload) = match uris.as_slice() {
            [identity] => (identity, None),
            [identity, workload] => (identity, Some(Workload::parse(workload)?)),
            _ => return None,
        };
        Some(Self {
            identity: Identity::parse(identity)?,
            workload,
        })
    }
}

fn uris(certificate: &X509Certificate<'_>) -> Option<Vec<String>> {
    let names = certificate.subject_alternative_name().ok()??;
    let uris = names.value.general_names.iter().filter_map(|name| {
        let GeneralName::URI(uri) = name else { return None };
        Some((*uri).to_owned())
    });
    Some(uris.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_uris_are_somebody() {
        for wrong in [
            "sluice://a/b",
            "sluice://a/b/c/d",
            "http://a/b/c",
            "sluice://a/b/C",
            "sluice:///b/c",
        ] {
            assert_eq!(Identity::parse(wrong), None, "{wrong}");
        }
        for wrong in ["k8s://a/b", "k8s://a/b/pod", "k8s:///b/0a1b2c3d", "k8s://a/b/0A1B2C3D"] {
            assert_eq!(Workload::parse(wrong), None, "{wrong}");
        }
        let workload = Workload::parse("k8s://shop/edge/0a1b2c3d-4e5f").unwrap();
        assert_eq!(Workload::parse(&workload.uri()), Some(workload));
    }

    #[test]
    fn an_instance_is_named_after_its_pod() {
        let uid: PodUid = "0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9".parse().unwrap();
        let instance = instance_of_pod("edge-7d9c.x", &uid).unwrap();
        assert_eq!(instance.as_str(), "edge-7d9c.x.0a1b2c3d");
        assert_eq!(pod_of_instance(&instance), Some(("edge-7d9c.x", "0a1b2c3d")));
        assert_eq!(pod_of_instance(&"edge-1".parse().unwrap()), None);
        assert_eq!(pod_of_instance(&"edge.instance".parse().unwrap()), None);
        assert_eq!(instance_of_pod(&"x".repeat(120), &uid), None);
    }

    #[test]
    fn uids_that_are_none() {
        for wrong in ["", "0a1b2c3", "0A1B2C3D", "0a1b2c3d/..", &"0".repeat(65)] {
            assert!(wrong.parse::<PodUid>().is_err(), "{wrong}");
        }
    }
}
