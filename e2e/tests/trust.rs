//! What an instance does not believe, and what it does when its disk fails it: what serves goes on. (Each refusal by
//! itself, with every bit flipped, is tested in the data plane: `dataplane/tests/intake`.)

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sluice_e2e::fleet::{Fleet, Instance, PATIENCE};
use sluice_e2e::load::{Load, Plan};
use sluice_e2e::manifests;
use sluice_e2e::upstream::{Upstream, stamp};
use sluice_e2e::wait::wait_until;

const HOST: &str = "trust.example.com";

async fn fleet(upstream: &Upstream) -> Fleet {
    let setup = Fleet::setup().await;
    let rollout = manifests::rollout(setup.port(), &[(100, "0s")], &[]);
    let fleet = setup
        .with("rollout.yaml", &rollout)
        .with("site.yaml", &site(upstream, 1))
        .start(2)
        .await;
    fleet.answers(HOST, "/", &stamp(1)).await;
    fleet
}

fn site(upstream: &Upstream, generation: u16) -> String {
    let pool = manifests::pool("site", &[upstream.endpoint(generation)]);
    manifests::documents(&[manifests::route("site", HOST, "site"), pool])
}

/// A controller with other keys takes the place of the real one, address and all.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stranger_with_other_keys_changes_nothing() {
    let upstream = Upstream::start();
    let mut fleet = fleet(&upstream).await;
    let before = fleet.instances[0].live().await.unwrap();
    fleet.controller.kill();
    let own_state = fleet.controller.state.clone();
    fleet.controller.state = own_state.with_file_name("stranger");
    fleet.folder.write("site.yaml", &site(&upstream, 2));
    let said: Vec<usize> = fleet.instances.iter().map(|instance| instance.output().len()).collect();
    let load = Load::start("stranger", Plan::new(fleet.http, HOST, "/", 100));
    fleet.controller.restart().await;
    wait_until("the instances to meet the stranger", PATIENCE, || async {
        let refuses = |(instance, before): (&Instance, &usize)| instance.output()[*before..].contains("certificate");
        let all = fleet.instances.iter().zip(&said).all(refuses);
        all.then_some(()).ok_or_else(|| fleet.tails())
    })
    .await;
    assert_eq!(fleet.instances[0].live().await.unwrap()["epoch"], before["epoch"]);

    fleet.controller.kill();
    fleet.controller.state = own_state;
    fleet.controller.restart().await;
    fleet.answers(HOST, "/", &stamp(2)).await;
    let outcomes = load.stop().await;
    assert_eq!(outcomes.failures().count(), 0, "{}", outcomes.summary());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_state_folder_that_takes_nothing_stops_changes_and_not_traffic() {
    let upstream = Upstream::start();
    let fleet = fleet(&upstream).await;
    let last_good = fleet.instances[0].last_good();
    let aside = last_good.with_file_name("last-good.aside");
    // A file where the folder was: no write succeeds, also not root's, as on a full or read-only disk.
    fs::rename(&last_good, &aside).unwrap();
    fs::write(&last_good, "").unwrap();
    let load = Load::start("disk", Plan::new(fleet.http, HOST, "/", 100));
    fleet.folder.write("site.yaml", &site(&upstream, 2));
    wait_until("the instance to say that it cannot write", PATIENCE, || async {
        let refused = fleet.instances[0]
            .metric("proxy_config_refused_total", &["reason=\"state_not_writable\""])
            .await;
        (refused.unwrap_or(0.0) > 0.0)
            .then_some(())
            .ok_or_else(|| fleet.tails())
    })
    .await;
    assert!(
        fleet.instances[0].output().contains("state folder"),
        "{}",
        fleet.tails()
    );

    // It is the instance's own trouble: the change waits for it and says so, and goes on by itself.
    let id = fleet.instances[0].id.clone();
    let waits = fleet
        .when("the rollout to wait", |status| status["phase"] == "Stalled")
        .await;
    let message = waits["message"].as_str().unwrap();
    assert!(
        message.contains(&id) && message.contains("state_not_writable"),
        "{waits:#}"
    );
    assert_eq!(waits["held"].as_array().unwrap().len(), 0, "{waits:#}");
    fs::remove_file(&last_good).unwrap();
    fs::rename(&aside, &last_good).unwrap();
    fleet.answers(HOST, "/", &stamp(2)).await;
    let outcomes = load.stop().await;
    assert_eq!(outcomes.failures().count(), 0, "{}", outcomes.summary());
}

/// A file system of its own over a folder, with what was in it; gone when dropped, whoever still uses it.
struct SmallDisk {
    folder: PathBuf,
}

impl SmallDisk {
    /// # Errors
    /// Why none can be mounted here: that takes root, and a system that lets it.
    fn over(folder: &Path) -> Result<Self, String> {
        let aside = tempfile::tempdir().unwrap();
        run(
            "cp",
            &[
                "-a",
                &format!("{}/.", folder.display()),
                &aside.path().display().to_string(),
            ],
        )?;
        let target = folder.display().to_string();
        run(
            "mount",
            &["-t", "tmpfs", "-o", "size=1m,mode=0700", "sluice-test", &target],
        )?;
        let disk = Self {
            folder: folder.to_owned(),
        };
        run("cp", &["-a", &format!("{}/.", aside.path().display()), &target])?;
        Ok(disk)
    }

