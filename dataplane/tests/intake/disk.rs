//! What serves survives the process; what is damaged on disk is noticed; a disk that takes nothing harms no traffic.

use std::fs;

use sluice_dataplane::config::{Answer, Delivered};
use sluice_proto::LastEnd;
use sluice_proto::sections::Packed;

use crate::world::{ME, NOW, Revision, World, break_disk, config, epoch, mend_disk, reason};

fn two_revisions() -> (World, Revision, Revision) {
    let mut world = World::new();
    let one = world.revision(1, config(8080, &["a"]));
    let two = world.revision(2, config(8080, &["a", "b"]));
    let order = world.signers.order(epoch(1), &one, None);
    assert_eq!(reason(&world.deliver(&order)), "ack");
    (world, one, two)
}

#[test]
fn it_serves_again_from_disk_with_nobody_there() {
    let (world, one, _) = two_revisions();
    let served = world.served();
    let mut world = world.crash();
    assert_eq!(world.served(), served);
    let said = world.intake.introduce();
    assert_eq!((said.heeded_epoch, said.booted_epoch), (epoch(1), epoch(1)));
    assert_eq!(said.last_end, LastEnd::Harmless, "it carried no candidate");
    assert_eq!(said.held_sections.len(), one.packed.len());
    // And it knows what it may not follow any more.
    let replay = world.signers.order(epoch(1) - 1, &one, None);
    assert_eq!(reason(&world.deliver(&replay)), "epoch_replayed");
}

#[test]
fn after_a_clean_end_the_candidate_comes_back_when_it_is_ordered_again() {
    let (mut world, one, two) = two_revisions();
    let order = world.signers.order(epoch(2), &one, Some((&two, &[ME])));
    assert_eq!(reason(&world.deliver(&order)), "ack");
    let mut world = world.restart();
    assert_eq!(world.served().stable, Some(one.id));
    assert_eq!(world.served().candidate, None, "a start is on stable");
    assert_eq!(world.intake.introduce().last_end, LastEnd::Harmless, "and says so");
    let answers = world.take_order(world.signers.seal_order(&order));
    assert_eq!(reason(&answers[0]), "ack");
    assert_eq!(
        world.served().candidate,
        Some(two.id),
        "from disk, without asking for anything"
    );
}

#[test]
fn after_a_crash_the_candidate_is_not_tried_again_by_the_same_order() {
    let (mut world, one, two) = two_revisions();
    let order = world.signers.order(epoch(2), &one, Some((&two, &[ME])));
    world.deliver(&order);
    let mut world = world.crash();
    assert_eq!(world.intake.introduce().last_end, LastEnd::Crash);
    assert_eq!(reason(&world.deliver(&order)), "crashed_after_swap");
    assert_eq!((world.served().stable, world.served().candidate), (Some(one.id), None));
    // Ending in good order before anybody answered does not hide it.
    let mut world = world.restart();
    assert_eq!(world.intake.introduce().last_end, LastEnd::Crash);
    assert_eq!(reason(&world.deliver(&order)), "crashed_after_swap");
    // A newer order is the controller's answer.
    let rollback = world.signers.order(epoch(3), &one, None);
    assert_eq!(reason(&world.deliver(&rollback)), "ack");
    assert_eq!(
        world.intake.introduce().last_end,
        LastEnd::Crash,
        "of the start, as long as the process runs"
    );
    assert_eq!(world.crash().intake.introduce().last_end, LastEnd::Harmless);
}

/// Starts with one file changed: serves nothing, and comes back with the controller's help.
fn check_damaged(file: &str, damage: impl Fn(&mut Vec<u8>)) {
    let (world, one, _) = two_revisions();
    let path = if file.ends_with('/') {
        let entry = fs::read_dir(world.last_good().join(file))
            .unwrap()
            .next()
            .unwrap()
            .unwrap();
        entry.path()
    } else {
        world.last_good().join(file)
    };
    let mut bytes = fs::read(&path).unwrap();
    damage(&mut bytes);
    fs::write(&path, bytes).unwrap();
    let mut world = world.crash();
    assert_eq!(world.served().stable, None, "{file}: served what is damaged");
    let order = world.signers.order(epoch(2), &one, None);
    assert_eq!(reason(&world.deliver(&order)), "ack", "{file}");
    assert_eq!(
        world.crash().served().stable,
        Some(one.id),
        "{file}: mended on disk too"
    );
}

#[test]
fn damaged_files_are_noticed_and_replaced() {
    for file in ["order.dsse", "manifests/", "sections/"] {
        check_damaged(file, |bytes| bytes.truncate(bytes.len() / 2));
        check_damaged(file, Vec::clear);
        check_damaged(file, |bytes| {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
        });
        check_damaged(file, |bytes| bytes.extend(vec![0; 32 << 20]));
    }
}

