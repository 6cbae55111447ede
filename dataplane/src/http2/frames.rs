//! Where the frames of an HTTP/2 connection begin and what they are (RFC 9113 §4.1), as they come and as they go, and how
//! many there are of those that cost a client nothing and a server something. Pure: bytes and times in, a broken rule out.
//!
//! The codec limits resets, fragments of heads and small `DATA` by itself; all else that it answers without limit is here.

use std::time::{Duration, Instant};

use sluice_model::limits::{
    HTTP2_BLOCK_FIELDS_MAX, HTTP2_CONTINUATIONS_MAX, HTTP2_EMPTY_DATA_MAX, HTTP2_OTHER_FRAMES_MAX, HTTP2_PINGS_MAX,
    HTTP2_PRIORITIES_MAX, HTTP2_RATE_WINDOW_MS, HTTP2_RESETS_MAX, HTTP2_SETTINGS_MAX, HTTP2_WINDOW_UPDATES_MAX,
};

use super::hpack::Block;
use crate::guard::rule::Rule;

const HEAD_BYTES: usize = 9;
const END_STREAM: u8 = 0x1;
const ACK: u8 = 0x1;
const END_HEADERS: u8 = 0x4;
const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;

/// A type of frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    Data,
    Headers,
    Priority,
    Reset,
    Settings,
    Ping,
    WindowUpdate,
    Continuation,
    Other,
}

impl Kind {
    fn of(byte: u8) -> Self {
        match byte {
            0 => Self::Data,
            1 => Self::Headers,
            2 => Self::Priority,
            3 => Self::Reset,
            4 => Self::Settings,
            6 => Self::Ping,
            8 => Self::WindowUpdate,
            9 => Self::Continuation,
            _ => Self::Other,
        }
    }
}

/// The head of a frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Head {
    pub(super) kind: Kind,
    pub(super) flags: u8,
    pub(super) stream: u32,
    pub(super) length: usize,
}

/// What comes next of a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Piece<'a> {
    /// A frame begins.
    Head(Head),
    /// More of the frame.
    Payload(&'a [u8]),
}

/// Finds frames in bytes, however they are cut.
#[derive(Debug, Default)]
pub(super) struct Scanner {
    head: [u8; HEAD_BYTES],
    have: usize,
    left: usize,
}

impl Scanner {
    /// What is left of the frame that has begun.
    pub(super) fn left(&self) -> usize {
        self.left
    }

    /// Whether it stands between two frames.
    pub(super) fn is_between(&self) -> bool {
        self.have == 0 && self.left == 0
    }

    /// Takes the next piece off `bytes`; `None`: the rest was too little for one, and is remembered.
    pub(super) fn next<'a>(&mut self, bytes: &mut &'a [u8]) -> Option<Piece<'a>> {
        if self.left > 0 {
            let count = self.left.min(bytes.len());
            let (payload, rest) = bytes
                .split_at_checked(count)
                .filter(|(payload, _)| !payload.is_empty())?;
            self.left = self.left.saturating_sub(count);
            *bytes = rest;
            return Some(Piece::Payload(payload));
        }
        while self.have < HEAD_BYTES {
            let (byte, rest) = bytes.split_first()?;
            if let Some(place) = self.head.get_mut(self.have) {
                *place = *byte;
            }
            self.have = self.have.saturating_add(1);
            *bytes = rest;
        }
        self.have = 0;
        let [l0, l1, l2, kind, flags, s0, s1, s2, s3] = self.head;
        self.left = u32::from_be_bytes([0, l0, l1, l2]) as usize;
        Some(Piece::Head(Head {
            kind: Kind::of(kind),
            flags,
            stream: u32::from_be_bytes([s0 & 0x7f, s1, s2, s3]),
            length: self.left,
        }))
    }
}

/// What a client has earned in the current window by using the connection as it is meant.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Credit {
    /// Requests answered in full.
    pub(super) answered: u32,
    /// Frames of responses that its window did not cut short.
    pub(super) pieces: u32,
}

/// How many there were in the current window.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Counts {
    opened: u32,
    pings: u32,
    settings: u32,
    empty_data: u32,
    resets: u32,
    priorities: u32,
    window_updates: u32,
    continuations: u32,
    other: u32,
}

