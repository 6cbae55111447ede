//! Delivery as instances see it: a whole controller on real files, with fake instances over real mutual TLS.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

#[path = "delivery/fake.rs"]
mod fake;
#[path = "delivery/live.rs"]
mod live;

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use fake::{Fake, Manners};
use sluice_controller::pipeline::{Clock, Settings};
use sluice_controller::rollout::{Millis, RolloutStatus};
use sluice_controller::standalone::{Handle, Roster, Standalone, StartError};
use sluice_proto::pb::delivery_client::DeliveryClient;
use sluice_proto::{Members, pb};
use tempfile::TempDir;
use tonic::transport::{Certificate, ClientTlsConfig, Identity};

/// How much faster than the wall the controller's clock runs. A tick counts for at most five seconds.
const PACE: u64 = 5;

struct World {
    folder: TempDir,
    state: TempDir,
    clock: Clock,
}

impl World {
    fn new() -> Self {
        let began = Instant::now();
        let base = u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap();
        let passed = move || u64::try_from(began.elapsed().as_millis()).unwrap();
        let world = Self {
            folder: tempfile::tempdir().unwrap(),
            state: tempfile::tempdir().unwrap(),
            clock: Arc::new(move || Millis(base + passed() * PACE)),
        };
        world.rollout("10s");
        world.route("a", 1);
        world
    }

    fn write(&self, name: &str, text: &str) {
        let temporary = self.folder.path().join(format!(".{name}.tmp"));
        fs::write(&temporary, text).unwrap();
        fs::rename(temporary, self.folder.path().join(name)).unwrap();
    }

    fn rollout(&self, bake: &str) {
        self.write(
            "rollout.yaml",
            &format!(
                "{{apiVersion: sluice.dev/v1alpha1, kind: Rollout, metadata: {{name: default}}, spec: {{\
                 dataPlane: {{listeners: [{{name: http, port: 8080}}]}}, \
                 stages: [{{name: canary, fleetPercent: 34, bakeTime: {bake}}}, {{name: all, fleetPercent: 100, bakeTime: {bake}}}], \
                 gates: [{{metric: ErrorRate, max: \"5%\", minRequests: 20}}]}}}}"
            ),
        );
    }

    /// A route with a pool; another `generation`, another content.
    fn route(&self, name: &str, generation: u16) {
        self.write(
            &format!("{name}.yaml"),
            &format!(
                "{{apiVersion: sluice.dev/v1alpha1, kind: ProxyRoute, metadata: {{name: {name}}}, spec: {{\
                 hostnames: [{name}.example.com], rules: [{{name: r, pool: {name}}}]}}}}\n---\n\
                 {{apiVersion: sluice.dev/v1alpha1, kind: Pool, metadata: {{name: {name}}}, spec: {{\
                 endpoints: [{{address: 127.0.0.1, port: {}}}]}}}}",
                9000 + generation
            ),
        );
    }

    fn standalone(&self) -> Standalone {
        Standalone {
            dir: self.folder.path().to_owned(),
            state: self.state.path().to_owned(),
            stream_addr: ([127, 0, 0, 1], 0).into(),
            admin_addr: ([127, 0, 0, 1], 0).into(),
            settings: Settings::default(),
            roster: None,
        }
    }

    async fn start(&self) -> Handle {
        self.standalone().start_with(Arc::clone(&self.clock)).await.unwrap()
    }

    /// A controller and three instances that serve its first revision.
    async fn serving(&self) -> (Handle, Vec<Fake>) {
        let controller = self.start().await;
        let mut fleet: Vec<Fake> = (0..3)
            .map(|at| Fake::enroll(self.state.path(), &format!("i-{at}")))
            .collect();
        connect(&mut fleet, controller.stream_addr());
        until("the first revision serves", || {
            fleet.iter().all(|fake| number(fake) == Some(1))
        })
        .await;
        (controller, fleet)
    }

