//! What does not work around the fleets, told on the Rollouts whose instances it touches: namespaces whose pods cannot
//! learn whom to trust, and fleets whose instances trust keys that are lost. Warnings: the Rollouts themselves are in order.

use std::collections::BTreeSet;

use sluice_model::ObjectKey;

use crate::members::Memberships;
use crate::problem::{FieldPath, Problem, Severity};
use crate::sign::Signers;
use crate::translate::{Meaning, Translation};
use crate::trust::config_maps::Troubles;

/// What to say of the Rollouts in `translation`.
pub(super) fn problems(
    translation: &Translation,
    memberships: Option<&Memberships>,
    untrusting: &Troubles,
    signers: &Signers,
) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (namespace, trouble) in untrusting {
        let rollouts = memberships
            .into_iter()
            .flat_map(|members| members.rollouts_in(namespace));
        let rollouts: BTreeSet<&ObjectKey> = rollouts.collect();
        let items = rollouts.into_iter().filter_map(|key| translation.items.get(key));
        problems.extend(items.map(|item| {
            let field = FieldPath::root("spec").field("members");
            item.object.problem(Severity::Warning, field, trouble.clone(), "")
        }));
    }
    for item in translation.items.values() {
        if let Some(Meaning::Rollout { fleet, .. }) = &item.meaning
            && signers.are_new_to(fleet)
        {
            let (message, fix) = (NEW_KEYS, NEW_KEYS_FIX);
            problems.push(
                item.object
                    .problem(Severity::Warning, FieldPath::default(), message, fix),
            );
        }
    }
    problems
}

const NEW_KEYS: &str = "the keys are new, since Secret sluice-keys was gone when the controller started: instances that \
                        were enrolled before trust the old ones, and take nothing from this controller";
const NEW_KEYS_FIX: &str = "restart every pod of the data plane (kubectl rollout restart), sidecars too; until then they \
                            serve on what they have";

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use sluice_model::FleetName;

    use super::*;
    use crate::keys::Keys;
    use crate::members::members;
    use crate::sign::{MarkError, Marks};
    use crate::source::{manifest, yaml};
    use crate::translate::translate;

    /// Keys that are new to one fleet.
    #[derive(Debug)]
    struct NewTo(&'static str);

    impl Marks for NewTo {
        fn are_unused(&self) -> bool {
            false
        }

        fn never_signed_for(&self, _: &FleetName) -> bool {
            false
        }

        fn are_new_to(&self, fleet: &FleetName) -> bool {
            fleet.as_str() == self.0
        }

        fn are_trusted_in(&self, _: &FleetName) -> Result<(), MarkError> {
            Ok(())
        }

        fn note(&self, _: &FleetName) -> Result<(), MarkError> {
            Ok(())
        }
    }

    fn rollout(fleet: &str, accounts: &[&str]) -> String {
        let member = |account: &&str| format!("{{namespace: shop, serviceAccountName: {account}}}");
        let members: Vec<String> = accounts.iter().map(member).collect();
        format!(
            "---\n{{apiVersion: sluice.dev/v1alpha1, kind: Rollout, metadata: {{name: {fleet}, namespace: sluice-system}}, \
             spec: {{fleet: {fleet}, dataPlane: {{listeners: [{{name: http, port: 80}}]}}, members: [{}]}}}}\n",
            members.join(", ")
        )
    }

    #[test]
    fn the_rollouts_whose_instances_are_touched_say_so() {
        let text = [rollout("edge", &["a", "b"]), rollout("other", &["c"])].concat();
        let read = manifest::read(&"a.yaml".into(), yaml::documents(&text).unwrap());
        let objects = read.objects.into_iter().collect();
        let translation = translate(&objects, None, &Translation::default());
        let memberships = members(&objects, "sluice-system", None);
        let state = tempfile::tempdir().unwrap();
        let signers = |fleet| {
            let signers = Keys::open(state.path()).unwrap().into_signers();
            signers.with_marks(Arc::new(NewTo(fleet)))
        };
        let told = |untrusting: &Troubles, fleet| {
            let problems = problems(&translation, Some(&memberships), untrusting, &signers(fleet));
            assert!(!problems.iter().any(Problem::is_error), "they are in order");
            let told = problems.iter().map(|problem| {
                let object = problem.object.as_ref().unwrap();
                format!("{object} {}: {}", problem.field, problem.message)
            });
            told.collect::<Vec<_>>()
        };
        assert_eq!(told(&Troubles::new(), "none"), [""; 0]);
        let trouble = |namespace: &str| Troubles::from([(namespace.to_owned(), format!("{namespace} is closed"))]);
        assert_eq!(
            told(&trouble("shop"), "none"),
            [
                "Rollout sluice-system/edge spec.members: shop is closed",
                "Rollout sluice-system/other spec.members: shop is closed"
            ],
            "each once, however many members it has there"
        );
        assert_eq!(told(&trouble("blog"), "none"), [""; 0]);
        let new = told(&Troubles::new(), "edge");
        assert!(
            new.len() == 1 && new[0].starts_with("Rollout sluice-system/edge : the keys are new"),
            "{new:?}"
        );
    }
}
