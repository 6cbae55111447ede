//! The admin listener: is it alive, is it ready, what does it count, what is live. Read-only, on an address and
//! a runtime of its own: a flood of requests does not make it unready, and looking costs no request anything.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::{Value, json};
use sluice_model::client_limits::Bounded;
use sluice_model::unit::{Action, Http2, PlainHttp, TimeoutMillis};
use sluice_proto::live::{EndpointState, LiveEndpoint};
use tokio::net::TcpListener;

use crate::listener::{Listeners, OpenListener};
use crate::live::{Endpoints, Generation, LiveStore};
use crate::pool::rotation::EndpointEntry;
use crate::shutdown::{Drain, Progress};
use crate::telemetry::metrics::Metrics;
use crate::tls::certificate::Certificate;

/// Admin connections at a time: a few scrapers and people.
const MAX_ADMIN_CONNECTIONS: usize = 64;

/// What the admin listener shows.
#[derive(Debug)]
pub struct Admin {
    pub(crate) store: LiveStore,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) listeners: Arc<Listeners>,
    pub(crate) instance: Arc<str>,
}

impl Admin {
    pub(crate) fn new(store: LiveStore, metrics: Arc<Metrics>, listeners: Arc<Listeners>, instance: Arc<str>) -> Self {
        Self {
            store,
            metrics,
            listeners,
            instance,
        }
    }

    /// How far it is in its end.
    pub(crate) fn progress(&self) -> &Progress {
        self.metrics.progress()
    }

    /// Why it is not ready; `None`: it is.
    pub fn unready(&self) -> Option<String> {
        if let Some(drain) = self.progress().drain() {
            Some(self.draining(&drain))
        } else if self.store.load().is_none() {
            Some("no verified revision is live yet".to_owned())
        } else if self.listeners.addresses().is_empty() {
            Some("no listener is bound yet".to_owned())
        } else {
            None
        }
    }

    fn draining(&self, drain: &Drain) -> String {
        let (metrics, seconds) = (&self.metrics, drain.began.elapsed().as_secs());
        format!(
            "draining: this instance is shutting down, {} for {seconds} s; {} connections, {} requests and {} tunnels are left",
            drain.stage.as_str(),
            metrics.connections(),
            metrics.inflight(),
            metrics.tunnels()
        )
    }

    pub(crate) fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return text(StatusCode::METHOD_NOT_ALLOWED, "this address is read-only: use GET\n");
        }
        let path = request.uri().path();
        if let Some(answer) = probe(path, || self.unready(), || self.metrics.render()) {
            return answer;
        }
        match path {
            "/api/v2/config/current" => self.live(current),
            "/api/v2/routes" => self.live(|admin| admin.by_generation(routes)),
            "/api/v2/pools" => self.live(|admin| admin.by_generation(pools)),
            "/api/v2/services" => self.live(services),
            "/api/v2/certificates" => self.live(certificates),
            _ => text(
                StatusCode::NOT_FOUND,
                "there are /healthz /ready /metrics /api/v2/config/current /api/v2/routes /api/v2/pools \
                 /api/v2/services /api/v2/certificates\n",
            ),
        }
    }

    fn live(&self, view: impl Fn(&Self) -> Value) -> Response<Full<Bytes>> {
        let mut response = text(StatusCode::OK, &format!("{:#}\n", view(self)));
        let kind = HeaderValue::from_static("application/json");
        response.headers_mut().insert(CONTENT_TYPE, kind);
        response
    }

    fn by_generation(&self, view: impl Fn(&Generation) -> Value) -> Value {
        let live = self.store.load();
        let generations = live.iter().flat_map(|live| live.generations());
        let one = |generation: &Arc<Generation>| {
            json!({
                "revision": generation.revision.to_string(),
                "role": generation.role,
                "items": view(generation),
            })
        };
        json!({ "generations": generations.map(one).collect::<Vec<_>>() })
    }
}

