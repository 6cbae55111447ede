//! How the source fares, for whoever answers health checks and metrics.

use serde::Serialize;
use sluice_model::Name;

use crate::live::Lack;
use crate::rollout::Millis;

/// See the file's comment.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Health {
    /// Whether there is a view: every kind was seen, or it is known why not.
    pub is_ready: bool,
    /// Each watch.
    pub watches: Vec<WatchHealth>,
    /// How many Secrets are followed.
    pub secrets: usize,
}

/// How one watch fares.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct WatchHealth {
    /// The kind, as permissions name it: `proxyroutes`.
    pub kind: &'static str,
    /// Where; `None`: everywhere.
    pub namespace: Option<Name>,
    /// Whether it is seen.
    pub state: State,
    /// How many objects are known.
    pub objects: usize,
    /// When something was heard last.
    pub heard_at: Option<Millis>,
}

/// Whether something is seen.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum State {
    /// Not yet.
    Waiting,
    /// It is.
    Seen,
    /// It cannot be seen.
    Lost(Lack),
}
