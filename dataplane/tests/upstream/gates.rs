//! What gates are told of calls and connections: failures of the upstream, and never what clients did.

use std::sync::Arc;

use bytes::Bytes;
use h2::RecvStream;
use h2::server::SendResponse;
use http::{HeaderMap, Request, Response};
use sluice_dataplane::stats::ScopeDelta;
use sluice_model::unit::UpstreamProtocol;
use tokio::sync::Notify;

use super::client::Good;
use super::server::*;
use super::world::*;

/// What the whole fleet counted since this was asked last, when nothing is under way.
async fn counted(world: &World) -> ScopeDelta {
    world.metric_is("proxy_inflight_requests", 0).await;
    world.store.stats().drain().roles[0].scopes[0].clone()
}

/// Answers with the status of gRPC that the path says, in the head (`/head/N`) or in trailers (`/trailers/N`).
async fn says_status(request: Request<RecvStream>, mut respond: SendResponse<Bytes>, _: u64) {
    let path = request.uri().path().to_owned();
    let (place, status) = path[1..].split_once('/').unwrap();
    let mut response = Response::new(());
    let mut fields = HeaderMap::new();
    fields.insert("grpc-status", status.parse().unwrap());
    if place == "head" {
        response.headers_mut().extend(fields);
        drop(respond.send_response(response, true));
        return;
    }
    let mut send = respond.send_response(response, false).unwrap();
    send.send_data("message".into(), false).unwrap();
    send.send_trailers(fields).unwrap();
}

async fn call(good: &Good, path: &str, kind: &str) {
    let request = Request::post(format!("http://a.test{path}")).header("content-type", kind);
    let answer = within(good.ask(request.body(()).unwrap(), None)).await.unwrap();
    assert_eq!(answer.status(), 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_statuses_of_calls_are_failures_of_the_upstream_and_no_other() {
    let (endpoint, _) = serve(None, usual, says_status).await;
    let world = world(&[endpoint], UpstreamProtocol::Http2, None).await;
    let good = Good::connect(world.address).await;
    for place in ["head", "trailers"] {
        for status in 0..=16 {
            let path = format!("/{place}/{status}");
            // UNKNOWN, DEADLINE_EXCEEDED, INTERNAL, UNAVAILABLE, DATA_LOSS.
            let fails = [2, 4, 13, 14, 15].contains(&status);
            call(&good, &path, "application/grpc+proto").await;
            let told = counted(&world).await;
            assert_eq!(
                (told.requests, told.failures, told.client_failures),
                (1, u64::from(fails), 0),
                "{path}"
            );
            let line = world.logged(|line| line["path"] == path.as_str()).await;
            assert_eq!((&line["status"], &line["grpc_status"]), (&200.into(), &status.into()));
            // In the answer to anything else it is a field like any other.
            call(&good, &path, "application/json").await;
            assert_eq!(counted(&world).await.failures, 0, "{path}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upstream_that_cannot_be_reached_has_failed() {
    for protocol in [UpstreamProtocol::Http1, UpstreamProtocol::Http2] {
        let world = world(&[nobody(), nobody()], protocol, None).await;
        let good = Good::connect(world.address).await;
        assert_eq!(within(good.get("/")).await.unwrap().status(), 502);
        call(&good, "/a.B/C", "application/grpc").await;
        let told = counted(&world).await;
        assert_eq!((told.requests, told.failures, told.client_failures), (2, 2, 0));
    }
    // Who reaches another one has not failed, and neither has the request.
    let (endpoint, _) = serve(None, usual, echo_http2).await;
    let world = world(&[nobody(), endpoint], UpstreamProtocol::Http2, None).await;
    for _ in 0..4 {
        assert!(world.get("/").await.starts_with("HTTP/1.1 200"));
    }
    let told = counted(&world).await;
    assert_eq!((told.requests, told.failures), (4, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_clients_do_to_calls_is_no_failure() {
    let came = Arc::new(Notify::new());
    let comes = came.clone();
    let (endpoint, _) = serve(None, usual, move |_, mut respond: SendResponse<Bytes>, _| {
        let comes = comes.clone();
        async move {
            comes.notify_one();
            let _ = std::future::poll_fn(|cx| respond.poll_reset(cx)).await;
        }
    })
    .await;
    let world = world(&[endpoint], UpstreamProtocol::Http2, None).await;
    let good = Good::connect(world.address).await;
    // Given up before there was an answer.
    let call = Request::post("http://a.test/a.B/C").header("content-type", "application/grpc");
    let mut sender = good.0.clone().ready().await.unwrap();
    let (response, stream) = sender.send_request(call.body(()).unwrap(), false).unwrap();
    within(came.notified()).await;
    drop((response, stream));
    let told = counted(&world).await;
    assert_eq!((told.failures, told.client_failures), (0, 1));
    // Malformed, and refused here.
    let bad = Request::post("http://a.test/%00").header("content-type", "application/grpc");
    let answer = within(good.ask(bad.body(()).unwrap(), None)).await.unwrap();
    assert_eq!(answer.head.headers()["grpc-status"], "13");
    let message = answer.head.headers()["grpc-message"].to_str().unwrap();
    assert!(
        message.starts_with("the request is malformed: servers would read its path"),
        "{message}"
    );
    let told = counted(&world).await;
    assert_eq!((told.failures, told.client_failures), (0, 1));
}
