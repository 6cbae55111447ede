//! What becomes of requests whose endpoint cannot be reached.

use super::world::*;

/// Of this pool, `unreached` attempts failed at `endpoint`.
fn unreached(pool: &str, endpoint: std::net::SocketAddr) -> String {
    format!("proxy_upstream_unreached_total{{pool=\"t/{pool}\",endpoint=\"{endpoint}\"}}")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_that_cannot_be_reached_is_nobodys_problem() {
    let (gone, echo) = (nobody().await, echo().await);
    let setup = Setup::default().pool("half", &[gone, echo]).route("/", "half", None);
    let world = World::start(setup).await;
    for round in 0..20 {
        let method = ["GET", "POST"][round % 2];
        let answer = world
            .ask(&format!(
                "{method} /{round} HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\nX-Request-Id: r-{round}\r\nContent-Length: 3\r\n\r\nabc"
            ))
            .await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{round}: {answer}");
        let line = world.logged(|line| line["request_id"] == format!("r-{round}")).await;
        assert_eq!(line["endpoint"], echo.to_string(), "{line}");
    }
    // Every second turn on each worker, and workers differ in where they begin.
    let retried = world.metric(&unreached("half", gone));
    assert!((8..=12).contains(&retried), "{retried}");
    world
        .metric_is("proxy_retries_total{route=\"t/half\",outcome=\"answered\"}", retried)
        .await;
    assert_eq!(world.metric("proxy_reconnects_total"), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pool_that_cannot_be_reached_fails_and_each_endpoint_was_tried_once() {
    let gone = [nobody().await, nobody().await];
    let setup = Setup::default().pool("gone", &gone).route("/", "gone", None);
    let world = World::start(setup).await;
    let answer = world.get("/").await;
    assert!(
        answer.starts_with("HTTP/1.1 502") && answer.contains("upstream_connect_failed"),
        "{answer}"
    );
    let line = world.logged(|line| line["status"] == 502).await;
    assert_eq!(line["retries"], 1, "{line}");
    for endpoint in gone {
        world.metric_is(&unreached("gone", endpoint), 1).await;
    }
    world
        .metric_is("proxy_retries_total{route=\"t/gone\",outcome=\"failed\"}", 1)
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attempts_are_few_and_those_without_weight_are_not_tried() {
    let mut gone = Vec::new();
    for _ in 0..9 {
        gone.push(nobody().await);
    }
    let setup = Setup::default().pool("gone", &gone).route("/", "gone", None);
    let world = World::start(setup).await;
    assert!(world.get("/").await.starts_with("HTTP/1.1 502"));
    let line = world.logged(|line| line["status"] == 502).await;
    assert_eq!(line["retries"], 2, "{line}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn upgrades_go_to_another_endpoint_too() {
    let far = says("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: own\r\n\r\nfar").await;
    let setup = Setup::default().pool("half", &[nobody().await, far]);
    let setup = setup.route("/", "half", None).upgrades("half", &["own"]);
    let world = World::start(setup).await;
    for _ in 0..4 {
        let request = "GET / HTTP/1.1\r\nHost: a.test\r\nConnection: upgrade\r\nUpgrade: own\r\n\r\n";
        let answer = world.ask(request).await;
        assert!(
            answer.starts_with("HTTP/1.1 101") && answer.ends_with("far"),
            "{answer}"
        );
    }
}
