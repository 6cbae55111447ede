//! HTTP/2 towards clients: the codec is the `h2` crate, and here is what it leaves to its user. A request that passes is the
//! same to the rest of the proxy as one of HTTP/1.1; what upstreams are spoken to in is `upstream`.
//!
//! ```text
//!  socket ─► preface ─► watched ─ frames, counted ─► h2 ─► serve ─► stream ─► proxy::serve
//!                          │                          ▲                │          ▲
//!                          └──── state  ◄── sweep     └──── response ──┘   request: one canonical form
//! ```
//!
//! - [`frames`] knows where frames begin and counts those of which a connection needs few; [`hpack`] counts the fields of a
//!   header block without decoding it.
//! - [`watched`] is the connection with both in front of the codec.
//! - [`state`] is what a connection, its streams and the worker's sweep tell each other: budgets, patience, who is cut off.
//! - [`serve`] drives a connection, [`stream`] one request and its response, [`incoming`] is a request's body.
//! - [`duplex`] is a stream that has left HTTP; [`room`] is how whoever sends by a stream waits for its window.
//! - [`request`] refuses what HTTP/1.1's guard would refuse, under the same names, and brings the rest into one form.
//!
//! None of the guard of HTTP/1.1 (`guard/stream.rs`) is in the way of these bytes: their framing is another.
//! `docs/decisions/http2.md` has the reasons.

pub(crate) mod duplex;
mod frames;
mod hpack;
pub(crate) mod incoming;
pub(crate) mod preface;
pub(crate) mod request;
pub(crate) mod room;
pub(crate) mod serve;
pub(crate) mod state;
mod stream;
mod watched;
