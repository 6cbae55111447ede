//! Where each request of a connection begins and ends. Takes raw bytes in pieces of any size and writes canonical ones:
//! the same requests, framed in one way only. Pure, so that properties can be tried on it a million times.
//!
//! After the first anomaly it takes nothing more: nobody can know what the bytes that follow mean.

use sluice_model::limits::{
    MAX_CHUNK_LINE_BYTES, MAX_REQUEST_FIELDS, MAX_REQUEST_METHOD_BYTES, MAX_REQUEST_TRAILER_BYTES,
};

use super::bounds::Bounds;
use super::chunk;
use super::head::{Body, Head, Next, write_field};
use super::output::{Output, Refusal};
use super::rule::Rule;
use super::syntax;

/// What `method SP target SP version CRLF` can have at most beside its target.
const AROUND_TARGET_BYTES: usize = MAX_REQUEST_METHOD_BYTES + 12;
/// What a field line can have at most beside name and value: a colon, a line end, and some whitespace.
const AROUND_FIELD_BYTES: usize = 64;

/// What is expected next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// A request line.
    Start(Blank),
    /// A field of a head, or its end.
    Fields(Head),
    /// So many bytes of a body.
    Sized(u64),
    /// The size of a chunk.
    ChunkSize,
    /// So many bytes of a chunk.
    ChunkData(u64),
    /// The line end after a chunk.
    ChunkEnd,
    /// A field of trailers, or their end.
    Trailers(Trailers),
    /// What that is depends on the answer to the request before, which asks for another protocol.
    Held,
    /// Nothing: the last request is over.
    Over,
    /// Nothing: a request was refused.
    Refused,
}

/// Whether an empty line may stand before a request line. RFC 9112 §2.2 wants one to be let pass: old clients end bodies so.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Blank {
    May,
    MayNot,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Trailers {
    bytes: usize,
    fields: usize,
}

/// What a connection is in the middle of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Within {
    /// Nothing: it rests between requests.
    Nothing,
    /// A head.
    Head,
    /// A body.
    Body,
    /// Nothing that is known yet: what comes is held back.
    Held,
    /// It is over: nothing that comes is a request.
    End,
}

/// Frames the requests of one connection.
#[derive(Debug)]
pub(super) struct Framer {
    state: State,
    bounds: Bounds,
    /// The beginning of a line whose end has not come.
    line: Vec<u8>,
    /// What is held back.
    held: Vec<u8>,
    next: Next,
    /// How many requests have begun.
    requests: u64,
    /// What goes to the codec.
    pub(super) out: Output,
}

impl Framer {
    /// Of a connection with these bounds.
    pub(super) fn new(bounds: Bounds) -> Self {
        Self {
            state: State::Start(Blank::May),
            bounds,
            line: Vec::new(),
            held: Vec::new(),
            next: Next::Request,
            requests: 0,
            out: Output::default(),
        }
    }

    /// The bounds are others from now on.
    pub(super) fn follow(&mut self, bounds: Bounds) {
        self.bounds = bounds;
    }

    /// Takes in what came. On an anomaly the request it belongs to is refused, and all that follows is ignored.
    pub(super) fn feed(&mut self, mut input: &[u8]) -> Result<(), Refusal> {
        while !input.is_empty() && self.within() != Within::End {
            input = self.step(input).map_err(|rule| self.refuse(rule))?;
        }
        Ok(())
    }

    /// Nothing more comes. A body that is cut is seen by the codec.
    pub(super) fn end(&mut self) -> Result<(), Refusal> {
        match self.within() {
            Within::Head => Err(self.refuse(Rule::HeadCut)),
            Within::Nothing | Within::Body | Within::Held | Within::End => Ok(()),
        }
    }

    /// Refuses what is under way.
    pub(super) fn refuse(&mut self, rule: Rule) -> Refusal {
        if matches!(self.state, State::Start(_)) {
            self.begin();
        }
        self.state = State::Refused;
        self.line = Vec::new();
        Refusal {
            request: self.requests,
            rule,
            meets: self.out.refuse(),
        }
    }

    /// What it is in the middle of.
    pub(super) fn within(&self) -> Within {
        match self.state {
            State::Start(_) if self.line.is_empty() => Within::Nothing,
            State::Start(_) | State::Fields(_) => Within::Head,
            State::Sized(_) | State::ChunkSize | State::ChunkData(_) | State::ChunkEnd | State::Trailers(_) => {
                Within::Body
            }
            State::Held => Within::Held,
            State::Over | State::Refused => Within::End,
        }
    }