fn current(admin: &Admin) -> Value {
    let live = admin.store.load();
    let listeners = admin.listeners.open();
    let listeners = listeners.iter().map(|listener| {
        let OpenListener {
            name,
            address,
            tls,
            http2,
            proxy_protocol_from,
        } = listener;
        let default = tls.as_ref().and_then(|tls| tls.default_certificate.as_ref());
        let http2 = match (http2, tls) {
            (Http2::Negotiated, Some(_)) => "negotiated",
            (Http2::PriorKnowledge, _) => "prior_knowledge",
            (Http2::Negotiated | Http2::Off, _) => "off",
        };
        let from: Vec<String> = proxy_protocol_from.iter().map(ToString::to_string).collect();
        json!({
            "name": name,
            "address": address,
            "tls": tls.is_some(),
            "http2": http2,
            "tls_min_version": tls.as_ref().map(|tls| tls.min_version.as_str()),
            "proxy_protocol_from": from,
            "default_certificate": default,
        })
    });
    let revision = |generation: &Generation| {
        json!({
            "revision": generation.revision.to_string(),
            "digest": generation.revision.digest,
            "routes": generation.routes.len(),
            "pools": generation.pools.len(),
            "counted": generation.counted,
        })
    };
    let candidate = live.as_ref().and_then(|live| live.candidate.as_ref());
    json!({
        "instance": &*admin.instance,
        "ready": admin.unready().is_none(),
        "drain": admin.progress().drain().map(|drain| drain_view(admin, &drain)),
        "epoch": live.as_ref().map(|live| live.epoch),
        "stable": live.as_ref().map(|live| revision(&live.stable)),
        "candidate": candidate.map(|(generation, share)| {
            let mut view = revision(generation);
            if let Some(fields) = view.as_object_mut() {
                fields.insert("share_millionths".into(), json!(share));
            }
            view
        }),
        "listeners": listeners.collect::<Vec<_>>(),
    })
}

fn drain_view(admin: &Admin, drain: &Drain) -> Value {
    let began = jiff::Timestamp::try_from(drain.began_at).ok();
    json!({
        "stage": drain.stage.as_str(),
        "since": began.map(|began| began.to_string()),
        "seconds": drain.began.elapsed().as_secs(),
        "connections": admin.metrics.connections(),
        "requests": admin.metrics.inflight(),
        "tunnels": admin.metrics.tunnels(),
    })
}

fn routes(generation: &Generation) -> Value {
    let units = generation.snapshot.routes();
    let rules = |route: &sluice_model::unit::RouteUnit| -> Vec<Value> {
        let one = |rule: &sluice_model::unit::Rule| {
            json!({
                "name": rule.name,
                "matches": rule.matches.iter().map(ToString::to_string).collect::<Vec<_>>(),
                "pool": rule.pool(),
                "action": action(&rule.action),
                "response_headers": rule.response_headers,
            })
        };
        route.rules.iter().map(one).collect()
    };
    units
        .map(|(key, route)| json!({ "route": key, "hosts": route.hosts, "plain_http": plain_http(route.plain_http), "rules": rules(route) }))
        .collect()
}

fn plain_http(plain_http: PlainHttp) -> &'static str {
    match plain_http {
        PlainHttp::Allow => "allow",
        PlainHttp::Redirect => "redirect",
        PlainHttp::Reject => "reject",
    }
}

fn action(action: &Action) -> Value {
    match action {
        Action::Forward(forward) => json!({
            "request_timeout_ms": forward.timeouts.request.map(TimeoutMillis::get),
            "per_try_timeout_ms": forward.timeouts.per_try.map(TimeoutMillis::get),
            "idle_timeout_ms": forward.timeouts.idle.map(TimeoutMillis::get),
            "max_request_body": forward.max_body.map(Bounded::get),
            "upgrades": forward.upgrades.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "request_headers": forward.request_headers,
            "rewrite": forward.rewrite,
        }),
        Action::Redirect(redirect) => json!({ "redirect": redirect }),
    }
}

