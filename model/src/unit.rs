//! Units: what one object means, as a named, typed piece of `Config` that can be lifted in or out on its own.
//!
//! Leaf policies are parsed once into types that cannot hold nonsense and are shared by `Arc` all the way into
//! the data plane's `Live`. References to other units stay names until then.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::sync::Arc;

use crate::client_limits::{BodyBytes, ClientLimits};
use crate::header_changes::HeaderChanges;
use crate::host::{Host, HostPattern};
use crate::limits::{MAX_TIMEOUT_MILLIS, MAX_WEIGHT};
use crate::matching::RouteMatch;
use crate::names::{Name, ObjectKey};
use crate::network::Network;
use crate::pool_connections::PoolConnections;
use crate::reference::{CertificateRef, ServiceRef};
use crate::target::{Redirect, Rewrite};
use crate::upgrade::UpgradeToken;

/// What one object means.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Unit {
    /// Of a ProxyRoute.
    Route(RouteUnit),
    /// Of a Pool.
    Pool(PoolUnit),
    /// Of a Rollout: how its fleet listens. (Stages and gates are the controller's own business.)
    DataPlane(DataPlaneUnit),
}

/// Where requests for some hosts go.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RouteUnit {
    /// When its object was created, in seconds since 1970; older wins a tie. `None` is younger than any.
    pub created_at_seconds: Option<u64>,
    /// The hosts it is for; never empty (`Any` for all).
    pub hosts: Vec<HostPattern>,
    /// Its rules, in the author's order; never empty.
    pub rules: Vec<Rule>,
    /// What clients that come over TLS are shown, each for those of the hosts that it names; none twice.
    pub certificates: Vec<CertificateRef>,
    /// Whether clients have to show certificates too; `None`: nobody asks for one.
    pub client_auth: Option<ClientAuth>,
    /// What becomes of its requests that come in the clear.
    pub plain_http: PlainHttp,
}

impl RouteUnit {
    /// A route of unknown age, with no certificates, that serves in the clear as well.
    pub fn of(hosts: Vec<HostPattern>, rules: Vec<Rule>) -> Self {
        Self {
            created_at_seconds: None,
            hosts,
            rules,
            certificates: vec![],
            client_auth: None,
            plain_http: PlainHttp::Allow,
        }
    }
}

/// What becomes of requests that come in the clear.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum PlainHttp {
    /// The same as of others.
    #[default]
    Allow,
    /// Their clients are sent to HTTPS.
    Redirect,
    /// They are refused.
    Reject,
}

/// What a route asks of its clients.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ClientAuth {
    /// Who has to have signed their certificates.
    pub ca: CertificateRef,
    /// Whether they have to show one.
    pub mode: ClientAuthMode,
    /// What of a certificate that they have signed the pool is told. Empty: nothing.
    pub forwarded: BTreeSet<CertificatePart>,
}

/// A part of a client's certificate, as `X-Forwarded-Client-Cert` has it (Envoy's documentation of that field).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum CertificatePart {
    /// SHA-256 of the certificate.
    Hash,
    /// Its subject (RFC 4514).
    Subject,
    /// The URIs among its alternative names, as of SPIFFE.
    Uri,
    /// The DNS names among them.
    Dns,
}

impl CertificatePart {
    /// All, in the order in which they are written.
    pub const ALL: [Self; 4] = [Self::Hash, Self::Subject, Self::Uri, Self::Dns];
}

/// What a rule asks of its clients beside what its route does.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum RuleClientAuth {
    /// Nothing.
    #[default]
    AsRoute,
    /// A certificate that the route's authorities have signed, also where the route itself only asks for one.
    Required,
}

/// Whether clients have to show a certificate.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum ClientAuthMode {
    /// No request without one is forwarded.
    #[default]
    Required,
    /// They are asked for one, and the log says which it was.
    Optional,
}

