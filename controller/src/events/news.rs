//! The story of the pipeline, and what became of objects → notes about the objects that people look at. What only fills a
//! log (who connected, how far a bake is) is not among them.

use std::sync::Arc;

use sluice_model::limits::EVENT_OBJECTS_MAX;
use sluice_model::unit::{PoolSource, RouteUnit, Unit};
use sluice_model::{CertificateRef, FleetName, Kind, ObjectKey, ServiceRef};

use super::note::{Note, Occasion};
use crate::compile::{CONSENT_ANNOTATION, Reason};
use crate::live::News;
use crate::pipeline::situation::{FleetSituation, Situation};
use crate::pipeline::{Happening, StoryLine};
use crate::problem::Problem;
use crate::rollout::record::PastResult;
use crate::rollout::{Story, Verb};
use crate::status::turn::{Turn, Turned};
use crate::translate::Item;

/// What a line of the story is to somebody who looks at objects.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Told {
    /// These notes; perhaps none.
    Notes(Vec<Note>),
    /// It is about a fleet whose Rollout is not known yet.
    NotYet,
}

/// What became of an object.
pub fn of_turn(turned: &Turned) -> Note {
    let occasion = match turned.turn {
        Turn::Quarantined => Occasion::Quarantined,
        Turn::Mended => Occasion::Mended,
        Turn::RolledBack => Occasion::RolledBack,
        Turn::NotAccepted => Occasion::NotAccepted,
        Turn::ReferenceMissing => Occasion::ReferenceMissing,
        Turn::ReferenceFound => Occasion::ReferenceFound,
    };
    Note::new(&turned.object, &turned.uid, occasion, &turned.message)
}

/// A line of the story.
pub fn of_line(line: &StoryLine, situation: &Situation) -> Told {
    let on_rollout = |occasion, subject: String| match rollout(line.fleet.as_ref(), situation) {
        Some((key, uid)) => Told::Notes(vec![Note::new(key, uid, occasion, &line.text).about(subject)]),
        None => Told::NotYet,
    };
    match &line.happening {
        Happening::Rollout(story) => match of_story(story) {
            Some((occasion, subject)) => on_rollout(occasion, subject),
            None => Told::Notes(vec![]),
        },
        Happening::Live(news) => match of_live(news, &line.text, situation) {
            notes if notes.is_empty() => on_rollout(occasion_of(news), String::new()),
            notes => Told::Notes(notes),
        },
        Happening::Trouble(_) if line.fleet.is_some() => on_rollout(Occasion::ControllerTrouble, String::new()),
        Happening::Mended(_) if line.fleet.is_some() => on_rollout(Occasion::ControllerMended, String::new()),
        // Refused commands are answered, and told, by whoever took them; Problems are on their objects.
        Happening::Trouble(_)
        | Happening::Mended(_)
        | Happening::Joined(_)
        | Happening::Left(_)
        | Happening::Problems { .. }
        | Happening::Refused(_) => Told::Notes(vec![]),
    }
}

/// Why there is an Event about a line of the core, and which of them it is; `None` if there is none.
fn of_story(story: &Story) -> Option<(Occasion, String)> {
    let one = |occasion| Some((occasion, String::new()));
    match story {
        Story::Adopted(revision) => Some((Occasion::Adopted, revision.to_string())),
        Story::AdoptedFromInstances(revision) => Some((Occasion::AdoptedFromInstances, revision.to_string())),
        Story::StableLost(_) => one(Occasion::StableLost),
        Story::StageReached { stage, .. } => Some((Occasion::StageReached, stage.clone())),
        Story::Holding { stage, .. } => Some((Occasion::Holding, stage.clone())),
        Story::RollingBack { revision, .. } => Some((Occasion::RollingBack, revision.to_string())),
        Story::Withdrawing(_) => one(Occasion::Withdrawn),
        Story::Restored { revision, result, .. } => match result {
            PastResult::RolledBack { .. } => Some((Occasion::RolledBack, revision.to_string())),
            PastResult::Adopted
            | PastResult::AdoptedFromInstances
            | PastResult::Promoted
            | PastResult::Superseded
            | PastResult::Withdrawn => None,
        },
        Story::Blocked(_) => one(Occasion::Blocked),
        Story::Frozen(_) => one(Occasion::Frozen),
        Story::Promoted(revision) => Some((Occasion::Promoted, revision.to_string())),
        Story::Refusal { instance, .. } | Story::ImpossibleEpoch { instance, .. } => {
            Some((Occasion::InstanceRefuses, instance.to_string()))
        }
        Story::Commanded(command) => {
            let occasion = match command.verb {
                Verb::Pause => Occasion::Paused,
                Verb::Resume => Occasion::Resumed,
                Verb::Abort => Occasion::Aborted,
                Verb::Promote => Occasion::StageSkipped,
                Verb::Retry => Occasion::Retried,
            };
            // Who gave it makes it another one.
            Some((occasion, format!("{} {}", command.revision, command.actor)))
        }
        Story::StageOrdered { .. }
        | Story::Baking { .. }
        | Story::Superseded { .. }
        | Story::Queued { .. }
        | Story::Gone(_)
        | Story::AlreadySo(_) => None,
    }
}

