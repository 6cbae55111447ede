//! The lane: what is sent and what is doubted, case by case, and what no history may break.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::live::Material;
use crate::live::material::tests::material;

const NOW: Millis = Millis(1_800_000_000_000);

fn after(seconds: u64) -> Millis {
    Millis(NOW.0 + seconds * 1_000)
}

fn audience() -> Audience {
    Audience {
        cluster: "c-1".parse().unwrap(),
        fleet: "edge".parse().unwrap(),
    }
}

fn subject(text: &str) -> LiveSubject {
    text.parse().unwrap()
}

fn endpoint(n: u32, state: EndpointState) -> LiveEndpoint {
    LiveEndpoint {
        address: format!("10.0.{}.{}:80", n >> 8, n & 255).parse().unwrap(),
        state,
        zone: None,
    }
}

fn ready(numbers: impl IntoIterator<Item = u32>) -> ServiceState {
    let endpoints = numbers.into_iter().map(|n| endpoint(n, EndpointState::Ready));
    ServiceState::Endpoints(endpoints.collect::<Vec<_>>().into())
}

const API: &str = "shop/api:http";
const TLS: &str = "shop/tls";

fn of_service(state: ServiceState) -> Values {
    Values {
        services: BTreeMap::from([(API.parse().unwrap(), state)]),
        ..Values::default()
    }
}

fn of_certificate(state: CertificateState) -> Values {
    Values {
        certificates: BTreeMap::from([(TLS.parse().unwrap(), state)]),
        ..Values::default()
    }
}

/// A lane that is asked about one service and one certificate.
struct World {
    lane: Lane,
    brakes: BTreeMap<ServiceRef, RemovalBrake>,
}

impl World {
    fn new() -> Self {
        Self {
            lane: Lane::begin(audience(), NOW),
            brakes: BTreeMap::new(),
        }
    }

    fn step(&mut self, values: &Values, now: Millis) -> Step {
        let wanted = BTreeSet::from([
            subject(&format!("Service {API}")),
            subject(&format!("Certificate {TLS}")),
        ]);
        self.lane.step(values, &wanted, &self.brakes, now)
    }

    /// How many endpoints serve, after the service is seen in `state`.
    fn serving(&mut self, state: ServiceState, now: Millis) -> Option<usize> {
        self.step(&of_service(state), now);
        match &self.lane.current.get(&subject(&format!("Service {API}")))?.value {
            LiveValue::Endpoints { endpoints, .. } => Some(endpoints.len()),
            LiveValue::Certificate { .. } | LiveValue::Authorities { .. } => panic!("a Secret"),
        }
    }
}

fn sealing(update: &LiveUpdate) -> Result<SealedLive, Infallible> {
    let text = format!("{} {}", update.stamp.term, update.stamp.sequence);
    Ok(SealedLive(text.into_bytes().into()))
}

fn stamp(lane: &mut Lane, of: &LiveSubject) -> (u64, u64) {
    let sealed = lane.sealed(of, sealing).unwrap().unwrap();
    let text = String::from_utf8(sealed.0.to_vec()).unwrap();
    let (term, sequence) = text.split_once(' ').unwrap();
    (term.parse().unwrap(), sequence.parse().unwrap())
}

#[test]
fn additions_and_small_removals_are_followed_at_once() {
    let mut world = World::new();
    assert_eq!(world.serving(ServiceState::Unknown, NOW), None);
    assert_eq!(world.serving(ready(0..10), NOW), Some(10));
    assert_eq!(world.serving(ready(0..12), after(1)), Some(12));
    assert_eq!(world.serving(ready(0..3), after(2)), Some(3), "75 %: not more than 80");
    assert_eq!(world.serving(ServiceState::Unknown, after(3)), Some(3));
    assert_eq!(world.serving(ready([]), after(4)), Some(0), "of 3, all may go");
    let unchanged = world.step(&of_service(ready([])), after(5));
    assert_eq!(unchanged, Step::default());
}

#[test]
fn a_sudden_loss_is_doubted_and_then_believed() {
    let mut world = World::new();
    world.serving(ready(0..10), NOW);
    let step = world.step(&of_service(ready(0..1)), after(1));
    assert_eq!(step.changed.len(), 0, "nothing changes");
    let held = News::BrakeHolds {
        service: API.parse().unwrap(),
        left: 9,
        of: 10,
        hold_ms: 30_000,
    };
    assert_eq!(step.news, [held]);
    assert_eq!(world.lane.doubted(), 1);
    // New ones come in meanwhile, and nothing is told twice.
    let step = world.step(&of_service(ready([0, 50])), after(20));
    assert_eq!((step.changed.len(), step.news.len()), (1, 0));
    assert_eq!(world.serving(ready([0, 50]), after(30)), Some(11));
    let step = world.step(&of_service(ready([0, 50])), after(31));
    assert_eq!((step.changed.len(), step.news.len()), (1, 1), "{step:?}");
    assert_eq!(
        (world.serving(ready([0, 50]), after(31)), world.lane.doubted()),
        (Some(2), 0)
    );
}

