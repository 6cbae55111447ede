//! `Exchange`: one request and everything that is known of it, filled phase by phase. Access log, metrics and gate
//! statistics are functions of it, made when it is dropped: no way of ending escapes the record.

mod record;

use std::rc::Rc;
use std::time::Instant;

use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, Version};
use hyper::body::Body;
use sluice_model::unit::{ClientAuth, UpstreamProtocol};
use sluice_model::upgrade::UpgradeToken;

use super::body::{ClientBody, Progress, Watch};
use super::connect::{self, Connect};
use super::deadline::Deadline;
use super::drain::Rest;
use super::failure::{Failure, Whose};
use super::forward::{Miss, Outgoing};
use super::grpc::{self, Status};
use super::hints::Hints;
use super::host::Host;
use super::tunnel::Traffic;
use crate::guard::gate::Refused;
use crate::guard::rule::Rule;
use crate::http2;
use crate::http2::state::Stream;
use crate::live::{ActionEntry, ForwardEntry, PoolEntry, RouteEntry, RuleEntry};
use crate::middleware::request_id;
use crate::pool::rotation::EndpointEntry;
use crate::router::Destination;
use crate::stats::Verdict;
use crate::telemetry::counters::EndpointCounters;
use crate::telemetry::names::OTHER;
use crate::tls::clients::Shown;
use crate::upstream::dial::Unreached;
use crate::worker::connection::Connection;
use crate::worker::lane::{Chosen, Lane};
use crate::worker::{Leaving, Worker};

/// Where a request was routed: indices in its generation.
#[derive(Clone, Copy, Debug)]
struct Routed {
    to: Destination,
    pool: Option<u32>,
}

/// One request and its answer.
pub(crate) struct Exchange {
    pub(crate) worker: Rc<Worker>,
    pub(crate) connection: Rc<Connection>,
    pub(crate) started: Instant,
    pub(crate) version: Version,
    pub(crate) host: Option<Host>,
    pub(crate) request_id: HeaderValue,
    /// What serves it: loaded once.
    pub(crate) lane: Option<Rc<Lane>>,
    pub(crate) bytes_out: u64,
    pub(super) request_body: Option<Rc<Watch>>,
    /// What is left of a request that is answered without being forwarded.
    pub(super) rest: Rest,
    /// Fields that are taken out of its trailers too: what the client's `Connection` named, and what its rule sets or removes.
    pub(super) nominated: Vec<HeaderName>,
    /// Until when it has to be over.
    pub(super) deadline: Option<Deadline>,
    /// The protocol that it may go over to, and asks its upstream for.
    pub(super) upgrade: Option<UpgradeToken>,
    /// If it is an extended `CONNECT`.
    pub(super) connect: Option<Box<Connect>>,
    /// What it became, if it did.
    pub(super) tunnel: Option<Rc<Traffic>>,
    /// In HTTP/2: the stream it comes by.
    pub(super) stream: Option<Rc<Stream>>,
    /// Whether its client sends a body when it is told to, and not before (`Expect: 100-continue`).
    pub(super) waits_to_go_on: bool,
    refused: Option<Refused>,
    /// The rule it broke.
    rule: Option<Rule>,
    /// Of a call of gRPC: its `content-type`.
    call: Option<HeaderValue>,
    /// How that ended.
    call_status: Option<Status>,
    method: Method,
    uri: Uri,
    routed: Option<Routed>,
    endpoint: Option<Chosen>,
    sent: Option<Instant>,
    upstream_micros: Option<u64>,
    /// Why an endpoint could not be reached, the last time that one could not.
    upstream_error: Option<Box<str>>,
    /// Whether it was sent again although the first may have been acted upon. That is done once.
    pub(super) repeated: bool,
    /// How often it was tried again, by whatever way.
    retries: u64,
    status: Option<u16>,
    failure: Option<Failure>,
}

pub(super) fn micros_since(start: Instant) -> u64 {
    u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX)
}

