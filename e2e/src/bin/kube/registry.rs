//! Which checks there are. A new one is a function in `checks/` and a line here.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use anyhow::bail;

use crate::checks::{
    admission, api_away, argocd, bad_objects, cel, certificate, changes, chart_install, columns, crds, docs, examples,
    explain, harness, identity, images, incomplete_view, keys, leader, packaging, permissions, programmed, quiet,
    record_lost, restarts, scale, scale_backend,
};
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
        |world| Box::pin(harness::stands(world)),
    ),
    check(
        "crds-server-side",
        "CRDs applied twice server-side: no warning, the second time unchanged",
        |world| Box::pin(crds::server_side(world)),
    ),
    check(
        "crds-client-side",
        "CRDs applied twice by plain apply: no warning, unchanged, below 256 KiB",
        |world| Box::pin(crds::client_side(world)),
    ),
    check(
        "chart-lint",
        "helm lint, kubeconform and the API server accept every way of installing; bad values are refused by name",
        |world| Box::pin(packaging::chart_lint(world)),
    ),
    check(
        "kustomize",
        "the kustomize base is what the chart makes; base and overlay conform",
        |world| Box::pin(packaging::kustomize(world)),
    ),
    check(
        "argocd-lua",
        "Argo CD's health and actions for every phase, in its interpreter",
        |world| Box::pin(argocd::lua(world)),
    ),
    check(
        "admission",
        "who may give commands, in whose name; what the chart's accounts may write; warnings where nobody looks",
        |world| Box::pin(admission::table(world)),
    ),
    check("explain", "kubectl explain has a text for every field", |world| {
        Box::pin(explain::every_field(world))
    }),
    check(
        "cel",
        "the API server and `sluice lint` agree on every case of the rules' table",
        |world| Box::pin(cel::table(world)),
    ),
    check(
        "examples-diff",
        "every example applied, then kubectl diff is empty, client-side and server-side",
        |world| Box::pin(examples::no_drift(world)),
    ),
    check(
        "images",
        "both images serve a route: restricted, not root, read-only root file system",
        |world| Box::pin(images::serve(world)),
    ),
    Check {
        // Nobody may ask for a token that ends within ten minutes.
        limit: Duration::from_secs(1_200),
        ..check(
            "identity",
            "no, expired, wrong-audience, deleted-pod and other-fleet credentials are refused on every RPC",
            |world| Box::pin(identity::refusals(world)),
        )
    },
    check(
        "keys",
        "the Secret of keys and the ConfigMaps of trust: made once, mended, never replaced; keys replaced in steps",
        |world| Box::pin(keys::kept(world)),
    ),
    check(
        "columns",
        "kubectl get of all kinds in every phase; the full name works beside another CRD of that name",
        |world| Box::pin(columns::golden(world)),
    ),
    own(
        "examples-no-writes",
        "the examples again under a controller: no drift, and no write of ours but status",
        |world| Box::pin(examples::no_writes(world)),
    ),
    check(
        "bad-objects",
        "each bad object is refused with its field, or told so in its status; lint says the same",
        |world| Box::pin(bad_objects::refused_or_told(world)),
    ),
    own(
        "programmed",
        "whoever waits for Programmed gets what was written, from every instance, also from one that stood still",
        |world| Box::pin(programmed::truth(world)),
    ),
    own(
        "changes",
        "a good change is promoted; a bad one is undone, its culprit named everywhere, others' changes go on",
        |world| Box::pin(changes::story(world)),
    ),
    own(
        "quarantined",
        "a broken object among fifty serves as before, also after a restart of the controller; the others change",
        |world| Box::pin(changes::quarantined(world)),
    ),
    own(
        "scale-backend",
        "endpoints are used and dropped at once, without a revision; the removal brake; flaps cost little",
        |world| Box::pin(scale_backend::follow(world)),
    ),
    own(
        "restarts",
        "rolling restarts of gateway and backend lose no request; no pod is ready without a revision",
        |world| Box::pin(restarts::nothing_is_lost(world)),
    ),
    own(
        "certificate",
        "a renewed certificate is shown at once and closes no connection; one without its key is refused",
        |world| Box::pin(certificate::renewed(world)),
    ),
    own(
        "quiet",
        "idle: no write; a thousand routes: one each; restarts and scaling: none; foreign conditions survive",
        |world| Box::pin(quiet::nothing_to_say(world)),
    ),
    own(
        "scalability",
        "very many routes: time, memory, one change among them, growth of etcd, history pruned",
        |world| Box::pin(scale::many(world)),
    ),
    own(
        "leader-killed",
        "the leader killed in the middle of a bake: same stage, same members, no less observed",
        |world| Box::pin(leader::killed(world)),
    ),
    own(
        "leader-stopped",
        "the leader stopped: the lease is handed over within seconds",
        |world| Box::pin(leader::stopped(world)),
    ),
    own(
        "leader-frozen",
        "the leader frozen until another leads, then thawed: it writes nothing any more",
        |world| Box::pin(leader::frozen(world)),
    ),
    own(
        "api-away",
        "API server stopped and frozen: all is served, and afterwards nobody has missed anything",
        |world| Box::pin(api_away::served(world)),
    ),
    own(
        "record-lost",
        "record or Rollout deleted, etcd restored from an older copy: new orders, nothing old is replayed",
        |world| Box::pin(record_lost::new_orders(world)),
    ),
    own(
        "permissions",
        "what the chart grants is what is used; the data plane's account calls nobody and can do nothing",
        |world| Box::pin(permissions::used(world)),
    ),
    own(
        "incomplete-view",
        "without CRDs, with a kind forbidden, with an object that cannot be read: nothing is signed from a part",
        |world| Box::pin(incomplete_view::nothing_from_a_part(world)),
    ),
    own(
        "chart-install",
        "installed, upgraded, rolled back and uninstalled under load; users' objects stay, nothing else",
        |world| Box::pin(chart_install::life(world)),
    ),
    Check {
        limit: Duration::from_secs(900),
        ..check(
            "docs",
            "the commands of the documents, run as a reader would: install, permissions, upgrade, uninstall",
            |world| Box::pin(docs::told(world)),
        )
    },
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
