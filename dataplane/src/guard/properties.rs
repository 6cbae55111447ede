//! Properties of the framer: whatever comes, in pieces of whatever size, what goes to the codec is read alike by two parsers
//! that know nothing of ours: httparse, which the codec uses, and a strict one of this file.
//!
//! `cargo test -p sluice-dataplane --lib -- --ignored a_million` is the long form (20 s); `SLUICE_SEED` plays a run again.

use super::bounds::Bounds;
use super::framer::{Framer, Within};
use super::output::{Meets, Refusal};

/// splitmix64: seeds that are printed, and nothing more to install.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) as usize) % sides
    }
}

/// Scraps of which requests, and what looks like them, are made.
const SCRAPS: &[&[u8]] = &[
    b"GET / HTTP/1.1\r\n",
    b"POST /a?b HTTP/1.1\r\n",
    b"GET http://a.test?x HTTP/1.1\r\n",
    b"OPTIONS * HTTP/1.0\r\n",
    b"CONNECT a:1 HTTP/1.1\r\n",
    b"GET /\"{}|~[] HTTP/1.1\r\n",
    b"GET /?'`^\\{}|~[]?/ HTTP/1.1\r\n",
    b"Host: a.test\r\n",
    b"Content-Length: 3\r\n",
    b"Content-Length: 012\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"transfer-encoding:CHUNKED\r\n",
    b"Connection: close\r\n",
    b"Connection: upgrade\r\nUpgrade: websocket\r\n",
    b"X-Request-Id: 7\r\n",
    b"Expect: 100-continue\r\n",
    b"X: \xff \t y \t\r\n",
    b"\r\n",
    b"\r\n",
    b"\r\n",
    b"abc",
    b"3\r\nabc\r\n",
    b"3;a=\"b\"\r\nabc\r\n",
    b"0\r\n\r\n",
    b"0\r\nX: y\r\n\r\n",
    b"a\r\n0123456789\r\n",
    b"\n",
    b"\r",
    b" ",
    b":",
    b"\x00",
    b"G",
    b"3",
];

fn input(dice: &mut Dice) -> Vec<u8> {
    let mut input = Vec::new();
    for _ in 0..dice.roll(14) {
        input.extend_from_slice(SCRAPS[dice.roll(SCRAPS.len())]);
    }
    for _ in 0..dice.roll(3) {
        if !input.is_empty() {
            let at = dice.roll(input.len());
            input[at] = dice.roll(256) as u8;
        }
    }
    input
}

/// What is held back behind a request for another protocol is always the next request here.
fn go_on(framer: &mut Framer) -> Option<Refusal> {
    while framer.within() == Within::Held {
        if let Err(refusal) = framer.go_on() {
            return Some(refusal);
        }
    }
    None
}

/// Feeds it in pieces and hands on in pieces, as the connection and the codec would.
fn framed(input: &[u8], dice: &mut Dice) -> (Vec<u8>, Option<Meets>) {
    let mut framer = Framer::new(Bounds::default());
    let mut out = Vec::new();
    let mut refusal = None;
    let mut rest = input;
    while !rest.is_empty() && refusal.is_none() {
        let (piece, after) = rest.split_at(1 + dice.roll(rest.len()));
        rest = after;
        refusal = framer.feed(piece).err().or_else(|| go_on(&mut framer));
        let mut hands = dice.roll(4);
        while hands > 0 || rest.is_empty() || refusal.is_some() {
            let ready = framer.out.ready();
            if ready.is_empty() {
                break;
            }
            let count = 1 + dice.roll(ready.len());
            out.extend_from_slice(&ready[..count]);
            framer.out.take(count);
            hands = hands.saturating_sub(1);
        }
    }
    (out, refusal.map(|refusal| refusal.meets))
}

/// Where each message of `bytes` begins and how long its body is on the wire, as one reader sees it; `None` at the end: cut.
type Framing = Vec<(usize, Option<usize>)>;

/// httparse for heads, and for the sizes of chunks.
fn by_httparse(bytes: &[u8]) -> Result<Framing, String> {
    let mut framing = Framing::new();
    let mut at = 0;
    while at < bytes.len() {
        let mut fields = [httparse::EMPTY_HEADER; 100];
        let mut request = httparse::Request::new(&mut fields);
        let head = match request
            .parse(&bytes[at..])
            .map_err(|error| format!("{error} at {at}"))?
        {
            httparse::Status::Complete(head) => head,
            httparse::Status::Partial => return Err(format!("half a head at {at}")),
        };
        http::Uri::try_from(request.path.unwrap()).map_err(|error| format!("{error}: {:?}", request.path))?;
        let value = |name: &str| {
            request
                .headers
                .iter()
                .find(|field| field.name.eq_ignore_ascii_case(name))
                .map(|field| field.value)
        };
        let body = match (value("transfer-encoding"), value("content-length")) {
            (Some(_), _) => chunks(&bytes[at + head..]),
            (None, Some(length)) => Some(std::str::from_utf8(length).unwrap().parse().unwrap()),
            (None, None) => Some(0),
        };
        let body = body.filter(|body| at + head + body <= bytes.len());
        framing.push((at, body));
        let Some(body) = body else { break };
        at += head + body;
    }
    Ok(framing)
}

