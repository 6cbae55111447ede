//! The way to the fleet's instances: what they say becomes events, and the committed order goes to them, signed, after
//! the manifests that it names.

use std::collections::BTreeSet;

use bytes::Bytes;
use sluice_model::limits::MAX_COUNTED_SCOPES;
use sluice_model::{InstanceId, ObjectKey};
use sluice_proto::{self as proto, Audience, Downward, Hello, Refusal, UpwardMessage, open_order};

use super::{Connected, Fleet, Next};
use crate::pipeline::board::InstanceView;
use crate::pipeline::observed;
use crate::pipeline::story::{Happening, written};
use crate::rollout::{Event, Facts, Fault, LastEnd, Members, Millis, order};
use crate::sign::SignError;
use crate::stream::{Link, LinkId};

impl Fleet {
    /// Sends the order in force, after the manifests that it names for this instance and the live values that these
    /// refer to.
    pub(super) fn send_order(&mut self, instance: &InstanceId, now: Millis) {
        let (order, envelope) = match self.order_in_force() {
            Ok(Some(signed)) => signed,
            Ok(None) => return,
            Err(error) => return self.trouble(format!("the order could not be signed: {error}"), now),
        };
        let candidate = order.candidate_for(instance).map(|candidate| candidate.revision);
        let Some(link) = self
            .instances
            .get(instance)
            .and_then(|connected| connected.link.clone())
        else {
            return;
        };
        self.send_values(instance, now);
        for revision in [Some(order.stable), candidate].into_iter().flatten() {
            match self.revisions.manifest(&revision) {
                Ok(Some(signed)) => drop(link.send(&Downward::Manifest(signed.envelope))),
                // Asked back from instances with the next look.
                Ok(None) => self.doubt(),
                Err(error) => {
                    self.doubt();
                    self.trouble(error.to_string(), now);
                }
            }
        }
        let _ = link.send(&Downward::Order(envelope)); // cut off: it comes back, or not
    }

    fn order_in_force(&mut self) -> Result<Option<(proto::Order, Bytes)>, SignError> {
        // Nothing is signed that the record does not say, whatever the core has in mind.
        let Some(order) = self.committed.as_ref().and_then(order) else {
            return Ok(None);
        };
        let order = self.proto_order(order);
        if self.signed.as_ref().is_none_or(|(signed, _)| *signed != order) {
            let envelope = self.shared.signers.order(&order)?;
            self.signed = Some((order, envelope));
        }
        Ok(self.signed.clone())
    }

    fn proto_order(&self, order: crate::rollout::Order) -> proto::Order {
        let crate::rollout::Order {
            epoch,
            stable,
            candidate,
            counted,
        } = order;
        let counted: BTreeSet<ObjectKey> = counted.into_iter().take(MAX_COUNTED_SCOPES).collect();
        proto::Order {
            cluster: self.shared.cluster.clone(),
            fleet: self.name.clone(),
            epoch,
            stable,
            candidate: candidate.map(|candidate| proto::Candidate {
                revision: candidate.revision,
                members: match candidate.members {
                    Members::All => proto::Members::All,
                    Members::Listed(members) => proto::Members::only(members),
                },
                share_millionths: candidate.share.0,
            }),
            counted: counted.into_iter().collect(),
        }
    }

    /// An instance said hello. It replaces an older stream of the same instance.
    pub fn opened(&mut self, instance: &InstanceId, hello: Hello, link: Link, now: Millis) -> Next {
        let facts = self.facts(instance, &hello);
        let is_behind = self.holds_only_old_signatures(&hello);
        let holds = hello.stable.into_iter().chain(hello.candidate).collect();
        let view = InstanceView {
            instance: instance.clone(),
            fleet: self.name.clone(),
            build: hello.build.clone(),
            connected: true,
            epoch: facts.epoch,
            stable: hello.stable.map(|revision| revision.to_string()),
            candidate: hello.candidate.map(|revision| revision.to_string()),
            since: written(now),
            reason: None,
        };
        self.turned_away.let_in(instance);
        self.lane.heard_of_term(hello.live_term, now);
        let held = hello.live_held.iter().map(|held| (held.subject.clone(), held.digest));
        let connected = Connected {
            values: held.collect(),
            link: Some(link),
            hello,
            holds,
            view,
        };
        if let Some(older) = self.instances.insert(instance.clone(), connected)
            && let Some(link) = older.link
        {
            link.refuse(tonic::Status::aborted("another stream of this instance began"));
            link.cut();
        }
        self.may_be_asked_again(instance);
        self.tell(Happening::Joined(instance.clone()), now);
        self.send_values(instance, now);
        let connected = Event::Connected {
            instance: instance.clone(),
            facts,
        };
        let next = self.happen(connected, now);
        if is_behind {
            self.send_signed_anew(instance, now);
        }
        next
    }

    /// What an instance holds, as far as the order that it shows proves it.
    fn facts(&self, instance: &InstanceId, hello: &Hello) -> Facts {
        let audience = Audience {
            cluster: self.shared.cluster.clone(),
            fleet: self.name.clone(),
        };
        let shown = hello
            .order
            .as_ref()
            .map(|bytes| open_order(&self.shared.trusted, &audience, bytes));
        match shown {
            None => Facts::default(),
            Some(Ok(order)) => Facts {
                epoch: order.epoch,
                stable: Some(order.stable),
                carries: hello.candidate,
                booted_epoch: hello.booted_epoch,
                last_end: match hello.last_end {
                    proto::LastEnd::Unknown => LastEnd::Unknown,
                    proto::LastEnd::Harmless => LastEnd::Harmless,
                    proto::LastEnd::Crash => LastEnd::Crash,
                },
            },
            Some(Err(error)) => {
                tracing::warn!(%instance, %error, "shows an order that is not ours; nothing of it is believed");
                Facts::default()
            }
        }
    }

