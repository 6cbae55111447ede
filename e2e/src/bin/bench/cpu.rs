//! CPU time of a process, out of `/proc/PID/stat` (`proc(5)`).

use std::process::Command;

use anyhow::{Context, bail};

/// What the kernel counts in: `sysconf(_SC_CLK_TCK)`, which is 100 on every Linux that Rust runs on.
const TICKS_PER_SECOND: f64 = 100.0;

/// User and system time of a process so far, in seconds, of all its threads.
fn seconds(pid: u32) -> anyhow::Result<f64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).context("the proxy has ended")?;
    // The name in brackets may hold anything; after it come fields 3 and on, and 14 and 15 are the times.
    let rest = text.rsplit_once(") ").context("an odd stat file")?.1;
    let ticks: Option<f64> = rest
        .split(' ')
        .skip(11)
        .take(2)
        .map(|field| field.parse::<f64>().ok())
        .sum();
    Ok(ticks.context("an odd stat file")? / TICKS_PER_SECOND)
}

/// CPU microseconds of `pid` for each request that `load` says it made.
pub(crate) fn per_request(pid: u32, load: impl FnOnce() -> anyhow::Result<u64>) -> anyhow::Result<f64> {
    let before = seconds(pid)?;
    let requests = load()?;
    let spent = seconds(pid)? - before;
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
