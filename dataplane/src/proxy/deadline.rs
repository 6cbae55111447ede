//! How long a rule lets things take: a request in all, one try of it, and silence. Nobody is blamed for another one's delay: what a
//! client keeps waiting for is the client's, and an answer that is under way is cut only while it is its upstream that is
//! waited for.

use std::cell::Cell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use sluice_model::unit::{TimeoutMillis, Timeouts};
use tokio::time::{Instant, Sleep, sleep_until, timeout_at};

use super::body::{Progress, Watch};
use super::failure::Failure;

/// Until when a request has to be answered, and how long it may be silent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Deadline {
    ends: Option<Instant>,
    idle: Option<Duration>,
}

/// As a duration.
pub(super) fn time(millis: TimeoutMillis) -> Duration {
    Duration::from_millis(millis.get())
}

impl Deadline {
    /// Of a request that came at `started`; `None`: it may take as long as it likes.
    pub(super) fn of(timeouts: &Timeouts, started: std::time::Instant) -> Option<Self> {
        let Timeouts {
            request,
            idle,
            per_try: _,
        } = timeouts;
        if request.is_none() && idle.is_none() {
            return None;
        }
        Some(Self {
            ends: request.and_then(|limit| Instant::from_std(started).checked_add(time(limit))),
            idle: idle.map(time),
        })
    }

    /// So much of the time was not the upstream's.
    fn extend(&mut self, by: Duration) {
        self.ends = self.ends.and_then(|ends| ends.checked_add(by));
    }

    /// When to look next, if something moved at `moved`. A day from then if never.
    fn due(&self, moved: Instant) -> Instant {
        let silent = self.idle.map(|idle| moved + idle);
        let due = self.ends.into_iter().chain(silent).min();
        due.unwrap_or(moved + Duration::from_secs(86_400))
    }

    /// What it fails with at `now`, if nothing has moved since `moved`.
    fn passed(&self, now: Instant, moved: Instant) -> Option<Failure> {
        if self.ends.is_some_and(|ends| ends <= now) {
            return Some(Failure::RequestTimeout);
        }
        let silent = self.idle.is_some_and(|idle| moved + idle <= now);
        silent.then_some(Failure::UpstreamTimeout)
    }

    /// Waits for an answer for as long as there is time. Bytes of the request's body are no silence, and while it waits for a
    /// connection there is nobody to be silent. The answer is pinned elsewhere, so that it is not moved once more: it is large.
    pub(super) async fn hold<T>(
        self,
        watch: Option<Rc<Watch>>,
        queueing: &Queueing,
        mut answer: Pin<&mut impl Future<Output = Result<T, Failure>>>,
    ) -> Result<T, Failure> {
        let mut sign = Sign::of(watch);
        loop {
            if let Ok(answer) = timeout_at(self.due(sign.moved()), answer.as_mut()).await {
                return answer;
            }
            let now = Instant::now();
            sign.saw(queueing.last(now));
            match self.passed(now, sign.moved()) {
                Some(_) if queueing.is_on() => return Err(Failure::Overloaded),
                Some(failure) => return Err(sign.blame(failure)),
                None => {}
            }
        }
    }
}

/// Whether a request waits for a connection (`queue`), and when it did last.
#[derive(Default, Debug)]
pub(super) struct Queueing {
    on: Cell<bool>,
    ended: Cell<Option<Instant>>,
}

/// It does, until this is dropped.
pub(super) struct InQueue<'a>(&'a Queueing);

impl Queueing {
    /// It begins to.
    pub(super) fn begin(&self) -> InQueue<'_> {
        self.on.set(true);
        InQueue(self)
    }

    fn is_on(&self) -> bool {
        self.on.get()
    }

    /// When it did last, if it ever did.
    fn last(&self, now: Instant) -> Option<Instant> {
        if self.on.get() { Some(now) } else { self.ended.get() }
    }
}

