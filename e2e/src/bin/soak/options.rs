//! What the runner was asked for. `e2e/soak` is what people call; it passes these on.

use std::path::PathBuf;

use anyhow::{Context, bail};

/// How much a scenario does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// Seconds each: what every change has to pass.
    Short,
    /// The promised sizes.
    Full,
}

impl Form {
    /// One or the other.
    pub(crate) fn pick<T>(self, short: T, full: T) -> T {
        match self {
            Self::Short => short,
            Self::Full => full,
        }
    }
}

/// The command line.
#[derive(Debug)]
pub(crate) struct Options {
    /// Scenarios by name, or by the beginning of it; none means all.
    pub(crate) names: Vec<String>,
    /// Only say which there are.
    pub(crate) list: bool,
    /// See [`Form`].
    pub(crate) form: Form,
    /// Where the binaries under test are; `None`: beside this one.
    pub(crate) binaries: Option<PathBuf>,
}

/// Reads the command line.
pub(crate) fn read(mut arguments: impl Iterator<Item = String>) -> anyhow::Result<Options> {
    let mut options = Options {
        names: Vec::new(),
        list: false,
        form: Form::Short,
        binaries: None,
    };
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--list" => options.list = true,
            "--full" => options.form = Form::Full,
            "--binaries" => options.binaries = Some(arguments.next().context("--binaries needs a folder")?.into()),
            other if other.starts_with('-') => bail!("there is no option {other}; see e2e/soak --help"),
            _ => options.names.push(argument),
        }
    }
    Ok(options)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_options_mix() {
        let words = ["idle", "--full", "--binaries", "/b", "bodies"];
        let options = read(words.into_iter().map(str::to_owned)).unwrap();
        assert_eq!((options.names.len(), options.form), (2, Form::Full));
        assert_eq!(options.binaries.unwrap(), PathBuf::from("/b"));
        assert!(read(["--ful".to_owned()].into_iter()).is_err());
        assert!(read(["--binaries".to_owned()].into_iter()).is_err());
    }
}
