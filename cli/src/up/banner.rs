//! What `up` says before it serves: what, where, by whom, and where the logs are.

use std::fmt::Write;

use sluice_model::Snapshot;

use super::children::Instance;
use super::plan::Plan;

/// Routes that are listed; more are counted.
const ROUTES_SHOWN: usize = 12;

/// The text, ending with an empty line.
pub fn text(plan: &Plan, instances: &[Instance]) -> String {
    let mut text = String::new();
    let mut row = |name: &str, value: String| {
        let _ = writeln!(text, "  {name:<11} {value}");
    };
    row("folder", plan.folder.display().to_string());
    row("state", plan.state.display().to_string());
    row(
        "fleet",
        format!(
            "{}, {} with {} each",
            plan.fleet,
            count(instances.len(), "instance"),
            count(usize::from(plan.workers), "worker")
        ),
    );
    for listening in &plan.listeners {
        row("listener", format!("{}  {}", listening.name, listening.url()));
    }
    row("admin", format!("http://{}", plan.admin));
    for instance in instances {
        row("instance", format!("{}  admin http://{}", instance.id, instance.admin));
    }
    row(
        "access logs",
        format!("{}/instances/*/access.log", plan.state.display()),
    );
    match &plan.snapshot {
        Some(snapshot) => routes(snapshot, &mut row),
        None => row(
            "routes",
            "the folder is not complete now: the last good configuration serves".to_owned(),
        ),
    }
    if let Some(demo) = &plan.demo {
        for upstream in &demo.upstreams {
            let fails = if upstream.fail_percent > 0 {
                format!(", fails {} %", upstream.fail_percent)
            } else {
                String::new()
            };
            row(
                "demo",
                format!("upstream {} on {}{fails}", upstream.version, upstream.listen),
            );
        }
    }
    if plan.errors > 0 {
        row(
            "problems",
            format!(
                "{}; see `sluice lint {}`",
                count(plan.errors, "error"),
                plan.folder.display()
            ),
        );
    }
    format!("sluice {}\n{text}\n", env!("CARGO_PKG_VERSION"))
}

fn routes(snapshot: &Snapshot, row: &mut impl FnMut(&str, String)) {
    let all: Vec<_> = snapshot.routes().collect();
    for (key, route) in all.iter().take(ROUTES_SHOWN) {
        let hosts: Vec<_> = route.hosts.iter().map(ToString::to_string).collect();
        row("route", format!("{}/{}  {}", key.namespace, key.name, hosts.join(", ")));
    }
    if all.len() > ROUTES_SHOWN {
        row("route", format!("and {} more", all.len() - ROUTES_SHOWN));
    }
}

/// `1 instance`, `3 instances`.
pub fn count(number: usize, what: &str) -> String {
    match number {
        1 => format!("1 {what}"),
        _ => format!("{number} {what}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_not_many() {
        assert_eq!(count(1, "worker"), "1 worker");
        assert_eq!(count(0, "worker"), "0 workers");
    }
}
