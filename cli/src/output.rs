//! Answers as JSON or YAML for programs, or as text for people.

use std::io::Write;

use serde::Serialize;

use crate::failure::Failure;

/// How to print an answer that has a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum TableFormat {
    /// A table for people.
    Table,
    /// JSON, as the controller sends it.
    Json,
    /// The same as YAML.
    Yaml,
}

/// How to print an answer that is text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum TextFormat {
    /// Text for people.
    Text,
    /// JSON for programs.
    Json,
    /// The same as YAML.
    Yaml,
}

/// `value` as indented JSON, ending with a line break.
pub fn json(value: &impl Serialize) -> Result<String, Failure> {
    serde_json::to_string_pretty(value)
        .map(|text| text + "\n")
        .map_err(|error| Failure::failed(format!("cannot write the answer as JSON: {error}")))
}

/// `value` as YAML, ending with a line break.
pub fn yaml(value: &impl Serialize) -> Result<String, Failure> {
    let text = serde_saphyr::to_string(value)
        .map_err(|error| Failure::failed(format!("cannot write the answer as YAML: {error}")))?;
    Ok(if text.ends_with('\n') { text } else { text + "\n" })
}

/// `value` as one document of a stream: a line of JSON, or YAML after `---`.
pub fn document(value: &impl Serialize, format: TableFormat) -> Result<String, Failure> {
    match format {
        TableFormat::Yaml => Ok(format!("---\n{}", yaml(value)?)),
        TableFormat::Json | TableFormat::Table => serde_json::to_string(value)
            .map(|line| line + "\n")
            .map_err(|error| Failure::failed(format!("cannot write the answer as JSON: {error}"))),
    }
}

/// Prints to standard output. A reader that has gone away (`| head`) is no failure.
pub fn print(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// Says something beside the answer, on standard error.
pub fn remark(text: &str) {
    let _ = writeln!(std::io::stderr(), "note: {text}");
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn both_formats_say_the_same() {
        let value = json!({"fleet": "edge", "held": [{"object": "Pool a/b"}], "epoch": 3});
        let read: serde_json::Value = serde_json::from_str(&json(&value).unwrap()).unwrap();
        assert_eq!(read, value);
        let read: serde_json::Value = serde_saphyr::from_str(&yaml(&value).unwrap()).unwrap();
        assert_eq!(read, value);
    }
}