/// Where in the header block of a frame the bytes are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Fragment {
    /// Bytes before it: the length of its padding, and a priority.
    before: usize,
    padded: bool,
    /// Of the block itself.
    left: usize,
}

/// What comes from a client.
#[derive(Debug)]
pub(super) struct Frames {
    scanner: Scanner,
    counts: Counts,
    since: Instant,
    highest: u32,
    settled: bool,
    kind: Kind,
    fragment: Fragment,
    block: Option<Block>,
    /// Since when a head, or the frame that begins one, is incomplete.
    head_since: Option<Instant>,
    ends_block: bool,
    /// How often streams may be reset.
    resets_max: u32,
}

impl Frames {
    /// After the preface, at this time, of a connection that may have so many streams.
    pub(super) fn new(now: Instant, streams: u32) -> Self {
        Self {
            resets_max: HTTP2_RESETS_MAX.max(streams),
            scanner: Scanner::default(),
            counts: Counts::default(),
            since: now,
            highest: 0,
            settled: false,
            kind: Kind::Other,
            fragment: Fragment {
                before: 0,
                padded: false,
                left: 0,
            },
            block: None,
            head_since: None,
            ends_block: false,
        }
    }

    /// Whether the client's first `SETTINGS` has come.
    pub(super) fn is_settled(&self) -> bool {
        self.settled
    }

    /// Since when something is incomplete that is not data of a body.
    pub(super) fn head_since(&self) -> Option<Instant> {
        self.head_since
    }

    /// So much is left of a frame of data; 0 if it is none.
    pub(super) fn data_left(&self) -> usize {
        match self.kind {
            Kind::Data => self.scanner.left(),
            Kind::Headers
            | Kind::Priority
            | Kind::Reset
            | Kind::Settings
            | Kind::Ping
            | Kind::WindowUpdate
            | Kind::Continuation
            | Kind::Other => 0,
        }
    }

    /// Whether a new window begins at this time; what was counted and earned is forgotten then.
    pub(super) fn roll(&mut self, now: Instant) -> bool {
        let over = now.saturating_duration_since(self.since) >= Duration::from_millis(HTTP2_RATE_WINDOW_MS);
        if over {
            self.since = now;
            self.counts = Counts::default();
        }
        over
    }

    /// Takes in what came. How many fields were begun in it.
    pub(super) fn feed(&mut self, mut bytes: &[u8], now: Instant, credit: Credit) -> Result<usize, Rule> {
        let mut fields = 0_usize;
        while let Some(piece) = self.scanner.next(&mut bytes) {
            match piece {
                Piece::Head(head) => self.begin(head, credit)?,
                Piece::Payload(payload) => fields = fields.saturating_add(self.payload(payload)?),
            }
            if self.scanner.left() == 0 && self.ends_block {
                self.block = None;
                self.ends_block = false;
            }
        }
        let waits = self.block.is_some() || (!self.scanner.is_between() && self.data_left() == 0);
        self.head_since = waits.then(|| self.head_since.unwrap_or(now));
        Ok(fields)
    }

