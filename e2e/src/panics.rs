//! What a task has panicked with: how the harness speaks.

use tokio::task::JoinError;

/// In words.
pub fn text(ended: JoinError) -> String {
    let Ok(payload) = ended.try_into_panic() else {
        return "cancelled".to_owned();
    };
    let text = payload.downcast_ref::<String>().cloned();
    text.or_else(|| payload.downcast_ref::<&str>().map(|text| (*text).to_owned()))
        .unwrap_or_else(|| "it panicked".to_owned())
}
