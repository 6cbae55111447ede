//! The live lane: what is genuine and newer is used at once, whatever is not changes nothing, and what is in use is there
//! again after a restart with nobody there.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use bytes::Bytes;
use rcgen::{CertificateParams, KeyPair};
use sluice_dataplane::config::{Answer, Delivered};
use sluice_model::host::HostPattern;
use sluice_model::limits::MAX_CLOCK_SKEW_SECONDS;
use sluice_model::unit::{ClientAuth, ClientAuthMode, ListenerTls, PoolSource, PoolUnit, RouteUnit, Rule, Unit};
use sluice_model::{Config, LiveSubject};
use sluice_proto::delivery::Refusal as WireReason;
use sluice_proto::live::{
    EndpointState, LiveEndpoint, LiveStamp, LiveUpdate, LiveValue, PrivateKeyBytes, SealedLive, seal_live,
};
use sluice_proto::signed::Audience;

use crate::world::{NOW, World, break_disk, config, epoch, mend_disk, pool_key, reason};

const SERVICE: &str = "shop/api:http";
const CERTIFICATE: &str = "shop/tls";

/// A stamp of this term's `sequence`th update.
fn stamp(sequence: u64) -> LiveStamp {
    LiveStamp {
        term: sluice_model::epoch::floor(NOW),
        sequence,
    }
}

fn endpoints(addresses: &[&str]) -> LiveValue {
    let endpoint = |text: &&str| LiveEndpoint {
        address: text.parse().unwrap(),
        state: EndpointState::Ready,
        zone: None,
    };
    LiveValue::Endpoints {
        service: SERVICE.parse().unwrap(),
        endpoints: addresses.iter().map(endpoint).collect(),
    }
}

fn pair() -> (Bytes, Vec<u8>) {
    let key = KeyPair::generate().unwrap();
    let signed = CertificateParams::new(vec!["shop.test".to_owned()])
        .unwrap()
        .self_signed(&key)
        .unwrap();
    (signed.der().to_vec().into(), key.serialize_der())
}

fn certificate(leaf: &Bytes, key: &[u8]) -> LiveValue {
    LiveValue::Certificate {
        certificate: CERTIFICATE.parse().unwrap(),
        chain: vec![leaf.clone()],
        key: PrivateKeyBytes::new(key.to_vec()),
    }
}

fn sealed(world: &World, stamp: LiveStamp, value: LiveValue) -> SealedLive {
    let audience = world.signers.audience.clone();
    seal_live(&[&world.signers.live], &LiveUpdate { audience, stamp, value })
}

/// `used`, or why not.
fn take(world: &mut World, sealed: SealedLive) -> &'static str {
    match &world.intake.take(Delivered::Live(sealed), NOW)[..] {
        [] => "used",
        [answer] => reason(answer),
        answers => panic!("{answers:?}"),
    }
}

fn send(world: &mut World, sequence: u64, value: LiveValue) -> &'static str {
    let sealed = sealed(world, stamp(sequence), value);
    take(world, sealed)
}

/// A configuration that refers to both.
fn referring() -> Config {
    let mut config = config(8080, &["a"]);
    let source = PoolSource::Service(SERVICE.parse().unwrap());
    config.insert(pool_key("api"), Unit::Pool(PoolUnit::of(source)));
    let fleet = "Rollout shop/edge".parse().unwrap();
    let Some(Unit::DataPlane(plane)) = config.units.get(&fleet).map(|unit| (**unit).clone()) else {
        panic!("no data plane")
    };
    let mut plane = plane;
    plane.listeners[0].tls = Some(ListenerTls {
        default_certificate: Some(CERTIFICATE.parse().unwrap()),
        ..ListenerTls::default()
    });
    config.insert(fleet, Unit::DataPlane(plane));
    config
}

/// A world that serves a revision that refers to a service and a certificate, and holds both.
fn serving() -> (World, (Bytes, Vec<u8>)) {
    let mut world = World::new();
    let pair = pair();
    assert_eq!(send(&mut world, 1, endpoints(&["10.0.0.1:80"])), "used");
    assert_eq!(send(&mut world, 2, certificate(&pair.0, &pair.1)), "used");
    let one = world.revision(1, referring());
    let order = world.signers.order(epoch(1), &one, None);
    assert_eq!(reason(&world.deliver(&order)), "ack");
    (world, pair)
}

