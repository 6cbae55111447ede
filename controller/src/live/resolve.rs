//! Kubernetes' objects → what they mean on the live lane: a Service with its EndpointSlices, a Secret with a
//! certificate. Pure, so that every source (a folder, an API server) says the same of the same objects.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Secret, Service, ServicePort as PortSpec};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};
use sluice_model::{ServicePort, ServiceRef};
use sluice_proto::{EndpointState, LiveEndpoint};

use super::{CertificateState, Lack, Material, ServiceState};

/// The label by which an EndpointSlice names its Service.
pub const SERVICE_NAME_LABEL: &str = "kubernetes.io/service-name";
/// The type of Secrets that hold a certificate.
pub const TLS_SECRET_TYPE: &str = "kubernetes.io/tls";

/// What is known of `wanted`, given its Service (`None`: there is none) and the EndpointSlices of that Service.
pub fn service<'a>(
    wanted: &ServiceRef,
    found: Option<&Service>,
    slices: impl IntoIterator<Item = &'a EndpointSlice>,
) -> ServiceState {
    let Some(found) = found else {
        let what = format!(
            "there is no Service {:?} in namespace {}",
            wanted.name.as_str(),
            wanted.namespace
        );
        return ServiceState::Missing(Lack::new(what, "create it, or correct the name"));
    };
    let spec = found.spec.as_ref();
    if spec.and_then(|spec| spec.type_.as_deref()) == Some("ExternalName") {
        let what = format!(
            "Service {} is of type ExternalName, which has no endpoints",
            wanted.name
        );
        return ServiceState::Unusable(Lack::new(
            what,
            "use a Service that selects pods, or write the endpoints",
        ));
    }
    let ports = spec.and_then(|spec| spec.ports.as_deref()).unwrap_or_default();
    let Some(port) = ports.iter().find(|port| is(port, &wanted.port)) else {
        return ServiceState::Missing(no_port(wanted, ports));
    };
    // A slice's port bears the name of the Service's; its number is where the pods listen.
    let name = port.name.as_deref().unwrap_or_default();
    let mut endpoints: BTreeMap<SocketAddr, LiveEndpoint> = BTreeMap::new();
    for slice in slices {
        for endpoint in of_slice(slice, name) {
            match endpoints.get(&endpoint.address) {
                // Slices overlap while endpoints move between them; whoever is ready in one is ready.
                Some(known) if known.state <= endpoint.state => {}
                Some(_) | None => drop(endpoints.insert(endpoint.address, endpoint)),
            }
        }
    }
    ServiceState::Endpoints(endpoints.into_values().collect::<Vec<_>>().into())
}

fn is(port: &PortSpec, wanted: &ServicePort) -> bool {
    let tcp = port.protocol.as_deref().unwrap_or("TCP") == "TCP";
    tcp && match wanted {
        ServicePort::Named(name) => port.name.as_deref() == Some(name.as_str()),
        ServicePort::Number(number) => port.port == i32::from(*number),
    }
}

fn no_port(wanted: &ServiceRef, ports: &[PortSpec]) -> Lack {
    let tell = |port: &PortSpec| match (port.name.as_deref(), port.protocol.as_deref().unwrap_or("TCP")) {
        (Some(name), "TCP") => format!("{name} ({})", port.port),
        (None, "TCP") => port.port.to_string(),
        (_, protocol) => format!("{} ({protocol})", port.port),
    };
    let has: Vec<String> = ports.iter().map(tell).collect();
    let has = if has.is_empty() {
        "none".to_owned()
    } else {
        has.join(", ")
    };
    let what = format!("Service {} has no TCP port {}; it has {has}", wanted.name, wanted.port);
    Lack::new(what, "correct the port, by its name or number in the Service")
}

