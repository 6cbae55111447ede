//! Instances come, go, acknowledge, refuse and report.

use std::collections::BTreeSet;

use sluice_model::{InstanceId, limits};

use super::event::{Facts, Fault, LastEnd, Report};
use super::evidence::{Role, ScopeId};
use super::failure::Failure;
use super::order::Members;
use super::story::Story;
use super::view::{Link, Refused};
use super::{Action, Recipients, Turn, epoch};

/// A reason as it is kept.
pub(super) fn bounded(reason: &str) -> String {
    reason.chars().take(limits::REASON_CHARS_MAX).collect()
}

impl Turn<'_> {
    /// A stream began: note what the instance holds, and whether it restarted after its swap.
    pub(super) fn connected(&mut self, instance: &InstanceId, facts: Facts) {
        let facts = self.believe(instance, facts);
        let known = self.view.instances.get(instance).map_or(0, |seen| seen.epoch);
        let restarted = self.restarted_after_swap(instance, facts, known);
        let epoch = self.acknowledged_by(instance, facts);
        let seen = self.view.seen(instance);
        *seen = super::view::Seen {
            link: Link::Up,
            epoch,
            told: facts.stable.map(|stable| (facts.epoch, stable)),
            unacknowledged_ms: seen.unacknowledged_ms,
            ..super::view::Seen::default()
        };
        self.view.reported_epoch = self.view.reported_epoch.max(facts.epoch);
        self.join_last_stage(instance);
        if restarted {
            let instance = instance.clone();
            self.roll_back(Failure::Restarted { instance });
        }
    }

    /// Nothing of an instance whose epoch is impossible is believed: following it would use up the numbers.
    fn believe(&mut self, instance: &InstanceId, facts: Facts) -> Facts {
        if self.is_plausible(facts.epoch) {
            return facts;
        }
        self.tell(Story::ImpossibleEpoch {
            instance: instance.clone(),
            epoch: facts.epoch,
        });
        Facts::default()
    }

    fn is_plausible(&self, epoch: u64) -> bool {
        epoch::is_plausible(epoch, self.now, self.timing.clock_difference_seconds)
    }

    /// The epoch that counts as acknowledged. A member that holds the order in force but does not carry the candidate
    /// was started again: it is sent the order once more, and until it has acknowledged that, nothing bakes.
    fn acknowledged_by(&self, instance: &InstanceId, facts: Facts) -> u64 {
        let in_force = self.record.epoch;
        let tried = self.record.rollout.as_ref();
        let lacks = tried.is_some_and(|rollout| {
            rollout.members.contains(instance) && facts.carries != Some(rollout.target.revision)
        });
        if lacks && facts.epoch == in_force {
            in_force.saturating_sub(1)
        } else {
            facts.epoch
        }
    }

    /// Its process started with an order that names the candidate, after one that did not end in good order; or it has
    /// forgotten that it acknowledged one.
    fn restarted_after_swap(&self, instance: &InstanceId, facts: Facts, acknowledged: u64) -> bool {
        self.record.rollout.as_ref().is_some_and(|rollout| {
            let unharmed = facts.last_end == LastEnd::Harmless;
            let from_disk = facts.booted_epoch >= rollout.first_epoch && !unharmed;
            let forgotten = acknowledged >= rollout.first_epoch && facts.epoch < acknowledged;
            rollout.ordered.contains(instance) && (from_disk || forgotten)
        })
    }

    /// At the last stage the order names everybody; whoever joins is counted before it is sent to them.
    fn join_last_stage(&mut self, instance: &InstanceId) {
        let joins = self
            .record
            .rollout
            .as_mut()
            .is_some_and(|rollout| rollout.members == Members::All && rollout.ordered.insert(instance.clone()));
        if joins {
            self.require_commit();
        }
    }

    /// A stream ended.
    pub(super) fn disconnected(&mut self, instance: &InstanceId) {
        let seen = self.view.seen(instance);
        seen.link = Link::Away;
        seen.away_ms = 0;
        seen.sent = None;
        seen.credit_ms = 0;
    }

    /// An instance exists no more. The order in force keeps its list (one epoch, one text); only what is waited for and
    /// counted shrinks.
    pub(super) fn removed(&mut self, instance: &InstanceId) {
        let was_seen = self.view.instances.remove(instance).is_some();
        let ordered = self.record.rollout.as_mut().map(|rollout| &mut rollout.ordered);
        let waiting = self.record.restoring.as_mut().map(|restoring| &mut restoring.waiting);
        let lists = [ordered, waiting, Some(&mut self.record.unreached)];
        let left = lists
            .into_iter()
            .flatten()
            .filter_map(|list| list.take(instance))
            .count();
        if left > 0 {
            self.require_commit();
            self.tell(Story::Gone(instance.clone()));
        }
        if was_seen || left > 0 {
            self.count_without_it();
        }
    }

    /// The next controller must not wait for an instance that is gone. A controller that has been at work for a while
    /// knows all there are; one that has just started knows only that there is one less than it was told.
    fn count_without_it(&mut self) {
        let most = if self.has_settled() {
            self.view.instances.len()
        } else {
            self.record.size.saturating_sub(1)
        };
        if self.record.size > most {
            self.record.size = most;
            self.require_commit();
        }
    }

    /// There are no other instances than these, and none will come: nobody else is waited for or counted.
    pub(super) fn only(&mut self, roster: &BTreeSet<InstanceId>) {
        let others: BTreeSet<InstanceId> = self.known().filter(|known| !roster.contains(*known)).cloned().collect();
        others.iter().for_each(|instance| self.removed(instance));
        if self.record.size > roster.len() {
            self.record.size = roster.len();
            self.require_commit();
        }
    }

    /// Everybody that the record or the view mentions, some of them twice.
    fn known(&self) -> impl Iterator<Item = &InstanceId> {
        let seen = self.view.instances.keys();
        seen.chain(self.record.mentioned())
    }

    /// An instance applied an order.
    pub(super) fn acknowledged(&mut self, instance: &InstanceId, epoch: u64) {
        if !self.is_plausible(epoch) {
            return;
        }
        self.view.reported_epoch = self.view.reported_epoch.max(epoch);
        let seen = self.view.seen(instance);
        seen.epoch = seen.epoch.max(epoch);
        seen.silent_ms = 0;
        seen.refusal = None;
        self.overtake(epoch);
    }

    /// An instance follows an order that the record knows nothing of: one of a lost predecessor, still in flight in
    /// spite of the jump. It is overtaken by saying the same again under a greater epoch.
    fn overtake(&mut self, epoch: u64) {
        if epoch <= self.record.epoch || self.record.stable.is_none() {
            return;
        }
        self.order_anew();
        if let Some(restoring) = self.record.restoring.as_mut() {
            restoring.epoch = self.record.epoch;
            restoring.waiting.extend(self.view.connected());
        }
    }

    /// Whoever holds the order in force carries nothing that was taken back.
    pub(super) fn strike_off_the_reached(&mut self) {
        let (view, epoch) = (&*self.view, self.record.epoch);
        let before = self.record.unreached.len();
        self.record
            .unreached
            .retain(|instance| !view.has_acknowledged(instance, epoch));
        if self.record.unreached.len() != before {
            self.require_commit();
        }
    }

    /// An instance refuses an order. A member that refuses the candidate convicts it, unless the trouble is its own: then
    /// it is waited for, and sent the order again like everybody who has not acknowledged it.
    pub(super) fn refused(&mut self, instance: &InstanceId, epoch: u64, reason: &str, fault: Fault) {
        let reason = bounded(reason);
        let known = self.view.has_acknowledged(instance, epoch);
        let seen = self.view.seen(instance);
        seen.silent_ms = 0;
        if epoch != self.record.epoch || known {
            return; // of an order that is no longer in force, or a duplicate of one it has
        }
        let refused = Refused {
            epoch,
            reason: reason.clone(),
            fault,
        };
        let before = seen.refusal.replace(refused);
        let again = before.is_some_and(|before| before.epoch == epoch);
        let is_member = self
            .record
            .rollout
            .as_ref()
            .is_some_and(|rollout| rollout.ordered.contains(instance));
        let instance = instance.clone();
        if !again {
            self.tell(Story::Refusal {
                instance: instance.clone(),
                epoch,
                reason: reason.clone(),
            });
        }
        match fault {
            Fault::Order if is_member => self.roll_back(Failure::Refused { instance, reason }),
            Fault::Order | Fault::Instance => {}
        }
    }

    /// What an instance observed, if it observed it under the order in force.
    pub(super) fn reported(&mut self, report: &Report) {
        let most = self.timing.report_credit_max_ms;
        let Some(seen) = self.view.instances.get_mut(&report.instance) else {
            return; // not connected
        };
        seen.silent_ms = 0;
        if report.epoch != self.record.epoch || seen.epoch != report.epoch || seen.link == Link::Away {
            return;
        }
        seen.credit_ms = seen.credit_ms.saturating_add(report.interval_ms).min(most);
        let on_fleet = report.counts.iter().filter(|((_, scope), _)| *scope == ScopeId::Fleet);
        on_fleet.for_each(|(_, counts)| seen.served.add(counts.requests));
        match self.record.rollout.as_mut() {
            Some(rollout) => {
                for ((role, scope), counts) in &report.counts {
                    rollout.evidence.add(*role, scope, counts);
                }
                let member = rollout.ordered.contains(&report.instance);
                let reports = if member {
                    &mut rollout.evidence.candidate_reports
                } else {
                    &mut rollout.evidence.stable_reports
                };
                *reports = reports.saturating_add(1);
                self.note_progress();
            }
            None => {
                if let Some(counts) = report.counts.get(&(Role::Stable, ScopeId::Fleet)) {
                    self.view.baseline.add(counts);
                }
            }
        }
    }

    /// Sends the order in force to connected instances that do not hold it and were not sent it lately.
    pub(super) fn send_to_those_behind(&mut self) {
        let epoch = self.record.epoch;
        if self.record.stable.is_none() || epoch == 0 {
            return;
        }
        let resend_ms = self.timing.order_resend_ms;
        for (instance, seen) in &mut self.view.instances {
            let sent = seen.sent.is_some_and(|(sent, ago)| sent == epoch && ago < resend_ms);
            if seen.link == Link::Up && seen.epoch < epoch && !sent {
                seen.sent = Some((epoch, 0));
                let recipient = Recipients::One(instance.clone());
                self.outcome.actions.push(Action::SendOrder(recipient));
            }
        }
    }
}
