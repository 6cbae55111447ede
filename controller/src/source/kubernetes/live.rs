//! What Services, EndpointSlices and single Secrets of a cluster mean for whoever wants them: the values of the live lane.
//! Pure. Only what an event touched is worked out again, and only of what is wanted.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Secret, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use sluice_model::{CertificateRef, Name, ServiceRef};

use super::Scope;
use super::kinds::{Watch, Watched};
use super::read::Seen;
use super::sight::{Heard, Sight, State};
use super::store::{Place, Sighting, Store};
use super::trouble::Trouble;
use crate::live::resolve::{self, AUTHORITIES_KEY, TLS_SECRET_TYPE};
use crate::live::{AuthoritiesState, CertificateState, Lack, SecretStates, ServiceState, Values, Wanted};
use crate::rollout::Millis;
use crate::source::Shares;
use crate::source::shares::{Share, Sharing};

/// What can be said of where Services and their endpoints are looked for.
pub(super) trait Sights {
    /// Why `watched` cannot be seen in `namespace`; `Ok(false)`: it was not seen yet.
    fn seen(&self, watched: Watched, namespace: &Name) -> Result<bool, Lack>;
}

/// See the file's comment.
#[derive(Debug, Default)]
pub(super) struct Live {
    services: BTreeMap<Watch, Store<()>>,
    slices: BTreeMap<Watch, Store<Name>>,
    /// What is known of each Service.
    known: BTreeMap<Place, Known>,
    secrets: BTreeMap<CertificateRef, Followed>,
    wanted: Arc<Wanted>,
    /// What is wanted of each Service.
    wanted_of: BTreeMap<Place, Vec<ServiceRef>>,
    /// Services that are to be worked out again.
    touched: BTreeSet<Place>,
    /// Certificates likewise.
    touched_secrets: BTreeSet<CertificateRef>,
    values: Arc<Values>,
}

/// A Service and where its pods are.
#[derive(Debug, Default)]
struct Known {
    service: Option<Arc<Service>>,
    slices: BTreeMap<Name, Arc<EndpointSlice>>,
}

/// A Secret that is followed.
#[derive(Debug)]
struct Followed {
    store: Store<Held>,
    sight: Sight,
}

/// What of a Secret is kept: what it is on the live lane, and with whom it is shared.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Held {
    states: SecretStates,
    share: Share,
}

impl Held {
    /// What `secret` says.
    pub(super) fn of(secret: &Secret) -> Self {
        Self {
            states: resolve::secret(secret),
            share: Share::of(secret.metadata.annotations.as_ref()),
        }
    }
}

impl Live {
    /// Takes in what `watch` tells.
    pub(super) fn take(&mut self, watch: &Watch, heard: Heard, now: Millis) {
        match watch.watched {
            Watched::Service => self.take_service(watch, heard, now),
            Watched::EndpointSlice => self.take_slice(watch, heard, now),
            Watched::Namespace | Watched::Object(_) => {}
        }
    }

    fn take_service(&mut self, watch: &Watch, heard: Heard, now: Millis) {
        let store = self.services.entry(watch.clone()).or_default();
        match heard {
            Heard::ListBegins => store.list_begins(),
            Heard::Listed(sighting) | Heard::Changed(sighting) => {
                let place = sighting.place.clone();
                let (sighting, Seen::Service(service)) = split(sighting) else {
                    return;
                };
                if store.see(sighting, now) {
                    self.know(&place, |known| known.service = Some(service));
                }
            }
            Heard::ListEnds => {
                for place in store.list_ends() {
                    self.no_service(watch, &place);
                }
                self.touch_all();
            }
            Heard::Deleted(Sighting {
                place, uid, version, ..
            }) => {
                if store.is_deletion(&place, &uid, version) {
                    self.no_service(watch, &place);
                }
            }
            Heard::Failed(_) => self.touch_all(),
        }
    }

    fn no_service(&mut self, watch: &Watch, place: &Place) {
        self.services.entry(watch.clone()).or_default().remove(place);
        self.know(place, |known| known.service = None);
    }

    fn take_slice(&mut self, watch: &Watch, heard: Heard, now: Millis) {
        let store = self.slices.entry(watch.clone()).or_default();
        match heard {
            Heard::ListBegins => store.list_begins(),
            Heard::Listed(sighting) | Heard::Changed(sighting) => {
                let ((namespace, name), uid, version) = (sighting.place.clone(), sighting.uid, sighting.version);
                let Seen::Slice(service, slice) = sighting.value else {
                    return;
                };
                let before = store.get(&sighting.place).cloned();
                let of = Sighting {
                    place: sighting.place,
                    uid,
                    version,
                    value: service.clone(),
                };
                if !store.see(of, now) {
                    return;
                }
                if let Some(before) = before.filter(|before| *before != service) {
                    self.know(&(namespace.clone(), before), |known| drop(known.slices.remove(&name)));
                }
                self.know(&(namespace, service), |known| drop(known.slices.insert(name, slice)));
            }
            Heard::ListEnds => {
                for place in store.list_ends() {
                    self.no_slice(watch, place);
                }
                self.touch_all();
            }
            Heard::Deleted(Sighting {
                place, uid, version, ..
            }) => {
                if store.is_deletion(&place, &uid, version) {
                    self.no_slice(watch, place);
                }
            }
            Heard::Failed(_) => self.touch_all(),
        }
    }

