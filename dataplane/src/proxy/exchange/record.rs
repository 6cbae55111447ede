//! What is left of a request when it is over: counts, and a line in the access log.

use std::time::SystemTime;

use sluice_model::upgrade::UpgradeToken;

use super::{Exchange, Routed};
use crate::guard::Line as RequestLine;
use crate::telemetry::access_log::Line;
use crate::telemetry::counters::{Protocol, WorkerCounters};
use crate::telemetry::names::{NONE, OTHER};

impl Exchange {
    /// Counts it; its answer took so long.
    pub(super) fn count(&self, counters: &WorkerCounters, micros: u64) {
        if let Some(requests) = counters.protocol(Protocol::of(self.version)) {
            requests.add(1);
        }
        // What ended a whole connection is counted once, by that, however many requests were on it.
        let of_connection = self.stream.as_ref().and_then(|stream| stream.ended_with_connection());
        let own = self.rule.filter(|rule| of_connection != Some(*rule));
        if let Some(refused) = own.and_then(|rule| counters.refused(rule)) {
            refused.add(1);
        }
        let generation = self.lane.as_ref().map(|lane| &lane.generation);
        let slot = match (self.routed, generation) {
            (Some(Routed { to, .. }), Some(generation)) => generation.route_slot(to.route, to.rule).unwrap_or(OTHER),
            (_, _) => NONE,
        };
        if let Some(route) = counters.route(slot) {
            if let Some(status) = self.status.and_then(|status| route.status(status)) {
                status.add(1);
            }
            if let Some(error) = self.failure.and_then(|failure| route.error(failure)) {
                error.add(1);
            }
            if self.retries > 0 {
                let outcome = match self.upstream_micros {
                    Some(_) => &route.retries_answered,
                    None => &route.retries_failed,
                };
                outcome.add(self.retries);
            }
            route.durations.record(micros);
            route.request_sizes.record(self.bytes_in());
            route.response_sizes.record(self.bytes_out);
        }
        if let (Some(endpoint), Some(micros)) = (self.endpoint_counters(), self.upstream_micros) {
            endpoint.durations.record(micros);
        }
    }

    fn bytes_in(&self) -> u64 {
        self.request_body.as_ref().map_or(0, |watch| watch.bytes.get())
    }

    /// Writes its line of the access log; it took so long.
    pub(super) fn write(&self, line: &mut Line<'_>, micros: u64) {
        line.time("timestamp", SystemTime::now());
        line.text("request_id", self.request_id.as_bytes());
        match self.refused.map(|refused| refused.line) {
            Some(RequestLine::Unknown) => {}
            Some(RequestLine::Known) | None => {
                line.text("method", self.method.as_str().as_bytes());
                line.text("path", self.uri.path().as_bytes());
            }
        }
        line.text("protocol", Protocol::of(self.version).as_str().as_bytes());
        if let Some(host) = &self.host {
            line.text("host", host.name().as_bytes());
        }
        self.write_way(line);
        line.number("status", u64::from(self.status.unwrap_or_default()));
        line.millis("duration_ms", micros);
        if let Some(micros) = self.upstream_micros {
            line.millis("upstream_duration_ms", micros);
        }
        line.number("retries", self.retries);
        if let Some(error) = &self.upstream_error {
            line.text("upstream_error", error.as_bytes());
        }
        if let Some(failure) = self.failure {
            line.text("error_category", failure.category().as_bytes());
        }
        if let Some(status) = self.call_status {
            line.number("grpc_status", u64::from(status.0));
        }
        if let Some(rule) = self.rule {
            line.text("refused_by", rule.as_str().as_bytes());
        }
        self.write_bytes(line);
        line.text("client", self.connection.client.as_bytes());
        if let Some(facts) = self.connection.tls.get() {
            line.text("tls", facts.version.as_str().as_bytes());
            line.text("tls_cipher", facts.cipher.as_bytes());
            if let Some(name) = &facts.name {
                line.text("sni", name.as_bytes());
            }
            if let Some(client) = &facts.client {
                line.text("client_certificate", client.fingerprint().to_string().as_bytes());
            }
        }
        line.text("instance", self.worker.instance.as_bytes());
    }

    fn write_bytes(&self, line: &mut Line<'_>) {
        let Some(tunnel) = &self.tunnel else {
            line.number("bytes_in", self.bytes_in());
            line.number("bytes_out", self.bytes_out);
            return;
        };
        line.number("bytes_in", tunnel.bytes_in.get());
        line.number("bytes_out", tunnel.bytes_out.get());
        let token = self.upgrade.as_ref().map(UpgradeToken::as_str).unwrap_or_default();
        line.text("upgrade", token.as_bytes());
        line.text("tunnel_end", tunnel.end.get().as_str().as_bytes());
    }

    fn write_way(&self, line: &mut Line<'_>) {
        if let Some(lane) = &self.lane {
            line.text("revision", lane.generation.revision_text.as_bytes());
            line.text("role", lane.generation.role.as_str().as_bytes());
        }
        let rule = self.routed.map(|routed| routed.to.rule as usize);
        if let Some((route, rule)) = self.route().zip(rule) {
            line.text("route", route.text.as_bytes());
            if let Some(rule) = route.rules.get(rule) {
                line.text("rule", rule.text.as_bytes());
            }
        }
        if let Some((_, pool)) = self.pool() {
            line.text("pool", pool.text.as_bytes());
        }
        if let Some(endpoint) = self.endpoint() {
            line.text("endpoint", endpoint.text.as_bytes());
        }
    }
}
