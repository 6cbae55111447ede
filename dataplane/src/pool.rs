//! Pools of upstream endpoints: which there are (`rotation`; `services` where they come and go), which one is next
//! (`balancer`) how its endpoints are spoken to (`transport`)
//! and which connections to it are idle (`connections`).
//!
//! Cursors are per worker and per generation; connections are per worker, keyed by address and transport, and survive swaps.

pub mod balancer;
pub mod connections;
pub mod rotation;
pub mod services;
pub mod transport;