    fn begin(&mut self, head: Head, credit: Credit) -> Result<(), Rule> {
        self.kind = head.kind;
        self.fragment = Fragment {
            before: 0,
            padded: false,
            left: 0,
        };
        let counts = &mut self.counts;
        let (count, most, rule) = match head.kind {
            Kind::Headers => {
                self.open(head);
                return Ok(());
            }
            Kind::Data if head.length > 0 || head.flags & END_STREAM != 0 => return Ok(()),
            Kind::Data => (&mut counts.empty_data, HTTP2_EMPTY_DATA_MAX, Rule::H2EmptyData),
            Kind::Priority => {
                let most = HTTP2_PRIORITIES_MAX.saturating_add(counts.opened);
                (&mut counts.priorities, most, Rule::H2Priorities)
            }
            Kind::Reset => {
                let most = self.resets_max.saturating_add(credit.answered);
                (&mut counts.resets, most, Rule::H2Resets)
            }
            Kind::Settings => {
                self.settled |= head.flags & ACK == 0;
                (&mut counts.settings, HTTP2_SETTINGS_MAX, Rule::H2Settings)
            }
            Kind::Ping => {
                let most = HTTP2_PINGS_MAX.saturating_add(credit.pieces);
                (&mut counts.pings, most, Rule::H2Pings)
            }
            Kind::WindowUpdate => {
                let used = counts.opened.saturating_add(credit.pieces).saturating_mul(3);
                let most = HTTP2_WINDOW_UPDATES_MAX.saturating_add(used);
                (&mut counts.window_updates, most, Rule::H2WindowUpdates)
            }
            Kind::Continuation => {
                self.ends_block = head.flags & END_HEADERS != 0;
                self.fragment.left = head.length;
                (
                    &mut counts.continuations,
                    HTTP2_CONTINUATIONS_MAX,
                    Rule::H2Continuations,
                )
            }
            Kind::Other => {
                let most = HTTP2_OTHER_FRAMES_MAX.saturating_add(counts.opened);
                (&mut counts.other, most, Rule::H2OtherFrames)
            }
        };
        *count = count.saturating_add(1);
        if *count > most {
            return Err(rule);
        }
        Ok(())
    }

    fn open(&mut self, head: Head) {
        if head.stream > self.highest {
            self.highest = head.stream;
            self.counts.opened = self.counts.opened.saturating_add(1);
        }
        let padded = head.flags & PADDED != 0;
        let before = usize::from(padded).saturating_add(if head.flags & PRIORITY != 0 { 5 } else { 0 });
        self.fragment = Fragment {
            before,
            padded,
            left: head.length.saturating_sub(before),
        };
        self.block = Some(Block::new());
        self.ends_block = head.flags & END_HEADERS != 0;
    }

    fn payload(&mut self, mut bytes: &[u8]) -> Result<usize, Rule> {
        let fragment = &mut self.fragment;
        while fragment.before > 0 {
            let Some((byte, rest)) = bytes.split_first() else {
                return Ok(0);
            };
            if fragment.padded {
                fragment.padded = false;
                fragment.left = fragment.left.saturating_sub(usize::from(*byte));
            }
            fragment.before = fragment.before.saturating_sub(1);
            bytes = rest;
        }
        let count = fragment.left.min(bytes.len());
        fragment.left = fragment.left.saturating_sub(count);
        let (Some(block), Some(part)) = (&mut self.block, bytes.get(..count)) else {
            return Ok(0); // no block: not a frame that has one, or a fragment of nothing, which the codec refuses
        };
        let before = block.fields();
        block.feed(part);
        if block.fields() > HTTP2_BLOCK_FIELDS_MAX {
            return Err(Rule::FieldCount);
        }
        Ok(block.fields().saturating_sub(before))
    }
}

#[cfg(test)]
mod tests {
    use sluice_model::limits::HTTP2_STREAMS_MAX;

    use super::*;

    fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
        frame.extend([kind, flags]);
        frame.extend(stream.to_be_bytes());
        frame.extend(payload);
        frame
    }

    /// Feeds so many of one frame; after how many it is too much.
    fn refused_at(frame: &[u8], count: usize, credit: Credit) -> Option<(usize, Rule)> {
        let now = Instant::now();
        let mut frames = Frames::new(now, HTTP2_STREAMS_MAX);
        (1..=count).find_map(|at| frames.feed(frame, now, credit).err().map(|rule| (at, rule)))
    }

    #[test]
    fn each_kind_has_its_rate() {
        let check = |kind, flags, stream, payload: &[u8], most: u32, rule| {
            let frame = frame(kind, flags, stream, payload);
            let limit = most as usize;
            assert_eq!(refused_at(&frame, limit, Credit::default()), None, "{rule:?}");
            assert_eq!(
                refused_at(&frame, limit + 1, Credit::default()),
                Some((limit + 1, rule))
            );
        };
        check(6, 0, 0, &[0; 8], HTTP2_PINGS_MAX, Rule::H2Pings);
        check(4, 0, 0, &[], HTTP2_SETTINGS_MAX, Rule::H2Settings);
        check(0, 0, 1, &[], HTTP2_EMPTY_DATA_MAX, Rule::H2EmptyData);
        check(3, 0, 1, &[0; 4], HTTP2_RESETS_MAX, Rule::H2Resets);
        check(2, 0, 1, &[0; 5], HTTP2_PRIORITIES_MAX, Rule::H2Priorities);
        check(8, 0, 1, &[0; 4], HTTP2_WINDOW_UPDATES_MAX, Rule::H2WindowUpdates);
        check(9, 0, 1, &[], HTTP2_CONTINUATIONS_MAX, Rule::H2Continuations);
        check(0xfa, 0, 0, &[], HTTP2_OTHER_FRAMES_MAX, Rule::H2OtherFrames);
        assert_eq!(refused_at(&frame(0, 0, 1, b"data"), 10_000, Credit::default()), None);
        assert_eq!(
            refused_at(&frame(0, END_STREAM, 1, &[]), 10_000, Credit::default()),
            None
        );
    }

    #[test]
    fn use_earns_what_abuse_does_not() {
        let credit = Credit {
            answered: 300,
            pieces: 200,
        };
        assert_eq!(refused_at(&frame(3, 0, 1, &[0; 4]), 400, credit), None);
        assert_eq!(refused_at(&frame(6, 0, 0, &[0; 8]), 300, credit), None);
        assert_eq!(refused_at(&frame(8, 0, 0, &[0; 4]), 700, credit), None);
        assert_eq!(
            refused_at(&frame(4, 0, 0, &[]), 51, credit),
            Some((51, Rule::H2Settings))
        );
    }

    #[test]
    fn a_window_is_forgotten_when_it_is_over() {
        let now = Instant::now();
        let mut frames = Frames::new(now, HTTP2_STREAMS_MAX);
        for _ in 0..HTTP2_PINGS_MAX {
            frames.feed(&frame(6, 0, 0, &[0; 8]), now, Credit::default()).unwrap();
        }
        let later = now + Duration::from_millis(HTTP2_RATE_WINDOW_MS);
        assert!(!frames.roll(later - Duration::from_millis(1)) && frames.roll(later));
        frames.feed(&frame(6, 0, 0, &[0; 8]), later, Credit::default()).unwrap();
    }

    #[test]
    fn fields_are_counted_through_padding_priorities_and_continuations() {
        let now = Instant::now();
        let feed = |bytes: &[u8]| {
            let mut whole = Frames::new(now, HTTP2_STREAMS_MAX);
            let all = whole.feed(bytes, now, Credit::default());
            let mut pieces = Frames::new(now, HTTP2_STREAMS_MAX);
            let each = bytes
                .chunks(1)
                .try_fold(0, |sum, byte| Ok(sum + pieces.feed(byte, now, Credit::default())?));
            assert_eq!(all, each, "however it comes");
            all
        };
        let padded = [&[2][..], &[0; 5], &[0x82, 0x86, 0x84], &[0x82; 2]].concat();
        assert_eq!(feed(&frame(1, END_HEADERS | PADDED | PRIORITY, 1, &padded)), Ok(3));
        let mut two = frame(1, 0, 1, &[0x82, 0x86]);
        two.extend(frame(9, END_HEADERS, 1, &[0x84]));
        assert_eq!(feed(&two), Ok(3));
        let bomb = frame(1, END_HEADERS, 1, &[0xbe; HTTP2_BLOCK_FIELDS_MAX + 1]);
        assert_eq!(feed(&bomb), Err(Rule::FieldCount));
    }

    #[test]
    fn what_is_incomplete_and_no_data_is_waited_for() {
        let now = Instant::now();
        let mut frames = Frames::new(now, HTTP2_STREAMS_MAX);
        let mut feed = |bytes: &[u8]| {
            frames.feed(bytes, now, Credit::default()).unwrap();
            frames.head_since().is_some()
        };
        assert!(feed(&frame(1, 0, 1, &[0x82])), "a head without its end");
        assert!(!feed(&frame(9, END_HEADERS, 1, &[])));
        let data = frame(0, 0, 1, b"data");
        assert!(feed(&data[..5]), "half the head of a frame");
        assert!(!feed(&data[5..11]), "half of a body's data is the body's business");
        assert!(!feed(&data[11..]));
    }
}
