//! How long a command waits for a controller, as people write it: `5s`, `2m`, `500ms`, or a number of seconds.

use std::time::Duration;

use jiff::SignedDuration;
use sluice_model::limits::{COMMAND_ANSWER_WAIT_MAX_SECONDS, COMMAND_ANSWER_WAIT_SECONDS};

/// `--timeout`.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct Patience {
    /// How long to wait for the controller in a cluster: 5s, 2m, or a number of seconds.
    #[arg(long, value_name = "TIME", default_value_t = Wait(Duration::from_secs(COMMAND_ANSWER_WAIT_SECONDS)), value_parser = wait, help_heading = "Kubernetes")]
    timeout: Wait,
}

impl Patience {
    /// It.
    pub fn get(self) -> Duration {
        self.timeout.0
    }
}

/// A time that prints as it is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Wait(Duration);

impl std::fmt::Display for Wait {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}s", self.0.as_secs())
    }
}

fn wait(text: &str) -> Result<Wait, String> {
    let longest = Duration::from_secs(COMMAND_ANSWER_WAIT_MAX_SECONDS);
    let seconds = text.parse::<u32>().map(|seconds| Duration::from_secs(seconds.into()));
    let time = seconds.or_else(|_| {
        let time: SignedDuration = text
            .parse()
            .map_err(|_| "write a time, such as 5s, 2m or 30".to_owned())?;
        Duration::try_from(time).map_err(|_| "a time is not negative".to_owned())
    })?;
    if time.is_zero() || time > longest {
        return Err("more than 0, and at most 1h".to_owned());
    }
    Ok(Wait(time))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_written_as_for_kubectl_or_in_seconds() {
        let is = |text: &str, millis| assert_eq!(wait(text), Ok(Wait(Duration::from_millis(millis))), "{text}");
        is("5s", 5_000);
        is("5", 5_000);
        is("500ms", 500);
        is("2m", 120_000);
        is("1m30s", 90_000);
        is("1h", 3_600_000);
        for text in ["0", "0s", "-5s", "2h", "", "soon", "99999999999"] {
            assert!(wait(text).is_err(), "{text}");
        }
        assert_eq!(wait("0s"), Err("more than 0, and at most 1h".to_owned()));
    }
}