#[test]
fn endpoints_that_come_back_end_the_doubt() {
    let mut world = World::new();
    world.serving(ready(0..10), NOW);
    assert_eq!(world.serving(ready([]), after(1)), Some(10));
    let step = world.step(&of_service(ready(0..10)), after(5));
    let back = News::BrakeReleased {
        service: API.parse().unwrap(),
        gone: 0,
    };
    assert_eq!((step.changed.len(), step.news), (0, vec![back]));
    // The next loss is doubted anew, for the whole time.
    assert_eq!(world.serving(ready([]), after(40)), Some(10));
    assert_eq!(world.serving(ready([]), after(69)), Some(10));
    assert_eq!(world.serving(ready([]), after(70)), Some(0));
}

#[test]
fn pools_set_the_brake() {
    let brake = |percent, hold_ms| RemovalBrake {
        max_percent_at_once: percent,
        hold_ms,
    };
    let check = |set: RemovalBrake, left: u32, expected: usize| {
        let mut world = World::new();
        world.brakes.insert(API.parse().unwrap(), set);
        world.serving(ready(0..10), NOW);
        assert_eq!(
            world.serving(ready(0..left), after(1)),
            Some(expected),
            "{set:?} {left}"
        );
    };
    check(brake(20, 30_000), 8, 8);
    check(brake(20, 30_000), 7, 10);
    check(brake(100, 30_000), 0, 0);
    check(brake(1, 0), 0, 0);
    assert_eq!(brake(20, 5).stricter(brake(80, 9)), brake(20, 9));
}

#[test]
fn pods_that_say_that_they_go_are_believed() {
    let mut world = World::new();
    world.serving(ready(0..10), NOW);
    let draining: Vec<_> = (0..10).map(|n| endpoint(n, EndpointState::Draining)).collect();
    let step = world.step(&of_service(ServiceState::Endpoints(draining.into())), after(1));
    assert_eq!((step.changed.len(), step.news.len()), (1, 0));
    assert_eq!(
        world.serving(ready([]), after(2)),
        Some(0),
        "scaled to zero, as was meant"
    );
}

#[test]
fn a_service_that_is_missing_is_empty_at_first_and_keeps_what_it_had() {
    let missing = || ServiceState::Missing(Lack::new("gone", ""));
    let mut world = World::new();
    assert_eq!(world.serving(missing(), NOW), Some(0));
    assert_eq!(world.serving(ready(0..3), NOW), Some(3));
    assert_eq!(world.serving(missing(), NOW), Some(3));
}

#[test]
fn more_endpoints_than_fit_are_cut_ready_ones_first() {
    let mut world = World::new();
    let mut endpoints: Vec<_> = (0..10).map(|n| endpoint(n, EndpointState::Draining)).collect();
    let many = 10..u32::try_from(MAX_LIVE_ENDPOINTS).unwrap() + 5;
    endpoints.extend(many.map(|n| endpoint(n, EndpointState::Ready)));
    assert_eq!(
        world.serving(ServiceState::Endpoints(endpoints.into()), NOW),
        Some(MAX_LIVE_ENDPOINTS)
    );
    let LiveValue::Endpoints { endpoints, .. } = &world.lane.current[&subject(&format!("Service {API}"))].value else {
        panic!("a certificate")
    };
    assert_eq!(in_rotation(endpoints), MAX_LIVE_ENDPOINTS - 5);
    assert!(endpoints.is_sorted_by_key(|one| one.address));
}

