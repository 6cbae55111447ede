//! When keys are replaced, what was signed before has to be signed anew before the last keys go: the manifests that are
//! kept, and what instances hold on their disks. A controller that begins with other keys begins with that.
//!
//! The statements stay the same, byte for byte; only who vouches for them changes. An instance sees an order that it
//! follows already, and keeps the new envelope in place of the old one.

use sluice_model::InstanceId;
use sluice_proto::Hello;

use super::Fleet;
use crate::rollout::Millis;

impl Fleet {
    /// Signs every manifest anew that only keys of before have signed.
    pub(super) fn sign_anew(&self) {
        match self.revisions.sign_anew(&self.shared.signers) {
            Ok(0) => {}
            Ok(signed) => tracing::info!(fleet = %self.name, signed, "manifests signed anew: the keys were replaced"),
            Err(error) => tracing::warn!(fleet = %self.name, %error, "a manifest could not be signed anew"),
        }
    }

    /// Whether all that an instance holds was signed by keys of before, as the order shows that it holds.
    pub(super) fn holds_only_old_signatures(&self, hello: &Hello) -> bool {
        let shown = hello.order.as_ref();
        shown.is_some_and(|envelope| !self.shared.signers.have_signed(envelope))
    }

    /// Sends everything once more to an instance that holds it with old signatures: values, manifests and the order.
    pub(super) fn send_signed_anew(&mut self, instance: &InstanceId, now: Millis) {
        if let Some(connected) = self.instances.get_mut(instance) {
            connected.values.clear();
        }
        self.send_order(instance, now);
    }
}
