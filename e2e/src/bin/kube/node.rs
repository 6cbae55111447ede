//! Our own node: its address, and the processes in its pods, to freeze one, to kill one, to look at its files. The API server
//! knows nothing of that, as it knows nothing of a machine that hangs.

use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, ensure};
use k8s_openapi::api::core::v1::Node;
use kube::api::{Api, ListParams};
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::Command;

use crate::pods::Container;
use crate::world::World;

/// What the kernel counts in: `sysconf(_SC_CLK_TCK)`, which is 100 on every Linux that Rust runs on.
const TICKS_PER_SECOND: f64 = 100.0;

/// The first process of a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Process(Pid);

/// The network of a pod: all of its processes share it, and no others do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Network(u64);

/// A process that stands still; it goes on when this is dropped, so that a failing check leaves nothing frozen.
#[derive(Debug)]
pub(crate) struct Frozen(Process);

impl Drop for Frozen {
    fn drop(&mut self) {
        // It may have been killed meanwhile, by the kubelet for instance.
        let _ = kill_process(self.0.0, Signal::CONT);
    }
}

/// Where pods reach what listens beside them.
pub(crate) async fn address(world: &World) -> anyhow::Result<IpAddr> {
    let nodes = Api::<Node>::all(world.client()).list(&ListParams::default()).await?;
    let addresses = nodes.into_iter().filter_map(|node| node.status?.addresses).flatten();
    let mut internal = addresses.filter(|address| address.type_ == "InternalIP");
    Ok(internal.next().context("the node has no address")?.address.parse()?)
}

impl Process {
    /// SIGSTOP, until the value is dropped.
    pub(crate) fn freeze(self) -> anyhow::Result<Frozen> {
        kill_process(self.0, Signal::STOP).context("freezing a process")?;
        Ok(Frozen(self))
    }

    /// `kill -9`.
    pub(crate) fn kill(self) -> anyhow::Result<()> {
        kill_process(self.0, Signal::KILL).context("killing a process")
    }

    /// The network that it is in.
    pub(crate) fn network(self) -> anyhow::Result<Network> {
        let path = format!("/proc/{}/ns/net", self.0.as_raw_nonzero());
        Ok(Network(fs::metadata(path)?.ino()))
    }

    /// How long ago it started.
    pub(crate) fn age(self) -> anyhow::Result<Duration> {
        let uptime = fs::read_to_string("/proc/uptime")?;
        let uptime: f64 = uptime.split(' ').next().context("an odd uptime")?.parse()?;
        let started: f64 = self.stat(22)?.parse()?;
        Ok(Duration::from_secs_f64((uptime - started / TICKS_PER_SECOND).max(0.0)))
    }

    /// CPU time so far, of all its threads.
    pub(crate) fn cpu(self) -> anyhow::Result<Duration> {
        let ticks: f64 = self.stat(14)?.parse::<f64>()? + self.stat(15)?.parse::<f64>()?;
        Ok(Duration::from_secs_f64(ticks / TICKS_PER_SECOND))
    }

    /// Memory that it holds, in bytes.
    pub(crate) fn memory(self) -> anyhow::Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.0.as_raw_nonzero()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line
            .and_then(|line| line.trim().strip_suffix(" kB"))
            .context("an odd status file")?;
        Ok(kib.trim().parse::<u64>()? * 1024)
    }

    /// A path inside of the container, as seen from the node.
    pub(crate) fn path(self, inside: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{inside}", self.0.as_raw_nonzero()))
    }

    /// A field of `proc(5)`'s `stat`, counted from 1: the name in brackets may hold anything, so reading begins after it.
    fn stat(self, field: usize) -> anyhow::Result<String> {
        let text = fs::read_to_string(format!("/proc/{}/stat", self.0.as_raw_nonzero()))?;
        let rest = text.rsplit_once(") ").context("an odd stat file")?.1;
        let value = rest.split(' ').nth(field - 3).context("an odd stat file")?;
        Ok(value.to_owned())
    }
}

impl World {
    /// The first process of a container; an error while it does not run.
    pub(crate) async fn process(&self, container: &Container) -> anyhow::Result<Process> {
        let running = self.running().await?;
        let found = running.iter().find(|(id, _)| *id == container.id);
        let (_, process) = found.with_context(|| format!("no process of {container:?} in {running:?}"))?;
        Ok(*process)
    }

    /// The youngest process of a pod, known by its network, also when nobody can be asked which containers it has.
    pub(crate) async fn youngest(&self, network: Network) -> anyhow::Result<Process> {
        let running = self.running().await?.into_iter().map(|(_, process)| process);
        let of_pod = running.filter(|process| process.network().is_ok_and(|of| of == network));
        let by_age = of_pod.filter_map(|process| Some((process.age().ok()?, process)));
        let youngest = by_age.min_by_key(|(age, _)| *age).context("no process in this pod")?;
        Ok(youngest.1)
    }

    /// The first process of every container of the node.
    async fn running(&self) -> anyhow::Result<Vec<(String, Process)>> {
        let socket = self.own()?.folder.join("containerd.sock");
        let output = Command::new("ctr")
            .arg("-a")
            .arg(&socket)
            .args(["-n", "k8s.io", "tasks", "ls"])
            .stdin(Stdio::null())
            .output()
            .await
            .context("ctr does not start; is it in PATH?")?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "ctr: {said}");
        Ok(running(&String::from_utf8_lossy(&output.stdout)))
    }
}

/// `TASK PID STATUS`, a line each.
fn running(list: &str) -> Vec<(String, Process)> {
    let lines = list.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let of_line = |fields: Vec<&str>| match fields.as_slice() {
        [id, pid, "RUNNING"] => Some(((*id).to_owned(), Process(Pid::from_raw(pid.parse().ok()?)?))),
        _ => None,
    };
    lines.filter_map(of_line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_runs_has_a_process() {
        let list = "TASK    PID    STATUS\nabc     12     RUNNING\nabcd    13     STOPPED\n";
        let twelve = Process(Pid::from_raw(12).unwrap());
        assert_eq!(running(list), [("abc".to_owned(), twelve)]);
    }
}
