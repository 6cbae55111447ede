//! The way to one instance: a bounded queue, and an end that comes from either side.

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
}

/// The instance did not read what waits for it, or is gone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CutOff;

impl Link {
    /// The stream `id`, whose messages wait in `queue` until `end`.
    pub fn new(id: LinkId, queue: mpsc::Sender<Result<pb::Downward, Status>>, end: CancellationToken) -> Self {
        Self { id, queue, end }
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
}
