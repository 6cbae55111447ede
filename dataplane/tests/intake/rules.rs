//! Who carries what, when an order is heeded, and that an instance never goes back.

use proptest::prelude::*;
use sluice_dataplane::config::{Answer, Delivered};
use sluice_proto::report::ServedRole;

use crate::world::{ME, NOW, Served, World, config, epoch, reason};

#[test]
fn only_members_carry_a_candidate_and_a_rollback_takes_it_away() {
    let mut world = World::new();
    let one = world.revision(1, config(8080, &["a"]));
    let two = world.revision(2, config(8080, &["a", "b"]));
    let served = |epoch, stable: &crate::world::Revision, candidate: Option<&crate::world::Revision>| Served {
        epoch,
        stable: Some(stable.id),
        candidate: candidate.map(|c| c.id),
        ports: vec![8080],
    };

    let order = world.signers.order(epoch(1), &one, Some((&two, &["edge-2"])));
    assert_eq!(reason(&world.deliver(&order)), "ack");
    assert_eq!(world.served(), served(epoch(1), &one, None), "not named: stable only");
    assert_eq!(world.intake.effect().fleet_candidate, Some(two.id));

    let order = world.signers.order(epoch(2), &one, Some((&two, &[ME, "edge-2"])));
    assert_eq!(reason(&world.deliver(&order)), "ack");
    assert_eq!(world.served(), served(epoch(2), &one, Some(&two)));

    // The next stage builds nothing anew.
    let builds = world.target.0.lock().unwrap().builds.len();
    let order = world
        .signers
        .order(epoch(3), &one, Some((&two, &[ME, "edge-2", "edge-3"])));
    assert_eq!(reason(&world.deliver(&order)), "ack");
    assert_eq!(world.target.0.lock().unwrap().builds.len(), builds);

    let order = world.signers.order(epoch(4), &one, None);
    assert_eq!(reason(&world.deliver(&order)), "ack");
    assert_eq!(world.served(), served(epoch(4), &one, None), "rolled back");

    // Promotion takes over from the candidate.
    let order = world.signers.order(epoch(5), &one, Some((&two, &[ME])));
    assert_eq!(reason(&world.deliver(&order)), "ack");
    let order = world.signers.order(epoch(6), &two, None);
    assert_eq!(reason(&world.deliver(&order)), "ack");
    assert_eq!(world.served(), served(epoch(6), &two, None));
    let last = world.target.0.lock().unwrap().builds.last().copied();
    assert_eq!(last, Some((two.id, ServedRole::Stable, Some(two.id))));
}

#[test]
fn a_candidates_ports_are_tried_and_stables_stay_open() {
    let mut world = World::new();
    let one = world.revision(1, config(8080, &["a"]));
    let two = world.revision(2, config(9090, &["a"]));
    let order = world.signers.order(epoch(1), &one, None);
    world.deliver(&order);
    // The same listener on another port: the candidate's counts while it has every request.
    let order = world.signers.order(epoch(2), &one, Some((&two, &[ME])));
    assert_eq!(reason(&world.deliver(&order)), "ack");
    assert_eq!(world.served().ports, [9090]);
    let order = world.signers.order(epoch(3), &one, None);
    assert_eq!(reason(&world.deliver(&order)), "ack");
    assert_eq!(world.served().ports, [8080]);
}

#[test]
fn the_same_order_again_is_acknowledged_again_and_changes_nothing() {
    let mut world = World::new();
    let one = world.revision(1, config(8080, &["a"]));
    let order = world.signers.order(epoch(1), &one, None);
    let first = world.deliver(&order);
    let swaps = world.target.0.lock().unwrap().swaps;
    let again = world.take_order(world.signers.seal_order(&order));
    assert_eq!(again, [first]);
    assert_eq!(world.target.0.lock().unwrap().swaps, swaps);
}

