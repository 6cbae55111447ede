//! Which checks there are. A new one is a function in `checks/` and a line here.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use anyhow::bail;

use crate::checks::{admission, argocd, cel, crds, docs, examples, explain, harness, images, packaging};
use crate::options::{Form, Options};
use crate::world::World;

/// What a check gives back.
pub(crate) type Verdict<'a> = Pin<Box<dyn Future<Output = anyhow::Result<()>> + Send + 'a>>;

/// Which clusters a check can run on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Needs {
    /// Any.
    Cluster,
    /// One of `e2e/cluster`: it reads the audit log, or stops parts of the node.
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

/// All of them, in the order in which they run: the cheapest to fail first.
const CHECKS: &[Check] = &[
    Check {
        needs: Needs::OwnCluster,
        ..check(
            "harness",
            "the audit log tells who wrote what; parts of the node stop and start",
            |world| Box::pin(harness::stands(world)),
        )
    },
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
        "examples",
        "every example applied, then kubectl diff is empty, client-side and server-side",
        |world| Box::pin(examples::no_drift(world)),
    ),
    check(
        "images",
        "both images serve a route: restricted, not root, read-only root file system",
        |world| Box::pin(images::serve(world)),
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
