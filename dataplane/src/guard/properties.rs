//! Properties of the framer: whatever comes, in pieces of whatever size, what goes to the codec is read alike by two parsers
//! that know nothing of ours (`readers.rs`).
//!
//! `cargo test -p sluice-dataplane --lib -- --ignored a_million` is the long form (20 s); `SLUICE_SEED` plays a run again.

use super::bounds::Bounds;
use super::framer::{Framer, Within};
use super::output::{Meets, Refusal};
use super::readers::{by_hand, by_httparse};
use crate::dice::{Dice, seeds};

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
    seeds(count).for_each(check);
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