fn of_slice<'a>(slice: &'a EndpointSlice, port_name: &'a str) -> impl Iterator<Item = LiveEndpoint> + 'a {
    let ports = slice.ports.iter().flatten();
    let of_name = move |name: Option<&str>| name.unwrap_or_default() == port_name;
    let ports = ports.filter(move |port| of_name(port.name.as_deref()));
    let numbers = ports.filter_map(|port| port.port.and_then(|number| u16::try_from(number).ok()));
    // "FQDN" slices hold names, which are not looked up.
    let family = |address: &IpAddr| match slice.address_type.as_str() {
        "IPv4" => address.is_ipv4(),
        "IPv6" => address.is_ipv6(),
        _ => false,
    };
    numbers.filter(|number| *number > 0).flat_map(move |number| {
        let endpoints = slice.endpoints.iter();
        endpoints.flat_map(move |endpoint| {
            let addresses = endpoint
                .addresses
                .iter()
                .filter_map(|text| text.parse().ok())
                .filter(family);
            addresses.filter_map(move |address| live(endpoint, SocketAddr::new(address, number)))
        })
    })
}

/// Ready and serving default to true, terminating to false, when a slice does not say (its API's words).
fn live(endpoint: &Endpoint, address: SocketAddr) -> Option<LiveEndpoint> {
    let conditions = endpoint.conditions.as_ref();
    let ready = conditions.and_then(|conditions| conditions.ready).unwrap_or(true);
    let serving = conditions.and_then(|conditions| conditions.serving).unwrap_or(ready);
    let terminating = conditions
        .and_then(|conditions| conditions.terminating)
        .unwrap_or(false);
    let state = match (ready, serving && terminating) {
        (true, _) => EndpointState::Ready,
        (false, true) => EndpointState::Draining,
        (false, false) => return None,
    };
    Some(LiveEndpoint {
        address,
        state,
        zone: endpoint.zone.as_deref().and_then(|zone| zone.parse().ok()),
    })
}