/// One rule of a route.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rule {
    /// What people call it; the data plane logs it.
    pub name: Option<Arc<str>>,
    /// It applies where any of these does; never empty.
    pub matches: Vec<RouteMatch>,
    /// What becomes of its requests.
    pub action: Action,
    /// What of a response's header fields is changed before the client gets them.
    pub response_headers: Arc<HeaderChanges>,
    /// What it asks of its clients. Only of a route that asks for certificates.
    pub client_auth: RuleClientAuth,
}

impl Rule {
    /// A rule without a name that sends every request to `pool`, as it is.
    pub fn to(pool: ObjectKey) -> Self {
        Self {
            name: None,
            matches: vec![RouteMatch::default()],
            action: Action::Forward(Forward::to(pool)),
            response_headers: Arc::default(),
            client_auth: RuleClientAuth::AsRoute,
        }
    }

    /// The pool that it sends requests to, if it does.
    pub fn pool(&self) -> Option<&ObjectKey> {
        match &self.action {
            Action::Forward(forward) => Some(&forward.pool),
            Action::Redirect(_) => None,
        }
    }
}

/// What becomes of the requests that a rule takes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Action {
    /// They go to a pool.
    Forward(Forward),
    /// Their clients are sent elsewhere.
    Redirect(Arc<Redirect>),
}

/// How requests go to a pool.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Forward {
    /// Which, always a `Kind::Pool` key.
    pub pool: ObjectKey,
    /// How long things may take.
    pub timeouts: Arc<Timeouts>,
    /// How large a request's body may be; `None`: as large as it likes.
    pub max_body: Option<BodyBytes>,
    /// Protocols that its clients may go over to; none twice.
    pub upgrades: Arc<[UpgradeToken]>,
    /// What of a request's header fields is changed before the upstream gets them.
    pub request_headers: Arc<HeaderChanges>,
    /// The host and path that the upstream gets in place of the request's own.
    pub rewrite: Arc<Rewrite>,
}

impl Forward {
    /// As they are, to `pool`.
    pub fn to(pool: ObjectKey) -> Self {
        Self {
            pool,
            timeouts: Arc::default(),
            max_body: None,
            upgrades: Arc::default(),
            request_headers: Arc::default(),
            rewrite: Arc::default(),
        }
    }
}

/// How long the parts of an exchange may take.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Timeouts {
    /// From the request's head to the response's last byte, retries included. What passes while it is the client who is
    /// waited for ends nothing. `None`: no limit.
    pub request: Option<TimeoutMillis>,
    /// From choosing an endpoint to the head of its response. `None`: no limit.
    pub per_try: Option<TimeoutMillis>,
    /// How long nothing of a request's body or of its response may come. `None`: no limit.
    pub idle: Option<TimeoutMillis>,
}

/// A timeout: at least a millisecond, at most a day.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct TimeoutMillis(NonZeroU64);

impl TimeoutMillis {
    /// `None` if `millis` is 0 or more than a day.
    pub fn new(millis: u64) -> Option<Self> {
        NonZeroU64::new(millis)
            .filter(|m| m.get() <= MAX_TIMEOUT_MILLIS)
            .map(Self)
    }

    /// As milliseconds.
    pub fn get(self) -> u64 {
        self.0.get()
    }
}

/// A named group of upstream endpoints.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PoolUnit {
    /// Where its endpoints come from.
    pub source: PoolSource,
    /// How they are spoken to.
    pub transport: Arc<Transport>,
}

/// How the endpoints of a pool are spoken to.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Transport {
    /// In which version of HTTP.
    pub protocol: UpstreamProtocol,
    /// Whether over TLS; `None`: in the clear.
    pub tls: Option<UpstreamTls>,
    /// How many connections, and how long they may rest and take to open.
    pub connections: PoolConnections,
}

/// Which version of HTTP endpoints speak.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum UpstreamProtocol {
    /// HTTP/1.1.
    #[default]
    Http1,
    /// HTTP/2; in the clear with prior knowledge (RFC 9113 §3.3).
    Http2,
    /// Either, by ALPN (RFC 7301). Only with TLS, which `Snapshot::check` demands.
    Auto,
}

