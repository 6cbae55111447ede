//! The way to one instance: a bounded queue, and an end that comes from either side.
//!
//! Live values wait in a backlog before it, each subject once: there may be thousands after a hello, and what an
//! instance has not read yet of one subject is overtaken by the next. What is sent after them waits behind them.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sluice_model::LiveSubject;
use sluice_model::limits::{STREAM_QUEUE_MESSAGES, STREAM_SEND_WAIT_MS};
use sluice_proto::{Downward, SealedLive, pb};
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;
use tonic::Status;

/// Tells the streams of one instance apart.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct LinkId(pub u64);

/// The way to one instance.
#[derive(Clone, Debug)]
pub struct Link {
    id: LinkId,
    queue: mpsc::Sender<Result<pb::Downward, Status>>,
    end: CancellationToken,
    /// Answers that were asked for and have not come.
    awaited: Arc<AtomicUsize>,
    backlog: Arc<Mutex<Backlog>>,
    fuller: Arc<Notify>,
}

/// What waits for the queue, in order.
#[derive(Debug, Default)]
struct Backlog {
    waiting: VecDeque<Waiting>,
    values: BTreeMap<LiveSubject, SealedLive>,
    messages: usize,
    /// Something was taken out and is not in the queue yet.
    is_moving: bool,
}

#[derive(Debug)]
enum Waiting {
    Message(Box<Downward>),
    /// The newest value of it then.
    Value(LiveSubject),
}

impl Backlog {
    fn is_idle(&self) -> bool {
        self.waiting.is_empty() && !self.is_moving
    }

    fn take(&mut self) -> Option<Downward> {
        self.is_moving = false;
        let next = match self.waiting.pop_front()? {
            Waiting::Message(message) => {
                self.messages = self.messages.saturating_sub(1);
                *message
            }
            Waiting::Value(subject) => Downward::Live(self.values.remove(&subject)?),
        };
        self.is_moving = true;
        Some(next)
    }
}

/// The instance did not read what waits for it, or is gone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CutOff;

impl Link {
    /// The stream `id`, whose messages wait in `queue` until `end`.
    pub fn new(id: LinkId, queue: mpsc::Sender<Result<pb::Downward, Status>>, end: CancellationToken) -> Self {
        Self {
            id,
            queue,
            end,
            awaited: Arc::default(),
            backlog: Arc::default(),
            fuller: Arc::default(),
        }
    }

    /// Which stream.
    pub fn id(&self) -> LinkId {
        self.id
    }

    /// Queues a message, without waiting. An instance whose queue is full is cut off.
    ///
    /// # Errors
    /// [`CutOff`] if the stream is at its end now.
    pub fn send(&self, message: &Downward) -> Result<(), CutOff> {
        if self.end.is_cancelled() {
            return Err(CutOff);
        }
        self.awaited.fetch_add(answers_to(message), Ordering::Relaxed);
        let mut backlog = self.backlog();
        if !backlog.is_idle() {
            backlog.messages += 1;
            backlog.waiting.push_back(Waiting::Message(Box::new(message.clone())));
            return if backlog.messages > STREAM_QUEUE_MESSAGES {
                self.cut();
                Err(CutOff)
            } else {
                Ok(())
            };
        }
        self.queue.try_send(Ok(message.into())).map_err(|_| {
            self.cut();
            CutOff
        })
    }

    /// Sends a value, after what waits already; in place of an older one of its subject that waits.
    pub fn send_value(&self, subject: &LiveSubject, value: SealedLive) {
        let mut backlog = self.backlog();
        if backlog.values.insert(subject.clone(), value).is_none() {
            backlog.waiting.push_back(Waiting::Value(subject.clone()));
        }
        drop(backlog);
        self.fuller.notify_one();
    }

    /// Moves what waits into the queue, as fast as the instance reads. Ends with the stream.
    pub async fn keep_moving(&self) {
        let wait = Duration::from_millis(STREAM_SEND_WAIT_MS);
        loop {
            let next = self.backlog().take();
            match next {
                Some(message) if self.send_slowly(&message, wait).await.is_err() => return,
                Some(_) => {}
                None => self.fuller.notified().await,
            }
        }
    }

    // Whole after every line that touches it, so a panic elsewhere spoils nothing.
    fn backlog(&self) -> MutexGuard<'_, Backlog> {
        self.backlog.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues a message, waiting at most `wait` for room.
    ///
    /// # Errors
    /// [`CutOff`] if there was none.
    pub async fn send_slowly(&self, message: &Downward, wait: Duration) -> Result<(), CutOff> {
        self.queue.send_timeout(Ok(message.into()), wait).await.map_err(|_| {
            self.cut();
            CutOff
        })
    }

