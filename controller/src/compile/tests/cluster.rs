//! What compile promises about objects of a cluster: who governs, whose hosts and namespaces count, and what is out of
//! sight there.

use super::*;
use crate::source::cluster::{Cluster, Namespace};
use crate::source::{Area, Shares};
use crate::validate::Governed;

/// A namespace's name, when it was created, and its labels.
type Known<'a> = (&'a str, u64, &'a [(&'a str, &'a str)]);

/// The objects of `text`, in a cluster whose controller is in namespace `shop`; namespaces as `name created labels`.
fn cluster_view(text: &str, namespaces: &[Known<'_>]) -> View {
    let known = namespaces.iter().map(|(name, created, labels)| {
        let labels = labels.iter().map(|(key, value)| ((*key).into(), (*value).into()));
        let namespace = Namespace {
            created_at_seconds: Some(*created),
            labels: labels.collect(),
        };
        (name.parse().unwrap(), namespace)
    });
    let cluster = Cluster {
        controller: "shop".parse().unwrap(),
        namespaces: known.collect(),
    };
    View {
        cluster: Some(Arc::new(cluster)),
        ..view(text)
    }
}

const ALIKE: &[Known<'static>] = &[("shop", 1, &[]), ("blog", 1, &[]), ("zoo", 1, &[])];

fn in_cluster(text: &str) -> View {
    cluster_view(text, ALIKE)
}

impl World {
    fn in_cluster(view: &View) -> Self {
        let mut world = Self::new();
        let (compiled, problems) = world.compile(view);
        assert!(!problems.iter().any(Problem::is_error), "{problems:?}");
        world.promote(&compiled);
        world
    }
}

fn told(problems: &[Problem]) -> Vec<String> {
    problems.iter().map(ToString::to_string).collect()
}

fn hosting(name: &str, host: &str) -> String {
    doc(
        "ProxyRoute",
        name,
        &format!("{{fleet: edge, hostnames: ['{host}'], rules: [{{name: all, pool: api}}]}}"),
    )
}

fn pools(namespaces: &[&str]) -> String {
    namespaces
        .iter()
        .map(|namespace| pool(&format!("{namespace}/api"), 80))
        .collect()
}

fn without(areas: &[(Kind, Option<&str>)]) -> Coverage {
    let area = |(kind, namespace): &(Kind, Option<&str>)| Area {
        kind: *kind,
        namespace: namespace.map(|name| name.parse().unwrap()),
    };
    Coverage::Without(areas.iter().map(area).collect())
}

#[test]
fn the_oldest_namespace_owns_a_host_whoever_served_it_and_whichever_route_is_older() {
    let base = [rollout(), pools(&["shop", "blog", "zoo"])].concat();
    let old_route = hosting("zoo/a", "a.example.com").replace(
        "namespace: zoo}",
        "namespace: zoo, creationTimestamp: '1999-01-01T00:00:00Z'}",
    );
    let ages: &[Known<'_>] = &[("shop", 9, &[]), ("blog", 2, &[]), ("zoo", 5, &[])];
    let mut world = World::in_cluster(&cluster_view(&[base.clone(), old_route.clone()].concat(), ages));
    let both = [base, old_route, hosting("blog/a", "a.example.com")].concat();
    let (compiled, problems) = world.compile(&cluster_view(&both, ages));
    assert_eq!(changed(&compiled), ["ProxyRoute blog/a", "Pool blog/api"]);
    let errors: Vec<_> = problems.iter().filter(|problem| problem.is_error()).collect();
    assert_eq!(errors.len(), 1, "{problems:?}");
    let line = errors[0].to_string();
    for part in [
        "ProxyRoute zoo/a spec.hostnames[0]: a.example.com belongs to namespace blog, by ProxyRoute blog/a",
        "the oldest of the namespaces that name a host owns it",
        "its last good form keeps serving",
    ] {
        assert!(line.contains(part), "{line}");
    }
}

#[test]
fn of_namespaces_of_one_age_the_first_by_name_owns_a_host_and_an_unknown_one_is_youngest() {
    let all = [
        rollout(),
        pools(&["shop", "blog", "zoo"]),
        hosting("zoo/a", "a.example.com"),
        hosting("blog/a", "a.example.com"),
    ]
    .concat();
    let owner = |namespaces: &[Known<'_>]| {
        let (_, problems) = World::new().compile(&cluster_view(&all, namespaces));
        let lines = told(&problems);
        let line = lines.iter().find(|line| line.contains("belongs to")).unwrap().clone();
        line.split("belongs to namespace ")
            .nth(1)
            .unwrap()
            .split(',')
            .next()
            .unwrap()
            .to_owned()
    };
    assert_eq!(owner(ALIKE), "blog");
    assert_eq!(owner(&[("zoo", 7, &[]), ("shop", 1, &[])]), "zoo");
}

#[test]
fn a_wildcard_and_a_host_below_it_are_two_hosts() {
    let all = [
        rollout(),
        pools(&["shop", "blog"]),
        hosting("shop/a", "*.example.com"),
        hosting("blog/a", "a.example.com"),
    ]
    .concat();
    let (compiled, problems) = World::new().compile(&in_cluster(&all));
    assert_eq!(told(&problems), [""; 0]);
    let snapshot = compiled.snapshot.unwrap();
    assert!(snapshot.unit(&key("ProxyRoute blog/a")).is_some() && snapshot.unit(&key("ProxyRoute shop/a")).is_some());
}

#[test]
fn only_rollouts_of_the_controllers_namespace_govern_and_consent() {
    let routes: String = ["a", "b", "c", "d"].map(|name| route(name, "api")).concat();
    let base = [rollout(), pool("api", 80)].concat();
    let mut world = World::in_cluster(&in_cluster(&[base.clone(), routes].concat()));
    let (_, problems) = world.compile(&in_cluster(&base));
    let on_rollout = problems
        .iter()
        .find(|problem| problem.object == Some(key("Rollout shop/edge")));
    let on_rollout = on_rollout.expect("said where people look");
    assert!(
        !on_rollout.is_error() && on_rollout.fix.contains(CONSENT_ANNOTATION),
        "{on_rollout}"
    );
    let token = problems[0].fix.split('"').nth(1).unwrap().to_owned();
    let stranger = rollout()
        .replace(
            "namespace: shop}",
            &format!("namespace: blog, annotations: {{{CONSENT_ANNOTATION}: \"{token}\"}}}}"),
        )
        .replace("8080", "9090");
    let (compiled, problems) = world.compile(&in_cluster(&[base, stranger].concat()));
    assert_eq!(changed(&compiled), [""; 0], "a stranger's consent counts for nothing");
    let lines = told(&problems);
    let line = lines.iter().find(|line| line.contains("Rollout blog/edge")).unwrap();
    assert!(
        line.contains("only Rollouts in namespace shop, the controller's, govern a fleet; move it there"),
        "{line}"
    );

    // Alone it is as if there were none.
    let alone = [stranger_only(), pool("api", 80), route("a", "api")].concat();
    let (compiled, problems) = World::new().compile(&in_cluster(&alone));
    assert!(compiled.snapshot.is_none());
    assert!(
        told(&problems)
            .iter()
            .any(|line| line.contains("no Rollout says how fleet edge listens")),
        "{problems:?}"
    );
}

#[test]
fn a_route_of_a_fleet_without_a_rollout_waits_whatever_is_wrong_with_others() {
    let wrong = rollout().replace("edge", "wrong").replace("port: 8080", "port: 0");
    let route = route("a", "api").replace("fleet: edge", "fleet: nobodys");
    let all = [rollout(), pool("api", 80), route, wrong].concat();
    let (_, problems) = World::new().compile(&in_cluster(&all));
    let of_route = |problem: &&Problem| problem.object == Some(key("ProxyRoute shop/a"));
    assert_eq!(problems.iter().find(of_route), None, "the route itself is in order");
    assert!(
        problems
            .iter()
            .any(|problem| problem.object == Some(key("Rollout shop/wrong"))),
        "{problems:?}"
    );
}

#[test]
fn a_fleet_is_governed_while_a_rollout_is_or_may_be_there() {
    let base = [pool("api", 80), route("a", "api")].concat();
    let with = |rollout: String| in_cluster(&[rollout, base.clone()].concat());
    let governed = |view: &View| World::in_cluster(&with(rollout())).compile(view).0.governed;
    assert_eq!(governed(&with(rollout())), Governed::ByRollout);
    assert_eq!(governed(&with(String::new())), Governed::ByNobody);
    assert_eq!(governed(&with(stranger_only())), Governed::ByNobody);
    let elsewhere = rollout().replace("fleet: edge", "fleet: other");
    assert_eq!(governed(&with(elsewhere)), Governed::ByNobody);
    // What cannot be read, or seen, may be the one.
    let wrong = rollout().replace("edge", "wrong").replace("port: 8080", "port: 0");
    assert_eq!(governed(&with(wrong)), Governed::ByRollout);
    let mut hidden = with(String::new());
    hidden.coverage = without(&[(Kind::Rollout, None)]);
    assert_eq!(governed(&hidden), Governed::ByRollout);
}

fn stranger_only() -> String {
    rollout().replace("namespace: shop}", "namespace: blog}")
}

#[test]
fn a_service_account_is_in_one_fleet() {
    let other = rollout().replace("edge", "other");
    let (_, problems) = World::new().compile(&in_cluster(&[rollout(), other].concat()));
    assert!(
        told(&problems)[0]
            .contains("service account shop/sluice-dataplane is a member of the fleet of Rollout shop/edge already"),
        "{problems:?}"
    );
}

fn local(name: &str, address: &str) -> String {
    pool(name, 9901).replace("10.0.0.1", address)
}

/// A gateway's own ports are nobody's to publish; a sidecar's pod is its team's.
#[test]
fn a_loopback_endpoint_is_for_fleets_whose_instances_are_all_of_its_namespace() {
    let sidecar = |members: &str| rollout().replace("fleet: edge,", &format!("fleet: edge, members: [{members}],"));
    let blog = "{namespace: blog, serviceAccountName: app}";
    let both = format!("{blog}, {{namespace: zoo, serviceAccountName: app}}");
    for address in ["127.0.0.1", "127.9.9.9", "::1"] {
        let objects = [local("blog/own", &format!("'{address}'")), route("blog/a", "own")].concat();
        for (rollout, why) in [
            (rollout(), "they run in namespace shop, not in blog"),
            (sidecar(&both), "they run in namespace zoo, not in blog"),
        ] {
            let (compiled, problems) = World::new().compile(&in_cluster(&[rollout, objects.clone()].concat()));
            assert_eq!(compiled.snapshot.unwrap().routes().count(), 0);
            let lines = told(&problems).join("\n");
            let field = "Pool blog/own spec.endpoints[0].address: ";
            assert!(lines.contains(field) && lines.contains(why), "{lines}");
        }
        let own = [sidecar(blog), objects.clone()].concat();
        assert_eq!(World::in_cluster(&in_cluster(&own)).stable().routes().count(), 1);
        // Outside of a cluster the files are of the machine that serves them.
        let files = [rollout(), objects].concat();
        assert_eq!(World::with(&files).stable().routes().count(), 1);
    }
    // What a pool becomes later counts as well, and what it was keeps serving.
    let text = |pool: String| [rollout(), pool, route("blog/a", "api")].concat();
    let mut world = World::in_cluster(&in_cluster(&text(pool("blog/api", 80))));
    let (compiled, _) = world.compile(&in_cluster(&text(local("blog/api", "127.0.0.1"))));
    assert_eq!(changed(&compiled), [""; 0]);
    assert_eq!(
        reasons(&compiled),
        [("Pool blog/api".into(), Reason::Error, Effect::LastGoodServes)]
    );

    // A route of a gateway onto a sidecar's Pool is that route's mistake, and the sidecars get what is written.
    let gate = rollout().replace("edge", "gate");
    let stray = route("blog/stray", "own").replace("fleet: edge", "fleet: gate");
    let text = |port: &str| {
        let own = local("blog/own", "127.0.0.1").replace("9901", port);
        [sidecar(blog), gate.clone(), own, route("blog/a", "own"), stray.clone()].concat()
    };
    let mut world = World::new();
    let (compiled, problems) = world.compile(&in_cluster(&text("9101")));
    world.promote(&compiled);
    let wrong: Vec<_> = problems.iter().filter(|problem| problem.is_error()).collect();
    assert_eq!(wrong.len(), 1, "{problems:?}");
    assert_eq!(wrong[0].object, Some(key("ProxyRoute blog/stray")));
    let (compiled, _) = world.compile(&in_cluster(&text("9102")));
    assert_eq!(changed(&compiled), ["Pool blog/own"]);
}

fn selecting() -> String {
    rollout().replace("fleet: edge,", "fleet: edge, namespaces: {matchLabels: {edge: 'yes'}},")
}

#[test]
fn a_fleet_serves_the_namespaces_that_its_rollout_selects() {
    let routes = [route("shop/a", "api"), route("blog/b", "api"), route("blog/c", "api")].concat();
    let text = |rollout: String| [rollout, pools(&["shop", "blog"]), routes.clone()].concat();
    let yes: &[(&str, &str)] = &[("edge", "yes")];
    let both: &[Known<'_>] = &[("shop", 1, yes), ("blog", 2, yes)];
    let mut world = World::in_cluster(&cluster_view(&text(selecting()), both));
    assert_eq!(world.stable().routes().count(), 3);

    // What a namespace's label no longer selects leaves as if it were deleted.
    let (compiled, problems) = world.compile(&cluster_view(&text(selecting()), &[("shop", 1, yes), ("blog", 2, &[])]));
    assert_eq!(
        changed(&compiled),
        ["ProxyRoute blog/b", "ProxyRoute blog/c", "Pool blog/api"]
    );
    let line = &told(&problems)[0];
    for part in [
        "ProxyRoute blog/b spec.fleet: fleet edge does not serve namespace blog",
        "Rollout shop/edge selects namespaces with edge=yes",
        "it is not served until then",
    ] {
        assert!(line.contains(part), "{line}");
    }

    // A namespace that cannot be seen: what serves goes on, with its changes; what is new waits.
    let more = [text(selecting()), route("blog/d", "api")]
        .concat()
        .replace("blog-b.", "changed.");
    let (compiled, problems) = world.compile(&cluster_view(&more, &[("shop", 1, yes)]));
    assert_eq!(changed(&compiled), ["ProxyRoute blog/b"], "{problems:?}");
    assert!(
        told(&problems)[0]
            .contains("ProxyRoute blog/d spec.fleet: whether fleet edge serves namespace blog cannot be told"),
        "{problems:?}"
    );

    // So does a Rollout that cannot be read.
    let broken = text(selecting()).replace("port: 8080", "port: 0") + &route("blog/d", "api");
    let (compiled, _) = world.compile(&cluster_view(&broken, both));
    assert_eq!(changed(&compiled), [""; 0]);
}

#[test]
fn a_held_back_removal_by_a_label_stays_held_back() {
    let text = [
        selecting(),
        pools(&["shop", "blog"]),
        route("shop/a", "api"),
        route("blog/b", "api"),
    ]
    .concat();
    let yes: &[(&str, &str)] = &[("edge", "yes")];
    let mut world = World::in_cluster(&cluster_view(&text, &[("shop", 1, yes), ("blog", 2, yes)]));
    world.state.held.insert((key("ProxyRoute blog/b"), None));
    let (compiled, _) = world.compile(&cluster_view(&text, &[("shop", 1, yes), ("blog", 2, &[])]));
    assert_eq!(
        (changed(&compiled).len(), compiled.still_held),
        (0, vec![key("ProxyRoute blog/b")])
    );
}

#[test]
fn of_a_view_without_a_kind_nothing_is_signed_and_nothing_is_lost() {
    let text = [rollout(), pool("api", 80), route("a", "api")].concat();
    let mut world = World::in_cluster(&in_cluster(&text));
    for kind in Kind::ALL {
        let mut seen = in_cluster(&[rollout(), pool("api", 81), route("a", "api"), route("b", "api")].concat());
        seen.objects = seen
            .objects
            .iter()
            .filter(|object| object.key.kind != kind)
            .cloned()
            .collect();
        seen.coverage = without(&[(kind, None)]);
        let (compiled, problems) = world.compile(&seen);
        assert!(
            compiled.snapshot.is_none() && compiled.changed.is_empty(),
            "{kind}: {:?}",
            compiled.changed
        );
        // Only what is new can lack something that is out of sight.
        for problem in &problems {
            assert!(problem.to_string().contains("ProxyRoute shop/b"), "{kind}: {problem}");
        }
        let (fresh, _) = World::new().compile(&seen);
        assert!(fresh.snapshot.is_none(), "{kind}");
    }
}

#[test]
fn a_namespace_out_of_sight_keeps_what_it_had_and_the_others_go_on() {
    let text = |port| {
        [
            rollout(),
            pool("api", port),
            pool("blog/api", 80),
            route("a", "api"),
            route("blog/b", "api"),
        ]
    };
    let mut world = World::in_cluster(&in_cluster(&text(80).concat()));
    let mut seen = in_cluster(&[text(81).concat(), route("blog/c", "spare")].concat());
    let hidden = [key("Pool blog/api"), key("ProxyRoute blog/b")];
    seen.objects = seen
        .objects
        .iter()
        .filter(|object| !hidden.contains(&object.key))
        .cloned()
        .collect();
    seen.coverage = without(&[(Kind::Pool, Some("blog")), (Kind::ProxyRoute, Some("blog"))]);
    let (compiled, problems) = world.compile(&seen);
    assert_eq!(changed(&compiled), ["Pool shop/api"], "{problems:?}");
    assert_eq!(
        reasons(&compiled)
            .iter()
            .filter(|(_, reason, _)| *reason == Reason::Unseen)
            .count(),
        2,
        "{:?}",
        reasons(&compiled)
    );
    let line = &told(&problems)[0];
    assert!(
        line.contains("ProxyRoute blog/c spec.rules[0].pool: the Pools of namespace blog cannot be seen"),
        "{line}"
    );
    // A fleet that serves nothing yet has nothing to put in place of what is missing.
    assert!(World::new().compile(&seen).0.snapshot.is_none());
    // Objects do not move between namespaces: one that is gone elsewhere is gone.
    seen.objects = seen
        .objects
        .iter()
        .filter(|object| object.key != key("ProxyRoute shop/a"))
        .cloned()
        .collect();
    let (compiled, _) = world.compile(&seen);
    assert!(
        changed(&compiled).contains(&"ProxyRoute shop/a".to_owned()),
        "{:?}",
        changed(&compiled)
    );
}

#[test]
fn a_certificate_of_another_namespace_needs_its_owners_word() {
    use crate::source::shares::{Share, Sharing};
    let certificate = doc(
        "ProxyRoute",
        "a",
        "{fleet: edge, rules: [{name: all, pool: api}], tls: {certificates: [{secretName: own}, {secretName: common, namespace: certs}]}}",
    );
    let text = [rollout(), pool("api", 80), certificate].concat();
    let with = |sharing: Sharing| {
        let known = [("certs/common".parse().unwrap(), sharing)].into();
        let shares = Shares {
            known,
            others: Sharing::NotYet,
        };
        View {
            shares: Arc::new(shares),
            ..in_cluster(&text)
        }
    };
    let (compiled, problems) = World::new().compile(&with(Sharing::Known(Share::Everybody)));
    assert_eq!(told(&problems), [""; 0]);
    assert_eq!(compiled.snapshot.unwrap().live_subjects().len(), 2);
    for (sharing, expected) in [
        (Sharing::NotYet, "is not known yet"),
        (Sharing::Missing, "there is no Secret certs/common"),
        (
            Sharing::Known(Share::default()),
            "Secret certs/common is not shared with namespace shop",
        ),
        (
            Sharing::Unseen(crate::live::Lack::new("forbidden", "grant it")),
            "cannot be told: forbidden; grant it",
        ),
    ] {
        let (compiled, problems) = World::new().compile(&with(sharing));
        assert!(compiled.snapshot.unwrap().live_subjects().is_empty());
        let lines = told(&problems);
        assert!(
            lines
                .iter()
                .any(|line| line.contains("spec.tls.certificates[1].namespace") && line.contains(expected)),
            "{lines:?}"
        );
    }
}
