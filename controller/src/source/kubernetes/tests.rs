//! Sequences of what watches tell, and what is shown then. No clock, no API server.

use kube::core::DynamicObject;
use serde_json::{Value, json};
use sluice_model::limits::{SOURCE_LOST_KEEP_MS, SOURCE_REMOVAL_HOLD_MS, SOURCE_SHARES_WAIT_MS};
use sluice_model::{CertificateRef, Kind, ObjectKey};

use super::assembly::Served;
use super::keeper::Keeper;
use super::kinds::{Watch, Watched};
use super::live::Held;
use super::read;
use super::sight::Heard;
use super::store::{Sighting, Version};
use super::trouble::Trouble;
use super::*;
use crate::live::{CertificateState, ServiceState};
use crate::objects::Spec;
use crate::rollout::Millis;
use crate::source::{Area, Coverage};

const ROUTE: Watched = Watched::Object(Kind::ProxyRoute);
const POOL: Watched = Watched::Object(Kind::Pool);
const ROLLOUT: Watched = Watched::Object(Kind::Rollout);

/// A cluster that tells, and a clock that is set.
struct World {
    keeper: Keeper,
    now: Millis,
    shown: Shown,
}

fn everywhere(watched: Watched) -> Watch {
    Watch {
        watched,
        namespace: None,
    }
}

fn object(watched: Watched, name: &str, uid: &str, version: u64, more: Value) -> DynamicObject {
    let resource = watched.resource();
    let (namespace, name) = name.split_once('/').unwrap_or(("shop", name));
    let mut object = json!({
        "apiVersion": resource.api_version, "kind": resource.kind,
        "metadata": {
            "name": name, "namespace": namespace, "uid": uid, "resourceVersion": version.to_string(), "generation": 1,
            "creationTimestamp": "2026-01-01T00:00:00Z",
            "managedFields": [{"manager": "x"}],
            "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "long"},
        },
    });
    for (key, value) in more.as_object().unwrap() {
        match (key.as_str(), value.as_object()) {
            ("metadata", Some(fields)) => object["metadata"].as_object_mut().unwrap().extend(fields.clone()),
            _ => object[key] = value.clone(),
        }
    }
    serde_json::from_value(object).unwrap()
}

fn pool(name: &str, version: u64, port: u32) -> DynamicObject {
    let spec = json!({"endpoints": [{"address": "10.0.0.1", "port": port}]});
    object(POOL, name, name, version, json!({"spec": spec}))
}

impl World {
    /// One in which nothing was heard yet.
    fn begin(scope: Scope) -> Self {
        let (now, shown) = (Millis(1_800_000_000_000), Shown::default());
        Self {
            keeper: Keeper::begin(scope, shown.clone(), now),
            now,
            shown,
        }
    }

    /// One whose kinds were listed, with these pools.
    fn with_pools(pools: Vec<DynamicObject>) -> Self {
        let mut world = Self::begin(scope());
        for watched in Watched::ALL {
            let objects = if watched == POOL { pools.clone() } else { vec![] };
            world.list(watched, objects);
        }
        world
    }

    fn hear(&mut self, watched: Watched, heard: Heard) {
        self.keeper.take(&everywhere(watched), heard, self.now);
    }

    fn list(&mut self, watched: Watched, objects: Vec<DynamicObject>) {
        self.hear(watched, Heard::ListBegins);
        for object in objects {
            self.hear(watched, Heard::Listed(read::read(watched, object).unwrap()));
        }
        self.hear(watched, Heard::ListEnds);
    }

    fn changed(&mut self, watched: Watched, object: DynamicObject) {
        self.hear(watched, Heard::Changed(read::read(watched, object).unwrap()));
    }

    fn deleted(&mut self, watched: Watched, object: DynamicObject) {
        self.hear(watched, Heard::Deleted(read::read(watched, object).unwrap()));
    }

    fn pass(&mut self, millis: u64) {
        self.now = Millis(self.now.0 + millis);
        self.keeper.pass(self.now);
    }

    /// The server is asked which kinds it serves, if there is reason to.
    fn answer(&mut self, served: Served) -> bool {
        let doubted = self.keeper.doubted_kinds(self.now);
        let all = Kind::ALL.into_iter().map(|kind| {
            let is_doubted = doubted.contains(&kind);
            (kind, if is_doubted { served } else { Served::Yes })
        });
        self.keeper.answered(&all.collect(), self.now);
        !doubted.is_empty()
    }