    fn no_slice(&mut self, watch: &Watch, place: Place) {
        if let Some(service) = self.slices.entry(watch.clone()).or_default().remove(&place) {
            let (namespace, name) = place;
            self.know(&(namespace, service), |known| drop(known.slices.remove(&name)));
        }
    }

    fn know(&mut self, place: &Place, change: impl FnOnce(&mut Known)) {
        let known = self.known.entry(place.clone()).or_default();
        change(known);
        if known.service.is_none() && known.slices.is_empty() {
            self.known.remove(place);
        }
        self.touched.insert(place.clone());
    }

    /// How a whole kind fares has changed.
    fn touch_all(&mut self) {
        self.touched.extend(self.wanted_of.keys().cloned());
    }

    /// Follows exactly these Secrets; those that are new are returned, to be looked for.
    pub(super) fn follow(&mut self, secrets: &BTreeSet<CertificateRef>, now: Millis) -> Vec<CertificateRef> {
        self.secrets.retain(|secret, _| secrets.contains(secret));
        let new = secrets.iter().filter(|secret| !self.secrets.contains_key(*secret));
        let new: Vec<_> = new.cloned().collect();
        for secret in &new {
            let followed = Followed {
                store: Store::default(),
                sight: Sight::begin(now),
            };
            self.secrets.insert(secret.clone(), followed);
            self.touched_secrets.insert(secret.clone());
        }
        new
    }

    /// Takes in what the watch of one Secret tells.
    pub(super) fn take_secret(&mut self, secret: &CertificateRef, heard: Heard<Held>, now: Millis) {
        let Some(Followed { store, sight }) = self.secrets.get_mut(secret) else {
            return; // nobody wants it any more
        };
        sight.note(&heard, now);
        match heard {
            Heard::ListBegins => store.list_begins(),
            Heard::Listed(sighting) | Heard::Changed(sighting) => drop(store.see(sighting, now)),
            Heard::ListEnds => {
                for place in store.list_ends() {
                    store.remove(&place);
                }
            }
            Heard::Deleted(Sighting {
                place, uid, version, ..
            }) => {
                if store.is_deletion(&place, &uid, version) {
                    store.remove(&place);
                }
            }
            Heard::Failed(_) => {}
        }
        self.touched_secrets.insert(secret.clone());
    }

    /// What is wanted from now on.
    pub(super) fn want(&mut self, wanted: Arc<Wanted>) {
        let services = wanted.services.difference(&self.wanted.services);
        self.touched.extend(services.map(place_of));
        self.wanted_of.clear();
        for service in &wanted.services {
            self.wanted_of
                .entry(place_of(service))
                .or_default()
                .push(service.clone());
        }
        self.touched_secrets
            .extend(wanted.certificates.difference(&self.wanted.certificates).cloned());
        self.touched_secrets
            .extend(wanted.authorities.difference(&self.wanted.authorities).cloned());
        let values = Arc::make_mut(&mut self.values);
        values.services.retain(|service, _| wanted.services.contains(service));
        values
            .certificates
            .retain(|secret, _| wanted.certificates.contains(secret));
        values
            .authorities
            .retain(|secret, _| wanted.authorities.contains(secret));
        self.wanted = wanted;
    }

    /// The API server's history was set back.
    pub(super) fn set_back(&mut self) {
        self.services.values_mut().for_each(Store::set_back);
        self.slices.values_mut().for_each(Store::set_back);
        self.secrets.values_mut().for_each(|followed| followed.store.set_back());
    }

    /// Whether it looks as if that had happened.
    pub(super) fn looks_set_back(&self, now: Millis) -> bool {
        let services = self.services.values().any(|store| store.looks_set_back(now));
        let slices = self.slices.values().any(|store| store.looks_set_back(now));
        let mut secrets = self.secrets.values();
        services || slices || secrets.any(|followed| followed.store.looks_set_back(now))
    }

    /// The values as they are now. Of a value that is the same as before nothing is changed.
    pub(super) fn values(&mut self, sights: &impl Sights, scope: &Scope, now: Millis) -> Arc<Values> {
        for place in std::mem::take(&mut self.touched) {
            for service in self.wanted_of.get(&place).cloned().unwrap_or_default() {
                let state = self.service(&service, &place, sights);
                if self.values.services.get(&service) != Some(&state) {
                    Arc::make_mut(&mut self.values).services.insert(service, state);
                }
            }
        }
        let waiting = self.secrets.iter().filter(|(_, followed)| !followed.sight.was_seen());
        let waiting: BTreeSet<_> = waiting.map(|(secret, _)| secret.clone()).collect();
        let mut touched = std::mem::take(&mut self.touched_secrets);
        touched.extend(waiting);
        for secret in touched.iter().filter(|secret| self.wanted.authorities.contains(secret)) {
            let state = self.authorities(secret, scope, now);
            if self.values.authorities.get(secret) != Some(&state) {
                Arc::make_mut(&mut self.values)
                    .authorities
                    .insert(secret.clone(), state);
            }
        }
        for secret in touched
            .into_iter()
            .filter(|secret| self.wanted.certificates.contains(secret))
        {
            let state = self.certificate(&secret, scope, now);
            if self.values.certificates.get(&secret) != Some(&state) {
                Arc::make_mut(&mut self.values).certificates.insert(secret, state);
            }
        }
        self.values.clone()
    }

