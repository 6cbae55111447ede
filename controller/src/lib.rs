//! Objects in, signed revisions and orders out.
//!
//! ```text
pub mod admin;
pub mod audit;
pub mod compile;
pub mod durable;
pub mod keys;
pub mod lint;
pub mod live;
pub mod objects;
pub mod pipeline;
pub mod pki;
pub mod problem;
pub mod revisions;
pub mod rollout;
pub mod sign;
pub mod source;
pub mod standalone;
pub mod stream;
pub mod telemetry;
pub mod translate;
pub mod validate;
