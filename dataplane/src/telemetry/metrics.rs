//! Metrics in Prometheus' text format: sums over the workers, made when somebody asks. `docs/metrics.md` lists them;
//! a test compares the two.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;

use super::counters::{Counter, DURATION_BOUNDS_MICROS, Durations, Protocol, RouteCounters, Sizes, WorkerCounters};
use crate::guard::rule::Rule;
use crate::live::LiveStore;
use crate::proxy::failure::Failure;
use crate::shutdown::Progress;
use crate::tls::facts::Version;
use crate::tls::failure::HandshakeFailure;

/// All counters of one process.
#[derive(Debug)]
pub struct Metrics {
    store: LiveStore,
    workers: Vec<Arc<WorkerCounters>>,
    /// What is counted beside requests, with the library's registry since nothing of it is on the request path.
    beside: prometheus::Registry,
    progress: Progress,
}

impl Metrics {
    /// What is registered with `beside` is part of the page.
    pub(crate) fn new(store: LiveStore, workers: Vec<Arc<WorkerCounters>>, beside: prometheus::Registry) -> Self {
        Self {
            store,
            workers,
            beside,
            progress: Progress::default(),
        }
    }

    /// How far the process is in its end.
    pub(crate) fn progress(&self) -> &Progress {
        &self.progress
    }

    fn sum(&self, of: impl Fn(&WorkerCounters) -> u64) -> u64 {
        self.workers
            .iter()
            .map(|worker| of(worker))
            .fold(0, u64::saturating_add)
    }

    /// Requests being answered.
    pub fn inflight(&self) -> u64 {
        self.sum(|worker| worker.inflight.get())
    }

    /// Open client connections.
    pub fn connections(&self) -> u64 {
        self.sum(|worker| worker.connections.get())
    }

    /// Open tunnels.
    pub fn tunnels(&self) -> u64 {
        self.sum(|worker| worker.tunnels.get())
    }

    /// Requests whose route and pool came from two generations. Always 0.
    pub fn mixed(&self) -> u64 {
        self.sum(|worker| worker.mixed.get())
    }

    /// Everything, as text.
    pub fn render(&self) -> String {
        let mut page = Page::default();
        self.render_routes(&mut page);
        self.render_endpoints(&mut page);
        self.render_pools(&mut page);
        self.render_tls(&mut page);
        self.render_refused(&mut page);
        self.render_protocols(&mut page);
        self.render_process(&mut page);
        self.render_beside(&mut page);
        page.text
    }

    fn render_routes(&self, page: &mut Page) {
        let labels = self.store.names().route_labels();
        let slots = || (0_u16..).zip(&labels);
        let of = |slot: u16| self.workers.iter().filter_map(move |worker| worker.route(slot));
        page.family(
            "proxy_requests_total",
            "counter",
            "Requests that ended, by the status that was sent.",
        );
        for (slot, (route, pool)) in slots() {
            for (status, count) in statuses(of(slot)) {
                page.sample(
                    "",
                    &[("route", route), ("pool", pool), ("status", &status.to_string())],
                    count,
                );
            }
        }
        page.family(
            "proxy_request_duration_seconds",
            "histogram",
            "From the head of a request to the end of its response.",
        );
        for (slot, (route, pool)) in slots() {
            page.histogram(
                &[("route", route), ("pool", pool)],
                of(slot).map(|route| &route.durations),
            );
        }
        page.family(
            "proxy_errors_total",
            "counter",
            "Failures, by category (docs/failures.md).",
        );
        for (route, counters) in by_route(&labels, &self.workers) {
            for failure in Failure::ALL {
                let count = counters
                    .iter()
                    .filter_map(|route| Some(route.error(failure)?.get()))
                    .sum();
                page.nonzero("", &[("route", route), ("category", failure.category())], count);
            }
        }
        page.family(
            "proxy_retries_total",
            "counter",
            "Times that requests were tried again, by whether an upstream answered them in the end.",
        );
        for (route, counters) in by_route(&labels, &self.workers) {
            let sum = |of: fn(&RouteCounters) -> &Counter| counters.iter().map(|route| of(route).get()).sum();
            let (answered, failed) = (sum(|route| &route.retries_answered), sum(|route| &route.retries_failed));
            for (outcome, count) in [("answered", answered), ("failed", failed)] {
                page.nonzero("", &[("route", route), ("outcome", outcome)], count);
            }
        }
        page.family("proxy_request_size_bytes", "summary", "Request bodies.");
        self.render_sizes(page, &labels, |route| &route.request_sizes);
        page.family("proxy_response_size_bytes", "summary", "Response bodies.");
        self.render_sizes(page, &labels, |route| &route.response_sizes);
    }

