//! What kubelets and Prometheus ask, on an address of its own that may be reached from outside: is it alive, is it ready,
//! what does it count. Open from the first moment, when there is neither an identity nor anything to serve, and then it
//! says what is waited for. The views of what is live stay on the admin address.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use prometheus::{Registry, TextEncoder};

use crate::admin::{self, Admin, text};

/// See the file's comment. Clones tell the same.
#[derive(Clone, Debug)]
pub struct Health(Arc<Mutex<Stage>>);

#[derive(Debug)]
enum Stage {
    /// Nothing can serve yet.
    Beginning {
        /// What is waited for.
        why: String,
        /// What is counted already.
        registry: Registry,
    },
    /// Whether it is ready is known there.
    Begun(Arc<Admin>),
}

impl Health {
    /// Of a process that has just begun, which counts in `registry`.
    pub fn beginning(registry: Registry) -> Self {
        Self(Arc::new(Mutex::new(Stage::Beginning {
            why: "it has just begun".to_owned(),
            registry,
        })))
    }

    /// Says what is waited for.
    pub fn waits_for(&self, what: &str) {
        match &mut *self.stage() {
            Stage::Beginning { why, .. } => what.clone_into(why),
            Stage::Begun(_) => {}
        }
    }

    /// From now on it is as ready as `admin` says.
    pub(crate) fn begun(&self, admin: Arc<Admin>) {
        *self.stage() = Stage::Begun(admin);
    }

    // Whole after every line that touches it, so a panic elsewhere spoils nothing.
    fn stage(&self) -> MutexGuard<'_, Stage> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why it is not ready; `None`: it is.
    pub fn unready(&self) -> Option<String> {
        match &*self.stage() {
            Stage::Beginning { why, .. } => Some(why.clone()),
            Stage::Begun(admin) => admin.unready(),
        }
    }

    /// What is counted, as Prometheus reads it.
    pub fn metrics(&self) -> String {
        match &*self.stage() {
            Stage::Beginning { registry, .. } => TextEncoder::new()
                .encode_to_string(&registry.gather())
                .unwrap_or_default(),
            Stage::Begun(admin) => admin.metrics.render(),
        }
    }

    fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return text(StatusCode::METHOD_NOT_ALLOWED, "this address is read-only: use GET\n");
        }
        let answer = admin::probe(request.uri().path(), || self.unready(), || self.metrics());
        answer.unwrap_or_else(|| {
            text(
                StatusCode::NOT_FOUND,
                "there are /healthz /ready /metrics; the views of what is live are on the admin address\n",
            )
        })
    }

    /// Answers on `address` until dropped.
    ///
    /// # Errors
    /// When it cannot be listened on.
    pub async fn open(&self, address: SocketAddr) -> std::io::Result<Open> {
        let listener = admin::bind(address).await?;
        let address = listener.local_addr()?;
        let health = self.clone();
        let serving = admin::serve(listener, move |request| health.answer(request));
        Ok(Open {
            address,
            task: tokio::spawn(serving),
        })
    }
}

/// An open health address; closed when dropped.
#[derive(Debug)]
pub struct Open {
    address: SocketAddr,
    task: tokio::task::JoinHandle<()>,
}

impl Open {
    /// Where it is.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::enrol::metrics::IdentityMetrics;

    #[test]
    fn it_says_what_is_waited_for_and_counts_from_the_first_moment() {
        let registry = Registry::new();
        IdentityMetrics::register(&registry).unwrap();
        let health = Health::beginning(registry);
        assert!(health.unready().is_some());
        health.waits_for("not enrolled: no token");
        assert_eq!(health.unready().as_deref(), Some("not enrolled: no token"));
        assert!(
            health.metrics().contains("proxy_enrolments_total"),
            "{}",
            health.metrics()
        );
    }
}