#[test]
fn a_bad_certificate_leaves_the_one_before_and_is_told_once() {
    let mut world = World::new();
    let tls = subject(&format!("Certificate {TLS}"));
    let good = Arc::new(Material {
        not_before: 0,
        not_after: seconds(after(100)),
        ..material(&["a.test"])
    });
    let other = |change: &dyn Fn(&mut Material)| {
        let mut other = material(&["a.test"]);
        other.not_before = 0;
        change(&mut other);
        CertificateState::Material(Arc::new(other))
    };
    world.step(&of_certificate(CertificateState::Material(good.clone())), NOW);
    let served = world.lane.current[&tls].digest;
    let refused = CertificateState::Refused(Lack::new("not its key", "mend it"));
    for (state, news) in [
        (refused.clone(), 1),
        (refused, 0),
        (CertificateState::Missing(Lack::new("gone", "")), 0),
        (CertificateState::Unknown, 0),
        (other(&|one| one.not_after = 5), 1),
        (other(&|one| one.not_before = seconds(after(50))), 1),
    ] {
        let step = world.step(&of_certificate(state.clone()), NOW);
        assert_eq!((step.changed.len(), step.news.len()), (0, news), "{state:?}");
        assert_eq!(world.lane.current[&tls].digest, served);
    }
    // One that serves is not refused when it ends; one whose time comes is taken then.
    let step = world.step(&of_certificate(CertificateState::Material(good)), after(200));
    assert_eq!(step, Step::default());
    let soon = other(&|one| one.not_before = seconds(after(300)));
    assert_eq!(world.step(&of_certificate(soon.clone()), after(299)).changed.len(), 0);
    assert!(world.lane.waits());
    assert_eq!(world.step(&of_certificate(soon), after(300)).changed.len(), 1);
    assert!(!world.lane.waits());
}

#[test]
fn whoever_is_trusted_stays_so_until_a_secret_says_otherwise() {
    let mut world = World::new();
    let clients = subject("Authorities shop/clients");
    let mut step = |state: AuthoritiesState| {
        let values = Values {
            authorities: BTreeMap::from([("shop/clients".parse().unwrap(), state)]),
            ..Values::default()
        };
        let step = world
            .lane
            .step(&values, &BTreeSet::from([clients.clone()]), &world.brakes, NOW);
        let current = world.lane.current.get(&clients).map(|current| current.value.clone());
        (step.changed.len(), step.news.len(), current)
    };
    let of = |text: &'static str| AuthoritiesState::Certificates([bytes::Bytes::from_static(text.as_bytes())].into());
    let value = |text: &'static str| {
        Some(LiveValue::Authorities {
            secret: "shop/clients".parse().unwrap(),
            certificates: vec![bytes::Bytes::from_static(text.as_bytes())],
        })
    };
    let refused = AuthoritiesState::Refused(Lack::new("no ca.crt", "put it there"));
    assert_eq!(step(refused.clone()), (0, 1, None));
    assert_eq!(step(of("one")), (1, 0, value("one")));
    for (state, news) in [
        (refused.clone(), 1),
        (refused, 0),
        (AuthoritiesState::Missing(Lack::new("gone", "")), 0),
        (AuthoritiesState::Unseen(Lack::new("forbidden", "")), 0),
        (AuthoritiesState::Unknown, 0),
        (of("one"), 0),
    ] {
        assert_eq!(step(state.clone()), (0, news, value("one")), "{state:?}");
    }
    assert_eq!(step(of("two")), (1, 0, value("two")));
}

#[test]
fn stamps_rise_with_every_value_and_above_what_instances_hold() {
    let mut world = World::new();
    let api = subject(&format!("Service {API}"));
    world.serving(ready(0..1), NOW);
    let first = stamp(&mut world.lane, &api);
    assert_eq!(first, (1_800_000_000 << 20, 1));
    assert_eq!(stamp(&mut world.lane, &api), first, "one value is sealed once");
    world.serving(ready(0..2), NOW);
    let second = stamp(&mut world.lane, &api);
    assert!(second > first);
    // Its own term is no news; a higher one is.
    world.lane.heard_of_term(second.0, NOW);
    assert_eq!(stamp(&mut world.lane, &api), second);
    world.lane.heard_of_term(second.0 + 7, NOW);
    let third = stamp(&mut world.lane, &api);
    assert_eq!(third, (second.0 + 8, 1));
    // Nobody can wear the terms out.
    world.lane.heard_of_term(u64::MAX, NOW);
    assert_eq!(stamp(&mut world.lane, &api), third);
    // A controller that starts later begins higher, within the same second too.
    let term = |now| Lane::begin(audience(), now).last.term;
    assert!(term(Millis(NOW.0 + 1)) > term(NOW) && term(after(1)) > term(Millis(NOW.0 + 999)));
}

#[test]
fn what_nobody_refers_to_is_forgotten() {
    let mut world = World::new();
    world.serving(ready(0..9), NOW);
    world.serving(ready([]), after(1));
    let none = world
        .lane
        .step(&of_service(ready([])), &BTreeSet::new(), &BTreeMap::new(), after(2));
    assert_eq!(
        (none, world.lane.holds().count(), world.lane.doubted()),
        (Step::default(), 0, 0)
    );
    assert!(!world.lane.waits());
}

