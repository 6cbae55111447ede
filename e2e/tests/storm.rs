//! A change every second under load. The long form (2,000 requests and a change a second for two minutes) is
//! `proof storm`.

use sluice_e2e::scenario::storm::{self, Storm};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_every_second_to_everybody_at_once_fails_nothing_and_mixes_nothing() {
    let storm = Storm {
        changes: 10,
        per_second: 300,
        instances: 3,
        stages: vec![(100, "0s")],
    };
    let report = storm::run(&storm).await;
    println!("{report:#?}");
    assert!(report.generations_seen >= 5, "{report:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_every_second_in_stages_fails_nothing_and_mixes_nothing() {
    let stages = vec![(34, "200ms"), (67, "200ms"), (100, "200ms")];
    let report = storm::run(&Storm {
        changes: 10,
        per_second: 300,
        instances: 3,
        stages,
    })
    .await;
    println!("{report:#?}");
    assert!(report.generations_seen >= 3, "{report:#?}");
}
