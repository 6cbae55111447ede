//! The scenarios, each in a file of its own.

pub(crate) mod attacks;
pub(crate) mod bodies;
pub(crate) mod certificates;
pub(crate) mod cut_short;
pub(crate) mod grpc_faults;
pub(crate) mod idle;
pub(crate) mod restart;
pub(crate) mod tunnels;
