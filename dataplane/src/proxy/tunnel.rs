//! A tunnel: two connections of which each passes on what the other one brings, after a change of protocol.
//!
//! A side that takes nothing stops the other one: what cannot be written is kept, at most one buffer of it in each
//! direction, and no more is read. A tunnel that rests holds no buffer. The end of one direction is passed on as such;
//! when a connection breaks, both end.

use std::cell::Cell;
use std::future::poll_fn;
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::RecvStream;
use sluice_model::limits::TUNNEL_BUFFER_BYTES;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::exchange::{Exchange, micros_since};
use super::far::Far;
use crate::http2::state::Stream;
use crate::worker::Worker;
use crate::worker::connection::{Closing, Connection};

/// How a tunnel ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum End {
    /// It was cut off from here: nothing moved for too long, or the instance ended.
    Cut,
    /// Both sides ended in order.
    Complete,
    /// The client's connection broke.
    Client,
    /// The upstream's did.
    Upstream,
}

impl End {
    /// As the access log writes it.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Cut => "cut",
            Self::Complete => "complete",
            Self::Client => "client_broke",
            Self::Upstream => "upstream_broke",
        }
    }
}

/// What is known of a tunnel: for the record of its request.
#[derive(Debug)]
pub(super) struct Traffic {
    /// From the head of the request to that of its answer. The rest of a tunnel's life is not the time of a response.
    pub(super) opened_micros: u64,
    /// From the client.
    pub(super) bytes_in: Cell<u64>,
    /// To the client.
    pub(super) bytes_out: Cell<u64>,
    /// How it ended, as far as is known.
    pub(super) end: Cell<End>,
}

/// A client's request that went over to another protocol, and the upstream's connection.
pub(crate) struct Tunnel {
    exchange: Box<Exchange>,
    traffic: Rc<Traffic>,
    far: Far,
}

/// Counts it for as long as it is open, however it ends.
struct Open(Rc<Worker>);

impl Open {
    fn new(worker: Rc<Worker>) -> Self {
        worker.counters.tunnels.add(1);
        Self(worker)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.counters.tunnels.sub(1);
    }
}

impl Tunnel {
    /// Of a request whose answer goes to the client now.
    pub(super) fn new(mut exchange: Box<Exchange>, far: Far) -> Box<Self> {
        let traffic = Rc::new(Traffic {
            opened_micros: micros_since(exchange.started),
            bytes_in: Cell::new(0),
            bytes_out: Cell::new(0),
            end: Cell::new(End::Cut),
        });
        exchange.tunnel = Some(traffic.clone());
        Box::new(Self { exchange, traffic, far })
    }

    /// What the client sends, if it comes by a stream of HTTP/2.
    pub(crate) fn take_near(&mut self) -> Option<RecvStream> {
        self.exchange.connect.as_mut()?.take_near()
    }

    /// Passes on until both directions have ended or one connection breaks. `early`: what the client's codec had read.
    pub(crate) async fn run<S>(self: Box<Self>, mut near: S, early: Bytes)
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let Self {
            exchange,
            traffic,
            far: mut upstream,
        } = *self;
        let _open = Open::new(exchange.worker.clone());
        let (keeper, worker) = (Keeper::of(&exchange), exchange.worker.clone());
        keeper.begins();
        let mut inward = Pipe::new(&early);
        let mut outward = Pipe::new(&upstream.take_early());
        drop(early);
        let came = |bytes: usize| {
            add(&traffic.bytes_in, bytes);
            worker.counters.tunnel_bytes_in.add(bytes as u64);
            keeper.moved();
        };
        let went = |bytes: usize| {
            add(&traffic.bytes_out, bytes);
            worker.counters.tunnel_bytes_out.add(bytes as u64);
            keeper.moved();
        };
        let end = poll_fn(|cx| {
            let inward = inward.poll(cx, &mut near, &mut upstream, came);
            if let Poll::Ready(Err(broke)) = inward {
                return Poll::Ready(broke.of(End::Client, End::Upstream));
            }
            match outward.poll(cx, &mut upstream, &mut near, went) {
                Poll::Ready(Err(broke)) => Poll::Ready(broke.of(End::Upstream, End::Client)),
                Poll::Ready(Ok(())) if inward.is_ready() => Poll::Ready(End::Complete),
                Poll::Ready(Ok(())) | Poll::Pending => Poll::Pending,
            }
        })
        .await;
        traffic.end.set(end);
        tell(end, &keeper, &upstream, [&inward, &outward]);
    }
}