fn pools(generation: &Generation) -> Value {
    let endpoint = |endpoint: &EndpointEntry| json!({ "address": endpoint.address, "weight": endpoint.weight });
    let pools = generation.pools.iter();
    pools
        .map(|pool| {
            let endpoints: Vec<Value> = pool.rotation().endpoints().iter().map(endpoint).collect();
            let service = match &pool.endpoints {
                Endpoints::Written(_) => None,
                Endpoints::Fed(service, _) => Some(service),
            };
            json!({ "pool": pool.key, "service": service, "endpoints": endpoints })
        })
        .collect()
}

/// Every endpoint that is known, in rotation or not.
fn services(admin: &Admin) -> Value {
    let endpoint = |endpoint: &LiveEndpoint| {
        let LiveEndpoint { address, state, zone } = endpoint;
        let state = match state {
            EndpointState::Ready => "ready",
            EndpointState::Draining => "draining",
        };
        json!({ "address": address, "state": state, "zone": zone })
    };
    let known = admin.store.values().services.list();
    let one = |(service, endpoints): &(_, Arc<[LiveEndpoint]>)| json!({ "service": service, "endpoints": endpoints.iter().map(endpoint).collect::<Vec<_>>() });
    json!({ "services": known.iter().map(one).collect::<Vec<_>>() })
}

fn certificates(admin: &Admin) -> Value {
    let held = admin.store.values().certificates.list();
    let one = |(reference, certificate): &(_, Arc<Certificate>)| {
        json!({
            "certificate": reference,
            "fingerprint_sha256": certificate.fingerprint(),
            "not_before": moment(certificate.not_before_seconds()),
            "not_after": moment(certificate.not_after_seconds()),
            "hosts": certificate.names(),
        })
    };
    json!({ "certificates": held.iter().map(one).collect::<Vec<_>>() })
}

fn moment(seconds: i64) -> Option<String> {
    Some(jiff::Timestamp::from_second(seconds).ok()?.to_string())
}

pub(crate) fn text(status: StatusCode, text: &str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(text.to_owned())));
    *response.status_mut() = status;
    let kind = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

/// What is counted, as Prometheus reads it.
fn metrics_page(page: &str) -> Response<Full<Bytes>> {
    let mut response = text(StatusCode::OK, page);
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

/// What kubelets and Prometheus ask, on whichever address; `None` if `path` is something else.
pub(crate) fn probe<W: AsRef<str>>(
    path: &str,
    unready: impl FnOnce() -> Option<W>,
    metrics: impl FnOnce() -> String,
) -> Option<Response<Full<Bytes>>> {
    match path {
        "/healthz" => Some(text(StatusCode::OK, "alive\n")),
        "/ready" => Some(match unready() {
            None => text(StatusCode::OK, "ready\n"),
            Some(why) => text(StatusCode::SERVICE_UNAVAILABLE, &format!("{}\n", why.as_ref())),
        }),
        "/metrics" => Some(metrics_page(&metrics())),
        _ => None,
    }
}

/// Serves `answer` until dropped. Runs on the control runtime.
pub(crate) async fn serve(
    listener: TcpListener,
    answer: impl Fn(&Request<Incoming>) -> Response<Full<Bytes>> + Clone + Send + Sync + 'static,
) {
    let places = Arc::new(tokio::sync::Semaphore::new(MAX_ADMIN_CONNECTIONS));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else {
            return;
        };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "accepting on the admin address failed");
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                continue;
            }
        };
        let answer = answer.clone();
        tokio::spawn(async move {
            let _place = place;
            let service = service_fn(|request| {
                let response = answer(&request);
                async move { Ok::<_, Infallible>(response) }
            });
            let mut builder = http1::Builder::new();
            builder.timer(TokioTimer::new());
            // An error here concerns one scraper, which sees it itself.
            let _ = builder.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

/// Binds an address for whoever asks.
pub(crate) async fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    TcpListener::bind(address).await
}
