//! What a fleet's instances are to hold of the live lane: the last good value of everything that the fleet refers to,
//! with the stamp under which it is sent. Pure: values and time come as arguments, updates to sign go out.
//!
//! A value that is unknown, missing or refused leaves the one before in place. Endpoints that leave a service in large
//! numbers stay for a while: a broken endpoint controller must not empty a pool.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use sluice_model::limits::{MAX_CLOCK_SKEW_SECONDS, MAX_LIVE_ENDPOINTS, REMOVAL_BRAKE_FROM_ENDPOINTS};
use sluice_model::{CertificateRef, Digest, LiveSubject, ServiceRef};
use sluice_proto::{Audience, EndpointState, HeldValue, LiveEndpoint, LiveStamp, LiveUpdate, LiveValue, SealedLive};

use super::{CertificateState, Lack, RemovalBrake, ServiceState, Values};
use crate::rollout::Millis;

/// How many low bits of a term are less than a second: a controller that starts again within one begins a higher term.
const TERM_FRACTION_BITS: u32 = 20;

/// See the file's comment.
#[derive(Debug)]
pub struct Lane {
    audience: Audience,
    /// Of the update stamped last.
    last: LiveStamp,
    current: BTreeMap<LiveSubject, Current>,
    doubted: BTreeMap<ServiceRef, Millis>,
    /// Certificates that are not taken, and why.
    refused: BTreeMap<CertificateRef, Lack>,
}

/// The value that serves.
#[derive(Debug)]
struct Current {
    value: LiveValue,
    digest: Digest,
    /// As it is sent, once it was; a later term seals it anew.
    sealed: Option<SealedLive>,
}

/// How many endpoints of a service take requests, of all.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Rotation {
    /// Those that do.
    pub ready: usize,
    /// All.
    pub all: usize,
}

/// What a step came to.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Step {
    /// What has a new value.
    pub changed: BTreeSet<LiveSubject>,
    /// What people want to know.
    pub news: Vec<News>,
}

/// What people want to know of a lane.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum News {
    /// Endpoints that left a service stay for now.
    BrakeHolds {
        /// Which.
        service: ServiceRef,
        /// How many left.
        left: usize,
        /// Of how many.
        of: usize,
        /// For how long they stay, in milliseconds.
        hold_ms: u64,
    },
    /// What they stayed for is over: they came back, or are believed to be gone.
    BrakeReleased {
        /// Which.
        service: ServiceRef,
        /// How many are gone.
        gone: usize,
    },
    /// A certificate is not taken; the one before serves on, if there was one.
    CertificateRefused {
        /// Which.
        certificate: CertificateRef,
        /// Why.
        lack: Lack,
    },
}

impl fmt::Display for News {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BrakeHolds {
                service,
                left,
                of,
                hold_ms,
            } => write!(
                f,
                "{left} of {of} endpoints of {service} left at once; they stay in rotation for {} s",
                hold_ms.div_ceil(1_000)
            ),
            Self::BrakeReleased { service, gone: 0 } => write!(f, "the endpoints of {service} are back"),
            Self::BrakeReleased { service, gone } => write!(f, "{gone} endpoints of {service} are out of rotation now"),
            Self::CertificateRefused { certificate, lack } => {
                let Lack { message, fix } = lack;
                write!(f, "certificate {certificate} is not taken: {message}; {fix}")
            }
        }
    }
}

impl Lane {
    /// An empty one, of a controller that begins to lead `now`.
    pub fn begin(audience: Audience, now: Millis) -> Self {
        let (seconds, millis) = (now.0 / 1_000, now.0 % 1_000);
        let term = (seconds << TERM_FRACTION_BITS) + millis;
        Self {
            audience,
            last: LiveStamp {
                term: term.max(1),
                sequence: 0,
            },
            current: BTreeMap::new(),
            doubted: BTreeMap::new(),
            refused: BTreeMap::new(),
        }
    }

    /// An instance says that it holds something of `term`. If that is higher, so is everything from now on. Terms that
    /// no honest controller can have reached are passed over: nobody shall wear the numbers out.
    pub fn heard_of_term(&mut self, term: u64, now: Millis) {
        let latest = (now.0 / 1_000).saturating_add(2 * MAX_CLOCK_SKEW_SECONDS) << TERM_FRACTION_BITS;
        if term > self.last.term && term <= latest {
            self.last = LiveStamp {
                term: term + 1,
                sequence: 0,
            };
            for current in self.current.values_mut() {
                current.sealed = None;
            }
        }
    }