    fn record(&self) -> serde_json::Value {
        let text = fs::read(self.fleet_folder().join("record.json")).unwrap();
        serde_json::from_slice::<serde_json::Value>(&text).unwrap()["record"].clone()
    }

    fn fleet_folder(&self) -> std::path::PathBuf {
        self.state.path().join("fleets/default")
    }
}

fn connect(fleet: &mut [Fake], to: SocketAddr) {
    fleet.iter_mut().for_each(|fake| fake.connect(to, Manners::Good));
}

fn number(fake: &Fake) -> Option<u64> {
    fake.serves().map(|revision| revision.number)
}

fn status(controller: &Handle) -> RolloutStatus {
    controller
        .status(&"default".parse().unwrap())
        .expect("the fleet is known")
}

/// The members of the candidate that an instance was ordered.
fn members(fleet: &[Fake]) -> Option<Members> {
    let newest = fleet.iter().filter_map(Fake::order).max_by_key(|order| order.epoch)?;
    newest.candidate.map(|candidate| candidate.members)
}

async fn until(what: &str, mut so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !so() {
        assert!(began.elapsed() < Duration::from_secs(60), "never: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn told(controller: &Handle, kind: &str) {
    until(kind, || controller.lines_after(0).iter().any(|line| line.kind == kind)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_goes_stage_by_stage_to_everybody() {
    let world = World::new();
    let (controller, fleet) = world.serving().await;
    world.route("a", 2);
    until(
        "one member carries it",
        || matches!(members(&fleet), Some(Members::Only(list)) if list.len() == 1),
    )
    .await;
    let candidates = fleet.iter().filter(|fake| number(fake) == Some(2)).count();
    assert!(candidates <= 1, "no more than the stage allows");
    told(&controller, "promoted").await;
    until("everybody serves it as stable", || {
        fleet.iter().all(|fake| {
            fake.order()
                .is_some_and(|order| order.stable.number == 2 && order.candidate.is_none())
        })
    })
    .await;
    for fake in &fleet {
        let epochs = fake.held.lock().unwrap().epochs.clone();
        assert!(epochs.is_sorted(), "{epochs:?}");
    }
    let stages: Vec<String> = controller
        .lines_after(0)
        .iter()
        .filter(|line| line.kind == "stageOrdered")
        .map(|line| line.text.clone())
        .collect();
    assert_eq!(stages.len(), 2, "{stages:?}");
    let metrics = ask(controller.admin_addr(), "GET", "/metrics", "").await;
    assert!(
        metrics.contains("sluice_instances{fleet=\"default\",state=\"connected\"} 3"),
        "{metrics}"
    );
    controller.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_rolls_back_holds_the_culprit_and_lets_the_rest_go_on() {
    let world = World::new();
    let (controller, mut fleet) = world.serving().await;
    for fake in &mut fleet {
        fake.connect(controller.stream_addr(), Manners::RefusesCandidates);
    }
    until("all are back", || status(&controller).instances.total == 3).await;
    world.route("a", 2);
    told(&controller, "restored").await;
    until("everybody is on stable", || {
        fleet.iter().all(|fake| number(fake) == Some(1))
    })
    .await;
    let held: Vec<String> = status(&controller)
        .held
        .iter()
        .map(|held| held.object.clone())
        .collect();
    assert_eq!(held, ["Pool default/a"], "the changed object is held");
    let metrics = ask(controller.admin_addr(), "GET", "/metrics", "").await;
    assert!(
        metrics.contains("sluice_rollbacks_total{fleet=\"default\",reason=\"refused\"} 1"),
        "{metrics}"
    );

    connect(&mut fleet, controller.stream_addr());
    world.route("b", 1);
    told(&controller, "promoted").await;
    let status = status(&controller);
    assert_eq!(status.held.len(), 1, "the harmless change went on without the culprit");
    controller.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_cannot_prove_who_it_is_gets_nothing() {
    let (world, other) = (World::new(), World::new());
    let controller = world.start().await;
    let stranger = Fake::enroll(other.state.path(), "i-0");
    let ours = Fake::enroll(world.state.path(), "i-0");
    let to = controller.stream_addr();
    let read = |dir: &Path, name: &str| fs::read(dir.join(name)).unwrap();
    let ca = ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(read(&ours.identity, "ca.pem")))
        .domain_name(sluice_controller::pki::SERVER_NAME);
    let theirs = Identity::from_pem(
        read(&stranger.identity, "cert.pem"),
        read(&stranger.identity, "key.pem"),
    );
    for (who, tls) in [("nobody", ca.clone()), ("a stranger", ca.identity(theirs))] {
        let channel = fake::endpoint(to).tls_config(tls).unwrap().connect_lazy();
        let asked = DeliveryClient::new(channel)
            .connect(tokio_stream::empty::<pb::Upward>())
            .await;
        assert!(asked.is_err(), "{who} got a stream");
    }
    let elsewhere: sluice_model::FleetName = "elsewhere".parse().unwrap();
    let mut foreign = Fake::enroll(world.state.path(), "i-1");
    foreign.identity = sluice_controller::pki::enroll(world.state.path(), &elsewhere, &foreign.id, None).unwrap();
    foreign.connect(to, Manners::Good);
    let mut impostor = Fake::enroll(world.state.path(), "i-2");
    impostor.connect(to, Manners::Impostor);
    let code = |fake: &Fake| fake.held.lock().unwrap().last_status.as_ref().map(tonic::Status::code);
    until("both are refused", || {
        code(&foreign) == Some(tonic::Code::NotFound) && code(&impostor) == Some(tonic::Code::PermissionDenied)
    })
    .await;
    assert_eq!(status(&controller).instances.total, 0);
    assert!(foreign.order().is_none() && impostor.order().is_none());
    controller.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_keeps_a_controller_from_starting_is_one_line_that_says_what_to_do() {
    let world = World::new();
    let controller = world.start().await;
    let refused = |standalone: Standalone| async move {
        let error = standalone.start().await.expect_err("started");
        assert!(!error.to_string().contains('\n'), "{error}");
        error
    };
    assert!(matches!(refused(world.standalone()).await, StartError::InUse(_)));
    controller.shutdown().await;

    let empty = World {
        folder: tempfile::tempdir().unwrap(),
        ..World::new()
    };
    assert!(matches!(refused(empty.standalone()).await, StartError::Empty { .. }));
    empty.route("a", 1);
    assert!(matches!(
        refused(empty.standalone()).await,
        StartError::NoRollout { .. }
    ));

    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let stream_addr = taken.local_addr().unwrap();
    assert!(matches!(
        refused(Standalone {
            stream_addr,
            ..world.standalone()
        })
        .await,
        StartError::Listen { .. }
    ));
    let admin_addr = ([0, 0, 0, 0], 0).into();
    assert!(matches!(
        refused(Standalone {
            admin_addr,
            ..world.standalone()
        })
        .await,
        StartError::AdminNotLocal(_)
    ));
    let file = world.folder.path().join("rollout.yaml");
    assert!(matches!(
        refused(Standalone {
            state: file,
            ..world.standalone()
        })
        .await,
        StartError::State { .. }
    ));

    world.start().await.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_controller_that_was_killed_resumes_with_the_same_members_and_no_less_bake() {
    let world = World::new();
    world.rollout("10m");
    let (controller, mut fleet) = world.serving().await;
    world.route("a", 2);
    until("a member bakes", || {
        status(&controller).stage.is_some_and(|stage| stage.observed_ms > 5_000)
    })
    .await;
    let before = world.record()["rollout"].clone();
    drop(controller); // as a crash
    let waited = Instant::now();
    let controller = loop {
        match world.standalone().start_with(Arc::clone(&world.clock)).await {
            Ok(controller) => break controller,
            Err(error) => assert!(waited.elapsed() < Duration::from_secs(10), "{error}"),
        }
    };
    let members = |rollout: &serde_json::Value| rollout["members"].clone();
    let observed = |rollout: &serde_json::Value| rollout["observed_ms"].as_u64().unwrap();
    let after = world.record()["rollout"].clone();
    assert_eq!((members(&after), &after["stage"]), (members(&before), &before["stage"]));
    assert!(observed(&after) >= observed(&before), "{before} {after}");
    connect(&mut fleet, controller.stream_addr());
    let resumed = observed(&after);
    until("it bakes on", || {
        status(&controller)
            .stage
            .is_some_and(|stage| stage.observed_ms > resumed)
    })
    .await;
    assert_eq!(members(&world.record()["rollout"]), members(&before));
    assert_eq!(
        fleet.iter().filter(|fake| number(fake) == Some(2)).count(),
        1,
        "nobody else got it"
    );
    controller.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_its_record_a_controller_takes_stable_from_the_instances_and_jumps_ahead() {
    let world = World::new();
    let (controller, mut fleet) = world.serving().await;
    let before = fleet[0].order().unwrap().epoch;
    controller.shutdown().await;
    fs::remove_dir_all(world.fleet_folder()).unwrap();

    let controller = world.start().await;
    connect(&mut fleet, controller.stream_addr());
    told(&controller, "adoptedFromInstances").await;
    until("everybody follows the new order", || {
        fleet
            .iter()
            .all(|fake| fake.order().is_some_and(|order| order.epoch > before))
    })
    .await;
    let ahead = (fleet[0].order().unwrap().epoch >> 20).saturating_sub((world.clock)().0 / 1_000);
    assert!(ahead > 200, "only {ahead} seconds ahead");
    assert!(fleet.iter().all(|fake| number(fake) == Some(1)));
    world.route("a", 2);
    told(&controller, "promoted").await;
    controller.shutdown().await;
}

/// A fleet that serves revision 1 of routes `a` and `b`, whose controller then loses all but its keys, while `a`
/// changes and `b` is broken, and comes back.
async fn after_a_loss(world: &World) -> (Handle, Vec<Fake>) {
    world.route("b", 1);
    let (controller, fleet) = world.serving().await;
    // Another revision, so that there is a genuine manifest that is not the one asked for.
    world.route("c", 1);
    told(&controller, "promoted").await;
    until("everybody serves it", || {
        fleet.iter().all(|fake| number(fake) == Some(2))
    })
    .await;
    controller.shutdown().await;
    fs::remove_dir_all(world.fleet_folder()).unwrap();
    world.route("a", 2);
    world.write(
        "b.yaml",
        "{apiVersion: sluice.dev/v1alpha1, kind: ProxyRoute, metadata: {name: b}, spec: {rules: 7}}",
    );
    (world.start().await, fleet)
}

fn text_of(controller: &Handle) -> String {
    let lines = controller.lines_after(0);
    lines
        .iter()
        .map(|line| format!("{}: {}\n", line.kind, line.text))
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_controller_has_lost_is_handed_back_by_whoever_tells_the_truth() {
    let world = World::new();
    let (controller, mut fleet) = after_a_loss(&world).await;
    // In the order in which they are asked.
    let manners = [
        Manners::HandsBackAnotherManifest,
        Manners::HandsBackOtherSections,
        Manners::Good,
    ];
    for (fake, manners) in fleet.iter_mut().zip(manners) {
        fake.connect(controller.stream_addr(), manners);
    }
    let mut newcomer = Fake::enroll(world.state.path(), "j-new");
    newcomer.connect(controller.stream_addr(), Manners::Good);
    told(&controller, "mended").await;
    until("the new instance serves stable", || {
        newcomer.order().is_some_and(|order| order.stable.number == 2)
    })
    .await;
    told(&controller, "promoted").await;
    let story = text_of(&controller);
    for told in [
        "i-0 does not hand back 2-",
        "i-1 does not hand back 2-",
        "handed over by i-2",
        "stageOrdered",
    ] {
        assert!(story.contains(told), "{told}\n{story}");
    }
    assert!(!story.contains("\nadopted: "), "nothing unproven is adopted\n{story}");
    let config = ask(controller.admin_addr(), "GET", "/api/v2/config/current", "").await;
    assert!(
        config.contains("ProxyRoute default/b"),
        "the broken object kept its last good form: {config}"
    );
    for (at, fake) in fleet.iter().enumerate() {
        let held = fake.held.lock().unwrap();
        assert!(held.epochs.is_sorted(), "{:?}", held.epochs);
        assert!(!held.asked_back.is_empty(), "i-{at} was not asked");
    }
    assert!(
        newcomer.held.lock().unwrap().asked_back.is_empty(),
        "it holds nothing to be asked for"
    );
    controller.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fleet_whose_instances_hand_nothing_back_still_moves_on_in_stages() {
    let world = World::new();
    let (controller, mut fleet) = after_a_loss(&world).await;
    let manners = [Manners::KeepsToItself, Manners::HoldsNothing, Manners::OfAnOlderBuild];
    for (fake, manners) in fleet.iter_mut().zip(manners) {
        fake.connect(controller.stream_addr(), manners);
    }
    told(&controller, "promoted").await;
    let story = text_of(&controller);
    for told in [
        "did not answer in time",
        "no instance hands back 2-",
        "1 of an older build cannot be asked, such as i-2: upgrade them",
        "stageOrdered",
    ] {
        assert!(story.contains(told), "{told}\n{story}");
    }
    let asked = fleet[2].held.lock().unwrap().asked_back.clone();
    assert_eq!(asked, [], "it would end its stream on the question");
    assert!(!story.contains("mended"), "{story}");
    controller.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_anybody_who_holds_stable_a_fleet_begins_anew() {
    let world = World::new();
    let (controller, mut fleet) = world.serving().await;
    fleet.iter_mut().for_each(Fake::disconnect);
    controller.shutdown().await;
    for lost in ["manifests", "sections"] {
        fs::remove_dir_all(world.fleet_folder().join(lost)).unwrap();
    }
    world.route("a", 2);
    let controller = world.start().await;
    let mut newcomer = Fake::enroll(world.state.path(), "j-new");
    newcomer.connect(controller.stream_addr(), Manners::Good);
    told(&controller, "stableLost").await;
    until("it serves what is written", || newcomer.serves().is_some()).await;
    assert_eq!(number(&newcomer), Some(2), "a number of its own");
    controller.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fleet_that_is_added_later_begins_at_once_and_one_that_lost_its_record_does_not() {
    let world = World::new();
    world.start().await.shutdown().await;
    let other: sluice_model::FleetName = "other".parse().unwrap();
    let add = || {
        world.write(
            "other.yaml",
            "{apiVersion: sluice.dev/v1alpha1, kind: Rollout, metadata: {name: other}, spec: {fleet: other, \
             dataPlane: {listeners: [{name: http, port: 8081}]}}}",
        );
    };
    let begun = |controller: &Handle| {
        controller
            .status(&other)
            .is_some_and(|status| status.stable_revision.is_some())
    };
    let controller = world.start().await;
    assert!(controller.status(&other).is_none());
    add();
    // Nobody is connected: a fleet that waited to hear from instances would wait for ever.
    until("it has a revision", || begun(&controller)).await;
    controller.shutdown().await;

    // With instances that hold something: first its objects are away too, then they come back.
    fs::remove_dir_all(world.state.path().join("fleets/other")).unwrap();
    fs::remove_file(world.folder.path().join("other.yaml")).unwrap();
    let controller = world.start().await;
    add();
    until("it is known", || controller.status(&other).is_some()).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(!begun(&controller), "it was taken for a new one");
    controller.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_that_is_deleted_under_a_controller_is_adopted_back() {
    let world = World::new();
    let (controller, fleet) = world.serving().await;
    let before = fleet[0].order().unwrap().epoch;
    fs::remove_file(world.fleet_folder().join("record.json")).unwrap();
    world.route("a", 2);
    told(&controller, "adoptedFromInstances").await;
    told(&controller, "promoted").await;
    // Numbered above the revision whose record could not be written.
    until("everybody serves the change", || {
        fleet.iter().all(|fake| number(fake) > Some(1))
    })
    .await;
    let story = text_of(&controller);
    assert!(
        story.contains("stageOrdered") && !story.contains("\nstableLost"),
        "{story}"
    );
    let adoptions = story.lines().filter(|line| line.starts_with("adopted: ")).count();
    assert_eq!(adoptions, 1, "the first revision alone: {story}");
    for fake in &fleet {
        let epochs = fake.held.lock().unwrap().epochs.clone();
        assert!(epochs.is_sorted() && epochs.last() > Some(&before), "{epochs:?}");
    }
    let stable = world.record()["stable"].clone();
    let serves = fleet[0].serves().unwrap().number;
    assert!(
        stable
            .as_str()
            .is_some_and(|stable| stable.starts_with(&format!("{serves}-"))),
        "{stable}"
    );
    controller.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_nobody_asked_for_is_not_taken() {
    let world = World::new();
    let (controller, mut fleet) = world.serving().await;
    fleet[0].connect(controller.stream_addr(), Manners::Pushes);
    let code = |fake: &Fake| fake.held.lock().unwrap().last_status.as_ref().map(tonic::Status::code);
    until("it is refused", || {
        code(&fleet[0]) == Some(tonic::Code::FailedPrecondition)
    })
    .await;
    assert!(!world.fleet_folder().join("sections").join("07".repeat(32)).exists());
    controller.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_in_the_record_is_not_ordered() {
    let world = World::new();
    let (controller, fleet) = world.serving().await;
    let record = world.fleet_folder().join("record.json");
    let kept = fs::read(&record).unwrap();
    // A folder in its place: it can be neither read nor replaced.
    fs::remove_file(&record).unwrap();
    fs::create_dir(&record).unwrap();
    world.route("a", 2);
    told(&controller, "trouble").await;
    let epoch = fleet[0].order().unwrap().epoch;
    // Long enough for a stage to be ordered and sent again, were it not for the record.
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(
        fleet.iter().all(|fake| fake.order().unwrap().epoch == epoch),
        "ordered without a record"
    );
    assert!(fleet.iter().all(|fake| number(fake) == Some(1)));

    fs::remove_dir(&record).unwrap();
    fs::write(&record, kept).unwrap();
    told(&controller, "promoted").await;
    controller.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn people_ask_and_command_over_the_admin_port() {
    let world = World::new();
    world.rollout("10m");
    let (controller, fleet) = world.serving().await;
    let admin = controller.admin_addr();
    world.route("a", 2);
    until("a member carries it", || {
        fleet.iter().any(|fake| number(fake) == Some(2))
    })
    .await;
    // Shown after it was sent.
    until("it is shown", || {
        status(&controller)
            .target_revision
            .is_some_and(|target| target.starts_with("2-"))
    })
    .await;
    let json = |text: String| serde_json::from_str::<serde_json::Value>(&text).unwrap_or_else(|_| panic!("{text}"));
    let rollouts = json(ask(admin, "GET", "/api/v2/rollouts", "").await);
    let target = rollouts[0]["targetRevision"].as_str().unwrap().to_owned();
    let body = |revision: &str| format!("{{\"revision\":\"{revision}\",\"actor\":\"eve\",\"reason\":\"lunch\"}}");
    let table = [
        ("GET", "/api/v2/nothing", String::new(), "nothing is at"),
        ("GET", "/api/v2/rollouts/other", String::new(), "no fleet"),
        (
            "POST",
            "/api/v2/rollouts/default/pause",
            body("99-00000000"),
            "no revision 99",
        ),
        (
            "POST",
            "/api/v2/rollouts/default/pause",
            "{\"revisoin\":\"2\"}".to_owned(),
            "unknown field",
        ),
        (
            "POST",
            "/api/v2/rollouts/default/pause",
            "{}".to_owned(),
            "say who asks",
        ),
        (
            "POST",
            "/api/v2/rollouts/default/pause",
            format!("{{\"actor\":\"{}\"}}", "x".repeat(20_000)),
            "at most",
        ),
        ("POST", "/api/v2/rollouts/default/abort", body("1"), "error"),
        (
            "POST",
            "/api/v2/rollouts/default/pause",
            body(&target),
            "\"phase\":\"Paused\"",
        ),
        ("POST", "/api/v2/rollouts/default/resume", body(&target), "\"stage\""),
        (
            "POST",
            "/api/v2/rollouts/default/abort",
            body(&target),
            "\"phase\":\"RollingBack\"",
        ),
    ];
    for (method, path, body, expected) in table {
        let answer = ask(admin, method, path, &body).await;
        assert!(answer.contains(expected), "{method} {path} {body}: {answer}");
    }
    told(&controller, "restored").await;
    let audit = fs::read_to_string(world.state.path().join("audit.jsonl")).unwrap();
    let actions: Vec<String> = audit
        .lines()
        .map(|line| json(line.to_owned())["action"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(actions, ["pause", "abort", "pause", "resume", "abort"], "{audit}");
    let events = json(ask(admin, "GET", "/api/v2/events?since=1", "").await);
    assert!(
        events
            .as_array()
            .unwrap()
            .iter()
            .all(|line| line["sequence"].as_u64() > Some(1))
    );
    assert_eq!(
        json(ask(admin, "GET", "/api/v2/instances", "").await)
            .as_array()
            .unwrap()
            .len(),
        3
    );
    assert_eq!(
        json(ask(admin, "GET", "/api/v2/problems", "").await),
        serde_json::json!([])
    );
    controller.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revision_that_an_instance_reports_is_never_removed() {
    let world = World::new();
    world.write(
        "rollout.yaml",
        "{apiVersion: sluice.dev/v1alpha1, kind: Rollout, metadata: {name: default}, spec: {\
         dataPlane: {listeners: [{name: http, port: 8080}]}, historyLimit: 1, \
         stages: [{name: all, fleetPercent: 100, bakeTime: 0s}]}}",
    );
    let (controller, mut fleet) = world.serving().await;
    fleet[2].disconnect();
    until("it is gone", || status(&controller).instances.total == 2).await;
    for generation in 2..=5 {
        world.route("a", generation);
        until("promoted", || {
            status(&controller)
                .stable_revision
                .is_some_and(|stable| stable.starts_with(&format!("{generation}-")))
        })
        .await;
    }
    let kept = || {
        let files = fs::read_dir(world.fleet_folder().join("manifests")).unwrap();
        let mut numbers: Vec<u64> = files
            .map(|file| {
                file.unwrap()
                    .file_name()
                    .to_str()
                    .unwrap()
                    .split('-')
                    .next()
                    .unwrap()
                    .parse()
                    .unwrap()
            })
            .collect();
        numbers.sort_unstable();
        numbers
    };
    until("what nobody needs is removed", || kept() == [1, 5]).await;
    fleet[2].connect(controller.stream_addr(), Manners::Good);
    until("the last one moved on", || number(&fleet[2]) == Some(5)).await;
    until("then its revision is removed", || kept() == [5]).await;
    let manifest = fleet[2].held.lock().unwrap().manifests.values().last().unwrap().clone();
    let sections = || fs::read_dir(world.fleet_folder().join("sections")).unwrap().count();
    until("and then its sections", || sections() == manifest.sections.len()).await;
    controller.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_instance_that_never_comes_back_is_forgotten_by_command_or_by_roster() {
    let world = World::new();
    world.rollout("10m");
    let (controller, mut fleet) = world.serving().await;
    let admin = controller.admin_addr();
    world.route("a", 2);
    let carrier = carrier_of_2(&fleet).await;
    let id = fleet[carrier].id.clone();
    let forget = |instance: &str| {
        let body = format!("{{\"instance\":\"{instance}\",\"actor\":\"eve\",\"reason\":\"burnt\"}}");
        async move { ask(admin, "POST", "/api/v2/rollouts/default/forget", &body).await }
    };
    let said = forget(id.as_str()).await;
    assert!(said.contains("is connected"), "{said}");
    let said = forget("i-99").await;
    assert!(said.contains("knows no instance i-99"), "{said}");
    for (body, expected) in [
        ("{\"actor\":\"eve\"}", "say which instance"),
        ("{\"actor\":\"eve\",\"instance\":\"A B\"}", "instance: "),
    ] {
        let said = ask(admin, "POST", "/api/v2/rollouts/default/forget", body).await;
        assert!(said.contains(expected), "{body}: {said}");
    }

    fleet[carrier].disconnect();
    until("it is away", || status(&controller).instances.total == 2).await;
    ask(admin, "POST", "/api/v2/rollouts/default/abort", "{\"actor\":\"eve\"}").await;
    told(&controller, "restored").await;
    assert_eq!(status(&controller).unreached, std::slice::from_ref(&id));
    let said = forget(id.as_str()).await;
    assert!(said.contains("\"unreached\":[]"), "{said}");
    assert_eq!(controller.board().instances().len(), 2, "it is not shown either");
    let audit = fs::read_to_string(world.state.path().join("audit.jsonl")).unwrap();
    let last: serde_json::Value = serde_json::from_str(audit.lines().last().unwrap()).unwrap();
    assert_eq!(
        (&last["action"], &last["instance"], &last["result"]),
        (&"forget".into(), &id.as_str().into(), &"done".into())
    );

    fleet[carrier].connect(controller.stream_addr(), Manners::Good);
    until("it came back after all, and is on stable", || {
        number(&fleet[carrier]) == Some(1) && status(&controller).instances.acknowledged == 3
    })
    .await;
    assert_eq!(
        world.record()["size"],
        2,
        "the next controller does not wait for who is forgotten"
    );
    controller.shutdown().await;

    let left = fleet.iter().take(1).map(|fake| fake.id.clone());
    let standalone = Standalone {
        roster: Some(Roster {
            fleet: "default".parse().unwrap(),
            instances: left.collect(),
        }),
        ..world.standalone()
    };
    let controller = standalone.start_with(Arc::clone(&world.clock)).await.unwrap();
    assert_eq!(world.record()["size"], 1, "at once, and before anybody connects");
    controller.shutdown().await;
}

/// The place of the instance that carries revision 2, once one does.
async fn carrier_of_2(fleet: &[Fake]) -> usize {
    let carrier = || fleet.iter().position(|fake| number(fake) == Some(2));
    until("a member carries it", || carrier().is_some()).await;
    carrier().unwrap()
}

/// A request as plain as they come; gives the whole answer.
async fn ask(to: SocketAddr, method: &str, path: &str, body: &str) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::TcpStream::connect(to).await.unwrap();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await; // an answer before the body was read may end in a reset
    let answer = String::from_utf8(answer).unwrap();
    answer
        .split_once("\r\n\r\n")
        .map(|(_, body)| body.to_owned())
        .unwrap_or(answer)
}