    fn is_changed(&mut self) -> bool {
        assert!(self.keeper.is_settled(self.now));
        self.keeper.is_changed(self.now)
    }

    fn shown(&mut self) -> Vec<String> {
        let view = self.keeper.view(self.now);
        view.objects.iter().map(|object| object.key.to_string()).collect()
    }

    fn problems(&mut self) -> Vec<String> {
        self.keeper
            .view(self.now)
            .problems
            .iter()
            .map(ToString::to_string)
            .collect()
    }

    fn coverage(&mut self) -> Coverage {
        self.keeper.view(self.now).coverage
    }
}

fn scope() -> Scope {
    Scope::everywhere("sluice-system".parse().unwrap())
}

fn key(text: &str) -> ObjectKey {
    text.parse().unwrap()
}

fn area(kind: Kind, namespace: Option<&str>) -> Area {
    Area {
        kind,
        namespace: namespace.map(|name| name.parse().unwrap()),
    }
}

#[test]
fn there_is_no_view_before_every_kind_was_seen_or_it_is_known_why_not() {
    let mut world = World::begin(scope());
    for watched in Watched::ALL {
        assert!(!world.keeper.is_settled(world.now));
        let forbidden = Heard::Failed(Trouble::Forbidden);
        if watched == POOL {
            world.hear(watched, forbidden);
        } else {
            world.list(watched, vec![]);
        }
    }
    assert!(world.is_changed());
    assert_eq!(world.coverage(), Coverage::Without([area(Kind::Pool, None)].into()));
    let problems = world.problems();
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert_eq!(
        problems[0],
        "error: Pools cannot be seen: the API server forbids it (403); grant list and watch of pools in API group sluice.dev to the controller's service account by a ClusterRole, or name the namespaces to watch; what was read from there before keeps serving"
    );
    assert!(!world.is_changed(), "nothing more to say");
    // It is granted.
    world.list(POOL, vec![pool("a", 5, 80)]);
    assert!(world.is_changed());
    assert_eq!(
        (world.coverage(), world.shown()),
        (Coverage::Whole, vec!["Pool shop/a".to_owned()])
    );
}

#[test]
fn a_kind_that_never_answers_is_waited_for_ten_seconds() {
    let mut world = World::begin(scope());
    for watched in Watched::ALL.into_iter().filter(|watched| *watched != ROUTE) {
        world.list(watched, vec![]);
    }
    world.hear(ROUTE, Heard::Failed(Trouble::Busy));
    world.pass(9_999);
    assert!(!world.keeper.is_settled(world.now));
    world.pass(1);
    assert!(world.is_changed());
    assert!(world.problems()[0].contains("ProxyRoutes cannot be seen: the API server is busy"));
}

#[test]
fn an_object_is_shown_as_it_is_written_and_as_often_as_it_says_something_new() {
    let mut world = World::with_pools(vec![pool("a", 5, 80), pool("b", 6, 80)]);
    assert!(world.is_changed());
    let before = world.keeper.view(world.now);
    let a = before.objects.get(&key("Pool shop/a")).unwrap();
    assert_eq!(a.created_at_seconds, Some(1_767_225_600));
    assert!(a.annotations.is_empty(), "{:?}", a.annotations);
    let stored = a.stored.as_ref().unwrap();
    assert_eq!(
        (&*stored.uid, stored.generation, &*stored.resource_version),
        ("a", 1, "5")
    );
    assert_eq!(&**a.origin.provenance(), "resourceVersion 5");

    // A write of its status, and a list that says it all again.
    world.changed(
        POOL,
        object(
            POOL,
            "a",
            "a",
            7,
            json!({"spec": {"endpoints": [{"address": "10.0.0.1", "port": 80}]}, "status": {"endpoints": "1/1"}}),
        ),
    );
    let status = world.shown.object(&key("Pool shop/a")).unwrap();
    assert_eq!(
        status.data,
        json!({"status": {"endpoints": "1/1"}}),
        "for whoever writes it"
    );
    assert_eq!(status.metadata.resource_version.as_deref(), Some("7"));
    world.list(POOL, vec![pool("a", 7, 80), pool("b", 6, 80)]);
    assert!(!world.is_changed());
    let after = world.keeper.view(world.now);
    assert!(
        Arc::ptr_eq(a, after.objects.get(&key("Pool shop/a")).unwrap()),
        "the same object, not an equal one"
    );

    world.changed(POOL, pool("b", 8, 81));
    assert!(world.is_changed());
    let after = world.keeper.view(world.now);
    assert!(Arc::ptr_eq(a, after.objects.get(&key("Pool shop/a")).unwrap()));
    let b = &after.objects.get(&key("Pool shop/b")).unwrap().spec;
    assert!(matches!(b, Spec::Pool(spec) if spec.endpoints[0].port == 81), "{b:?}");
}

