//! A client connection with the guard in front of the codec: what is read from it is canonical HTTP/1.1, or a stand-in that
//! asks to be refused, or an error that names the rule. Writing passes through, watched for progress.

use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use sluice_model::limits::{DRAIN_BYTES, GUARD_READ_BYTES};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::framer::{Framer, Within};
use super::gate::Gate;
use super::hold::Held;
use super::output::{Meets, Refusal};
use super::rule::Rule;
use crate::linger::{Ending, poll_scrap};

/// What becomes of the bytes that come.
#[derive(Debug)]
enum Intake {
    /// They are framed.
    Open,
    /// The next read fails with this rule, then it is `Shut`.
    Fails(Rule),
    /// They are not read: what follows an anomaly means nothing.
    Shut,
}

/// A guarded connection.
#[derive(Debug)]
pub(crate) struct Guarded<S> {
    stream: S,
    gate: Rc<Gate>,
    framer: Framer,
    intake: Intake,
    ending: Ending,
    /// What was read and dropped after the last request that there can be.
    dropped: usize,
    /// The client ended its side while what came before was held back.
    ended: bool,
}

impl<S> Guarded<S> {
    /// Puts the guard in front of a connection.
    pub(crate) fn new(stream: S, gate: Rc<Gate>) -> Self {
        Self {
            stream,
            framer: Framer::new(gate.bounds()),
            gate,
            intake: Intake::Open,
            ending: Ending::No,
            dropped: 0,
            ended: false,
        }
    }

    /// Whether it is between requests, and nothing of the next has come.
    pub(crate) fn is_between(&self) -> bool {
        let intact = matches!(self.intake, Intake::Open) && matches!(self.ending, Ending::No);
        intact && self.framer.within() == Within::Nothing && self.framer.out.ready().is_empty()
    }

    fn refused(&mut self, refusal: Refusal) {
        self.gate.refuse(refusal);
        self.intake = match refusal.meets {
            Meets::StandIn(_) => Intake::Shut,
            Meets::Body => Intake::Fails(refusal.rule),
        };
    }

    /// Hands on what is ready; whether there was anything.
    fn hand_on(&mut self, buf: &mut ReadBuf<'_>) -> bool {
        let ready = self.framer.out.ready();
        let count = ready.len().min(buf.remaining());
        if let Some(part) = ready.get(..count).filter(|part| !part.is_empty()) {
            buf.put_slice(part);
            self.framer.out.take(count);
            return true;
        }
        false
    }

    /// Takes in what was read; nothing: the client has ended its side. Whether the reader hears of that end.
    fn take_in(&mut self, came: &[u8]) -> Heard {
        self.framer.follow(self.gate.bounds());
        let before = self.framer.within();
        let framed = match came {
            [] => self.framer.end(),
            came => self.framer.feed(came),
        };
        match (self.framer.within(), before) {
            (Within::Body, Within::Body) => self.gate.body_came(came.len()),
            (Within::Body, Within::Nothing | Within::Head | Within::Held | Within::End) => self.gate.body_begins(),
            (Within::Nothing | Within::Head | Within::Held | Within::End, _) => self.gate.body_begins(),
        }
        self.tell(before);
        match framed {
            Err(refusal) => {
                self.refused(refusal);
                Heard::Goes
            }
            Ok(()) if came.is_empty() => Heard::Ends,
            Ok(()) => Heard::Goes,
        }
    }

    /// What others have to know of what has come. If what comes is held back from now on, that is the answer that decides about
    /// it.
    fn tell(&self, before: Within) {
        self.gate.head_begun(self.framer.within() == Within::Head);
        if self.framer.within() == Within::Held && before != Within::Held {
            self.gate.hold.begin(self.framer.requests());
        }
    }

    /// What was held back is the next request, or several; they may hold back again.
    fn go_on(&mut self) {
        self.gate.hold.end();
        if let Err(refusal) = self.framer.go_on() {
            self.refused(refusal);
        }
        self.tell(Within::Nothing);
    }

    /// The client was too slow: in the middle of a request it is told so, before one it just ends.
    fn cut(&mut self, rule: Rule) -> Heard {
        match (rule, self.framer.within()) {
            (Rule::HeadSlow, Within::Nothing) => Heard::Ends,
            (_, Within::Head | Within::Body) => {
                let refusal = self.framer.refuse(rule);
                self.refused(refusal);
                Heard::Goes
            }
            (_, Within::Nothing | Within::Held | Within::End) => Heard::Goes,
        }
    }
}

/// Whether reading goes on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Heard {
    /// It does.
    Goes,
    /// The end.
    Ends,
}

