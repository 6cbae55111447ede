//! Kubernetes' own kinds in a folder: Services, EndpointSlices and TLS Secrets, as the YAML that `kubectl` takes. They
//! are no objects of Sluice: what they say is the values of the live lane, for whatever objects refer to.
//!
//! A Secret is taken apart at once, and nothing of it is kept or quoted but its certificate and key.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Secret, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use serde::de::DeserializeOwned;
use sluice_model::{CertificateRef, Name, ServiceRef};
use tokio::sync::watch;

use super::shares::{Share, Sharing};
use super::yaml::Node;
use super::{Coverage, Shares};
use crate::live::resolve::{self, AUTHORITIES_KEY, SERVICE_NAME_LABEL, TLS_SECRET_TYPE};
use crate::live::{AuthoritiesState, CertificateState, Feed, Lack, SecretStates, ServiceState, Values, Wanted};

/// One document of a kind that is read here.
#[derive(Clone, Debug)]
pub enum Document {
    /// A Service.
    Service(Place, Arc<Service>),
    /// Some endpoints of the Service at this place.
    Slice(Place, Arc<EndpointSlice>),
    /// A Secret, as what it is on the live lane, and with whom it is shared.
    Secret(Place, Box<SecretStates>, Share),
}

/// A namespace and a name.
pub type Place = (Name, Name);

/// Why a document cannot be read: the field and what is wrong with it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Unreadable {
    /// The field, as in `metadata.name`; empty for the document.
    pub field: &'static str,
    /// What is wrong, and how to mend it.
    pub lack: Lack,
}

/// What a folder holds of Kubernetes' own kinds.
#[derive(Clone, Debug, Default)]
pub struct Core {
    services: BTreeMap<Place, Arc<Service>>,
    slices: BTreeMap<Place, Vec<Arc<EndpointSlice>>>,
    secrets: BTreeMap<Place, SecretStates>,
    coverage: Coverage,
}

/// What `document` says, if it is of a kind that is read here; Secrets of other types are not.
pub fn read(document: &Node) -> Option<Result<Document, Unreadable>> {
    let text = |field: &str| document.get(field).and_then(Node::text);
    match (text("apiVersion")?, text("kind")?) {
        ("v1", "Service") => Some(service(document)),
        ("discovery.k8s.io/v1", "EndpointSlice") => Some(slice(document)),
        ("v1", "Secret") if text("type") == Some(TLS_SECRET_TYPE) || holds(document, AUTHORITIES_KEY) => {
            Some(secret(document))
        }
        _ => None,
    }
}

/// Whether a Secret has this key.
fn holds(document: &Node, key: &str) -> bool {
    let maps = ["data", "stringData"].into_iter().filter_map(|map| document.get(map));
    maps.into_iter().any(|map| map.get(key).is_some())
}

fn unreadable(field: &'static str, message: impl Into<String>, fix: &str) -> Unreadable {
    Unreadable {
        field,
        lack: Lack::new(message, fix),
    }
}

fn place(document: &Node) -> Result<Place, Unreadable> {
    let metadata = document.get("metadata");
    let field = |name: &str| metadata.and_then(|metadata| metadata.get(name)).and_then(Node::text);
    let name = field("name").ok_or_else(|| unreadable("metadata.name", "this field is required", "add it"))?;
    let namespace = field("namespace").unwrap_or("default");
    let parsed = |field: &'static str, text: &str| {
        text.parse::<Name>()
            .map_err(|error| unreadable(field, error.to_string(), "rename it"))
    };
    Ok((parsed("metadata.namespace", namespace)?, parsed("metadata.name", name)?))
}

fn typed<T: DeserializeOwned>(document: &Node) -> Result<T, Unreadable> {
    serde_json::from_value(document.to_json())
        .map_err(|error| unreadable("", error.to_string(), "write it as `kubectl get -o yaml` shows it"))
}

fn service(document: &Node) -> Result<Document, Unreadable> {
    Ok(Document::Service(place(document)?, Arc::new(typed(document)?)))
}

fn slice(document: &Node) -> Result<Document, Unreadable> {
    let (namespace, _) = place(document)?;
    let slice: EndpointSlice = typed(document)?;
    let labels = slice.metadata.labels.as_ref();
    let service = labels.and_then(|labels| labels.get(SERVICE_NAME_LABEL));
    let service = service.and_then(|name| name.parse().ok()).ok_or_else(|| {
        let what = format!("no label {SERVICE_NAME_LABEL} says whose endpoints these are");
        unreadable("metadata.labels", what, "add it, with the name of the Service")
    })?;
    Ok(Document::Slice((namespace, service), Arc::new(slice)))
}

fn secret(document: &Node) -> Result<Document, Unreadable> {
    let place = place(document)?;
    // What the reader has against it might quote it.
    let secret: Secret = typed(document).map_err(|_| {
        unreadable(
            "data",
            "the Secret cannot be read",
            "give tls.crt and tls.key as text under stringData, or in base64 under data",
        )
    })?;
    let share = Share::of(secret.metadata.annotations.as_ref());
    Ok(Document::Secret(place, Box::new(resolve::secret(&secret)), share))
}

