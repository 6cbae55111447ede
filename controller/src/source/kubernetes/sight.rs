//! How a watch fares: whether what it is for was seen, and if not, why not. Pure.

use sluice_model::limits::{SOURCE_FAILING_MAX_MS, SOURCE_FIRST_SIGHT_WAIT_MS};

use super::read::Seen;
use super::store::Sighting;
use super::trouble::Trouble;
use crate::rollout::Millis;

/// What a watch has to tell.
#[derive(Clone, Debug)]
pub(super) enum Heard<T = Seen> {
    /// A list of everything begins.
    ListBegins,
    /// Something in it.
    Listed(Sighting<T>),
    /// It is complete.
    ListEnds,
    /// Something is new, or says something new.
    Changed(Sighting<T>),
    /// Something was deleted; its last state.
    Deleted(Sighting<T>),
    /// It could not be followed; it is tried again.
    Failed(Trouble),
}

/// See the file's comment.
#[derive(Clone, Debug)]
pub(super) struct Sight {
    began: Millis,
    was_seen: bool,
    trouble: Option<Failing>,
    heard_at: Option<Millis>,
}

/// A watch that fails, over and over.
#[derive(Clone, Debug)]
struct Failing {
    trouble: Trouble,
    first: Millis,
    last: Millis,
}

/// What can be said of what a watch is for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum State {
    /// It was not seen yet, and may be in a moment.
    Waiting,
    /// It is seen.
    Seen,
    /// It cannot be seen.
    Lost(Trouble),
}

impl Sight {
    /// Of a watch that begins `now`.
    pub(super) fn begin(now: Millis) -> Self {
        Self {
            began: now,
            was_seen: false,
            trouble: None,
            heard_at: None,
        }
    }

    /// Takes in what the watch tells.
    pub(super) fn note<T>(&mut self, heard: &Heard<T>, now: Millis) {
        match heard {
            Heard::ListBegins => {}
            Heard::Failed(trouble) => self.failed(trouble.clone(), now),
            Heard::ListEnds => {
                self.was_seen = true;
                self.trouble = None;
                self.heard_at = Some(now);
            }
            Heard::Listed(_) | Heard::Changed(_) | Heard::Deleted(_) => {
                // What is forbidden, or gone, is seen again when a whole list came in.
                self.trouble.take_if(|failing| !failing.trouble.is_lasting());
                self.heard_at = Some(now);
            }
        }
    }

    fn failed(&mut self, trouble: Trouble, now: Millis) {
        let before = self.trouble.as_ref();
        // A watch that was taken up again says nothing as long as nothing happens.
        let goes_on = before.filter(|before| now.since(before.last) <= SOURCE_FAILING_MAX_MS);
        let first = goes_on.map_or(now, |before| before.first);
        self.trouble = Some(Failing {
            trouble,
            first,
            last: now,
        });
    }

    /// How it stands `now`.
    pub(super) fn state(&self, now: Millis) -> State {
        match &self.trouble {
            Some(failing) if failing.is_serious() => State::Lost(failing.trouble.clone()),
            Some(_) | None if self.was_seen => State::Seen,
            trouble if now.since(self.began) >= SOURCE_FIRST_SIGHT_WAIT_MS => {
                let silence = || Trouble::Silent("nothing has come yet".to_owned());
                State::Lost(trouble.as_ref().map_or_else(silence, |failing| failing.trouble.clone()))
            }
            Some(_) | None => State::Waiting,
        }
    }

    /// Whether everything that it is for was seen at one time.
    pub(super) fn was_seen(&self) -> bool {
        self.was_seen
    }

    /// When something was heard last.
    pub(super) fn heard_at(&self) -> Option<Millis> {
        self.heard_at
    }
}

impl Failing {
    fn is_serious(&self) -> bool {
        self.trouble.is_lasting() || self.last.since(self.first) >= SOURCE_FAILING_MAX_MS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn busy() -> Heard<()> {
        Heard::Failed(Trouble::Busy)
    }

    #[test]
    fn a_kind_is_seen_when_its_list_is_complete() {
        let mut sight = Sight::begin(Millis(0));
        sight.note(&Heard::<()>::ListBegins, Millis(1));
        sight.note(&busy(), Millis(2));
        assert_eq!(sight.state(Millis(3)), State::Waiting, "as after CRDs were installed");
        sight.note(&Heard::<()>::ListEnds, Millis(1_000));
        assert_eq!(sight.state(Millis(1_000_000)), State::Seen);
    }

    #[test]
    fn what_is_forbidden_is_lost_at_once_until_it_is_listed() {
        let mut sight = Sight::begin(Millis(0));
        let forbidden = Heard::<()>::Failed(Trouble::Forbidden);
        sight.note(&forbidden, Millis(1));
        assert_eq!(sight.state(Millis(1)), State::Lost(Trouble::Forbidden));
        sight.note(&Heard::<()>::ListBegins, Millis(2));
        assert_eq!(sight.state(Millis(2)), State::Lost(Trouble::Forbidden));
        sight.note(&Heard::<()>::ListEnds, Millis(3));
        assert_eq!(sight.state(Millis(3)), State::Seen);
    }

    #[test]
    fn nobody_is_waited_for_long() {
        let sight = Sight::begin(Millis(0));
        assert_eq!(sight.state(Millis(SOURCE_FIRST_SIGHT_WAIT_MS - 1)), State::Waiting);
        assert!(matches!(
            sight.state(Millis(SOURCE_FIRST_SIGHT_WAIT_MS)),
            State::Lost(Trouble::Silent(_))
        ));
    }

    #[test]
    fn a_watch_that_fails_for_long_is_lost_and_one_that_fails_now_and_then_is_not() {
        let mut sight = Sight::begin(Millis(0));
        sight.note(&Heard::<()>::ListEnds, Millis(0));
        for at in (0..SOURCE_FAILING_MAX_MS).step_by(5_000) {
            sight.note(&busy(), Millis(at));
            assert_eq!(sight.state(Millis(at)), State::Seen);
        }
        sight.note(&busy(), Millis(SOURCE_FAILING_MAX_MS));
        assert_eq!(sight.state(Millis(SOURCE_FAILING_MAX_MS)), State::Lost(Trouble::Busy));
        sight.note(&Heard::<()>::ListEnds, Millis(SOURCE_FAILING_MAX_MS + 1));
        for minute in 1..100 {
            sight.note(&busy(), Millis(minute * 60_000));
            assert_eq!(
                sight.state(Millis(minute * 60_000)),
                State::Seen,
                "it came back in between"
            );
        }
    }
}
