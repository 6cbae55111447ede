//! Interim responses of an upstream (1xx, above all `103 Early Hints`) on their way to a client of HTTP/2.
//!
//! They come from the task of the upstream's connection while the request waits, and are taken by the one that drives the
//! client's stream. A client of HTTP/1.1 gets none: its codec has no way to send one between the end of a response and the next.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use http::header::CONTENT_LENGTH;
use http::{HeaderMap, Response, StatusCode};
use sluice_model::limits::INTERIM_RESPONSES_MAX;

use super::headers::Survey;

/// Those of one request. Clones share them.
#[derive(Clone, Default, Debug)]
pub(crate) struct Hints(Arc<Mutex<Waiting>>);

#[derive(Default, Debug)]
struct Waiting {
    responses: VecDeque<Response<()>>,
    /// How many there were.
    count: usize,
    /// Who takes them.
    waker: Option<Waker>,
}

impl Hints {
    /// One has come. What concerns only the hop to the upstream goes no further: `100` and `101`, fields of the connection,
    /// and all that are more than a client is told of one request.
    pub(super) fn came(&self, status: StatusCode, headers: &HeaderMap) {
        if matches!(status, StatusCode::CONTINUE | StatusCode::SWITCHING_PROTOCOLS) {
            return;
        }
        let mut waiting = self.waiting();
        if waiting.count >= INTERIM_RESPONSES_MAX {
            return;
        }
        let mut response = Response::new(());
        *response.status_mut() = status;
        let mut headers = headers.clone();
        Survey::of(&headers).strip_response(&mut headers);
        headers.remove(CONTENT_LENGTH); // RFC 9110 §8.6
        *response.headers_mut() = headers;
        waiting.count = waiting.count.saturating_add(1);
        waiting.responses.push_back(response);
        if let Some(waker) = &waiting.waker {
            waker.wake_by_ref();
        }
    }

    /// The next that waits; without one, `waker` is woken when one comes.
    pub(crate) fn take(&self, waker: &Waker) -> Option<Response<()>> {
        let mut waiting = self.waiting();
        let next = waiting.responses.pop_front();
        if next.is_none() && !waiting.waker.as_ref().is_some_and(|known| known.will_wake(waker)) {
            waiting.waker = Some(waker.clone());
        }
        next
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_are_told_and_none_that_concern_one_hop() {
        let hints = Hints::default();
        let fields = [
            ("link", "</a>"),
            ("connection", "x-hop"),
            ("x-hop", "1"),
            ("content-length", "0"),
        ];
        let fields = fields.map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
        let fields = HeaderMap::from_iter(fields);
        for status in [100, 101].into_iter().chain([103; INTERIM_RESPONSES_MAX + 1]) {
            hints.came(StatusCode::from_u16(status).unwrap(), &fields);
        }
        let mut count = 0;
        while let Some(hint) = hints.take(Waker::noop()) {
            count += 1;
            assert_eq!(hint.status(), 103);
            let names: Vec<_> = hint.headers().keys().map(http::HeaderName::as_str).collect();
            assert_eq!(names, ["link"]);
        }
        assert_eq!(count, INTERIM_RESPONSES_MAX);
    }
}