impl Core {
    /// What these documents say, out of a folder of which so much was seen.
    pub fn new<'a>(documents: impl IntoIterator<Item = &'a Document>, coverage: Coverage) -> Self {
        let mut core = Self {
            coverage,
            ..Self::default()
        };
        for document in documents {
            match document {
                Document::Service(place, service) => drop(core.services.insert(place.clone(), service.clone())),
                Document::Slice(place, slice) => core.slices.entry(place.clone()).or_default().push(slice.clone()),
                Document::Secret(place, states, _) => {
                    drop(core.secrets.insert(place.clone(), SecretStates::clone(states)))
                }
            }
        }
        core
    }

    /// What is known of `wanted`. What is not there may be in a file that cannot be read: then it is unknown.
    pub fn values(&self, wanted: &Wanted) -> Values {
        let services = wanted
            .services
            .iter()
            .map(|wanted| (wanted.clone(), self.service(wanted)));
        let certificates = wanted.certificates.iter();
        let authorities = wanted.authorities.iter();
        Values {
            services: services.collect(),
            certificates: certificates
                .map(|wanted| (wanted.clone(), self.certificate(wanted)))
                .collect(),
            authorities: authorities
                .map(|wanted| (wanted.clone(), self.authorities(wanted)))
                .collect(),
        }
    }

    fn service(&self, wanted: &ServiceRef) -> ServiceState {
        let place = (wanted.namespace.clone(), wanted.name.clone());
        let found = self.services.get(&place).map(Arc::as_ref);
        let slices = self.slices.get(&place).into_iter().flatten().map(Arc::as_ref);
        // Endpoints are as a whole or not at all: slices may be in what was not seen.
        match self.coverage {
            Coverage::Whole => resolve::service(wanted, found, slices),
            Coverage::Except(_) | Coverage::Without(_) | Coverage::Nothing => ServiceState::Unknown,
        }
    }

    fn authorities(&self, wanted: &CertificateRef) -> AuthoritiesState {
        let CertificateRef { namespace, name } = wanted;
        match (self.secrets.get(&(namespace.clone(), name.clone())), &self.coverage) {
            (Some(states), _) => states.authorities.clone(),
            (None, Coverage::Except(_) | Coverage::Without(_) | Coverage::Nothing) => AuthoritiesState::Unknown,
            (None, Coverage::Whole) => AuthoritiesState::Missing(Lack::new(
                format!(
                    "there is no Secret {:?} with {AUTHORITIES_KEY} in namespace {namespace}",
                    name.as_str()
                ),
                "add it, or correct the name",
            )),
        }
    }

    fn certificate(&self, wanted: &CertificateRef) -> CertificateState {
        let CertificateRef { namespace, name } = wanted;
        match (self.secrets.get(&(namespace.clone(), name.clone())), &self.coverage) {
            (Some(states), _) => states.certificate.clone(),
            (None, Coverage::Except(_) | Coverage::Without(_) | Coverage::Nothing) => CertificateState::Unknown,
            (None, Coverage::Whole) => CertificateState::Missing(Lack::new(
                format!(
                    "there is no Secret {:?} of type {TLS_SECRET_TYPE} in namespace {namespace}",
                    name.as_str()
                ),
                "add it, as `kubectl create secret tls` does, or correct the name",
            )),
        }
    }
}

/// With whom the Secrets among `documents` are shared, out of a folder of which so much was seen.
pub fn shares<'a>(documents: impl IntoIterator<Item = &'a Document>, coverage: &Coverage) -> Shares {
    let known = documents.into_iter().filter_map(|document| match document {
        Document::Service(..) | Document::Slice(..) => None,
        Document::Secret((namespace, name), _, share) => Some((
            CertificateRef {
                namespace: namespace.clone(),
                name: name.clone(),
            },
            Sharing::Known(share.clone()),
        )),
    });
    let others = match coverage {
        Coverage::Whole => Sharing::Missing,
        Coverage::Except(_) | Coverage::Without(_) | Coverage::Nothing => Sharing::Unseen(Lack::new(
            "it may be in a file that cannot be read",
            "mend that file: another Problem says how",
        )),
    };
    Shares {
        known: known.collect(),
        others,
    }
}

