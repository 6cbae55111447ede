//! `sluice-dataplane await-trust DIR SECONDS`: ends when the controller's authorities are in the folder, or after so long.
//!
//! For an init container. With a new installation the gateway's pods start before the controller has made the ConfigMap
//! `sluice-trust`, and a kubelet looks for the content of a volume again when a container of the pod ends, or else only after
//! a minute or more. So this one ends, whatever it found: the instance waits for the rest itself, and says so on `/ready`.

use std::ffi::OsString;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use crate::identity::trust::CA_FILE;

/// How often it looks.
const PAUSE: Duration = Duration::from_millis(100);

/// Waits as the arguments after `await-trust` say.
///
/// # Errors
/// When they are not a folder and a number of seconds.
pub fn await_trust(arguments: &[OsString]) -> anyhow::Result<()> {
    let [folder, seconds] = arguments else {
        bail!("usage: sluice-dataplane await-trust DIR SECONDS")
    };
    let number = seconds.to_str().and_then(|text| text.parse().ok());
    let at_most =
        Duration::from_secs(number.with_context(|| format!("{} is no number of seconds", seconds.display()))?);
    let authorities = Path::new(folder).join(CA_FILE);
    let began = Instant::now();
    if appears(&authorities, at_most, PAUSE) {
        println!(
            "{} is there after {:.1} s",
            authorities.display(),
            began.elapsed().as_secs_f64()
        );
    } else {
        println!("{} is not there yet: the instance waits for it", authorities.display());
    }
    Ok(())
}

fn appears(file: &Path, at_most: Duration, pause: Duration) -> bool {
    let began = Instant::now();
    loop {
        if file.exists() {
            return true;
        }
        if began.elapsed() >= at_most {
            return false;
        }
        sleep(pause);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_ends_when_the_file_is_there_or_when_its_time_is_over() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(CA_FILE);
        assert!(!appears(&file, Duration::ZERO, PAUSE));
        std::thread::scope(|scope| {
            let waits = scope.spawn(|| appears(&file, Duration::from_secs(600), Duration::from_millis(1)));
            std::fs::write(&file, "").unwrap();
            assert!(waits.join().unwrap());
        });
    }

    #[test]
    fn what_it_is_told_is_checked() {
        let waits = |arguments: &[&str]| {
            let arguments: Vec<OsString> = arguments.iter().map(Into::into).collect();
            await_trust(&arguments).map_err(|error| error.to_string())
        };
        assert_eq!(waits(&["/nowhere", "0"]), Ok(()));
        assert_eq!(
            waits(&["/nowhere", "soon"]),
            Err("soon is no number of seconds".to_owned())
        );
        assert!(waits(&["/nowhere"]).unwrap_err().contains("DIR SECONDS"));
    }
}