#[test]
fn one_that_cannot_be_read_is_still_that_object_and_disturbs_nobody() {
    let broken = object(POOL, "a", "a", 5, json!({"spec": {"endpoints": "none", "endpoint": 1}}));
    let no_spec = object(POOL, "b", "b", 6, json!({}));
    let mut world = World::with_pools(vec![broken, no_spec, pool("c", 7, 80)]);
    assert_eq!(world.shown(), ["Pool shop/a", "Pool shop/b", "Pool shop/c"]);
    let view = world.keeper.view(world.now);
    assert_eq!(view.objects.get(&key("Pool shop/a")).unwrap().spec, Spec::Unreadable);
    assert_eq!(view.coverage, Coverage::Whole);
    let problems = world.problems();
    for expected in [
        "error: Pool shop/a spec.endpoints: a list is needed here, not the text \"none\"; put '- ' before each item",
        "error: Pool shop/a spec.endpoint: there is no such field; did you mean \"endpoints\"?",
        "error: Pool shop/b spec: this field is required; add it: see `kubectl explain pool.spec`",
    ] {
        assert!(problems.contains(&expected.to_owned()), "{problems:#?}");
    }
    world.changed(POOL, pool("a", 8, 80));
    assert_eq!(world.problems().len(), 1);
}

#[test]
fn a_deleted_object_goes_when_its_kind_is_known_to_stay() {
    let mut world = World::with_pools(vec![pool("a", 5, 80), pool("b", 6, 80)]);
    world.deleted(POOL, pool("a", 7, 80));
    assert!(!world.answer(Served::Yes), "not yet");
    world.pass(SOURCE_REMOVAL_HOLD_MS);
    assert_eq!(world.shown().len(), 2, "it is not known yet");
    assert!(
        world.shown.object(&key("Pool shop/a")).is_none(),
        "but it has no status any more"
    );
    assert!(world.answer(Served::Yes));
    assert_eq!(world.shown(), ["Pool shop/b"]);
    // Its successor is another object; the deleted one does not return.
    world.list(POOL, vec![pool("a", 5, 80), pool("b", 6, 80)]);
    assert_eq!(world.shown(), ["Pool shop/b"]);
    world.changed(POOL, object(POOL, "a", "another", 9, json!({"spec": {}})));
    assert_eq!(world.shown().len(), 2);
}

#[test]
fn one_that_is_there_again_at_once_never_went() {
    let mut world = World::with_pools(vec![pool("a", 5, 80)]);
    world.deleted(POOL, pool("a", 7, 80));
    world.changed(
        POOL,
        object(
            POOL,
            "a",
            "another",
            9,
            json!({"spec": {"endpoints": [{"address": "10.0.0.1", "port": 80}]}}),
        ),
    );
    world.pass(SOURCE_REMOVAL_HOLD_MS);
    assert!(!world.answer(Served::Yes), "nothing is in doubt");
    assert_eq!(world.shown(), ["Pool shop/a"]);
}

#[test]
fn a_list_that_is_old_removes_nothing_that_an_event_brings_back() {
    let mut world = World::with_pools(vec![pool("a", 5, 80), pool("b", 9, 80)]);
    // Out of a cache that has not seen b yet, and has an older a.
    world.changed(POOL, pool("a", 8, 81));
    world.list(POOL, vec![pool("a", 5, 80)]);
    world.changed(POOL, pool("a", 8, 81));
    world.changed(POOL, pool("b", 9, 80));
    world.pass(SOURCE_REMOVAL_HOLD_MS);
    assert!(!world.answer(Served::Yes));
    let view = world.keeper.view(world.now);
    let a = &view.objects.get(&key("Pool shop/a")).unwrap().spec;
    assert!(matches!(a, Spec::Pool(spec) if spec.endpoints[0].port == 81), "{a:?}");
    assert_eq!(view.objects.len(), 2);
}

