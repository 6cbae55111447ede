//! Instructions of a process that runs under callgrind, counted from one moment to another.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, bail, ensure};
use sluice_e2e::fleet::Instance;

/// Counts from now on.
pub(crate) fn begin(instance: &Instance) -> anyhow::Result<()> {
    control(instance, "--instr=on")?;
    control(instance, "--zero")
}

/// What its busiest thread has executed since: the one worker. The others (stream, timers of reports) go on by the clock and
/// not by the request.
pub(crate) fn end(instance: &Instance) -> anyhow::Result<u64> {
    control(instance, "--dump")?;
    control(instance, "--instr=off")?;
    let prefix = instance.counts();
    let (folder, name) = (
        prefix.parent().context("a folder")?,
        prefix.file_name().context("a name")?,
    );
    let name = name.to_string_lossy().into_owned();
    let mut busiest = None;
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let dump = path
            .file_name()
            .is_some_and(|file| file.to_string_lossy().starts_with(&name));
        if dump {
            busiest = busiest.max(total(&path)?);
            fs::remove_file(&path)?;
        }
    }
    busiest.with_context(|| format!("callgrind has written nothing beside {}", prefix.display()))
}

/// The sum in one file, which it has in a line of its own; the file of a run without one is empty.
fn total(file: &Path) -> anyhow::Result<Option<u64>> {
    let text = fs::read_to_string(file)?;
    let line = text.lines().find_map(|line| line.strip_prefix("totals: "));
    line.map(|number| {
        number
            .trim()
            .parse()
            .with_context(|| format!("{}: {number:?}", file.display()))
    })
    .transpose()
}

fn control(instance: &Instance, order: &str) -> anyhow::Result<()> {
    let pid = instance.process_id().to_string();
    let output = Command::new("callgrind_control")
        .args([order, &pid])
        .output()
        .context("callgrind_control, of the package valgrind")?;
    let said = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    if said.contains("Error") {
        bail!("callgrind_control {order} {pid}: {said}");
    }
    ensure!(output.status.success(), "callgrind_control {order} {pid}: {said}");
    Ok(())
}
