//! Who is at the other end, from the certificate that TLS verified. Everything else is refused.

use sluice_model::ClusterId;
use tonic::Status;

use crate::pki::Peer;

/// Who the first of `certificates` names, if it is one of `cluster`.
///
/// # Errors
/// `unauthenticated` without a certificate that names an instance, `permission_denied` for another cluster.
pub fn of_peer<C: AsRef<[u8]>>(certificates: Option<&[C]>, cluster: &ClusterId) -> Result<Peer, Status> {
    let leaf = certificates.and_then(|certificates| certificates.first());
    let leaf = leaf.ok_or_else(|| Status::unauthenticated("a client certificate is needed; enrol this instance"))?;
    let peer = Peer::of_certificate(leaf.as_ref())
        .ok_or_else(|| Status::unauthenticated("the certificate names no instance; enrol this instance"))?;
    if peer.identity.cluster == *cluster {
        Ok(peer)
    } else {
        Err(Status::permission_denied(format!(
            "the certificate is of cluster {}, this is {cluster}; enrol this instance here",
            peer.identity.cluster
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pki::{Identity, Pki};
    use x509_parser::pem::parse_x509_pem;

    #[test]
    fn only_certificates_of_this_cluster_are_somebody() {
        let state = tempfile::tempdir().unwrap();
        let pki = Pki::open(state.path(), None).unwrap();
        let here: ClusterId = "here".parse().unwrap();
        let identity = |cluster: &ClusterId| Identity {
            cluster: cluster.clone(),
            fleet: "edge".parse().unwrap(),
            instance: "i-1".parse().unwrap(),
        };
        let der = |pem: &str| parse_x509_pem(pem.as_bytes()).unwrap().1.contents;
        let issued = |cluster: &ClusterId| der(&pki.authority().issue(&identity(cluster)).unwrap().certificate);
        let found = of_peer(Some(&[issued(&here)]), &here).unwrap();
        assert_eq!((found.identity, found.workload), (identity(&here), None));
        let code = |found: Result<Peer, Status>| found.unwrap_err().code();
        assert_eq!(
            code(of_peer(Some(&[issued(&"there".parse().unwrap())]), &here)),
            tonic::Code::PermissionDenied
        );
        assert_eq!(code(of_peer::<Vec<u8>>(None, &here)), tonic::Code::Unauthenticated);
        assert_eq!(
            code(of_peer(Some(&[der(&pki.server().certificate)]), &here)),
            tonic::Code::Unauthenticated
        );
    }
}