/// What is known of a certificate, given its Secret. Nothing that is said quotes it.
pub fn certificate(secret: &Secret) -> CertificateState {
    let type_ = secret.type_.as_deref().unwrap_or("Opaque");
    if type_ != TLS_SECRET_TYPE {
        return CertificateState::Refused(Lack::new(
            format!("the Secret is of type {type_}"),
            format!("make it one of type {TLS_SECRET_TYPE}, as `kubectl create secret tls` does"),
        ));
    }
    let text = |key: &str| {
        let written = secret.string_data.as_ref().and_then(|data| data.get(key));
        let encoded = secret.data.as_ref().and_then(|data| data.get(key));
        // As in the API server: what is written in the clear wins.
        let found = written
            .map(|text| text.as_bytes())
            .or(encoded.map(|bytes| bytes.0.as_slice()));
        found.ok_or_else(|| {
            Lack::new(
                format!("the Secret has no {key}"),
                "it needs tls.crt and tls.key, as `kubectl create secret tls` makes them",
            )
        })
    };
    let material = text("tls.crt").and_then(|chain| Material::parse(chain, text("tls.key")?));
    match material {
        Ok(material) => CertificateState::Material(Arc::new(material)),
        Err(lack) => CertificateState::Refused(lack),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn read<T: serde::de::DeserializeOwned>(value: Value) -> T {
        serde_json::from_value(value).unwrap()
    }

    fn api() -> Service {
        read(
            json!({"metadata": {"name": "api", "namespace": "shop"}, "spec": {"ports": [
                {"name": "http", "port": 80, "targetPort": 8080}, {"name": "dns", "port": 53, "protocol": "UDP"},
            ]}}),
        )
    }

    fn slice(endpoints: Value) -> EndpointSlice {
        read(json!({"addressType": "IPv4", "endpoints": endpoints, "ports": [
            {"name": "http", "port": 8080}, {"name": "metrics", "port": 9090},
        ]}))
    }

    fn check(wanted: &str, found: Option<&Service>, slices: &[EndpointSlice], expected: &[&str]) {
        let told = match service(&wanted.parse().unwrap(), found, slices) {
            ServiceState::Unknown => vec!["unknown".to_owned()],
            ServiceState::Missing(lack) | ServiceState::Unusable(lack) | ServiceState::Unseen(lack) => {
                vec![lack.message]
            }
            ServiceState::Endpoints(endpoints) => {
                let one = |endpoint: &LiveEndpoint| {
                    let zone = endpoint
                        .zone
                        .as_ref()
                        .map(|zone| format!(" {zone}"))
                        .unwrap_or_default();
                    format!("{} {:?}{zone}", endpoint.address, endpoint.state)
                };
                endpoints.iter().map(one).collect()
            }
        };
        assert_eq!(told, expected, "{wanted}");
    }

    #[test]
    fn endpoints_are_where_pods_listen_as_ready_as_they_are() {
        let endpoints = slice(json!([
            {"addresses": ["10.0.0.2"], "conditions": {"ready": true}, "zone": "a"},
            {"addresses": ["10.0.0.1"]},
            {"addresses": ["10.0.0.3"], "conditions": {"ready": false, "serving": true, "terminating": true}},
            {"addresses": ["10.0.0.4"], "conditions": {"ready": false, "serving": false, "terminating": true}},
            {"addresses": ["10.0.0.5"], "conditions": {"ready": false}},
            {"addresses": ["::1"]},
        ]));
        let expected = ["10.0.0.1:8080 Ready", "10.0.0.2:8080 Ready a", "10.0.0.3:8080 Draining"];
        check(
            "shop/api:http",
            Some(&api()),
            std::slice::from_ref(&endpoints),
            &expected,
        );
        check("shop/api:80", Some(&api()), std::slice::from_ref(&endpoints), &expected);
        // The same address in two slices, ready in one.
        let again = slice(json!([{"addresses": ["10.0.0.3"], "conditions": {"ready": true}}]));
        let both = ["10.0.0.1:8080 Ready", "10.0.0.2:8080 Ready a", "10.0.0.3:8080 Ready"];
        check("shop/api:80", Some(&api()), &[endpoints.clone(), again.clone()], &both);
        check("shop/api:80", Some(&api()), &[again, endpoints], &both);
        check("shop/api:80", Some(&api()), &[], &[]);
    }

    #[test]
    fn what_is_not_there_is_told() {
        check(
            "shop/api:80",
            None,
            &[],
            &["there is no Service \"api\" in namespace shop"],
        );
        let has = "it has http (80), 53 (UDP)";
        check(
            "shop/api:8080",
            Some(&api()),
            &[],
            &[&format!("Service api has no TCP port 8080; {has}")],
        );
        check(
            "shop/api:dns",
            Some(&api()),
            &[],
            &[&format!("Service api has no TCP port dns; {has}")],
        );
        let external: Service = read(json!({"spec": {"type": "ExternalName", "externalName": "a.test"}}));
        check(
            "shop/api:80",
            Some(&external),
            &[],
            &["Service api is of type ExternalName, which has no endpoints"],
        );
        let state = service(&"shop/api:80".parse().unwrap(), Some(&external), []);
        assert!(matches!(state, ServiceState::Unusable(_)), "{state:?}");
    }

    #[test]
    fn secrets_are_read_in_the_clear_and_encoded() {
        use base64::Engine as _;
        let (chain, key) = super::super::material::tests::issued(&["a.test"]);
        let encode = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
        let clear = json!({"type": TLS_SECRET_TYPE, "stringData": {"tls.crt": chain, "tls.key": key}});
        let encoded = json!({"type": TLS_SECRET_TYPE, "data": {"tls.crt": encode(&chain), "tls.key": encode(&key)}});
        for secret in [clear, encoded] {
            assert!(matches!(certificate(&read(secret)), CertificateState::Material(_)));
        }
        for (secret, expected) in [
            (
                json!({"type": TLS_SECRET_TYPE, "stringData": {"tls.crt": chain}}),
                "has no tls.key",
            ),
            (json!({"type": TLS_SECRET_TYPE}), "has no tls.crt"),
            (
                json!({"stringData": {"tls.crt": chain, "tls.key": key}}),
                "of type Opaque",
            ),
        ] {
            let CertificateState::Refused(lack) = certificate(&read(secret)) else {
                panic!("not refused")
            };
            assert!(lack.message.contains(expected), "{lack:?}");
        }
    }
}
