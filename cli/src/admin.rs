//! What a controller's admin port says and takes.

use bytes::Bytes;
use http::{Method, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::failure::Failure;
use crate::http::{Answer, Call, ask};

/// Where a controller's admin port is.
#[derive(Clone, Debug, clap::Args)]
pub struct AdminArgs {
    /// Admin address of a controller on this machine [default: $SLUICE_ADMIN, else http://127.0.0.1:9901].
    #[arg(long, value_name = "URL")]
    pub admin: Option<String>,
}

impl AdminArgs {
    /// The admin port that is meant. The variable is read here and not by clap, for which it would be as if the flag had
    /// been given, and the flag says more: that no cluster is meant.
    ///
    /// # Errors
    /// When its address is none.
    pub fn find(&self) -> Result<Admin, Failure> {
        let variable = || std::env::var("SLUICE_ADMIN").ok().filter(|url| !url.is_empty());
        let url = self.admin.clone().or_else(variable);
        Admin::at(url.as_deref().unwrap_or("http://127.0.0.1:9901"))
    }
}

/// A controller's admin port.
#[derive(Clone, Debug)]
pub struct Admin {
    address: String,
}

/// One line of the story, as the controller tells it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct EventLine {
    /// Its number; later lines have greater ones.
    pub sequence: u64,
    /// When (RFC 3339).
    #[serde(default)]
    pub at: String,
    /// Which fleet it is about, if one.
    #[serde(default)]
    pub fleet: Option<String>,
    /// The line.
    pub text: String,
}

impl Admin {
    /// The admin port at `url`: `http://host:port`, or `host:port`.
    ///
    /// # Errors
    /// When it is neither.
    pub fn at(url: &str) -> Result<Self, Failure> {
        let wrong = || {
            Failure::usage(format!(
                "--admin {url:?} is not an address: write http://127.0.0.1:9901"
            ))
        };
        if url.starts_with("https://") {
            return Err(Failure::usage(
                "--admin speaks plain HTTP on the loopback interface: write http://…",
            ));
        }
        let address = url.strip_prefix("http://").unwrap_or(url).trim_end_matches('/');
        let (host, port) = address.rsplit_once(':').ok_or_else(wrong)?;
        if host.is_empty() || host.contains('/') || port.parse::<u16>().is_err() {
            return Err(wrong());
        }
        Ok(Self {
            address: address.to_owned(),
        })
    }

    /// Host and port.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// GETs `path` as JSON.
    ///
    /// # Errors
    /// When nobody answers, or not with JSON, or with a refusal.
    pub async fn get(&self, path: &str) -> Result<Value, Failure> {
        self.json(&Call::get(path)).await
    }

    /// POSTs `body` to `path`.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub async fn post(&self, path: &str, body: &Value) -> Result<Value, Failure> {
        let body = Bytes::from(body.to_string());
        self.json(&Call {
            method: Method::POST,
            path,
            body,
        })
        .await
    }

    async fn json(&self, call: &Call<'_>) -> Result<Value, Failure> {
        let answer = ask(&self.address, call).await.map_err(|error| {
            Failure::failed(format!(
                "no controller: {error}; is `sluice up` running, and is --admin (or SLUICE_ADMIN) right?"
            ))
        })?;
        read(&self.address, call.path, &answer)
    }
}

/// The JSON of `answer`, or what it says against us.
fn read(address: &str, path: &str, answer: &Answer) -> Result<Value, Failure> {
    let parsed = serde_json::from_slice::<Value>(&answer.body);
    if answer.status.is_success() {
        if answer.body.is_empty() {
            return Ok(json!({}));
        }
        return parsed.map_err(|error| {
            Failure::failed(format!(
                "{address}{path} did not answer with JSON ({error}): is this a controller's admin port?"
            ))
        });
    }
    let said = parsed.ok().and_then(|body| refusal(&body));
    let said = said.unwrap_or_else(|| String::from_utf8_lossy(&answer.body).trim().chars().take(500).collect());
    Err(Failure::failed(match (answer.status, said.is_empty()) {
        (StatusCode::NOT_FOUND, true) => format!("{address} knows no {path}: is this a controller's admin port?"),
        (status, true) => format!("{address} answered {status} to {path}"),
        (_, false) => said,
    }))
}

/// What an error body says, in the fields that admin ports use.
fn refusal(body: &Value) -> Option<String> {
    let text = |field| body.get(field).and_then(Value::as_str);
    text("message").or_else(|| text("error")).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_with_and_without_scheme() {
        for url in ["http://127.0.0.1:9901", "127.0.0.1:9901", "http://127.0.0.1:9901/"] {
            assert_eq!(Admin::at(url).unwrap().address(), "127.0.0.1:9901");
        }
        assert_eq!(Admin::at("http://[::1]:9901").unwrap().address(), "[::1]:9901");
        for url in ["", "9901", "http://", "http://a/b:1", "https://a:1", "a:b", ":1"] {
            assert!(Admin::at(url).is_err(), "{url}");
        }
    }

    #[test]
    fn a_refusal_is_told_in_the_controllers_words() {
        let answer = |status, body: &str| Answer {
            status,
            headers: http::HeaderMap::new(),
            body: Bytes::from(body.to_owned()),
        };
        let told = |status, body| read("a:1", "/x", &answer(status, body)).unwrap_err().to_string();
        assert_eq!(
            told(StatusCode::CONFLICT, r#"{"error":"42 is not current"}"#),
            "42 is not current"
        );
        assert_eq!(told(StatusCode::BAD_REQUEST, "plain words\n"), "plain words");
        assert!(told(StatusCode::NOT_FOUND, "").contains("is this a controller's admin port?"));
        assert!(told(StatusCode::OK, "<html>").contains("did not answer with JSON"));
    }
}
