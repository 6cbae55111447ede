//! `Problem`: something wrong with an object, as data. Never an error type: a Problem stops its object, not the work.
//!
//! Each says which object, where in which file, which field, what is wrong and how to mend it.

use std::fmt::{self, Write};
use std::sync::Arc;

use serde::{Serialize, Serializer};
use sluice_model::ObjectKey;

/// What a Problem does to its object.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize)]
pub enum Severity {
    /// The object is quarantined: its last good form keeps serving, if it has one.
    Error,
    /// The object is applied as it is.
    Warning,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Error => "error",
            Self::Warning => "warning",
        })
    }
}

/// Where in which file. Prints as `routes.yaml:12:7`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize)]
pub struct Place {
    /// The file, relative to the folder that is read.
    pub file: Arc<str>,
    /// The line, from 1; 0 when the whole file is meant.
    pub line: u32,
    /// The column, from 1.
    pub column: u32,
}

impl Place {
    /// The file as a whole.
    pub fn file(file: &Arc<str>) -> Self {
        Self {
            file: file.clone(),
            line: 0,
            column: 0,
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => f.write_str(&self.file),
            line => write!(f, "{}:{line}:{}", self.file, self.column),
        }
    }
}

/// A field of an object: `spec.rules[0].matches[1].path.value`. Empty for the object as a whole.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct FieldPath(String);

impl FieldPath {
    /// The top-level field `name`.
    pub fn root(name: &str) -> Self {
        Self(name.to_owned())
    }

    /// The field `name` of this one.
    #[must_use]
    pub fn field(&self, name: &str) -> Self {
        match self.0.is_empty() {
            true => Self::root(name),
            false => Self(format!("{}.{name}", self.0)),
        }
    }

    /// The item at `index` of this list.
    #[must_use]
    pub fn index(&self, index: usize) -> Self {
        Self(format!("{}[{index}]", self.0))
    }

    /// The path as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for FieldPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for FieldPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for FieldPath {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

/// Something wrong with an object. Ordered by place, for reports.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Problem {
    /// Where it was written, when it came from a file.
    pub place: Option<Place>,
    /// The object, when it could be told which.
    pub object: Option<ObjectKey>,
    /// The field; empty for the object as a whole.
    pub field: FieldPath,
    /// What it does to the object.
    pub severity: Severity,
    /// What is wrong.
    pub message: String,
    /// How to mend it.
    pub fix: String,
    /// What serves meanwhile, when it is known.
    pub effect: Option<Effect>,
}

/// What serves in place of an object with an Error.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize)]
pub enum Effect {
    /// Its last good form.
    LastGoodServes,
    /// It never had a good form.
    NotServed,
    /// Which object it is cannot be told; what its file (or folder, or kind) held before.
    FileAsBefore,
}

impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::LastGoodServes => "its last good form keeps serving",
            Self::NotServed => "it is not served until then",
            Self::FileAsBefore => "what was read from there before keeps serving",
        })
    }
}

impl Problem {
    /// A Problem about no particular object, such as an unreadable file.
    pub fn of_file(severity: Severity, place: Place, message: impl Into<String>, fix: impl Into<String>) -> Self {
        Self {
            place: Some(place),
            ..Self::of_source(severity, message, fix)
        }
    }

    /// A Problem about no particular object and no file, such as a kind that cannot be seen.
    pub fn of_source(severity: Severity, message: impl Into<String>, fix: impl Into<String>) -> Self {
        Self {
            place: None,
            object: None,
            field: FieldPath::default(),
            severity,
            message: message.into(),
            fix: fix.into(),
            effect: None,
        }
    }

    /// Whether it quarantines its object.
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

/// Writes control characters, of a file's name say, as escapes: a line stays a line, and a terminal is not steered.
struct OneLine<'a, 'b>(&'a mut fmt::Formatter<'b>);

impl fmt::Write for OneLine<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for part in text.split_inclusive(char::is_control) {
            match part.char_indices().next_back().filter(|(_, last)| last.is_control()) {
                Some((at, last)) => {
                    self.0.write_str(part.get(..at).unwrap_or_default())?;
                    write!(self.0, "{}", last.escape_default())?;
                }
                None => self.0.write_str(part)?,
            }
        }
        Ok(())
    }
}

impl fmt::Display for Problem {
    /// One line, in the form that editors know from compilers: `file:line:column: error: object field: what; fix`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let f = &mut OneLine(f);
        if let Some(place) = &self.place {
            write!(f, "{place}: ")?;
        }
        write!(f, "{}: ", self.severity)?;
        match (&self.object, self.field.as_str()) {
            (Some(object), "") => write!(f, "{object}: ")?,
            (Some(object), field) => write!(f, "{object} {field}: ")?,
            (None, "") => {}
            (None, field) => write!(f, "{field}: ")?,
        }
        f.write_str(&self.message)?;
        if !self.fix.is_empty() {
            write!(f, "; {}", self.fix)?;
        }
        match self.effect {
            Some(effect) => write!(f, "; {effect}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_break_the_line_or_steer_the_terminal() {
        let place = Place::file(&"a\nb\u{1b}[31m.yaml".into());
        let problem = Problem::of_file(Severity::Error, place, "x\ty", "z");
        assert_eq!(problem.to_string(), "a\\nb\\u{1b}[31m.yaml: error: x\\ty; z");
    }

    #[test]
    fn a_problem_is_one_line() {
        let problem = Problem {
            place: Some(Place {
                file: "shop.yaml".into(),
                line: 12,
                column: 7,
            }),
            object: Some("ProxyRoute shop/shop".parse().unwrap()),
            field: FieldPath::root("spec").field("rules").index(0).field("pool"),
            severity: Severity::Error,
            message: "no Pool \"api\" in namespace shop".into(),
            fix: "create it".into(),
            effect: Some(Effect::NotServed),
        };
        assert_eq!(
            problem.to_string(),
            "shop.yaml:12:7: error: ProxyRoute shop/shop spec.rules[0].pool: no Pool \"api\" in namespace shop; create it; it is not served until then"
        );
        let json = serde_json::to_value(&problem).unwrap();
        assert_eq!(
            (&json["object"], &json["field"]),
            (&"ProxyRoute shop/shop".into(), &"spec.rules[0].pool".into())
        );
    }
}
