//! What the controller measures of itself, for Prometheus. Gauges are set from the board, so that they say what people
//! are shown.

use prometheus::{
    Encoder, Histogram, HistogramOpts, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder,
};
use sluice_model::{FleetName, LiveSubject};
use sluice_proto::Refusal;

use crate::installation::{NoOwner, Owner};
use crate::pipeline::{Board, Happening};
use crate::rollout::{Failure, Story};
use crate::stream::TlsFailure;

/// What came of an enrolment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EnrolmentResult {
    /// The instance has a certificate.
    Certified,
    /// It may not have one.
    Refused,
    /// Too many asked.
    Throttled,
    /// Nobody could tell whether it may.
    Unavailable,
}

impl EnrolmentResult {
    fn as_str(self) -> &'static str {
        match self {
            Self::Certified => "certified",
            Self::Refused => "refused",
            Self::Throttled => "throttled",
            Self::Unavailable => "unavailable",
        }
    }
}

/// The metrics of one controller.
#[derive(Clone, Debug)]
pub struct Telemetry {
    registry: Registry,
    phase: IntGaugeVec,
    gate: IntGaugeVec,
    rollbacks: IntCounterVec,
    instances: IntGaugeVec,
    quarantined: IntGaugeVec,
    live_sent: IntCounterVec,
    live_refused: IntCounterVec,
    doubted: IntGaugeVec,
    enrolments: IntCounterVec,
    tls_failures: IntCounterVec,
    installation_missing: IntGauge,
    /// How long a compile of everything took.
    pub compile_seconds: Histogram,
    /// How long signing a manifest took.
    pub sign_seconds: Histogram,
}