#[test]
fn what_a_list_lacks_is_gone_in_the_end() {
    let mut world = World::with_pools(vec![pool("a", 5, 80), pool("b", 9, 80)]);
    world.hear(POOL, Heard::Failed(Trouble::Expired));
    world.list(POOL, vec![pool("b", 9, 80)]);
    world.pass(SOURCE_REMOVAL_HOLD_MS);
    assert!(world.answer(Served::Yes));
    assert_eq!(world.shown(), ["Pool shop/b"]);
}

#[test]
fn a_deleted_crd_is_no_word_about_a_single_object() {
    let mut world = World::with_pools(vec![pool("a", 5, 80), pool("b", 6, 80)]);
    // The API server deletes the objects of a CRD, then the CRD.
    world.deleted(POOL, pool("a", 7, 80));
    world.deleted(POOL, pool("b", 8, 80));
    world.pass(SOURCE_REMOVAL_HOLD_MS);
    assert!(world.answer(Served::No));
    assert_eq!(world.shown(), ["Pool shop/a", "Pool shop/b"]);
    assert_eq!(world.coverage(), Coverage::Without([area(Kind::Pool, None)].into()));
    assert!(world.problems()[0].starts_with("error: Pools cannot be seen: the API server has no such kind"));
    world.hear(POOL, Heard::Failed(Trouble::NoSuchKind));
    world.pass(3_600_000);
    assert_eq!(
        (world.shown().len(), world.problems().len()),
        (2, 1),
        "for as long as it takes"
    );

    // It is back, and one of the objects with it.
    world.list(
        POOL,
        vec![object(
            POOL,
            "a",
            "new",
            20,
            json!({"spec": {"endpoints": [{"address": "10.0.0.1", "port": 80}]}}),
        )],
    );
    assert!(
        matches!(world.coverage(), Coverage::Without(_)),
        "it may be a list of what is being deleted"
    );
    assert!(world.answer(Served::Yes));
    assert_eq!((world.shown().len(), world.coverage()), (2, Coverage::Whole));
    let problems = world.problems();
    assert!(
        problems[0]
            .starts_with("warning: 1 Pools went when their CRD was deleted, such as Pool shop/b; they count until 20"),
        "{problems:?}"
    );
    world.pass(SOURCE_LOST_KEEP_MS - 1);
    assert_eq!(world.shown().len(), 2);
    world.pass(1);
    assert_eq!(
        (world.shown(), world.problems()),
        (vec!["Pool shop/a".to_owned()], vec![])
    );
}

#[test]
fn objects_that_went_with_their_crd_come_back_one_by_one() {
    let mut world = World::with_pools(vec![pool("a", 5, 80), pool("b", 6, 80)]);
    // This time all that is noticed is that the kind is gone.
    world.hear(POOL, Heard::Failed(Trouble::NoSuchKind));
    world.list(POOL, vec![]);
    world.pass(SOURCE_REMOVAL_HOLD_MS);
    assert!(world.answer(Served::Yes));
    assert_eq!(world.shown().len(), 2);
    for (name, version) in [("a", 20), ("b", 21)] {
        let spec = json!({"spec": {"endpoints": [{"address": "10.0.0.1", "port": 80}]}});
        world.changed(POOL, object(POOL, name, &format!("new-{name}"), version, spec));
    }
    world.pass(1);
    assert_eq!((world.shown().len(), world.problems()), (2, vec![]));
    // One that is deleted now is deleted.
    world.deleted(POOL, object(POOL, "b", "new-b", 22, json!({"spec": {}})));
    world.pass(SOURCE_REMOVAL_HOLD_MS);
    assert!(world.answer(Served::Yes));
    assert_eq!(world.shown(), ["Pool shop/a"]);
}

