//! Enrolment: a pod proves who it is, and gets a certificate that says so.
//!
//! ```text
//! throttle ─► signing request: whole, signed by its own key ─► who is it? ─► which fleet? ─► certificate for a day
//!                                                      token: the API server reviews it
//!                                                      certificate that ends soon: is its pod still there?
//! ```
//!
//! What an instance is called and which fleet it joins follows from its token and the members of Rollouts, never from
//! what it asks for: of its signing request only the public key is used. A renewal needs no API server. Every replica
//! enrols, leader or not. No token is ever logged; every refusal is counted, and logged once for as long as whoever is
//! refused asks again.

mod complaints;
mod request;
pub mod review;
mod throttle;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sluice_model::ClusterId;
use sluice_model::limits::{TOKEN_REVIEW_WAIT_MS, TOKEN_REVIEWS};
use sluice_proto::pb;
use sluice_proto::pb::enrolment_server;
use sluice_proto::{Audience, EnrolRequest, Enrolled, Proof, Token};
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;
use tonic::{Code, Request, Response, Status};

use crate::pipeline::Clock;
use crate::pki::{Identity, Peer, Workload, instance_of_pod};
use crate::register::{self, Register};
use crate::stream::identity;
use crate::telemetry::{EnrolmentResult, Telemetry};
use crate::trust::Trust;

use complaints::Complaints;
use review::{Review, ReviewError, Reviewed};
use throttle::Throttle;

/// For whom the tokens of instances are made out: one that is meant for somebody else is refused.
pub const TOKEN_AUDIENCE: &str = "sluice-controller";

/// How instances get their certificates.
#[derive(Clone, Debug)]
pub enum Enrolment {
    /// Somebody runs `sluice-controller enroll`.
    ByCommand,
    /// They ask, and prove who they are with their pods' tokens.
    ByToken(Arc<Registrar>),
}

#[tonic::async_trait]
impl enrolment_server::Enrolment for Enrolment {
    async fn enrol(&self, request: Request<pb::EnrolRequest>) -> Result<Response<pb::EnrolResponse>, Status> {
        match self {
            Self::ByCommand => Err(Status::unimplemented(
                "this controller runs without Kubernetes, where nobody can review a token; make an identity with \
                 `sluice-controller enroll` and start the instance without --token",
            )),
            Self::ByToken(registrar) => registrar.enrol(request).await,
        }
    }
}

/// Gives out certificates.
#[derive(Debug)]
pub struct Registrar {
    parts: Parts,
    throttle: Mutex<Throttle>,
    complaints: Mutex<Complaints>,
    /// Reviews under way.
    reviews: Semaphore,
}

/// What a registrar works with.
pub struct Parts {
    /// Which cluster this is.
    pub cluster: ClusterId,
    /// Who signs certificates, and what comes with one.
    pub trust: watch::Receiver<Arc<Trust>>,
    /// Who tokens belong to.
    pub review: Arc<dyn Review>,
    /// Who belongs to which fleet.
    pub register: Arc<dyn Register>,
    /// What time it is.
    pub clock: Clock,
    /// Where it is counted.
    pub telemetry: Arc<Telemetry>,
}

impl std::fmt::Debug for Parts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Parts({}, {:?}, {:?})", self.cluster, self.review, self.register)
    }
}

/// Who asks, as far as the connection tells.
struct Caller {
    from: IpAddr,
    /// Named by its certificate, if it showed one.
    peer: Option<Result<Peer, Status>>,
}

impl Registrar {
    /// One that has given out nothing yet.
    pub fn new(parts: Parts) -> Self {
        Self {
            parts,
            throttle: Mutex::default(),
            complaints: Mutex::default(),
            reviews: Semaphore::new(TOKEN_REVIEWS),
        }
    }

