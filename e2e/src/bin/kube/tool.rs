//! The other programs that people use beside kubectl, such as Helm: each call and its answer stands in the check's log.

use std::process::Stdio;

use anyhow::{Context, ensure};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::kubectl::Said;
use crate::world::World;

/// Lines of an answer that are kept in the log: a rendered chart has a thousand.
const LOG_LINES: usize = 40;

impl World {
    /// A call that has to succeed; gives what it printed on standard output.
    pub(crate) async fn tool(&self, program: &str, input: &str, arguments: &[&str]) -> anyhow::Result<String> {
        let said = self.tool_raw(program, input, arguments).await?;
        let call = arguments.join(" ");
        ensure!(
            said.status.success(),
            "{program} {call}: {}{}",
            said.stdout,
            said.stderr
        );
        Ok(said.stdout)
    }

    /// A call, however it ends.
    pub(crate) async fn tool_raw(&self, program: &str, input: &str, arguments: &[&str]) -> anyhow::Result<Said> {
        let said = call(program, input, arguments).await?;
        let beginning: Vec<_> = said.stdout.lines().take(LOG_LINES).collect();
        self.say(&format!(
            "{program} {}\n{}\n{}",
            arguments.join(" "),
            beginning.join("\n"),
            said.stderr
        ));
        Ok(said)
    }
}

/// One call, with `input` on standard input, to its end.
pub(crate) async fn call(program: &str, input: &str, arguments: &[&str]) -> anyhow::Result<Said> {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("{program} does not start; is it in PATH? `cluster build` makes it"))?;
    let mut pipe = child.stdin.take().context("a pipe")?;
    // Beside each other: what is longer than a pipe's buffer would wait for itself.
    let write = async {
        // Whoever reads nothing closes it.
        let _ = pipe.write_all(input.as_bytes()).await;
        drop(pipe);
    };
    let ((), output) = tokio::join!(write, child.wait_with_output());
    let output = output?;
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Ok(Said {
        status: output.status,
        stdout: text(output.stdout),
        stderr: text(output.stderr),
    })
}
