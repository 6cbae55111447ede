//! Runs the scenarios one after another and tells how each ended. One that panics or hangs has failed, and the others run
//! all the same.

use std::process::ExitCode;
use std::time::Instant;

use sluice_e2e::panics;
use tokio::time::timeout;

use crate::options::Form;
use crate::registry::{Scenario, limit};

/// Runs them; the exit code says whether all passed.
pub(crate) async fn run(form: Form, scenarios: Vec<Scenario>) -> anyhow::Result<ExitCode> {
    let (mut passed, mut failed) = (0, 0);
    for scenario in scenarios {
        let began = Instant::now();
        let ended = attempt(scenario, form).await;
        let took = began.elapsed().as_secs_f64();
        match ended {
            Ok(figures) => {
                println!("{:<14} ok {took:6.1} s  {figures}", scenario.name);
                passed += 1;
            }
            Err(why) => {
                println!("{:<14} FAILED {took:.1} s: {why}", scenario.name);
                failed += 1;
            }
        }
    }
    println!("{passed} passed, {failed} failed");
    Ok(if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// In a task of its own, so that a panic, which is how the harness speaks, ends the scenario and not the run.
async fn attempt(scenario: Scenario, form: Form) -> Result<String, String> {
    let mut task = tokio::spawn((scenario.run)(form));
    match timeout(limit(form), &mut task).await {
        Ok(Ok(Ok(figures))) => Ok(figures),
        Ok(Ok(Err(error))) => Err(format!("{error:#}")),
        Ok(Err(ended)) => Err(panics::text(ended)),
        Err(_) => {
            task.abort();
            // Its processes end with it.
            let _ = task.await;
            Err(format!("not done after {:?}", limit(form)))
        }
    }
}