    /// Takes in what a source says of `wanted`, and forgets everything else.
    pub fn step(
        &mut self,
        values: &Values,
        wanted: &BTreeSet<LiveSubject>,
        brakes: &BTreeMap<ServiceRef, RemovalBrake>,
        now: Millis,
    ) -> Step {
        let mut step = Step::default();
        self.current.retain(|subject, _| wanted.contains(subject));
        self.doubted
            .retain(|service, _| wanted.contains(&LiveSubject::Service(service.clone())));
        self.refused
            .retain(|certificate, _| wanted.contains(&LiveSubject::Certificate(certificate.clone())));
        for subject in wanted {
            let value = match subject {
                LiveSubject::Service(service) => {
                    let brake = brakes.get(service).copied().unwrap_or_default();
                    self.endpoints(service, values.service(service), brake, now, &mut step.news)
                }
                LiveSubject::Certificate(certificate) => {
                    self.material(certificate, values.certificate(certificate), now, &mut step.news)
                }
            };
            if let Some(value) = value.filter(|value| self.is_new(subject, value)) {
                let digest = value.digest();
                let current = Current {
                    value,
                    digest,
                    sealed: None,
                };
                self.current.insert(subject.clone(), current);
                step.changed.insert(subject.clone());
            }
        }
        step
    }

    fn is_new(&self, subject: &LiveSubject, value: &LiveValue) -> bool {
        self.current.get(subject).is_none_or(|current| current.value != *value)
    }

    /// What a service's endpoints are now; `None`: as before.
    fn endpoints(
        &mut self,
        service: &ServiceRef,
        state: &ServiceState,
        brake: RemovalBrake,
        now: Millis,
        news: &mut Vec<News>,
    ) -> Option<LiveValue> {
        let nobody: &[LiveEndpoint] = &[];
        let is_held = self.current.contains_key(&LiveSubject::Service(service.clone()));
        let found = match state {
            ServiceState::Endpoints(found) => found,
            // Said so that instances need not wait for it. One that was there keeps what it had: a reference that breaks
            // is mended by people, and takes nothing out of service.
            ServiceState::Missing(_) | ServiceState::Unusable(_) if !is_held => nobody,
            ServiceState::Missing(_) | ServiceState::Unusable(_) | ServiceState::Unknown | ServiceState::Unseen(_) => {
                return None;
            }
        };
        let served = match self
            .current
            .get(&LiveSubject::Service(service.clone()))
            .map(|current| &current.value)
        {
            Some(LiveValue::Endpoints { endpoints, .. }) => endpoints.as_slice(),
            Some(LiveValue::Certificate { .. }) | None => &[],
        };
        let left = leaving(served, found);
        let of = in_rotation(served);
        let stays = is_sudden(brake, of, left.len()) && {
            let since = *self.doubted.entry(service.clone()).or_insert_with(|| {
                news.push(News::BrakeHolds {
                    service: service.clone(),
                    left: left.len(),
                    of,
                    hold_ms: brake.hold_ms,
                });
                now
            });
            now.since(since) < brake.hold_ms
        };
        let endpoints = bounded(found, if stays { &left } else { &[] });
        if !stays {
            self.release(service, left.len(), news);
        }
        Some(LiveValue::Endpoints {
            service: service.clone(),
            endpoints,
        })
    }

    fn release(&mut self, service: &ServiceRef, gone: usize, news: &mut Vec<News>) {
        if self.doubted.remove(service).is_some() {
            news.push(News::BrakeReleased {
                service: service.clone(),
                gone,
            });
        }
    }

    /// What a certificate is now; `None`: as before.
    fn material(
        &mut self,
        certificate: &CertificateRef,
        state: &CertificateState,
        now: Millis,
        news: &mut Vec<News>,
    ) -> Option<LiveValue> {
        let material = match state {
            CertificateState::Unknown | CertificateState::Unseen(_) => return None,
            CertificateState::Missing(_) => {
                self.refused.remove(certificate);
                return None;
            }
            CertificateState::Refused(lack) => {
                self.refuse(certificate, lack.clone(), news);
                return None;
            }
            CertificateState::Material(material) => material,
        };
        let value = LiveValue::Certificate {
            certificate: certificate.clone(),
            chain: material.chain.clone(),
            key: material.key.clone(),
        };
        // One that serves goes on when its time ends: clients that care say so, and others are not cut off.
        let new = self.is_new(&LiveSubject::Certificate(certificate.clone()), &value);
        if let Some(lack) = material.out_of_time(seconds(now)).filter(|_| new) {
            self.refuse(certificate, lack, news);
            return None;
        }
        self.refused.remove(certificate);
        Some(value)
    }

