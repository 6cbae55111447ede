//! What the runner was asked for. `e2e/run` is what people call; it passes these on.

use std::path::PathBuf;

use anyhow::{Context, bail};

/// How much a check does, for those that have a choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// Minutes for all of them: what every change has to pass.
    Short,
    /// With the promised figures.
    Full,
}

/// The images under test, as the node knows them.
#[derive(Clone, Debug)]
pub(crate) struct Images {
    /// `sluice-controller`, with `sluice` in it.
    pub(crate) controller: String,
    /// `sluice-dataplane`.
    pub(crate) dataplane: String,
}

/// A cluster of `e2e/cluster`: one whose parts may be stopped.
#[derive(Clone, Debug)]
pub(crate) struct Own {
    /// Its name.
    pub(crate) name: String,
    /// Its folder, with the audit log.
    pub(crate) folder: PathBuf,
}

/// The command line.
#[derive(Debug)]
pub(crate) struct Options {
    /// Checks by name, or by the beginning of it; none means all.
    pub(crate) names: Vec<String>,
    /// Only say which there are.
    pub(crate) list: bool,
    /// See [`Form`].
    pub(crate) form: Form,
    /// Where each check gets a folder.
    pub(crate) out: PathBuf,
    /// See [`Images`].
    pub(crate) images: Images,
    /// `None`: somebody's cluster, whose parts are none of our business.
    pub(crate) own: Option<Own>,
}

/// Reads the command line, `--name value` each.
pub(crate) fn read(mut arguments: impl Iterator<Item = String>) -> anyhow::Result<Options> {
    let mut options = Options {
        names: Vec::new(),
        list: false,
        form: Form::Short,
        out: PathBuf::from("target/e2e"),
        images: Images {
            controller: String::new(),
            dataplane: String::new(),
        },
        own: None,
    };
    let (mut name, mut folder) = (None, None);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().with_context(|| format!("{argument} needs a value"));
        match argument.as_str() {
            "--list" => options.list = true,
            "--full" => options.form = Form::Full,
            "--out" => options.out = value()?.into(),
            "--controller-image" => options.images.controller = value()?,
            "--dataplane-image" => options.images.dataplane = value()?,
            "--cluster" => name = Some(value()?),
            "--cluster-folder" => folder = Some(PathBuf::from(value()?)),
            other if other.starts_with('-') => bail!("there is no option {other}; see e2e/run --help"),
            _ => options.names.push(argument),
        }
    }
    options.own = name.zip(folder).map(|(name, folder)| Own { name, folder });
    Ok(options)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_options_mix() {
        let words = ["crds", "--full", "--cluster", "a", "--cluster-folder", "/c", "cel"];
        let options = read(words.into_iter().map(str::to_owned)).unwrap();
        assert_eq!((options.names.len(), options.form), (2, Form::Full));
        assert_eq!(options.own.unwrap().folder, PathBuf::from("/c"));
        assert!(read(["--ful".to_owned()].into_iter()).is_err());
        assert!(read(["--out".to_owned()].into_iter()).is_err());
    }
}
