//! The documents of a text, each with its own bytes: put together again they are the text.

use sluice_controller::source::yaml::{self, Node};

use crate::failure::Failure;

/// One document.
#[derive(Clone, Debug)]
pub struct Document<'a> {
    /// Its lines, the `---` before it included.
    pub text: &'a str,
    /// What it says; `None` if it is empty.
    pub node: Option<Node>,
    /// The line of the whole text that it begins at, from 0.
    pub line: usize,
}

impl Document<'_> {
    /// Its kind, as it says.
    pub fn kind(&self) -> Option<&str> {
        self.field("kind")
    }

    /// A field of its top level that is a text.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.node.as_ref()?.get(name)?.text()
    }

    /// A field of its metadata that is a text.
    pub fn metadata(&self, name: &str) -> Option<&str> {
        self.node.as_ref()?.get("metadata")?.get(name)?.text()
    }

    /// The line of the whole text, from 1, on which the field at `path` is written.
    pub fn line_of(&self, path: &str) -> usize {
        let line = self.node.as_ref().map_or(1, |node| node.locate(path).line);
        self.line + usize::try_from(line).unwrap_or(1)
    }
}

/// Splits `text` before every `---`. YAML lets no such line stand inside of a text, so the line alone decides.
///
/// # Errors
/// When a document is no YAML: it may be the one that a sidecar belongs into.
pub fn split(text: &str) -> Result<Vec<Document<'_>>, Failure> {
    let mut documents = Vec::new();
    let (mut begin, mut begin_line, mut at) = (0, 0, 0);
    for (line, content) in text.split_inclusive('\n').enumerate() {
        if is_marker(content) && at > begin {
            documents.push(document(text.get(begin..at).unwrap_or_default(), begin_line)?);
            (begin, begin_line) = (at, line);
        }
        at += content.len();
    }
    documents.push(document(text.get(begin..).unwrap_or_default(), begin_line)?);
    Ok(documents)
}

fn is_marker(line: &str) -> bool {
    let rest = line.strip_prefix("---");
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(char::is_whitespace))
}

fn document(text: &str, line: usize) -> Result<Document<'_>, Failure> {
    let mut nodes = yaml::documents(text).map_err(|error| {
        let at = line + usize::try_from(error.at.line).unwrap_or(1);
        Failure::usage(format!("line {at}: this is no YAML: {}", error.message))
    })?;
    if nodes.len() > 1 {
        let what = format!(
            "line {}: a document begins here without `---` before it; add that line",
            line + 1
        );
        return Err(Failure::usage(what));
    }
    let node = nodes.pop();
    Ok(Document { text, node, line })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, kinds: &[Option<&str>]) {
        let documents = split(text).unwrap();
        let found: Vec<_> = documents.iter().map(Document::kind).collect();
        assert_eq!(found, kinds, "{text:?}");
        let together: String = documents.iter().map(|document| document.text).collect();
        assert_eq!(together, text, "nothing is lost");
    }

    #[test]
    fn documents_keep_their_bytes() {
        check("", &[None]);
        check("kind: A\n", &[Some("A")]);
        check("---\nkind: A\n---\nkind: B", &[Some("A"), Some("B")]);
        check(
            "# only a comment\n---\nkind: A\n---\n---\n",
            &[None, Some("A"), None, None],
        );
        check("kind: A\r\n--- # next\r\nkind: B\r\n", &[Some("A"), Some("B")]);
        check("kind: A\ntext: |\n  ---\n  --- not a marker\n", &[Some("A")]);
    }

    #[test]
    fn what_is_no_yaml_is_told_with_its_line() {
        let error = split("kind: A\n---\nkind: {{ .Values.kind }}\n")
            .unwrap_err()
            .to_string();
        assert!(error.starts_with("line 3: this is no YAML"), "{error}");
    }

    #[test]
    fn places_count_from_the_whole_text() {
        let documents = split("kind: A\n---\nkind: B\nspec:\n  a: 1\n").unwrap();
        assert_eq!(documents[1].line_of("spec.a"), 5);
    }
}
