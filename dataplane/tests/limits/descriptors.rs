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
    alone("without_file_descriptors_it_waits_and_recovers", exhausted);
}

#[test]
fn without_file_descriptors_no_endpoint_is_blamed() {
    alone(
        "without_file_descriptors_no_endpoint_is_blamed",
        nothing_to_connect_with,
    );
}

#[test]
fn who_waits_at_a_listener_that_is_closed_is_let_in_when_there_is_room() {
    alone(
        "who_waits_at_a_listener_that_is_closed_is_let_in_when_there_is_room",
        closed_while_exhausted,
    );
}

/// Runs a test in a process of its own.
fn alone(name: &str, test: fn()) {
    if std::env::var_os(ALONE).is_some() {
        return test();
    }
    let test = format!("descriptors::{name}");
    let itself = std::env::current_exe().unwrap();
    let ended = Command::new(itself)
        .args(["--exact", &test, "--nocapture"])
        .env(ALONE, "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&ended.stdout) + String::from_utf8_lossy(&ended.stderr);
    assert!(ended.status.success() && said.contains("1 passed"), "{said}");
}

/// Nothing that is open is touched by it; nothing new has a number below it, since standard error is the last.
fn none_left(usual: &Rlimit) {
    let limit = Rlimit {
        current: Some(3),
        maximum: usual.maximum,
    };
    setrlimit(Resource::Nofile, limit).unwrap();
}

#[tokio::main]
async fn nothing_to_connect_with() {
    let (used, fresh) = (echo().await, echo().await);
    let setup = setup(ClientLimits::default()).await;
    let setup = setup.pool("used", &[used]).route("/used", "used", None);
    let world = World::start(setup.pool("fresh", &[fresh]).route("/fresh", "fresh", None)).await;
    let mut stream = TcpStream::connect(world.address).await.unwrap();
    let mut ask = async |path: &str, end: &str| {
        let request = format!("GET {path} HTTP/1.1\r\nHost: a.test\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut head = read_until(&mut stream, "\r\n\r\n").await;
        head.push_str(&read_until(&mut stream, end).await);
        head
    };
    assert!(ask("/used", "\r\n\r\n").await.starts_with("HTTP/1.1 200"));
    let usual = getrlimit(Resource::Nofile);
    none_left(&usual);
    let answer = ask("/fresh", "}\n").await;
    assert!(
        answer.starts_with("HTTP/1.1 503") && answer.contains("exhausted"),
        "{answer}"
    );
    // What is open is of use.
    assert!(ask("/used", "\r\n\r\n").await.starts_with("HTTP/1.1 200"));
    setrlimit(Resource::Nofile, usual).unwrap();
    assert!(ask("/fresh", "\r\n\r\n").await.starts_with("HTTP/1.1 200"));
    let line = world.logged(|line| line["error_category"] == "exhausted").await;
    assert!(
        line["upstream_error"].as_str().unwrap().contains("nothing left"),
        "{line}"
    );
    let page = world.handle.metrics().render();
    let blamed = page
        .lines()
        .filter(|line| line.starts_with("proxy_upstream_unreached_total{"));
    let blamed: Vec<&str> = blamed.filter(|line| !line.ends_with(" 0")).collect();
    assert!(blamed.is_empty(), "{blamed:?}");
    assert!(page.contains("category=\"exhausted\"} 1"), "{page}");
}

#[tokio::main]
async fn closed_while_exhausted() {
    let world = World::start(setup(ClientLimits::default()).await).await;
    assert!(world.get("/").await.starts_with("HTTP/1.1 200"));
    let mut waiting = Vec::new();
    for _ in 0..4 {
        waiting.push(tokio::net::TcpSocket::new_v4().unwrap());
    }
    let listeners = world.handle.listeners();
    let other = listeners.prepare(&[listener("more", 80)]).unwrap();
    let usual = getrlimit(Resource::Nofile);
    none_left(&usual);
    let mut streams: Vec<TcpStream> = Vec::new();
    for socket in waiting {
        streams.push(socket.connect(world.address).await.unwrap());
    }
    // The listener is closed, which takes until they are let in, and no longer than that.
    let closing = listeners.commit(other);
    let room = async {
        let before = world.metric("proxy_accept_failures_total");
        while world.metric("proxy_accept_failures_total") < before + 8 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        setrlimit(Resource::Nofile, usual).unwrap();
    };
    let (closed, ()) = within(async { tokio::join!(closing, room) }).await;
    closed.unwrap();
    for stream in &mut streams {
        stream
            .write_all(b"GET / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n")
            .await
            .unwrap();
        assert!(read_all(stream).await.starts_with("HTTP/1.1 200"));
    }
    assert!(TcpStream::connect(world.address).await.is_err(), "nobody listens there");
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
    none_left(&usual);
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
