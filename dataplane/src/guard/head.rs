//! What a head says about its framing, gathered field by field: how its body ends, and whether another request follows.
//! RFC 9112 §6 has many ways to say the first; one is accepted, and written anew in its plainest form.

use std::io::Write;

use super::bounds::Bounds;
use super::rule::Rule;
use super::syntax::{self, Field, Version};

/// How the body of a request ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Body {
    /// There is none.
    None,
    /// After so many bytes.
    Length(u64),
    /// With its last chunk.
    Chunked,
}

/// What may follow a request on its connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Next {
    /// Another request.
    Request,
    /// Nothing that is a request: the connection ends with this one, or the method is one of tunnels.
    Nothing,
}

/// A head that is arriving.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Head {
    version: Version,
    tunnel: Next,
    bytes: usize,
    fields: usize,
    length: Option<u64>,
    coded: bool,
    says_close: bool,
    says_keep_alive: bool,
    says_upgrade: bool,
    names_protocol: bool,
}

impl Head {
    /// One whose request line has come.
    pub(super) fn new(line: &syntax::RequestLine<'_>, bytes: usize) -> Self {
        Self {
            version: line.version,
            tunnel: match line.method {
                b"CONNECT" => Next::Nothing,
                _ => Next::Request,
            },
            bytes,
            fields: 0,
            length: None,
            coded: false,
            says_close: false,
            says_keep_alive: false,
            says_upgrade: false,
            names_protocol: false,
        }
    }

    /// Takes in one field; `bytes` is the length of its line. Writes it to `out` unless it is about framing.
    pub(super) fn field(
        &mut self,
        field: Field<'_>,
        bytes: usize,
        bounds: &Bounds,
        out: &mut Vec<u8>,
    ) -> Result<(), Rule> {
        self.bytes = self.bytes.saturating_add(bytes);
        self.fields = self.fields.saturating_add(1);
        if self.fields > bounds.fields {
            return Err(Rule::FieldCount);
        }
        if self.bytes > bounds.head_bytes {
            return Err(Rule::HeadSize);
        }
        // Few names are as long as these: a request costs one comparison of lengths for most of its fields.
        match field.name.len() {
            14 if field.name.eq_ignore_ascii_case(b"content-length") => return self.take_length(field.value),
            17 if field.name.eq_ignore_ascii_case(b"transfer-encoding") => return self.take_coding(field.value),
            10 if field.name.eq_ignore_ascii_case(b"connection") => self.take_options(field.value),
            7 if field.name.eq_ignore_ascii_case(b"upgrade") => self.names_protocol = true,
            _ => {}
        }
        write_field(field, out);
        Ok(())
    }

    fn take_length(&mut self, value: &[u8]) -> Result<(), Rule> {
        if self.length.is_some() {
            return Err(Rule::LengthRepeated);
        }
        self.length = Some(syntax::length(value)?);
        self.check_framing()
    }

    fn take_coding(&mut self, value: &[u8]) -> Result<(), Rule> {
        if self.coded || !value.eq_ignore_ascii_case(b"chunked") {
            return Err(Rule::Coding);
        }
        self.coded = true;
        match self.version {
            Version::Http10 => Err(Rule::CodingOld),
            Version::Http11 => self.check_framing(),
        }
    }

    fn check_framing(&self) -> Result<(), Rule> {
        if self.coded && self.length.is_some() {
            return Err(Rule::LengthAndCoding);
        }
        Ok(())
    }

    fn take_options(&mut self, value: &[u8]) {
        self.says_close |= syntax::names(value, b"close");
        self.says_keep_alive |= syntax::names(value, b"keep-alive");
        self.says_upgrade |= syntax::names(value, b"upgrade");
    }

    /// The head is complete: writes its framing and its end.
    pub(super) fn end(&self, out: &mut Vec<u8>) -> Body {
        let body = match (self.coded, self.length) {
            (true, _) => Body::Chunked,
            (false, Some(length)) => Body::Length(length),
            (false, None) => Body::None,
        };
        match body {
            Body::None => {}
            Body::Chunked => out.extend_from_slice(b"transfer-encoding:chunked\r\n"),
            // Writing to memory does not fail.
            Body::Length(length) => drop(write!(out, "content-length:{length}\r\n")),
        }
        out.extend_from_slice(b"\r\n");
        body
    }

    /// Whether what follows may be another protocol: it is asked for, in a request without a body. What has one is an
    /// ordinary request, whatever it asks for, so that there is never a doubt where it ends.
    pub(super) fn asks_for_protocol(&self) -> bool {
        let asks = self.says_upgrade && self.names_protocol && self.version == Version::Http11;
        asks && self.length.is_none() && !self.coded && self.next() == Next::Request
    }

    /// What may follow.
    pub(super) fn next(&self) -> Next {
        match self.version {
            Version::Http10 if !self.says_keep_alive => Next::Nothing,
            Version::Http10 | Version::Http11 if self.says_close => Next::Nothing,
            Version::Http10 | Version::Http11 => self.tunnel,
        }
    }
}

/// Without the space after the colon, so that what is written is never longer than what came.
pub(super) fn write_field(field: Field<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(field.name);
    out.push(b':');
    out.extend_from_slice(field.value);
    out.extend_from_slice(b"\r\n");
}
