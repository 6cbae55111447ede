//! Single requests: to admin ports and, by hand, through the proxy. For many requests see `load`.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, bail};
use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::wait::wait_until;

/// Longer than any answer takes on a busy machine; a test that hangs says so.
const PATIENCE: Duration = Duration::from_secs(10);

/// An answer, read to its end.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: String,
}

impl Answer {
    /// A header as text; empty if it is not there.
    pub fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
    }
}

/// GET over a connection of its own.
pub async fn get(address: SocketAddr, host: &str, path: &str) -> anyhow::Result<Answer> {
    send(address, Request::get(path).header(header::HOST, host), Bytes::new()).await
}

/// Waits until `/` of `host` is answered with 200.
///
/// # Panics
/// After `patience`, with the last answer.
pub async fn until_ok(what: &str, patience: Duration, address: SocketAddr, host: &str) {
    wait_until(what, patience, || async {
        let answer = get(address, host, "/").await.map_err(|error| format!("{error:#}"))?;
        if answer.status == StatusCode::OK {
            Ok(())
        } else {
            Err(format!("{answer:?}"))
        }
    })
    .await;
}

/// GET of JSON from an admin port.
pub async fn json(address: SocketAddr, path: &str) -> anyhow::Result<Value> {
    let answer = get(address, "localhost", path).await?;
    if !answer.status.is_success() {
        bail!("GET {path}: {}: {}", answer.status, answer.body);
    }
    serde_json::from_str(&answer.body).with_context(|| format!("GET {path}: {}", answer.body))
}

/// POST of JSON to an admin port.
pub async fn post(address: SocketAddr, path: &str, body: &Value) -> anyhow::Result<Answer> {
    let request = Request::post(path)
        .header(header::HOST, "localhost")
        .header(header::CONTENT_TYPE, "application/json");
    send(address, request, Bytes::from(body.to_string())).await
}

async fn send(address: SocketAddr, request: http::request::Builder, body: Bytes) -> anyhow::Result<Answer> {
    let exchange = async {
        let socket = TcpStream::connect(address)
            .await
            .with_context(|| format!("connecting to {address}"))?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(socket)).await?;
        tokio::spawn(connection);
        let request = request.header(header::CONNECTION, "close").body(Full::new(body))?;
        let (parts, body) = sender.send_request(request).await?.into_parts();
        let body = body.collect().await?.to_bytes();
        let body = String::from_utf8_lossy(&body).into_owned();
        anyhow::Ok(Answer {
            status: parts.status,
            headers: parts.headers,
            body,
        })
    };
    timeout(PATIENCE, exchange)
        .await
        .with_context(|| format!("no answer from {address} within {PATIENCE:?}"))?
}

/// The sum of a metric's series in Prometheus text, of those whose labels contain all of `labels` (`name="value"`);
/// `None` if there is none.
pub fn metric(text: &str, name: &str, labels: &[&str]) -> Option<f64> {
    let of_line = |line: &str| {
        let rest = line.strip_prefix(name)?;
        let (series, value) = rest.rsplit_once(' ')?;
        let whole_name = series.is_empty() || series.starts_with('{');
        let wanted = whole_name && labels.iter().all(|label| series.contains(label));
        wanted.then(|| value.parse::<f64>().unwrap_or(0.0))
    };
    text.lines()
        .filter_map(of_line)
        .fold(None, |sum, value| Some(sum.unwrap_or(0.0) + value))
}

#[cfg(test)]
mod tests {
    #[test]
    fn series_of_a_metric_are_summed_by_label() {
        let text = "# HELP a\na{x=\"1\",y=\"2\"} 3\na{x=\"2\",y=\"2\"} 4\na_total{x=\"1\"} 9\nb 1\n";
        assert_eq!(super::metric(text, "a", &[]), Some(7.0));
        assert_eq!(super::metric(text, "a", &["x=\"1\""]), Some(3.0));
        assert_eq!(super::metric(text, "b", &[]), Some(1.0));
        assert_eq!(super::metric(text, "c", &[]), None);
    }
}
