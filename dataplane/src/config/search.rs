//! Where to look for the controller that leads, and when: after each stream that ended, or did not begin. Pure, but for
//! what it logs; chance comes as an argument.
//!
//! A controller that does not answer is asked less and less often. One that answers that another leads is there, and a new
//! leader is a matter of seconds: then the waits stay short.

use std::time::Duration;

use sluice_model::limits::{MAX_LEADER_HINTS, RECONNECT_ELSEWHERE_LONGEST_STEP_MS};

use super::backoff::Backoff;
use crate::dial::{EndedBy, status_text};

/// How a stream ended.
#[derive(Debug)]
pub(super) enum Ended {
    /// It was stopped here.
    Stopped,
    /// Another controller leads; `None`: nobody knows which.
    Elsewhere(Option<String>),
    /// Says why.
    Lost(String),
    /// The controller said who we are not, or a connection that stood up to TLS broke before a word.
    ShutOut(EndedBy, String),
}

impl From<tonic::Status> for Ended {
    fn from(status: tonic::Status) -> Self {
        let text = status_text(&status);
        match EndedBy::of(&status) {
            by @ (EndedBy::Refusal | EndedBy::Connection) => Self::ShutOut(by, text),
            EndedBy::Controller => Self::Lost(text),
        }
    }
}

/// See the file's comment.
#[derive(Debug)]
pub(super) struct Search {
    configured: String,
    /// Where the leader is said to be.
    hint: Option<String>,
    hints_in_a_row: u32,
    broken_in_a_row: u32,
    nobody_answers: Backoff,
    another_leads: Backoff,
    log: LossLog,
}

impl Search {
    /// Begins at the configured address.
    pub(super) fn new(configured: String) -> Self {
        Self {
            configured,
            hint: None,
            hints_in_a_row: 0,
            broken_in_a_row: 0,
            nobody_answers: Backoff::default(),
            another_leads: Backoff::up_to(RECONNECT_ELSEWHERE_LONGEST_STEP_MS),
            log: LossLog::default(),
        }
    }

    /// Where to look next.
    pub(super) fn address(&self) -> &str {
        self.hint.as_deref().unwrap_or(&self.configured)
    }

    /// The last stream lasted: the next series of attempts begins small.
    pub(super) fn was_useful(&mut self) {
        self.nobody_answers.reset();
        self.another_leads.reset();
        self.log = LossLog::default();
        self.hints_in_a_row = 0;
        self.broken_in_a_row = 0;
    }

    /// Whether the stream ended for who we are, so that another certificate may help: the controller says so, or
    /// connections break again and again before a word.
    pub(super) fn is_about_us(&mut self, ended: &Ended) -> bool {
        const ENOUGH: u32 = 3; // a controller that restarts breaks one, and is not there for the next
        match ended {
            Ended::ShutOut(EndedBy::Refusal, _) => true,
            Ended::ShutOut(EndedBy::Connection, _) => {
                self.broken_in_a_row = self.broken_in_a_row.saturating_add(1);
                self.broken_in_a_row >= ENOUGH
            }
            Ended::ShutOut(EndedBy::Controller, _) | Ended::Stopped | Ended::Elsewhere(_) | Ended::Lost(_) => false,
        }
    }

    /// How long to wait before looking at [`address`](Self::address); `None`: no more.
    pub(super) fn after(&mut self, ended: Ended, chance: u64) -> Option<Duration> {
        let address = self.address().to_owned();
        let was_hint = self.hint.take().is_some();
        match ended {
            Ended::Stopped => return None,
            Ended::Elsewhere(Some(leader)) if self.hints_in_a_row < MAX_LEADER_HINTS => {
                self.hints_in_a_row += 1;
                tracing::info!(address, leader, "another controller leads");
                self.hint = Some(leader);
                return Some(Duration::ZERO);
            }
            Ended::Elsewhere(_) => {
                self.hints_in_a_row = 0;
                let why = "it does not lead, and knows nobody who does";
                self.log.lost(&address, why);
                return Some(self.another_leads.next_wait(chance));
            }
            Ended::Lost(why) => self.log.lost(&address, &why),
            Ended::ShutOut(_, why) => self.log.lost(&address, &format!("refused: {why}")),
        }
        // Whoever hinted at it was there.
        let backoff = if was_hint {
            &mut self.another_leads
        } else {
            &mut self.nobody_answers
        };
        Some(backoff.next_wait(chance))
    }
}

