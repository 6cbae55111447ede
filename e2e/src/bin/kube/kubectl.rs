//! kubectl, as people use it; each call and its answer stands in the check's log.

use std::process::ExitStatus;

use anyhow::ensure;

use crate::tool::call;
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
        let said = call("kubectl", input, arguments).await?;
        self.say(&format!(
            "kubectl {}\n{}{}",
            arguments.join(" "),
            said.stdout,
            said.stderr
        ));
        Ok(said)
    }
}