#[test]
fn an_order_that_failed_is_still_heeded_and_can_be_tried_again() {
    let mut world = World::new();
    let one = world.revision(1, config(8080, &["a"]));
    let two = world.revision(2, config(9999, &["a"]));
    let order = world.signers.order(epoch(1), &one, None);
    world.deliver(&order);
    world.target.0.lock().unwrap().taken = vec![9999];
    let failing = world.signers.order(epoch(3), &two, None);
    assert_eq!(reason(&world.deliver(&failing)), "listen_failed");
    // A late, older order may not slip in behind it.
    let late = world.signers.order(epoch(2), &one, Some((&two, &[ME])));
    assert_eq!(reason(&world.deliver(&late)), "epoch_replayed");
    assert_eq!(world.served().epoch, epoch(1));
    world.target.0.lock().unwrap().taken.clear();
    assert_eq!(reason(&world.deliver(&failing)), "ack");
    assert_eq!(world.served().ports, [9999]);
}

#[test]
fn a_manifest_may_come_first_and_only_lacking_sections_are_asked_for() {
    let mut world = World::new();
    let one = world.revision(1, config(8080, &["a"]));
    let two = world.revision(2, config(8080, &["a", "b"]));
    let order = world.signers.order(epoch(1), &one, None);
    world.deliver(&order);
    let manifest = Delivered::Manifest(world.signers.seal_manifest(&two));
    assert_eq!(world.intake.take(manifest, NOW), []);
    let order = world.signers.order(epoch(2), &two, None);
    let answers = world.take_order(world.signers.seal_order(&order));
    let lacking: Vec<_> = two.packed.iter().filter(|p| !one.packed.contains(p)).collect();
    let lacking: Vec<_> = lacking.iter().map(|p| p.reference.digest).collect();
    assert_eq!(answers, [Answer::Want(lacking.clone())]);
    // A new stream: what was asked for on the old one is asked for again.
    let introduction = world.intake.introduce();
    assert_eq!(introduction.heeded_epoch, epoch(2));
    assert_eq!(introduction.effect.epoch, epoch(1));
    assert!(!introduction.held_sections.contains(&lacking[0]));
    let answers = world.take_order(world.signers.seal_order(&order));
    assert_eq!(answers, [Answer::Want(lacking)]);
}

#[derive(Clone, Debug)]
enum Step {
    Order {
        epoch: u64,
        stable: u64,
        candidate: Option<(u64, bool)>,
    },
    Crash,
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    let candidate = proptest::option::of((1..4_u64, any::<bool>()));
    prop_oneof![
        6 => (1..12_u64, 1..4_u64, candidate)
            .prop_map(|(epoch, stable, candidate)| Step::Order { epoch, stable, candidate }),
        1 => Just(Step::Crash),
        1 => Just(Step::Restart),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// Over any sequence of orders and restarts: the epoch heeded and the epoch in effect never fall, no order takes
    /// effect that is older than one heeded, and no candidate serves that the order in effect does not give to us.
    #[test]
    fn an_instance_never_goes_back(steps in proptest::collection::vec(step(), 1..25)) {
        let mut world = World::new();
        let pools = ["a", "b", "c"];
        let revisions: Vec<_> = (1..4).map(|n| world.revision(n, config(8080, &pools[..n as usize]))).collect();
        let (mut heeded, mut in_effect) = (0, 0);
        for step in steps {
            match step {
                Step::Order { epoch: n, stable, candidate } => {
                    let members: &[&str] = if candidate.is_some_and(|(_, me)| me) { &[ME] } else { &["edge-9"] };
                    let trial = candidate.map(|(c, _)| (&revisions[c as usize - 1], members));
                    let order = world.signers.order(epoch(n), &revisions[stable as usize - 1], trial);
                    let answer = world.deliver(&order);
                    if matches!(answer, Answer::Ack(_)) {
                        prop_assert!(order.epoch >= heeded, "an older order took effect");
                        let mine = order.candidate_for(&ME.parse().unwrap()).map(|c| c.revision);
                        prop_assert_eq!(world.served().candidate, mine);
                        prop_assert_eq!(world.served().stable, Some(order.stable));
                    }
                }
                Step::Crash => world = world.crash(),
                Step::Restart => world = world.restart(),
            }
            let said = world.intake.introduce();
            prop_assert!(said.heeded_epoch >= heeded, "heeded {} after {heeded}", said.heeded_epoch);
            prop_assert!(said.effect.epoch >= in_effect, "in effect {} after {in_effect}", said.effect.epoch);
            heeded = said.heeded_epoch;
            in_effect = said.effect.epoch;
        }
    }
}
