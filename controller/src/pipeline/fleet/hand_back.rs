//! Hand-back: a revision that this controller has to send but has lost is asked back from the instances that hold it.
//!
//! ```text
//!   notice ──► ask one holder ──manifest, verified──► its sections, a few at a time, verified ──► whole
//!                 ▲      │ does not hold it · holds something else · takes too long · leaves
//!                 └──────┘ the next holder; none left: hopeless, or begin anew
//! ```
//!
//! Nobody is believed: signature, audience and digests are checked as an instance checks them, and everything is stored
//! as the controller stores its own, the manifest last. Which revision is stable is decided elsewhere.

use std::collections::BTreeSet;

use bytes::Bytes;
use sluice_model::limits::{ADOPTION_WAIT_MS, HAND_BACK_SECTIONS_AT_ONCE, HAND_BACK_WAIT_MS};
use sluice_model::{Digest, InstanceId, RevisionId};
use sluice_proto::{Downward, HAND_BACK};

use super::{Connected, Fleet, Next};
use crate::pipeline::story::Happening;
use crate::revisions::{BundleError, Loss, Signed};
use crate::rollout::{Event, Millis};
use crate::stream::{Link, LinkId};

/// A revision that is being asked back.
#[derive(Debug, Default)]
pub(super) struct Lost {
    /// Verified; stored when its sections are.
    manifest: Option<Signed>,
    /// The sections of that manifest that are not here.
    sections: BTreeSet<Digest>,
    asked: Option<AskedBack>,
    /// Who could not help, until it connects again.
    in_vain: BTreeSet<InstanceId>,
    /// Since when nobody who is connected holds it.
    unheld_since: Option<Millis>,
    /// Whether it is waited for.
    hope: Hope,
}

/// Whether a lost revision is still waited for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Hope {
    /// Somebody may hand it back.
    #[default]
    Some,
    /// Whoever holds it was asked in vain.
    None,
}

/// One instance, and what it was asked for.
#[derive(Debug)]
struct AskedBack {
    instance: InstanceId,
    link: LinkId,
    at: Millis,
    /// Of these, those that did not come; empty: the manifest.
    sections: BTreeSet<Digest>,
}

impl Fleet {
    /// The revisions that orders may name: they have to be here.
    pub(super) fn needed(&self) -> BTreeSet<RevisionId> {
        let record = self.core.record();
        let tried = record.rollout.iter().map(|rollout| rollout.target.revision);
        record.stable.into_iter().chain(tried).collect()
    }

    /// Looks for what is lost, once for each revision: it is all read for that.
    pub(super) fn notice_losses(&mut self, now: Millis) {
        let needed = self.needed();
        self.whole.retain(|revision| needed.contains(revision));
        self.lost.retain(|revision, _| needed.contains(revision));
        for revision in needed {
            if self.whole.contains(&revision) || self.lost.contains_key(&revision) {
                continue;
            }
            let lost = match self.revisions.loss(&revision) {
                Loss::Nothing => {
                    self.whole.insert(revision);
                    continue;
                }
                Loss::Manifest => Lost::default(),
                Loss::Sections(manifest, sections) => Lost {
                    manifest: Some(*manifest),
                    sections: sections.into_iter().collect(),
                    ..Lost::default()
                },
            };
            self.lost.insert(revision, lost);
            self.trouble(
                format!("the content of {revision} is lost; asking the instances that hold it"),
                now,
            );
        }
    }

    /// Something of a revision was not there when it was needed.
    pub fn doubt(&mut self) {
        self.whole.clear();
    }

    /// `revision` was just stored in full.
    pub(in crate::pipeline) fn is_stored(&mut self, revision: RevisionId) {
        self.whole.insert(revision);
        self.lost.remove(&revision);
    }

    /// Some of a lost revision was stored again in another way: it is looked for once more.
    pub(in crate::pipeline) fn look_again(&mut self, revision: &RevisionId) {
        self.lost.remove(revision);
    }

    /// Whether stable may still be handed back. Until then nothing is compared with it: an object in error would lose
    /// its last good form, and a removal would need no consent.
    pub(in crate::pipeline) fn awaits_stable(&self) -> bool {
        let lost = self.core.record().stable.and_then(|stable| self.lost.get(&stable));
        lost.is_some_and(|lost| lost.hope == Hope::Some)
    }

    /// Whether something is being handed back.
    pub(super) fn misses_something(&self) -> bool {
        !self.lost.is_empty()
    }

