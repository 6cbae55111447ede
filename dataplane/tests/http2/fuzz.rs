//! Requests of HTTP/2 made up by chance, many at once on each connection, against an upstream of HTTP/1.1 that keeps every
//! byte. Whatever comes: two readers that know nothing of ours find the same messages in what went there, each with one host
//! and the mark of one request, none twice; and the instance serves on.
//!
//! `cargo test --release -p sluice-dataplane --test http2 -- --ignored a_million` is the long form; `SLUICE_SEED` plays a
//! connection again.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::client::*;
use super::dice::{Dice, seeds};
use super::readers::{by_hand, by_httparse};
use super::world::*;

/// Requests on one connection: as many as a client may have at once.
const STREAMS: u32 = 50;
/// The field by which a request is known again.
const MARK: &str = "x-mark";

/// Fields that are in order, that are not, and that look like framing, routing or a second request once they are text.
const FIELDS: &[(&[u8], &[u8])] = &[
    (b"a", b"b"),
    (b"a", b""),
    (b"a", b" b"),
    (b"a", b"b\t"),
    (b"a", b"\xff\x80"),
    (b"x_y", b"c"),
    (b"host", b"a.test"),
    (b"host", b"b.test"),
    (b"content-length", b"0"),
    (b"content-length", b"3"),
    (b"content-length", b"03"),
    (b"content-length", b"3, 3"),
    (b"content-length", b"+3"),
    (b"transfer-encoding", b"chunked"),
    (b"connection", b"close"),
    (b"connection", b"x-mark"),
    (b"keep-alive", b"1"),
    (b"upgrade", b"websocket"),
    (b"te", b"trailers"),
    (b"te", b"gzip"),
    (b"trailer", b"x"),
    (b"cookie", b"a=b"),
    (b"cookie", b"c=d;"),
    (b"expect", b"100-continue"),
    (b"x-forwarded-for", b"1.2.3.4"),
    (b"content-type", b"application/grpc"),
];
/// Fields for which the codec ends the connection, as a rule.
const WILD_FIELDS: &[(&[u8], &[u8])] = &[
    (b"a", b"b\r\nx-mark: 0"),
    (b"a", b"b\nc"),
    (b"a", b"b\0"),
    (b"A", b"b"),
    (b"a b", b"c"),
    (b"a:", b"c"),
    (b"a\r\nb", b"c"),
    (b"", b"c"),
    (b":path", b"/twice"),
    (b":status", b"200"),
    (b":protocol", b"websocket"),
];
const METHODS: &[&[u8]] = &[b"GET", b"GET", b"POST", b"HEAD", b"OPTIONS", b"CONNECT", b"get"];
const WILD_METHODS: &[&[u8]] = &[b"GET", b"G T", b"", b"GET /\r\n"];
const SCHEMES: &[&[u8]] = &[b"http", b"http", b"http", b"https", b"", b"a b"];
const AUTHORITIES: &[&[u8]] = &[
    b"a.test",
    b"a.test",
    b"a.test",
    b"A.TEST:80",
    b"b.test",
    b"u@a.test",
    b"a.test/x",
    b"a.test\r\nx: y",
    b"",
    b"[::1]",
    b"a.test:99999",
];
const PATHS: &[&[u8]] = &[
    b"/",
    b"/a?b=c",
    b"/a/../b",
    b"/%2e%2E/a",
    b"/%2f%5c%00",
    b"*",
    b"a",
    b"",
    b"//a",
    b"/a b",
    b"/a HTTP/1.1\r\nx-mark: 0",
    b"/#",
    b"/\xc3\xa4",
    b"/{}|^",
    b"http://b.test/",
];
const BODIES: &[&[u8]] = &[
    b"",
    b"abc",
    b"0\r\n\r\n",
    b"GET / HTTP/1.1\r\nhost: a.test\r\nx-mark: 0\r\n\r\n",
];

/// The first of them, which is in order, or any: so that many requests get through although one thing wrong ends them.
fn one<'a>(dice: &mut Dice, of: &[&'a [u8]]) -> &'a [u8] {
    let at = if dice.roll(5) == 0 { dice.roll(of.len()) } else { 0 };
    of[at]
}