    fn service(&self, wanted: &ServiceRef, place: &Place, sights: &impl Sights) -> ServiceState {
        for watched in [Watched::Service, Watched::EndpointSlice] {
            match sights.seen(watched, &wanted.namespace) {
                Ok(true) => {}
                Ok(false) => return ServiceState::Unknown,
                Err(lack) => return ServiceState::Unseen(lack),
            }
        }
        let known = self.known.get(place);
        let service = known.and_then(|known| known.service.as_deref());
        let slices = known.into_iter().flat_map(|known| known.slices.values());
        resolve::service(wanted, service, slices.map(Arc::as_ref))
    }

    fn certificate(&self, secret: &CertificateRef, scope: &Scope, now: Millis) -> CertificateState {
        match self.held(secret, scope, now) {
            Found::Waiting => CertificateState::Unknown,
            Found::Missing => CertificateState::Missing(Lack::new(
                format!(
                    "there is no Secret {:?} in namespace {}",
                    secret.name.as_str(),
                    secret.namespace
                ),
                format!(
                    "create it, of type {TLS_SECRET_TYPE}, as `kubectl create secret tls` does, or correct the name"
                ),
            )),
            Found::Unseen(lack) => CertificateState::Unseen(lack),
            Found::Held(held) => held.states.certificate.clone(),
        }
    }

    fn authorities(&self, secret: &CertificateRef, scope: &Scope, now: Millis) -> AuthoritiesState {
        match self.held(secret, scope, now) {
            Found::Waiting => AuthoritiesState::Unknown,
            Found::Missing => AuthoritiesState::Missing(Lack::new(
                format!(
                    "there is no Secret {:?} in namespace {}",
                    secret.name.as_str(),
                    secret.namespace
                ),
                format!("create it, with {AUTHORITIES_KEY}, or correct the name"),
            )),
            Found::Unseen(lack) => AuthoritiesState::Unseen(lack),
            Found::Held(held) => held.states.authorities.clone(),
        }
    }

    fn held(&self, secret: &CertificateRef, scope: &Scope, now: Millis) -> Found<'_> {
        if let Some(lack) = scope.lacks_secrets_of(&secret.namespace) {
            return Found::Unseen(lack);
        }
        let Some(Followed { store, sight }) = self.secrets.get(secret) else {
            return Found::Waiting;
        };
        let place = (secret.namespace.clone(), secret.name.clone());
        match (store.get(&place), sight.state(now)) {
            // What was seen is used as it was, also when it may no longer be looked at.
            (Some(held), _) => Found::Held(held),
            (None, State::Seen) => Found::Missing,
            (None, State::Waiting) => Found::Waiting,
            (None, State::Lost(trouble)) => Found::Unseen(lack_of(&trouble, secret)),
        }
    }

    /// With whom `secrets` are shared.
    pub(super) fn shares(&self, secrets: &BTreeSet<CertificateRef>, scope: &Scope, now: Millis) -> Shares {
        let sharing = |secret: &CertificateRef| match self.held(secret, scope, now) {
            Found::Waiting => Sharing::NotYet,
            Found::Missing => Sharing::Missing,
            Found::Unseen(lack) => Sharing::Unseen(lack),
            Found::Held(held) => Sharing::Known(held.share.clone()),
        };
        Shares {
            known: secrets.iter().map(|secret| (secret.clone(), sharing(secret))).collect(),
            others: Sharing::NotYet,
        }
    }

    /// How many objects of a watch are known.
    pub(super) fn count(&self, watch: &Watch) -> usize {
        let services = self.services.get(watch).map_or(0, Store::len);
        services + self.slices.get(watch).map_or(0, Store::len)
    }

    /// How many Secrets are followed.
    pub(super) fn secrets(&self) -> usize {
        self.secrets.len()
    }
}

/// What is known of a Secret.
enum Found<'a> {
    Waiting,
    Missing,
    Unseen(Lack),
    Held(&'a Held),
}

fn place_of(service: &ServiceRef) -> Place {
    (service.namespace.clone(), service.name.clone())
}

fn lack_of(trouble: &Trouble, secret: &CertificateRef) -> Lack {
    trouble.lack_of_secret(secret.namespace.as_str(), secret.name.as_str())
}

/// A sighting, and what was seen.
fn split(sighting: Sighting<Seen>) -> (Sighting<()>, Seen) {
    let Sighting {
        place,
        uid,
        version,
        value,
    } = sighting;
    let without = Sighting {
        place,
        uid,
        version,
        value: (),
    };
    (without, value)
}
