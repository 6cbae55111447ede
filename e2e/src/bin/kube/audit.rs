//! The API server's audit log: who did what, from the beginning of a check on. Only our own cluster has one that can
//! be read.

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
}

/// Who sent a request.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct User {
    /// `system:serviceaccount:…` for pods.
    pub(crate) username: String,
}

/// What a request was about.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ObjectRef {
    /// `proxyroutes`, …
    pub(crate) resource: String,
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

    /// The lines since then, as they are.
    pub(crate) fn text(&self) -> anyhow::Result<String> {
        let mut file = File::open(&self.path).with_context(|| format!("no audit log {}", self.path.display()))?;
        file.seek(SeekFrom::Start(self.from))?;
        let mut text = String::new();
        file.read_to_string(&mut text)?;
        Ok(text)
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
}