    /// An instance came back: it may be asked once more.
    pub(super) fn may_be_asked_again(&mut self, instance: &InstanceId) {
        for lost in self.lost.values_mut() {
            lost.in_vain.remove(instance);
        }
    }

    /// Goes on asking for what is lost.
    pub fn pursue(&mut self, now: Millis) -> Next {
        self.notice_losses(now);
        self.mend_what_is_kept(now);
        let lost: Vec<RevisionId> = self.lost.keys().copied().collect();
        lost.into_iter()
            .fold(Next::Nothing, |next, revision| self.pursue_one(revision, now).or(next))
    }

    fn pursue_one(&mut self, revision: RevisionId, now: Millis) -> Next {
        let Some(lost) = self.lost.get_mut(&revision) else {
            return Next::Nothing;
        };
        if let Some(asked) = &lost.asked {
            let linked = self.instances.get(&asked.instance).and_then(|seen| seen.link.as_ref());
            let same_stream = linked.map(Link::id) == Some(asked.link);
            if same_stream && now.since(asked.at) < HAND_BACK_WAIT_MS {
                return Next::Nothing;
            }
            let why = "it did not answer in time";
            let instance = asked.instance.clone();
            return self.give_up_on(&instance, revision, why, now);
        }
        match self.holder(&revision) {
            Some((instance, link)) => self.ask_back(instance, &link, revision, now),
            None => self.nobody_left(revision, now),
        }
    }

    /// An instance that holds `revision`, can be asked, and was not asked in vain.
    fn holder(&self, revision: &RevisionId) -> Option<(InstanceId, Link)> {
        let in_vain = &self.lost.get(revision)?.in_vain;
        self.instances.iter().find_map(|(instance, seen)| {
            let link = seen.link.clone()?;
            let helps = seen.holds.contains(revision) && seen.hands_back() && !in_vain.contains(instance);
            helps.then(|| (instance.clone(), link))
        })
    }

    fn ask_back(&mut self, instance: InstanceId, link: &Link, revision: RevisionId, now: Millis) -> Next {
        let Some(lost) = self.lost.get_mut(&revision) else {
            return Next::Nothing;
        };
        let sections: BTreeSet<Digest> = lost.sections.iter().take(HAND_BACK_SECTIONS_AT_ONCE).copied().collect();
        let question = match &lost.manifest {
            None => Downward::LostManifest(revision),
            Some(_) if sections.is_empty() => return self.complete(revision, &instance, now),
            Some(_) => Downward::LostSections(sections.iter().copied().collect()),
        };
        let _ = link.send(&question); // cut off: noticed with the next look
        lost.unheld_since = None;
        lost.asked = Some(AskedBack {
            instance,
            link: link.id(),
            at: now,
            sections,
        });
        Next::Nothing
    }

    fn give_up_on(&mut self, instance: &InstanceId, revision: RevisionId, why: &str, now: Millis) -> Next {
        if let Some(lost) = self.lost.get_mut(&revision) {
            lost.asked = None;
            lost.in_vain.insert(instance.clone());
        }
        self.trouble(format!("{instance} does not hand back {revision}: {why}"), now);
        self.pursue_one(revision, now)
    }

    /// Whoever is connected cannot help. Those who serve the revision go on; without any, it is gone.
    fn nobody_left(&mut self, revision: RevisionId, now: Millis) -> Next {
        let connected = || self.instances.values().filter(|seen| seen.link.is_some());
        let holders = || connected().filter(|seen| seen.holds.contains(&revision));
        let is_held = holders().next().is_some();
        let older: Vec<&str> = holders()
            .filter(|seen| !seen.hands_back())
            .map(|seen| seen.view.instance.as_str())
            .collect();
        let upgrade = match older.as_slice() {
            [] => String::new(),
            [first, ..] => format!(
                "; {} of an older build cannot be asked, such as {first}: upgrade them",
                older.len()
            ),
        };
        let is_alone = connected().next().is_none();
        let Some(lost) = self.lost.get_mut(&revision) else {
            return Next::Nothing;
        };
        if is_held || is_alone {
            lost.unheld_since = None;
            let gives_up = is_held && lost.hope == Hope::Some;
            if gives_up {
                lost.hope = Hope::None;
                let trouble = format!(
                    "no instance hands back {revision}; those that serve it go on, new ones wait for the next \
                     revision, and objects in error have no last good form{upgrade}"
                );
                self.trouble(trouble, now);
            }
            return if gives_up { Next::Recompile } else { Next::Nothing };
        }
        let since = *lost.unheld_since.get_or_insert(now);
        let is_stable = self.core.record().stable == Some(revision);
        if is_stable && now.since(since) >= ADOPTION_WAIT_MS {
            return self.happen(Event::StableLost, now);
        }
        Next::Nothing
    }

