//! What is left of a request that is answered without it: read and dropped if it is small and on its way, so that the
//! connection serves the next request; else left, and the connection ends. Never is it taken for a request (RFC 9112 §9.3).

use std::pin::Pin;
use std::time::Duration;

use http::Request;
use http::header::EXPECT;
use http_body_util::BodyExt;
use hyper::body::{Body, Buf};
use sluice_model::limits::{DRAIN_BYTES, DRAIN_MS};

/// What became of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Rest {
    /// All of the request has come.
    Gone,
    /// Something of it is still to come.
    Left,
}

/// Reads what is left, within bounds. A client that waits to be told to go on sends nothing, so it is not waited for.
pub(super) async fn drain<B: Body + Unpin>(request: Request<B>) -> Rest {
    if request.body().is_end_stream() {
        return Rest::Gone;
    }
    let large = request.body().size_hint().lower() > DRAIN_BYTES as u64;
    if large || request.headers().contains_key(EXPECT) {
        return Rest::Left;
    }
    let limit = Duration::from_millis(DRAIN_MS);
    let mut body = request.into_body();
    let read = tokio::time::timeout(limit, read(Pin::new(&mut body))).await;
    read.unwrap_or(Rest::Left)
}

async fn read<B: Body + Unpin>(mut body: Pin<&mut B>) -> Rest {
    let mut bytes = 0_usize;
    while bytes <= DRAIN_BYTES {
        match body.frame().await {
            None => return Rest::Gone,
            Some(Err(_)) => return Rest::Left,
            Some(Ok(frame)) => bytes = bytes.saturating_add(frame.data_ref().map_or(0, Buf::remaining)),
        }
    }
    Rest::Left
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use http_body_util::{Full, StreamBody};
    use hyper::body::Frame;

    #[tokio::test(start_paused = true)]
    async fn what_is_small_and_there_is_drained() {
        let check = async |size: usize, expected| {
            assert_eq!(
                drain(Request::new(Full::new(Bytes::from(vec![0; size])))).await,
                expected,
                "{size}"
            );
        };
        check(0, Rest::Gone).await;
        check(DRAIN_BYTES, Rest::Gone).await;
        check(DRAIN_BYTES + 1, Rest::Left).await;
        let mut expects = Request::new(Full::new(Bytes::from_static(b"a")));
        expects
            .headers_mut()
            .insert(EXPECT, http::HeaderValue::from_static("100-continue"));
        assert_eq!(drain(expects).await, Rest::Left);
        let endless = tokio_stream::iter(std::iter::repeat_with(|| {
            Ok::<_, ()>(Frame::data(Bytes::from(vec![0; 1024])))
        }));
        assert_eq!(drain(Request::new(StreamBody::new(endless))).await, Rest::Left);
        let silent = tokio_stream::pending::<Result<Frame<Bytes>, ()>>();
        assert_eq!(drain(Request::new(StreamBody::new(silent))).await, Rest::Left);
    }
}
