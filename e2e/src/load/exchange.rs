//! One request of the generator: take or open a connection, send, read to the end, record.
//!
//! A kept connection that the server closed before the request was written is no failure: the request never left, and
//! goes out on another. Whatever happens after the first byte was written is the outcome.

use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, header};
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use sluice_cli::demo_upstream::VERSION_HEADER;
use tokio::net::TcpStream;
use tokio::time::timeout_at;

use crate::wait::unix_ms;

use super::outcome::{Connection, Outcome, Reply};
use super::{Shared, target};

/// By which header the upstreams of tests say who they are: those in this process, and `sluice demo-upstream`.
const STAMPS: [&str; 2] = ["x-stamp", VERSION_HEADER];

/// So long before its whole time is over, a request that has no connection yet will not have one.
const CONNECT_MARGIN: Duration = Duration::from_millis(100);

/// A connection ready for a request.
pub(super) type Sender = SendRequest<Empty<Bytes>>;

/// Performs request `number`.
pub(super) async fn perform(shared: &Rc<Shared>, number: u64) -> Outcome {
    let (plan, kind) = (&shared.plan, target(&shared.plan, number));
    let id = format!("{}-{number}", shared.name);
    // Spread the new connections evenly over the numbers, independent of the target's pattern.
    let closing = (number / u64::try_from(plan.targets.len()).unwrap_or(1)) % 100 * 37 % 100
        < u64::from(plan.new_connections_percent);
    let (began, sent_unix_ms) = (Instant::now(), unix_ms());
    let until = began + plan.timeout;
    let request = || {
        let builder = Request::get(&kind.path)
            .header(header::HOST, &kind.host)
            .header("x-request-id", &id);
        let builder = if closing {
            builder.header(header::CONNECTION, "close")
        } else {
            builder
        };
        builder.body(Empty::new()).expect("a request out of a plan")
    };
    let mut connection = if closing { Connection::New } else { Connection::Kept };
    let exchange = exchange(shared, &request, &mut connection, until);
    let result = timeout_at(until.into(), exchange)
        .await
        .unwrap_or_else(|_| Err("no answer in time".to_owned()));
    Outcome {
        path: kind.path.clone(),
        took: began.elapsed(),
        id,
        sent_unix_ms,
        connection,
        result,
    }
}

async fn exchange(
    shared: &Rc<Shared>,
    request: &impl Fn() -> Request<Empty<Bytes>>,
    connection: &mut Connection,
    until: Instant,
) -> Result<Reply, String> {
    loop {
        let idle = if *connection == Connection::New {
            None
        } else {
            take(shared)
        };
        let mut sender = match idle {
            Some(sender) => sender,
            None => {
                let sender = open(shared, until).await?;
                // What opened its connection is a new connection's request, also when it will be kept.
                let closing = *connection == Connection::New;
                *connection = Connection::New;
                return talk(shared, sender, request(), !closing)
                    .await
                    .map_err(|failed| failed.0);
            }
        };
        if sender.ready().await.is_err() {
            continue;
        }
        match talk(shared, sender, request(), true).await {
            Ok(reply) => return Ok(reply),
            Err(Failed(_, Sent::No)) => {}
            Err(Failed(why, Sent::Maybe)) => return Err(why),
        }
    }
}

/// Why an exchange failed, and whether the request may have left.
struct Failed(String, Sent);

enum Sent {
    No,
    Maybe,
}

async fn talk(
    shared: &Rc<Shared>,
    mut sender: Sender,
    request: Request<Empty<Bytes>>,
    keep: bool,
) -> Result<Reply, Failed> {
    let response = sender.try_send_request(request).await.map_err(|mut error| {
        let sent = if error.take_message().is_some() {
            Sent::No
        } else {
            Sent::Maybe
        };
        Failed(chain("sending", error.error()), sent)
    })?;
    let (parts, body) = response.into_parts();
    let body = body
        .collect()
        .await
        .map_err(|error| Failed(chain("reading the body", &error), Sent::Maybe))?;
    if keep && !sender.is_closed() {
        shared.idle.borrow_mut().push(sender);
    }
    let text = |name: &str| {
        let value = parts.headers.get(name).and_then(|value| value.to_str().ok());
        value.unwrap_or_default().to_owned()
    };
    let shown = if parts.status.is_success() {
        Bytes::new()
    } else {
        body.to_bytes()
    };
    Ok(Reply {
        status: parts.status.as_u16(),
        request_id: text("x-request-id"),
        stamp: STAMPS.map(text).concat(),
        body: String::from_utf8_lossy(&shown).into_owned(),
    })
}

fn take(shared: &Rc<Shared>) -> Option<Sender> {
    let mut idle = shared.idle.borrow_mut();
    std::iter::from_fn(|| idle.pop()).find(|sender| !sender.is_closed())
}

async fn open(shared: &Rc<Shared>, until: Instant) -> Result<Sender, String> {
    // Told apart from a request that was taken and never answered.
    let late = until.checked_sub(CONNECT_MARGIN).unwrap_or(until);
    let socket = timeout_at(late.into(), TcpStream::connect(shared.plan.address))
        .await
        .map_err(|_| "connecting: nobody answers".to_owned())?
        .map_err(|error| chain("connecting", &error))?;
    let _ = socket.set_nodelay(true);
    let (sender, connection) = handshake(TokioIo::new(socket))
        .await
        .map_err(|error| chain("handshake", &error))?;
    tokio::task::spawn_local(connection);
    Ok(sender)
}

fn chain(doing: &str, error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |error| error.source());
    let causes: String = causes.map(|cause| format!(": {cause}")).collect();
    format!("{doing}: {error}{causes}")
}
