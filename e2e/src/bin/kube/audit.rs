//! The API server's audit log: who did what, from the beginning of a check on. Only our own cluster has one that can
//! be read.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::Deserialize;
use serde_json::Value;

/// The log from some point on.
#[derive(Clone, Debug)]
pub(crate) struct AuditLog {
    path: PathBuf,
    from: u64,
}

/// One request, as far as our checks ask.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Entry {
    /// `create`, `patch`, `watch`, …
    pub(crate) verb: String,
    /// Who.
    pub(crate) user: User,
    /// On what; none for paths such as `/readyz`.
    pub(crate) object_ref: Option<ObjectRef>,
    /// The body: kept for our own kinds only.
    pub(crate) request_object: Option<Value>,
    /// What became of it: kept for roles only.
    pub(crate) response_object: Option<Value>,
    /// How it was answered.
    pub(crate) response_status: Option<Answered>,
}

/// Who sent a request.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct User {
    /// `system:serviceaccount:…` for pods; empty of a request that ended before it was known whose it is, as when the server ends.
    #[serde(default)]
    pub(crate) username: String,
    /// What else the server knows of them, such as the pod that a token is bound to.
    #[serde(default)]
    extra: BTreeMap<String, Vec<String>>,
}

/// How a request was answered.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Answered {
    /// The HTTP status.
    #[serde(default)]
    pub(crate) code: u16,
}

impl Entry {
    /// The pod whose token came with the request; empty if it was no pod.
    pub(crate) fn pod(&self) -> &str {
        let names = self.user.extra.get("authentication.kubernetes.io/pod-name");
        names.and_then(|names| names.first()).map_or("", String::as_str)
    }

    /// Whether it asked for a change.
    pub(crate) fn is_write(&self) -> bool {
        !matches!(self.verb.as_str(), "get" | "list" | "watch")
    }

    /// Whether the server did what was asked.
    pub(crate) fn succeeded(&self) -> bool {
        let code = self.response_status.as_ref().map_or(0, |answered| answered.code);
        (200..300).contains(&code)
    }

    /// `proxyroutes/status`, `leases`; empty for paths such as `/readyz`.
    pub(crate) fn resource(&self) -> String {
        match &self.object_ref {
            None => String::new(),
            Some(object) if object.subresource.is_empty() => object.resource.clone(),
            Some(object) => format!("{}/{}", object.resource, object.subresource),
        }
    }
}

/// What a request was about.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ObjectRef {
    /// Empty for the core group.
    pub(crate) api_group: String,
    /// `proxyroutes`, …
    pub(crate) resource: String,
    /// `status`, …; mostly empty.
    pub(crate) subresource: String,
    /// Empty for what has none.
    pub(crate) namespace: String,
    /// Empty for lists.
    pub(crate) name: String,
}

impl AuditLog {
    /// What is written from now on.
    pub(crate) fn from_now(path: &Path) -> anyhow::Result<Self> {
        let from = path
            .metadata()
            .with_context(|| format!("no audit log {}", path.display()))?
            .len();
        Ok(Self {
            path: path.to_owned(),
            from,
        })
    }

    /// The same log, from now on.
    pub(crate) fn again_from_now(&self) -> anyhow::Result<Self> {
        Self::from_now(&self.path)
    }

    /// The lines since then, as they are.
    pub(crate) fn text(&self) -> anyhow::Result<String> {
        let mut file = File::open(&self.path).with_context(|| format!("no audit log {}", self.path.display()))?;
        file.seek(SeekFrom::Start(self.from))?;
        let mut text = String::new();
        file.read_to_string(&mut text)?;
        Ok(text)
    }

    /// The requests of one account since then; `system:serviceaccount:NAMESPACE:NAME` for pods.
    pub(crate) fn of(&self, username: &str) -> anyhow::Result<Vec<Entry>> {
        let mut entries = self.entries()?;
        entries.retain(|entry| entry.user.username == username);
        Ok(entries)
    }

    /// The requests since then. The last line may still be in writing, and is left for the next time.
    pub(crate) fn entries(&self) -> anyhow::Result<Vec<Entry>> {
        let text = self.text()?;
        let whole = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
        let read = whole.map(|line| serde_json::from_str(line).with_context(|| format!("in the audit log: {line}")));
        read.collect()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    const LINE: &str = r#"{"verb":"patch","user":{"username":"admin","groups":["g"]},"objectRef":{"resource":"pools","name":"p"},"requestObject":{"a":1}}"#;

    #[test]
    fn only_whole_lines_from_the_given_point_on() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        writeln!(file, "older").unwrap();
        let log = AuditLog::from_now(file.path()).unwrap();
        write!(file, "{LINE}\n{{\"verb\":").unwrap();
        let entries = log.entries().unwrap();
        let [entry] = entries.as_slice() else {
            panic!("{entries:?}")
        };
        assert_eq!((entry.verb.as_str(), entry.user.username.as_str()), ("patch", "admin"));
        assert_eq!(entry.object_ref.as_ref().unwrap().name, "p");
        assert_eq!(entry.request_object.as_ref().unwrap()["a"], 1);
    }

    #[test]
    fn a_request_may_end_before_anybody_knows_whose_it_is() {
        let entry: Entry = serde_json::from_str(&LINE.replace(r#""username":"admin","#, "")).unwrap();
        assert_eq!(entry.user.username, "");
    }
}