impl Drop for InQueue<'_> {
    fn drop(&mut self) {
        self.0.on.set(false);
        self.0.ended.set(Some(Instant::now()));
    }
}

/// When something moved last, of the answer or of the request's body.
#[derive(Debug)]
struct Sign {
    watch: Option<Rc<Watch>>,
    moved: Instant,
}

impl Sign {
    fn of(watch: Option<Rc<Watch>>) -> Self {
        Self {
            moved: Instant::now(),
            watch,
        }
    }

    /// Something did then.
    fn saw(&mut self, moved: Option<Instant>) {
        self.moved = moved.map_or(self.moved, |moved| moved.max(self.moved));
    }

    fn moved(&self) -> Instant {
        let body = self.watch.as_ref().map(|watch| watch.moved.get());
        body.map_or(self.moved, |body| body.max(self.moved))
    }

    fn blame(&self, failure: Failure) -> Failure {
        blame(self.watch.as_deref(), failure)
    }
}

/// Whose it is that something took too long: the client's, if more of its body is waited for.
pub(super) fn blame(watch: Option<&Watch>, failure: Failure) -> Failure {
    match watch {
        Some(watch) if watch.waits.get() && watch.progress.get() == Progress::Flowing => Failure::ClientTimeout,
        Some(_) | None => failure,
    }
}

/// The deadline of an answer whose head has gone to the client. It stands still while nobody waits for the upstream: from when
/// something of the answer came until more is asked for, which is when the client has taken it.
#[derive(Debug)]
pub(super) struct Clock {
    deadline: Deadline,
    sign: Sign,
    /// Since when nobody waits for the upstream.
    stands: Option<Instant>,
    sleep: Pin<Box<Sleep>>,
}

impl Clock {
    /// It goes on from `deadline`; a request with `watch` may still be sending.
    pub(super) fn new(deadline: Deadline, watch: Option<Rc<Watch>>) -> Self {
        let sign = Sign::of(watch);
        Self {
            sleep: Box::pin(sleep_until(deadline.due(sign.moved()))),
            stands: Some(sign.moved),
            deadline,
            sign,
        }
    }

    /// Something of the answer came.
    pub(super) fn moved(&mut self) {
        let now = Instant::now();
        self.goes_on(now);
        self.sign.moved = now;
        self.stands = Some(now);
    }

    /// More is asked for.
    fn goes_on(&mut self, now: Instant) {
        if let Some(since) = self.stands.take() {
            self.deadline.extend(now.saturating_duration_since(since));
            self.sign.moved = now;
        }
    }

    /// While the upstream is waited for: ready when that took too long.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Failure> {
        if self.stands.is_some() {
            self.goes_on(Instant::now());
        }
        loop {
            ready!(self.sleep.as_mut().poll(cx));
            let moved = self.sign.moved();
            if let Some(failure) = self.deadline.passed(Instant::now(), moved) {
                return Poll::Ready(self.sign.blame(failure));
            }
            let due = self.deadline.due(moved);
            self.sleep.as_mut().reset(due);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, poll_fn};
    use std::pin::pin;

    use super::*;

    fn deadline(request_ms: u64, idle_ms: u64) -> Deadline {
        let timeouts = Timeouts {
            request: TimeoutMillis::new(request_ms),
            per_try: None,
            idle: TimeoutMillis::new(idle_ms),
        };
        Deadline::of(&timeouts, Instant::now().into_std()).unwrap()
    }

