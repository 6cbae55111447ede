//! A regular expression with bounds: the one place where user-written regexes are compiled.
//!
//! The `regex` crate matches in time linear in its input and never backtracks; the size limits here bound
//! memory. A pattern always applies to the whole text, as in Gateway API implementations built on RE2.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use crate::limits::{MAX_REGEX_BYTES, MAX_REGEX_COMPILED_BYTES};

/// A compiled regular expression, compared and ordered by its text.
#[derive(Clone)]
pub struct Pattern {
    source: Arc<str>,
    regex: regex::Regex,
}

/// Why a text is not a pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// Longer than the limit.
    #[error("the regular expression has {0} bytes; at most {MAX_REGEX_BYTES} are allowed")]
    Length(usize),
    /// Compiles to more than the limit.
    #[error("the regular expression is too large when compiled; use smaller repetition counts or fewer alternatives")]
    Size,
    /// Not a regular expression.
    #[error("not a regular expression: {0} (RE2 syntax; no look-around, no back-references)")]
    Syntax(String),
}

impl Pattern {
    /// Compiles `source`; it will have to match whole texts.
    pub fn new(source: &str) -> Result<Self, PatternError> {
        if source.len() > MAX_REGEX_BYTES {
            return Err(PatternError::Length(source.len()));
        }
        // Alone first: "a)|(b" must not become valid by the parentheses that anchor it.
        regex_syntax_check(source)?;
        let regex = build(&format!("^(?:{source})$"))?;
        Ok(Self {
            source: source.into(),
            regex,
        })
    }

    /// As its author wrote it.
    pub fn as_str(&self) -> &str {
        &self.source
    }

    /// Whether all of `text` matches.
    pub fn matches(&self, text: &str) -> bool {
        self.regex.is_match(text)
    }
}

fn regex_syntax_check(source: &str) -> Result<(), PatternError> {
    build(source).map(drop)
}

fn build(source: &str) -> Result<regex::Regex, PatternError> {
    regex::RegexBuilder::new(source)
        .size_limit(MAX_REGEX_COMPILED_BYTES)
        .dfa_size_limit(MAX_REGEX_COMPILED_BYTES)
        .build()
        .map_err(|error| match error {
            regex::Error::CompiledTooBig(_) => PatternError::Size,
            regex::Error::Syntax(text) => {
                let last = text.lines().last().unwrap_or_default();
                PatternError::Syntax(last.trim_start_matches("error: ").to_owned())
            }
            other => PatternError::Syntax(other.to_string()),
        })
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source
    }
}
impl Eq for Pattern {}
impl PartialOrd for Pattern {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Pattern {
    fn cmp(&self, other: &Self) -> Ordering {
        self.source.cmp(&other.source)
    }
}
impl Hash for Pattern {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.source.hash(state);
    }
}
impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.source)
    }
}
impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "/{}/", self.source)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_texts_and_bounds() {
        assert!(Pattern::new("a|b").unwrap().matches("b"));
        assert!(!Pattern::new("a|b").unwrap().matches("ab"));
        assert!(matches!(Pattern::new("a)|(b"), Err(PatternError::Syntax(_))));
        assert!(matches!(Pattern::new("(?=a)"), Err(PatternError::Syntax(_))));
        assert_eq!(Pattern::new("((a{100}){100}){100}"), Err(PatternError::Size));
        assert_eq!(Pattern::new(&"a".repeat(2000)), Err(PatternError::Length(2000)));
    }
}