/// What the requests of a connection may have wrong.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Manner {
    /// What concerns the request.
    Tame,
    /// Also what the codec ends the connection for, after which the others on it are lost.
    Wild,
}

/// The frames of one request with this mark.
fn made_up(dice: &mut Dice, manner: Manner, stream: u32, mark: &str) -> Vec<u8> {
    let (methods, more) = match manner {
        Manner::Tame => (METHODS, FIELDS),
        Manner::Wild => (WILD_METHODS, WILD_FIELDS),
    };
    let mut fields: Vec<(&[u8], &[u8])> = vec![
        (b":method", one(dice, methods)),
        (b":scheme", one(dice, SCHEMES)),
        (b":authority", one(dice, AUTHORITIES)),
        (b":path", one(dice, PATHS)),
    ];
    if dice.roll(12) == 0 {
        fields.remove(dice.roll(fields.len()));
    }
    fields.push((MARK.as_bytes(), mark.as_bytes()));
    // Most have few, so that many get through.
    for _ in 0..dice.roll(4).saturating_sub(1) {
        let at = if dice.roll(8) == 0 {
            dice.roll(fields.len())
        } else {
            fields.len()
        };
        fields.insert(at, more[dice.roll(more.len())]);
    }
    let mut head = block(&fields);
    if manner == Manner::Wild && dice.roll(40) == 0 {
        let at = dice.roll(head.len());
        head[at] = dice.next() as u8;
    }
    let body = (dice.roll(3) == 0).then(|| one(dice, BODIES));
    let ends = |last| if last { END_STREAM } else { 0 };
    let mut frames = frame(HEADERS, END_HEADERS | ends(body.is_none()), stream, &head);
    if let Some(body) = body {
        let trailers = dice.roll(3) == 0;
        frames.extend(frame(DATA, ends(!trailers), stream, body));
        if trailers {
            let field = more[dice.roll(more.len())];
            frames.extend(frame(HEADERS, END_HEADERS | END_STREAM, stream, &block(&[field])));
        }
    }
    frames
}

/// What came on each connection to the upstream.
#[derive(Clone, Default)]
struct Record(Arc<Mutex<Vec<Arrived>>>);

#[derive(Default)]
struct Arrived {
    bytes: Vec<u8>,
    answered: usize,
    /// Its last message was cut, so that the instance has given it up: what of it is still on the way says nothing.
    given_up: bool,
}

impl Record {
    async fn upstream(&self) -> std::net::SocketAddr {
        let record = self.clone();
        upstream(move |stream, number| record.clone().serve(stream, number as usize)).await
    }

    async fn serve(self, mut stream: TcpStream, number: usize) {
        let mut piece = vec![0; 16_384];
        loop {
            match stream.read(&mut piece).await {
                Ok(0) | Err(_) => return,
                Ok(count) => {
                    let replies = self.takes(number, &piece[..count]);
                    if stream.write_all(replies.as_bytes()).await.is_err() {
                        return;
                    }
                }
            }
        }
    }

    /// The answers to the messages that are whole by this piece, as httparse sees them.
    fn takes(&self, number: usize, piece: &[u8]) -> String {
        let mut all = self.0.lock().unwrap();
        let size = all.len().max(number + 1);
        all.resize_with(size, Default::default);
        let Arrived { bytes, answered, .. } = &mut all[number];
        bytes.extend_from_slice(piece);
        let found = by_httparse(bytes).unwrap_or_default();
        let whole = found.iter().filter(|(_, body)| body.is_some());
        let begun = *answered;
        whole.skip(begun).fold(String::new(), |replies, (at, _)| {
            *answered += 1;
            replies
                + &if bytes[*at..].starts_with(b"HEAD ") {
                    no_body()
                } else {
                    reply("ok")
                }
        })
    }

