//! The fleet's live lane: what it wants to know of services and certificates, and the values that its instances need,
//! each sent to those whose revisions refer to it, before the order that needs it.

use std::collections::{BTreeMap, BTreeSet};

use sluice_model::limits::LIVE_ANSWER_WAIT_MS;
use sluice_model::{InstanceId, LiveSubject, RevisionId, ServiceRef, Snapshot};
use sluice_proto::LiveRefused;

use super::Fleet;
use crate::live::{AuthoritiesState, CertificateState, RemovalBrake, ServiceState, Values};
use crate::pipeline::story::Happening;
use crate::rollout::{Millis, order};

impl Fleet {
    /// Notes what the objects refer to as they are written now, served or not.
    pub(in crate::pipeline) fn note_written(&mut self, snapshot: &Snapshot) {
        self.written = snapshot.live_subjects();
    }

    /// What the objects, stable and the candidate refer to.
    pub fn wanted(&mut self) -> &BTreeSet<LiveSubject> {
        let mut wanted = self.written.clone();
        for revision in self.revisions_in_force() {
            wanted.extend(self.subjects_of(&revision));
        }
        if wanted != self.wanted {
            self.wanted = wanted;
            self.wants_anew = true;
        }
        &self.wanted
    }

    fn revisions_in_force(&self) -> Vec<RevisionId> {
        let order = self.committed.as_ref().and_then(order);
        let named = order.map(|order| (order.stable, order.candidate.map(|candidate| candidate.revision)));
        let (stable, candidate) = named.map_or((None, None), |(stable, candidate)| (Some(stable), candidate));
        stable.into_iter().chain(candidate).collect()
    }

    /// What a revision refers to; nothing while it is lost.
    fn subjects_of(&mut self, revision: &RevisionId) -> BTreeSet<LiveSubject> {
        if let Some(known) = self.subjects.get(revision) {
            return known.clone();
        }
        let manifest = self.revisions.manifest(revision).ok().flatten();
        let snapshot = manifest.and_then(|signed| self.revisions.snapshot(&signed.manifest).ok());
        let Some(snapshot) = snapshot else {
            return BTreeSet::new();
        };
        let in_force = self.revisions_in_force();
        self.subjects.retain(|known, _| in_force.contains(known));
        let subjects = snapshot.live_subjects();
        self.subjects.insert(*revision, subjects.clone());
        subjects
    }

    /// Takes in what the source says, and sends on what is new.
    pub fn live(&mut self, values: &Values, brakes: &BTreeMap<ServiceRef, RemovalBrake>, now: Millis) {
        self.wants_anew = false;
        let step = self.lane.step(values, &self.wanted, brakes, now);
        if !step.changed.is_empty() {
            self.note_rotation();
        }
        for news in step.news {
            self.tell(Happening::Live(news), now);
        }
        self.shared.telemetry.doubted(&self.name, self.lane.doubted());
        // Always, not only with something changed: an instance may need what it did not before.
        let everybody: Vec<InstanceId> = self.instances.keys().cloned().collect();
        everybody.iter().for_each(|instance| self.send_values(instance, now));
    }

    /// Whether what `snapshot` refers to is to be waited for: the values travel before the order that needs them. Not for
    /// long: instances can do without.
    pub(in crate::pipeline) fn waits_for_values(&mut self, snapshot: &Snapshot, values: &Values, now: Millis) -> bool {
        let is_known = |subject: &LiveSubject| match subject {
            LiveSubject::Service(service) => *values.service(service) != ServiceState::Unknown,
            LiveSubject::Certificate(certificate) => *values.certificate(certificate) != CertificateState::Unknown,
            LiveSubject::Authorities(secret) => *values.authorities(secret) != AuthoritiesState::Unknown,
        };
        if snapshot.live_subjects().iter().all(is_known) {
            self.unanswered_since = None;
            return false;
        }
        let since = *self.unanswered_since.get_or_insert(now);
        let waits = now.since(since) < LIVE_ANSWER_WAIT_MS;
        if waits {
            let at = Millis(since.0.saturating_add(LIVE_ANSWER_WAIT_MS));
            self.retry_at = Some(at);
        }
        waits
    }

    /// Whether a revision may be waiting for what the source says.
    pub fn is_unanswered(&self) -> bool {
        self.unanswered_since.is_some()
    }

    /// Whether there is something to do although the source says nothing new.
    pub fn lane_is_due(&self) -> bool {
        self.wants_anew || self.lane.waits()
    }

    /// Sends an instance the values that it needs and lacks.
    pub(super) fn send_values(&mut self, instance: &InstanceId, now: Millis) {
        let Some(order) = self.committed.as_ref().and_then(order) else {
            return;
        };
        let mut needed = self.subjects_of(&order.stable);
        if let Some(candidate) = order.candidate.filter(|candidate| candidate.members.contains(instance)) {
            needed.extend(self.subjects_of(&candidate.revision));
        }
        let Some(connected) = self.instances.get_mut(instance) else {
            return;
        };
        let Some(link) = connected.link.clone() else {
            return;
        };
        let lacking = self.lane.lacking(&needed, &connected.values);
        let lacking: Vec<_> = lacking.map(|(subject, digest)| (subject.clone(), digest)).collect();
        for (subject, digest) in lacking {
            match self.lane.sealed(&subject, |update| self.shared.signers.live(update)) {
                Ok(None) => {}
                Ok(Some(sealed)) => {
                    link.send_value(&subject, sealed);
                    self.shared.telemetry.live_sent(&self.name, &subject);
                    if let Some(connected) = self.instances.get_mut(instance) {
                        connected.values.insert(subject, digest);
                    }
                }
                Err(error) => self.trouble(format!("{subject} could not be signed: {error}"), now),
            }
        }
    }

    /// An instance did not take a value. It is not sent again before it changes, or the instance reconnects.
    pub(super) fn value_refused(&mut self, instance: &InstanceId, refused: LiveRefused, now: Millis) {
        let LiveRefused {
            subject,
            reason,
            detail,
        } = refused;
        self.shared.telemetry.live_refused(&self.name, reason);
        let what = subject.map_or_else(|| "a live value".to_owned(), |subject| subject.to_string());
        self.trouble(
            format!(
                "{instance} refuses {what} ({}): {detail}; it keeps the one it had",
                reason.as_str()
            ),
            now,
        );
    }
}