#[test]
fn a_server_that_was_set_back_is_believed() {
    let mut world = World::with_pools(vec![pool("a", 500, 80), pool("b", 501, 80)]);
    assert_eq!(world.keeper.newest(), 501);
    world.changed(POOL, pool("a", 400, 81));
    assert_eq!(world.keeper.newest(), 501, "an old event is an old event");
    world.list(POOL, vec![pool("a", 400, 81)]);
    assert!(!world.keeper.looks_set_back(world.now), "it may be an old list");
    world.pass(SOURCE_REMOVAL_HOLD_MS);
    assert!(world.keeper.looks_set_back(world.now));
    world.keeper.set_back();
    world.list(POOL, vec![pool("a", 400, 81)]);
    assert!(!world.keeper.looks_set_back(world.now));
    assert_eq!(world.keeper.newest(), 400);
    world.pass(SOURCE_REMOVAL_HOLD_MS);
    world.answer(Served::Yes);
    let view = world.keeper.view(world.now);
    assert_eq!(view.objects.len(), 1);
    let a = &view.objects.get(&key("Pool shop/a")).unwrap().spec;
    assert!(matches!(a, Spec::Pool(spec) if spec.endpoints[0].port == 81), "{a:?}");
}

#[test]
fn namespaces_are_known_by_age_and_label() {
    let mut world = World::with_pools(vec![]);
    let named = |version: u64, labels: Value| {
        let metadata = json!({"namespace": null, "labels": labels});
        object(
            Watched::Namespace,
            "x/shop",
            "n",
            version,
            json!({"metadata": metadata}),
        )
    };
    world.list(Watched::Namespace, vec![named(3, json!({"edge": "yes"}))]);
    assert!(world.is_changed());
    let cluster = world.keeper.view(world.now).cluster.unwrap();
    let shop = &cluster.namespaces[&"shop".parse().unwrap()];
    assert_eq!(
        (shop.created_at_seconds, shop.labels["edge"].as_str()),
        (Some(1_767_225_600), "yes")
    );
    assert_eq!(cluster.controller.as_str(), "sluice-system");
    world.changed(Watched::Namespace, named(4, json!({"edge": "yes"})));
    assert!(!world.is_changed());
    world.changed(Watched::Namespace, named(5, json!({})));
    assert!(world.is_changed());
    world.deleted(Watched::Namespace, named(6, json!({})));
    assert!(world.keeper.view(world.now).cluster.unwrap().namespaces.is_empty());
}

#[test]
fn one_namespace_that_is_forbidden_hides_only_its_own() {
    let names = ["shop", "blog"].map(|name| name.parse::<Name>().unwrap());
    let mut world = World::begin(Scope {
        namespaces: Some(names.clone().into()),
        ..scope()
    });
    for watch in Watch::of(&scope_of(&names)) {
        let heard = match (watch.watched, watch.namespace.as_ref().map(Name::as_str)) {
            (ROUTE, Some("blog")) => vec![Heard::Failed(Trouble::Forbidden)],
            _ => vec![Heard::ListBegins, Heard::ListEnds],
        };
        for heard in heard {
            world.keeper.take(&watch, heard, world.now);
        }
    }
    assert!(world.is_changed());
    assert_eq!(
        world.coverage(),
        Coverage::Without([area(Kind::ProxyRoute, Some("blog"))].into())
    );
    assert!(
        world.problems()[0].contains("ProxyRoutes of namespace blog cannot be seen: the API server forbids it (403); grant list and watch of proxyroutes in API group sluice.dev to the controller's service account by a Role in namespace blog"),
        "{:?}",
        world.problems()
    );
}

fn scope_of(names: &[Name]) -> Scope {
    Scope {
        namespaces: Some(names.iter().cloned().collect()),
        ..scope()
    }
}

// --- what objects refer to ----------------------------------------------------------------------------------------

fn service(version: u64) -> DynamicObject {
    let ports = json!([{"name": "http", "port": 80}]);
    object(
        Watched::Service,
        "api",
        "svc",
        version,
        json!({"spec": {"ports": ports}}),
    )
}

fn slice(name: &str, version: u64, of: &str, addresses: &[&str]) -> DynamicObject {
    let endpoints: Vec<Value> = addresses
        .iter()
        .map(|address| json!({"addresses": [address]}))
        .collect();
    let more = json!({
        "metadata": {"labels": {"kubernetes.io/service-name": of}},
        "addressType": "IPv4", "endpoints": endpoints, "ports": [{"name": "http", "port": 8080}],
    });
    object(Watched::EndpointSlice, name, name, version, more)
}

fn wanted(subjects: &[&str]) -> Arc<Wanted> {
    Arc::new(subjects.iter().map(|text| text.parse().unwrap()).collect())
}

impl World {
    fn values(&mut self) -> Arc<Values> {
        self.keeper.values(self.now)
    }