/// An instance as the data plane is one: per subject the highest stamp wins.
#[derive(Default)]
struct Instance {
    held: BTreeMap<LiveSubject, (LiveStamp, Digest)>,
    /// What the controller believes that it holds over this stream.
    believed: BTreeMap<LiveSubject, Digest>,
}

impl Instance {
    fn connect(&mut self, lane: &mut Lane, now: Millis) {
        let term = self.held.values().map(|(stamp, _)| stamp.term).max().unwrap_or(0);
        lane.heard_of_term(term, now);
        self.believed = self
            .held
            .iter()
            .map(|(subject, (_, digest))| (subject.clone(), *digest))
            .collect();
    }

    /// What is sent to it arrives, but for what is `lost` with its stream.
    fn receive(&mut self, lane: &mut Lane, needed: &BTreeSet<LiveSubject>, lost: bool) {
        let lacking: Vec<_> = lane
            .lacking(needed, &self.believed)
            .map(|(subject, _)| subject.clone())
            .collect();
        for subject in lacking {
            let digest = lane.current[&subject].digest;
            let (term, sequence) = stamp(lane, &subject);
            self.believed.insert(subject.clone(), digest);
            let stamp = LiveStamp { term, sequence };
            let newer = self.held.get(&subject).is_none_or(|(held, _)| stamp > *held);
            if !lost && newer {
                self.held.insert(subject, (stamp, digest));
            }
        }
    }
}

#[derive(Clone, Debug)]
enum Act {
    See(Vec<u32>),
    Hide,
    Wait(u64),
    LoseStream,
    Restart,
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        4 => prop::collection::btree_set(0_u32..12, 0..12).prop_map(|numbers| Act::See(numbers.into_iter().collect())),
        1 => Just(Act::Hide),
        2 => (1_u64..40).prop_map(Act::Wait),
        2 => Just(Act::LoseStream),
        1 => Just(Act::Restart),
    ];
    prop::collection::vec(act, 1..40)
}

proptest! {
    /// Whatever happens, an instance that is connected at last holds the last value; no more than the brake allows left
    /// at once without having been doubted; nothing that is seen is missing.
    #[test]
    fn nothing_is_lost_and_the_brake_keeps_its_bounds(acts in acts()) {
        let mut world = World::new();
        let mut instance = Instance::default();
        let needed = BTreeSet::from([subject(&format!("Service {API}"))]);
        let api = subject(&format!("Service {API}"));
        let (mut now, mut state) = (NOW, ServiceState::Unknown);
        instance.connect(&mut world.lane, now);
        let served = |world: &World| -> BTreeSet<SocketAddrText> {
            match world.lane.current.get(&api).map(|current| &current.value) {
                Some(LiveValue::Endpoints { endpoints, .. }) => endpoints.iter().map(|one| one.address.to_string()).collect(),
                Some(LiveValue::Certificate { .. } | LiveValue::Authorities { .. }) | None => BTreeSet::new(),
            }
        };
        for act in acts {
            let before = served(&world);
            let doubted_since = world.lane.doubted.values().next().copied();
            let (mut lost, mut restarted) = (false, false);
            match act {
                Act::See(numbers) => state = ready(numbers),
                Act::Hide => state = ServiceState::Unknown,
                Act::Wait(seconds) => now = Millis(now.0 + seconds * 1_000),
                Act::LoseStream => lost = true,
                Act::Restart => {
                    now = Millis(now.0 + 1);
                    world.lane = Lane::begin(audience(), now);
                    instance.connect(&mut world.lane, now);
                    restarted = true;
                }
            }
            world.step(&of_service(state.clone()), now);
            let after = served(&world);
            if let ServiceState::Endpoints(seen) = &state {
                let seen: BTreeSet<_> = seen.iter().map(|one| one.address.to_string()).collect();
                prop_assert!(seen.is_subset(&after), "{:?} {:?}", seen, after);
                let left = before.difference(&after).count();
                let sudden = before.len() >= REMOVAL_BRAKE_FROM_ENDPOINTS && left * 100 > before.len() * 80;
                let doubted_long = doubted_since.is_some_and(|since| now.since(since) >= 30_000);
                prop_assert!(restarted || !sudden || doubted_long, "{:?} -> {:?}", before, after);
            }
            instance.receive(&mut world.lane, &needed, lost);
            if lost {
                instance.connect(&mut world.lane, now);
            }
        }
        instance.receive(&mut world.lane, &needed, false);
        let expected = world.lane.current.get(&api).map(|current| current.digest);
        if expected.is_some() {
            prop_assert_eq!(instance.held.get(&api).map(|(_, digest)| *digest), expected);
        }
    }
}

type SocketAddrText = String;