fn chunks(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        let httparse::Status::Complete((line, size)) = httparse::parse_chunk_size(bytes.get(at..)?).unwrap() else {
            return None;
        };
        at += line;
        if size == 0 {
            let mut fields = [httparse::EMPTY_HEADER; 100];
            return match httparse::parse_headers(bytes.get(at..)?, &mut fields).unwrap() {
                httparse::Status::Complete((trailers, _)) => Some(at + trailers),
                httparse::Status::Partial => None,
            };
        }
        at += usize::try_from(size).ok()?;
        match bytes.get(at..at + 2) {
            Some(end) => assert_eq!(end, b"\r\n"),
            None => return None,
        }
        at += 2;
    }
}

/// Strict: what is not exactly as we write it is an error.
fn by_hand(bytes: &[u8]) -> Result<Framing, String> {
    let mut framing = Framing::new();
    let mut at = 0;
    while at < bytes.len() {
        let end = find(&bytes[at..], b"\r\n\r\n").ok_or(format!("no end of the head at {at}"))? + 4;
        let head: String = bytes[at..at + end - 4].iter().map(|byte| char::from(*byte)).collect();
        if head.replace("\r\n", "").contains(['\r', '\n', '\0']) {
            return Err(format!("stray control characters in {head:?}"));
        }
        let mut lines = head.split("\r\n");
        if lines.next().unwrap().split(' ').count() != 3 {
            return Err(format!("not three words in {head:?}"));
        }
        let mut body = Some(0);
        let mut framings = 0;
        for line in lines {
            let (name, value) = line.split_once(':').ok_or(format!("no colon in {line:?}"))?;
            match (name.to_ascii_lowercase().as_str(), value) {
                ("transfer-encoding", "chunked") => body = chunks_by_hand(&bytes[at + end..])?,
                ("content-length", value) if value == value.parse::<u64>().unwrap_or(u64::MAX).to_string() => {
                    body = value.parse().ok();
                }
                ("transfer-encoding" | "content-length", _) => return Err(format!("{line:?}")),
                (_, _) => continue,
            }
            framings += 1;
        }
        if framings > 1 {
            return Err(format!("two framings in {head:?}"));
        }
        let body = body.filter(|body| at + end + body <= bytes.len());
        framing.push((at, body));
        let Some(body) = body else { break };
        at += end + body;
    }
    Ok(framing)
}

fn chunks_by_hand(bytes: &[u8]) -> Result<Option<usize>, String> {
    let mut at = 0;
    loop {
        let Some(line) = find(&bytes[at..], b"\r\n") else {
            return Ok(None);
        };
        let text = std::str::from_utf8(&bytes[at..at + line]).map_err(|_| "a size")?;
        let size = usize::from_str_radix(text, 16).map_err(|_| format!("size {text:?}"))?;
        if format!("{size:x}") != text {
            return Err(format!("size {text:?}"));
        }
        at += line + 2;
        if size == 0 {
            let trailers = &bytes[at..];
            let end = if trailers.starts_with(b"\r\n") {
                Some(2)
            } else {
                find(trailers, b"\r\n\r\n").map(|end| end + 4)
            };
            return Ok(end.map(|end| at + end));
        }
        at += size;
        match bytes.get(at..at + 2) {
            None => return Ok(None),
            Some(b"\r\n") => at += 2,
            Some(other) => return Err(format!("{other:?} after a chunk")),
        }
    }
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

fn check(seed: u64) {
    let mut dice = Dice(seed);
    let input = input(&mut dice);
    let (out, refusal) = framed(&input, &mut dice);
    let shown = || {
        format!(
            "seed {seed}\n in {:?}\nout {:?}",
            input.escape_ascii().to_string(),
            out.escape_ascii().to_string()
        )
    };
    let one = by_httparse(&out).unwrap_or_else(|error| panic!("httparse: {error}\n{}", shown()));
    let other = by_hand(&out).unwrap_or_else(|error| panic!("by hand: {error}\n{}", shown()));
    assert_eq!(one, other, "{}", shown());
    if let Some(Meets::StandIn(_)) = refusal {
        assert!(out.ends_with(b"connection:close\r\n\r\n"), "{}", shown());
        assert!(
            one.iter().all(|(_, body)| body.is_some()),
            "a stand-in is whole: {}",
            shown()
        );
    }
}

fn run(count: u64) {
    let seed = std::env::var("SLUICE_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or(1);
    println!("seeds {seed} to {}", seed + count - 1);
    (seed..seed + count).for_each(check);
}

#[test]
fn what_is_emitted_is_read_alike_by_everybody() {
    run(20_000);
}

#[test]
#[ignore = "the long form: a million inputs"]
fn a_million() {
    run(1_000_000);
}

proptest::proptest! {
    #[test]
    fn no_bytes_make_it_panic(input: Vec<u8>, seed: u64) {
        let _ = framed(&input, &mut Dice(seed));
    }

    /// However a request is cut into pieces, the same comes out.
    #[test]
    fn pieces_do_not_matter(seed: u64) {
        let input = input(&mut Dice(seed));
        let mut whole = Framer::new(Bounds::default());
        let one = whole.feed(&input).err().or_else(|| go_on(&mut whole)).map(|refusal| refusal.rule);
        let mut bytes = Framer::new(Bounds::default());
        let mut other = None;
        for byte in &input {
            if other.is_none() {
                let refusal = bytes.feed(std::slice::from_ref(byte)).err();
                other = refusal.or_else(|| go_on(&mut bytes)).map(|refusal| refusal.rule);
            }
        }
        proptest::prop_assert_eq!(one, other);
        proptest::prop_assert_eq!(whole.out.ready(), bytes.out.ready());
    }
}
