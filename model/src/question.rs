//! A request as people describe it, to be explained by whoever knows what serves: a folder of manifests, or the controller
//! of a cluster, to which it travels as JSON.

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use serde::{Deserialize, Serialize};

use crate::explain::{Explanation, explain};
use crate::request::RequestFacts;
use crate::snapshot::Snapshot;
use crate::{authority, path};

/// See the file's comment.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Question {
    /// The Host header, if it has one.
    pub host: Option<String>,
    /// The path, with its query if it has one.
    pub path: String,
    /// The method.
    pub method: String,
    /// Names and values.
    #[serde(default)]
    pub headers: Vec<(String, String)>,
}

/// A part of it is none that a request could have.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{part} {text:?}: {why}")]
pub struct QuestionError {
    part: &'static str,
    text: String,
    why: String,
}

fn wrong<E: std::fmt::Display>(part: &'static str, text: &str) -> impl FnOnce(E) -> QuestionError {
    let text = text.to_owned();
    move |why| QuestionError {
        part,
        text,
        why: why.to_string(),
    }
}

impl Question {
    /// Where the request goes and why, as the data plane would see it: host and path normalised.
    ///
    /// # Errors
    /// When a part of it is none that a request could have.
    pub fn explained(&self, snapshot: &Snapshot) -> Result<Explanation, QuestionError> {
        let host = match self.host.as_deref() {
            Some(host) => Some(authority::parse(host).map_err(wrong("host", host))?),
            None => None,
        };
        let (raw, query) = match self.path.split_once('?') {
            Some((raw, query)) => (raw, Some(query)),
            None => (self.path.as_str(), None),
        };
        let path = path::normalize(raw).map_err(wrong("path", raw))?;
        let method: Method = self.method.parse().map_err(wrong("method", &self.method))?;
        let mut headers = HeaderMap::new();
        for (name, value) in &self.headers {
            let known: HeaderName = name.parse().map_err(wrong("header", name))?;
            headers.append(known, HeaderValue::from_str(value).map_err(wrong("header", value))?);
        }
        let facts = RequestFacts {
            host: host.as_ref().map(|authority| &*authority.host),
            path: &path,
            method: &method,
            headers: &headers,
            query,
        };
        Ok(explain(snapshot, &facts))
    }
}

#[cfg(test)]
mod tests {
    use proptest::strategy::{Strategy as _, ValueTree as _};
    use proptest::test_runner::TestRunner;

    use super::*;

    #[test]
    fn what_no_request_could_have_is_named() {
        let snapshots = crate::arbitrary::snapshots(1).new_tree(&mut TestRunner::deterministic());
        let snapshot = snapshots.unwrap().current();
        let check = |host: &str, path: &str, method: &str, expected: &str| {
            let question = Question {
                host: Some(host.to_owned()),
                path: path.to_owned(),
                method: method.to_owned(),
                headers: vec![("x-a".to_owned(), "1".to_owned())],
            };
            let told = question.explained(&snapshot);
            let told = told.map_or_else(|error| error.to_string(), |explanation| explanation.to_string());
            assert!(told.starts_with(expected), "{told}");
        };
        check("Shop.example.com:80", "/a?b=c", "GET", "");
        check("a b", "/", "GET", "host \"a b\": ");
        check("a", "x", "GET", "path \"x\": ");
        check("a", "/", "G T", "method \"G T\": ");
    }
}