/// The values of a folder, as somebody wants them: the feed, and the work behind it, which ends with either side.
pub fn feed(mut core: watch::Receiver<Arc<Core>>) -> (Feed, impl Future<Output = ()> + Send) {
    let (publish, values) = watch::channel(Arc::new(Values::default()));
    let (wanted, mut asked) = watch::channel(Arc::new(Wanted::default()));
    let feeding = async move {
        loop {
            let now = core.borrow_and_update().values(&asked.borrow_and_update());
            publish.send_if_modified(|shown| {
                let differs = **shown != now;
                if differs {
                    *shown = Arc::new(now);
                }
                differs
            });
            let more = tokio::select! {
                more = core.changed() => more,
                more = asked.changed() => more,
            };
            if more.is_err() {
                return;
            }
        }
    };
    (Feed { values, wanted }, feeding)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::yaml;

    fn documents(text: &str) -> Vec<Result<Document, Unreadable>> {
        let nodes = yaml::documents(text).unwrap();
        nodes.iter().filter_map(read).collect()
    }

    const SHOP: &str = "
apiVersion: v1
kind: Service
metadata: {name: api, namespace: shop}
spec: {ports: [{name: http, port: 80}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: api-1, namespace: shop, labels: {kubernetes.io/service-name: api}}
addressType: IPv4
endpoints: [{addresses: [10.0.0.1]}]
ports: [{name: http, port: 8080}]
---
apiVersion: v1
kind: Secret
metadata: {name: other, namespace: shop}
stringData: {password: x}
";

    fn wanted(subjects: &[&str]) -> Wanted {
        subjects.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn a_folder_says_what_a_cluster_would() {
        let documents: Vec<Document> = documents(SHOP).into_iter().map(Result::unwrap).collect();
        assert_eq!(documents.len(), 2, "other Secrets are not looked at");
        let wanted = wanted(&["Service shop/api:http", "Service shop/gone:80", "Certificate shop/tls"]);
        let whole = Core::new(&documents, Coverage::Whole).values(&wanted);
        let ServiceState::Endpoints(endpoints) = whole.service(&"shop/api:http".parse().unwrap()) else {
            panic!("{whole:?}")
        };
        assert_eq!(endpoints[0].address, "10.0.0.1:8080".parse().unwrap());
        assert!(matches!(
            whole.service(&"shop/gone:80".parse().unwrap()),
            ServiceState::Missing(_)
        ));
        let tls = "shop/tls".parse().unwrap();
        assert!(matches!(whole.certificate(&tls), CertificateState::Missing(_)));
        // What is not seen is not gone.
        let part = Core::new(&documents, Coverage::Except(["half.yaml".into()].into())).values(&wanted);
        assert_eq!(part.certificate(&tls), &CertificateState::Unknown);
        assert_eq!(part.service(&"shop/api:http".parse().unwrap()), &ServiceState::Unknown);
    }

    #[test]
    fn a_secret_with_authorities_is_looked_at_whatever_its_type() {
        let params = rcgen::CertificateParams::new(vec!["ca.test".to_owned()]).unwrap();
        let pem = params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap().pem();
        let secret = serde_json::json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "clients", "namespace": "shop"},
            "stringData": {"ca.crt": pem},
        });
        let documents: Vec<Document> = documents(&secret.to_string()).into_iter().map(Result::unwrap).collect();
        let wanted = wanted(&[
            "Authorities shop/clients",
            "Authorities shop/gone",
            "Certificate shop/clients",
        ]);
        let clients = "shop/clients".parse().unwrap();
        let whole = Core::new(&documents, Coverage::Whole).values(&wanted);
        assert!(matches!(whole.authorities(&clients), AuthoritiesState::Certificates(found) if found.len() == 1));
        assert!(matches!(whole.certificate(&clients), CertificateState::Refused(_)));
        let gone = "shop/gone".parse().unwrap();
        assert!(matches!(whole.authorities(&gone), AuthoritiesState::Missing(_)));
        let part = Core::new(&documents, Coverage::Except(["half.yaml".into()].into())).values(&wanted);
        assert_eq!(part.authorities(&gone), &AuthoritiesState::Unknown);
    }

    #[test]
    fn what_cannot_be_read_is_told_and_secrets_are_not_quoted() {
        let check = |text: &str, field: &str, expected: &str| {
            let found = documents(text).remove(0).unwrap_err();
            assert_eq!(found.field, field, "{found:?}");
            assert!(found.lack.message.contains(expected), "{found:?}");
            assert!(!format!("{found:?}").contains("hush"), "{found:?}");
        };
        check("{apiVersion: v1, kind: Service}", "metadata.name", "required");
        check(
            "{apiVersion: v1, kind: Service, metadata: {name: A}}",
            "metadata.name",
            "not a valid name",
        );
        let slice = "{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: a}, addressType: IPv4, endpoints: []}";
        check(slice, "metadata.labels", "kubernetes.io/service-name");
        let secret =
            "{apiVersion: v1, kind: Secret, type: kubernetes.io/tls, metadata: {name: a}, data: {tls.key: 'hush!'}}";
        check(secret, "data", "cannot be read");
    }

    #[tokio::test]
    async fn a_feed_follows_both_sides() {
        let documents: Vec<Document> = documents(SHOP).into_iter().map(Result::unwrap).collect();
        let (show, core) = watch::channel(Arc::new(Core::default()));
        let (mut feed, feeding) = feed(core);
        let work = tokio::spawn(feeding);
        let api = "shop/api:http".parse().unwrap();
        feed.wanted.send_replace(Arc::new(wanted(&["Service shop/api:http"])));
        let missing = |values: &Arc<Values>| matches!(values.service(&api), ServiceState::Missing(_));
        feed.values.wait_for(missing).await.unwrap();
        show.send_replace(Arc::new(Core::new(&documents, Coverage::Whole)));
        let there = |values: &Arc<Values>| matches!(values.service(&api), ServiceState::Endpoints(_));
        feed.values.wait_for(there).await.unwrap();
        drop(show);
        work.await.unwrap();
    }
}
