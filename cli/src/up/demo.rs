//! What a demo folder says about itself: upstreams to start and traffic to make, in `demo/demo.json`.
//!
//! In a folder of its own, because every YAML and JSON file beside the manifests is one of them.

use std::io::Read;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use sluice_model::limits::{DEMO_FILE_MAX_BYTES, DEMO_REQUESTS_PER_SECOND_MAX};

use crate::demo_upstream::{self, Behaviour};
use crate::failure::Failure;

/// A `demo.json`.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Demo {
    /// The upstreams to start.
    pub upstreams: Vec<Upstream>,
    /// The traffic to make.
    pub traffic: Option<Traffic>,
}

/// One upstream to start.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Upstream {
    /// Where it listens.
    pub listen: SocketAddr,
    /// What it answers with.
    pub version: String,
    /// How many of a hundred requests fail.
    #[serde(default)]
    pub fail_percent: u8,
    /// How long an answer takes, in milliseconds.
    #[serde(default)]
    pub delay_ms: u64,
}

/// The traffic to make.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Traffic {
    /// All of it together.
    pub requests_per_second: u32,
    /// What is asked for.
    pub requests: Vec<Ask>,
}

/// One kind of request.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Ask {
    /// Its Host header.
    pub host: String,
    /// Its path.
    pub path: String,
    /// How often, relative to the others.
    pub share: u32,
}

/// Where the demo of `folder` is described.
pub fn file(folder: &Path) -> PathBuf {
    folder.join("demo").join("demo.json")
}

/// Reads the demo of `folder`.
///
/// # Errors
/// When there is none, or it does not say what it must.
pub fn read(folder: &Path) -> Result<Demo, Failure> {
    let file = file(folder);
    let wrong = |reason: String| Failure::usage(format!("{}: {reason}", file.display()));
    let open = std::fs::File::open(&file).map_err(|error| {
        wrong(format!(
            "{error}; --demo needs this file, see examples/quickstart/demo/demo.json"
        ))
    })?;
    let mut text = String::new();
    open.take(DEMO_FILE_MAX_BYTES)
        .read_to_string(&mut text)
        .map_err(|error| wrong(error.to_string()))?;
    let demo: Demo = serde_json::from_str(&text).map_err(|error| wrong(error.to_string()))?;
    check(&demo).map_err(wrong)?;
    Ok(demo)
}

fn check(demo: &Demo) -> Result<(), String> {
    if let Some(upstream) = demo.upstreams.iter().find(|upstream| upstream.fail_percent > 100) {
        return Err(format!("failPercent of {} must be 0 to 100", upstream.version));
    }
    let Some(traffic) = &demo.traffic else { return Ok(()) };
    if !(1..=DEMO_REQUESTS_PER_SECOND_MAX).contains(&traffic.requests_per_second) {
        return Err(format!(
            "traffic.requestsPerSecond must be 1 to {DEMO_REQUESTS_PER_SECOND_MAX}"
        ));
    }
    if traffic.requests.iter().all(|ask| ask.share == 0) {
        return Err("traffic.requests needs at least one entry with a share above 0".to_owned());
    }
    Ok(())
}

/// Starts the upstreams; they end with the runtime.
///
/// # Errors
/// When one of their addresses is taken.
pub async fn start(demo: &Demo) -> Result<(), Failure> {
    for upstream in &demo.upstreams {
        let listener = demo_upstream::listen(upstream.listen).await?;
        let behaviour = Behaviour {
            version: upstream.version.clone(),
            fail_percent: upstream.fail_percent,
            delay: Duration::from_millis(upstream.delay_ms),
        };
        tokio::spawn(demo_upstream::serve(listener, behaviour));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_quickstart_is_a_demo() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/quickstart");
        let demo = read(&folder).unwrap();
        assert_eq!(demo.upstreams.len(), 3);
        assert!(demo.traffic.is_some());
    }

    #[test]
    fn a_wrong_demo_says_what_is_wrong() {
        for (text, part) in [
            (r#"{"upstreams": [], "trafic": {}}"#, "unknown field `trafic`"),
            (
                r#"{"upstreams": [{"listen": "127.0.0.1:1", "version": "v", "failPercent": 101}]}"#,
                "0 to 100",
            ),
            (
                r#"{"upstreams": [], "traffic": {"requestsPerSecond": 0, "requests": []}}"#,
                "requestsPerSecond",
            ),
            (
                r#"{"upstreams": [], "traffic": {"requestsPerSecond": 9, "requests": []}}"#,
                "at least one",
            ),
        ] {
            let folder = tempfile::tempdir().unwrap();
            std::fs::create_dir(folder.path().join("demo")).unwrap();
            std::fs::write(file(folder.path()), text).unwrap();
            let message = read(folder.path()).unwrap_err().to_string();
            assert!(message.contains(part), "{message}");
        }
    }
}
