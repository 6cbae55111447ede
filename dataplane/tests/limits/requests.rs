//! Sizes and times of single requests and connections.

use std::time::{Duration, Instant};

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::client::{Good, Raw, SETTINGS, cleartext};
use super::world::*;
use super::*;

fn small() -> ClientLimits {
    ClientLimits {
        header_bytes: set(4096),
        header_field_bytes: set(4096),
        header_fields: set(20),
        uri_bytes: set(1024),
        ..ClientLimits::default()
    }
}

async fn status(stream: &mut TcpStream, target: &str, fields: &str) -> String {
    let request = format!("GET {target} HTTP/1.1\r\nHost: a.test\r\n{fields}\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let head = read_until(stream, "\r\n\r\n").await;
    let length = head
        .lines()
        .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    tokio::io::AsyncReadExt::read_exact(stream, &mut body).await.unwrap();
    head.get(9..12).unwrap_or_default().to_owned()
}

async fn asked(world: &World, target: &str, fields: &str) -> String {
    let mut stream = TcpStream::connect(world.address).await.unwrap();
    status(&mut stream, target, fields).await
}

#[tokio::test]
async fn heads_are_held_to_what_the_operator_says() {
    let world = World::start(setup(small()).await).await;
    let field = |bytes: usize| format!("x: {}\r\n", "a".repeat(bytes));
    let fields = |count: usize| "a: b\r\n".repeat(count);
    let target = |bytes: usize| format!("/{}", "a".repeat(bytes));
    for (target, fields, expected) in [
        (target(1000), field(2500), "200"),
        (target(1100), String::new(), "414"),
        ("/".into(), field(4000), "200"),
        ("/".into(), field(4096), "431"),
        ("/".into(), field(2500) + &field(2500), "431"),
        ("/".into(), fields(19), "200"),
        ("/".into(), fields(20), "431"),
    ] {
        assert_eq!(
            asked(&world, &target, &fields).await,
            expected,
            "{} {}",
            target.len(),
            fields.len()
        );
    }
    for (rule, count) in [("target_size", 1), ("head_size", 2), ("field_count", 1)] {
        assert_eq!(
            world.metric(&format!("proxy_refused_requests_total{{rule=\"{rule}\"}}")),
            count,
            "{rule}"
        );
    }
}

#[tokio::test]
async fn a_larger_head_than_usual_is_served_where_it_may_be() {
    let more = ClientLimits {
        header_field_bytes: set(40 << 10),
        header_fields: set(150),
        uri_bytes: set(12 << 10),
        ..ClientLimits::default()
    };
    let mut world = World::start(setup(more).await).await;
    let target = format!("/{}", "a".repeat(10 << 10));
    let fields = format!("x: {}\r\n{}", "a".repeat(30 << 10), "a: b\r\n".repeat(120));
    assert_eq!(asked(&world, &target, &fields).await, "200");
    world.address = world.listen(cleartext()).await;
    let mut request = http::Request::get(format!("http://a.test{target}")).header("x", "a".repeat(30 << 10));
    for _ in 0..120 {
        request = request.header("a", "b");
    }
    let good = Good::connect(world.address).await;
    let answer = within(good.ask(request.body(()).unwrap(), None)).await.unwrap();
    assert_eq!(answer.status(), 200);
}

#[tokio::test]
async fn http2_is_held_to_the_same() {
    let limits = ClientLimits {
        streams: set(7),
        ..small()
    };
    let mut world = World::start(setup(limits).await).await;
    world.address = world.listen(cleartext()).await;
    let good = Good::connect(world.address).await;
    assert_eq!(good.get("/").await.unwrap().status(), 200);
    let long = format!("/{}", "a".repeat(1100));
    assert_eq!(good.get(&long).await.unwrap().status(), 414);
    let large = http::Request::get("http://a.test/").header("x", "a".repeat(4096));
    assert_eq!(good.ask(large.body(()).unwrap(), None).await.unwrap().status(), 431);
    let told = Raw::connect(world.address, &[])
        .await
        .next_of(SETTINGS)
        .await
        .unwrap()
        .payload;
    // SETTINGS_MAX_CONCURRENT_STREAMS (RFC 9113 §6.5.2).
    let told = told
        .chunks(6)
        .find(|setting| setting[..2] == [0, 3])
        .map(|setting| setting[5]);
    assert_eq!(told, Some(7));
}

#[tokio::test]
async fn who_is_slow_or_rests_is_let_go_when_the_operator_says() {
    let limits = ClientLimits {
        header_millis: set(1_000),
        idle_millis: set(1_000),
        ..ClientLimits::default()
    };
    let world = World::start(setup(limits).await).await;
    let began = Instant::now();
    let mut slow = TcpStream::connect(world.address).await.unwrap();
    slow.write_all(b"GET / HTTP/1.1\r\nHost: a").await.unwrap();
    assert!(read_all(&mut slow).await.starts_with("HTTP/1.1 408"));
    let mut resting = TcpStream::connect(world.address).await.unwrap();
    assert_eq!(status(&mut resting, "/", "").await, "200");
    assert_eq!(read_all(&mut resting).await, "");
    // By default it would have been 10 s and 75 s; `read_all` waits for 10 at most.
    assert!(began.elapsed().as_secs() < 10);
}

/// A head that begins while the request before it is answered has as long as any other, however long one may rest.
#[tokio::test]
async fn a_slow_head_behind_another_request_is_cut_as_well() {
    let limits = ClientLimits {
        header_millis: set(1_000),
        ..ClientLimits::default()
    };
    let world = World::start(setup(limits).await).await;
    let mut slow = TcpStream::connect(world.address).await.unwrap();
    let both = b"GET /before HTTP/1.1\r\nHost: a.test\r\n\r\nGET /behind HTTP/1.1\r\nHost: a";
    slow.write_all(both).await.unwrap();
    let answers = read_all(&mut slow).await;
    assert!(
        answers.starts_with("HTTP/1.1 200") && answers.contains("HTTP/1.1 408"),
        "{answers}"
    );
    world.logged(|line| line["refused_by"] == "head_slow").await;
}

/// A body that goes on after its answer is held to the pace of bodies: it is no head.
#[tokio::test]
async fn a_body_that_outlasts_its_answer_is_no_slow_head() {
    const PIECES: usize = 30;
    let (all, mut came) = tokio::sync::mpsc::channel(1);
    let early = upstream(move |mut stream, _| {
        let all = all.clone();
        async move {
            read_until(&mut stream, "\r\n\r\n").await;
            stream.write_all(reply("early").as_bytes()).await.unwrap();
            let mut body = vec![0; PIECES * 100];
            let read = tokio::io::AsyncReadExt::read_exact(&mut stream, &mut body).await;
            all.send(read.is_ok()).await.unwrap();
        }
    })
    .await;
    let limits = ClientLimits {
        header_millis: set(1_000),
        ..ClientLimits::default()
    };
    let setup = Setup::default().pool("p", &[early]).route("/", "p", None);
    let world = World::start(Setup { limits, ..setup }).await;
    let mut stream = TcpStream::connect(world.address).await.unwrap();
    let head = format!(
        "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: {}\r\n\r\n",
        PIECES * 100
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    // Longer than a head may take, and than the worker takes to look.
    for _ in 0..PIECES {
        stream.write_all(&[b'x'; 100]).await.unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(within(came.recv()).await, Some(true), "all of it came");
    let answer = read_until(&mut stream, "early").await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

/// Whoever takes a response slowly takes it, although the kernel would hold megabytes of it.
#[tokio::test]
async fn a_slow_reader_is_told_from_one_that_does_not_read() {
    let endless = upstream(|mut stream, _| async move {
        read_until(&mut stream, "\r\n\r\n").await;
        let head = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n";
        let mut said = stream.write_all(head).await;
        while said.is_ok() {
            said = stream.write_all(&[b'x'; 1 << 16]).await;
        }
    })
    .await;
    let limits = ClientLimits {
        response_millis: set(2_000),
        ..ClientLimits::default()
    };
    let setup = Setup::default().pool("p", &[endless]).route("/", "p", None);
    let world = World::start(Setup { limits, ..setup }).await;
    let open = async || {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        let mut stream = socket.connect(world.address).await.unwrap();
        stream
            .write_all(b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n")
            .await
            .unwrap();
        stream
    };
    let (mut slow, deaf) = (open().await, open().await);
    // 80 KB/s, for longer than nothing may be taken: half a megabyte, and the kernel would have taken four at once.
    for _ in 0..60 {
        let mut some = [0; 8192];
        within(tokio::io::AsyncReadExt::read_exact(&mut slow, &mut some))
            .await
            .unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let line = world.logged(|line| line["refused_by"] == "response_slow").await;
    assert_eq!(line["status"], 499, "{line}");
    world.metric_is("proxy_connections", 1).await;
    drop((slow, deaf));
}

#[tokio::test]
async fn an_open_connection_follows_a_change_and_is_not_closed_for_it() {
    let usual = setup(ClientLimits::default()).await;
    let world = World::start(usual.clone()).await;
    let mut stream = TcpStream::connect(world.address).await.unwrap();
    let long = format!("/{}", "a".repeat(5000));
    assert_eq!(status(&mut stream, &long, "").await, "200");
    let larger = ClientLimits {
        uri_bytes: set(4096),
        ..ClientLimits::default()
    };
    world.serve(
        2,
        Setup {
            limits: larger,
            ..usual
        },
    );
    let refused = async {
        loop {
            match &*status(&mut stream, &long, "").await {
                "200" => tokio::time::sleep(std::time::Duration::from_millis(20)).await,
                other => return other.to_owned(),
            }
        }
    };
    assert_eq!(within(refused).await, "414");
}