impl Telemetry {
    /// All at zero.
    ///
    /// # Errors
    /// Never, unless two metrics have one name.
    pub fn new() -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let gauge = |name: &str, help: &str, labels: &[&str]| {
            let gauge = IntGaugeVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(gauge.clone()))?;
            Ok::<_, prometheus::Error>(gauge)
        };
        let seconds = |name: &str, help: &str| {
            let buckets = vec![0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0];
            let histogram = Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets))?;
            registry.register(Box::new(histogram.clone()))?;
            Ok::<_, prometheus::Error>(histogram)
        };
        let rollbacks = IntCounterVec::new(
            Opts::new(
                "sluice_rollbacks_total",
                "Revisions that were taken back, by what convicted them",
            ),
            &["fleet", "reason"],
        )?;
        registry.register(Box::new(rollbacks.clone()))?;
        let counter = |name: &str, help: &str, labels: &[&str]| {
            let counter = IntCounterVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(counter.clone()))?;
            Ok::<_, prometheus::Error>(counter)
        };
        let build = gauge(
            "sluice_build_info",
            "Always 1; the label says which build runs",
            &["version"],
        )?;
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        let installation_missing = IntGauge::new(
            "sluice_installation_missing",
            "1 while the ConfigMap is gone to which everything belongs that the controller keeps: nothing is written",
        )?;
        registry.register(Box::new(installation_missing.clone()))?;
        Ok(Self {
            installation_missing,
            phase: gauge(
                "sluice_rollout_phase",
                "1 for the phase that the fleet's rollout is in",
                &["fleet", "phase"],
            )?,
            gate: gauge(
                "sluice_rollout_gate",
                "1 for what a gate says of the revision being tried",
                &["fleet", "gate", "scope", "verdict"],
            )?,
            rollbacks,
            instances: gauge("sluice_instances", "Instances, by state", &["fleet", "state"])?,
            quarantined: gauge(
                "sluice_objects_quarantined",
                "Objects that do not serve as they are written",
                &["fleet"],
            )?,
            live_sent: counter(
                "sluice_live_updates_sent_total",
                "Endpoints of services and certificates sent to instances",
                &["fleet", "subject"],
            )?,
            live_refused: counter(
                "sluice_live_updates_refused_total",
                "Live updates that an instance did not take",
                &["fleet", "reason"],
            )?,
            doubted: gauge(
                "sluice_removal_brakes_held",
                "Services whose lost endpoints stay in rotation for now",
                &["fleet"],
            )?,
            enrolments: counter(
                "sluice_enrolments_total",
                "Instances that asked for a certificate, by what came of it",
                &["result"],
            )?,
            tls_failures: counter(
                "sluice_stream_tls_failures_total",
                "Connections to the port of instances that did not get through TLS, by why",
                &["reason"],
            )?,
            compile_seconds: seconds("sluice_compile_seconds", "Time to compile all objects, in seconds")?,
            sign_seconds: seconds("sluice_sign_seconds", "Time to sign a manifest, in seconds")?,
            registry,
        })
    }

    /// Sets how many objects of a fleet do not serve as they are written.
    pub fn quarantined(&self, fleet: &FleetName, objects: usize) {
        let objects = i64::try_from(objects).unwrap_or(i64::MAX);
        self.quarantined.with_label_values(&[fleet.as_str()]).set(objects);
    }

    /// Counts a live update that is sent to an instance.
    pub fn live_sent(&self, fleet: &FleetName, subject: &LiveSubject) {
        let kind = match subject {
            LiveSubject::Service(_) => "service",
            LiveSubject::Certificate(_) => "certificate",
            LiveSubject::Authorities(_) => "authorities",
        };
        self.live_sent.with_label_values(&[fleet.as_str(), kind]).inc();
    }

    /// Counts a live update that an instance did not take.
    pub fn live_refused(&self, fleet: &FleetName, reason: Refusal) {
        let labels = [fleet.as_str(), reason.as_str()];
        self.live_refused.with_label_values(&labels).inc();
    }

    /// Sets how many services of a fleet are doubted.
    pub fn doubted(&self, fleet: &FleetName, services: usize) {
        let services = i64::try_from(services).unwrap_or(i64::MAX);
        self.doubted.with_label_values(&[fleet.as_str()]).set(services);
    }

    /// Sets whether that is gone to which everything belongs that is kept.
    pub fn installation(&self, known: &Result<Owner, NoOwner>) {
        self.installation_missing
            .set(matches!(known, Err(NoOwner::Gone(_))).into());
    }

    /// Counts an enrolment.
    pub fn enrolled(&self, result: EnrolmentResult) {
        self.enrolments.with_label_values(&[result.as_str()]).inc();
    }

    /// Counts a connection that did not get through TLS.
    pub fn no_tls(&self, failure: TlsFailure) {
        self.tls_failures.with_label_values(&[failure.as_str()]).inc();
    }

    /// Counts what a line of the story says.
    pub fn count(&self, fleet: &FleetName, happening: &Happening) {
        if let Happening::Rollout(Story::RollingBack { failure, .. }) = happening {
            self.rollbacks.with_label_values(&[fleet.as_str(), of(failure)]).inc();
        }
    }

    /// Sets the gauges to what is shown on `board`.
    pub fn show(&self, board: &Board) {
        self.phase.reset();
        self.gate.reset();
        self.instances.reset();
        for rollout in board.rollouts() {
            let fleet = rollout.fleet.as_str();
            let phase = format!("{:?}", rollout.phase);
            self.phase.with_label_values(&[fleet, &phase]).set(1);
            for gate in &rollout.gates {
                self.gate
                    .with_label_values(&[fleet, &gate.metric, &gate.scope, gate.verdict])
                    .set(1);
            }
            let set = |state: &str, count: usize| {
                let count = i64::try_from(count).unwrap_or(i64::MAX);
                self.instances.with_label_values(&[fleet, state]).set(count);
            };
            set("connected", rollout.instances.total);
            set("acknowledged", rollout.instances.acknowledged);
            set("refused", rollout.instances.refused);
            set("unreached", rollout.unreached.len());
        }
    }

    /// In the text format that Prometheus scrapes.
    ///
    /// # Errors
    /// When a metric has no samples of a kind that it must have.
    pub fn text(&self) -> Result<Vec<u8>, prometheus::Error> {
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(text)
    }
}

fn of(failure: &Failure) -> &'static str {
    match failure {
        Failure::Gate { .. } => "gate",
        Failure::Starved { .. } => "starved",
        Failure::NoData { .. } => "no_data",
        Failure::Refused { .. } => "refused",
        Failure::Restarted { .. } => "restarted",
        Failure::Silent { .. } => "silent",
        Failure::Aborted { .. } => "aborted",
    }
}
