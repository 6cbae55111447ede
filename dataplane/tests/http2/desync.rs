//! The desync corpus of HTTP/2 (`cases.txt`) against a byte-recording upstream of HTTP/1.1: what is refused leaves no byte
//! there; what is forwarded arrives in exactly one form, once.

use super::client::*;
use super::recorder::*;

/// How a case has to end.
#[derive(Clone, PartialEq, Eq, Debug)]
enum End {
    Forwarded(String),
    Refused(u16, String),
    /// The codec resets the stream, or ends the connection.
    Reset,
}

#[derive(Debug)]
struct Case {
    name: String,
    frames: Vec<u8>,
    end: End,
}

fn cases() -> Vec<Case> {
    let text = include_str!("cases.txt");
    let blocks = text.split("\n\n").filter(|block| !block.starts_with('#'));
    blocks.map(|block| case(block.trim_matches('\n'))).collect()
}

fn case(block: &str) -> Case {
    let lines: Vec<&str> = block.split('\n').collect();
    let [name, sent, expected] = lines[..] else {
        panic!("not three lines: {block:?}")
    };
    let expected = expected.strip_prefix("-> ").expect(expected);
    let end = match expected.split_once(' ') {
        _ if expected == "reset" => End::Reset,
        Some((status, rule)) if status.parse::<u16>().is_ok() => End::Refused(status.parse().unwrap(), rule.to_owned()),
        Some(_) | None => End::Forwarded(in_order(&escaped(expected))),
    };
    Case {
        name: name.to_owned(),
        frames: frames(sent),
        end,
    }
}

/// `fields||body||trailers`, the last two optional; `~` is a GET of `http://a.test/`, and `~X Y` the same with method X and path Y.
fn frames(sent: &str) -> Vec<u8> {
    let mut parts = sent.split("||");
    let head = fields(parts.next().unwrap());
    let (body, trailers) = (parts.next(), parts.next());
    let ends = |last: bool| if last { END_STREAM } else { 0 };
    let mut pieces = head.chunks(16_000).peekable();
    let (mut all, mut kind, mut flags) = (Vec::new(), HEADERS, ends(body.is_none()));
    while let Some(piece) = pieces.next() {
        let last = if pieces.peek().is_none() { END_HEADERS } else { 0 };
        all.extend(frame(kind, flags | last, 1, piece));
        (kind, flags) = (CONTINUATION, 0);
    }
    if let Some(body) = body {
        all.extend(frame(DATA, ends(trailers.is_none()), 1, &unescape(body)));
    }
    if let Some(trailers) = trailers {
        all.extend(frame(HEADERS, END_HEADERS | END_STREAM, 1, &fields(trailers)));
    }
    all
}

fn fields(text: &str) -> Vec<u8> {
    let mut block_bytes = Vec::new();
    for field in text.split('|') {
        if let Some(usual) = field.strip_prefix('~') {
            let (method, path) = usual.split_once(' ').unwrap_or(("GET", "/"));
            let (method, path) = (unescape(method), unescape(path));
            block_bytes.extend(block(&[
                (b":method", &method),
                (b":scheme", b"http"),
                (b":authority", b"a.test"),
                (b":path", &path),
            ]));
            continue;
        }
        let colon = field[1..].find(": ").expect(field) + 1;
        let (name, value) = (unescape(&field[..colon]), unescape(&field[colon + 2..]));
        block_bytes.extend(block(&[(&name, &value)]));
    }
    block_bytes
}

/// How it ended for the client, and the body that said so.
async fn ended(raw: &mut Raw) -> (Option<u16>, Vec<u8>) {
    let (mut status, mut body) = (None, Vec::new());
    while let Some(came) = raw.next().await {
        match came.kind {
            GOAWAY => return (None, body),
            RST_STREAM => return (status, body),
            HEADERS if came.stream == 1 => status = came.status(),
            DATA if came.stream == 1 => body.extend(&came.payload),
            _ => continue,
        }
        if matches!(came.kind, HEADERS | DATA) && came.flags & END_STREAM != 0 {
            break;
        }
    }
    (status, body)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_case_of_the_corpus() {
    let record = Record::default();
    let world = world(recorder(record.clone()).await).await;
    let cases = cases();
    assert!(cases.len() >= 90, "{}", cases.len());
    let mut wrong = Vec::new();
    for case in &cases {
        record.lock().unwrap().clear();
        let mut raw = Raw::connect(world.address, &[]).await;
        raw.send(&case.frames).await;
        let (status, body) = ended(&mut raw).await;
        let seen: Vec<String> = record.lock().unwrap().iter().map(|request| plain(request)).collect();
        let (wanted, forwarded) = match &case.end {
            End::Forwarded(text) => (Some(200), vec![text.clone()]),
            End::Refused(status, _) => (Some(*status), vec![]),
            End::Reset => (None, vec![]),
        };
        if (status, &seen) != (wanted, &forwarded) {
            let said = String::from_utf8_lossy(&body);
            wrong.push(format!(
                "{}: {status:?} {seen:?}, not {:?}: {said}",
                case.name, case.end
            ));
            continue;
        }
        if let End::Refused(_, rule) = &case.end {
            let body: serde_json::Value = serde_json::from_slice(&body).expect(&case.name);
            let id = body["request_id"].as_str().unwrap().to_owned();
            let line = world.logged(|line| line["request_id"] == id.as_str()).await;
            if line["refused_by"] != rule.as_str() {
                wrong.push(format!("{}: refused by {}, not {rule}", case.name, line["refused_by"]));
            }
        }
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
    let count = |fits: fn(&End) -> bool| cases.iter().filter(|case| fits(&case.end)).count();
    println!(
        "{} cases: {} forwarded, {} answered, {} reset",
        cases.len(),
        count(|end| matches!(end, End::Forwarded(_))),
        count(|end| matches!(end, End::Refused(..))),
        count(|end| *end == End::Reset),
    );
    // Each is counted, also where the codec refuses.
    let resets = count(|end| *end == End::Reset) as u64;
    world
        .metric_is("proxy_refused_requests_total{rule=\"h2_protocol\"}", resets)
        .await;
    let delta = world.store.stats().drain();
    assert_eq!(
        delta.roles[0].scopes[0].failures, 0,
        "none of it is anybody's failure but the client's"
    );
}
