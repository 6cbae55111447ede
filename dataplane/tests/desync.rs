//! The desync corpus (`desync/cases.txt`) against the real request path: real sockets, an upstream that records every byte.
//! What is refused leaves no byte there; what is forwarded arrives in exactly one form.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

#[path = "desync/recorder.rs"]
mod recorder;
// The world serves other tests as well, which use more of it.
#[allow(dead_code)]
#[path = "proxy/world.rs"]
mod world;

use std::collections::HashMap;

use recorder::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use world::*;

#[derive(Debug)]
struct Case {
    name: String,
    raw: Vec<u8>,
    forwarded: Vec<String>,
    refused: Option<(u16, String)>,
}

fn cases() -> Vec<Case> {
    let text = include_str!("desync/cases.txt");
    let blocks = text.split("\n\n").filter(|block| !block.starts_with('#'));
    blocks.map(|block| case(block.trim_matches('\n'))).collect()
}

fn case(block: &str) -> Case {
    let lines: Vec<&str> = block.split('\n').collect();
    let [name, raw, expected] = lines[..] else {
        panic!("not three lines: {block:?}")
    };
    let mut case = Case {
        name: name.to_owned(),
        raw: unescape(raw),
        forwarded: Vec::new(),
        refused: None,
    };
    for part in expected.strip_prefix("-> ").unwrap_or(expected).split(" ;; ") {
        match part
            .split_once(' ')
            .and_then(|(status, rule)| Some((status.parse().ok()?, rule.to_owned())))
        {
            Some(refused) => case.refused = Some(refused),
            None => case.forwarded.push(part.to_owned()),
        }
    }
    case
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_case_of_the_corpus() {
    let record = Record::default();
    let world = World::start(
        Setup::default()
            .pool("all", &[recorder(record.clone()).await])
            .route("/", "all", None),
    )
    .await;
    let cases = cases();
    assert!(cases.len() >= 150, "{}", cases.len());
    let mut wrong = Vec::new();
    let mut rules: HashMap<String, (String, String)> = HashMap::new();
    for case in &cases {
        record.lock().unwrap().clear();
        let mut stream = TcpStream::connect(world.address).await.unwrap();
        stream.write_all(&case.raw).await.unwrap();
        let answer = read_all(&mut stream).await;
        let seen: Vec<String> = record.lock().unwrap().iter().map(|request| plain(request)).collect();
        let expected: Vec<String> = case.forwarded.iter().map(|text| in_order(&escaped(text))).collect();
        if seen != expected {
            wrong.push(format!("{}: forwarded {seen:?}, not {expected:?}", case.name));
        }
        let statuses: Vec<&str> = answer
            .match_indices("HTTP/1.1 ")
            .chain(answer.match_indices("HTTP/1.0 "))
            .filter_map(|(at, _)| answer.get(at + 9..at + 12))
            .collect();
        let mut wanted: Vec<String> = vec!["200".to_owned(); case.forwarded.len()];
        wanted.extend(case.refused.iter().map(|(status, _)| status.to_string()));
        if statuses != wanted {
            wrong.push(format!(
                "{}: answered {statuses:?}, not {wanted:?}: {answer}",
                case.name
            ));
            continue;
        }
        if let Some((status, rule)) = &case.refused {
            let body = answer.rsplit("\r\n\r\n").next().unwrap();
            let body: serde_json::Value =
                serde_json::from_str(body).unwrap_or_else(|_| panic!("{}: {answer}", case.name));
            assert_eq!(body["status"], *status, "{}", case.name);
            rules.insert(
                body["request_id"].as_str().unwrap().to_owned(),
                (rule.clone(), case.name.clone()),
            );
        }
    }
    let refused = rules.len();
    for (id, (rule, name)) in rules {
        let line = world.logged(|line| line["request_id"] == id.as_str()).await;
        if line["refused_by"] != rule.as_str() {
            wrong.push(format!("{name}: refused by {}, not {rule}", line["refused_by"]));
        }
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
    println!("{} cases, {refused} refused", cases.len());
    let delta = world.store.stats().drain();
    assert_eq!(
        delta.roles[0].scopes[0].failures, 0,
        "none of it is anybody's failure but the client's"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_answered_early_is_drained_or_its_connection_ends() {
    let world = World::start(Setup::default()).await;
    let mut stream = TcpStream::connect(world.address).await.unwrap();
    for _ in 0..2 {
        let small = "POST /none HTTP/1.1\r\nHost: a.test\r\nContent-Length: 24\r\n\r\nGET /x HTTP/1.1\r\nHost: a";
        stream.write_all(small.as_bytes()).await.unwrap();
        let answer = read_until(&mut stream, "}\n").await;
        assert!(
            answer.starts_with("HTTP/1.1 404") && !answer.contains("connection: close"),
            "{answer}"
        );
    }
    let large =
        "POST /none HTTP/1.1\r\nHost: a.test\r\nContent-Length: 1000000\r\n\r\nGET /x HTTP/1.1\r\nHost: a.test\r\n\r\n";
    stream.write_all(large.as_bytes()).await.unwrap();
    let answer = read_all(&mut stream).await;
    assert!(
        answer.starts_with("HTTP/1.1 404") && answer.contains("connection: close"),
        "{answer}"
    );
    assert_eq!(answer.matches("HTTP/1.1").count(), 1, "{answer}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn interim_responses_without_end_are_an_error_of_the_upstream() {
    let storm = upstream(|mut stream, _| async move {
        read_until(&mut stream, "\r\n\r\n").await;
        let many = "HTTP/1.1 100 Continue\r\n\r\n".repeat(1000);
        while stream.write_all(many.as_bytes()).await.is_ok() {}
    })
    .await;
    let world = World::start(Setup::default().pool("storm", &[storm]).route("/", "storm", None)).await;
    let answer = world.get("/").await;
    assert!(answer.contains("upstream_protocol_error"), "{answer}");
}

/// Takes as long as the deadlines do: 5 s for a silent body, 10 s for a head, and a sweep of a second.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_clients_are_told_and_cut_within_their_deadlines() {
    let record = Record::default();
    let pool = [recorder(record.clone()).await];
    let world = World::start(Setup::default().pool("all", &pool).route("/", "all", None)).await;
    let slow = async |raw: &str, rule: &str, most: u64| {
        let began = std::time::Instant::now();
        let mut stream = TcpStream::connect(world.address).await.unwrap();
        stream.write_all(raw.as_bytes()).await.unwrap();
        let mut answer = String::new();
        let reading = tokio::time::timeout(std::time::Duration::from_secs(20), stream.read_to_string(&mut answer));
        reading.await.expect("cut within 20 s").unwrap();
        assert!(
            answer.starts_with("HTTP/1.1 408") && answer.contains("client_timeout"),
            "{rule}: {answer}"
        );
        // Two seconds beyond the deadline, and as much again for a busy machine.
        assert!(began.elapsed().as_secs() <= most + 4, "{rule}: {:?}", began.elapsed());
        world.logged(|line| line["refused_by"] == rule).await;
    };
    let head = "GET / HTTP/1.1\r\nHost: a.test\r\nX: ";
    let body = "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 1000\r\n\r\nabc";
    tokio::join!(slow(head, "head_slow", 10), slow(body, "body_slow", 5));
    assert!(record.lock().unwrap().is_empty(), "half a request is none");
}