    /// Leaves no room, not for one byte.
    fn fill(&self) {
        let mut filler = fs::File::create(self.filler()).unwrap();
        let full = loop {
            if let Err(full) = filler.write_all(&[0; 4096]) {
                break full;
            }
        };
        assert_eq!(full.kind(), std::io::ErrorKind::StorageFull, "{full}");
    }

    fn free(&self) {
        fs::remove_file(self.filler()).unwrap();
    }

    fn filler(&self) -> PathBuf {
        self.folder.join("filler")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: the instance may still have files open.
        let _ = run("umount", &["--lazy", &self.folder.display().to_string()]);
    }
}

fn run(program: &str, arguments: &[&str]) -> Result<(), String> {
    let output = std::process::Command::new(program).args(arguments).output();
    let output = output.map_err(|error| format!("{program}: {error}"))?;
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    if output.status.success() { Ok(()) } else { Err(said) }
}

/// One instance's disk is really full while a change is rolled out: the change is taken back, the instance serves on and
/// is named until it has room, and then the next change reaches everybody.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_of_one_instance_is_named_and_stops_no_traffic() {
    let upstream = Upstream::start();
    let mut fleet = fleet(&upstream).await;
    let stopped = fleet.instances[0].stop().await;
    assert!(stopped.is_some_and(|status| status.success()), "{}", fleet.tails());
    let disk = match SmallDisk::over(&fleet.instances[0].state) {
        Ok(disk) => disk,
        Err(why) => return println!("skipped: a small file system cannot be mounted here (needs root): {why}"),
    };
    fleet.instances[0].start();
    fleet.instances[0].ready().await;
    fleet.settled().await;
    let load = Load::start("full", Plan::new(fleet.http, HOST, "/", 100));
    disk.fill();
    fleet.folder.write("site.yaml", &site(&upstream, 2));
    let names_the_full_one = |status: &serde_json::Value| {
        let refusals = status["instances"]["refusals"].as_array().cloned().unwrap_or_default();
        let is_it = |refusal: &serde_json::Value| {
            let reason = refusal["reason"].as_str().unwrap_or_default();
            refusal["instance"] == "edge-1" && reason.contains("state_not_writable")
        };
        refusals.iter().any(is_it)
    };
    fleet
        .when("the rollout to wait, with the instance named", |status| {
            status["phase"] == "Stalled" && names_the_full_one(status)
        })
        .await;
    let status = fleet.status().await.unwrap();
    assert_eq!(
        status["held"].as_array().map(Vec::len),
        Some(0),
        "a full disk convicts no change: {status:#}"
    );

    disk.free();
    let status = fleet.settled().await;
    assert_eq!(status["instances"]["refused"], 0, "{status:#}");
    fleet.answers(HOST, "/", &stamp(2)).await;
    fleet.folder.write("site.yaml", &site(&upstream, 3));
    fleet.answers(HOST, "/", &stamp(3)).await;
    let outcomes = load.stop().await;
    assert_eq!(outcomes.failures().count(), 0, "{}", outcomes.summary());
    fleet.instances[0].kill();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damaged_last_good_files_are_said_and_not_served() {
    let upstream = Upstream::start();
    let mut fleet = fleet(&upstream).await;
    fleet.controller.kill();
    fleet.instances[0].kill();
    let damaged = flip_a_bit_in_all(&fleet.instances[0].last_good());
    assert!(damaged >= 3, "order, manifest, section: {damaged}");
    let said_before = fleet.instances[0].output().len();
    fleet.instances[0].start();
    wait_until("the instance to say what is damaged", PATIENCE, || async {
        let said = fleet.instances[0].output()[said_before..].contains("last-good");
        said.then_some(()).ok_or_else(|| fleet.tails())
    })
    .await;
    let answer = sluice_e2e::client::get(fleet.instances[0].admin, "localhost", "/ready")
        .await
        .unwrap();
    assert_eq!(answer.status, 503, "{}", answer.body);
    // The other one serves; the damaged one gets everything anew.
    assert_eq!(
        fleet.instances[1].live().await.unwrap()["epoch"]
            .as_u64()
            .map(|epoch| epoch > 0),
        Some(true)
    );
    fleet.controller.restart().await;
    fleet.instances[0].ready().await;
    tokio::time::timeout(Duration::from_secs(30), fleet.answers(HOST, "/", &stamp(1)))
        .await
        .unwrap();
}

fn flip_a_bit_in_all(folder: &Path) -> usize {
    let mut count = 0;
    for entry in fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            count += flip_a_bit_in_all(&path);
        } else {
            let mut bytes = fs::read(&path).unwrap();
            let middle = bytes.len() / 2;
            if let Some(byte) = bytes.get_mut(middle) {
                *byte ^= 1;
            }
            fs::write(&path, bytes).unwrap();
            count += 1;
        }
    }
    count
}
