//! How a command ends badly: one line that says what is wrong and what to do, and an exit code.

use std::fmt;
use std::process::ExitCode;

/// Exit codes, the same for every command and documented in `--help`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// All went well.
    Done,
    /// It ran, and the answer is bad: errors found, a port in use, a controller that refuses.
    Failed,
    /// It could not begin: wrong arguments, or input that cannot be read.
    Usage,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        match exit {
            Exit::Done => Self::SUCCESS,
            Exit::Failed => Self::from(1),
            Exit::Usage => Self::from(2),
        }
    }
}

/// Why a command did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What is wrong and how to mend it, in one line.
    pub message: String,
    /// With which code to end.
    pub exit: Exit,
}

impl Failure {
    /// It ran, and failed.
    pub fn failed(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            exit: Exit::Failed,
        }
    }

    /// It could not begin.
    pub fn usage(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            exit: Exit::Usage,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Messages of libraries may hold line breaks; one failure is one line.
        let line: Vec<&str> = self.message.split_whitespace().collect();
        f.write_str(&line.join(" "))
    }
}

impl std::error::Error for Failure {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_one_line() {
        let failure = Failure::usage("a\n  b\tc");
        assert_eq!(failure.to_string(), "a b c");
    }
}