    fn render_sizes(&self, page: &mut Page, labels: &[(String, String)], of: impl Fn(&RouteCounters) -> &Sizes) {
        for (route, counters) in by_route(labels, &self.workers) {
            let count: u64 = counters.iter().map(|route| of(route).count.get()).sum();
            let bytes: u64 = counters.iter().map(|route| of(route).sum_bytes.get()).sum();
            if count > 0 {
                page.sample("_sum", &[("route", route)], bytes);
                page.sample("_count", &[("route", route)], count);
            }
        }
    }

    fn render_endpoints(&self, page: &mut Page) {
        let labels = self.store.names().endpoint_labels();
        let slots = || (0_u16..).zip(&labels);
        let of = |slot: u16| self.workers.iter().filter_map(move |worker| worker.endpoint(slot));
        page.family(
            "proxy_upstream_requests_total",
            "counter",
            "Requests sent to an endpoint, repetitions included.",
        );
        for (slot, (pool, endpoint)) in slots() {
            let count = of(slot).map(|endpoint| endpoint.requests.get()).sum();
            page.nonzero("", &[("pool", pool), ("endpoint", endpoint)], count);
        }
        page.family(
            "proxy_upstream_unreached_total",
            "counter",
            "Attempts to reach an endpoint that failed before anything was sent.",
        );
        for (slot, (pool, endpoint)) in slots() {
            let count = of(slot).map(|endpoint| endpoint.unreached.get()).sum();
            page.nonzero("", &[("pool", pool), ("endpoint", endpoint)], count);
        }
        page.family(
            "proxy_upstream_duration_seconds",
            "histogram",
            "From sending a request to the head of its response.",
        );
        for (slot, (pool, endpoint)) in slots() {
            let durations = of(slot).map(|endpoint| &endpoint.durations);
            page.histogram(&[("pool", pool), ("endpoint", endpoint)], durations);
        }
    }

    /// Pools are named as long as there are names; the rest are one sum.
    fn render_pools(&self, page: &mut Page) {
        page.family(
            "proxy_pool_total_endpoints",
            "gauge",
            "Endpoints of a pool, in the stable revision.",
        );
        let Some(live) = self.store.load() else { return };
        let most = self.store.names().slots();
        let count = |pool: &crate::live::PoolEntry| pool.rotation().endpoints().len() as u64;
        for pool in live.stable.pools.iter().take(most) {
            page.sample("", &[("pool", &pool.text)], count(pool));
        }
        let rest = live.stable.pools.iter().skip(most).map(count).sum();
        page.nonzero("", &[("pool", "other")], rest);
        page.family(
            "proxy_snapshot_info",
            "gauge",
            "What serves: 1 for each revision and role.",
        );
        for generation in live.generations() {
            let role = generation.role.as_str();
            page.sample("", &[("revision", &generation.revision_text), ("role", role)], 1);
        }
    }

    fn render_tls(&self, page: &mut Page) {
        page.family(
            "proxy_tls_handshakes_total",
            "counter",
            "TLS handshakes that were completed.",
        );
        for version in Version::ALL {
            let of = |worker: &WorkerCounters| worker.tls.version(version).map_or(0, Counter::get);
            page.sample("", &[("version", version.as_str())], self.sum(of));
        }
        page.family(
            "proxy_tls_resumed_total",
            "counter",
            "TLS handshakes that resumed an earlier session.",
        );
        page.sample("", &[], self.sum(|worker| worker.tls.resumed.get()));
        page.family(
            "proxy_tls_handshake_failures_total",
            "counter",
            "TLS handshakes that failed, by reason.",
        );
        for failure in HandshakeFailure::ALL {
            let of = |worker: &WorkerCounters| worker.tls.failure(failure).map_or(0, Counter::get);
            page.sample("", &[("reason", failure.as_str())], self.sum(of));
        }
        page.family(
            "proxy_tls_handshake_seconds",
            "histogram",
            "From accepting a connection to the end of its TLS handshake.",
        );
        page.histogram(&[], self.workers.iter().map(|worker| &worker.tls.durations));
        self.render_certificates(page);
    }

    /// The first that end keep their names, as many as there are names for; the rest end later than these.
    fn render_certificates(&self, page: &mut Page) {
        page.family(
            "proxy_certificate_not_after_seconds",
            "gauge",
            "When a certificate ends, in seconds since 1970. Those that end first are named.",
        );
        let mut held = self.store.values().certificates.list();
        held.sort_by_key(|(_, certificate)| certificate.not_after_seconds());
        for (reference, certificate) in held.iter().take(self.store.names().slots()) {
            let ends = u64::try_from(certificate.not_after_seconds()).unwrap_or_default();
            page.sample("", &[("certificate", &reference.to_string())], ends);
        }
        page.family("proxy_certificates", "gauge", "Certificates that this instance holds.");
        page.sample("", &[], held.len() as u64);
        page.family(
            "proxy_services",
            "gauge",
            "Services whose endpoints this instance knows.",
        );
        page.sample("", &[], self.store.values().services.list().len() as u64);
    }