#[test]
fn newer_values_are_used_and_older_ones_never() {
    let (mut world, pair) = serving();
    let before = world.values();
    assert_eq!(before.len(), 2);
    let old = sealed(&world, stamp(1), endpoints(&["10.0.0.1:80"]));
    assert_eq!(send(&mut world, 5, endpoints(&["10.0.0.1:80", "10.0.0.2:80"])), "used");
    let now = world.values();
    assert_ne!(now, before);
    // A replay, also after a restart; sequences count per subject.
    assert_eq!(take(&mut world, old.clone()), "live_stale");
    let mut world = world.crash();
    assert_eq!(take(&mut world, old), "live_stale");
    assert_eq!(send(&mut world, 5, endpoints(&[])), "live_stale");
    assert_eq!(world.values(), now);
    assert_eq!(send(&mut world, 3, certificate(&pair.0, &pair.1)), "used");
    // A later term counts, whatever its sequence.
    let later = LiveStamp {
        term: stamp(0).term + 1,
        sequence: 1,
    };
    let update = sealed(&world, later, endpoints(&[]));
    assert_eq!(take(&mut world, update), "used");
    assert_ne!(world.values(), now);
}

#[test]
fn the_same_value_again_disturbs_nothing() {
    let (mut world, pair) = serving();
    let set = world.target.0.lock().unwrap().sets;
    assert_eq!(send(&mut world, 2, certificate(&pair.0, &pair.1)), "used");
    assert_eq!(send(&mut world, 9, certificate(&pair.0, &pair.1)), "used");
    assert_eq!(world.target.0.lock().unwrap().sets, set, "sessions would be lost");
    // But its stamp counts.
    let other = self::pair();
    assert_eq!(send(&mut world, 8, certificate(&other.0, &other.1)), "live_stale");
}

#[test]
fn what_is_not_genuine_or_cannot_serve_changes_nothing() {
    let (mut world, pair) = serving();
    let before = world.values();
    let value = || endpoints(&["6.6.6.6:80"]);
    let update = |audience: Audience| LiveUpdate {
        audience,
        stamp: stamp(50),
        value: value(),
    };
    let mine = || world.signers.audience.clone();
    let other = Audience {
        fleet: "other".parse().unwrap(),
        ..mine()
    };
    let cases = [
        (seal_live(&[&world.signers.order], &update(mine())), "key_role"),
        (seal_live(&[&world.signers.manifest], &update(mine())), "key_role"),
        (seal_live(&[], &update(mine())), "signature"),
        (seal_live(&[&world.signers.live], &update(other)), "wrong_audience"),
        (SealedLive(Bytes::from_static(b"junk")), "malformed"),
    ];
    for (sealed, expected) in cases {
        assert_eq!(take(&mut world, sealed), expected);
    }
    let far = LiveStamp {
        term: sluice_model::epoch::floor(NOW + 2 * MAX_CLOCK_SKEW_SECONDS + 2),
        sequence: 1,
    };
    let far = sealed(&world, far, value());
    assert_eq!(take(&mut world, far), "live_far_future");
    let (leaf, _) = self::pair();
    let mismatch = certificate(&leaf, &pair.1);
    assert_eq!(send(&mut world, 60, mismatch), "certificate_unusable");
    let junk = certificate(&Bytes::from_static(b"0\x01\x02"), &pair.1);
    assert_eq!(send(&mut world, 61, junk), "certificate_unusable");
    assert_eq!(world.values(), before);
    assert_eq!(world.metrics.refused_for("certificate_unusable"), 2);
    assert_eq!(world.crash().values(), before);
}

#[test]
fn authorities_are_taken_kept_and_refused_if_nobody_could_be_trusted_by_them() {
    let (mut world, pair) = serving();
    let clients: LiveSubject = "Authorities shop/clients".parse().unwrap();
    let value = |der: &Bytes| LiveValue::Authorities {
        secret: "shop/clients".parse().unwrap(),
        certificates: vec![der.clone()],
    };
    let mut config = referring();
    let client_auth = Some(ClientAuth {
        ca: "shop/clients".parse().unwrap(),
        mode: ClientAuthMode::Required,
        forwarded: [].into(),
    });
    let route = RouteUnit {
        client_auth,
        ..RouteUnit::of(vec![HostPattern::Any], vec![Rule::to(pool_key("api"))])
    };
    config.insert("ProxyRoute shop/clients".parse().unwrap(), Unit::Route(route));
    let two = world.revision(2, config);
    assert_eq!(send(&mut world, 50, value(&pair.0)), "used");
    let order = world.signers.order(epoch(2), &two, None);
    assert_eq!(reason(&world.deliver(&order)), "ack");
    assert_eq!(world.values()[&clients], "Authorities(1)");
    let junk = Bytes::from_static(b"0\x01\x02");
    assert_eq!(send(&mut world, 51, value(&junk)), "certificate_unusable");
    assert_eq!(world.values()[&clients], "Authorities(1)");
    assert_eq!(world.crash().values()[&clients], "Authorities(1)", "from disk");
}