    /// Holds what has come against both readers, and begins anew. Gives the marks that were found; none while a head is
    /// on the way.
    fn marks(&self, seed: u64) -> Option<Vec<String>> {
        let mut all = self.0.lock().unwrap();
        let mut marks = Vec::new();
        for came in all.iter().filter(|came| !came.given_up) {
            let bytes = &came.bytes;
            let said = || format!("seed {seed}\n{}", bytes.escape_ascii());
            let one = match by_httparse(bytes) {
                Ok(found) => found,
                Err(error) if error.starts_with("half a head") => return None,
                Err(error) => panic!("httparse: {error}\n{}", said()),
            };
            let other = by_hand(bytes).unwrap_or_else(|error| panic!("by hand: {error}\n{}", said()));
            assert_eq!(one, other, "{}", said());
            for (at, _) in &one {
                marks.push(mark(&bytes[*at..]).unwrap_or_else(|| panic!("not one host and one mark\n{}", said())));
            }
        }
        for came in all.iter_mut() {
            came.given_up |=
                by_httparse(&came.bytes).is_ok_and(|found| found.last().is_some_and(|(_, body)| body.is_none()));
            came.bytes.clear();
            came.answered = 0;
        }
        Some(marks)
    }

    async fn all_marks(&self, seed: u64) -> Vec<String> {
        within(async {
            loop {
                if let Some(marks) = self.marks(seed) {
                    return marks;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await
    }
}

fn no_body() -> String {
    "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n".to_owned()
}

/// The mark of a message that has one, and one host.
fn mark(message: &[u8]) -> Option<String> {
    let mut fields = [httparse::EMPTY_HEADER; 100];
    let mut request = httparse::Request::new(&mut fields);
    request.parse(message).ok()?;
    let only = |name: &str| {
        let mut all = request
            .headers
            .iter()
            .filter(|field| field.name.eq_ignore_ascii_case(name));
        let first = all.next()?;
        all.next().is_none().then_some(first.value)
    };
    only("host")?;
    String::from_utf8(only(MARK)?.to_vec()).ok()
}

/// Sends all of it, and waits until each request is answered or reset, or the connection ends.
async fn sent(address: std::net::SocketAddr, frames: &[u8]) {
    let mut raw = Raw::connect(address, &[]).await;
    raw.send(frames).await;
    let mut open: BTreeSet<u32> = (0..STREAMS).map(|number| 2 * number + 1).collect();
    while !open.is_empty() {
        let Some(came) = raw.next().await else { return };
        match came.kind {
            GOAWAY => open.retain(|stream| *stream <= came.last()),
            RST_STREAM => _ = open.remove(&came.stream),
            HEADERS | DATA if came.flags & END_STREAM != 0 => _ = open.remove(&came.stream),
            _ => {}
        }
    }
}

async fn run(connections: u64) {
    let (mut all, mut forwarded) = (0, 0);
    let record = Record::default();
    let world = world(record.upstream().await).await;
    for seed in seeds(connections) {
        let mut dice = Dice(seed);
        let manner = if dice.roll(8) == 0 { Manner::Wild } else { Manner::Tame };
        let mut frames = Vec::new();
        for number in 0..STREAMS {
            frames.extend(made_up(&mut dice, manner, 2 * number + 1, &format!("{seed}-{number}")));
        }
        sent(world.address, &frames).await;
        let good = Good::connect(world.address).await;
        let asked = http::Request::get("http://a.test/")
            .header(MARK, "good")
            .body(())
            .unwrap();
        assert_eq!(good.ask(asked, None).await.unwrap().status(), 200, "seed {seed}");
        let marks = record.all_marks(seed).await;
        let known: BTreeSet<&String> = marks.iter().collect();
        assert_eq!(known.len(), marks.len(), "seed {seed}: one of them twice: {marks:?}");
        let (others, own): (Vec<&String>, Vec<&String>) =
            marks.iter().partition(|mark| !mark.starts_with(&format!("{seed}-")));
        assert_eq!(others, ["good"], "seed {seed}: of no request of this connection");
        (all, forwarded) = (all + STREAMS, forwarded + own.len());
    }
    println!("{all} requests, {forwarded} forwarded");
    assert!(forwarded > all as usize / 10, "too few get through to say anything");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_forwarded_is_read_alike_by_everybody() {
    run(60).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "the long form: a million requests"]
async fn a_million() {
    run(1_000_000 / u64::from(STREAMS)).await;
}
