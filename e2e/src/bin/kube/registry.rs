//! Which checks there are. A new one is a function in `checks/` and a line here.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use anyhow::bail;

use crate::checks;
use crate::options::{Form, Options};
use crate::world::World;

/// What a check gives back.
pub(crate) type Verdict<'a> = Pin<Box<dyn Future<Output = anyhow::Result<()>> + Send + 'a>>;

/// Which clusters a check can run on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Needs {
    /// Any.
    Cluster,
    /// One of `e2e/cluster`: it reads the audit log, stops parts of the node, or sends load from inside its network.
    OwnCluster,
}

/// One check.
#[derive(Clone, Copy)]
pub(crate) struct Check {
    /// What people call it.
    pub(crate) name: &'static str,
    /// What it shows, in a few words.
    pub(crate) shows: &'static str,
    /// It belongs to the full form only if this is [`Form::Full`].
    pub(crate) form: Form,
    /// See [`Needs`].
    pub(crate) needs: Needs,
    /// A check that takes longer has failed: nothing hangs.
    pub(crate) limit: Duration,
    /// The check.
    pub(crate) run: for<'a> fn(&'a World) -> Verdict<'a>,
}

/// A check of any cluster, part of every run.
const fn check(name: &'static str, shows: &'static str, run: for<'a> fn(&'a World) -> Verdict<'a>) -> Check {
    Check {
        name,
        shows,
        form: Form::Short,
        needs: Needs::Cluster,
        limit: Duration::from_secs(300),
        run,
    }
}

/// A check of our own cluster, whose parts it stops, whose audit log it reads or in whose network it sends load.
const fn own(name: &'static str, shows: &'static str, run: for<'a> fn(&'a World) -> Verdict<'a>) -> Check {
    Check {
        needs: Needs::OwnCluster,
        limit: Duration::from_secs(1_800),
        ..check(name, shows, run)
    }
}

