//! The guard in front of the HTTP/1.1 codec: what it cannot vouch for never gets to the codec, and what gets there is
//! written in one way only. `docs/decisions/guard.md` says why it stands on the bytes and what it leaves to the checks of a
//! parsed request (`proxy/admit.rs`), which HTTP/2 shares.
//!
//! ```text
//!  socket ─► stream ─ raw ─► framer ─ canonical ─► codec ─► proxy
//!              │               └ refused: a stand-in, or an error in the body
//!              └──────────────── gate ◄── which request, which rule ──► proxy
//! ```

pub(crate) mod bounds;
mod chunk;
mod framer;
pub(crate) mod gate;
mod head;
pub(crate) mod hold;
mod output;
pub(crate) mod patience;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod readers;
pub mod rule;
pub(crate) mod stream;
pub(crate) mod syntax;

pub(crate) use output::Line;