    /// Notes that the instance handed something back: whether that was asked for. What nobody asked for is refused, so
    /// that what waits in memory is bounded by what was asked.
    pub fn is_awaited(&self) -> bool {
        let one_less = |awaited: usize| awaited.checked_sub(1);
        self.awaited
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less)
            .is_ok()
    }

    /// Says why the stream ends, if there is room to.
    pub fn refuse(&self, status: Status) {
        let _ = self.queue.try_send(Err(status));
    }

    /// Ends the stream.
    pub fn cut(&self) {
        self.end.cancel();
    }

    /// Becomes cancelled when the stream is to end.
    pub fn ended(&self) -> CancellationToken {
        self.end.clone()
    }
}

/// How many things an instance hands back for this message.
fn answers_to(message: &Downward) -> usize {
    match message {
        Downward::LostManifest(_) => 1,
        Downward::LostSections(sections) => sections.len(),
        Downward::Order(_)
        | Downward::Manifest(_)
        | Downward::Section { .. }
        | Downward::Live(_)
        | Downward::NotLeader { .. } => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &'static str) -> SealedLive {
        SealedLive(bytes::Bytes::from_static(text.as_bytes()))
    }

    #[tokio::test]
    async fn values_overtake_their_own_past_and_nothing_else() {
        let (queue, mut sent) = mpsc::channel(1);
        let link = Link::new(LinkId(1), queue, CancellationToken::new());
        let (a, b): (LiveSubject, LiveSubject) =
            ("Certificate s/a".parse().unwrap(), "Service s/b:80".parse().unwrap());
        let order = |text: &'static str| Downward::Order(bytes::Bytes::from_static(text.as_bytes()));
        link.send_value(&a, value("a1"));
        link.send_value(&b, value("b1"));
        link.send(&order("first")).unwrap();
        link.send_value(&a, value("a2"));
        link.send(&order("second")).unwrap();
        let mover = link.clone();
        let moving = tokio::spawn(async move { mover.keep_moving().await });
        let mut arrived = Vec::new();
        for _ in 0..4 {
            arrived.push(Downward::try_from(sent.recv().await.unwrap().unwrap()).unwrap());
        }
        let expected = [
            Downward::Live(value("a2")),
            Downward::Live(value("b1")),
            order("first"),
            order("second"),
        ];
        assert_eq!(arrived, expected);
        link.send_value(&a, value("a3"));
        let next = Downward::try_from(sent.recv().await.unwrap().unwrap()).unwrap();
        assert_eq!(next, Downward::Live(value("a3")));
        drop(sent);
        link.send_value(&a, value("a4"));
        moving.await.unwrap();
        assert!(link.ended().is_cancelled());
    }

    #[tokio::test]
    async fn what_waits_behind_values_is_bounded() {
        let (queue, _sent) = mpsc::channel(1);
        let link = Link::new(LinkId(1), queue, CancellationToken::new());
        link.send_value(&"Certificate s/a".parse().unwrap(), value("a"));
        let order = Downward::Order(bytes::Bytes::from_static(b"order"));
        for _ in 0..STREAM_QUEUE_MESSAGES {
            assert_eq!(link.send(&order), Ok(()));
        }
        assert_eq!(link.send(&order), Err(CutOff));
    }

    #[tokio::test]
    async fn whoever_does_not_read_is_cut_off() {
        let (queue, mut sent) = mpsc::channel(2);
        let link = Link::new(LinkId(1), queue, CancellationToken::new());
        let message = Downward::Order(bytes::Bytes::from_static(b"order"));
        assert_eq!(link.send(&message), Ok(()));
        assert_eq!(link.send(&message), Ok(()));
        assert_eq!(link.send(&message), Err(CutOff));
        assert!(link.ended().is_cancelled());
        sent.recv().await.unwrap().unwrap();
        assert_eq!(link.send(&message), Err(CutOff), "it stays cut off");
    }

    #[test]
    fn nothing_is_handed_back_unasked() {
        let (queue, _sent) = mpsc::channel(2);
        let link = Link::new(LinkId(1), queue, CancellationToken::new());
        assert!(!link.is_awaited());
        let asked = Downward::LostSections(vec![sluice_model::Digest([0; 32]); 2]);
        assert_eq!(link.send(&asked), Ok(()));
        assert_eq!([(); 3].map(|()| link.is_awaited()), [true, true, false]);
    }
}
