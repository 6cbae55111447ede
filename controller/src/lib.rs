//! Objects in, signed revisions and orders out.
//!
//! ```text
//!  source ─ View ─► translate ─► validate ─► compile ─► sign ─┐
//!    │                 └── Problems ──┘                       ├─► revisions (record before orders)
//!    │                                                        │
//!    └───────────────── pipeline: the join ─── rollout ───────┴─► stream ─► instances
//!                                                ▲                   │
//!                                                └─ acks, reports ───┘
//! ```
//!
//! `standalone` composes them in front of a folder; `admin`, `audit` and `telemetry` are what they say.

pub mod admin;
pub mod api_server;
pub mod audit;
pub mod compile;
pub mod debounce;
pub mod durable;
pub mod enrol;
pub mod events;
pub mod health;
pub mod installation;
pub mod keyring;
pub mod keys;
pub mod kubernetes;
pub mod labels;
pub mod leader;
pub mod lint;
pub mod listen;
pub mod live;
pub mod members;
pub mod objects;
pub mod pipeline;
pub mod pki;
pub mod pods;
pub mod problem;
pub mod register;
pub mod revisions;
pub mod rollout;
pub mod selector;
pub mod sign;
pub mod source;
pub mod standalone;
pub mod status;
pub mod stream;
pub mod telemetry;
pub mod translate;
pub mod trust;
pub mod users;
pub mod validate;