    fn endpoints(&mut self) -> Vec<String> {
        match self.values().service(&"shop/api:http".parse().unwrap()) {
            ServiceState::Endpoints(endpoints) => endpoints.iter().map(|one| one.address.to_string()).collect(),
            ServiceState::Unknown => vec!["unknown".into()],
            ServiceState::Unseen(lack) | ServiceState::Unusable(lack) | ServiceState::Missing(lack) => {
                vec![lack.message.clone()]
            }
        }
    }
}

#[test]
fn endpoints_are_followed_and_only_what_was_touched_is_another_value() {
    let mut world = World::begin(scope());
    world
        .keeper
        .want(wanted(&["Service shop/api:http", "Service shop/gone:80"]));
    assert_eq!(world.endpoints(), ["unknown"]);
    world.list(Watched::Service, vec![service(3)]);
    assert_eq!(world.endpoints(), ["unknown"], "its endpoints are still to come");
    world.list(Watched::EndpointSlice, vec![slice("api-1", 4, "api", &["10.0.0.1"])]);
    assert_eq!(world.endpoints(), ["10.0.0.1:8080"]);

    let before = world.values();
    world.changed(Watched::EndpointSlice, slice("other-1", 5, "other", &["10.0.0.9"]));
    world.changed(Watched::EndpointSlice, slice("api-1", 6, "api", &["10.0.0.1"]));
    assert!(
        Arc::ptr_eq(&before, &world.values()),
        "nothing that is wanted is another"
    );

    world.changed(Watched::EndpointSlice, slice("api-2", 7, "api", &["10.0.0.2"]));
    assert_eq!(world.endpoints(), ["10.0.0.1:8080", "10.0.0.2:8080"]);
    world.changed(Watched::EndpointSlice, slice("api-1", 3, "api", &[]));
    assert_eq!(world.endpoints().len(), 2, "an old event");
    world.deleted(Watched::EndpointSlice, slice("api-1", 8, "api", &[]));
    assert_eq!(world.endpoints(), ["10.0.0.2:8080"]);
    // A slice that is given to another Service.
    world.changed(Watched::EndpointSlice, slice("api-2", 9, "other", &["10.0.0.2"]));
    assert_eq!(world.endpoints(), [""; 0]);
    world.deleted(Watched::Service, service(10));
    assert_eq!(world.endpoints(), ["there is no Service \"api\" in namespace shop"]);
}

#[test]
fn services_that_are_forbidden_are_said_and_those_that_were_seen_stay() {
    let mut world = World::begin(scope());
    world.keeper.want(wanted(&["Service shop/api:http"]));
    world.hear(Watched::Service, Heard::Failed(Trouble::Forbidden));
    let said = world.endpoints();
    assert_eq!(said, ["Services cannot be seen: the API server forbids it (403)"]);
    world.list(Watched::Service, vec![service(3)]);
    world.list(Watched::EndpointSlice, vec![slice("api-1", 4, "api", &["10.0.0.1"])]);
    assert_eq!(world.endpoints(), ["10.0.0.1:8080"]);
    world.hear(Watched::EndpointSlice, Heard::Failed(Trouble::Forbidden));
    assert_eq!(world.endpoints(), ["10.0.0.1:8080"]);
    // A pool of a namespace that is not watched.
    let mut narrow = World::begin(scope_of(&["blog".parse().unwrap()]));
    narrow.keeper.want(wanted(&["Service shop/api:http"]));
    assert_eq!(
        narrow.endpoints(),
        ["namespace shop is not one that the controller watches"]
    );
}

fn secret(version: u64, share: Option<&str>) -> Heard<Held> {
    let annotations = share.map(|share| json!({"sluice.dev/share-with": share}));
    let secret = serde_json::from_value(json!({
        "metadata": {"name": "tls", "namespace": "certs", "annotations": annotations}, "type": "kubernetes.io/tls",
        "data": {},
    }));
    Heard::Listed(Sighting {
        place: ("certs".parse().unwrap(), "tls".parse().unwrap()),
        uid: "s".into(),
        version: Version::of(&version.to_string()),
        value: Held::of(&secret.unwrap()),
    })
}