/// Says a loss once, again when its reason changes, and every so often while it lasts.
#[derive(Debug, Default)]
struct LossLog {
    last: String,
    times: u32,
}

impl LossLog {
    fn lost(&mut self, address: &str, why: &str) {
        const EVERY: u32 = 12; // about once a minute at the longest wait
        if self.last != why || self.times.is_multiple_of(EVERY) {
            tracing::warn!(
                address,
                why,
                attempts = self.times + 1,
                "no stream to the controller; traffic goes on"
            );
        }
        if self.last != why {
            self.times = 0;
            why.clone_into(&mut self.last);
        }
        self.times = self.times.saturating_add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sluice_model::limits::RECONNECT_LONGEST_STEP_MS;

    const LONGEST: u64 = u64::MAX;

    fn lost() -> Ended {
        Ended::Lost("gone".to_owned())
    }

    fn elsewhere(leader: &str) -> Ended {
        Ended::Elsewhere(Some(leader.to_owned()))
    }

    fn millis(wait: Option<Duration>) -> u64 {
        u64::try_from(wait.unwrap().as_millis()).unwrap()
    }

    #[test]
    fn a_hint_is_followed_at_once_and_not_for_ever() {
        let mut search = Search::new("service".to_owned());
        for hop in 0..MAX_LEADER_HINTS {
            let leader = format!("leader-{hop}");
            assert_eq!(search.after(elsewhere(&leader), 0), Some(Duration::ZERO));
            assert_eq!(search.address(), leader);
        }
        assert!(search.after(elsewhere("one-more"), 0) > Some(Duration::ZERO));
        assert_eq!(search.address(), "service");
        assert_eq!(search.after(Ended::Stopped, 0), None);
    }

    #[test]
    fn while_somebody_answers_the_waits_stay_short() {
        let mut silent = Search::new("service".to_owned());
        let waits: Vec<u64> = (0..20).map(|_| millis(silent.after(lost(), LONGEST))).collect();
        assert!(waits[19] >= RECONNECT_LONGEST_STEP_MS / 2, "{waits:?}");

        // The leader died; those who follow still hint at it, or know nobody.
        let mut between = Search::new("service".to_owned());
        for _ in 0..20 {
            assert_eq!(millis(between.after(elsewhere("dead"), LONGEST)), 0);
            let to_dead = millis(between.after(lost(), LONGEST));
            between.hints_in_a_row = 0;
            let nobody = millis(between.after(Ended::Elsewhere(None), LONGEST));
            assert!(
                to_dead.max(nobody) <= RECONNECT_ELSEWHERE_LONGEST_STEP_MS,
                "{to_dead} {nobody}"
            );
        }
        between.was_useful();
        assert!(millis(between.after(Ended::Elsewhere(None), LONGEST)) <= 100);
    }

    #[test]
    fn another_certificate_is_asked_for_when_this_one_is_the_trouble() {
        let mut search = Search::new("service".to_owned());
        let shut_out = |by| Ended::ShutOut(by, "no".to_owned());
        assert!(search.is_about_us(&shut_out(EndedBy::Refusal)));
        let mut broken = || search.is_about_us(&shut_out(EndedBy::Connection));
        assert_eq!([broken(), broken(), broken()], [false, false, true]);
        search.was_useful();
        assert!(!search.is_about_us(&shut_out(EndedBy::Connection)));
        assert!(!search.is_about_us(&lost()));
    }
}
