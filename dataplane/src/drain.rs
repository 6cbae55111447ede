//! `sluice-dataplane drain`: tells the instance in this container that its end is coming, as SIGTERM would.
//!
//! For the preStop hook of a sidecar. Kubernetes sends a sidecar its SIGTERM only when the app has ended, and then
//! nothing is left to drain for; hooks run as soon as the pod is to end. There is no shell in the image that could send
//! the signal, and with a process namespace that the pod shares the instance is not process 1. When the SIGTERM comes
//! after all it is the second one, which ends what is left of the drain.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};

/// Tells it, and does not wait for what it does.
///
/// # Errors
/// When no instance runs in this container, or more than one does.
pub fn drain() -> anyhow::Result<()> {
    let program = std::env::current_exe().context("which program this is cannot be told")?;
    match running(&program)?.as_slice() {
        [] => bail!("no instance of {} runs in this container", program.display()),
        [one] => kill_process(*one, Signal::TERM).with_context(|| format!("process {one:?}: no signal can be sent")),
        several => bail!(
            "{} instances run here: send SIGTERM to the one that is meant",
            several.len()
        ),
    }
}

/// Other processes that run `program` and see the same file systems as this one, which is to say in the same container.
fn running(program: &Path) -> anyhow::Result<Vec<Pid>> {
    let here = place(Path::new("/proc/self")).context("/proc/self/ns/mnt cannot be read")?;
    let own = std::process::id().to_string();
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").context("/proc cannot be read")?.flatten() {
        let name = entry.file_name();
        let Some(number) = name
            .to_str()
            .filter(|name| *name != own)
            .and_then(|name| name.parse().ok())
        else {
            continue; // no process, or this one
        };
        // What cannot be read is another user's, or has just ended.
        let runs = fs::read_link(entry.path().join("exe")).is_ok_and(|exe| exe == program);
        if runs && place(&entry.path()).is_some_and(|place| place == here) {
            found.extend(Pid::from_raw(number));
        }
    }
    Ok(found)
}

/// The mount namespace of a process.
fn place(process: &Path) -> Option<PathBuf> {
    fs::read_link(process.join("ns/mnt")).ok()
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command};

    use super::*;

    fn sleeping(program: &Path) -> Child {
        Command::new(program).arg("60").spawn().unwrap()
    }

    #[test]
    fn finds_the_processes_of_a_program_and_no_others() {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().canonicalize().unwrap().join("instance");
        fs::copy("/bin/sleep", &program).unwrap();
        let found = || -> Vec<i32> {
            let found = running(&program).unwrap();
            found.into_iter().map(|pid| pid.as_raw_nonzero().get()).collect()
        };
        assert!(found().is_empty());
        let mut one = sleeping(&program);
        assert_eq!(found(), [one.id().cast_signed()]);
        let mut two = sleeping(&program);
        assert_eq!(found().len(), 2);
        for child in [&mut one, &mut two] {
            child.kill().unwrap();
            child.wait().unwrap();
        }
        assert!(found().is_empty());
    }
}
