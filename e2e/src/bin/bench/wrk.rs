//! wrk as the load: 64 kept connections, each asking as soon as it is answered.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, bail};

use crate::{LOAD_CORE, Scratch};

/// Writes the script that asks for each route's host in turn.
pub(crate) fn script(scratch: &Scratch, routes: usize) -> anyhow::Result<PathBuf> {
    let file = scratch.path().join("hosts.lua");
    let text = format!(
        "local requests, turn = {{}}, 0\n\
         function init(args)\n\
           for number = 0, {routes} - 1 do\n\
             requests[number] = wrk.format('GET', '/', {{['Host'] = 'r' .. number .. '.example.com'}})\n\
           end\n\
         end\n\
         function request()\n\
           turn = (turn + 1) % {routes}\n\
           return requests[turn]\n\
         end\n"
    );
    std::fs::write(&file, text)?;
    Ok(file)
}

/// Loads `address` for `time`; how many requests were answered.
///
/// # Errors
/// If one was not answered with 200.
pub(crate) fn run(script: &Path, address: SocketAddr, time: Duration) -> anyhow::Result<u64> {
    let mut command = Command::new("taskset");
    command.args([
        "--cpu-list",
        &LOAD_CORE.to_string(),
        "wrk",
        "--threads",
        "1",
        "--connections",
        "64",
    ]);
    command
        .args(["--duration", &format!("{}s", time.as_secs())])
        .arg("--script")
        .arg(script);
    let output = command.arg(format!("http://{address}/")).output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() || text.contains("Non-2xx") || text.contains("Socket errors") {
        bail!("wrk: {text}{}", String::from_utf8_lossy(&output.stderr));
    }
    let line = text
        .lines()
        .find(|line| line.contains(" requests in "))
        .context("wrk says nothing")?;
    line.split_whitespace()
        .next()
        .context("a number")?
        .parse()
        .context("a number")
}
