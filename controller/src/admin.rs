//! The admin port: what the controller knows and does, over plain HTTP on the loopback interface, and the commands of
//! people. Reads come from the board; commands go to the pipeline and wait for its answer.
//!
//! There is no login: whoever is on this machine is trusted, so a listener elsewhere is refused. A request from a web
//! page is not: commands need a JSON body, which a page of another origin cannot send without being asked first.

mod explain;
pub mod routes;

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::Serialize;
use sluice_model::limits::{ADMIN_BODY_BYTES, ADMIN_CONNECTIONS, ADMIN_READ_WAIT_MS};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

use crate::pipeline::{Asked, Board};
use crate::telemetry::Telemetry;

/// What the admin port answers from.
#[derive(Clone, Debug)]
pub struct Admin {
    /// What is shown.
    pub board: Arc<Board>,
    /// What is measured.
    pub telemetry: Arc<Telemetry>,
    /// Where commands go.
    pub commands: Commands,
}

/// Whether commands are taken here.
#[derive(Clone, Debug)]
pub enum Commands {
    /// They go there.
    To(mpsc::Sender<Asked>),
    /// Not here: in Kubernetes they come through the API server, which knows who asks.
    ThroughApiServer,
}

/// What answers requests.
pub trait Answers: Clone + Send + Sync + 'static {
    /// The answer to one request.
    fn answer(&self, request: Request<Incoming>) -> impl Future<Output = Answer> + Send;
}

/// Serves on `listener` until `stop`.
pub async fn serve(listener: TcpListener, admin: impl Answers, stop: CancellationToken) {
    let room = Arc::new(Semaphore::new(ADMIN_CONNECTIONS));
    loop {
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else {
            return;
        };
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                let (admin, stop) = (admin.clone(), stop.clone());
                tokio::spawn(async move {
                    converse(stream, admin, stop).await;
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "a connection to the admin port was not accepted");
                tokio::time::sleep(Duration::from_millis(100)).await; // out of descriptors: let some be closed
            }
        }
    }
}

async fn converse(stream: TcpStream, admin: impl Answers, stop: CancellationToken) {
    let service = service_fn(move |request| {
        let admin = admin.clone();
        async move { Ok::<_, Infallible>(admin.answer(request).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_millis(ADMIN_READ_WAIT_MS))
        .serve_connection(TokioIo::new(stream), service);
    tokio::select! {
        () = stop.cancelled() => {}
        served = connection => if let Err(error) = served {
            tracing::debug!(%error, "a connection to the admin port ended");
        },
    }
}

/// An answer of the admin port.
pub type Answer = Response<Full<Bytes>>;

impl Answers for Admin {
    async fn answer(&self, request: Request<Incoming>) -> Answer {
        let (head, body) = request.into_parts();
        if head.method == Method::GET {
            return routes::get(self, head.uri.path(), head.uri.query().unwrap_or_default()).await;
        }
        if head.method != Method::POST {
            return error(StatusCode::METHOD_NOT_ALLOWED, "use GET or POST");
        }
        let is_json = head
            .headers
            .get(header::CONTENT_TYPE)
            .is_some_and(|kind| kind.as_bytes().starts_with(b"application/json"));
        if !is_json {
            return error(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "send content-type: application/json",
            );
        }
        let read = tokio::time::timeout(
            Duration::from_millis(ADMIN_READ_WAIT_MS),
            Limited::new(body, ADMIN_BODY_BYTES).collect(),
        );
        match read.await {
            Ok(Ok(body)) => routes::post(self, head.uri.path(), &body.to_bytes()).await,
            Ok(Err(wrong)) if wrong.is::<LengthLimitError>() => error(
                StatusCode::PAYLOAD_TOO_LARGE,
                &format!("at most {ADMIN_BODY_BYTES} bytes are taken"),
            ),
            Ok(Err(_)) | Err(_) => error(StatusCode::BAD_REQUEST, "the body did not arrive"),
        }
    }
}

/// A JSON answer.
pub(crate) fn json(status: StatusCode, value: &impl Serialize) -> Answer {
    match serde_json::to_vec(value) {
        Ok(body) => with_type(status, "application/json", body),
        Err(wrong) => with_type(
            StatusCode::INTERNAL_SERVER_ERROR,
            "text/plain",
            wrong.to_string().into_bytes(),
        ),
    }
}

/// A JSON answer that says what is wrong and what to do.
pub(crate) fn error(status: StatusCode, message: &str) -> Answer {
    json(status, &serde_json::json!({ "error": message }))
}

pub(crate) fn with_type(status: StatusCode, kind: &'static str, body: Vec<u8>) -> Answer {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
    response
}