/// Who sees to it that a tunnel ends if nothing moves in it: what the client comes by.
enum Keeper {
    /// All of its connection.
    Connection(Rc<Connection>),
    /// One stream of it.
    Stream(Rc<Stream>),
}

impl Keeper {
    fn of(exchange: &Exchange) -> Self {
        match &exchange.stream {
            None => Self::Connection(exchange.connection.clone()),
            Some(stream) => Self::Stream(stream.clone()),
        }
    }

    fn begins(&self) {
        match self {
            Self::Connection(connection) => connection.becomes_tunnel(),
            Self::Stream(stream) => stream.becomes_tunnel(),
        }
    }

    fn moved(&self) {
        match self {
            Self::Connection(connection) => connection.moved(),
            Self::Stream(stream) => stream.moved(),
        }
    }

    /// It is not ended in order: its client is to know that the upstream broke. A stream that is dropped is reset anyway.
    fn breaks(&self) {
        match self {
            Self::Connection(connection) => connection.closing.set(Closing::Reset),
            Self::Stream(_) => {}
        }
    }
}

/// A connection that broke is not passed on as an end in order, unless its end was passed on before.
fn tell(end: End, keeper: &Keeper, upstream: &Far, [inward, outward]: [&Pipe; 2]) {
    match end {
        End::Upstream if outward.stage != Stage::Ended => keeper.breaks(),
        End::Client if inward.stage != Stage::Ended => upstream.breaks(),
        End::Upstream | End::Client | End::Complete | End::Cut => {}
    }
}

fn add(sum: &Cell<u64>, bytes: usize) {
    sum.set(sum.get().saturating_add(bytes as u64));
}

/// Which end of a direction broke.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Broke {
    /// Where it is read.
    Source,
    /// Where it is written.
    Sink,
}

impl Broke {
    fn of(self, source: End, sink: End) -> End {
        match self {
            Self::Source => source,
            Self::Sink => sink,
        }
    }
}

/// How far a direction has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    /// More may come.
    Open,
    /// Nothing more comes; that is to be passed on.
    Ending,
    /// That was passed on.
    Ended,
}

/// One direction.
#[derive(Debug)]
struct Pipe {
    /// What was read and not written, from `written` on.
    left: Vec<u8>,
    written: usize,
    /// Something was written that may not have been sent.
    unflushed: bool,
    stage: Stage,
}

impl Pipe {
    /// With what was read before.
    fn new(early: &[u8]) -> Self {
        Self {
            left: early.to_vec(),
            written: 0,
            unflushed: false,
            stage: Stage::Open,
        }
    }

    /// Passes on what can be; ready when the direction has ended. `moved` is told of bytes that were written.
    fn poll<R, W>(
        &mut self,
        cx: &mut Context<'_>,
        source: &mut R,
        sink: &mut W,
        moved: impl Fn(usize),
    ) -> Poll<Result<(), Broke>>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        loop {
            if ready!(self.poll_left(cx, sink, &moved)).is_err() {
                return Poll::Ready(Err(Broke::Sink));
            }
            match self.stage {
                Stage::Ended => return Poll::Ready(Ok(())),
                Stage::Ending => {
                    if ready!(Pin::new(&mut *sink).poll_shutdown(cx)).is_err() {
                        return Poll::Ready(Err(Broke::Sink));
                    }
                    self.stage = Stage::Ended;
                }
                Stage::Open => {
                    let mut scratch = [MaybeUninit::<u8>::uninit(); TUNNEL_BUFFER_BYTES];
                    let mut came = ReadBuf::uninit(&mut scratch);
                    match Pin::new(&mut *source).poll_read(cx, &mut came) {
                        Poll::Pending => return self.poll_sent(cx, sink),
                        Poll::Ready(Err(_)) => return Poll::Ready(Err(Broke::Source)),
                        Poll::Ready(Ok(())) if came.filled().is_empty() => self.stage = Stage::Ending,
                        Poll::Ready(Ok(())) => {
                            if self.write(cx, sink, came.filled(), &moved).is_err() {
                                return Poll::Ready(Err(Broke::Sink));
                            }
                        }
                    }
                }
            }
        }
    }

    /// Writes what can be written at once, and keeps the rest.
    fn write<W: AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        sink: &mut W,
        mut bytes: &[u8],
        moved: impl Fn(usize),
    ) -> io::Result<()> {
        while let Poll::Ready(count) = Pin::new(&mut *sink).poll_write(cx, bytes) {
            let count = some(count?)?;
            self.unflushed = true;
            moved(count);
            bytes = bytes.get(count..).unwrap_or_default();
            if bytes.is_empty() {
                return Ok(());
            }
        }
        self.left.extend_from_slice(bytes);
        Ok(())
    }

    /// Writes what was kept.
    fn poll_left<W: AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        sink: &mut W,
        moved: impl Fn(usize),
    ) -> Poll<io::Result<()>> {
        while let Some(left) = self.left.get(self.written..).filter(|left| !left.is_empty()) {
            let count = some(ready!(Pin::new(&mut *sink).poll_write(cx, left))?)?;
            self.unflushed = true;
            moved(count);
            self.written = self.written.saturating_add(count);
        }
        if self.written > 0 {
            (self.left, self.written) = (Vec::new(), 0);
        }
        Poll::Ready(Ok(()))
    }

    /// Nothing to read for now: what was written is sent on its way.
    fn poll_sent<W: AsyncWrite + Unpin>(&mut self, cx: &mut Context<'_>, sink: &mut W) -> Poll<Result<(), Broke>> {
        if self.unflushed {
            match ready!(Pin::new(&mut *sink).poll_flush(cx)) {
                Ok(()) => self.unflushed = false,
                Err(_) => return Poll::Ready(Err(Broke::Sink)),
            }
        }
        Poll::Pending
    }
}

