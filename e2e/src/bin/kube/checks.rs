//! The checks, one file for each matter. `registry` lists them.

pub(crate) mod cel;
pub(crate) mod crds;
pub(crate) mod examples;
pub(crate) mod explain;
pub(crate) mod harness;
pub(crate) mod images;