    fn render_refused(&self, page: &mut Page) {
        page.family(
            "proxy_refused_requests_total",
            "counter",
            "Requests that broke a rule of HTTP or a limit, by rule.",
        );
        for rule in Rule::ALL {
            let of = |worker: &WorkerCounters| worker.refused(*rule).map_or(0, Counter::get);
            match self.sum(of) {
                0 => {}
                count => page.sample("", &[("rule", rule.as_str())], count),
            }
        }
    }

    fn render_protocols(&self, page: &mut Page) {
        page.family(
            "proxy_protocol_requests_total",
            "counter",
            "Requests that ended, by the version of HTTP that the client speaks.",
        );
        for protocol in Protocol::ALL {
            let of = |worker: &WorkerCounters| worker.protocol(protocol).map_or(0, Counter::get);
            page.sample("", &[("protocol", protocol.as_str())], self.sum(of));
        }
    }

    fn render_process(&self, page: &mut Page) {
        let drain = self.progress.drain();
        let gauges = [
            ("proxy_connections", "Open client connections.", self.connections()),
            ("proxy_inflight_requests", "Requests being answered.", self.inflight()),
            (
                "proxy_pending_requests",
                "Requests that wait for a connection to an upstream, where these are bounded.",
                self.sum(|worker| worker.pending.get()),
            ),
            (
                "proxy_tunnels",
                "Open tunnels: connections that went over to another protocol.",
                self.tunnels(),
            ),
            (
                "proxy_draining",
                "1 while the instance is shutting down.",
                u64::from(drain.is_some()),
            ),
            (
                "proxy_drain_seconds",
                "For how long it has been shutting down.",
                drain.map_or(0, |drain| drain.began.elapsed().as_secs()),
            ),
            (
                "proxy_workers",
                "Workers, each with its own listeners.",
                self.workers.len() as u64,
            ),
        ];
        for (name, help, value) in gauges {
            page.family(name, "gauge", help);
            page.sample("", &[], value);
        }
        let counters = [
            (
                "proxy_tunnels_drained_total",
                "Tunnels that were ended because the instance was.",
                self.sum(|worker| worker.tunnels_drained.get()),
            ),
            (
                "proxy_accept_failures_total",
                "Times that a connection could not be accepted, for want of file descriptors as a rule.",
                self.sum(|worker| worker.accept_failures.get()),
            ),
            (
                "proxy_reconnects_total",
                "Requests sent again because a reused connection had closed or an upstream did not process them.",
                self.sum(|worker| worker.reconnects.get()),
            ),
            (
                "proxy_access_log_dropped_total",
                "Access-log lines lost to a slow or broken sink.",
                self.sum(|worker| worker.log_lines_dropped.get()),
            ),
            (
                "proxy_snapshot_mixed_total",
                "Requests whose route and pool came from two revisions. Always 0.",
                self.mixed(),
            ),
        ];
        for (name, help, value) in counters {
            page.family(name, "counter", help);
            page.sample("", &[], value);
        }
        page.family(
            "proxy_tunnel_bytes_total",
            "counter",
            "Bytes passed on in tunnels, from clients and to them.",
        );
        page.sample(
            "",
            &[("direction", "in")],
            self.sum(|worker| worker.tunnel_bytes_in.get()),
        );
        page.sample(
            "",
            &[("direction", "out")],
            self.sum(|worker| worker.tunnel_bytes_out.get()),
        );
        page.family("build_info", "gauge", "Which build this is.");
        page.sample("", &[("version", env!("CARGO_PKG_VERSION"))], 1);
    }

    fn render_beside(&self, page: &mut Page) {
        let families = self.beside.gather();
        if let Err(error) = prometheus::TextEncoder::new().encode_utf8(&families, &mut page.text) {
            tracing::error!(%error, "the metrics beside those of requests cannot be written");
        }
    }
}

fn statuses<'a>(routes: impl Iterator<Item = &'a RouteCounters>) -> BTreeMap<u16, u64> {
    let mut sums = BTreeMap::new();
    for (status, counter) in routes.flat_map(RouteCounters::statuses) {
        let count = counter.get();
        if count > 0 {
            *sums.entry(status).or_default() += count;
        }
    }
    sums
}

/// A route has one slot per pool it uses; where only the route is a label, they are one.
fn by_route<'a>(
    labels: &'a [(String, String)],
    workers: &'a [Arc<WorkerCounters>],
) -> BTreeMap<&'a str, Vec<&'a RouteCounters>> {
    let mut routes: BTreeMap<&str, Vec<&RouteCounters>> = BTreeMap::new();
    for (slot, (route, _)) in (0_u16..).zip(labels) {
        let counters = workers.iter().filter_map(|worker| worker.route(slot));
        routes.entry(route).or_default().extend(counters);
    }
    routes
}

