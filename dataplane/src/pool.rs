//! Pools of upstream endpoints: which one is next (`balancer`) and which connections to it are idle (`connections`).
//!
//! Balancing state is per worker and per generation; connections are per worker, keyed by address, and survive swaps.

pub mod balancer;
pub mod connections;
