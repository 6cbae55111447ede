//! kubectl, as people use it; each call and its answer stands in the check's log.

use std::process::{ExitStatus, Stdio};

use anyhow::{Context, ensure};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::world::World;

/// How a call ended.
#[derive(Debug)]
pub(crate) struct Said {
    /// Its exit code.
    pub(crate) status: ExitStatus,
    /// Standard output.
    pub(crate) stdout: String,
    /// Standard error, where warnings go.
    pub(crate) stderr: String,
}

impl World {
    /// A call that has to succeed; gives what it printed on standard output.
    pub(crate) async fn kubectl(&self, arguments: &[&str]) -> anyhow::Result<String> {
        self.kubectl_with("", arguments).await
    }

    /// The same with `input` on standard input.
    pub(crate) async fn kubectl_with(&self, input: &str, arguments: &[&str]) -> anyhow::Result<String> {
        let said = self.kubectl_raw(input, arguments).await?;
        let call = arguments.join(" ");
        ensure!(said.status.success(), "kubectl {call}: {}{}", said.stdout, said.stderr);
        Ok(said.stdout)
    }

    /// A call that has to succeed without a warning.
    pub(crate) async fn kubectl_unwarned(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let said = self.kubectl_raw("", arguments).await?;
        let call = arguments.join(" ");
        ensure!(said.status.success(), "kubectl {call}: {}{}", said.stdout, said.stderr);
        ensure!(said.stderr.is_empty(), "kubectl {call} warns: {}", said.stderr);
        Ok(said.stdout)
    }

    /// A call, however it ends.
    pub(crate) async fn kubectl_raw(&self, input: &str, arguments: &[&str]) -> anyhow::Result<Said> {
        let mut child = Command::new("kubectl")
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("kubectl does not start; is it in PATH?")?;
        let mut pipe = child.stdin.take().context("a pipe")?;
        // Small enough for the pipe's buffer, or read by kubectl before it writes anything.
        pipe.write_all(input.as_bytes()).await?;
        drop(pipe);
        let output = child.wait_with_output().await?;
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        let said = Said {
            status: output.status,
            stdout: text(output.stdout),
            stderr: text(output.stderr),
        };
        self.say(&format!(
            "kubectl {}\n{}{}",
            arguments.join(" "),
            said.stdout,
            said.stderr
        ));
        Ok(said)
    }
}
