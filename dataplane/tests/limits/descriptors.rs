//! A process that has no file descriptors left: it goes on, without burning, and serves who waited once there are some again.
//!
//! The limit is a process's, so the test starts itself again as a process of its own.

use std::process::Command;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::world::*;
use super::*;

const ALONE: &str = "SLUICE_TEST_ALONE";

#[test]
fn without_file_descriptors_it_waits_and_recovers() {
    let test = "descriptors::without_file_descriptors_it_waits_and_recovers";
    if std::env::var_os(ALONE).is_some() {
        return exhausted();
    }
    let itself = std::env::current_exe().unwrap();
    let ended = Command::new(itself)
        .args(["--exact", test, "--nocapture"])
        .env(ALONE, "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&ended.stdout) + String::from_utf8_lossy(&ended.stderr);
    assert!(ended.status.success() && said.contains("1 passed"), "{said}");
}

#[tokio::main]
async fn exhausted() {
    let world = World::start(setup(ClientLimits::default()).await).await;
    assert!(world.get("/").await.starts_with("HTTP/1.1 200"));
    // The client is in this process too: its ends of connections are made before there are none left to accept with.
    let mut waiting = Vec::new();
    let usual = getrlimit(Resource::Nofile);
    for _ in 0..4 {
        waiting.push(tokio::net::TcpSocket::new_v4().unwrap());
    }
    // Nothing that is open is touched by it; nothing new has a number below it, since standard error is the last.
    let limit = Rlimit {
        current: Some(3),
        maximum: usual.maximum,
    };
    setrlimit(Resource::Nofile, limit).unwrap();
    let mut streams: Vec<TcpStream> = Vec::new();
    for socket in waiting {
        // The kernel connects; nobody accepts.
        streams.push(socket.connect(world.address).await.unwrap());
    }
    for stream in &mut streams {
        stream
            .write_all(b"GET / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n")
            .await
            .unwrap();
    }
    let failed = async {
        while world.metric("proxy_accept_failures_total") < 5 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    within(failed).await;
    let before = world.metric("proxy_accept_failures_total");
    let began = std::time::Instant::now();
    while began.elapsed() < Duration::from_millis(500) {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let tries = world.metric("proxy_accept_failures_total") - before;
    // Two workers, a try each every 10 ms.
    assert!(tries <= 2 * 50 + 20, "{tries} tries in half a second is a busy loop");
    setrlimit(Resource::Nofile, usual).unwrap();
    for stream in &mut streams {
        assert!(read_all(stream).await.starts_with("HTTP/1.1 200"));
    }
    assert!(world.get("/").await.starts_with("HTTP/1.1 200"));
}
