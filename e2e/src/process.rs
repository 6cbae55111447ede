//! One process under test: started with its output in a file, stopped or killed by its own id, never by a name.
//! Dropping it kills it, so that a failing test leaves nothing behind.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal};
use tokio::time::{Instant, sleep};

/// A running (or ended) process.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    stdout: PathBuf,
    stderr: PathBuf,
}

impl Process {
    /// Starts `command`, with its output in `folder/<name>.out` and `.err`, appended to what an earlier life wrote.
    pub fn start(name: &str, folder: &Path, command: &mut Command) -> Self {
        let path = |suffix: &str| folder.join(format!("{name}.{suffix}"));
        let (stdout, stderr) = (path("out"), path("err"));
        let open = |path: &Path| {
            File::options()
                .create(true)
                .append(true)
                .open(path)
                .expect("a file for output")
        };
        let child = command
            .stdin(Stdio::null())
            .stdout(open(&stdout))
            .stderr(open(&stderr))
            .spawn()
            .unwrap_or_else(|error| panic!("{name} does not start: {error}: {command:?}"));
        Self {
            name: name.to_owned(),
            child,
            stdout,
            stderr,
        }
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// All it has printed on standard output so far.
    pub fn stdout(&self) -> String {
        read(&self.stdout)
    }

    /// All it has printed on standard error so far.
    pub fn stderr(&self) -> String {
        read(&self.stderr)
    }

    /// Where its standard output goes.
    pub fn stdout_path(&self) -> &Path {
        &self.stdout
    }

    /// Sends a signal to it alone.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        // It may be gone already, which is what signals are mostly for.
        let _ = rustix::process::kill_process(pid, signal);
    }

    /// `kill -9`, and waits for the end.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// SIGTERM, and waits for the end.
    ///
    /// # Panics
    /// If it takes longer than `deadline`.
    pub async fn terminate(&mut self, deadline: Duration) -> ExitStatus {
        self.signal(Signal::TERM);
        self.ended(deadline).await
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// If it takes longer than `deadline`.
    pub async fn ended(&mut self, deadline: Duration) -> ExitStatus {
        let began = Instant::now();
        loop {
            if let Some(status) = self.exited() {
                return status;
            }
            assert!(
                began.elapsed() < deadline,
                "{} did not end within {deadline:?}\n{}",
                self.name,
                self.tail()
            );
            sleep(Duration::from_millis(10)).await;
        }
    }

    /// How it ended, if it did.
    pub fn exited(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("the state of a child")
    }

    /// The last lines it printed, for a failing test.
    pub fn tail(&self) -> String {
        let last = |text: String| {
            let lines: Vec<&str> = text.lines().collect();
            lines[lines.len().saturating_sub(30)..].join("\n")
        };
        format!(
            "--- {} stdout\n{}\n--- {0} stderr\n{}",
            self.name,
            last(self.stdout()),
            last(self.stderr())
        )
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

fn read(path: &Path) -> String {
    let bytes = std::fs::read(path).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The living processes whose parent is `parent`, zombies aside, out of `/proc`.
pub fn children(parent: u32) -> Vec<u32> {
    let entries = std::fs::read_dir("/proc").expect("/proc").flatten();
    let ids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    ids.filter(|id| stat(*id).is_some_and(|(state, its_parent)| its_parent == parent && state != 'Z'))
        .collect()
}

/// Whether a process lives, zombies aside.
pub fn alive(id: u32) -> bool {
    stat(id).is_some_and(|(state, _)| state != 'Z')
}

/// State and parent, of `proc(5)`'s `stat`: the name in brackets may hold anything, so reading begins after it.
fn stat(id: u32) -> Option<(char, u32)> {
    let text = std::fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    let mut fields = text.rsplit_once(") ")?.1.split(' ');
    Some((fields.next()?.chars().next()?, fields.next()?.parse().ok()?))
}