    async fn enrol(&self, request: Request<pb::EnrolRequest>) -> Result<Response<pb::EnrolResponse>, Status> {
        let certificates = request.peer_certs();
        let peer =
            certificates.map(|certificates| identity::of_peer(Some(certificates.as_slice()), &self.parts.cluster));
        let from = request
            .remote_addr()
            .map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |address| address.ip());
        let answer = self.answer(&Caller { from, peer }, request.into_inner()).await;
        self.parts.telemetry.enrolled(result_of(&answer));
        if let Err(status) = &answer {
            self.complain(from, status);
        }
        Ok(Response::new((&answer?).into()))
    }

    fn complain(&self, from: IpAddr, status: &Status) {
        let (code, why) = (status.code(), status.message());
        // Whole after every line, so a panic elsewhere spoils nothing.
        let mut complaints = self.complaints.lock().unwrap_or_else(PoisonError::into_inner);
        // How long somebody has to wait differs each time.
        let reason = if code == Code::ResourceExhausted { "" } else { why };
        if complaints.is_news(from, reason, (self.parts.clock)()) {
            tracing::warn!(%from, ?code, why, "enrolment refused; said once for as long as it asks again");
        } else {
            tracing::debug!(%from, ?code, why, "enrolment refused");
        }
    }

    async fn answer(&self, caller: &Caller, request: pb::EnrolRequest) -> Result<Enrolled, Status> {
        self.take_turn(caller.from)?;
        let EnrolRequest {
            proof,
            signing_request,
            build,
        } = request.try_into().map_err(invalid)?;
        let key = request::public_key(&signing_request).map_err(invalid)?;
        let peer = match &proof {
            Proof::Token(token) => self.peer_of_token(token).await?,
            Proof::Certificate => self.peer_of_certificate(caller).await?,
        };
        let trust = Arc::clone(&self.parts.trust.borrow());
        let certified = trust
            .pki
            .authority()
            .certify(&peer, &key, (self.parts.clock)().seconds())
            .map_err(|error| Status::internal(error.to_string()))?;
        let Peer { identity, workload } = peer;
        let by = match proof {
            Proof::Token(_) => "token",
            Proof::Certificate => "certificate",
        };
        let workload = workload.map(|workload| workload.to_string());
        tracing::info!(instance = %identity.instance, fleet = %identity.fleet, workload, by, build, "enrolled");
        Ok(Enrolled {
            audience: Audience {
                cluster: identity.cluster,
                fleet: identity.fleet,
            },
            instance: identity.instance,
            certificate_pem: certified.certificate,
            ca_pem: trust.pki.authority().bundle(),
            trusted: trust.trusted.clone(),
            renew_at_unix_seconds: certified.renew_at,
        })
    }

    fn take_turn(&self, from: IpAddr) -> Result<(), Status> {
        let now = (self.parts.clock)();
        // Whole after every line, so a panic elsewhere spoils nothing.
        let mut throttle = self.throttle.lock().unwrap_or_else(PoisonError::into_inner);
        throttle
            .take(from, now)
            .map_err(|busy| Status::resource_exhausted(busy.to_string()))
    }

    async fn peer_of_token(&self, token: &Token) -> Result<Peer, Status> {
        let reviewed = self.review(token).await?;
        let Reviewed {
            namespace,
            service_account,
            pod_name,
            pod,
        } = reviewed;
        let instance = instance_of_pod(pod_name.as_str(), &pod).ok_or_else(|| {
            Status::failed_precondition(format!(
                "the name of the pod {namespace}/{pod_name} is too long to name an instance after it; shorten it to 119 characters"
            ))
        })?;
        let workload = Workload {
            namespace,
            service_account,
            pod,
        };
        let fleet = register::fleet_of(self.parts.register.as_ref(), &workload)?;
        Ok(Peer {
            identity: Identity {
                cluster: self.parts.cluster.clone(),
                fleet,
                instance,
            },
            workload: Some(workload),
        })
    }

    async fn review(&self, token: &Token) -> Result<Reviewed, Status> {
        let _turn = self
            .reviews
            .try_acquire()
            .map_err(|_| Status::resource_exhausted("too many tokens are under review; try again in a second"))?;
        let wait = Duration::from_millis(TOKEN_REVIEW_WAIT_MS);
        let reviewed = timeout(wait, self.parts.review.review(token)).await;
        match reviewed {
            Ok(Ok(reviewed)) => Ok(reviewed),
            Ok(Err(ReviewError::Refused(why))) => Err(Status::unauthenticated(why)),
            Ok(Err(ReviewError::Unavailable(why))) => Err(Status::unavailable(why)),
            Err(_) => Err(Status::unavailable(format!(
                "the API server did not review the token within {wait:?}; is it there?"
            ))),
        }
    }

    async fn peer_of_certificate(&self, caller: &Caller) -> Result<Peer, Status> {
        let peer = caller.peer.clone().ok_or_else(|| {
            Status::unauthenticated("neither a token nor a client certificate was shown; one of them says who asks")
        })??;
        register::admit(self.parts.register.as_ref(), &peer).await?;
        Ok(peer)
    }
}

fn invalid(error: impl std::fmt::Display) -> Status {
    Status::invalid_argument(error.to_string())
}

fn result_of(answer: &Result<Enrolled, Status>) -> EnrolmentResult {
    match answer {
        Ok(_) => EnrolmentResult::Certified,
        Err(status) if status.code() == tonic::Code::ResourceExhausted => EnrolmentResult::Throttled,
        Err(status) if status.code() == tonic::Code::Unavailable => EnrolmentResult::Unavailable,
        Err(_) => EnrolmentResult::Refused,
    }
}
