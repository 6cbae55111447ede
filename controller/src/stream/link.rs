//! The way to one instance: a bounded queue, and an end that comes from either side.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use sluice_proto::{Downward, pb};
use tokio::sync::mpsc;
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
        self.queue.try_send(Ok(message.into())).map_err(|_| {
            self.cut();
            CutOff
        })
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
        Downward::Order(_) | Downward::Manifest(_) | Downward::Section { .. } | Downward::NotLeader { .. } => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
