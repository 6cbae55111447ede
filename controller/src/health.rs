//! The health port: what a kubelet and Prometheus ask of every replica, whether it leads or not. Read-only, and open to
//! the pod's network, so it tells nothing of what is configured.

use std::fmt;
use std::sync::Arc;

use http::{Method, Request, StatusCode};
use hyper::body::Incoming;

use crate::admin::{Answer, Answers, error, with_type};
use crate::telemetry::Telemetry;

/// Why a replica is not ready; `None`: it is.
pub type Readiness = Arc<dyn Fn() -> Option<String> + Send + Sync>;

/// See the file's comment.
#[derive(Clone)]
pub struct Health {
    /// Asked with every `/ready`.
    pub readiness: Readiness,
    /// Shown as `/metrics`.
    pub telemetry: Arc<Telemetry>,
}

impl fmt::Debug for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Health")
    }
}

impl Answers for Health {
    async fn answer(&self, request: Request<Incoming>) -> Answer {
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return error(StatusCode::METHOD_NOT_ALLOWED, "this port is read-only: use GET");
        }
        match request.uri().path() {
            "/healthz" => with_type(StatusCode::OK, "text/plain", b"ok\n".to_vec()),
            "/ready" => match (self.readiness)() {
                None => with_type(StatusCode::OK, "text/plain", b"ready\n".to_vec()),
                Some(why) => error(StatusCode::SERVICE_UNAVAILABLE, &why),
            },
            "/metrics" => match self.telemetry.text() {
                Ok(text) => with_type(StatusCode::OK, "text/plain; version=0.0.4", text),
                Err(wrong) => error(StatusCode::INTERNAL_SERVER_ERROR, &wrong.to_string()),
            },
            _ => error(StatusCode::NOT_FOUND, "there are /healthz, /ready and /metrics"),
        }
    }
}