    /// An instance answered for a manifest.
    pub(super) fn handed_manifest(
        &mut self,
        from: (&InstanceId, LinkId),
        revision: RevisionId,
        envelope: Option<Bytes>,
        now: Millis,
    ) -> Next {
        let revisions = &self.revisions;
        let Some(lost) = self.lost.get_mut(&revision) else {
            return Next::Nothing;
        };
        if lost.manifest.is_some() || !lost.is_asked(from) {
            return Next::Nothing; // too late, or not what it was asked for
        }
        let Some(envelope) = envelope else {
            return self.give_up_on(from.0, revision, "it does not hold the manifest", now);
        };
        match revisions.open_manifest(&revision, envelope) {
            Ok(signed) => {
                lost.sections = revisions.lost_sections(&signed.manifest).into_iter().collect();
                lost.manifest = Some(signed);
                lost.asked = None;
                self.pursue_one(revision, now)
            }
            Err(error) => self.give_up_on(from.0, revision, &error.to_string(), now),
        }
    }

    /// An instance answered for a section.
    pub(super) fn handed_section(
        &mut self,
        from: (&InstanceId, LinkId),
        digest: Digest,
        wire: Option<Bytes>,
        now: Millis,
    ) -> Next {
        let expects = |(_, lost): &(&RevisionId, &mut Lost)| lost.is_asked(from) && lost.expects(&digest);
        let Some((&revision, lost)) = self.lost.iter_mut().find(expects) else {
            return Next::Nothing; // too late, or not what it was asked for
        };
        let (Some(signed), Some(wire)) = (&lost.manifest, wire) else {
            return self.give_up_on(from.0, revision, "it does not hold all sections", now);
        };
        match self.revisions.put_section(&signed.manifest, &digest, wire) {
            Ok(()) => {
                lost.sections.remove(&digest);
                let is_last = lost.asked.as_mut().is_some_and(|asked| {
                    asked.sections.remove(&digest);
                    asked.sections.is_empty()
                });
                if is_last {
                    lost.asked = None;
                    return self.pursue_one(revision, now);
                }
                Next::Nothing
            }
            Err(error @ BundleError::Damaged { .. }) => self.give_up_on(from.0, revision, &error.to_string(), now),
            Err(error @ (BundleError::File(_) | BundleError::Remote(_))) => {
                lost.asked = None; // our own trouble: the same again with the next look
                self.trouble(error.to_string(), now);
                Next::Nothing
            }
        }
    }

    /// All sections are here: the manifest is stored, those that wait are sent it, and compile has a basis again.
    fn complete(&mut self, revision: RevisionId, from: &InstanceId, now: Millis) -> Next {
        let manifest = self.lost.get(&revision).and_then(|lost| lost.manifest.as_ref());
        let Some(signed) = manifest else {
            return Next::Nothing;
        };
        let envelope = signed.envelope.clone();
        if let Err(error) = self.revisions.put_manifest(revision, &envelope, None) {
            self.trouble(error.to_string(), now);
            return Next::Nothing;
        }
        self.is_stored(revision);
        self.troubles.clear();
        self.tell(
            Happening::Mended(format!("{revision} is back, handed over by {from}")),
            now,
        );
        // They have the order already, and wait for what it names.
        let epoch = self.core.record().epoch;
        let behind = self.instances.values().filter(|seen| seen.view.epoch < epoch);
        for link in behind.filter_map(|seen| seen.link.as_ref()) {
            let _ = link.send(&Downward::Manifest(envelope.clone())); // cut off: it is sent again when it is back
        }
        Next::Recompile
    }
}

impl Connected {
    fn hands_back(&self) -> bool {
        self.hello.features.iter().any(|feature| feature == HAND_BACK)
    }
}

impl Lost {
    fn is_asked(&self, (instance, link): (&InstanceId, LinkId)) -> bool {
        let asked = self.asked.as_ref();
        asked.is_some_and(|asked| asked.instance == *instance && asked.link == link)
    }

    fn expects(&self, section: &Digest) -> bool {
        let asked = self.asked.as_ref();
        asked.is_some_and(|asked| asked.sections.contains(section))
    }
}