/// A write that takes nothing would be tried for ever.
fn some(count: usize) -> io::Result<usize> {
    match count {
        0 => Err(io::ErrorKind::WriteZero.into()),
        count => Ok(count),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    async fn through(
        pipe: &mut Pipe,
        source: &mut (impl AsyncRead + Unpin),
        sink: &mut (impl AsyncWrite + Unpin),
    ) -> Result<(), Broke> {
        poll_fn(|cx| pipe.poll(cx, source, sink, |_| {})).await
    }

    #[tokio::test]
    async fn what_came_early_comes_first_and_the_end_is_passed_on() {
        let (mut client, mut source) = tokio::io::duplex(64);
        let (mut sink, mut upstream) = tokio::io::duplex(4);
        let mut pipe = Pipe::new(b"early ");
        client.write_all(b"and late").await.unwrap();
        client.shutdown().await.unwrap();
        let mut all = String::new();
        let (passed, read) = tokio::join!(
            through(&mut pipe, &mut source, &mut sink),
            upstream.read_to_string(&mut all)
        );
        assert_eq!((passed, read.unwrap(), all.as_str()), (Ok(()), 14, "early and late"));
        assert_eq!((pipe.stage, pipe.left.capacity()), (Stage::Ended, 0));
    }

    #[tokio::test]
    async fn a_sink_that_takes_nothing_stops_the_source() {
        let (mut client, mut source) = tokio::io::duplex(1 << 20);
        let (mut sink, _upstream) = tokio::io::duplex(16);
        let mut pipe = Pipe::new(b"");
        client.write_all(&vec![7; 1 << 20]).await.unwrap();
        let stalled = tokio::time::timeout(Duration::from_millis(1), through(&mut pipe, &mut source, &mut sink)).await;
        assert!(stalled.is_err(), "{stalled:?}");
        assert_eq!(
            pipe.left.len(),
            TUNNEL_BUFFER_BYTES - 16,
            "one buffer, and no more is read"
        );
    }

    #[tokio::test]
    async fn a_break_says_where() {
        let (client, mut source) = tokio::io::duplex(64);
        let (mut sink, upstream) = tokio::io::duplex(64);
        drop(upstream);
        let mut pipe = Pipe::new(b"lost");
        assert_eq!(through(&mut pipe, &mut source, &mut sink).await, Err(Broke::Sink));
        drop(client);
        let mut reader = broken::Reader;
        let (mut sink, _upstream) = tokio::io::duplex(64);
        assert_eq!(
            through(&mut Pipe::new(b""), &mut reader, &mut sink).await,
            Err(Broke::Source)
        );
    }

    mod broken {
        use super::*;

        pub(super) struct Reader;

        impl AsyncRead for Reader {
            fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
                Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()))
            }
        }
    }
}