fn failure(rule: Rule) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, rule)
}

impl<S: AsyncRead + Unpin> Guarded<S> {
    /// Reads through a buffer of its own, since what comes is not what is handed on.
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Heard>> {
        let mut scratch = [MaybeUninit::<u8>::uninit(); GUARD_READ_BYTES];
        let mut came = ReadBuf::uninit(&mut scratch);
        self.poll_watched(cx, &mut came)?
            .map(|()| Ok(self.take_in(came.filled())))
    }

    /// Data of a body that is longer than the reader's buffer goes past, uncopied.
    fn poll_past(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(self.poll_watched(cx, buf))?;
        let came = buf.filled().len().saturating_sub(before);
        self.gate.body_came(came);
        self.framer.went_past(came);
        Poll::Ready(Ok(()))
    }

    fn poll_watched(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        if read.is_pending() && self.framer.within() == Within::Body {
            self.gate.body_waits();
        }
        read
    }

    /// Waits, between requests, until a reader has something to hear: a head that is complete, or a refusal. `Heard::Ends`: the
    /// client has ended its side.
    pub(crate) fn poll_something(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Heard>> {
        loop {
            let comes = matches!(self.framer.within(), Within::Nothing | Within::Head);
            if !comes || !matches!(self.intake, Intake::Open) || !self.framer.out.ready().is_empty() {
                return Poll::Ready(Ok(Heard::Goes));
            }
            let heard = match self.gate.cut() {
                Some(rule) => self.cut(rule),
                None => ready!(self.poll_frame(cx))?,
            };
            if heard == Heard::Ends {
                return Poll::Ready(Ok(Heard::Ends));
            }
        }
    }

    /// Reads on a little while it is not known what comes, so that the end of a client that just waits is seen.
    fn poll_hold(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.ended && self.framer.held().len() < GUARD_READ_BYTES {
            let mut scratch = [MaybeUninit::<u8>::uninit(); GUARD_READ_BYTES];
            let mut came = ReadBuf::uninit(&mut scratch);
            ready!(Pin::new(&mut self.stream).poll_read(cx, &mut came))?;
            match came.filled() {
                [] if self.framer.held().is_empty() => return Poll::Ready(Ok(())),
                // Who says all that he has to say at once and ends his side may still be answered.
                [] => self.ended = true,
                came => self.framer.held().extend_from_slice(came),
            }
        }
        Poll::Pending
    }

    /// Everything as it comes, what was held back first.
    fn poll_raw(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let held = self.framer.held();
        if held.is_empty() {
            if self.ended {
                return Poll::Ready(Ok(()));
            }
            return Pin::new(&mut self.stream).poll_read(cx, buf);
        }
        let count = held.len().min(buf.remaining());
        buf.put_slice(held.get(..count).unwrap_or_default());
        held.drain(..count);
        if held.is_empty() {
            *held = Vec::new();
        }
        Poll::Ready(Ok(()))
    }

    /// After the last request only the client's end is of interest; what else comes is dropped, within a bound.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.dropped < DRAIN_BYTES {
            match ready!(poll_scrap(&mut self.stream, cx))? {
                0 => return Poll::Ready(Ok(())),
                count => self.dropped = self.dropped.saturating_add(count),
            }
        }
        Poll::Pending
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Guarded<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        loop {
            if this.hand_on(buf) {
                return Poll::Ready(Ok(()));
            }
            match this.intake {
                Intake::Open => {}
                Intake::Shut => return Poll::Pending,
                Intake::Fails(rule) => {
                    this.intake = Intake::Shut;
                    return Poll::Ready(Err(failure(rule)));
                }
            }
            match this.framer.within() {
                Within::End => return this.poll_end(cx),
                Within::Held => match this.gate.hold.look(cx.waker()) {
                    Held::Undecided => return this.poll_hold(cx),
                    Held::Tunnel => return this.poll_raw(cx, buf),
                    Held::Request => {
                        this.go_on();
                        continue;
                    }
                },
                Within::Nothing | Within::Head | Within::Body => {}
            }
            if this.ended {
                match this.take_in(&[]) {
                    Heard::Ends => return Poll::Ready(Ok(())),
                    Heard::Goes => continue,
                }
            }
            let heard = match this.gate.cut() {
                Some(rule) => this.cut(rule),
                None if this.framer.is_all_data(buf.remaining()) => return this.poll_past(cx, buf),
                None => ready!(this.poll_frame(cx))?,
            };
            if heard == Heard::Ends {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> Guarded<S> {
    fn watched(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        self.gate.between(false);
        match &written {
            // How long a tunnel may stand still is a question of both its sides.
            _ if self.gate.hold.is_tunnel() => {}
            Poll::Pending => self.gate.response_waits(),
            Poll::Ready(Ok(count)) => self.gate.response_went(*count),
            Poll::Ready(Err(_)) => {}
        }
        written
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Guarded<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.watched(written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        match &flushed {
            _ if self.gate.hold.is_tunnel() => {}
            Poll::Pending => self.gate.response_waits(),
            Poll::Ready(_) => self.gate.response_went(0),
        }
        let taken = matches!(flushed, Poll::Ready(Ok(())));
        if taken {
            self.gate.response_is_written();
        }
        self.gate.between(taken && self.is_between());
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        this.gate.between(false);
        if let Ending::No = this.ending {
            ready!(Pin::new(&mut this.stream).poll_shutdown(cx))?;
            let refused = matches!(this.intake, Intake::Shut | Intake::Fails(_));
            let more = match this.framer.within() {
                Within::Body => true,
                Within::Held => !this.gate.hold.is_tunnel(),
                Within::Nothing | Within::Head | Within::End => false,
            };
            this.ending = if refused || more {
                Ending::lingers()
            } else {
                Ending::Done
            };
        }
        ready!(this.ending.poll(&mut this.stream, cx));
        Poll::Ready(Ok(()))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.watched(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use sluice_model::limits::DRAIN_MS;

    use super::*;
    use crate::guard::Line;
    use crate::guard::bounds::Bounds;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

    fn guarded() -> (DuplexStream, Guarded<DuplexStream>, Rc<Gate>) {
        let gate = Rc::new(Gate::new(Bounds::default()));
        let (client, server) = tokio::io::duplex(1 << 16);
        (client, Guarded::new(server, gate.clone()), gate)
    }

    async fn read(guarded: &mut Guarded<DuplexStream>) -> io::Result<String> {
        let mut some = [0; 4096];
        let count = guarded.read(&mut some).await?;
        Ok(String::from_utf8_lossy(&some[..count]).into_owned())
    }

    #[tokio::test]
    async fn a_slow_head_is_answered_and_a_silent_connection_just_ends() {
        let (mut client, mut guard, gate) = guarded();
        client
            .write_all(b"GET /a HTTP/1.1\r\nHost: a\r\nX-Request-Id: 7\r\n")
            .await
            .unwrap();
        let nothing = tokio::time::timeout(Duration::from_millis(1), read(&mut guard)).await;
        assert!(nothing.is_err(), "{nothing:?}");
        gate.cut_off(Rule::HeadSlow);
        let stand_in = read(&mut guard).await.unwrap();
        assert_eq!(
            stand_in,
            "GET /a HTTP/1.1\r\nX-Request-Id:7\r\nconnection:close\r\n\r\n"
        );
        let refused = gate.pass().unwrap();
        assert_eq!((refused.rule, refused.line), (Rule::HeadSlow, Line::Known));
        let (_client, mut guard, gate) = guarded();
        gate.cut_off(Rule::HeadSlow);
        assert_eq!(read(&mut guard).await.unwrap(), "");
    }

    #[tokio::test]
    async fn a_body_that_breaks_after_its_head_went_on_fails_to_be_read() {
        let (mut client, mut guard, gate) = guarded();
        client
            .write_all(b"POST /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n")
            .await
            .unwrap();
        assert!(
            read(&mut guard)
                .await
                .unwrap()
                .ends_with("transfer-encoding:chunked\r\n\r\n")
        );
        assert_eq!(gate.pass(), None);
        client.write_all(b"3\r\nabcX\r\nGET / HTTP/1.1\r\n\r\n").await.unwrap();
        let error = read(&mut guard).await.unwrap_err();
        let rule = error.get_ref().unwrap().downcast_ref::<Rule>().copied();
        assert_eq!(rule, Some(Rule::ChunkEnd));
        let more = tokio::time::timeout(Duration::from_millis(1), read(&mut guard)).await;
        assert!(more.is_err(), "nothing more is read: {more:?}");
    }

    const ASK: &str = "GET /a HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n";

    #[tokio::test]
    async fn what_follows_a_request_for_another_protocol_waits_for_its_answer() {
        let (mut client, mut guard, gate) = guarded();
        let next = "GET /b HTTP/1.1\r\nX:  1\r\n\r\n";
        client
            .write_all(format!("{ASK}{next}{ASK}\x00raw").as_bytes())
            .await
            .unwrap();
        let head = read(&mut guard).await.unwrap();
        assert_eq!(head, "GET /a HTTP/1.1\r\nConnection:upgrade\r\nUpgrade:x\r\n\r\n");
        let early = tokio::time::timeout(Duration::from_millis(1), read(&mut guard)).await;
        assert!(early.is_err(), "{early:?}");
        gate.pass();
        assert!(gate.holds());
        gate.settle(Held::Request);
        let framed = read(&mut guard).await.unwrap();
        assert_eq!(framed, format!("GET /b HTTP/1.1\r\nX:1\r\n\r\n{head}"));
        gate.pass();
        assert!(!gate.holds(), "that is the request before");
        gate.settle(Held::Tunnel);
        gate.pass();
        assert!(gate.holds(), "which decides nothing about the next");
        gate.settle(Held::Tunnel);
        gate.settle(Held::Request);
        assert_eq!(read(&mut guard).await.unwrap(), "\x00raw");
        client.write_all(b"more\x00").await.unwrap();
        client.shutdown().await.unwrap();
        assert_eq!(read(&mut guard).await.unwrap(), "more\x00");
        assert_eq!(read(&mut guard).await.unwrap(), "");
    }

    #[tokio::test]
    async fn a_client_that_ends_its_side_behind_such_a_request() {
        for (behind, held, expected) in [
            ("raw", Held::Tunnel, ["raw", ""]),
            (
                "GET /b HTTP/1.1\r\n\r\n",
                Held::Request,
                ["GET /b HTTP/1.1\r\n\r\n", ""],
            ),
            (
                "GET /b HT",
                Held::Request,
                ["GET / HTTP/1.1\r\nconnection:close\r\n\r\n", ""],
            ),
        ] {
            let (mut client, mut guard, gate) = guarded();
            client.write_all(format!("{ASK}{behind}").as_bytes()).await.unwrap();
            client.shutdown().await.unwrap();
            assert!(read(&mut guard).await.unwrap().starts_with("GET /a "));
            let early = tokio::time::timeout(Duration::from_millis(1), read(&mut guard)).await;
            assert!(early.is_err(), "{early:?}");
            gate.pass();
            gate.settle(held);
            assert_eq!(read(&mut guard).await.unwrap(), expected[0], "{behind}");
            let last = tokio::time::timeout(Duration::from_millis(1), read(&mut guard)).await;
            assert!(last.is_err() || last.unwrap().unwrap() == expected[1], "{behind}");
        }
        let (mut client, mut guard, _) = guarded();
        client.write_all(ASK.as_bytes()).await.unwrap();
        assert!(read(&mut guard).await.unwrap().starts_with("GET /a "));
        client.shutdown().await.unwrap();
        assert_eq!(read(&mut guard).await.unwrap(), "", "who just waits and leaves is gone");
    }

    #[tokio::test]
    async fn what_has_a_body_or_is_the_last_is_never_held_back() {
        for (fields, body) in [
            ("Content-Length: 2\r\n", "ab"),
            ("Content-Length: 0\r\n", ""),
            ("Transfer-Encoding: chunked\r\n", "0\r\n\r\n"),
        ] {
            let (mut client, mut guard, gate) = guarded();
            let ask = ASK.replace("Upgrade: x", &format!("Upgrade: x\r\n{}", fields.trim_end()));
            client.write_all(format!("{ask}{body}{ASK}").as_bytes()).await.unwrap();
            let all = read(&mut guard).await.unwrap();
            assert_eq!(all.matches("GET /a ").count(), 2, "{fields}: {all}");
            gate.pass();
            assert!(!gate.holds(), "{fields}");
        }
        let (mut client, mut guard, gate) = guarded();
        let last = ASK.replace("upgrade", "upgrade, close");
        client.write_all(last.as_bytes()).await.unwrap();
        read(&mut guard).await.unwrap();
        gate.pass();
        assert!(!gate.holds());
    }

    #[tokio::test(start_paused = true)]
    async fn closing_lingers_within_bounds_after_a_refusal() {
        let (mut client, mut guard, _) = guarded();
        client.write_all(b"\x00 nonsense").await.unwrap();
        assert!(read(&mut guard).await.unwrap().starts_with("GET / "));
        let began = tokio::time::Instant::now();
        guard.shutdown().await.unwrap();
        assert_eq!(
            began.elapsed().as_millis(),
            u128::from(DRAIN_MS),
            "a client that keeps its side open"
        );
        let (client, mut guard, _) = guarded();
        drop(client);
        guard.shutdown().await.unwrap();
        assert_eq!(
            began.elapsed().as_millis(),
            u128::from(DRAIN_MS),
            "without a refusal there is no wait"
        );
    }
}
