//! What was handed on of a request body, remembered in case that the upstream says it did not process the request. Bounded:
//! of a longer body the beginning is gone, and it is sent once.

use bytes::Bytes;
use http::HeaderMap;
use sluice_model::limits::UPSTREAM_REPLAY_BYTES;

/// Whether there is something to remember for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Keeping {
    /// Not, or no longer.
    #[default]
    No,
    /// From the beginning on.
    Yes,
    /// It became too much.
    Lost,
}

/// The beginning of a body.
#[derive(Debug, Default)]
pub(super) struct Replay {
    keeping: Keeping,
    pieces: Vec<Bytes>,
    trailers: Option<HeaderMap>,
    bytes: usize,
    /// The piece that comes next, when it is sent again.
    next: usize,
    again: bool,
}

/// A piece of what was remembered.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece {
    /// Of the body.
    Data(Bytes),
    /// Its trailers.
    Trailers(HeaderMap),
}

impl Replay {
    /// Remembers from here on; nothing was handed on yet.
    pub(super) fn keep(&mut self) {
        if self.keeping == Keeping::No {
            self.keeping = Keeping::Yes;
        }
    }

    /// It is needed no longer.
    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }

    /// This was handed on.
    pub(super) fn data(&mut self, data: &Bytes) {
        if self.keeping != Keeping::Yes {
            return;
        }
        self.bytes = self.bytes.saturating_add(data.len());
        if self.bytes > UPSTREAM_REPLAY_BYTES {
            (self.pieces, self.keeping) = (Vec::new(), Keeping::Lost);
        } else {
            self.pieces.push(data.clone());
            self.next = self.pieces.len();
        }
    }

    /// So were these.
    pub(super) fn trailers(&mut self, trailers: &HeaderMap) {
        if self.keeping == Keeping::Yes {
            self.trailers = Some(trailers.clone());
        }
    }

    /// Begins anew, if nothing of it is lost.
    pub(super) fn rewind(&mut self) -> bool {
        if self.keeping != Keeping::Yes {
            return false;
        }
        (self.next, self.again) = (0, true);
        true
    }

    /// Whether there is more to hand on again.
    pub(super) fn is_over(&self) -> bool {
        !self.again || (self.next >= self.pieces.len() && self.trailers.is_none())
    }

    /// What is to be handed on again.
    pub(super) fn next(&mut self) -> Option<Piece> {
        if !self.again {
            return None;
        }
        if let Some(data) = self.pieces.get(self.next) {
            self.next = self.next.saturating_add(1);
            return Some(Piece::Data(data.clone()));
        }
        self.again = false;
        self.trailers.clone().map(Piece::Trailers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_handed_on_comes_again_as_often_as_asked() {
        let mut replay = Replay::default();
        replay.data(&Bytes::from_static(b"before"));
        assert!(!replay.rewind(), "nothing is remembered unasked");
        replay.keep();
        replay.data(&Bytes::from_static(b"a"));
        replay.data(&Bytes::from_static(b"b"));
        assert!(replay.is_over() && replay.next().is_none());
        for _ in 0..2 {
            assert!(replay.rewind() && !replay.is_over());
            assert_eq!(replay.next(), Some(Piece::Data(Bytes::from_static(b"a"))));
            assert_eq!(replay.next(), Some(Piece::Data(Bytes::from_static(b"b"))));
            assert_eq!(replay.next(), None);
        }
        let mut trailers = HeaderMap::new();
        trailers.insert("x-sum", http::HeaderValue::from_static("7"));
        replay.trailers(&trailers);
        assert!(replay.rewind() && replay.next().is_some() && replay.next().is_some() && !replay.is_over());
        assert_eq!(replay.next(), Some(Piece::Trailers(trailers)));
        replay.forget();
        assert!(!replay.rewind());
    }

    #[test]
    fn a_long_body_is_not_remembered() {
        let mut replay = Replay::default();
        replay.keep();
        replay.data(&Bytes::from(vec![0; UPSTREAM_REPLAY_BYTES]));
        assert!(replay.rewind());
        replay.data(&Bytes::from_static(b"more"));
        assert!(!replay.rewind() && replay.pieces.is_empty());
    }
}
