//! Each way in which something delivered can be wrong is refused with its reason, and what serves does not change.

use bytes::Bytes;
use sluice_dataplane::config::{Answer, Delivered};
use sluice_model::limits::{MAX_CLOCK_SKEW_SECONDS, MAX_MANIFEST_BYTES, MAX_ORDER_BYTES};
use sluice_proto::canonical::Wire;
use sluice_proto::envelope::{PayloadType, sign};
use sluice_proto::hash::sha256;
use sluice_proto::keys::{Role, Signer};
use sluice_proto::sections::Packed;
use sluice_proto::signed::{seal_manifest, seal_order};

use crate::world::{ME, NOW, Revision, Signers, World, config, epoch, pool_key, reason};

/// A world that serves revision 1 under its second order, and a revision 2 to be tried.
fn serving() -> (World, Revision, Revision) {
    let mut world = World::new();
    let one = world.revision(1, config(8080, &["a"]));
    let two = world.revision(2, config(8080, &["a", "b"]));
    for n in [1, 2] {
        let order = world.signers.order(epoch(n), &one, None);
        assert_eq!(reason(&world.deliver(&order)), "ack");
    }
    (world, one, two)
}

/// Delivers something wrong: the last answer must be a nack for this reason, counted once, and nothing may change.
fn check(world: &mut World, what: &str, delivered: Delivered, expected: &str) {
    let served = world.served();
    let counted = world.metrics.refused_for(expected);
    let answers = world.intake.take(delivered, NOW);
    let last = answers.last().unwrap_or_else(|| panic!("{what}: no answer"));
    assert_eq!(reason(last), expected, "{what}: {last:?}");
    assert_eq!(world.metrics.refused_for(expected), counted + 1, "{what}");
    assert_eq!(world.served(), served, "{what}: what serves has changed");
}

fn order_with(world: &World, mend: impl FnOnce(&mut sluice_proto::order::Order), stable: &Revision) -> Delivered {
    let mut order = world.signers.order(epoch(3), stable, None);
    mend(&mut order);
    Delivered::Order(world.signers.seal_order(&order))
}

#[test]
fn orders() {
    let (mut world, one, two) = serving();
    let good = world.signers.seal_order(&world.signers.order(epoch(3), &one, None));
    let strangers = Signers::new(50);

    for cut in [0, 1, good.len() / 2, good.len() - 1] {
        check(
            &mut world,
            "cut short",
            Delivered::Order(good.slice(..cut)),
            "malformed",
        );
    }
    let order = world.signers.order(epoch(3), &one, None);
    let forged = seal_order(&[&strangers.order], &order);
    check(&mut world, "another key", Delivered::Order(forged), "signature");
    let wrong_role = sign(&[&world.signers.manifest], PayloadType::Order, &order.encode());
    check(
        &mut world,
        "key of the wrong role",
        Delivered::Order(wrong_role),
        "key_role",
    );
    let manifest = world.signers.seal_manifest(&two);
    check(
        &mut world,
        "a manifest as order",
        Delivered::Order(manifest),
        "malformed",
    );

    let other = order_with(&world, |o| o.fleet = "other".parse().unwrap(), &one);
    check(&mut world, "another fleet", other, "wrong_audience");
    let other = order_with(&world, |o| o.cluster = "other".parse().unwrap(), &one);
    check(&mut world, "another cluster", other, "wrong_audience");

    let replay = order_with(&world, |o| o.epoch = epoch(1), &one);
    check(&mut world, "replay", replay, "epoch_replayed");
    let conflict = order_with(&world, |o| o.epoch = epoch(2), &two);
    check(&mut world, "same epoch, other order", conflict, "epoch_conflict");
    let ahead = sluice_model::epoch::floor(NOW + 2 * MAX_CLOCK_SKEW_SECONDS + 1);
    let future = order_with(&world, |o| o.epoch = ahead, &one);
    check(&mut world, "far future", future, "epoch_far_future");
    let future = order_with(&world, |o| o.epoch = u64::MAX, &one);
    check(&mut world, "end of time", future, "epoch_far_future");

    let huge = Bytes::from(vec![0x0a; MAX_ORDER_BYTES * 100]);
    check(&mut world, "100 times too large", Delivered::Order(huge), "too_large");

    let mut unknown = order.encode().to_vec();
    unknown.extend([0x98, 0x3f, 0x01]); // field 1011, varint 1
    let unknown = sign(&[&world.signers.order], PayloadType::Order, &unknown);
    check(
        &mut world,
        "unknown field, signed",
        Delivered::Order(unknown),
        "malformed",
    );
    let mut unknown = good.to_vec();
    unknown.extend([0x98, 0x3f, 0x01]);
    check(
        &mut world,
        "unknown field around",
        Delivered::Order(unknown.into()),
        "malformed",
    );

    // The good one still works after all that.
    assert_eq!(reason(&world.deliver(&order)), "ack");
}

