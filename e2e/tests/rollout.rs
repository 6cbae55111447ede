//! Changes under load, as an author of manifests sees them: a good one reaches everybody, a bad one is undone.

use sluice_e2e::scenario::change::{self, Change};

/// Short bakes; the long form is `proof change`.
fn short() -> Change {
    Change {
        per_second: 150,
        shop_percent: 50,
        bake: "2s",
        min_requests: 20,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_good_change_goes_stage_by_stage_and_no_request_fails() {
    println!("{}", change::good(&short()).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_change_is_undone_and_a_harmless_one_beside_it_goes_on() {
    println!("{:#?}", change::bad(&short()).await);
}

/// The fleet's own error rate moves by a third of a percent at most: only the route's own gate can see it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_change_of_a_route_with_one_percent_of_the_traffic_is_undone() {
    let rare = Change {
        per_second: 400,
        shop_percent: 1,
        bake: "10s",
        min_requests: 5,
    };
    println!("{:#?}", change::bad(&rare).await);
}