#[test]
fn a_damaged_epoch_file_costs_only_what_it_knew_beyond_the_order() {
    let (world, one, two) = two_revisions();
    fs::write(world.last_good().join("epoch"), "999999 nonsense").unwrap();
    let mut world = world.crash();
    assert_eq!(world.served().stable, Some(one.id));
    assert_eq!(world.intake.introduce().heeded_epoch, epoch(1), "of the order kept");
    let order = world.signers.order(epoch(1), &two, None);
    assert_eq!(reason(&world.deliver(&order)), "epoch_conflict");
}

#[test]
fn files_of_another_fleet_or_other_keys_are_not_served() {
    let (world, one, _) = two_revisions();
    let strangers = crate::world::Signers::new(70);
    let foreign = strangers.order(epoch(9), &one, None);
    fs::write(world.last_good().join("order.dsse"), strangers.seal_order(&foreign)).unwrap();
    assert_eq!(world.crash().served().stable, None);
}

#[test]
fn a_disk_that_takes_nothing_stops_changes_but_not_rollbacks() {
    let (mut world, one, two) = two_revisions();
    let trial = world.signers.order(epoch(2), &one, Some((&two, &[ME])));
    assert_eq!(reason(&world.deliver(&trial)), "ack");
    let folder = world.last_good();
    break_disk(&folder);

    let promote = world.signers.order(epoch(3), &two, None);
    let served = world.served();
    assert_eq!(reason(&world.deliver(&promote)), "state_not_writable");
    assert_eq!(world.served(), served, "nothing new is activated");

    let rollback = world.signers.order(epoch(4), &one, None);
    assert_eq!(reason(&world.deliver(&rollback)), "state_not_writable");
    assert_eq!(
        (world.served().epoch, world.served().candidate),
        (epoch(4), None),
        "obeyed all the same"
    );
    assert_eq!(
        reason(&world.deliver(&trial)),
        "epoch_replayed",
        "and remembered while the process lives"
    );
    // The same again: still not acknowledged, since it is still not on disk.
    assert_eq!(reason(&world.deliver(&rollback)), "state_not_writable");

    mend_disk(&folder);
    assert_eq!(reason(&world.deliver(&rollback)), "ack", "now it is kept");
    let mut world = world.crash();
    assert_eq!(world.intake.introduce().heeded_epoch, epoch(4));
    assert_eq!(world.served().stable, Some(one.id));
}

#[test]
fn a_start_on_a_disk_that_takes_nothing_serves_nothing_new_and_says_so() {
    let world = World::new();
    break_disk(&world.last_good());
    let mut world = world.crash();
    let one = world.revision(1, config(8080, &["a"]));
    let order = world.signers.order(epoch(1), &one, None);
    assert_eq!(reason(&world.deliver(&order)), "state_not_writable");
    let refusal = world
        .intake
        .take(Delivered::Order(world.signers.seal_order(&order)), NOW);
    assert!(
        format!("{refusal:?}").contains("last-good"),
        "names the folder: {refusal:?}"
    );
    assert_eq!(world.served().stable, None);
}

#[test]
fn what_a_controller_has_lost_is_handed_back_as_it_arrived_from_memory_and_from_disk() {
    let (world, one, two) = two_revisions();
    let lost = |world: &mut World, revision: &Revision| {
        let digests: Vec<_> = revision.packed.iter().map(|packed| packed.reference.digest).collect();
        let mut answers = world.intake.take(Delivered::LostManifest(revision.id), NOW);
        answers.extend(world.intake.take(Delivered::LostSections(digests), NOW));
        answers
    };
    let held = |world: &World, revision: &Revision| {
        let manifest = Answer::Manifest {
            revision: revision.id,
            envelope: Some(world.signers.seal_manifest(revision)),
        };
        let section = |packed: &Packed| Answer::Section {
            digest: packed.reference.digest,
            wire: Some(packed.wire.clone()),
        };
        let sections = revision.packed.iter().map(section);
        std::iter::once(manifest).chain(sections).collect::<Vec<_>>()
    };
    let mut world = world.crash();
    let expected = held(&world, &one);
    assert_eq!(lost(&mut world, &one), expected, "from disk");

    let order = world.signers.order(epoch(2), &one, Some((&two, &[ME])));
    break_disk(&world.last_good());
    world.deliver(&order); // cannot be kept: only memory has it
    let expected = held(&world, &two);
    mend_disk(&world.last_good());
    assert_eq!(lost(&mut world, &two), expected, "from memory");

    let three = world.revision(3, config(8080, &["c"]));
    let nothing = lost(&mut world, &three);
    assert_eq!(
        nothing.first(),
        Some(&Answer::Manifest {
            revision: three.id,
            envelope: None
        })
    );
    let is_unheld = |answer: &Answer| matches!(answer, Answer::Section { wire: None, .. });
    assert!(nothing.iter().any(is_unheld), "{nothing:?}");
    assert_eq!(world.served().stable, Some(one.id), "what serves does not change");
}
