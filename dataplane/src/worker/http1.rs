//! HTTP/1.1 on a client connection. The codec, which has buffers, is there only while there is something to say: a
//! connection that rests waits for its next request in front of its guard, which holds next to nothing then.

use std::cell::Cell;
use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::Request;
use hyper::body::{Body, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use sluice_model::limits::{CLIENT_BUFFER_BYTES, REQUEST_FIELDS_MOST};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

use super::Worker;
use super::connection::{Connection, Wish};
use super::serve::Admission;
use crate::guard::stream::{Guarded, Heard};
use crate::proxy;
use crate::proxy::body::ClientBody;
use crate::proxy::failure::Failure;
use crate::proxy::tunnel::Tunnel;

/// Fields of a head for which the HTTP/1.1 codec has room on its stack; for more it allocates.
const CODEC_FIELDS: usize = 100;

/// Serves a connection until it ends.
pub(super) async fn serve<S>(worker: &Rc<Worker>, connection: &Rc<Connection>, stream: S, admission: Admission)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let ended = take_turns(worker, connection, stream).await;
    drop(admission);
    if let Some(failure) = ended.err().and_then(|error| parse_failure(&error)) {
        proxy::respond::refused_by_codec(worker, connection, failure, None);
    }
}

/// Rests and converses, in turns.
async fn take_turns<S>(worker: &Rc<Worker>, connection: &Rc<Connection>, stream: S) -> hyper::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut guarded = Guarded::new(stream, connection.gate.clone());
    loop {
        match poll_fn(|cx| poll_rest(connection, &mut guarded, cx)).await {
            Rested::Conversation => {}
            Rested::End => {
                Box::pin(finish(connection, guarded, Bytes::new(), None)).await;
                return Ok(());
            }
            Rested::Gone => return Ok(()),
        }
        match Box::pin(converse(worker, connection, guarded)).await? {
            Some(rests) => guarded = rests,
            None => return Ok(()),
        }
    }
}

/// How a rest is over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Rested {
    /// There is something for the codec.
    Conversation,
    /// The connection ends in order: the client has ended it, or it is asked to and nothing has come.
    End,
    /// It is broken, or is to end now.
    Gone,
}

fn poll_rest<S>(connection: &Connection, guarded: &mut Guarded<S>, cx: &mut Context<'_>) -> Poll<Rested>
where
    S: AsyncRead + Unpin,
{
    connection.remember(cx.waker());
    if connection.wished() == Wish::Abort {
        return Poll::Ready(Rested::Gone);
    }
    // What has come by now is served, whatever the wish is.
    match guarded.poll_something(cx) {
        Poll::Ready(Ok(Heard::Goes)) => Poll::Ready(Rested::Conversation),
        Poll::Ready(Ok(Heard::Ends)) => Poll::Ready(Rested::End),
        Poll::Ready(Err(_)) => Poll::Ready(Rested::Gone),
        // A head that has begun has the time that a head has.
        Poll::Pending if connection.wished() == Wish::Finish && guarded.is_between() => Poll::Ready(Rested::End),
        Poll::Pending => Poll::Pending,
    }
}

/// Requests and responses, until the connection ends, or rests for so long that it is handed back.
async fn converse<S>(
    worker: &Rc<Worker>,
    connection: &Rc<Connection>,
    guarded: Guarded<S>,
) -> hyper::Result<Option<Guarded<S>>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let tunnel = Cell::new(None);
    let service = service_fn(|request: Request<Incoming>| {
        let reading = (!request.body().is_end_stream()).then(|| connection.reads_body());
        let request = request.map(|incoming| ClientBody::Http1(incoming, reading));
        let answer = proxy::serve(worker.clone(), connection.clone(), request);
        let tunnel = &tunnel;
        // In a box of its own while it is under way: the codec keeps room for it as long as it lasts.
        Box::pin(async move {
            let mut response = answer.await;
            tunnel.set(response.body_mut().take_tunnel());
            Ok::<_, Infallible>(response)
        })
    });
    let mut builder = http1::Builder::new();
    builder
        .max_header_size(CLIENT_BUFFER_BYTES)
        .max_buf_size(CLIENT_BUFFER_BYTES);
    if connection.gate.bounds().fields > CODEC_FIELDS {
        builder.max_headers(REQUEST_FIELDS_MOST as usize);
    }
    let mut driving = builder.serve_connection(TokioIo::new(guarded), service);
    let mut finishing = false;
    let said = poll_fn(|cx| {
        connection.remember(cx.waker());
        if connection.wished() == Wish::Abort {
            return Poll::Ready(Ok(Said::All));
        }
        let mut driven = Pin::new(&mut driving).poll(cx);
        // Told so, a codec without a request ends at once. What has come by now is served, and what has begun to.
        let finish = connection.wished() == Wish::Finish && !connection.gate.head_has_begun();
        if driven.is_pending() && finish && !finishing {
            finishing = true;
            Pin::new(&mut driving).graceful_shutdown();
            driven = Pin::new(&mut driving).poll(cx);
        }
        match driven {
            Poll::Pending if connection.codec_may_go() => Poll::Ready(Ok(Said::Enough)),
            Poll::Pending => Poll::Pending,
            Poll::Ready(ended) => Poll::Ready(ended.map(|()| Said::All)),
        }
    })
    .await?;
    let parts = driving.into_parts();
    let guarded = parts.io.into_inner();
    if said == Said::Enough && parts.read_buf.is_empty() {
        return Ok(Some(guarded));
    }
    Box::pin(finish(connection, guarded, parts.read_buf, tunnel.take())).await;
    Ok(None)
}

/// Why a conversation is over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Said {
    /// Nothing follows.
    All,
    /// Something may follow, but nothing has for a while.
    Enough,
}

/// What follows when HTTP has ended on a connection: the tunnel that it has become, or the end.
async fn finish<S>(connection: &Connection, mut io: S, early: Bytes, tunnel: Option<Box<Tunnel>>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    match tunnel {
        Some(tunnel) => until_aborted(connection, tunnel.run(io, early)).await,
        // Where a change of protocol was asked for and did not come, the codec leaves the end to others. What has ended
        // already ends at once.
        None => until_aborted(connection, async { drop(io.shutdown().await) }).await,
    }
}

/// What is left to do on a connection that HTTP has ended on, unless it is to end now.
async fn until_aborted(connection: &Connection, rest: impl Future<Output = ()>) {
    let mut rest = pin!(rest);
    poll_fn(|cx| {
        connection.remember(cx.waker());
        match connection.wished() {
            Wish::Stay | Wish::Finish => rest.as_mut().poll(cx),
            Wish::Abort => Poll::Ready(()),
        }
    })
    .await;
}

/// What the codec refused by itself although the guard let it pass: it has answered and there was no request yet.
fn parse_failure(error: &hyper::Error) -> Option<Failure> {
    if error.is_parse_too_large() {
        let target = error.to_string().contains("URI");
        Some(if target {
            Failure::UriTooLong
        } else {
            Failure::HeadersTooLarge
        })
    } else if error.is_parse() {
        Some(Failure::BadRequest)
    } else {
        None
    }
}
