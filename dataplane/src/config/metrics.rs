//! What the intake tells about itself: how long applying took, what was refused and why, and what it holds.

use prometheus::{Histogram, HistogramOpts, IntCounterVec, IntGauge, Opts, Registry};
use sluice_model::LiveSubject;

use super::refusal::Refusal;

const ENDPOINTS: &str = "endpoints";
const CERTIFICATE: &str = "certificate";
const AUTHORITIES: &str = "authorities";

/// The intake's metrics. Clones share their values.
#[derive(Clone, Debug)]
pub struct IntakeMetrics {
    /// From the moment that everything for an order is there to the swap, in seconds.
    pub apply_seconds: Histogram,
    refused: IntCounterVec,
    live_applied: IntCounterVec,
    /// 1 while a stream to the controller is open.
    pub connected: IntGauge,
    /// The epoch of the last order heeded.
    pub epoch: IntGauge,
    /// 1 after the state folder refused a write, until one succeeds.
    pub state_unwritable: IntGauge,
}

impl IntakeMetrics {
    /// Made and registered with `registry`. Fails only if a name is registered twice, which is a bug.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let buckets = vec![
            0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
        ];
        let apply = HistogramOpts::new(
            "proxy_config_apply_seconds",
            "Time to check, build, prepare and swap in a delivered configuration.",
        );
        let metrics = Self {
            apply_seconds: Histogram::with_opts(apply.buckets(buckets))?,
            refused: IntCounterVec::new(
                Opts::new("proxy_config_refused_total", "Deliveries refused, by reason."),
                &["reason"],
            )?,
            live_applied: IntCounterVec::new(
                Opts::new(
                    "proxy_live_updates_total",
                    "Values of the live lane taken into use, by kind.",
                ),
                &["kind"],
            )?,
            connected: IntGauge::new(
                "proxy_controller_connected",
                "1 while a stream to the controller is open.",
            )?,
            epoch: IntGauge::new("proxy_config_epoch", "Epoch of the last order heeded.")?,
            state_unwritable: IntGauge::new(
                "proxy_state_unwritable",
                "1 after the state folder refused a write, until one succeeds.",
            )?,
        };
        registry.register(Box::new(metrics.apply_seconds.clone()))?;
        registry.register(Box::new(metrics.refused.clone()))?;
        registry.register(Box::new(metrics.live_applied.clone()))?;
        registry.register(Box::new(metrics.connected.clone()))?;
        registry.register(Box::new(metrics.epoch.clone()))?;
        registry.register(Box::new(metrics.state_unwritable.clone()))?;
        for kind in [ENDPOINTS, CERTIFICATE, AUTHORITIES] {
            metrics.live_applied.with_label_values(&[kind]);
        }
        for reason in Refusal::REASONS {
            metrics.refused.with_label_values(&[reason]); // a counter that is 0 is seen before it is needed
        }
        Ok(metrics)
    }

    /// Counts a refusal.
    pub fn refused(&self, refusal: &Refusal) {
        self.refused.with_label_values(&[refusal.reason()]).inc();
    }

    /// Counts a value of the live lane that is taken into use.
    pub fn live_applied(&self, subject: &LiveSubject) {
        let kind = match subject {
            LiveSubject::Service(_) => ENDPOINTS,
            LiveSubject::Certificate(_) => CERTIFICATE,
            LiveSubject::Authorities(_) => AUTHORITIES,
        };
        self.live_applied.with_label_values(&[kind]).inc();
    }

    /// How many refusals there were for a reason.
    pub fn refused_for(&self, reason: &str) -> u64 {
        self.refused.with_label_values(&[reason]).get()
    }
}
