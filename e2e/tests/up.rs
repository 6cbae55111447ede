//! `sluice up` as a process: it serves by one address, and however it ends, nothing is left behind.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use sluice_e2e::fleet::PATIENCE;
use sluice_e2e::manifests::{self, Folder};
use sluice_e2e::process::{self, Process};
use sluice_e2e::upstream::{Upstream, stamp};
use sluice_e2e::wait::wait_until;
use sluice_e2e::{binaries, client, ports};
use tempfile::TempDir;

const HOST: &str = "up.example.com";

struct Up {
    process: Process,
    instances: Vec<u32>,
    upstream: Upstream,
    scratch: TempDir,
}

/// Free for an admin port and some after it, as `up` wants them.
fn admin() -> SocketAddr {
    loop {
        let first = ports::free();
        let after = (1..=4).map(|more| SocketAddr::new(first.ip(), first.port().saturating_add(more)));
        if after
            .into_iter()
            .all(|address| std::net::TcpListener::bind(address).is_ok())
        {
            return first;
        }
    }
}

async fn up() -> Up {
    let upstream = Upstream::start();
    let scratch = tempfile::Builder::new().prefix("sluice-up-").tempdir().unwrap();
    let folder = Folder::new(scratch.path());
    folder.write("rollout.yaml", &manifests::rollout(8080, &[(100, "0s")], &[]));
    folder.write("route.yaml", &manifests::route("site", HOST, "site"));
    folder.write("pool.yaml", &manifests::pool("site", &[upstream.endpoint(1)]));
    up_with(scratch, upstream, 2).await
}

/// `up` on a folder of manifests and a state that may be there already.
async fn up_with(scratch: TempDir, upstream: Upstream, instances: usize) -> Up {
    let (http, admin) = (ports::free(), admin());
    let mut command = Command::new(binaries::sluice());
    command.arg("up").arg(Folder::new(scratch.path()).path());
    command.args(["--instances", &instances.to_string(), "--plain"]);
    command.args(["--http", &http.to_string(), "--admin", &admin.to_string()]);
    command.arg("--state").arg(scratch.path().join("state"));
    let process = Process::start("up", scratch.path(), &mut command);
    wait_until("an answer", PATIENCE, || async {
        match client::get(http, HOST, "/").await {
            Ok(answer) if answer.header("x-stamp") == stamp(1) => Ok(()),
            Ok(other) => Err(format!("{other:?}\n{}", process.tail())),
            Err(error) => Err(format!("{error:#}\n{}", process.tail())),
        }
    })
    .await;
    let children = process::children(process.id());
    assert_eq!(children.len(), instances, "{}", process.tail());
    Up {
        process,
        instances: children,
        upstream,
        scratch,
    }
}

async fn all_gone(up: &Up) {
    wait_until("the instances to be gone", Duration::from_secs(20), || async {
        let left: Vec<u32> = up.instances.iter().copied().filter(|id| process::alive(*id)).collect();
        if left.is_empty() { Ok(()) } else { Err(left) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_drains_and_leaves_no_orphan() {
    let mut up = up().await;
    let status = up.process.terminate(Duration::from_secs(30)).await;
    assert!(status.success(), "{status}\n{}", up.process.tail());
    all_gone(&up).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killing_up_leaves_no_orphan() {
    let mut up = up().await;
    up.process.kill();
    all_gone(&up).await;
}

/// An instance that dies is started again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_instance_that_is_killed_comes_back() {
    let up = up().await;
    let victim = rustix::process::Pid::from_raw(i32::try_from(up.instances[0]).unwrap()).unwrap();
    rustix::process::kill_process(victim, rustix::process::Signal::KILL).unwrap();
    wait_until("another instance", PATIENCE, || async {
        let now = process::children(up.process.id());
        (now.len() == 2 && !now.contains(&up.instances[0]))
            .then_some(())
            .ok_or(now)
    })
    .await;
}

/// A fleet of two that is now one of one does not wait for the second.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_fewer_instances_than_before_the_others_count_no_more() {
    let Up {
        mut process,
        upstream,
        scratch,
        ..
    } = up().await;
    let size = |scratch: &TempDir| {
        let record = scratch
            .path()
            .join("state/fleets")
            .join(manifests::FLEET)
            .join("record.json");
        let text = std::fs::read(record).unwrap();
        serde_json::from_slice::<serde_json::Value>(&text).unwrap()["record"]["size"].clone()
    };
    wait_until("both to be ready", PATIENCE, || async {
        let said = process.tail();
        if said.contains("ready: 2 instances") {
            Ok(())
        } else {
            Err(said)
        }
    })
    .await;
    // A stage counts who is connected when it is committed.
    let other = manifests::route("other", "other.example.com", "site");
    Folder::new(scratch.path()).write("other.yaml", &other);
    wait_until("both to count", PATIENCE, || async {
        let size = size(&scratch);
        if size == 2 { Ok(()) } else { Err(size) }
    })
    .await;
    assert!(
        process.terminate(Duration::from_secs(30)).await.success(),
        "{}",
        process.tail()
    );
    let up = up_with(scratch, upstream, 1).await;
    assert_eq!(size(&up.scratch), 1, "{}", up.process.tail());
}
