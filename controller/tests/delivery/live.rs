//! The live lane end to end: what a folder says of Services and Secrets reaches those instances that need it, at once,
//! before the order that needs it, and after a reconnect only if it differs.

use super::*;
use rcgen::{CertificateParams, KeyPair};
use sluice_proto::LiveValue;

const API: &str = "Service default/api:http";
const TLS: &str = "Certificate default/tls";

fn issued() -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["a.example.com".to_owned()]).unwrap();
    (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
}

impl World {
    fn slice(&self, addresses: &[&str]) {
        let endpoints: Vec<String> = addresses.iter().map(|one| format!("{{addresses: [{one}]}}")).collect();
        self.write(
            "slice.yaml",
            &format!(
                "{{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {{name: api-1, labels: \
                 {{kubernetes.io/service-name: api}}}}, addressType: IPv4, ports: [{{name: http, port: 8080}}], \
                 endpoints: [{}]}}",
                endpoints.join(", ")
            ),
        );
    }

    fn secret(&self, chain: &str, key: &str) {
        let secret = serde_json::json!({
            "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls", "metadata": {"name": "tls"},
            "stringData": {"tls.crt": chain, "tls.key": key},
        });
        self.write("secret.json", &secret.to_string());
    }

    /// The route `a` with a certificate, and its pool with a Service.
    fn with_live_values(&self) -> (String, String) {
        self.write(
            "service.yaml",
            "{apiVersion: v1, kind: Service, metadata: {name: api}, spec: {ports: [{name: http, port: 80}]}}",
        );
        self.slice(&["10.0.0.1", "10.0.0.2"]);
        let (chain, key) = issued();
        self.secret(&chain, &key);
        self.write(
            "a.yaml",
            "{apiVersion: sluice.dev/v1alpha1, kind: ProxyRoute, metadata: {name: a}, spec: {\
             hostnames: [a.example.com], tls: {certificates: [{secretName: tls}]}, rules: [{name: r, pool: a}]}}\n---\n\
             {apiVersion: sluice.dev/v1alpha1, kind: Pool, metadata: {name: a}, spec: {service: {name: api, port: http}}}",
        );
        (chain, key)
    }
}

fn addresses(fake: &Fake) -> Vec<String> {
    match fake.value(API) {
        Some(LiveValue::Endpoints { endpoints, .. }) => endpoints.iter().map(|one| one.address.to_string()).collect(),
        Some(LiveValue::Certificate { .. } | LiveValue::Authorities { .. }) => panic!("a certificate"),
        None => vec![],
    }
}

fn problem(controller: &Handle, expected: &str) -> bool {
    controller
        .problems()
        .iter()
        .any(|problem| problem.to_string().contains(expected))
}