/// All of them, in the order in which they run: the cheapest to fail first, and those that share an installation
/// together.
const CHECKS: &[Check] = &[
    own(
        "harness",
        "the audit log tells who wrote what; parts of the node stop and start",
        |world| Box::pin(checks::harness::stands(world)),
    ),
    own(
        "instruments",
        "load sees what goes wrong and nothing else; processes stand still, go on and end when told",
        |world| Box::pin(checks::instruments::hold(world)),
    ),
    check(
        "crds-server-side",
        "CRDs applied twice server-side: no warning, the second time unchanged",
        |world| Box::pin(checks::crds::server_side(world)),
    ),
    check(
        "crds-client-side",
        "CRDs applied twice by plain apply: no warning, unchanged, below 256 KiB",
        |world| Box::pin(checks::crds::client_side(world)),
    ),
    check(
        "chart-lint",
        "helm lint, kubeconform and the API server accept every way of installing; bad values are refused by name",
        |world| Box::pin(checks::packaging::chart_lint(world)),
    ),
    check(
        "kustomize",
        "the kustomize base is what the chart makes; base and overlay conform",
        |world| Box::pin(checks::packaging::kustomize(world)),
    ),
    check(
        "argocd-lua",
        "Argo CD's health and actions for every phase, in its interpreter",
        |world| Box::pin(checks::argocd::lua(world)),
    ),
    check(
        "admission",
        "who may give commands, in whose name; what the chart's accounts may write; warnings where nobody looks",
        |world| Box::pin(checks::admission::table(world)),
    ),
    check(
        "source-follows",
        "the source shows objects, endpoints and certificates as they come, change and go; a status is no change",
        |world| Box::pin(checks::source::follows(world)),
    ),
    check(
        "source-granted",
        "what a Role does not grant is named with the grant, and seen as soon as it is granted",
        |world| Box::pin(checks::source::with_what_is_granted(world)),
    ),
    own(
        "source-crds",
        "CRDs that are missing, come, hold what they refuse, go and come again take nothing out of sight",
        |world| Box::pin(checks::source::crds_come_and_go(world)),
    ),
    own(
        "source-history",
        "etcd compacted under a watch, and restored from an older copy: what is there then is seen",
        |world| Box::pin(checks::source::history(world)),
    ),
    check("explain", "kubectl explain has a text for every field", |world| {
        Box::pin(checks::explain::every_field(world))
    }),
    check(
        "cel",
        "the API server and `sluice lint` agree on every case of the rules' table",
        |world| Box::pin(checks::cel::table(world)),
    ),
    check(
        "examples-diff",
        "every example applied, then kubectl diff is empty, client-side and server-side",
        |world| Box::pin(checks::examples::no_drift(world)),
    ),
    check(
        "images",
        "both images serve a route: restricted, not root, read-only root file system",
        |world| Box::pin(checks::images::serve(world)),
    ),
    Check {
        // Nobody may ask for a token that ends within ten minutes.
        limit: Duration::from_secs(1_200),
        ..check(
            "identity",
            "no, expired, wrong-audience, deleted-pod and other-fleet credentials are refused on every RPC",
            |world| Box::pin(checks::identity::refusals(world)),
        )
    },
    check(
        "keys",
        "the Secret of keys and the ConfigMaps of trust: made once, mended, never replaced; keys replaced in steps",
        |world| Box::pin(checks::keys::kept(world)),
    ),
    check(
        "columns",
        "kubectl get of all kinds in every phase; the full name works beside another CRD of that name",
        |world| Box::pin(checks::columns::golden(world)),
    ),
    own(
        "examples-no-writes",
        "the examples again under a controller: no drift, and no write of ours but status",
        |world| Box::pin(checks::examples::no_writes(world)),
    ),
    check(
        "bad-objects",
        "each bad object is refused with its field, or told so in its status; lint says the same",
        |world| Box::pin(checks::bad_objects::refused_or_told(world)),
    ),
    own(
        "plugin",
        "kubectl sluice by users with few rights and enough: refusals, commands in their names, views of live instances",
        |world| Box::pin(checks::plugin::as_kubectl_runs_it(world)),
    ),
    own(
        "programmed",
        "whoever waits for Programmed gets what was written, from every instance, also from one that stood still",
        |world| Box::pin(checks::programmed::truth(world)),
    ),
    own(
        "changes",
        "a good change is promoted; a bad one is undone, its culprit named everywhere, others' changes go on",
        |world| Box::pin(checks::changes::story(world)),
    ),
    own(
        "quarantined",
        "a broken object among fifty serves as before, also after a restart of the controller; the others change",
        |world| Box::pin(checks::changes::quarantined(world)),
    ),
    own(
        "scale-backend",
        "endpoints are used and dropped at once, without a revision; the removal brake; flaps cost little",
        |world| Box::pin(checks::scale_backend::follow(world)),
    ),
    own(
        "restarts",
        "rolling restarts of gateway and backend lose no request; no pod is ready without a revision",
        |world| Box::pin(checks::restarts::nothing_is_lost(world)),
    ),
    own(
        "streams",
        "rolling restarts of the gateway fail no call of gRPC and no WebSocket but by its drain",
        |world| Box::pin(checks::streams::nothing_is_lost(world)),
    ),
    own(
        "certificate",
        "a renewed certificate is shown at once and closes no connection; one without its key is refused",
        |world| Box::pin(checks::certificate::renewed(world)),
    ),
    own(
        "client-certificates",
        "clients are let in by their certificates, per host and per rule, and nothing leads around it",
        |world| Box::pin(checks::clients::show_certificates(world)),
    ),
    own(
        "proxy-protocol",
        "a load balancer that is named says who the client is; nobody else is believed",
        |world| Box::pin(checks::clients::are_introduced(world)),
    ),
    own(
        "quiet",
        "idle: no write; a thousand routes: one each; restarts and scaling: none; foreign conditions survive",
        |world| Box::pin(checks::quiet::nothing_to_say(world)),
    ),
    own(
        "scalability",
        "very many routes: time, memory, one change among them, growth of etcd, history pruned",
        |world| Box::pin(checks::scale::many(world)),
    ),
    own(
        "leader-killed",
        "the leader killed in the middle of a bake: same stage, same members, no less observed",
        |world| Box::pin(checks::leader::killed(world)),
    ),
    own(
        "leader-stopped",
        "the leader stopped: the lease is handed over within seconds",
        |world| Box::pin(checks::leader::stopped(world)),
    ),
    own(
        "leader-frozen",
        "the leader frozen until another leads, then thawed: it writes nothing any more",
        |world| Box::pin(checks::leader::frozen(world)),
    ),
    own(
        "api-away",
        "API server stopped and frozen: all is served, and afterwards nobody has missed anything",
        |world| Box::pin(checks::api_away::served(world)),
    ),
    own(
        "record-lost",
        "record or Rollout deleted, etcd restored from an older copy: new orders, nothing old is replayed",
        |world| Box::pin(checks::record_lost::new_orders(world)),
    ),
    own(
        "isolation",
        "a pod that is no member gets nothing of a fleet; a member of another gets that one's alone",
        |world| Box::pin(checks::isolation::kept_apart(world)),
    ),
    own(
        "sidecar",
        "the example in a restricted namespace: start, Job, restart under load, a bad change undone",
        |world| Box::pin(checks::sidecar::in_front(world)),
    ),
    own(
        "incomplete-view",
        "without CRDs, with a kind forbidden, with an object that cannot be read: nothing is signed from a part",
        |world| Box::pin(checks::incomplete_view::nothing_from_a_part(world)),
    ),
    own(
        "chart-install",
        "installed, upgraded, rolled back and uninstalled under load; users' objects stay, nothing else",
        |world| Box::pin(checks::chart_install::life(world)),
    ),
    own(
        "installation",
        "what is kept belongs to the installation: without it nothing is written, with keepState it outlives an uninstall",
        |world| Box::pin(checks::installation::owns(world)),
    ),
    Check {
        form: Form::Full,
        ..own(
            "argocd-live",
            "a real Argo CD: chart and example Synced and Healthy for good, a bad commit Degraded, the buttons",
            |world| Box::pin(checks::argocd_live::follows(world)),
        )
    },
    Check {
        limit: Duration::from_secs(900),
        ..check(
            "docs",
            "the commands of the documents, run as a reader would: install, permissions, upgrade, uninstall",
            |world| Box::pin(checks::docs::told(world)),
        )
    },
    // Last: it looks at what all of them needed.
    own(
        "permissions",
        "what the chart grants is what is used; the data plane's account calls nobody and can do nothing",
        |world| Box::pin(checks::permissions::used(world)),
    ),
];

/// The checks asked for by name, or by the beginning of one; without names all of the form.
pub(crate) fn chosen(options: &Options) -> anyhow::Result<Vec<Check>> {
    for name in &options.names {
        if !CHECKS.iter().any(|check| check.name.starts_with(name.as_str())) {
            bail!("no check begins with {name:?}; e2e/run --list says which there are");
        }
    }
    let named = |check: &Check| options.names.iter().any(|name| check.name.starts_with(name.as_str()));
    let of_form = |check: &Check| options.form == Form::Full || check.form == Form::Short;
    let all = CHECKS.iter().copied();
    Ok(if options.names.is_empty() {
        all.filter(of_form).collect()
    } else {
        all.filter(named).collect()
    })
}

/// One line each.
pub(crate) fn print(checks: &[Check]) {
    for check in checks {
        let form = match check.form {
            Form::Short => "",
            Form::Full => " (--full)",
        };
        println!("{:<20} {}{form}", check.name, check.shows);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_no_ones_beginning() {
        for (index, check) in CHECKS.iter().enumerate() {
            for (other, another) in CHECKS.iter().enumerate() {
                let taken = index != other && another.name.starts_with(check.name);
                assert!(!taken, "{} would also run {}", check.name, another.name);
            }
        }
    }
}