fn occasion_of(news: &News) -> Occasion {
    match news {
        News::BrakeHolds { .. } => Occasion::RemovalBrakeHolds,
        News::BrakeReleased { .. } => Occasion::RemovalBrakeReleased,
        News::CertificateRefused { .. } => Occasion::CertificateRefused,
    }
}

/// On the objects that refer to what it is about.
fn of_live(news: &News, text: &str, situation: &Situation) -> Vec<Note> {
    let refers = |item: &&Item| match (news, item.meaning.as_ref().map(|meaning| meaning.unit().as_ref())) {
        (News::BrakeHolds { service, .. } | News::BrakeReleased { service, .. }, Some(Unit::Pool(pool))) => {
            is_of(&pool.source, service)
        }
        (News::CertificateRefused { certificate, .. }, Some(Unit::Route(route))) => shows(route, certificate),
        (
            News::BrakeHolds { .. } | News::BrakeReleased { .. } | News::CertificateRefused { .. },
            Some(Unit::Pool(_) | Unit::Route(_) | Unit::DataPlane(_)) | None,
        ) => false,
    };
    let items = situation
        .written
        .iter()
        .flat_map(|written| written.translation.items.values());
    let note = |item: &Item| {
        let stored = item.object.stored.as_ref()?;
        Some(Note::new(&item.object.key, &stored.uid, occasion_of(news), text))
    };
    items.filter(refers).filter_map(note).take(EVENT_OBJECTS_MAX).collect()
}

fn is_of(source: &PoolSource, service: &ServiceRef) -> bool {
    match source {
        PoolSource::Service(wanted) => wanted == service,
        PoolSource::Static(_) => false,
    }
}

fn shows(route: &RouteUnit, certificate: &CertificateRef) -> bool {
    route.certificates.contains(certificate) || route.client_auth.as_ref().is_some_and(|auth| auth.ca == *certificate)
}

/// Fleets of which a removal awaits consent.
pub fn of_consent(situation: &Situation) -> Vec<Note> {
    let waits = |fleet: &&FleetSituation| {
        let mut quarantined = fleet.served.chosen.quarantined.values();
        quarantined.any(|quarantined| quarantined.reason == Reason::AwaitsConsent)
    };
    let note = |fleet: &FleetSituation| {
        let (key, uid) = governing(fleet, situation)?;
        let problem = consent(situation, key)?;
        Some(Note::new(key, uid, Occasion::RemovalAwaitsConsent, &problem))
    };
    situation.fleets.values().filter(waits).filter_map(note).collect()
}

/// What awaits consent by an annotation on the Rollout `key`, and how to give it.
fn consent(situation: &Situation, key: &ObjectKey) -> Option<String> {
    let written = situation.written.as_ref()?;
    let asks = |fix: &str| fix.contains(CONSENT_ANNOTATION) && fix.ends_with(&key.to_string());
    let problem = written.problems.iter().find(|problem| asks(&problem.fix))?;
    Some(format!("{}; {}", problem.message, problem.fix))
}

/// What Rollouts that are in order are warned of: what their listeners lack, and what does not work around their fleets.
/// Their statuses say it all the while.
pub fn of_warnings(situation: &Situation) -> Vec<Note> {
    let Some(written) = &situation.written else {
        return vec![];
    };
    let note = |problem: &Problem| {
        let key = problem.object.as_ref().filter(|key| key.kind == Kind::Rollout)?;
        let stored = written.translation.items.get(key)?.object.stored.as_ref()?;
        let occasion = warned(problem.field.as_str())?;
        let text = match problem.fix.as_str() {
            "" => problem.message.clone(),
            fix => format!("{}; {fix}", problem.message),
        };
        // Of the controller, and of several namespaces, each is a trouble of its own.
        let subject = match problem.field.as_str() {
            "" | "spec.members" => &problem.message,
            field => field,
        };
        Some(Note::new(key, &stored.uid, occasion, &text).about(subject))
    };
    let warnings = written.problems.iter().filter(|problem| !problem.is_error());
    warnings.filter_map(note).collect()
}

/// Why there is an Event about a warning of a Rollout; `None` if there is none.
fn warned(field: &str) -> Option<Occasion> {
    match field {
        "" | "spec.members" => Some(Occasion::ControllerTrouble),
        field if field.starts_with("spec.dataPlane.listeners[") => Some(Occasion::ReferenceMissing),
        _ => None,
    }
}

/// The note that says that what `warning` told is over.
pub fn over(warning: &Note) -> Note {
    let occasion = if warning.occasion == Occasion::ReferenceMissing {
        Occasion::ReferenceFound
    } else {
        Occasion::ControllerMended
    };
    let text = format!("no more: {}", warning.text);
    Note::new(&warning.object, &warning.uid, occasion, &text).about(&warning.subject)
}

/// The Rollout that governs a fleet, with its UID.
pub fn rollout<'a>(fleet: Option<&FleetName>, situation: &'a Situation) -> Option<(&'a ObjectKey, &'a Arc<str>)> {
    governing(situation.fleets.get(fleet?)?, situation)
}

fn governing<'a>(fleet: &'a FleetSituation, situation: &'a Situation) -> Option<(&'a ObjectKey, &'a Arc<str>)> {
    let key = fleet.served.chosen.governing.as_ref()?;
    let item = situation.written.as_ref()?.translation.items.get(key)?;
    Some((key, &item.object.stored.as_ref()?.uid))
}