    /// How many requests have begun.
    pub(super) fn requests(&self) -> u64 {
        self.requests
    }

    /// What is held back.
    pub(super) fn held(&mut self) -> &mut Vec<u8> {
        &mut self.held
    }

    /// What was held back is the next request after all.
    pub(super) fn go_on(&mut self) -> Result<(), Refusal> {
        self.state = State::Start(Blank::May);
        let held = std::mem::take(&mut self.held);
        self.feed(&held)
    }

    /// Whether so many bytes to come are data of a body, which may go past the framer if `went_past` is told.
    pub(super) fn is_all_data(&self, bytes: usize) -> bool {
        matches!(self.state, State::Sized(left) if left >= bytes as u64) && self.out.ready().is_empty()
    }

    /// So many bytes of data went past.
    pub(super) fn went_past(&mut self, bytes: usize) {
        if let State::Sized(left) = self.state {
            self.out.went_past();
            self.state = self.after_sized(left.saturating_sub(bytes as u64));
        }
    }

    /// The first of `input` that belongs together; returns the rest.
    fn step<'a>(&mut self, input: &'a [u8]) -> Result<&'a [u8], Rule> {
        match self.state {
            State::Sized(left) => {
                let (data, rest) = split(input, left);
                self.out.bytes().extend_from_slice(data);
                self.state = self.after_sized(left.saturating_sub(data.len() as u64));
                Ok(rest)
            }
            State::ChunkData(left) => {
                let (data, rest) = split(input, left);
                self.out.bytes().extend_from_slice(data);
                self.state = match left.saturating_sub(data.len() as u64) {
                    0 => State::ChunkEnd,
                    left => State::ChunkData(left),
                };
                Ok(rest)
            }
            State::Start(_) | State::Fields(_) | State::ChunkSize | State::ChunkEnd | State::Trailers(_) => {
                self.gather_line(input)
            }
            State::Held => {
                self.held.extend_from_slice(input);
                Ok(&[])
            }
            State::Over | State::Refused => Ok(&[]),
        }
    }

    fn gather_line<'a>(&mut self, input: &'a [u8]) -> Result<&'a [u8], Rule> {
        self.check_first(input)?;
        let end = input
            .iter()
            .position(|byte| *byte == b'\n')
            .map(|end| end.saturating_add(1));
        let (piece, rest) = input
            .split_at_checked(end.unwrap_or(input.len()))
            .unwrap_or((input, &[]));
        let (limit, too_long) = self.line_limit();
        if self.line.len().saturating_add(piece.len()) > limit {
            return Err(too_long);
        }
        if self.line.is_empty() && end.is_some() {
            self.whole_line(piece)?;
            return Ok(rest);
        }
        self.line.extend_from_slice(piece);
        if end.is_some() {
            let whole = std::mem::take(&mut self.line);
            self.whole_line(&whole)?;
        }
        Ok(rest)
    }

    /// What cannot become a line is refused at its first byte: what speaks something else altogether shall not have to wait
    /// for a line end that never comes.
    fn check_first(&self, input: &[u8]) -> Result<(), Rule> {
        let Some(&first) = input.first().filter(|_| self.line.is_empty()) else {
            return Ok(());
        };
        match self.state {
            State::Start(_) if !syntax::is_tchar(first) && !matches!(first, b'\r' | b'\n') => Err(Rule::RequestLine),
            State::ChunkEnd if first == b'\n' => Err(Rule::BareLf),
            State::ChunkEnd if first != b'\r' => Err(Rule::ChunkEnd),
            State::Start(_) | State::Fields(_) | State::ChunkSize | State::ChunkEnd | State::Trailers(_) => Ok(()),
            State::Sized(_) | State::ChunkData(_) | State::Held | State::Over | State::Refused => Ok(()),
        }
    }

    fn line_limit(&self) -> (usize, Rule) {
        match self.state {
            State::Start(_) => {
                let line = self.bounds.target_bytes.saturating_add(AROUND_TARGET_BYTES);
                self.within_head(line, Rule::TargetSize)
            }
            State::Fields(_) => {
                let line = self.bounds.field_bytes.saturating_add(AROUND_FIELD_BYTES);
                self.within_head(line, Rule::FieldSize)
            }
            State::Trailers(_) => (MAX_REQUEST_TRAILER_BYTES, Rule::TrailerSize),
            State::ChunkSize => (MAX_CHUNK_LINE_BYTES, Rule::ChunkExtension),
            State::ChunkEnd => (2, Rule::ChunkEnd),
            State::Sized(_) | State::ChunkData(_) | State::Held | State::Over | State::Refused => (0, Rule::HeadSize),
        }
    }

    /// No line is longer than a head may be.
    fn within_head(&self, line_bytes: usize, too_long: Rule) -> (usize, Rule) {
        match self.bounds.head_bytes {
            head if head < line_bytes => (head, Rule::HeadSize),
            _ => (line_bytes, too_long),
        }
    }

    fn whole_line(&mut self, raw: &[u8]) -> Result<(), Rule> {
        let line = syntax::line(raw)?;
        match self.state {
            State::Start(Blank::May) if line.is_empty() => self.state = State::Start(Blank::MayNot),
            State::Start(_) => self.request_line(line, raw.len())?,
            State::Fields(head) => self.head_line(head, line, raw.len())?,
            State::ChunkSize => self.chunk_size(line)?,
            State::ChunkEnd => {
                self.out.bytes().extend_from_slice(b"\r\n");
                self.state = State::ChunkSize;
            }
            State::Trailers(trailers) => self.trailer_line(trailers, line, raw.len())?,
            State::Sized(_) | State::ChunkData(_) | State::Held | State::Over | State::Refused => {}
        }
        Ok(())
    }

    fn begin(&mut self) {
        self.requests = self.requests.saturating_add(1);
        self.out.begin();
    }

    fn request_line(&mut self, line: &[u8], bytes: usize) -> Result<(), Rule> {
        let parsed = syntax::request_line(line, self.bounds.target_bytes)?;
        self.begin();
        self.out.bytes().extend_from_slice(line);
        self.out.bytes().extend_from_slice(b"\r\n");
        self.out.line_is_sound();
        self.state = State::Fields(Head::new(&parsed, bytes));
        Ok(())
    }

    fn head_line(&mut self, mut head: Head, line: &[u8], bytes: usize) -> Result<(), Rule> {
        if line.is_empty() {
            self.head_is_complete(head);
            return Ok(());
        }
        let field = syntax::field(line, self.bounds.field_bytes)?;
        let start = self.out.bytes().len();
        head.field(field, bytes, &self.bounds, self.out.bytes())?;
        if field.name.eq_ignore_ascii_case(b"x-request-id") {
            self.out.id_since(start);
        }
        self.state = State::Fields(head);
        Ok(())
    }

    fn head_is_complete(&mut self, head: Head) {
        self.next = head.next();
        let body = head.end(self.out.bytes());
        self.out.release();
        self.state = match body {
            Body::None if head.asks_for_protocol() => State::Held,
            Body::None => self.after_body(),
            Body::Length(length) => self.after_sized(length),
            Body::Chunked => State::ChunkSize,
        };
    }

    fn after_sized(&self, left: u64) -> State {
        match left {
            0 => self.after_body(),
            left => State::Sized(left),
        }
    }

    fn after_body(&self) -> State {
        match self.next {
            Next::Request => State::Start(Blank::May),
            Next::Nothing => State::Over,
        }
    }

    fn chunk_size(&mut self, line: &[u8]) -> Result<(), Rule> {
        use std::io::Write;
        let size = chunk::size(line)?;
        // Writing to memory does not fail.
        drop(write!(self.out.bytes(), "{size:x}\r\n"));
        self.state = match size {
            0 => State::Trailers(Trailers::default()),
            size => State::ChunkData(size),
        };
        Ok(())
    }

    fn trailer_line(&mut self, trailers: Trailers, line: &[u8], bytes: usize) -> Result<(), Rule> {
        if line.is_empty() {
            self.out.bytes().extend_from_slice(b"\r\n");
            self.state = self.after_body();
            return Ok(());
        }
        let trailers = Trailers {
            bytes: trailers.bytes.saturating_add(bytes),
            fields: trailers.fields.saturating_add(1),
        };
        if trailers.bytes > MAX_REQUEST_TRAILER_BYTES || trailers.fields > MAX_REQUEST_FIELDS {
            return Err(Rule::TrailerSize);
        }
        write_field(syntax::field(line, self.bounds.field_bytes)?, self.out.bytes());
        self.state = State::Trailers(trailers);
        Ok(())
    }
}

fn split(input: &[u8], left: u64) -> (&[u8], &[u8]) {
    let at = usize::try_from(left).map_or(input.len(), |left| left.min(input.len()));
    input.split_at_checked(at).unwrap_or((input, &[]))
}
