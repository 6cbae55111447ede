//! Instances as child processes: started, watched, started again when they crash, drained at the end.
//!
//! Each has a process group of its own, so that Ctrl-C on the terminal reaches only `up`, which then drains them; and each
//! ends with `up` whatever kills it (`--die-with-parent`).

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use sluice_model::InstanceId;
use sluice_model::limits::{
    UP_DRAIN_MAX_MS, UP_LOG_FILE_MAX_BYTES, UP_RESTART_FORGIVEN_AFTER_MS, UP_RESTART_WAIT_MAX_MS,
    UP_RESTART_WAIT_MIN_MS,
};
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use super::log_file::{self, LastLine};
use crate::rollout::screen::Screen;

/// One instance.
#[derive(Clone, Debug)]
pub struct Instance {
    /// Its id, which it keeps when it is started again.
    pub id: InstanceId,
    /// Its state folder.
    pub folder: PathBuf,
    /// Its admin port.
    pub admin: SocketAddr,
    /// The program and its arguments.
    pub program: PathBuf,
    /// The arguments.
    pub arguments: Vec<OsString>,
}

/// What instances are to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Wish {
    /// Serve.
    Serve,
    /// End the requests they have, and then themselves.
    Drain,
    /// End.
    Kill,
}

impl Instance {
    /// Where its access log is.
    pub fn access_log(&self) -> PathBuf {
        self.folder.join("access.log")
    }

    /// Where what it says about itself is.
    pub fn own_log(&self) -> PathBuf {
        self.folder.join("instance.log")
    }

