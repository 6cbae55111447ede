//! The canonical bytes on their way to the codec. A head is handed on only once it is complete, so that a request that is
//! refused within it, or within what of its body came along, leaves nothing behind but a stand-in.

use std::ops::Range;

use sluice_model::limits::GUARD_READ_BYTES;

use super::rule::Rule;

/// How much of a refused request's line is known.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Line {
    /// All: it is sound, and the stand-in has it.
    Known,
    /// Nothing that could be trusted.
    Unknown,
}

/// Where a refusal meets the codec.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Meets {
    /// Nothing of the request was handed on: a stand-in takes its place, and asks to be refused.
    StandIn(Line),
    /// Its head was: reading its body fails.
    Body,
}

/// Which request of a connection is refused, and why.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Refusal {
    /// Counted from 1.
    pub(crate) request: u64,
    /// The rule it breaks.
    pub(crate) rule: Rule,
    /// Where it shows.
    pub(crate) meets: Meets,
}

/// Bytes that are ready to be handed on, and those of a message that is not.
#[derive(Debug, Default)]
pub(super) struct Output {
    bytes: Vec<u8>,
    /// How many of them were handed on.
    taken: usize,
    /// Where the latest message begins.
    message: usize,
    /// Where its request line ends, once it is sound.
    line_end: Option<usize>,
    /// Where its head ends, once that is complete.
    head_end: usize,
    /// Where its request id stands, as a whole field line.
    id: Option<Range<usize>>,
    stage: Stage,
}

/// What may be handed on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Stage {
    /// All that is there; nothing of the latest message was yet.
    #[default]
    Ready,
    /// All before the latest message: its head is not complete.
    Held,
    /// All that is there, and some of the latest message was already.
    Begun,
}

impl Output {
    /// Where to write.
    pub(super) fn bytes(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// Another message begins; what follows is held.
    pub(super) fn begin(&mut self) {
        self.message = self.bytes.len();
        self.line_end = None;
        self.head_end = self.message;
        self.id = None;
        self.stage = Stage::Held;
    }

    /// Its request line is sound and written.
    pub(super) fn line_is_sound(&mut self) {
        self.line_end = Some(self.bytes.len());
    }

    /// The field written from `start` on is its request id.
    pub(super) fn id_since(&mut self, start: usize) {
        self.id = Some(start..self.bytes.len());
    }

    /// Its head is complete and may go on.
    pub(super) fn release(&mut self) {
        self.head_end = self.bytes.len();
        self.stage = Stage::Ready;
    }

    /// Puts the stand-in in the place of the latest message, unless some of that has gone on.
    pub(super) fn refuse(&mut self) -> Meets {
        if self.stage == Stage::Begun {
            // What is left of its body is of no use to anybody; its head is, so that there is a request that fails.
            self.bytes.truncate(self.taken.max(self.head_end));
            return Meets::Body;
        }
        let id = self
            .id
            .take()
            .and_then(|range| self.bytes.get(range))
            .map(<[u8]>::to_vec);
        let line = match self.line_end {
            Some(end) => {
                self.bytes.truncate(end);
                Line::Known
            }
            None => {
                self.bytes.truncate(self.message);
                self.bytes.extend_from_slice(b"GET / HTTP/1.1\r\n");
                Line::Unknown
            }
        };
        self.bytes.extend_from_slice(&id.unwrap_or_default());
        self.bytes.extend_from_slice(b"connection:close\r\n\r\n");
        self.stage = Stage::Ready;
        Meets::StandIn(line)
    }

    /// What may be handed on now.
    pub(super) fn ready(&self) -> &[u8] {
        let end = match self.stage {
            Stage::Held => self.message,
            Stage::Ready | Stage::Begun => self.bytes.len(),
        };
        self.bytes.get(self.taken..end).unwrap_or_default()
    }

    /// So many of the ready bytes were handed on.
    pub(super) fn take(&mut self, count: usize) {
        self.taken = self.taken.saturating_add(count).min(self.bytes.len());
        if self.stage == Stage::Ready && self.taken > self.message {
            self.stage = Stage::Begun;
        }
        if self.taken == self.bytes.len() {
            self.clear();
        } else if self.stage == Stage::Held && self.taken == self.message {
            self.close_up();
        }
    }

    /// Bytes of the latest message went past, straight from the connection to the codec.
    pub(super) fn went_past(&mut self) {
        self.stage = Stage::Begun;
    }

    fn clear(&mut self) {
        self.bytes.clear();
        if self.bytes.capacity() > GUARD_READ_BYTES {
            self.bytes = Vec::new();
        }
        (self.taken, self.message, self.head_end) = (0, 0, 0);
        (self.line_end, self.id) = (None, None);
    }

    /// Moves what is held to the front.
    fn close_up(&mut self) {
        let by = self.taken;
        self.bytes.drain(..by);
        self.taken = 0;
        self.message = 0;
        self.head_end = 0;
        self.line_end = self.line_end.map(|end| end.saturating_sub(by));
        self.id = self
            .id
            .take()
            .map(|id| id.start.saturating_sub(by)..id.end.saturating_sub(by));
    }
}
