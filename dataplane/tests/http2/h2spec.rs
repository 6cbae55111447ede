//! The conformance suite h2spec against the proxy path, in the clear and over TLS, at rest and while revisions change.
//! `e2e/h2spec` builds the suite and runs this.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sluice_model::unit::Http2;

use super::client::cleartext;
use super::tls::site;
use super::world::*;

/// The suite asks for the host that it connects to.
fn setup(upstream: std::net::SocketAddr) -> Setup {
    Setup::default()
        .pool("all", &[upstream])
        .host("all", "localhost", "all", &["t/a"])
}

/// Cases that failed, out of how many.
fn run(arguments: &[&str], port: u16) -> (Vec<String>, usize) {
    let suite = std::env::var("SLUICE_H2SPEC").expect("SLUICE_H2SPEC says where h2spec is: run e2e/h2spec");
    let report = tempfile::NamedTempFile::new().unwrap();
    let output = Command::new(suite)
        .args(["-h", "localhost", "-o", "3", "-p", &port.to_string()])
        .arg("-j")
        .arg(report.path())
        .args(arguments)
        .output()
        .unwrap();
    let report = std::fs::read_to_string(report.path()).unwrap();
    let cases = report.matches("<testcase").count();
    assert!(cases > 100, "{}", String::from_utf8_lossy(&output.stdout));
    let failed = report
        .split("<testcase")
        .skip(1)
        .filter(|case| case.contains("<failure") || case.contains("<error"));
    let failed = failed.map(|case| {
        case.split("</testcase>")
            .next()
            .unwrap()
            .replace("&#xA;", " ")
            .to_owned()
    });
    (failed.collect(), cases)
}

/// In the clear what does not begin with the preface is HTTP/1.1 and answered so (RFC 9113 §3.4 lets a server do that).
fn expected(case: &str) -> bool {
    case.contains("Sends invalid connection preface")
}

async fn check(what: &str, arguments: &'static [&'static str], world: &World, exempt: fn(&str) -> bool) {
    let port = world.address.port();
    let (failed, cases) = tokio::task::spawn_blocking(move || run(arguments, port)).await.unwrap();
    println!(
        "h2spec, {what}: {} of {cases} passed; failed: {failed:#?}",
        cases - failed.len()
    );
    let wrong: Vec<_> = failed.iter().filter(|case| !exempt(case)).collect();
    assert!(wrong.is_empty(), "{what}: {wrong:#?}");
}

async fn cleartext_world() -> (World, std::net::SocketAddr) {
    let upstream = echo().await;
    let mut world = World::start(setup(upstream)).await;
    world.address = world.listen(cleartext()).await;
    (world, upstream)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs h2spec: run e2e/h2spec"]
async fn in_the_clear() {
    check("in the clear", &[], &cleartext_world().await.0, expected).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs h2spec: run e2e/h2spec"]
async fn over_tls() {
    let site = site(Http2::default()).await;
    check("over TLS", &["-t", "-k"], &site.world, |_| false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs h2spec: run e2e/h2spec"]
async fn while_revisions_change() {
    let (world, upstream) = cleartext_world().await;
    let world = Arc::new(world);
    let stop = Arc::new(AtomicBool::new(false));
    let (swapping, stopped) = (world.clone(), stop.clone());
    let storm = tokio::spawn(async move {
        let mut number = 2;
        while !stopped.load(Ordering::Relaxed) {
            swapping.serve(number, setup(upstream));
            number += 1;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        number
    });
    check("while revisions change", &[], &world, expected).await;
    stop.store(true, Ordering::Relaxed);
    println!("{} revisions", storm.await.unwrap());
}