    /// An instance's stream ended. Word of a stream that was replaced changes nothing.
    pub fn closed(&mut self, instance: &InstanceId, link: LinkId, now: Millis) -> Next {
        let Some(connected) = self.instances.get_mut(instance) else {
            return Next::Nothing;
        };
        let current = connected.link.as_ref().map(Link::id);
        if current.is_some_and(|current| current != link) {
            return Next::Nothing;
        }
        connected.link = None;
        connected.view.connected = false;
        self.tell(Happening::Left(instance.clone()), now);
        self.happen(Event::Disconnected(instance.clone()), now)
    }

    /// An instance that was away for good exists no more.
    ///
    /// # Errors
    /// Says why not, and what to do: it is connected, nobody knows it, or the record could not be written.
    pub fn forget(&mut self, instance: &InstanceId, now: Millis) -> Result<Next, String> {
        let connected = self.instances.get(instance);
        if connected.is_some_and(|connected| connected.link.is_some()) {
            return Err(format!(
                "{instance} is connected, so it counts; stop it first, and forget it if it is never to come back"
            ));
        }
        let mentioned = self.core.record().mentioned().any(|known| known == instance);
        if connected.is_none() && !mentioned {
            return Err(format!(
                "the fleet {} knows no instance {instance}, so nothing waits for it; `rollout get` lists who is not reached",
                self.name
            ));
        }
        let next = self.happen(Event::Removed(instance.clone()), now);
        if let Some(trouble) = &self.unwritten {
            return Err(trouble.clone());
        }
        self.instances.remove(instance);
        self.turned_away.let_in(instance);
        Ok(next)
    }

    /// Everybody whom this fleet counts or waits for, some of them twice.
    pub fn counted(&self) -> impl Iterator<Item = &InstanceId> {
        self.instances.keys().chain(self.core.record().mentioned())
    }

    /// An instance's pod is gone for good: nothing is sent to it or waited for any more, whatever its stream says.
    pub fn gone(&mut self, instance: &InstanceId, now: Millis) -> Next {
        let connected = self.instances.remove(instance);
        self.turned_away.let_in(instance);
        if let Some(link) = connected.and_then(|connected| connected.link) {
            link.refuse(tonic::Status::permission_denied("the pod of this instance is deleted"));
            link.cut();
            self.tell(Happening::Left(instance.clone()), now);
        }
        self.happen(Event::Removed(instance.clone()), now)
    }

    /// An instance said something over the stream `link`.
    pub fn said(&mut self, instance: &InstanceId, link: LinkId, message: UpwardMessage, now: Millis) -> Next {
        let Some(connected) = self.instances.get_mut(instance) else {
            return Next::Nothing;
        };
        if connected.link.as_ref().map(Link::id) != Some(link) {
            return Next::Nothing; // of a stream that was replaced
        }
        let instance = instance.clone();
        match message {
            UpwardMessage::Ack(ack) => {
                connected.holds = ack.stable.into_iter().chain(ack.candidate).collect();
                connected.view.epoch = ack.epoch;
                connected.view.stable = ack.stable.map(|revision| revision.to_string());
                connected.view.candidate = ack.candidate.map(|revision| revision.to_string());
                let epoch = ack.epoch;
                self.happen(Event::Ack { instance, epoch }, now)
            }
            UpwardMessage::Nack(nack) => {
                let reason = format!("{}: {}", nack.reason.as_str(), nack.detail);
                let (epoch, fault) = (nack.epoch, fault_of(nack.reason));
                self.happen(
                    Event::Nack {
                        instance,
                        epoch,
                        reason,
                        fault,
                    },
                    now,
                )
            }
            UpwardMessage::Report(report) => match observed::report(instance, report) {
                Some(report) => self.happen(Event::Report(report), now),
                None => Next::Nothing,
            },
            UpwardMessage::Manifest { revision, envelope } => {
                self.handed_manifest((&instance, link), revision, envelope, now)
            }
            UpwardMessage::Section { digest, wire } => self.handed_section((&instance, link), digest, wire, now),
            UpwardMessage::LiveRefused(refused) => {
                self.value_refused(&instance, refused, now);
                Next::Nothing
            }
            UpwardMessage::Hello(_) | UpwardMessage::Want(_) => Next::Nothing, // the stream's business
        }
    }
}

/// A disk that takes nothing is its instance's own trouble, whatever is ordered. A port that cannot be had is not: the
/// order asks for it, and would serve nobody there (`docs/decisions/instance-state.md`).
fn fault_of(refusal: Refusal) -> Fault {
    match refusal {
        Refusal::Storage => Fault::Instance,
        Refusal::Signature
        | Refusal::Audience
        | Refusal::Epoch
        | Refusal::Malformed
        | Refusal::TooLarge
        | Refusal::Feature
        | Refusal::Check
        | Refusal::Build
        | Refusal::Listen => Fault::Order,
    }
}
