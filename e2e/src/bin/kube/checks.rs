//! The checks, one file for each matter. `registry` lists them.

pub(crate) mod admission;
pub(crate) mod api_away;
pub(crate) mod argocd;
pub(crate) mod argocd_live;
pub(crate) mod bad_objects;
pub(crate) mod cel;
pub(crate) mod certificate;
pub(crate) mod changes;
pub(crate) mod chart_install;
pub(crate) mod columns;
pub(crate) mod crds;
pub(crate) mod docs;
pub(crate) mod examples;
pub(crate) mod explain;
pub(crate) mod harness;
pub(crate) mod identity;
pub(crate) mod images;
pub(crate) mod incomplete_view;
pub(crate) mod installation;
pub(crate) mod instruments;
pub(crate) mod isolation;
pub(crate) mod keys;
pub(crate) mod leader;
pub(crate) mod packaging;
pub(crate) mod permissions;
pub(crate) mod plugin;
pub(crate) mod programmed;
pub(crate) mod quiet;
pub(crate) mod record_lost;
pub(crate) mod restarts;
pub(crate) mod scale;
pub(crate) mod scale_backend;
pub(crate) mod sidecar;
pub(crate) mod source;

mod crowd;
mod served;