/// TLS to endpoints. There is no way to believe a certificate without verifying it.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct UpstreamTls {
    /// Whom their certificates must be for.
    pub server_name: Host,
    /// Those who sign them; `None`: the public authorities that this build knows.
    pub ca: Option<CertificateRef>,
    /// What they are shown if they ask.
    pub client_certificate: Option<CertificateRef>,
}

/// Where the endpoints of a pool come from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PoolSource {
    /// They are written down: weighted round robin over them. In the author's order, no address twice. May be empty:
    /// then requests get `no_endpoint`.
    Static(Vec<Endpoint>),
    /// They are those of a Service, which the live lane brings: round robin over those that are ready.
    Service(ServiceRef),
}

impl PoolUnit {
    /// A pool of these endpoints, which are spoken to in HTTP/1.1 in the clear.
    pub fn of_endpoints(endpoints: Vec<Endpoint>) -> Self {
        Self::of(PoolSource::Static(endpoints))
    }

    /// The same of endpoints that come from wherever.
    pub fn of(source: PoolSource) -> Self {
        Self {
            source,
            transport: Arc::default(),
        }
    }
}

/// One upstream address.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Endpoint {
    /// Where it listens. Port 0 is refused by `Snapshot::check`.
    pub address: SocketAddr,
    /// Its share of requests, relative to the other endpoints'. 0 gets none.
    pub weight: Weight,
}

/// A weight, 0 to 1,000,000.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Weight(u32);

impl Weight {
    /// What an endpoint has that names none.
    pub const ONE: Self = Self(1);

    /// `None` if out of range.
    pub fn new(weight: u32) -> Option<Self> {
        (weight <= MAX_WEIGHT).then_some(Self(weight))
    }

    /// As a number.
    pub fn get(self) -> u32 {
        self.0
    }
}

/// How the instances of a fleet listen.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DataPlaneUnit {
    /// No name and no port twice; never empty.
    pub listeners: Vec<Listener>,
    /// What each client may take of an instance.
    pub limits: ClientLimits,
}

impl DataPlaneUnit {
    /// These listeners, with the limits that there are unless somebody says otherwise.
    pub fn of(listeners: Vec<Listener>) -> Self {
        Self {
            listeners,
            limits: ClientLimits::default(),
        }
    }
}

/// One port that the instances of a fleet serve.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Listener {
    /// A DNS label, for people, metrics and `--bind name=ADDR`.
    pub name: Name,
    /// The TCP port; never 0.
    pub port: u16,
    /// How it speaks TLS; `None`: in the clear.
    pub tls: Option<ListenerTls>,
    /// Whether clients may speak HTTP/2 to it.
    pub http2: Http2,
    /// From where connections begin with a PROXY header, which says who the client is. Empty: from nowhere. In order, each
    /// once.
    pub proxy_protocol_from: Vec<Network>,
}

/// Whether clients may speak HTTP/2 to a listener. HTTP/1.1 they may speak always.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Http2 {
    /// Over TLS, if the client asks for it in the handshake (ALPN); not in the clear.
    #[default]
    Negotiated,
    /// Not even over TLS.
    Off,
    /// In the clear, to clients that begin with the preface of HTTP/2 (RFC 9113 §3.3). Not with `tls`.
    PriorKnowledge,
}

/// How a listener speaks TLS: with the certificates of the routes, chosen by the name that the client asks for.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ListenerTls {
    /// For names that no route has a certificate for. `None`: the handshake is refused.
    pub default_certificate: Option<CertificateRef>,
    /// The lowest version that it speaks.
    pub min_version: TlsVersion,
}

/// A version of TLS that a listener may ask for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub enum TlsVersion {
    /// 1.2 (RFC 5246), with forward secrecy and authenticated encryption only.
    #[default]
    Tls12,
    /// 1.3 (RFC 8446).
    Tls13,
}

impl TlsVersion {
    /// As people write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tls12 => "1.2",
            Self::Tls13 => "1.3",
        }
    }
}