    fn body(progress: Progress) -> Rc<Watch> {
        Rc::new(Watch {
            bytes: Cell::new(0),
            moved: Cell::new(Instant::now()),
            progress: Cell::new(progress),
            waits: Cell::new(true),
            rule: Cell::new(None),
        })
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_of_both_ends_it() {
        for (request, idle, failure, after) in [
            (5_000, 0, Failure::RequestTimeout, 5_000),
            (0, 3_000, Failure::UpstreamTimeout, 3_000),
            (5_000, 3_000, Failure::UpstreamTimeout, 3_000),
            (2_000, 3_000, Failure::RequestTimeout, 2_000),
        ] {
            let began = Instant::now();
            let held = deadline(request, idle)
                .hold(None, &Queueing::default(), pin!(pending::<Result<(), Failure>>()))
                .await;
            assert_eq!((held, began.elapsed().as_millis()), (Err(failure), after));
        }
        let none = Timeouts::default();
        assert!(Deadline::of(&none, Instant::now().into_std()).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_moves_is_no_silence_and_one_that_waits_is_the_clients() {
        let watch = body(Progress::Flowing);
        let sends = async {
            for _ in 0..10 {
                tokio::time::sleep(Duration::from_millis(900)).await;
                watch.moved.set(Instant::now());
            }
            pending::<()>().await;
        };
        let began = Instant::now();
        let answer = pin!(pending::<Result<(), Failure>>());
        let queueing = Queueing::default();
        let held = tokio::select! {
            held = deadline(0, 1_000).hold(Some(watch.clone()), &queueing, answer) => held,
            () = sends => Ok(()),
        };
        assert_eq!(held, Err(Failure::ClientTimeout));
        assert_eq!(began.elapsed().as_millis(), 10_000, "it moved last after 9 s");
        let sent = body(Progress::Done);
        let held = deadline(1_000, 0)
            .hold(Some(sent), &Queueing::default(), pin!(pending::<Result<(), Failure>>()))
            .await;
        assert_eq!(held, Err(Failure::RequestTimeout), "all of it has come");
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_for_a_connection_waits_for_no_upstream() {
        let check = async |request, idle, queued, failure, after| {
            let (began, queueing) = (Instant::now(), Queueing::default());
            let answer = pin!(async {
                let in_queue = queueing.begin();
                tokio::time::sleep(Duration::from_millis(queued)).await;
                drop(in_queue);
                pending::<Result<(), Failure>>().await
            });
            let held = deadline(request, idle).hold(None, &queueing, answer).await;
            assert_eq!((held, began.elapsed().as_millis()), (Err(failure), after));
        };
        check(0, 300, 1_000, Failure::UpstreamTimeout, 1_300).await;
        check(5_000, 300, 10_000, Failure::Overloaded, 5_000).await;
        check(5_000, 0, 1_000, Failure::RequestTimeout, 5_000).await;
    }

    #[tokio::test(start_paused = true)]
    async fn the_clock_of_an_answer_stands_still_while_its_client_takes_it() {
        let mut clock = Clock::new(deadline(1_000, 500), None);
        let waits = async |clock: &mut Clock, millis| {
            let step = tokio::time::timeout(Duration::from_millis(millis), poll_fn(|cx| clock.poll(cx))).await;
            step.ok()
        };
        for pause in [700, 700, 700] {
            // With or without a wait for the upstream in between.
            tokio::time::advance(Duration::from_millis(pause)).await;
            assert_eq!(waits(&mut clock, 100).await, None);
            clock.moved();
            tokio::time::advance(Duration::from_millis(pause)).await;
            clock.moved();
        }
        assert_eq!(waits(&mut clock, 400).await, None);
        clock.moved();
        assert_eq!(
            waits(&mut clock, 300).await,
            Some(Failure::RequestTimeout),
            "300, 400 and 300 are all that it had"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn the_clock_of_an_answer_goes_on_while_that_moves() {
        let mut clock = Clock::new(deadline(10_000, 1_000), None);
        let began = Instant::now();
        for _ in 0..4 {
            let step = tokio::time::timeout(Duration::from_millis(800), poll_fn(|cx| clock.poll(cx))).await;
            assert!(step.is_err(), "{step:?}");
            clock.moved();
        }
        let failure = poll_fn(|cx| clock.poll(cx)).await;
        assert_eq!(
            (failure, began.elapsed().as_millis()),
            (Failure::UpstreamTimeout, 4 * 800 + 1_000)
        );
    }
}
