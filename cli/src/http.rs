//! One HTTP/1.1 client for everything the command asks of others: admin ports, readiness, demo traffic.
//!
//! Plain HTTP only: admin ports of standalone fleets are on the loopback interface. Every wait and every body is bounded.

use std::time::Duration;

use bytes::Bytes;
use http::header::HOST;
use http::{HeaderValue, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use sluice_model::limits::{CLIENT_ANSWER_MAX_BYTES, CLIENT_CONNECT_TIMEOUT_MS, CLIENT_EXCHANGE_TIMEOUT_MS};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// Nobody listens there, or they cannot be reached.
    #[error("cannot connect to {address}: {source}")]
    Connect {
        /// Host and port.
        address: String,
        /// What the system says.
        source: std::io::Error,
    },
    /// The exchange broke off.
    #[error("{address}: {reason}")]
    Exchange {
        /// Host and port.
        address: String,
        /// What broke.
        reason: String,
    },
    /// It took too long.
    #[error("{address} did not answer within {seconds} s")]
    Slow {
        /// Host and port.
        address: String,
        /// How long was waited.
        seconds: u64,
    },
}

/// An answer, whole.
#[derive(Debug)]
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: http::HeaderMap,
    /// Its body.
    pub body: Bytes,
}

/// A connection that can carry one request after another.
#[derive(Debug)]
pub struct Connection {
    address: String,
    sender: SendRequest<Full<Bytes>>,
}

impl Connection {
    /// Connects to `address` (`host:port`).
    ///
    /// # Errors
    /// When nobody accepts there in time.
    pub async fn open(address: &str) -> Result<Self, HttpError> {
        let limit = Duration::from_millis(CLIENT_CONNECT_TIMEOUT_MS);
        let slow = || HttpError::Slow {
            address: address.to_owned(),
            seconds: limit.as_secs(),
        };
        let stream = timeout(limit, TcpStream::connect(address)).await.map_err(|_| slow())?;
        let stream = stream.map_err(|source| HttpError::Connect {
            address: address.to_owned(),
            source,
        })?;
        // Small requests, answered before the next: waiting to fill a packet only delays.
        let _ = stream.set_nodelay(true);
        Self::over(stream, address).await
    }

    /// Speaks over a stream that is there already; `address` is for messages.
    ///
    /// # Errors
    /// When it does not take a connection.
    pub async fn over<S>(stream: S, address: &str) -> Result<Self, HttpError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (sender, connection) =
            http1::handshake(TokioIo::new(stream))
                .await
                .map_err(|error| HttpError::Exchange {
                    address: address.to_owned(),
                    reason: error.to_string(),
                })?;
        tokio::spawn(async move {
            // How it ends is told to whoever waits for an answer.
            let _ = connection.await;
        });
        Ok(Self {
            address: address.to_owned(),
            sender,
        })
    }

    /// Sends one request, with `host` as its Host header, and reads the whole answer.
    ///
    /// # Errors
    /// When it breaks off, is larger than `CLIENT_ANSWER_MAX_BYTES`, or takes longer than `limit`.
    pub async fn send(&mut self, call: &Call<'_>, host: &str, limit: Duration) -> Result<Answer, HttpError> {
        let address = self.address.clone();
        let broken = |reason: String| HttpError::Exchange {
            address: address.clone(),
            reason,
        };
        let host = HeaderValue::from_str(host).map_err(|error| broken(error.to_string()))?;
        let request = Request::builder()
            .method(call.method.clone())
            .uri(call.path)
            .header(HOST, host)
            .header(http::header::CONTENT_TYPE, "application/json")
            .body(Full::new(call.body.clone()))
            .map_err(|error| broken(error.to_string()))?;
        let exchange = async {
            self.sender.ready().await.map_err(|error| broken(error.to_string()))?;
            let response = self
                .sender
                .send_request(request)
                .await
                .map_err(|error| broken(error.to_string()))?;
            let (head, body) = response.into_parts();
            let body = Limited::new(body, CLIENT_ANSWER_MAX_BYTES).collect().await;
            let body = body.map_err(|error| broken(error.to_string()))?.to_bytes();
            Ok(Answer {
                status: head.status,
                headers: head.headers,
                body,
            })
        };
        let slow = || HttpError::Slow {
            address: address.clone(),
            seconds: limit.as_secs(),
        };
        timeout(limit, exchange).await.map_err(|_| slow())?
    }
}

/// What to ask for.
#[derive(Clone, Debug)]
pub struct Call<'a> {
    /// The method.
    pub method: Method,
    /// Path and query.
    pub path: &'a str,
    /// The body, often empty.
    pub body: Bytes,
}

impl<'a> Call<'a> {
    /// A GET of `path`.
    pub fn get(path: &'a str) -> Self {
        Self {
            method: Method::GET,
            path,
            body: Bytes::new(),
        }
    }
}

/// One request on a connection of its own.
///
/// # Errors
/// When there is no whole answer in time.
pub async fn ask(address: &str, call: &Call<'_>) -> Result<Answer, HttpError> {
    let mut connection = Connection::open(address).await?;
    connection
        .send(call, address, Duration::from_millis(CLIENT_EXCHANGE_TIMEOUT_MS))
        .await
}
