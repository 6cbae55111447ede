//! What works: methods, bodies both ways, trailers, interim responses, upstreams that break, revisions that change.

use bytes::Bytes;
use h2::Reason;
use http::Request;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::client::*;
use super::world::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_is_the_same_to_the_upstream_whatever_the_client_speaks() {
    let world = world(echo().await).await;
    let good = Good::connect(world.address).await;
    let mut request = Request::get("http://A.test/a/../b?c=d").body(()).unwrap();
    for (name, value) in [
        ("cookie", "a=b"),
        ("cookie", "c=d"),
        ("te", "trailers"),
        ("x-request-id", "id-7"),
        ("x_forwarded_for", "6.6.6.6"),
    ] {
        request.headers_mut().append(name, value.parse().unwrap());
    }
    let answer = within(good.ask(request, None)).await.unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.head.headers()["x-request-id"], "id-7");
    assert!(answer.head.headers().contains_key("date") && !answer.head.headers().contains_key("connection"));
    let text = answer.text();
    let mut lines: Vec<&str> = text.trim_end().split("\r\n").collect();
    assert_eq!(lines.remove(0), "GET /b?c=d HTTP/1.1");
    lines.sort_unstable();
    assert_eq!(
        lines,
        [
            "connection: te",
            "cookie: a=b; c=d",
            "host: A.test",
            "te: trailers",
            "x-forwarded-for: 127.0.0.1",
            "x-forwarded-host: A.test",
            "x-forwarded-proto: http",
            "x-request-id: id-7",
        ]
    );
    let line = world.logged(|line| line["request_id"] == "id-7").await;
    assert_eq!(
        (&line["protocol"], &line["host"], &line["path"]),
        (&"h2".into(), &"a.test".into(), &"/b".into())
    );
    world
        .metric_is("proxy_protocol_requests_total{protocol=\"h2\"}", 1)
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_begins_otherwise_speaks_http_1_and_no_upgrade_leads_out_of_it() {
    let world = world(echo().await).await;
    assert!(world.get("/plain").await.starts_with("HTTP/1.1 200"));
    let put = "PUT /p HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
    assert!(world.ask(put).await.starts_with("HTTP/1.1 200"));
    let upgrade = "GET /u HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade, HTTP2-Settings, close\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n";
    let answer = world.ask(upgrade).await;
    assert!(
        answer.starts_with("HTTP/1.1 200") && !answer.contains("h2c"),
        "{answer}"
    );
    let preface = world.ask("PRI * HTTP/2.0\r\n\r\nXX").await;
    assert!(preface.starts_with("HTTP/1.1 505"), "{preface}");
    let off = world.listen(listener("http", 80)).await;
    let mut stream = tokio::net::TcpStream::connect(off).await.unwrap();
    stream.write_all(PREFACE).await.unwrap();
    let answer = read_all(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 505"), "where it is off: {answer}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn responses_without_a_body_and_their_lengths() {
    let upstream = upstream(|mut stream, _| async move {
        loop {
            let head = read_until(&mut stream, "\r\n\r\n").await;
            let answer = match head.split(' ').nth(1) {
                None => return,
                Some("/204") => "HTTP/1.1 204 No Content\r\n\r\n",
                Some("/304") => "HTTP/1.1 304 Not Modified\r\nETag: \"a\"\r\nContent-Length: 5\r\n\r\n",
                Some("/empty") => "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nKeep-Alive: timeout=5\r\n\r\n",
                Some("/103") => {
                    "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
                }
                Some(_) => "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",
            };
            if stream.write_all(answer.as_bytes()).await.is_err() {
                return;
            }
        }
    })
    .await;
    let world = world(upstream).await;
    let good = Good::connect(world.address).await;
    let check = async |method: &str, path: &str, status: u16, length: Option<&str>, body: &str| {
        let request = Request::builder().method(method).uri(format!("http://a.test{path}"));
        let answer = within(good.ask(request.body(()).unwrap(), None)).await.unwrap();
        let said = answer
            .head
            .headers()
            .get("content-length")
            .map(|length| length.to_str().unwrap());
        assert_eq!(
            (answer.status().as_u16(), said, answer.text().as_str()),
            (status, length, body),
            "{method} {path}"
        );
        assert!(!answer.head.headers().contains_key("keep-alive"));
    };
    check("HEAD", "/", 200, Some("5"), "").await;
    check("GET", "/204", 204, None, "").await;
    check("GET", "/304", 304, Some("5"), "").await;
    check("GET", "/empty", 200, Some("0"), "").await;
    check("GET", "/103", 200, Some("2"), "ok").await;
    let request = Request::head("http://b.test/").body(()).unwrap();
    let failed = within(good.ask(request, None)).await.unwrap();
    assert_eq!((failed.status().as_u16(), failed.body.len()), (404, 0));
    assert!(
        failed.head.headers()["content-length"]
            .to_str()
            .unwrap()
            .parse::<u64>()
            .unwrap()
            > 0
    );
}

/// Sends back every body as it came, chunk by chunk, with a trailer.
async fn mirror() -> std::net::SocketAddr {
    upstream(|mut stream, _| async move {
        loop {
            let head = read_until(&mut stream, "\r\n\r\n").await;
            if head.is_empty() {
                return;
            }
            let start = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
            if stream.write_all(start.as_bytes()).await.is_err() {
                return;
            }
            let length = head
                .split("\r\n")
                .find_map(|line| line.strip_prefix("content-length: "));
            let mut left: Option<usize> = length.map(|length| length.parse().unwrap());
            let mut trailers = String::new();
            loop {
                let size = match &mut left {
                    Some(left) => std::mem::take(left),
                    None => usize::from_str_radix(read_until(&mut stream, "\r\n").await.trim_end(), 16).unwrap_or(0),
                };
                if size == 0 {
                    if left.is_none() {
                        loop {
                            let line = read_until(&mut stream, "\r\n").await;
                            if line.len() <= 2 {
                                break;
                            }
                            trailers.push_str(&line);
                        }
                    }
                    break;
                }
                let mut data = vec![0; size];
                stream.read_exact(&mut data).await.unwrap();
                if left.is_none() {
                    read_until(&mut stream, "\r\n").await;
                }
                stream.write_all(format!("{size:x}\r\n").as_bytes()).await.unwrap();
                stream.write_all(&data).await.unwrap();
                stream.write_all(b"\r\n").await.unwrap();
            }
            let end = format!("0\r\nx-sum: 7\r\nkeep-alive: 1\r\n{trailers}\r\n");
            stream.write_all(end.as_bytes()).await.unwrap();
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_and_trailers_go_both_ways_unchanged() {
    let world = world(mirror().await).await;
    let good = Good::connect(world.address).await;
    let body: Bytes = (0..1_000_000_u32).map(|n| (n.wrapping_mul(7919) >> 5) as u8).collect();
    for length in [None, Some(body.len())] {
        let mut request = Request::post("http://a.test/").body(()).unwrap();
        if let Some(length) = length {
            request.headers_mut().insert("content-length", length.into());
        }
        let answer = within(good.ask(request, Some(body.clone()))).await.unwrap();
        assert!(answer.body == body, "{length:?}: {} bytes", answer.body.len());
        assert_eq!(answer.trailers.get("x-sum").unwrap(), "7");
        assert!(!answer.trailers.contains_key("keep-alive"));
    }
    // Fifty at a time on one connection.
    let many = (0..50).map(|n| {
        let (good, body) = (Good(good.0.clone()), body.slice(..20_000 + n));
        tokio::spawn(async move {
            let request = Request::post("http://a.test/").body(()).unwrap();
            let answer = good.ask(request, Some(body.clone())).await.unwrap();
            assert!(answer.body == body);
        })
    });
    for one in many.collect::<Vec<_>>() {
        within(one).await.unwrap();
    }
    assert_eq!(world.metric("proxy_connections"), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_waits_to_go_on_is_told_to() {
    let world = world(mirror().await).await;
    let mut raw = Raw::connect(world.address, &[]).await;
    let head = request("POST", "/", &[(b"expect", b"100-continue"), (b"content-length", b"2")]);
    raw.send(&frame(HEADERS, END_HEADERS, 1, &head)).await;
    let go_on = raw.next_on(1).await.unwrap();
    assert_eq!((go_on.kind, go_on.status()), (HEADERS, Some(100)), "{go_on:?}");
    raw.send(&frame(DATA, END_STREAM, 1, b"ok")).await;
    let answer = raw.next_on(1).await.unwrap();
    assert_eq!((answer.kind, answer.status()), (HEADERS, Some(200)), "{answer:?}");
    assert_eq!(raw.next_on(1).await.unwrap().payload, b"ok");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upstream_that_dies_in_the_middle_resets_the_stream() {
    for bytes in [
        "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\nnonsense",
    ] {
        let world = world(says(bytes).await).await;
        let good = Good::connect(world.address).await;
        let error = within(good.get("/")).await.unwrap_err();
        assert!(
            error.is_reset() && error.reason() == Some(Reason::INTERNAL_ERROR),
            "{bytes}: {error}"
        );
        world
            .logged(|line| {
                line["error_category"]
                    .as_str()
                    .is_some_and(|it| it.starts_with("upstream_"))
            })
            .await;
        // The connection serves on.
        let missing = Request::get("http://b.test/").body(()).unwrap();
        assert_eq!(within(good.ask(missing, None)).await.unwrap().status(), 404);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_cancels_cancels_the_upstreams_work() {
    let (told, mut heard) = tokio::sync::mpsc::unbounded_channel();
    let upstream = upstream(move |mut stream, _| {
        let told = told.clone();
        async move {
            read_until(&mut stream, "\r\n\r\n").await;
            told.send("came").unwrap();
            let ended = stream.read(&mut [0; 8]).await;
            assert!(matches!(ended, Ok(0) | Err(_)));
            told.send("gone").unwrap();
        }
    })
    .await;
    let world = world(upstream).await;
    let mut raw = Raw::connect(world.address, &[]).await;
    raw.send(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &get("/"))).await;
    assert_eq!(within(heard.recv()).await, Some("came"));
    raw.send(&frame(RST_STREAM, 0, 1, &8_u32.to_be_bytes())).await;
    assert_eq!(within(heard.recv()).await, Some("gone"));
    let line = world.logged(|line| line["protocol"] == "h2").await;
    assert_eq!(
        (&line["status"], &line["error_category"]),
        (&499.into(), &"client_closed".into())
    );
    assert_eq!(world.metric("proxy_inflight_requests"), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_the_client_did_not_get_is_not_called_one() {
    let world = world(says("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc").await).await;
    let mut raw = Raw::connect(world.address, &[(4, 0)]).await;
    raw.send(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &get("/cancelled")))
        .await;
    assert_eq!(raw.next_on(1).await.unwrap().status(), Some(200));
    raw.send(&frame(RST_STREAM, 0, 1, &8_u32.to_be_bytes())).await;
    let line = world.logged(|line| line["path"] == "/cancelled").await;
    assert_eq!(line["error_category"], "client_closed");
    raw.send(&frame(HEADERS, END_HEADERS | END_STREAM, 3, &get("/gone")))
        .await;
    assert_eq!(raw.next_on(3).await.unwrap().status(), Some(200));
    drop(raw);
    let line = world.logged(|line| line["path"] == "/gone").await;
    assert_eq!(line["error_category"], "client_closed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_revision_closes_nothing_and_serves_the_next_request() {
    let (one, two) = (
        says("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\none").await,
        says("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\ntwo").await,
    );
    let world = world(one).await;
    let good = Good::connect(world.address).await;
    assert_eq!(within(good.get("/")).await.unwrap().text(), "one");
    for number in 2..40 {
        let to = if number % 2 == 0 { two } else { one };
        world.serve(number, Setup::default().pool("all", &[to]).route("/", "all", None));
        let expected = if number % 2 == 0 { "two" } else { "one" };
        assert_eq!(within(good.get("/")).await.unwrap().text(), expected);
    }
    assert_eq!(world.metric("proxy_connections"), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_window_is_kept_to_the_byte() {
    let world = world(says("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nabcdef").await).await;
    // SETTINGS_INITIAL_WINDOW_SIZE 2.
    let mut raw = Raw::connect(world.address, &[(4, 2)]).await;
    raw.send(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &get("/"))).await;
    assert_eq!(raw.next_on(1).await.unwrap().status(), Some(200));
    assert_eq!(raw.next_on(1).await.unwrap().payload, b"ab");
    raw.send(&frame(WINDOW_UPDATE, 0, 1, &1_u32.to_be_bytes())).await;
    assert_eq!(raw.next_on(1).await.unwrap().payload, b"c");
    raw.send(&frame(WINDOW_UPDATE, 0, 1, &3_u32.to_be_bytes())).await;
    let last = raw.next_on(1).await.unwrap();
    assert_eq!(
        (last.payload.as_slice(), last.flags & END_STREAM),
        (&b"def"[..], END_STREAM),
        "no window is needed for the end"
    );
}
