//! Under which name the command was called: as `sluice`, or by kubectl as its plugin `kubectl-sluice`. It is the same
//! program; help and advice speak of the name that was typed, and the plugin looks at a cluster unless told otherwise.

use std::ffi::OsStr;
use std::fmt;
use std::path::Path;

/// The name that was typed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Called {
    /// `sluice`.
    Sluice,
    /// `kubectl sluice`.
    Plugin,
}

impl Called {
    /// By the first word of the command line: kubectl runs a plugin by its own name.
    pub fn by(program: Option<&OsStr>) -> Self {
        let name = program
            .and_then(|path| Path::new(path).file_name())
            .and_then(OsStr::to_str);
        match name {
            Some(name) if name.starts_with("kubectl-sluice") => Self::Plugin,
            Some(_) | None => Self::Sluice,
        }
    }

    /// As it is typed.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sluice => "sluice",
            Self::Plugin => "kubectl sluice",
        }
    }
}

impl fmt::Display for Called {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plugin_speaks_of_kubectl() {
        let by = |path: &str| Called::by(Some(OsStr::new(path))).as_str();
        assert_eq!(by("/usr/local/bin/kubectl-sluice"), "kubectl sluice");
        assert_eq!(by("kubectl-sluice.exe"), "kubectl sluice");
        assert_eq!(by("target/debug/sluice"), "sluice");
        assert_eq!(Called::by(None), Called::Sluice);
    }
}
