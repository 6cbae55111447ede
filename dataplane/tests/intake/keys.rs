//! Keys are replaced while the instance serves: nothing is built or swapped for it, and what is on disk can be believed
//! with the new keys alone, once the controller has sent it signed by them.

use bytes::Bytes;
use sluice_dataplane::config::Delivered;
use sluice_model::Config;
use sluice_model::unit::{PoolSource, PoolUnit, Unit};
use sluice_proto::keys::KeySet;
use sluice_proto::live::{EndpointState, LiveEndpoint, LiveStamp, LiveUpdate, LiveValue, seal_live};
use sluice_proto::order::Order;
use sluice_proto::signed::{seal_manifest, seal_order};

use crate::world::{NOW, Revision, Signers, World, config, epoch, pool_key, reason};

const SERVICE: &str = "shop/api:http";

fn service() -> Config {
    let mut config = config(8080, &[]);
    let source = PoolSource::Service(SERVICE.parse().unwrap());
    config.insert(pool_key("api"), Unit::Pool(PoolUnit::of(source)));
    config
}

fn endpoints(signers: &[&Signers], sequence: u64) -> Delivered {
    let update = LiveUpdate {
        audience: signers[0].audience.clone(),
        stamp: LiveStamp {
            term: sluice_model::epoch::floor(NOW),
            sequence,
        },
        value: LiveValue::Endpoints {
            service: SERVICE.parse().unwrap(),
            endpoints: vec![LiveEndpoint {
                address: "10.0.0.1:80".parse().unwrap(),
                state: EndpointState::Ready,
                zone: None,
            }],
        },
    };
    let keys: Vec<_> = signers.iter().map(|signers| &signers.live).collect();
    Delivered::Live(seal_live(&keys, &update))
}

/// An instance that serves one revision and one value, signed by the keys of before; the next keys.
fn before() -> (World, Revision, Order, Signers) {
    let mut world = World::new();
    let one = world.revision(1, service());
    let order = world.signers.order(epoch(1), &one, None);
    assert!(world.intake.take(endpoints(&[&Signers::new(1)], 1), NOW).is_empty());
    assert_eq!(reason(&world.deliver(&order)), "ack");
    (world, one, order, Signers::new(50))
}

fn both(one: &Signers, other: &Signers) -> KeySet {
    KeySet::new(one.trusted().iter().chain(other.trusted().iter()).copied()).unwrap()
}

fn signed_by_both(one: &Revision, order: &Order, last: &Signers, next: &Signers) -> [Bytes; 2] {
    [
        seal_manifest(&[&next.manifest, &last.manifest], &one.manifest),
        seal_order(&[&next.order, &last.order], order),
    ]
}

#[test]
fn what_is_signed_anew_takes_the_place_of_what_was_on_disk() {
    let (mut world, one, order, next) = before();
    let (swaps, sets) = {
        let notes = world.target.0.lock().unwrap();
        (notes.swaps, notes.sets)
    };
    world.intake.trust(both(&world.signers, &next));
    let [manifest, envelope] = signed_by_both(&one, &order, &world.signers, &next);
    // A later term of the same value, as a controller that begins anew stamps it.
    assert!(
        world
            .intake
            .take(endpoints(&[&next, &Signers::new(1)], 2), NOW)
            .is_empty()
    );
    assert!(world.intake.take(Delivered::Manifest(manifest), NOW).is_empty());
    let answers = world.take_order(envelope.clone());
    assert_eq!(reason(&answers[0]), "ack", "it follows this order already");
    assert_eq!(
        world.intake.introduce().order,
        Some(envelope),
        "and shows who vouches for it now"
    );
    {
        let notes = world.target.0.lock().unwrap();
        assert_eq!(
            (notes.swaps, notes.sets),
            (swaps, sets),
            "nothing that serves was touched"
        );
    }

    let served = world.served();
    world.intake.trust(next.trusted());
    let world = world.crash_and_trust(next);
    assert_eq!(world.served(), served, "with the new keys alone, and nobody there");
    assert_eq!(world.values().len(), 1);
}

#[test]
fn what_only_keys_of_before_have_signed_is_not_served_when_they_are_gone() {
    let (mut world, one, order, next) = before();
    world.intake.trust(next.trusted());
    assert_eq!(world.served().stable, Some(one.id), "what serves goes on");
    let last = Signers::new(1);
    let replay = world.take_order(last.seal_order(&last.order(epoch(2), &one, None)));
    assert_eq!(reason(&replay[0]), "signature");

    let mut world = world.crash_and_trust(next);
    assert_eq!(world.served().stable, None);
    assert_eq!(world.values().len(), 0);
    // Until the controller sends it.
    assert_eq!(reason(&world.deliver(&order)), "ack");
    assert_eq!(world.served().stable, Some(one.id));
}

#[test]
fn an_instance_that_has_not_heard_of_the_next_keys_follows_what_both_have_signed() {
    let (mut world, one, _, next) = before();
    let order = world.signers.order(epoch(2), &one, None);
    let [manifest, envelope] = signed_by_both(&one, &order, &world.signers, &next);
    assert!(world.intake.take(Delivered::Manifest(manifest), NOW).is_empty());
    assert_eq!(reason(&world.take_order(envelope)[0]), "ack");
}