    /// Says that a certificate is not taken; once.
    fn refuse(&mut self, certificate: &CertificateRef, lack: Lack, news: &mut Vec<News>) {
        if self.refused.get(certificate) != Some(&lack) {
            self.refused.insert(certificate.clone(), lack.clone());
            news.push(News::CertificateRefused {
                certificate: certificate.clone(),
                lack,
            });
        }
    }

    /// Which of `needed` an instance lacks that says it holds `held`.
    pub fn lacking<'a>(
        &'a self,
        needed: &'a BTreeSet<LiveSubject>,
        held: &'a BTreeMap<LiveSubject, Digest>,
    ) -> impl Iterator<Item = (&'a LiveSubject, Digest)> {
        let current = needed
            .iter()
            .filter_map(|subject| Some((subject, self.current.get(subject)?.digest)));
        current.filter(|(subject, digest)| held.get(subject) != Some(digest))
    }

    /// The update of `subject` as it is sent, sealed by `seal` the first time.
    ///
    /// # Errors
    /// Those of `seal`.
    pub fn sealed<E>(
        &mut self,
        subject: &LiveSubject,
        seal: impl FnOnce(&LiveUpdate) -> Result<SealedLive, E>,
    ) -> Result<Option<SealedLive>, E> {
        let Some(current) = self.current.get_mut(subject) else {
            return Ok(None);
        };
        if current.sealed.is_none() {
            self.last.sequence += 1;
            current.sealed = Some(seal(&LiveUpdate {
                audience: self.audience.clone(),
                stamp: self.last,
                value: current.value.clone(),
            })?);
        }
        Ok(current.sealed.clone())
    }

    /// How many endpoints of each service take requests.
    pub fn rotation(&self) -> impl Iterator<Item = (ServiceRef, Rotation)> {
        self.current.values().filter_map(|current| match &current.value {
            LiveValue::Endpoints { service, endpoints } => {
                let rotation = Rotation {
                    ready: in_rotation(endpoints),
                    all: endpoints.len(),
                };
                Some((service.clone(), rotation))
            }
            LiveValue::Certificate { .. } => None,
        })
    }

    /// How many services' endpoints are doubted now.
    pub fn doubted(&self) -> usize {
        self.doubted.len()
    }

    /// Whether time alone may change something: a brake lets go, or a certificate's time comes.
    pub fn waits(&self) -> bool {
        !self.doubted.is_empty() || !self.refused.is_empty()
    }

    /// What is to be held, for whoever compares.
    pub fn holds(&self) -> impl Iterator<Item = HeldValue> {
        self.current.iter().map(|(subject, current)| HeldValue {
            subject: subject.clone(),
            digest: current.digest,
        })
    }
}

fn seconds(now: Millis) -> i64 {
    i64::try_from(now.0 / 1_000).unwrap_or(i64::MAX)
}

fn in_rotation(endpoints: &[LiveEndpoint]) -> usize {
    endpoints.iter().filter(|one| one.state == EndpointState::Ready).count()
}

/// The endpoints in rotation that are not any more. Those that say themselves that they are going are believed: a
/// rollout of the service's pods is no sudden loss while they still serve.
fn leaving(served: &[LiveEndpoint], found: &[LiveEndpoint]) -> Vec<LiveEndpoint> {
    let ready = served.iter().filter(|one| one.state == EndpointState::Ready);
    let still = |one: &LiveEndpoint| found.binary_search_by_key(&one.address, |other| other.address).is_ok();
    ready.filter(|one| !still(one)).cloned().collect()
}

fn is_sudden(brake: RemovalBrake, of: usize, left: usize) -> bool {
    brake.hold_ms > 0 && of >= REMOVAL_BRAKE_FROM_ENDPOINTS && left * 100 > of * usize::from(brake.max_percent_at_once)
}

/// What was found and what stays, as many as fit: ready ones first.
fn bounded(found: &[LiveEndpoint], staying: &[LiveEndpoint]) -> Vec<LiveEndpoint> {
    let mut all: Vec<LiveEndpoint> = found.iter().chain(staying).cloned().collect();
    all.sort_by_key(|one| (one.state, one.address));
    all.truncate(MAX_LIVE_ENDPOINTS);
    all.sort_by_key(|one| one.address);
    all
}

#[cfg(test)]
mod tests;
