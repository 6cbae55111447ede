//! Room in the other side's window, waited for here and not in the codec, which would keep all that it is given.

use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::{Reason, SendStream};

/// How many of `wanted` bytes, which are some, may be sent now: one at least. An error if the stream is over.
pub(crate) fn poll(
    stream: &mut SendStream<Bytes>,
    wanted: usize,
    cx: &mut Context<'_>,
) -> Poll<Result<usize, h2::Error>> {
    stream.reserve_capacity(wanted);
    while stream.capacity() == 0 {
        match ready!(stream.poll_capacity(cx)) {
            Some(capacity) => drop(capacity?),
            None => return Poll::Ready(Err(Reason::CANCEL.into())),
        }
    }
    Poll::Ready(Ok(stream.capacity().min(wanted)))
}