#[test]
fn a_refusal_names_its_subject_and_no_key() {
    let (mut world, pair) = serving();
    let (leaf, _) = self::pair();
    let sealed = sealed(&world, stamp(60), certificate(&leaf, &pair.1));
    let answers = world.intake.take(Delivered::Live(sealed), NOW);
    let [Answer::LiveRefused { subject, refusal }] = &answers[..] else {
        panic!("{answers:?}")
    };
    assert_eq!(*subject, Some(LiveSubject::Certificate(CERTIFICATE.parse().unwrap())));
    assert_eq!(refusal.on_the_wire(), WireReason::Check);
    let text = refusal.to_string();
    assert!(text.contains("shop/tls") && text.contains("does not belong"), "{text}");
}

#[test]
fn a_restart_with_nobody_there_has_the_same_values() {
    let (world, pair) = serving();
    let (served, values) = (world.served(), world.values());
    let held = {
        let mut world = world.crash();
        assert_eq!((world.served(), world.values()), (served.clone(), values.clone()));
        let said = world.intake.introduce();
        assert_eq!(said.live_term, stamp(0).term);
        assert_eq!(said.live_held.len(), 2);
        let digests = [
            endpoints(&["10.0.0.1:80"]).digest(),
            certificate(&pair.0, &pair.1).digest(),
        ];
        let told: Vec<_> = said.live_held.iter().map(|held| held.digest).collect();
        assert_eq!(told, digests);
        // The private key lies in a file of its own that nobody else may read, and nowhere else.
        let keys: Vec<_> = fs::read_dir(world.state.join("keys")).unwrap().flatten().collect();
        assert_eq!(keys.len(), 1);
        let mode = |path: &std::path::Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&keys[0].path()), mode(&world.state.join("keys"))), (0o600, 0o700));
        for entry in fs::read_dir(world.last_good().join("live")).unwrap().flatten() {
            let bytes = fs::read(entry.path()).unwrap();
            assert!(!bytes.windows(pair.1.len()).any(|window| window == pair.1));
        }
        world
    };
    // A damaged file is noticed, and only its value is lacking.
    let key = fs::read_dir(held.state.join("keys"))
        .unwrap()
        .flatten()
        .next()
        .unwrap()
        .path();
    let mut bytes = fs::read(&key).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&key, bytes).unwrap();
    let mut world = held.crash();
    assert_eq!(world.served(), served);
    assert_eq!(world.values().len(), 1);
    assert!(!key.exists());
    assert_eq!(send(&mut world, 2, certificate(&pair.0, &pair.1)), "used");
    assert_eq!(world.values(), values);
}

#[test]
fn what_nothing_refers_to_is_forgotten_when_a_stream_begins() {
    let (mut world, _) = serving();
    let two = world.revision(2, config(8080, &["a"]));
    let order = world.signers.order(epoch(2), &two, None);
    assert_eq!(reason(&world.deliver(&order)), "ack");
    // Within a stream the controller may count on what it sent.
    assert_eq!(world.values().len(), 2);
    assert_eq!(world.intake.introduce().live_held.len(), 0);
    assert_eq!(world.values().len(), 0);
    assert_eq!(fs::read_dir(world.state.join("keys")).unwrap().count(), 0);
    assert_eq!(fs::read_dir(world.last_good().join("live")).unwrap().count(), 0);
}

#[test]
fn an_order_does_not_wait_for_values() {
    let mut world = World::new();
    let one = world.revision(1, referring());
    let order = world.signers.order(epoch(1), &one, None);
    assert_eq!(reason(&world.deliver(&order)), "ack");
    assert_eq!(world.values().len(), 0);
    assert_eq!(send(&mut world, 1, endpoints(&["10.0.0.1:80"])), "used");
    assert_eq!(world.values().len(), 1);
}

#[test]
fn a_disk_that_takes_nothing_holds_no_value_back() {
    let (mut world, pair) = serving();
    break_disk(&world.last_good());
    assert_eq!(send(&mut world, 5, endpoints(&["10.0.0.2:80"])), "used");
    assert_eq!(world.metrics.state_unwritable.get(), 1);
    let now = world.values();
    mend_disk(&world.last_good());
    // A key that could be written says nothing of the folder; the next endpoints do.
    assert_eq!(send(&mut world, 6, certificate(&pair.0, &pair.1)), "used");
    assert_eq!(world.metrics.state_unwritable.get(), 1);
    assert_eq!(send(&mut world, 7, endpoints(&["10.0.0.2:80"])), "used");
    assert_eq!(world.metrics.state_unwritable.get(), 0);
    assert_eq!(world.values(), now);
}
