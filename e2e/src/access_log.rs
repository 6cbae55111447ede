//! The access log of an instance, read back: JSON lines, one a request.

use std::collections::HashMap;
use std::path::Path;

use serde_json::Value;

/// One request as an instance logged it.
#[derive(Debug, Clone)]
pub struct Line {
    /// Which instance's log it stands in.
    pub instance: String,
    fields: Value,
}

impl Line {
    /// A field as text; numbers as written; empty if it is absent or null.
    pub fn text(&self, field: &str) -> String {
        match self.fields.get(field) {
            None | Some(Value::Null) => String::new(),
            Some(Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
        }
    }

    /// The id of the request.
    pub fn request_id(&self) -> String {
        self.text("request_id")
    }

    /// Its status; 0 if there is none.
    pub fn status(&self) -> u16 {
        self.text("status").parse().unwrap_or_default()
    }

    /// The revision that served it.
    pub fn revision(&self) -> String {
        self.text("revision")
    }

    /// Whether that was the candidate.
    pub fn is_candidate(&self) -> bool {
        self.text("role") == "candidate"
    }
}

/// The lines of one file; what is not an access-log line is somebody else's.
pub fn read(instance: &str, path: &Path) -> Vec<Line> {
    let bytes = std::fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let values = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let requests = values.filter(|fields| fields.get("request_id").is_some() && fields.get("status").is_some());
    requests
        .map(|fields| Line {
            instance: instance.to_owned(),
            fields,
        })
        .collect()
}

/// Lines by request id.
pub fn by_request(lines: &[Line]) -> HashMap<String, &Line> {
    lines.iter().map(|line| (line.request_id(), line)).collect()
}
