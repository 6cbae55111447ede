//! Status: what users see of their objects on an API server, as a projection of the situation; and what they see happen
//! (`events`) and command (`annotations`) there. Only the leader runs this.
//!
//! ```text
//!  pipeline ─ Situation ─► standing ─► content │ fleet ─► Desired ─► difference ─► schedule ─► patch ─► API server
//!                                                                        ▲                                 │
//!                                                                     Watched ◄───── what it shows ────────┘
//! ```
//!
//! The rules: an object is `Programmed` when every instance that counts has acknowledged its content, and stays so while
//! others move; only our own fields are written, and only when they say something else; what may be over in a moment is
//! not written. `docs/status.md` explains every word to users.

pub mod bucket;
pub mod content;
pub mod desired;
pub mod difference;
pub mod fleet;
pub mod patch;
pub mod projection;
mod queue;
pub mod reason;
pub mod references;
pub mod schedule;
pub mod standing;
pub mod turn;
pub mod watched;
pub mod writer;

use kube::core::{ApiResource, GroupVersionKind};
use sluice_crds::{GROUP, VERSION};
use sluice_model::Kind;

pub use bucket::Bucket;
pub use patch::FIELD_MANAGER;
pub use watched::Watched;
pub use writer::Writer;

/// How the API server calls a kind of ours.
pub fn resource(kind: Kind) -> ApiResource {
    let plural = match kind {
        Kind::ProxyRoute => "proxyroutes",
        Kind::Pool => "pools",
        Kind::Rollout => "rollouts",
    };
    ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(GROUP, VERSION, kind.as_str()), plural)
}

#[cfg(test)]
pub(crate) mod tests;