#[test]
fn an_order_with_any_bit_flipped() {
    let (mut world, one, _) = serving();
    let good = world.signers.seal_order(&world.signers.order(epoch(3), &one, None));
    let served = world.served();
    for bit in 0..good.len() * 8 {
        let mut bad = good.to_vec();
        bad[bit / 8] ^= 1 << (bit % 8);
        let answers = world.take_order(bad.into());
        let reason = reason(answers.last().expect("an answer"));
        let expected = ["signature", "malformed", "key_role", "too_large"];
        assert!(expected.contains(&reason), "bit {bit}: {reason}");
        assert_eq!(world.served(), served, "bit {bit}");
    }
}

#[test]
fn manifests() {
    let (mut world, one, two) = serving();
    let strangers = Signers::new(50);
    let mut pending = 10;
    // Each time, a new order for revision 2 waits for the manifest, and gets a bad one.
    let mut refused = |world: &mut World, what: &str, manifest: Bytes, expected: &str| {
        pending += 1;
        let order = world.signers.order(epoch(pending), &one, Some((&two, &[ME])));
        let envelope = world.signers.seal_order(&order);
        assert_eq!(world.take_order(envelope), [], "{what}");
        check(world, what, Delivered::Manifest(manifest.clone()), expected);
        let answers = world.intake.take(Delivered::Manifest(manifest), NOW);
        assert!(
            matches!(answers[..], [Answer::Nack { epoch: 0, .. }]),
            "{what}: nothing waits for it any more: {answers:?}"
        );
    };
    let good = world.signers.seal_manifest(&two);
    refused(&mut world, "cut short", good.slice(..good.len() - 7), "malformed");
    let forged = seal_manifest(&[&strangers.manifest], &two.manifest);
    refused(&mut world, "another key", forged, "signature");
    let role = sign(&[&world.signers.order], PayloadType::Manifest, &two.manifest.encode());
    refused(&mut world, "key of the wrong role", role, "key_role");

    let mut other = two.clone();
    other.manifest.fleet = "other".parse().unwrap();
    let other = world.signers.seal_manifest(&other);
    refused(&mut world, "another fleet", other, "wrong_audience");
    let mut needs = two.clone();
    needs.manifest.features.push("teleport/v9".to_owned());
    needs.manifest.features.sort();
    let needs = world.signers.seal_manifest(&needs);
    refused(&mut world, "unknown feature", needs, "unknown_feature");
    let mut swapped = two.clone();
    swapped.manifest.sections[0].digest = two.manifest.sections[1].digest;
    let swapped = world.signers.seal_manifest(&swapped);
    refused(&mut world, "a section swapped in the manifest", swapped, "malformed");
    let huge = Bytes::from(vec![0x0a; MAX_MANIFEST_BYTES + 4096]);
    refused(&mut world, "too large", huge, "too_large");
    let mut unknown = two.manifest.encode().to_vec();
    unknown.extend([0x98, 0x3f, 0x01]);
    let unknown = sign(&[&world.signers.manifest], PayloadType::Manifest, &unknown);
    refused(&mut world, "unknown field", unknown, "malformed");

    let order = world.signers.order(epoch(100), &two, None);
    assert_eq!(reason(&world.deliver(&order)), "ack");
}

#[test]
fn a_manifest_with_any_byte_flipped() {
    let (mut world, _, two) = serving();
    let good = world.signers.seal_manifest(&two);
    for byte in 0..good.len() {
        let mut bad = good.to_vec();
        bad[byte] ^= 1 << (byte % 8);
        let answers = world.intake.take(Delivered::Manifest(bad.into()), NOW);
        let reason = reason(answers.last().expect("an answer"));
        let expected = ["signature", "malformed", "key_role", "too_large"];
        assert!(expected.contains(&reason), "byte {byte}: {reason}");
    }
}

/// A world where an order for `revision` waits for its sections.
fn waiting_for(world: &mut World, n: u64, one: &Revision, revision: &Revision) {
    let order = world.signers.order(epoch(n), one, Some((revision, &[ME])));
    let envelope = world.signers.seal_order(&order);
    let mut answers = world.take_order(envelope);
    let manifest = world.signers.seal_manifest(revision);
    answers.extend(world.intake.take(Delivered::Manifest(manifest), NOW));
    assert!(matches!(answers[..], [Answer::Want(_)]), "{answers:?}");
}