impl Exchange {
    /// A request has come.
    pub(super) fn begin(worker: &Rc<Worker>, connection: &Rc<Connection>, request: &Request<ClientBody>) -> Box<Self> {
        connection.begin();
        if worker.leaving.get() == Leaving::Yes {
            connection.ask_to_leave();
        }
        worker.counters.inflight.add(1);
        let fresh = || request_id::from_bits(worker.chance.next(), worker.chance.next());
        let request_id = request_id::of_client(request.headers()).unwrap_or_else(fresh);
        let stream = request.body().stream().cloned();
        let call = grpc::call(request.headers()).cloned();
        // Calls are streams in both directions: a client that has not ended its request may be silent.
        if call.is_some()
            && !request.body().is_end_stream()
            && let Some(stream) = &stream
        {
            stream.may_be_silent();
        }
        Box::new(Self {
            worker: worker.clone(),
            connection: connection.clone(),
            started: Instant::now(),
            version: request.version(),
            host: None,
            request_id,
            lane: None,
            bytes_out: 0,
            request_body: None,
            rest: Rest::Gone,
            nominated: Vec::new(),
            deadline: None,
            upgrade: None,
            connect: None,
            tunnel: None,
            waits_to_go_on: false,
            refused: match &stream {
                Some(_) => None,
                None => connection.gate.pass(),
            },
            stream,
            rule: None,
            call,
            call_status: None,
            method: request.method().clone(),
            uri: request.uri().clone(),
            routed: None,
            endpoint: None,
            sent: None,
            upstream_micros: None,
            upstream_error: None,
            repeated: false,
            retries: 0,
            status: None,
            failure: None,
        })
    }

    /// Looks once at what serves, and keeps that to the end.
    pub(super) fn choose_lane(&mut self) -> Result<(), Failure> {
        let serving = self.worker.serving().ok_or(Failure::NotReady)?;
        self.lane = Some(serving.lane(self.connection.cohort).clone());
        Ok(())
    }

    /// Fails if it stands in for a request that the guard refused.
    pub(super) fn refused(&mut self) -> Result<(), Failure> {
        match self.refused {
            Some(refused) => Err(self.broke_rule(refused.rule)),
            None => Ok(()),
        }
    }

    /// Fails if it is of HTTP/2 and breaks one of the rules that the guard holds in HTTP/1.1.
    pub(super) fn check_http2(&mut self, request: &mut Request<ClientBody>) -> Result<(), Failure> {
        let Some(stream) = &self.stream else { return Ok(()) };
        let bounds = self.connection.gate.bounds();
        let checked = stream.fits().and_then(|()| http2::request::check(request, &bounds));
        checked.map_err(|rule| self.broke_rule(rule))?;
        self.connect = connect::take(request);
        Ok(())
    }

    /// It broke a rule, and fails with this.
    pub(super) fn broke_rule(&mut self, rule: Rule) -> Failure {
        self.rule = Some(rule);
        rule.failure()
    }

    /// The rule that it broke.
    pub(super) fn broken_rule(&self) -> Option<Rule> {
        self.rule
    }

    /// Its target and host are canonical now.
    pub(super) fn admitted(&mut self, request: &Request<ClientBody>, host: Option<Host>) {
        self.uri = request.uri().clone();
        self.host = host;
    }

    /// Whether all of the request has come: if not, its connection cannot serve another.
    pub(super) fn rest_of_request(&self) -> Rest {
        match &self.request_body {
            Some(watch) if watch.progress.get() == Progress::Done => Rest::Gone,
            Some(_) => Rest::Left,
            None => self.rest,
        }
    }

    /// Whether its response says that it is the last of its connection. In HTTP/2 none does: streams end alone, and a
    /// connection says itself that it ends.
    pub(super) fn is_last(&self, rest: Rest) -> bool {
        // Behind a CONNECT nothing is a request, whatever its answer is.
        let last = rest == Rest::Left || self.method == Method::CONNECT;
        self.stream.is_none() && (last || self.worker.leaving.get() == Leaving::Yes)
    }

    /// Its way is known.
    pub(super) fn routed(&mut self, to: Destination, pool: Option<u32>) {
        self.routed = Some(Routed { to, pool });
    }

    /// The prefix of its path that its rule matched, if the rule replaces one.
    pub(super) fn prefix(&self) -> &str {
        let rule = self.rule_entry().zip(self.routed);
        rule.map_or("", |(rule, routed)| rule.prefix(routed.to.matched))
    }

    /// The client, if its connection has proven a certificate that the authorities of a route, as they are now, have signed.
    /// Without anybody who could have signed it, nobody is known.
    pub(super) fn proven_client(&self, auth: &ClientAuth) -> Option<&Shown> {
        let shown = self.connection.tls.get()?.client.as_ref()?;
        let authorities = self.worker.store.values().authorities.get(&auth.ca)?;
        shown.is_vouched_for_by(&authorities, Instant::now()).then_some(shown)
    }