#[tokio::test(flavor = "multi_thread")]
async fn values_reach_instances_before_their_order_and_as_they_change() {
    let world = World::new();
    let (_, key) = world.with_live_values();
    let (controller, mut fleet) = world.serving().await;
    let both = [TLS.to_owned(), API.to_owned()];
    for fake in &fleet {
        let log = fake.log();
        let order = log.iter().position(|line| line == "order").unwrap();
        for subject in &both {
            assert!(
                log[..order].contains(subject),
                "{subject} comes before the order: {log:?}"
            );
        }
        assert_eq!(addresses(fake), ["10.0.0.1:8080", "10.0.0.2:8080"]);
    }
    let (epoch, record) = (status(&controller).epoch, world.record());

    world.slice(&["10.0.0.2", "10.0.0.3"]);
    until("everybody has the new endpoints", || {
        fleet
            .iter()
            .all(|fake| addresses(fake) == ["10.0.0.2:8080", "10.0.0.3:8080"])
    })
    .await;
    assert_eq!(status(&controller).epoch, epoch, "no order");
    assert_eq!(world.record()["stable"], record["stable"], "no revision");

    // A key of another certificate is not taken, and nothing of it is said.
    let before = fleet[0].value(TLS);
    let (other_chain, _) = issued();
    world.secret(&other_chain, &key);
    until("the mismatch is told", || {
        problem(&controller, "is not the private key of the certificate")
    })
    .await;
    assert!(
        controller
            .lines_after(0)
            .iter()
            .any(|line| line.kind == "certificateRefused")
    );
    assert_eq!(fleet[0].value(TLS), before);
    let (chain, key) = issued();
    world.secret(&chain, &key);
    until("the renewed certificate is there", || {
        fleet
            .iter()
            .all(|fake| fake.value(TLS).is_some_and(|value| Some(value) != before))
    })
    .await;
    until("the problem is gone", || {
        !problem(&controller, "is not the private key")
    })
    .await;
    for printed in controller
        .problems()
        .iter()
        .map(ToString::to_string)
        .chain(controller.lines_after(0).into_iter().map(|line| line.text))
    {
        assert!(!printed.contains("PRIVATE"), "{printed}");
    }

    // Away while something changes: of what it holds only that is sent again.
    let to = controller.stream_addr();
    fleet[1].disconnect();
    world.slice(&["10.0.0.4"]);
    until("the others know", || addresses(&fleet[0]) == ["10.0.0.4:8080"]).await;
    fleet[1].connect(to, Manners::Good);
    until("it has caught up", || addresses(&fleet[1]) == ["10.0.0.4:8080"]).await;
    let again = fleet[1].log();
    assert!(!again.contains(&TLS.to_owned()), "{again:?}");

    // A controller that starts anew has higher stamps than any it gave.
    let term = fleet[2]
        .held
        .lock()
        .unwrap()
        .values
        .values()
        .map(|update| update.stamp.term)
        .max();
    controller.shutdown().await;
    fleet.iter_mut().for_each(Fake::disconnect);
    let controller = world.start().await;
    connect(&mut fleet, controller.stream_addr());
    world.slice(&["10.0.0.5"]);
    until("the new controller is followed", || {
        fleet.iter().all(|fake| addresses(fake) == ["10.0.0.5:8080"])
    })
    .await;
    let later = fleet[2]
        .held
        .lock()
        .unwrap()
        .values
        .values()
        .map(|update| update.stamp.term)
        .max();
    assert!(later > term, "{later:?} {term:?}");
    controller.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sudden_loss_is_braked_and_a_refusal_is_told() {
    let world = World::new();
    world.with_live_values();
    let all: Vec<String> = (1..=6).map(|n| format!("10.0.0.{n}")).collect();
    world.slice(&all.iter().map(String::as_str).collect::<Vec<_>>());
    let (controller, mut fleet) = world.serving().await;
    until("all endpoints are known", || addresses(&fleet[0]).len() == 6).await;
    world.slice(&["10.0.0.1"]);
    let told = |kind: &str| controller.lines_after(0).iter().any(|line| line.kind == kind);
    until("the brake holds", || told("brakeHolds")).await;
    assert_eq!(addresses(&fleet[0]).len(), 6);
    until("the loss is believed", || addresses(&fleet[0]) == ["10.0.0.1:8080"]).await;
    assert!(told("brakeReleased"));

    fleet[0].connect(controller.stream_addr(), Manners::RefusesValues);
    world.slice(&["10.0.0.9"]);
    until("the refusal is told", || {
        let said = |line: &sluice_controller::pipeline::StoryLine| {
            line.text
                .contains("refuses Service default/api:http (check): not liked")
        };
        controller.lines_after(0).iter().any(said)
    })
    .await;
    controller.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_go_only_to_those_whose_fleet_refers_to_them() {
    let world = World::new();
    world.with_live_values();
    // Another fleet, whose instances have no business with the certificate.
    world.write(
        "other.yaml",
        "{apiVersion: sluice.dev/v1alpha1, kind: Rollout, metadata: {name: other}, spec: {fleet: other, \
         dataPlane: {listeners: [{name: http, port: 8081}]}}}\n---\n\
         {apiVersion: sluice.dev/v1alpha1, kind: ProxyRoute, metadata: {name: other}, spec: {fleet: other, \
         hostnames: [other.example.com], rules: [{name: r, pool: a}]}}",
    );
    let (controller, fleet) = world.serving().await;
    let mut stranger = Fake::enroll_in(world.state.path(), "other", "o-1");
    stranger.connect(controller.stream_addr(), Manners::Good);
    until("the other fleet serves, with endpoints", || {
        number(&stranger).is_some() && addresses(&stranger).len() == 2
    })
    .await;
    assert!(fleet[0].value(TLS).is_some());
    assert_eq!(stranger.value(TLS), None);
    assert!(!stranger.log().contains(&TLS.to_owned()));
    controller.shutdown().await;
}