#[test]
fn sections() {
    let (mut world, one, _) = serving();
    let two = world.revision(2, config(8080, &["a", "b", "c"]));
    let new: Vec<Packed> = two.packed.iter().filter(|p| !one.packed.contains(p)).cloned().collect();
    assert_eq!(new.len(), 2, "pools b and c have a section each");
    let section = |of: &Packed, wire: Bytes| Delivered::Section {
        digest: of.reference.digest,
        wire,
    };
    let mut n = 20;
    let mut refused = |world: &mut World, what: &str, wire: Bytes| {
        n += 1;
        waiting_for(world, n, &one, &two);
        check(world, what, section(&new[0], wire), "section_mismatch");
    };
    let wire = &new[0].wire;
    refused(&mut world, "cut short", wire.slice(..wire.len() - 1));
    refused(&mut world, "empty", Bytes::new());
    refused(&mut world, "swapped with another", new[1].wire.clone());
    for byte in 0..wire.len() {
        let mut bad = wire.to_vec();
        bad[byte] ^= 0x10;
        refused(&mut world, "flipped", bad.into());
    }
    let unwanted = Delivered::Section {
        digest: sha256(b"nobody asked"),
        wire: wire.clone(),
    };
    waiting_for(&mut world, 500, &one, &two);
    check(&mut world, "unwanted", unwanted, "section_unwanted");
    // That did not end the wait for the others.
    assert_eq!(world.intake.take(section(&new[0], new[0].wire.clone()), NOW), []);
    let answers = world.intake.take(section(&new[1], new[1].wire.clone()), NOW);
    assert_eq!(reason(&answers[0]), "ack");
}

#[test]
fn a_section_that_unpacks_to_more_than_is_signed() {
    let (mut world, one, two) = serving();
    // 4 MiB of zeros in a few KiB; the manifest, signed by a controller gone wrong, says 100 bytes.
    let zeros = sluice_proto::sections::Section {
        bucket: 255,
        digest: sha256(&[0; 100]),
        raw: vec![0; 4 << 20].into(),
    };
    let mut bomb = sluice_proto::sections::pack(&zeros);
    bomb.reference.raw_bytes = 100;
    let mut packed: Vec<Packed> = two
        .packed
        .iter()
        .filter(|p| p.reference.bucket != 255)
        .cloned()
        .collect();
    packed.push(bomb.clone());
    let revision = world.signers.revision_of(3, packed, two.manifest.features.clone());
    waiting_for(&mut world, 3, &one, &revision);
    let delivered = Delivered::Section {
        digest: bomb.reference.digest,
        wire: bomb.wire,
    };
    check(&mut world, "bomb", delivered, "section_mismatch");
}

#[test]
fn what_a_correct_signature_does_not_make_right() {
    let (mut world, one, _) = serving();
    // A pool in the section of another bucket: same bytes, other place.
    let two = world.revision(2, config(8080, &["b"]));
    let mut packed = two.packed.clone();
    let of_pool = sluice_proto::sections::bucket_of(&pool_key("b"));
    let at = packed.iter().position(|p| p.reference.bucket == of_pool).unwrap();
    let free = (0..256)
        .find(|bucket| packed.iter().all(|p| p.reference.bucket != *bucket))
        .unwrap();
    packed[at].reference.bucket = free;
    packed.sort_by_key(|p| p.reference.bucket);
    let moved = world.signers.revision_of(3, packed, two.manifest.features.clone());
    world.revisions.insert(moved.id, moved.clone());
    let order = world.signers.order(epoch(3), &one, Some((&moved, &[ME])));
    let served = world.served();
    assert_eq!(reason(&world.deliver(&order)), "section_mismatch");

    // A configuration without a listener: every byte genuine, but it does not pass the check.
    let bare: Vec<Packed> = two
        .packed
        .iter()
        .filter(|p| p.reference.bucket == of_pool)
        .cloned()
        .collect();
    let bare = world.signers.revision_of(4, bare, vec!["pools/v1".to_owned()]);
    world.revisions.insert(bare.id, bare.clone());
    let order = world.signers.order(epoch(4), &one, Some((&bare, &[ME])));
    assert_eq!(reason(&world.deliver(&order)), "invalid_configuration");

    // A builder that panics, and a port that somebody has.
    world.target.0.lock().unwrap().poison = Some(pool_key("poison"));
    let poison = world.revision(5, config(8080, &["poison"]));
    let order = world.signers.order(epoch(5), &one, Some((&poison, &[ME])));
    assert_eq!(reason(&world.deliver(&order)), "builder_panicked");
    world.target.0.lock().unwrap().taken = vec![9999];
    let taken = world.revision(6, config(9999, &["a"]));
    let order = world.signers.order(epoch(6), &one, Some((&taken, &[ME])));
    assert_eq!(reason(&world.deliver(&order)), "listen_failed");
    assert_eq!(world.served(), served, "what serves has changed");
}

#[test]
fn keys_of_every_role_are_tried_on_orders() {
    let (mut world, one, _) = serving();
    let live = Signer::from_seed(&[9; 32], Role::Live);
    let order = world.signers.order(epoch(3), &one, None);
    let by_live = sign(&[&live], PayloadType::Order, &order.encode());
    check(
        &mut world,
        "a live key nobody trusts",
        Delivered::Order(by_live),
        "signature",
    );
}
