//! What comes of what instances say.

use sluice_model::FleetName;
use tonic::Status;

use super::fleet::Next;
use super::{Millis, Pipeline};
use crate::stream::StreamEvent;

impl Pipeline {
    pub(super) fn heard(&mut self, event: StreamEvent) {
        let now = (self.clock)();
        let (name, next) = match event {
            StreamEvent::Opened {
                fleet,
                instance,
                namespace,
                hello,
                link,
            } => {
                let Some(known) = self.fleets.get_mut(&fleet) else {
                    link.refuse(Status::not_found(format!(
                        "no Rollout or route names the fleet {fleet} yet"
                    )));
                    return link.cut();
                };
                // Without a cluster there are no members, and loopback is what it says.
                let namespace = namespace.filter(|_| self.compiler.memberships().is_some());
                if let Some(why) = namespace.and_then(|namespace| known.keeps_out(&namespace, now)) {
                    known.turned_away(&instance, why.clone(), now);
                    link.refuse(Status::permission_denied(why));
                    link.cut();
                    return self.follow(&fleet, Next::Nothing);
                }
                let next = known.opened(&instance, *hello, link, now);
                self.is_trusted_in(&fleet, now);
                let Some(known) = self.fleets.get(&fleet) else { return };
                // What was withheld for an older instance may go on now, and the other way round.
                (fleet, if known.is_withholding() { Next::Recompile } else { next })
            }
            StreamEvent::Said {
                fleet,
                instance,
                link,
                message,
            } => {
                let Some(known) = self.fleets.get_mut(&fleet) else {
                    return;
                };
                let next = known.said(&instance, link, *message, now);
                (fleet, next)
            }
            StreamEvent::TurnedAway { fleet, instance, why } => {
                if let Some(known) = self.fleets.get_mut(&fleet) {
                    known.turned_away(&instance, why, now);
                }
                (fleet, Next::Nothing)
            }
            StreamEvent::SectionLost { fleet } => {
                if let Some(known) = self.fleets.get_mut(&fleet) {
                    known.doubt();
                }
                return;
            }
            StreamEvent::Closed { fleet, instance, link } => {
                let Some(known) = self.fleets.get_mut(&fleet) else {
                    return;
                };
                let next = known.closed(&instance, link, now);
                (fleet, if known.is_withholding() { Next::Recompile } else { next })
            }
        };
        self.follow(&name, next);
    }

    /// An instance of `fleet` is there, so it trusts our keys: they are new to the fleet no more.
    fn is_trusted_in(&mut self, fleet: &FleetName, now: Millis) {
        if !self.shared.signers.are_new_to(fleet) {
            return;
        }
        match self.shared.signers.are_trusted_in(fleet) {
            Ok(()) => self.tell_problems(now),
            Err(error) => tracing::warn!(%fleet, %error, "the keys are still called new to it"),
        }
    }
}
