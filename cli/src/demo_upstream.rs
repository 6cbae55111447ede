//! `sluice demo-upstream`: a small HTTP server that answers with its version, slowly or badly if asked to.
//!
//! For trying Sluice on: `up --demo` runs it inside, tests and readers start it on its own, in pods too, where it ends as
//! a well-behaved backend does: what was begun is finished. Not for serving anything.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use sluice_model::limits::DEMO_UPSTREAM_HEADER_TIMEOUT_MS;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::failure::{Exit, Failure};
use crate::up::signals::Signals;
use crate::waiting_runtime;

/// The response header that names the version, so that clients need not read bodies.
pub const VERSION_HEADER: &str = "x-demo-version";

/// Arguments of `sluice demo-upstream`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Where to listen.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:9101")]
    pub listen: SocketAddr,
    /// What it answers with.
    #[arg(long, default_value = "v1")]
    pub version: String,
    /// How many of a hundred requests it answers with 500.
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=100))]
    pub fail_percent: u8,
    /// How long it waits before it answers, such as 5ms or 1s.
    #[arg(long, default_value = "0ms", value_parser = delay)]
    pub delay: Duration,
}

/// How one demo upstream behaves.
#[derive(Clone, Debug)]
pub struct Behaviour {
    /// What it answers with.
    pub version: String,
    /// How many of a hundred requests fail.
    pub fail_percent: u8,
    /// How long an answer takes.
    pub delay: Duration,
}

/// One that runs.
#[derive(Debug)]
struct Running {
    behaviour: Behaviour,
    /// Requests so far.
    count: AtomicU64,
}

impl Running {
    fn new(behaviour: Behaviour) -> Arc<Self> {
        let count = AtomicU64::new(0);
        Arc::new(Self { behaviour, count })
    }
}

/// `5ms` or `2s`, at most a minute: longer is a mistake in a demo.
fn delay(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is not a delay: write 5ms or 1s, at most 60s");
    let (digits, unit_ms) = match text.strip_suffix("ms") {
        Some(digits) => (digits, 1),
        None => (text.strip_suffix('s').ok_or_else(wrong)?, 1_000),
    };
    let number: u64 = digits.parse().map_err(|_| wrong())?;
    let delay = number
        .checked_mul(unit_ms)
        .map(Duration::from_millis)
        .ok_or_else(wrong)?;
    if delay > Duration::from_secs(60) {
        Err(wrong())
    } else {
        Ok(delay)
    }
}

/// Serves until a signal comes; then answers what was asked already, closes every connection, and ends. A second signal
/// ends it at once.
///
/// # Errors
/// When it cannot listen.
pub fn run(args: &Args) -> Result<Exit, Failure> {
    let behaviour = Behaviour {
        version: args.version.clone(),
        fail_percent: args.fail_percent,
        delay: args.delay,
    };
    waiting_runtime()?.block_on(async {
        let mut signals = Signals::listen()?;
        let listener = listen(args.listen).await?;
        let address = listener.local_addr().unwrap_or(args.listen);
        crate::output::print(&format!("demo upstream {} on http://{address}\n", behaviour.version));
        let (end, ending) = watch::channel(());
        // The listener goes with the future, so that nothing new is begun.
        tokio::select! {
            () = accept(listener, Running::new(behaviour), ending) => {}
            () = signals.wait() => {}
        }
        let _ = end.send(()); // nobody to tell: no connection is open
        tokio::select! {
            () = end.closed() => {}
            () = signals.wait() => {}
        }
        Ok(Exit::Done)
    })
}

/// Listens on `address`.
///
/// # Errors
/// When something else does, or the system refuses.
pub async fn listen(address: SocketAddr) -> Result<TcpListener, Failure> {
    TcpListener::bind(address).await.map_err(|error| {
        Failure::failed(format!(
            "the demo upstream cannot listen on {address}: {error}; stop what listens there (`ss -ltnp`), or choose another address"
        ))
    })
}

/// Answers requests until it is dropped.
pub async fn serve(listener: TcpListener, behaviour: Behaviour) {
    let (_end, ending) = watch::channel(());
    accept(listener, Running::new(behaviour), ending).await;
}

async fn accept(listener: TcpListener, running: Arc<Running>, ending: watch::Receiver<()>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                tokio::spawn(converse(stream, running.clone(), ending.clone()));
            }
            // Out of file descriptors, most likely: a moment later there may be some.
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

async fn converse(stream: TcpStream, running: Arc<Running>, mut ending: watch::Receiver<()>) {
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request: Request<Incoming>| {
        let running = running.clone();
        async move {
            let number = running.count.fetch_add(1, Ordering::Relaxed);
            Ok::<_, Infallible>(answer(&running.behaviour, number, &request).await)
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_millis(DEMO_UPSTREAM_HEADER_TIMEOUT_MS))
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    // A client that breaks off is its own business.
    tokio::select! {
        _ = connection.as_mut() => {}
        _ = ending.changed() => {
            connection.as_mut().graceful_shutdown();
            let _ = connection.await;
        }
    }
}

async fn answer(behaviour: &Behaviour, number: u64, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    if !behaviour.delay.is_zero() {
        tokio::time::sleep(behaviour.delay).await;
    }
    let version = &behaviour.version;
    let (status, text) = if fails(number, behaviour.fail_percent) {
        (StatusCode::INTERNAL_SERVER_ERROR, format!("{version} fails\n"))
    } else {
        (
            StatusCode::OK,
            format!("hello from {version}: {}\n", request.uri().path()),
        )
    };
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    response.headers_mut().insert(
        http::header::CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    if let Ok(value) = HeaderValue::from_str(version) {
        response.headers_mut().insert(VERSION_HEADER, value);
    }
    response
}

/// Whether request `number` is one of the failing ones: exactly `percent` of every hundred, spread evenly.
fn fails(number: u64, percent: u8) -> bool {
    let percent = u64::from(percent);
    let place = number % 100;
    (place + 1) * percent / 100 > place * percent / 100
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[test]
    fn exactly_so_many_of_a_hundred_fail() {
        for percent in [0_u8, 1, 5, 33, 99, 100] {
            let failed = (1_000..1_100).filter(|&number| fails(number, percent)).count();
            assert_eq!(failed, usize::from(percent));
        }
    }

    #[tokio::test]
    async fn what_was_asked_is_answered_before_the_end() {
        let behaviour = Behaviour {
            version: "v1".to_owned(),
            fail_percent: 0,
            delay: Duration::from_millis(100),
        };
        let listener = listen("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (end, ending) = watch::channel(());
        let running = Running::new(behaviour);
        let serving = tokio::spawn(accept(listener, running.clone(), ending));
        client.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
        while running.count.load(Ordering::Relaxed) == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        end.send(()).unwrap();
        let mut answer = String::new();
        // To the end: the connection is closed although the client would keep it.
        client.read_to_string(&mut answer).await.unwrap();
        assert!(
            answer.starts_with("HTTP/1.1 200") && answer.contains("hello from v1"),
            "{answer}"
        );
        serving.abort();
    }

    #[test]
    fn delays_have_units() {
        assert_eq!(delay("5ms").unwrap(), Duration::from_millis(5));
        assert_eq!(delay("2s").unwrap(), Duration::from_secs(2));
        for wrong in ["", "5", "ms", "-1s", "61s", "1h", "99999999999999999999s"] {
            assert!(delay(wrong).is_err(), "{wrong}");
        }
    }
}
