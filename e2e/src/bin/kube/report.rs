//! Runs the checks one after another and tells how each ended. A check that panics or hangs has failed, and the others
//! run all the same.

use std::fs;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::Context;
use sluice_e2e::panics;

use crate::evidence;
use crate::options::Options;
use crate::registry::{Check, Needs};
use crate::world::{Cluster, World};

/// Of what a failed check says, in the output. All of it is in its folder.
const LINES: usize = 60;

/// How many ended how.
#[derive(Default)]
struct Count {
    passed: usize,
    failed: usize,
    skipped: usize,
}

/// Runs them; the exit code says whether all passed.
pub(crate) async fn run(options: Options, checks: Vec<Check>) -> anyhow::Result<ExitCode> {
    fs::create_dir_all(&options.out).with_context(|| format!("making {}", options.out.display()))?;
    let cluster = Cluster::connect(options).await?;
    let mut count = Count::default();
    for check in checks {
        if check.needs == Needs::OwnCluster && cluster.own().is_none() {
            println!(
                "{:<20} skipped: it stops parts of the node, reads its audit log, or sends load in its network",
                check.name
            );
            count.skipped += 1;
            continue;
        }
        let world = World::new(cluster.clone(), check.name)?;
        let began = Instant::now();
        match attempt(check, &world).await {
            Ok(()) => {
                let (took, figures) = (began.elapsed().as_secs_f64(), world.figures());
                println!("{:<20} ok {took:6.1} s  {figures}", check.name);
                count.passed += 1;
            }
            Err(why) => {
                println!(
                    "{:<20} FAILED {:.1} s: {}",
                    check.name,
                    began.elapsed().as_secs_f64(),
                    indented(&why)
                );
                println!("{:<20} see {}", "", world.folder().display());
                world.say(&format!("FAILED: {why}"));
                evidence::collect(&world).await;
                count.failed += 1;
            }
        }
        world.clear().await;
    }
    let skipped = match count.skipped {
        0 => String::new(),
        number => format!(", {number} skipped"),
    };
    println!("{} passed, {} failed{skipped}", count.passed, count.failed);
    Ok(if count.failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// In a task of its own, so that a panic, which is how the harness speaks, ends the check and not the run.
async fn attempt(check: Check, world: &World) -> Result<(), String> {
    let world = world.clone();
    let task = tokio::spawn(async move {
        tokio::time::timeout(check.limit, (check.run)(&world))
            .await
            .unwrap_or_else(|_| Err(anyhow::anyhow!("not done after {:?}", check.limit)))
    });
    match task.await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(format!("{error:#}")),
        Err(ended) => Err(panics::text(ended)),
    }
}

/// The beginning, under the line of its check: where only the output is kept, nothing else says what was seen.
fn indented(text: &str) -> String {
    let lines: Vec<_> = text.lines().take(LINES).collect();
    lines.join("\n                     ")
}