    fn spawn(&self) -> std::io::Result<Child> {
        Command::new(&self.program)
            .args(&self.arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
    }
}

/// Runs `instance` until it is wished to end and has ended.
pub fn start(instance: Instance, screen: Arc<Screen>, wish: watch::Receiver<Wish>) -> JoinHandle<()> {
    tokio::spawn(supervise(instance, screen, wish))
}

async fn supervise(instance: Instance, screen: Arc<Screen>, mut wish: watch::Receiver<Wish>) {
    let mut wait = Duration::from_millis(UP_RESTART_WAIT_MIN_MS);
    loop {
        let began = Instant::now();
        let Some(ended) = live(&instance, &mut wish).await else {
            return;
        };
        if began.elapsed() >= Duration::from_millis(UP_RESTART_FORGIVEN_AFTER_MS) {
            wait = Duration::from_millis(UP_RESTART_WAIT_MIN_MS);
        }
        screen.say(&format!(
            "instance {} {ended}; starting it again in {:.1} s (its log: {})",
            instance.id,
            wait.as_secs_f64(),
            instance.own_log().display()
        ));
        tokio::select! {
            () = sleep(wait) => {}
            _ = wish.wait_for(|wish| *wish != Wish::Serve) => return,
        }
        wait = (wait * 2).min(Duration::from_millis(UP_RESTART_WAIT_MAX_MS));
    }
}

/// One life of the instance; how it ended in words, or `None` if it was wished to end.
async fn live(instance: &Instance, wish: &mut watch::Receiver<Wish>) -> Option<String> {
    let mut child = match instance.spawn() {
        Ok(child) => child,
        Err(error) => return Some(format!("could not be started: {error}")),
    };
    let last = LastLine::default();
    let logs = keep_logs(&mut child, instance, &last);
    let ended = tokio::select! {
        status = child.wait() => Some(status),
        _ = wish.wait_for(|wish| *wish != Wish::Serve) => None,
    };
    if ended.is_none() {
        end(&mut child, wish).await;
    }
    for log in logs {
        let _ = log.await;
    }
    let last = last.lock().unwrap_or_else(PoisonError::into_inner).clone();
    ended.map(|status| told(status, &last))
}

fn keep_logs(child: &mut Child, instance: &Instance, last: &LastLine) -> Vec<JoinHandle<()>> {
    let mut logs = Vec::new();
    if let Some(pipe) = child.stdout.take() {
        let file = instance.access_log();
        logs.push(tokio::spawn(log_file::keep(
            pipe,
            file,
            UP_LOG_FILE_MAX_BYTES,
            LastLine::default(),
        )));
    }
    if let Some(pipe) = child.stderr.take() {
        logs.push(tokio::spawn(log_file::keep(
            pipe,
            instance.own_log(),
            UP_LOG_FILE_MAX_BYTES,
            last.clone(),
        )));
    }
    logs
}

/// `ended with code 1: cannot bind …`
fn told(status: std::io::Result<ExitStatus>, last_line: &str) -> String {
    use std::os::unix::process::ExitStatusExt;
    let how = match status {
        Ok(status) => match (status.code(), status.signal()) {
            (Some(code), _) => format!("ended with code {code}"),
            (None, Some(signal)) => format!("was killed by signal {signal}"),
            (None, None) => "ended".to_owned(),
        },
        Err(error) => format!("was lost sight of: {error}"),
    };
    if last_line.is_empty() {
        how
    } else {
        format!("{how}: {last_line}")
    }
}

/// Drains the child, and kills it when that is wished or takes too long.
async fn end(child: &mut Child, wish: &mut watch::Receiver<Wish>) {
    if *wish.borrow() == Wish::Drain {
        ask(child, Signal::TERM);
        let killed = wish.wait_for(|wish| *wish == Wish::Kill);
        tokio::select! {
            waited = timeout(Duration::from_millis(UP_DRAIN_MAX_MS), child.wait()) => {
                if waited.is_ok() {
                    return;
                }
            }
            _ = killed => {}
        }
    }
    let _ = child.kill().await;
}

fn ask(child: &Child, signal: Signal) {
    let pid = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    if let Some(pid) = pid {
        // It may just have ended.
        let _ = kill_process(pid, signal);
    }
}

/// The state folder of instance `id`.
pub fn folder(state: &Path, id: &InstanceId) -> PathBuf {
    state.join("instances").join(id.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(folder: &Path, script: &str) -> Instance {
        Instance {
            id: "edge-1".parse().unwrap(),
            folder: folder.to_owned(),
            admin: "127.0.0.1:1".parse().unwrap(),
            program: "/bin/sh".into(),
            arguments: vec!["-c".into(), script.into()],
        }
    }

    async fn until(mut wanted: impl FnMut() -> bool) {
        let look = async {
            while !wanted() {
                sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(Duration::from_secs(20), look).await.expect("in time");
    }

    #[tokio::test]
    async fn a_crashed_instance_is_started_again() {
        let temp = tempfile::tempdir().unwrap();
        let runs = temp.path().join("runs");
        let script = format!("echo run >> {}; echo broken >&2; exit 3", runs.display());
        let (wish, wished) = watch::channel(Wish::Serve);
        let running = start(shell(temp.path(), &script), Arc::new(Screen::plain()), wished);
        until(|| std::fs::read_to_string(&runs).is_ok_and(|text| text.lines().count() >= 2)).await;
        wish.send_replace(Wish::Drain);
        running.await.unwrap();
        assert!(
            std::fs::read_to_string(temp.path().join("instance.log"))
                .unwrap()
                .contains("broken")
        );
    }

    #[tokio::test]
    async fn draining_lets_it_end_by_itself_and_a_second_wish_kills() {
        let temp = tempfile::tempdir().unwrap();
        let polite = "trap 'echo bye; exit 0' TERM; echo up; while :; do sleep 0.05; done";
        let (wish, wished) = watch::channel(Wish::Serve);
        let running = start(shell(temp.path(), polite), Arc::new(Screen::plain()), wished);
        let log = temp.path().join("access.log");
        until(|| std::fs::read_to_string(&log).is_ok_and(|text| text.contains("up"))).await;
        wish.send_replace(Wish::Drain);
        running.await.unwrap();
        assert!(std::fs::read_to_string(&log).unwrap().ends_with("bye\n"));

        let deaf = "trap '' TERM; echo deaf; while :; do sleep 0.05; done";
        let (wish, wished) = watch::channel(Wish::Serve);
        let running = start(shell(temp.path(), deaf), Arc::new(Screen::plain()), wished);
        until(|| std::fs::read_to_string(&log).is_ok_and(|text| text.contains("deaf"))).await;
        wish.send_replace(Wish::Drain);
        sleep(Duration::from_millis(200)).await;
        assert!(!running.is_finished());
        wish.send_replace(Wish::Kill);
        timeout(Duration::from_secs(10), running)
            .await
            .expect("killed")
            .unwrap();
    }

    #[test]
    fn the_end_is_told_with_the_last_words() {
        use std::os::unix::process::ExitStatusExt;
        assert_eq!(
            told(Ok(ExitStatus::from_raw(1 << 8)), "no identity"),
            "ended with code 1: no identity"
        );
        assert_eq!(told(Ok(ExitStatus::from_raw(9)), ""), "was killed by signal 9");
    }
}
