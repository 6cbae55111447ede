//! The ways to wear a server out by HTTP/2, one connection each, beside a client that means well: the attacker is cut, by the
//! rule that fits, and the other notices nothing.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::client::*;
use super::recorder::{Record, recorder};
use super::world::*;

/// Asks on one connection, over and over, until it is told to stop; how often it was answered. Fails if it ever is not.
struct Bystander {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    task: tokio::task::JoinHandle<()>,
}

impl Bystander {
    async fn start(address: SocketAddr) -> Self {
        let good = Good::connect(address).await;
        let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (stopped, count) = (stop.clone(), answered.clone());
        let task = tokio::spawn(async move {
            while !stopped.load(Ordering::Relaxed) {
                let answer = within(good.get("/good")).await.expect("a good request fails");
                assert_eq!(answer.status(), 200);
                count.fetch_add(1, Ordering::Relaxed);
            }
        });
        Self { stop, answered, task }
    }

    async fn well(self) -> u64 {
        // Once more, with the attack behind it.
        let before = self.answered.load(Ordering::Relaxed);
        within(async {
            while self.answered.load(Ordering::Relaxed) == before {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.unwrap();
        self.answered.load(Ordering::Relaxed)
    }
}

/// What became of an attacker.
struct Fate {
    /// The code of its `GOAWAY`; `None`: the connection just ended.
    code: Option<u32>,
    took: Duration,
}

/// Sends `bytes` over and over, at most so often, and reads what comes meanwhile.
async fn attack(address: SocketAddr, settings: &[(u16, u32)], before: &[u8], bytes: Vec<u8>, times: usize) -> Fate {
    let Raw(stream) = Raw::connect(address, settings).await;
    let (reading, mut writing) = stream.into_split();
    let began = Instant::now();
    let before = before.to_vec();
    let flood = tokio::spawn(async move {
        writing.write_all(&before).await.unwrap();
        for _ in 0..times {
            if writing.write_all(&bytes).await.is_err() {
                break;
            }
        }
        writing
    });
    let mut raw = Raw(tokio::io::join(reading, tokio::io::sink()));
    let mut code = None;
    while let Some(came) = raw.next().await {
        if came.kind == GOAWAY {
            code = Some(came.code());
        }
    }
    let took = began.elapsed();
    drop(flood.await);
    Fate { code, took }
}

/// The attack is ended in time by this rule, and good requests go on.
async fn check(rule: &str, settings: &[(u16, u32)], before: &[u8], bytes: Vec<u8>, times: usize) {
    let world = world(echo().await).await;
    let bystander = Bystander::start(world.address).await;
    let fate = attack(world.address, settings, before, bytes, times).await;
    assert_eq!(fate.code, Some(ENHANCE_YOUR_CALM), "{rule}");
    // A second, of which the last word may wait one more to be heard, and a busy machine.
    assert!(fate.took < Duration::from_secs(5), "{rule}: {:?}", fate.took);
    world.logged(|line| line["refused_by"] == rule).await;
    world
        .metric_is(&format!("proxy_refused_requests_total{{rule=\"{rule}\"}}"), 1)
        .await;
    let answered = bystander.well().await;
    println!("{rule}: cut after {:?}, {answered} good requests", fate.took);
    world.metric_is("proxy_connections", 0).await;
    assert_eq!(world.metric("proxy_inflight_requests"), 0);
    let delta = world.store.stats().drain();
    assert_eq!(
        delta.roles[0].scopes[0].failures, 0,
        "{rule} is nobody's failure but the client's"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn floods_of_pings() {
    check("h2_pings", &[], &[], frame(PING, 0, 0, &[7; 8]), 200_000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn floods_of_settings() {
    check("h2_settings", &[], &[], frame(SETTINGS, 0, 0, &[]), 200_000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn floods_of_empty_data() {
    let open = frame(HEADERS, END_HEADERS, 1, &request("POST", "/", &[]));
    check("h2_empty_data", &[], &open, frame(DATA, 0, 1, &[]), 200_000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn floods_of_priorities_and_of_unknown_frames() {
    check("h2_priorities", &[], &[], frame(2, 0, 1, &[0, 0, 0, 0, 9]), 10_000).await;
    check("h2_other_frames", &[], &[], frame(0xbb, 0, 0, b"grease"), 10_000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn windows_that_open_by_a_byte() {
    let update = frame(WINDOW_UPDATE, 0, 0, &1_u32.to_be_bytes());
    check("h2_window_updates", &[], &[], update, 10_000).await;
    // Each makes us send a frame of one byte: that earns nothing.
    let open = frame(HEADERS, END_HEADERS | END_STREAM, 1, &get("/"));
    let update = frame(WINDOW_UPDATE, 0, 1, &1_u32.to_be_bytes());
    check("h2_window_updates", &[(4, 0)], &open, update, 110).await;
}

/// Opens and resets streams as fast as it can (CVE-2023-44487).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rapid_reset() {
    let world = world(echo().await).await;
    let bystander = Bystander::start(world.address).await;
    let Raw(stream) = Raw::connect(world.address, &[]).await;
    let (reading, mut writing) = stream.into_split();
    let began = Instant::now();
    let flood = tokio::spawn(async move {
        for id in (1..20_000_u32).step_by(2) {
            let mut both = frame(HEADERS, END_HEADERS | END_STREAM, id, &get("/"));
            both.extend(frame(RST_STREAM, 0, id, &8_u32.to_be_bytes()));
            if writing.write_all(&both).await.is_err() {
                return id / 2;
            }
        }
        10_000
    });
    let mut raw = Raw(tokio::io::join(reading, tokio::io::sink()));
    let goaway = raw.next_of(GOAWAY).await.unwrap();
    assert_eq!(goaway.code(), ENHANCE_YOUR_CALM);
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    while raw.next().await.is_some() {}
    let sent = flood.await.unwrap();
    println!("rapid reset: {sent} sent, {} good requests", bystander.well().await);
    let line = world
        .logged(|line| line["refused_by"] == "h2_resets" || line["refused_by"] == "h2_calm")
        .await;
    assert_eq!(line["error_category"], "bad_request");
    assert_eq!(world.metric("proxy_inflight_requests"), 0);
}

/// Makes the server reset streams (CVE-2025-8671): a window that grows beyond what it can be is an error of the stream.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn made_you_reset() {
    let world = world(echo().await).await;
    let bystander = Bystander::start(world.address).await;
    let Raw(stream) = Raw::connect(world.address, &[]).await;
    let (reading, mut writing) = stream.into_split();
    let flood = tokio::spawn(async move {
        for id in (1..100_000_u32).step_by(2) {
            let mut both = frame(HEADERS, END_HEADERS, id, &request("POST", "/", &[]));
            both.extend(frame(WINDOW_UPDATE, 0, id, &0x7fff_ffff_u32.to_be_bytes()));
            if writing.write_all(&both).await.is_err() {
                return;
            }
        }
    });
    let mut raw = Raw(tokio::io::join(reading, tokio::io::sink()));
    assert_eq!(raw.next_of(GOAWAY).await.unwrap().code(), ENHANCE_YOUR_CALM);
    while raw.next().await.is_some() {}
    flood.await.unwrap();
    world.logged(|line| line["refused_by"] == "h2_calm").await;
    bystander.well().await;
}

/// A head in very many pieces (the CONTINUATION flood), with fields and without.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn heads_without_end() {
    for piece in [&b""[..], &block(&[(b"x", b"y")])] {
        let world = world(echo().await).await;
        let bystander = Bystander::start(world.address).await;
        let open = frame(HEADERS, 0, 1, &get("/"));
        let fate = attack(world.address, &[], &open, frame(CONTINUATION, 0, 1, piece), 100_000).await;
        assert_eq!(fate.code, Some(ENHANCE_YOUR_CALM));
        assert!(fate.took < Duration::from_secs(5), "{:?}", fate.took);
        world
            .logged(|line| line["refused_by"] == "h2_calm" || line["refused_by"] == "h2_continuations")
            .await;
        bystander.well().await;
    }
}

/// A few bytes that stand for very many fields: one field in the table, referred to by a byte each time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bombs_of_compressed_fields() {
    // `cookie: aaaa…`, remembered by both sides as the newest entry of the table: index 62.
    let mut first = vec![0x40];
    first.push(6);
    first.extend(b"cookie");
    first.push(60);
    first.extend([b'a'; 60]);
    let seed = [get("/"), first].concat();
    let bomb = |fields: usize| [get("/"), vec![0xbe; fields]].concat();
    let world = world(echo().await).await;
    let bystander = Bystander::start(world.address).await;
    let mut raw = Raw::connect(world.address, &[]).await;
    raw.send(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &seed)).await;
    assert_eq!(raw.next_on(1).await.unwrap().status(), Some(200));
    raw.send(&frame(HEADERS, END_HEADERS | END_STREAM, 3, &bomb(90))).await;
    assert_eq!(
        raw.next_on(3).await.unwrap().status(),
        Some(200),
        "many cookies are no attack"
    );
    raw.send(&frame(HEADERS, END_HEADERS | END_STREAM, 5, &bomb(150))).await;
    assert_eq!(raw.next_on(5).await.unwrap().status(), Some(431));
    world
        .logged(|line| line["refused_by"] == "field_count" && line["status"] == 431)
        .await;
    raw.send(&frame(HEADERS, END_HEADERS | END_STREAM, 7, &bomb(2_000)))
        .await;
    assert_eq!(raw.next_of(GOAWAY).await.unwrap().code(), ENHANCE_YOUR_CALM);
    while raw.next().await.is_some() {}
    bystander.well().await;
}

/// Heads that are let wait for an upstream that does not answer: those of one connection are bounded together.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn heads_that_wait() {
    let silent = upstream(|stream, _| async move {
        std::future::pending::<()>().await;
        drop(stream);
    })
    .await;
    let world = world(silent).await;
    let mut raw = Raw::connect(world.address, &[]).await;
    raw.next_of(SETTINGS).await.unwrap();
    let large = vec![b'a'; 15_000];
    let head = request("GET", "/", &[(b"x", &large)]);
    let mut refused = None;
    for id in (1..150_u32).step_by(2) {
        raw.send(&frame(HEADERS, END_HEADERS | END_STREAM, id, &head)).await;
    }
    while refused.is_none() {
        let came = raw.next_of(HEADERS).await.unwrap();
        assert_eq!(came.status(), Some(431));
        refused = Some(came.stream);
    }
    // 768 KiB in heads of 15,000 bytes and a little: the fifty-third is one too many.
    assert_eq!(refused, Some(2 * 52 + 1), "by then {refused:?}");
    world.logged(|line| line["refused_by"] == "head_memory").await;
}

/// Streams whose windows are never opened, so that their responses stay; takes as long as the deadline does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn responses_that_nobody_takes() {
    let long = upstream(|mut stream, _| async move {
        loop {
            let Some(head) = request_head(&mut stream).await else {
                return;
            };
            let body = if head.contains("/good") {
                "good".into()
            } else {
                "x".repeat(1 << 20)
            };
            if stream.write_all(reply(&body).as_bytes()).await.is_err() {
                return;
            }
        }
    })
    .await;
    let world = world(long).await;
    let bystander = Bystander::start(world.address).await;
    let began = Instant::now();
    // One gives a window of a byte and takes that: the byte is progress, the rest is not.
    let attackers = [0, 1].map(|window| {
        let address = world.address;
        tokio::spawn(async move {
            let mut raw = Raw::connect(address, &[(4, window)]).await;
            let mut all = Vec::new();
            for id in (1..200_u32).step_by(2) {
                all.extend(frame(HEADERS, END_HEADERS | END_STREAM, id, &get("/")));
            }
            assert!(raw.send(&all).await);
            let mut code = None;
            let reading = async {
                loop {
                    let mut head = [0; 9];
                    if raw.0.read_exact(&mut head).await.is_err() {
                        return;
                    }
                    let mut payload = vec![0; usize::from(head[1]) << 8 | usize::from(head[2])];
                    raw.0.read_exact(&mut payload).await.unwrap();
                    if head[3] == GOAWAY {
                        code = Some(payload[7]);
                    }
                }
            };
            tokio::time::timeout(Duration::from_secs(60), reading)
                .await
                .expect("cut in time");
            code
        })
    });
    // One stream of a good connection is paused meanwhile: it alone is reset.
    let mut paused = Raw::connect(world.address, &[(4, 10)]).await;
    paused
        .send(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &get("/")))
        .await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    println!(
        "200 responses of 1 MiB waiting: {} MiB in this process, upstream and clients included",
        resident_kib() / 1024
    );
    for attacker in attackers {
        assert_eq!(attacker.await.unwrap(), Some(ENHANCE_YOUR_CALM as u8));
    }
    let took = began.elapsed();
    assert!((30..40).contains(&took.as_secs()), "{took:?}");
    let reset = async {
        loop {
            let came = paused.next_on(1).await.unwrap();
            if came.kind == RST_STREAM {
                return came;
            }
        }
    };
    assert_eq!(reset.await.code(), 8);
    paused
        .send(&frame(HEADERS, END_HEADERS | END_STREAM, 3, &get("/good")))
        .await;
    assert_eq!(paused.next_on(3).await.unwrap().status(), Some(200));
    world.logged(|line| line["refused_by"] == "h2_stalled").await;
    println!(
        "stalled windows: cut after {took:?}, {} good requests",
        bystander.well().await
    );
}

/// Waits for it however long it takes.
async fn request_head(stream: &mut tokio::net::TcpStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    Some(String::from_utf8_lossy(&head).into_owned())
}

/// Heads and bodies that come slowly, and connections that say nothing; takes as long as their deadlines do.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_heads_bodies_and_silence() {
    let world = world(recorder(Record::default()).await).await;
    let bystander = Bystander::start(world.address).await;
    let ends = async |bytes: Vec<u8>, drip: u8, most: u64| {
        let began = Instant::now();
        let mut stream = tokio::net::TcpStream::connect(world.address).await.unwrap();
        stream.write_all(&bytes).await.unwrap();
        let (mut reading, mut writing) = stream.into_split();
        let dripping = tokio::spawn(async move {
            while writing.write_all(&[drip]).await.is_ok() {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        });
        let mut scrap = Vec::new();
        let reading = reading.read_to_end(&mut scrap);
        let _ = tokio::time::timeout(Duration::from_secs(30), reading)
            .await
            .expect("cut in time");
        dripping.abort();
        assert!(began.elapsed().as_secs() <= most + 5, "{:?}", began.elapsed());
    };
    let settled = [PREFACE, &frame(SETTINGS, 0, 0, &[])].concat();
    let head = get("/");
    let mut cut_short = settled.clone();
    cut_short.extend(
        &frame(
            HEADERS,
            END_HEADERS | END_STREAM,
            1,
            &[head.clone(), vec![0; 100]].concat(),
        )[..9 + head.len()],
    );
    let mut unended = settled.clone();
    unended.extend(frame(HEADERS, 0, 1, &head));
    tokio::join!(
        ends(PREFACE[..10].to_vec(), b'x', 10),
        ends(cut_short, 0, 10),
        ends(unended, 0, 10),
    );
    world.logged(|line| line["refused_by"] == "head_slow").await;
    // A body that does not come is answered, and the connection serves on.
    let mut raw = Raw::connect(world.address, &[]).await;
    raw.send(&frame(
        HEADERS,
        END_HEADERS,
        1,
        &request("POST", "/", &[(b"content-length", b"10")]),
    ))
    .await;
    raw.send(&frame(DATA, 0, 1, b"half")).await;
    let answer = tokio::time::timeout(Duration::from_secs(12), async {
        raw.next_of(SETTINGS).await;
        let mut head = [0; 9];
        loop {
            raw.0.read_exact(&mut head).await.unwrap();
            let mut payload = vec![0; usize::from(head[2])];
            raw.0.read_exact(&mut payload).await.unwrap();
            if head[3] == HEADERS {
                return Came {
                    kind: HEADERS,
                    flags: head[4],
                    stream: 1,
                    payload,
                };
            }
        }
    });
    assert_eq!(answer.await.expect("answered in time").status(), Some(408));
    world
        .logged(|line| line["refused_by"] == "body_slow" && line["status"] == 408)
        .await;
    raw.send(&frame(HEADERS, END_HEADERS | END_STREAM, 3, &get("/good")))
        .await;
    assert_eq!(raw.next_on(3).await.unwrap().status(), Some(200));
    bystander.well().await;
}

/// What this process takes of memory.
fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// With the client's end, which is in the same process.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "measures the memory of this process, so nothing else may run in it"]
async fn what_a_connection_costs() {
    const IDLE: u64 = 2_000;
    const BOMBS: u64 = 20;
    let world = world(says("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc").await).await;
    let ask = frame(HEADERS, END_HEADERS | END_STREAM, 1, &get("/"));
    let mut idle = Vec::new();
    let before = resident_kib();
    for _ in 0..IDLE {
        let mut raw = Raw::connect(world.address, &[]).await;
        raw.send(&ask).await;
        assert_eq!(raw.next_on(1).await.unwrap().status(), Some(200));
        idle.push(raw);
    }
    println!(
        "{IDLE} connections at rest: {} KiB each",
        (resident_kib() - before) / IDLE
    );
    drop(idle);
    world.metric_is("proxy_connections", 0).await;

    // As many cookies as pass, by a byte each, on all streams, none of whose windows opens.
    let seed = [get("/"), b"\x40\x06cookie\x3c".to_vec(), vec![b'a'; 60]].concat();
    let bomb = [get("/"), vec![0xbe; 90]].concat();
    let before = resident_kib();
    let mut bombs = Vec::new();
    for _ in 0..BOMBS {
        let mut raw = Raw::connect(world.address, &[(4, 0)]).await;
        let mut all = frame(HEADERS, END_HEADERS | END_STREAM, 1, &seed);
        for id in (3..200_u32).step_by(2) {
            all.extend(frame(HEADERS, END_HEADERS | END_STREAM, id, &bomb));
        }
        raw.send(&all).await;
        let mut answered = 0;
        while answered < 100 {
            raw.next_of(HEADERS).await.unwrap();
            answered += 1;
        }
        bombs.push(raw);
    }
    let each = resident_kib().saturating_sub(before) / BOMBS;
    println!("{BOMBS} bombs of 100 streams and 9,000 fields: {each} KiB each, upstream connections included");
    assert!(each < 4 << 10);
}
