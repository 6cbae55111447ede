//! From verified sections to something that can serve: assemble, check, build. Pure but for the target's own work.
//!
//! All of it runs on the intake's thread, at low priority, and under `catch_unwind`: a bug in a check or in a builder
//! costs this revision on this instance, and the fleet learns of it by a nack.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use sluice_model::RevisionId;
use sluice_model::config::Config;
use sluice_model::limits::MAX_TOLD_ERRORS;
use sluice_model::snapshot::{CheckError, Snapshot};
use sluice_proto::manifest::Manifest;

use super::refusal::Refusal;
use super::sections::Sections;
use super::target::{Blueprint, Target};

/// Puts a revision together from its sections, all of which must be at hand, and checks it.
pub fn assemble(manifest: &Manifest, sections: &Sections) -> Result<Arc<Snapshot>, Refusal> {
    let revision = manifest.revision;
    let invalid = |detail: String| Refusal::Invalid { revision, detail };
    let mut config = Config::default();
    for section in &manifest.sections {
        let missing = || invalid(format!("section {:#} is not at hand", section.digest));
        for (key, unit) in sections.units(&section.digest).ok_or_else(missing)?.iter() {
            if config.insert(key.clone(), Arc::clone(unit)).is_some() {
                return Err(invalid(format!("{key} is there twice")));
            }
        }
    }
    let checked = guarded(revision, || Snapshot::check(config))?;
    checked.map(Arc::new).map_err(|errors| invalid(first_of(&errors)))
}

/// Builds it for serving.
pub fn build<T: Target>(target: &T, blueprint: Blueprint<'_, T::Built>) -> Result<Arc<T::Built>, Refusal> {
    let revision = blueprint.revision;
    guarded(revision, || target.build(blueprint))?.map_err(|detail| Refusal::Build { revision, detail })
}

/// Runs `work`; a panic in it is a refusal of the revision.
fn guarded<R>(revision: RevisionId, work: impl FnOnce() -> R) -> Result<R, Refusal> {
    // What `work` borrows is read, or owned by it and lost with it: nothing half-changed is seen afterwards.
    catch_unwind(AssertUnwindSafe(work)).map_err(|panic| Refusal::Panicked {
        revision,
        detail: message_of(panic.as_ref()),
    })
}

fn message_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("no message").chars().take(500).collect()
}

fn first_of(errors: &[CheckError]) -> String {
    let mut text: Vec<String> = errors.iter().take(MAX_TOLD_ERRORS).map(ToString::to_string).collect();
    if errors.len() > MAX_TOLD_ERRORS {
        text.push(format!("and {} more", errors.len() - MAX_TOLD_ERRORS));
    }
    text.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_a_refusal_with_its_message() {
        let revision = RevisionId {
            number: 3,
            digest: sluice_model::Digest([3; 32]),
        };
        let number = 7;
        let refusal = guarded(revision, || assert_eq!(number, 8, "seven is not eight")).unwrap_err();
        assert_eq!(refusal.reason(), "builder_panicked");
        assert!(refusal.to_string().contains("seven is not eight"), "{refusal}");
        assert_eq!(guarded(revision, || 5), Ok(5));
    }
}