    /// The rule that took it.
    pub(super) fn rule_entry(&self) -> Option<&RuleEntry> {
        self.route()?.rules.get(self.routed?.to.rule as usize)
    }

    /// How it goes to a pool.
    pub(super) fn forward_entry(&self) -> Option<&ForwardEntry> {
        match &self.rule_entry()?.action {
            ActionEntry::Forward(forward) => Some(forward),
            ActionEntry::Redirect(_) => None,
        }
    }

    /// The pool it goes to.
    pub(super) fn pool(&self) -> Option<(u32, &PoolEntry)> {
        let index = self.routed?.pool?;
        Some((index, self.lane.as_ref()?.generation.pools.get(index as usize)?))
    }

    /// What its pool is spoken to in.
    pub(super) fn protocol(&self) -> Option<UpstreamProtocol> {
        self.pool().map(|(_, pool)| pool.transport.settings().protocol)
    }

    /// The endpoint it goes to.
    pub(super) fn endpoint(&self) -> Option<&EndpointEntry> {
        self.endpoint.as_ref()?.endpoint()
    }

    /// An endpoint was chosen, perhaps another one than before.
    pub(super) fn chose(&mut self, endpoint: Chosen) {
        if self.endpoint.replace(endpoint).is_some() {
            self.retries = self.retries.saturating_add(1);
        }
        self.sent = None;
    }

    /// The endpoint that was chosen has no room for it, which is no attempt; another one is chosen.
    pub(super) fn pass_by(&mut self) -> Option<Chosen> {
        self.endpoint.take()
    }

    /// There is no connection to send it over, for this reason.
    pub(super) fn unreached(&mut self, request: Outgoing, reason: &Unreached) -> Miss {
        let failure = match reason {
            Unreached::Full => return Miss::Full(request),
            Unreached::Exhausted(_) => Failure::Exhausted,
            Unreached::TryOver => Failure::UpstreamTimeout,
            Unreached::Connect(_)
            | Unreached::Tls(_)
            | Unreached::Unready(_)
            | Unreached::NoHttp2
            | Unreached::NoConnect
            | Unreached::Http2(_)
            | Unreached::Slow(..) => Failure::UpstreamConnectFailed,
        };
        self.upstream_error = Some(reason.to_string().into());
        Miss::Unreached(request, failure)
    }

    /// The endpoint that was chosen did not answer, and another one may. What this process lacks is not held against it: others
    /// may have a connection at rest. And one that is slow may have been reached.
    pub(super) fn missed(&self, failure: Failure) {
        if !matches!(failure, Failure::Exhausted | Failure::UpstreamTimeout)
            && let Some(endpoint) = self.endpoint_counters()
        {
            endpoint.unreached.add(1);
        }
    }

    fn endpoint_counters(&self) -> Option<&EndpointCounters> {
        let slot = self.endpoint.as_ref()?.slot().unwrap_or(OTHER);
        self.worker.counters.endpoint(slot)
    }

    /// Whether nothing of it was sent to the endpoint that was chosen last.
    pub(super) fn is_unsent(&self) -> bool {
        self.sent.is_none()
    }

    /// It is sent to the endpoint, perhaps again.
    pub(super) fn sending(&mut self) {
        if self.sent.is_some() {
            self.retries = self.retries.saturating_add(1);
            self.worker.counters.reconnects.add(1);
        }
        if let Some(endpoint) = self.endpoint_counters() {
            endpoint.requests.add(1);
        }
        self.sent = Some(Instant::now());
    }

    /// Where the upstream's interim responses go, if its client can be told of any.
    pub(super) fn hints(&self) -> Option<Hints> {
        self.stream.as_ref().map(|stream| stream.hints())
    }

    /// The head of the upstream's response is there.
    pub(super) fn upstream_answered(&mut self) {
        self.upstream_micros = self.sent.map(micros_since);
        if let Some(stream) = &self.stream {
            stream.head_is_gone();
        }
    }

    /// The head of the response goes to the client. From here on its outcome for the gates is decided, but for
    /// a body that breaks.
    pub(super) fn responded(&mut self, status: u16) {
        self.status = Some(status);
        let micros = micros_since(self.started);
        self.judge(if status >= 500 {
            Verdict::Failed(micros)
        } else {
            Verdict::Answered(micros)
        });
    }

