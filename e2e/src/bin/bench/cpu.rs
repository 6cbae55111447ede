//! CPU time of a process for what it did.

use std::process::Command;

use anyhow::bail;
use sluice_e2e::usage::cpu_seconds;

/// CPU microseconds of `pid` for each request that `load` says it made.
pub(crate) fn per_request(pid: u32, load: impl FnOnce() -> anyhow::Result<u64>) -> anyhow::Result<f64> {
    let before = cpu_seconds(pid)?;
    let requests = load()?;
    let spent = cpu_seconds(pid)? - before;
    Ok(spent * 1e6 / requests as f64)
}

/// Says what to install if a program is not there.
pub(crate) fn require(program: &str) -> anyhow::Result<()> {
    let found = Command::new("sh")
        .args(["-c", &format!("command -v {program}")])
        .output()?
        .status
        .success();
    if !found {
        bail!("`{program}` is not installed: apt-get install nginx-light wrk util-linux");
    }
    Ok(())
}
