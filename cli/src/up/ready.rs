//! Waits until every instance says that it is ready, and says which are not when that takes long.

use std::time::Duration;

use sluice_model::limits::UP_READY_WARNING_MS;
use tokio::time::{Instant, sleep};

use super::children::Instance;
use crate::http::{Call, ask};
use crate::rollout::screen::Screen;

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Returns once every instance has been ready.
pub async fn wait(instances: &[Instance], screen: &Screen) {
    let mut missing: Vec<&Instance> = instances.iter().collect();
    let mut warn_at = Instant::now() + Duration::from_millis(UP_READY_WARNING_MS);
    loop {
        let mut still = Vec::new();
        for instance in missing {
            if !is_ready(instance).await {
                still.push(instance);
            }
        }
        if still.is_empty() {
            return;
        }
        if Instant::now() >= warn_at {
            screen.say(&not_ready(&still));
            warn_at = Instant::now() + Duration::from_millis(UP_READY_WARNING_MS);
        }
        missing = still;
        sleep(LOOK_EVERY).await;
    }
}

async fn is_ready(instance: &Instance) -> bool {
    let answer = ask(&instance.admin.to_string(), &Call::get("/ready")).await;
    answer.is_ok_and(|answer| answer.status.is_success())
}

fn not_ready(instances: &[&Instance]) -> String {
    let names: Vec<_> = instances.iter().map(|instance| instance.id.as_str()).collect();
    let log = instances
        .first()
        .map(|instance| instance.own_log().display().to_string())
        .unwrap_or_default();
    format!(
        "still waiting for {} to be ready; see {log}, or what `sluice lint` says about the folder",
        names.join(", ")
    )
}
