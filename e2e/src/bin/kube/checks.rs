//! The checks, one file for each matter. `registry` lists them.

pub(crate) mod admission;
pub(crate) mod argocd;
pub(crate) mod cel;
pub(crate) mod crds;
pub(crate) mod docs;
pub(crate) mod examples;
pub(crate) mod explain;
pub(crate) mod harness;
pub(crate) mod images;
pub(crate) mod packaging;
