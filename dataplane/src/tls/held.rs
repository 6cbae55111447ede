//! What an instance holds of Secrets, by reference: certificates, and those who sign clients' certificates. Written by configuration delivery, read by handshakes without a
//! lock.
//!
//! In shards, each an immutable table that is replaced whole: one certificate of 10,000 costs a copy of a few hundred
//! entries and not of all.

use std::collections::HashMap;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::sync::Arc;

use arc_swap::ArcSwap;
use sluice_model::CertificateRef;

use super::certificate::Certificate;
use super::clients::Authorities;

/// Enough that a shard stays small, few enough that empty ones cost nothing.
const SHARDS: usize = 64;

type Shard<T> = HashMap<CertificateRef, Arc<T>>;

/// Certificates that are shown.
pub type Certificates = Held<Certificate>;
/// Those who sign clients' certificates.
pub type HeldAuthorities = Held<Authorities>;

/// What Secrets hold, by reference. One writer at a time: the intake's thread.
#[derive(Debug)]
pub struct Held<T> {
    shards: Box<[ArcSwap<Shard<T>>]>,
}

impl<T> Default for Held<T> {
    fn default() -> Self {
        Self {
            shards: (0..SHARDS).map(|_| ArcSwap::default()).collect(),
        }
    }
}

impl<T> Held<T> {
    fn shard(&self, reference: &CertificateRef) -> Option<&ArcSwap<Shard<T>>> {
        let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one(reference);
        self.shards.get((hash % SHARDS as u64) as usize)
    }

    /// What is under this reference, if it is held.
    pub fn get(&self, reference: &CertificateRef) -> Option<Arc<T>> {
        self.shard(reference)?.load().get(reference).cloned()
    }

    /// From the next handshake on, this one.
    pub fn replace(&self, reference: CertificateRef, value: Arc<T>) {
        self.change(&reference.clone(), |shard| {
            shard.insert(reference, value);
        });
    }

    /// Nothing refers to it any more.
    pub fn forget(&self, reference: &CertificateRef) {
        self.change(reference, |shard| {
            shard.remove(reference);
        });
    }

    fn change(&self, reference: &CertificateRef, change: impl FnOnce(&mut Shard<T>)) {
        let Some(place) = self.shard(reference) else { return };
        let mut shard = Shard::<T>::clone(&place.load());
        change(&mut shard);
        place.store(Arc::new(shard));
    }

    /// All of them, by reference.
    pub fn list(&self) -> Vec<(CertificateRef, Arc<T>)> {
        let mut all: Vec<_> = self
            .shards
            .iter()
            .flat_map(|shard| {
                shard
                    .load()
                    .iter()
                    .map(|(k, v)| (k.clone(), v.clone()))
                    .collect::<Vec<_>>()
            })
            .collect();
        all.sort_by(|(one, _), (other, _)| one.cmp(other));
        all
    }
}

#[cfg(test)]
mod tests {
    use super::super::certificate::tests::issued;
    use super::*;

    #[test]
    fn what_is_replaced_is_found_and_what_is_forgotten_is_not() {
        let held = Certificates::default();
        let reference = |index: usize| -> CertificateRef { format!("t/c{index}").parse().unwrap() };
        let [one, two] = [(); 2].map(|()| Arc::new(issued(&["a.test"], &rcgen::PKCS_ECDSA_P256_SHA256)));
        for index in 0..200 {
            held.replace(reference(index), one.clone());
        }
        held.replace(reference(7), two.clone());
        held.forget(&reference(8));
        assert_eq!(held.list().len(), 199);
        assert!(held.list().is_sorted_by(|one, other| one.0 < other.0));
        assert_eq!(held.get(&reference(7)).unwrap().fingerprint(), two.fingerprint());
        assert!(held.get(&reference(8)).is_none());
        assert_eq!(held.get(&reference(9)).unwrap().fingerprint(), one.fingerprint());
    }
}