#[test]
fn secrets_are_looked_at_only_when_somebody_refers_to_them() {
    let mut world = World::with_pools(vec![]);
    assert!(world.keeper.secrets().is_empty());
    world.keeper.want(wanted(&["Certificate certs/tls"]));
    let secrets = world.keeper.secrets();
    assert_eq!(world.keeper.follow(&secrets, world.now).len(), 1);
    assert!(world.keeper.follow(&secrets, world.now).is_empty(), "it is followed");
    let tls: CertificateRef = "certs/tls".parse().unwrap();
    let state = |world: &mut World| world.values().certificate(&tls).clone();
    assert_eq!(state(&mut world), CertificateState::Unknown);
    world
        .keeper
        .take_secret(&tls, Heard::Failed(Trouble::Forbidden), world.now);
    let CertificateState::Unseen(lack) = state(&mut world) else {
        panic!("{:?}", state(&mut world))
    };
    assert_eq!(
        lack.message,
        "the API server forbids the controller to read Secret certs/tls"
    );
    for heard in [Heard::ListBegins, Heard::ListEnds] {
        world.keeper.take_secret(&tls, heard, world.now);
    }
    assert!(matches!(state(&mut world), CertificateState::Missing(_)));
    for heard in [Heard::ListBegins, secret(5, None), Heard::ListEnds] {
        world.keeper.take_secret(&tls, heard, world.now);
    }
    assert!(
        matches!(state(&mut world), CertificateState::Refused(_)),
        "it has no tls.crt"
    );
    world.keeper.want(wanted(&[]));
    let none = world.keeper.secrets();
    assert!(none.is_empty() && world.keeper.follow(&none, world.now).is_empty());
    assert_eq!(world.keeper.health(true, world.now).secrets, 0);
}

#[test]
fn secrets_outside_the_namespaces_that_are_allowed_are_not_read() {
    let mut world = World::begin(Scope {
        secrets_in: Some(["other".parse().unwrap()].into()),
        ..scope()
    });
    world.keeper.want(wanted(&["Certificate certs/tls"]));
    assert!(world.keeper.secrets().is_empty());
    let CertificateState::Unseen(lack) = world.values().certificate(&"certs/tls".parse().unwrap()).clone() else {
        panic!()
    };
    assert!(lack.fix.contains("--secrets-in"), "{lack:?}");
}

#[test]
fn a_view_waits_a_moment_to_know_whether_a_secret_is_shared() {
    let mut world = World::with_pools(vec![]);
    let spec = json!({
        "rules": [{"name": "all", "pool": "api"}],
        "tls": {"certificates": [{"secretName": "own"}, {"secretName": "tls", "namespace": "certs"}]},
    });
    assert!(!world.keeper.waits_for_shares(world.now));
    world.changed(ROUTE, object(ROUTE, "a", "a", 9, json!({"spec": spec})));
    let tls: CertificateRef = "certs/tls".parse().unwrap();
    let secrets = world.keeper.secrets();
    assert_eq!(
        secrets,
        [tls.clone()].into(),
        "its own is asked for by whoever wants it"
    );
    world.keeper.follow(&secrets, world.now);
    assert!(world.keeper.waits_for_shares(world.now));
    world.pass(SOURCE_SHARES_WAIT_MS);
    assert!(!world.keeper.waits_for_shares(world.now), "not for long");
    for heard in [Heard::ListBegins, secret(5, Some("blog, shop")), Heard::ListEnds] {
        world.keeper.take_secret(&tls, heard, world.now);
    }
    assert!(world.is_changed());
    let view = world.keeper.view(world.now);
    assert_eq!(
        format!("{:?}", view.shares.of(&tls)),
        "Known(With({\"blog\", \"shop\"}))"
    );
    assert!(!world.is_changed());
    world.keeper.take_secret(&tls, secret(6, None), world.now);
    assert!(world.is_changed(), "it is shared no more");
}

#[test]
fn health_names_what_is_missing() {
    let mut world = World::with_pools(vec![pool("a", 5, 80)]);
    world.hear(ROLLOUT, Heard::Failed(Trouble::Forbidden));
    let health = serde_json::to_value(world.keeper.health(true, world.now)).unwrap();
    let of = |kind: &str| {
        let watches = health["watches"].as_array().unwrap();
        watches.iter().find(|watch| watch["kind"] == kind).unwrap().clone()
    };
    assert_eq!(health["isReady"], true);
    assert_eq!(
        (&of("pools")["state"], &of("pools")["objects"]),
        (&json!("seen"), &json!(1))
    );
    assert_eq!(
        of("rollouts")["state"]["lost"]["message"],
        "the API server forbids it (403)"
    );
}