/// The text being written.
#[derive(Default)]
struct Page {
    text: String,
    name: &'static str,
}

impl Page {
    fn family(&mut self, name: &'static str, kind: &str, help: &str) {
        self.name = name;
        let _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn sample(&mut self, suffix: &str, labels: &[(&str, &str)], value: u64) {
        let _ = write!(self.text, "{}{suffix}", self.name);
        self.labels(labels);
        let _ = writeln!(self.text, " {value}");
    }

    fn nonzero(&mut self, suffix: &str, labels: &[(&str, &str)], value: u64) {
        if value > 0 {
            self.sample(suffix, labels, value);
        }
    }

    fn labels(&mut self, labels: &[(&str, &str)]) {
        for (place, (name, value)) in labels.iter().enumerate() {
            let before = if place == 0 { '{' } else { ',' };
            let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let _ = write!(self.text, "{before}{name}=\"{value}\"");
        }
        if !labels.is_empty() {
            self.text.push('}');
        }
    }

    fn histogram<'a>(&mut self, labels: &[(&str, &str)], parts: impl Iterator<Item = &'a Durations>) {
        let mut buckets = [0_u64; DURATION_BOUNDS_MICROS.len() + 1];
        let mut micros = 0_u64;
        for part in parts {
            for (sum, counter) in buckets.iter_mut().zip(&part.buckets) {
                *sum = sum.saturating_add(counter.get());
            }
            micros = micros.saturating_add(part.sum_micros.get());
        }
        let total: u64 = buckets.iter().sum();
        if total == 0 {
            return;
        }
        let bounds = DURATION_BOUNDS_MICROS
            .iter()
            .map(|bound| (*bound as f64 / 1e6).to_string());
        let mut so_far = 0_u64;
        for (bound, count) in bounds.chain(["+Inf".to_owned()]).zip(buckets) {
            so_far = so_far.saturating_add(count);
            let labels: Vec<(&str, &str)> = labels.iter().copied().chain([("le", bound.as_str())]).collect();
            self.sample("_bucket", &labels, so_far);
        }
        let _ = write!(self.text, "{}_sum", self.name);
        self.labels(labels);
        let _ = writeln!(self.text, " {}", micros as f64 / 1e6);
        self.sample("_count", labels, total);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_lists_exactly_what_is_served() {
        let document = include_str!("../../../docs/metrics.md");
        let (document, _) = document.split_once("# Metrics of the controller").unwrap();
        let mut documented: Vec<&str> = document
            .lines()
            .filter_map(|line| line.strip_prefix("| `")?.split(['`', '{']).next())
            .collect();
        documented.sort_unstable();
        let store = LiveStore::new(2);
        let registry = prometheus::Registry::new();
        crate::config::metrics::IntakeMetrics::register(&registry).unwrap();
        crate::enrol::metrics::IdentityMetrics::register(&registry).unwrap();
        let metrics = Metrics::new(store, vec![Arc::new(WorkerCounters::new(4))], registry);
        let page = metrics.render() + "# TYPE proxy_snapshot_info gauge\n";
        let mut served: Vec<&str> = page
            .lines()
            .filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next())
            .collect();
        served.sort_unstable();
        assert_eq!(documented, served);
    }

    #[test]
    fn workers_are_summed_and_labels_escaped() {
        let store = LiveStore::new(2);
        let slot = store.names().route("a\"b", "p");
        let workers = [(); 2].map(|()| Arc::new(WorkerCounters::new(4)));
        for worker in &workers {
            worker.route(slot).unwrap().status(200).unwrap().add(2);
            worker.route(slot).unwrap().durations.record(3_000);
        }
        let registry = prometheus::Registry::new();
        let metrics = Metrics::new(store, workers.to_vec(), registry.clone());
        let refused = prometheus::IntCounter::new("proxy_config_something_total", "Of delivery.").unwrap();
        registry.register(Box::new(refused.clone())).unwrap();
        refused.inc();
        let page = metrics.render();
        for line in [
            "proxy_requests_total{route=\"a\\\"b\",pool=\"p\",status=\"200\"} 4",
            "proxy_request_duration_seconds_bucket{route=\"a\\\"b\",pool=\"p\",le=\"0.005\"} 2",
            "proxy_request_duration_seconds_sum{route=\"a\\\"b\",pool=\"p\"} 0.006",
            "proxy_config_something_total 1",
        ] {
            assert!(page.contains(line), "{line} is not in\n{page}");
        }
    }
}