    /// The `content-type` of a call of gRPC; `None`: it is none.
    pub(super) fn call(&self) -> Option<&HeaderValue> {
        self.call.as_ref()
    }

    /// The upstream's head or trailers, which may say how a call ended. Gates count a failure of the upstream as they do a
    /// 5xx, which calls never have.
    pub(super) fn call_ended(&mut self, fields: &HeaderMap) {
        if self.call.is_none() || self.call_status.is_some() {
            return;
        }
        self.call_status = Status::in_fields(fields);
        if self.call_status.is_some_and(Status::is_failure)
            && self.status.is_some_and(|status| status < 500)
            && let Some(lane) = &self.lane
        {
            lane.stats.broke(self.scope());
        }
    }

    /// It failed before anything was sent to the client.
    pub(super) fn failed(&mut self, failure: Failure) {
        self.failure = Some(failure);
        self.call_status = self.call.as_ref().map(|_| Status::of(failure));
        self.status = Some(failure.status());
        if let Some(rule) = self.request_body.as_ref().and_then(|watch| watch.rule.get()) {
            self.rule = Some(rule);
        }
        let micros = micros_since(self.started);
        self.judge(match (failure, failure.whose()) {
            (Failure::NoRoute, _) => Verdict::NoRoute(micros),
            (_, Whose::Client) => Verdict::Client,
            (_, Whose::Upstream | Whose::Proxy | Whose::Operator) => Verdict::Failed(micros),
        });
    }

    /// Its answer broke off in the middle of the body. If the client broke its request before, or keeps it waiting, that is
    /// why.
    pub(super) fn broke(&mut self, failure: Failure) {
        if self.failure.is_some() {
            return;
        }
        let watch = self.request_body.as_deref();
        let failure = match watch.map(|watch| watch.progress.get()) {
            Some(Progress::Broken(by_client)) => by_client,
            Some(Progress::Flowing | Progress::Done) | None => failure,
        };
        self.failure = Some(failure);
        if failure == Failure::ClientTimeout {
            self.rule = Some(Rule::BodySlow);
        } else if let Some(rule) = watch.and_then(|watch| watch.rule.get()) {
            self.rule = Some(rule);
        }
        if failure.whose() == Whose::Client {
            return;
        }
        // A 5xx is counted as a failure already.
        let counted = self.call_status.is_some_and(Status::is_failure);
        if self.status.is_some_and(|status| status < 500)
            && !counted
            && let Some(lane) = &self.lane
        {
            lane.stats.broke(self.scope());
        }
    }

    /// This is what the client was told of how its call ended.
    pub(super) fn call_told(&mut self, status: Status) {
        self.call_status = Some(status);
    }

    /// The client left in the middle of the body: nobody's failure.
    pub(super) fn client_left(&mut self) {
        if self.failure.is_none() {
            self.failure = Some(Failure::ClientClosed);
            self.status = Some(Failure::ClientClosed.status());
            self.rule = self.cut();
        }
    }

    /// The rule by which the client was cut off, if it was.
    fn cut(&self) -> Option<Rule> {
        match &self.stream {
            Some(stream) => stream.cut(),
            None => self.connection.cut(),
        }
    }

    fn judge(&self, verdict: Verdict) {
        if let Some(lane) = &self.lane {
            lane.stats.record(self.scope(), verdict);
        }
    }

    fn scope(&self) -> Option<u16> {
        self.route()?.counted
    }

    /// The route that took it.
    pub(super) fn route(&self) -> Option<&RouteEntry> {
        let routed = self.routed?;
        self.lane.as_ref()?.generation.routes.get(routed.to.route as usize)
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        if self.status.is_none() {
            // Dropped without an answer: by a panic, or because its connection is gone.
            let panicking = std::thread::panicking();
            self.failed(if panicking {
                Failure::Internal
            } else {
                Failure::ClientClosed
            });
        }
        let micros = micros_since(self.started);
        let worker = &self.worker;
        let answered = self.tunnel.as_ref().map_or(micros, |tunnel| tunnel.opened_micros);
        self.count(&worker.counters, answered);
        worker.log.line(&worker.counters, |line| self.write(line, micros));
        worker.counters.inflight.sub(1);
        self.connection.rest();
    }
}
