//! Instances that enrol themselves, as pods do: real data-plane processes, and the parts of a controller as Kubernetes
//! composes them, with somebody made up in the place of the API server.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

#[path = "enrol/cluster.rs"]
mod cluster;
#[path = "enrol/pod.rs"]
mod pod;

use std::time::{Duration, Instant};

use cluster::Cluster;
use pod::Pod;
use sluice_e2e::load::{Load, Plan};
use sluice_e2e::upstream::{Upstream, stamp};
use sluice_e2e::wait::{unix_ms, wait_until};

const HOST: &str = "pod.example.com";
const PATIENCE: Duration = Duration::from_secs(60);

/// An instance that has enrolled, and serves.
async fn enrolled(cluster: &Cluster) -> Pod {
    let mut pod = Pod::new("edge-a", "00000001");
    pod.trust(cluster);
    pod.give_token("good");
    pod.start(cluster.address);
    pod.ready().await;
    pod
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_waits_for_what_it_needs_serves_and_comes_back_with_nobody_there() {
    let upstream = Upstream::start();
    let cluster = Cluster::start(HOST, upstream.endpoint(1)).await;
    let mut pod = Pod::new("edge-a", "00000001");
    pod.start(cluster.address);
    pod.says("/healthz", 200, "alive").await;
    pod.says("/ready", 503, "not enrolled: ").await;
    pod.says("/ready", 503, "ca.pem: cannot be read").await;
    pod.says("/metrics", 200, "proxy_identity_not_after_seconds 0").await;
    pod.trust(&cluster);
    pod.says("/ready", 503, "token: there is no such file").await;
    pod.give_token("expired");
    pod.says("/ready", 503, "the token has ended").await;
    pod.give_token("good");
    pod.ready().await;
    assert_eq!(pod.live().await["instance"], "edge-a.00000001");
    assert_eq!(pod.answer(HOST).await, stamp(1));
    let private = "memory/identity/pair.pem";
    assert_eq!(pod.mode(private), 0o600, "{private}");
    let now = unix_ms() as f64 / 1_000.0;
    assert!(pod.metric("proxy_identity_not_after_seconds").await > now + 23.0 * 3_600.0);

    // The container ends, and nobody is there: no controller, no files of trust, no token.
    cluster.stop().await;
    pod.kill();
    pod.forget_trust();
    pod.give_token("");
    let began = Instant::now();
    pod.start(cluster.address);
    pod.ready().await;
    let took = began.elapsed();
    assert!(took < Duration::from_secs(1), "{took:?}");
    assert_eq!(pod.answer(HOST).await, stamp(1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_are_renewed_by_themselves_and_those_that_have_ended_by_token() {
    let upstream = Upstream::start();
    let cluster = Cluster::start(HOST, upstream.endpoint(1)).await;
    let mut pod = enrolled(&cluster).await;
    let first = pod.certificate();
    let reviews = cluster.reviews();

    pod.stop().await;
    pod.renew_now();
    pod.start(cluster.address);
    wait_until("a renewed certificate", PATIENCE, || async {
        (pod.certificate() != first).then_some(()).ok_or("not renewed")
    })
    .await;
    assert_eq!(cluster.reviews(), reviews, "by the one that it replaced");

    pod.stop().await;
    cluster.end_certificate(&pod);
    let ended = pod.certificate();
    pod.start(cluster.address);
    pod.ready().await;
    wait_until("another certificate", PATIENCE, || async {
        (pod.certificate() != ended).then_some(()).ok_or("not enrolled anew")
    })
    .await;
    assert!(cluster.reviews() > reviews, "by its token");
    pod.connected().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_instance_that_is_let_in_no_more_serves_on_and_is_listed_with_the_reason() {
    let upstream = Upstream::start();
    let cluster = Cluster::start(HOST, upstream.endpoint(1)).await;
    let pod = enrolled(&cluster).await;
    pod.connected().await;
    let is_listed = |wanted: &'static str, connected: bool| {
        let (cluster, id) = (&cluster, pod.id.clone());
        async move {
            wait_until(wanted, PATIENCE, || async {
                let listed = cluster.listed(&id);
                let is_so = listed
                    .as_ref()
                    .is_some_and(|(is, reason)| *is == connected && reason.contains(wanted));
                is_so.then_some(()).ok_or(listed)
            })
            .await;
        }
    };
    cluster.send_away();
    is_listed(
        "no Rollout has the service account sluice-system/sluice-dataplane",
        false,
    )
    .await;
    assert_eq!(pod.answer(HOST).await, stamp(1), "it serves on");
    cluster.let_in();
    is_listed("", true).await;
    pod.connected().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_and_authorities_are_replaced_under_load_without_a_failed_request() {
    let upstream = Upstream::start();
    let mut cluster = Cluster::start(HOST, upstream.endpoint(1)).await;
    let mut pod = enrolled(&cluster).await;
    let load = Load::start("keys", Plan::new(pod.http, HOST, "/", 200));

    cluster.begin_rotation();
    pod.trust(&cluster);
    pod.has_heard_of(&cluster).await;
    cluster.next_phase().await;
    pod.connected().await;
    pod.holds_what_new_keys_have_signed(&cluster).await;
    cluster.next_phase().await;
    pod.trust(&cluster);
    pod.has_heard_of(&cluster).await;
    pod.connected().await;

    // A change comes through, signed by the new keys alone.
    cluster.route(HOST, upstream.endpoint(2));
    wait_until("the change to be stable", PATIENCE, || async {
        let (answer, candidate) = (pod.answer(HOST).await, pod.live().await["candidate"].clone());
        let is_so = answer == stamp(2) && candidate.is_null();
        is_so.then_some(()).ok_or((answer, candidate))
    })
    .await;
    let outcomes = load.stop().await;
    assert_eq!(outcomes.failures().count(), 0, "{}", outcomes.summary());

    cluster.stop().await;
    pod.kill();
    pod.start(cluster.address);
    pod.ready().await;
    assert_eq!(
        pod.answer(HOST).await,
        stamp(2),
        "what is on disk is signed by the new keys"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_instance_that_was_away_for_the_first_half_of_a_replacement_catches_up() {
    let upstream = Upstream::start();
    let mut cluster = Cluster::start(HOST, upstream.endpoint(1)).await;
    let mut pod = enrolled(&cluster).await;
    pod.kill();
    cluster.begin_rotation();
    cluster.next_phase().await;
    pod.start(cluster.address);
    pod.ready().await; // from disk, with the keys of before
    pod.trust(&cluster);
    pod.connected().await;
    pod.holds_what_new_keys_have_signed(&cluster).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_end_in_good_order_fails_readiness_first_and_goes_on_accepting() {
    let upstream = Upstream::start();
    let cluster = Cluster::start(HOST, upstream.endpoint(1)).await;
    let mut pod = enrolled(&cluster).await;
    pod.terminate();
    pod.says("/ready", 503, "draining").await;
    pod.says("/healthz", 200, "alive").await;
    assert_eq!(
        pod.answer(HOST).await,
        stamp(1),
        "new connections are served while it says so"
    );
    pod.ended().await;

    // And one that is nobody yet ends at once.
    let mut nobody = Pod::new("edge-b", "00000002");
    nobody.start(cluster.address);
    nobody.says("/ready", 503, "not enrolled").await;
    nobody.stop().await;
}
