//! One connection of HTTP/2 to an upstream: how many requests are on it, whether it takes more, and the task that drives it.
//!
//! A connection that was told to go away (GOAWAY) takes no more and ends when those on it have. One that brings nothing for
//! long although requests wait is pinged, and ends without an answer: an upstream that vanished says nothing else. gRPC's
//! servers end connections that ping much, so pings are rare while streams are merely quiet.
//!
//! It belongs to the worker that opened it, whose thread drives it; others may send by it too (`lent`).

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use h2::client::{Builder, Connection as Codec, SendRequest};
use h2::{Ping, PingPong};
use sluice_model::limits::{
    HTTP2_FRAME_BYTES, HTTP2_HEADER_TABLE_BYTES, HTTP2_SEND_BUFFER_BYTES, MAX_RESPONSE_HEAD_BYTES,
    UPSTREAM_HANDSHAKE_TIMEOUT_MS, UPSTREAM_HTTP2_CONNECTION_WINDOW_BYTES, UPSTREAM_HTTP2_STREAM_WINDOW_BYTES,
    UPSTREAM_HTTP2_STREAMS_MAX, UPSTREAM_PING_AFTER_SECONDS, UPSTREAM_PING_EVERY_SECONDS, UPSTREAM_PING_WAIT_SECONDS,
};
use tokio::time::{Instant, Interval, timeout};

use super::dial::Unreached;
use super::quota::{Permit, Quota};
use super::socket::{Socket, Terms};
use crate::tls::upstream::Offer;

/// What a connection, its streams and its driver tell each other.
#[derive(Debug)]
struct State {
    streams: AtomicUsize,
    /// Whether a request was on it before.
    used: AtomicBool,
    /// When a head or a piece of a body came last, or a request began while there was none.
    heard: Moment,
    rests_since: Moment,
    ended: AtomicBool,
    /// Its place among those that there may be, which ends with it, or when its endpoint says that it goes away.
    permit: Mutex<Option<Permit>>,
}

/// A moment, to the millisecond.
#[derive(Debug)]
struct Moment {
    start: Instant,
    after_ms: AtomicU64,
}

impl Moment {
    fn new(start: Instant) -> Self {
        Self {
            start,
            after_ms: AtomicU64::new(0),
        }
    }

    fn get(&self) -> Instant {
        self.start + Duration::from_millis(self.after_ms.load(Ordering::Relaxed))
    }

    fn set(&self, moment: Instant) {
        let after = moment.saturating_duration_since(self.start).as_millis();
        self.after_ms
            .store(u64::try_from(after).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}

impl State {
    fn new(permit: Option<Permit>) -> Self {
        let now = Instant::now();
        Self {
            streams: AtomicUsize::new(0),
            used: AtomicBool::new(false),
            heard: Moment::new(now),
            rests_since: Moment::new(now),
            ended: AtomicBool::new(false),
            permit: Mutex::new(permit),
        }
    }

    fn streams(&self) -> usize {
        self.streams.load(Ordering::SeqCst)
    }

    /// It counts no more among the connections that there may be.
    fn give_up_permit(&self) {
        drop(self.permit.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}

/// A connection. When the last of these and its streams are gone it ends.
#[derive(Debug)]
pub(crate) struct Connection {
    sender: SendRequest<Bytes>,
    state: Arc<State>,
    terms: Terms,
    /// Whether some of the requests to its endpoint need connections of their own.
    own_needed: bool,
}

/// A request's place on a connection.
#[derive(Debug)]
pub(crate) struct Slot {
    connection: Arc<Connection>,
    reused: bool,
}

impl Connection {
    /// Begins to speak HTTP/2. Ready when the upstream has said how many requests it takes at a time: so none is sent that it
    /// must refuse, and none to what is no HTTP/2.
    pub(crate) async fn begin(mut socket: Socket, offer: Offer) -> Result<Arc<Self>, Unreached> {
        let terms = socket.terms();
        // Given up when the socket is closed, not before, unless it goes away.
        let permit = socket.take_permit();
        let begun = timeout(Duration::from_millis(UPSTREAM_HANDSHAKE_TIMEOUT_MS), begin(socket)).await;
        let (sender, codec, pings) = match begun {
            Ok(begun) => begun.map_err(|error| Unreached::Http2(error.to_string().into()))?,
            Err(_) => return Err(Unreached::Slow("HTTP/2", UPSTREAM_HANDSHAKE_TIMEOUT_MS)),
        };
        let state = Arc::new(State::new(permit));
        let quota = terms.quota().cloned();
        tokio::task::spawn_local(drive(codec, pings, state.clone(), quota));
        Ok(Arc::new(Self {
            sender,
            state,
            terms,
            own_needed: offer != Offer::Http2,
        }))
    }

    /// Whether it takes no more requests: it has ended, or was told to go away. Then another one may be opened in its place.
    pub(crate) fn is_leaving(&self) -> bool {
        let ready = || self.sender.clone().poll_ready(&mut Context::from_waker(Waker::noop()));
        let leaving = self.state.ended.load(Ordering::SeqCst) || matches!(ready(), Poll::Ready(Err(_)));
        if leaving {
            self.state.give_up_permit();
        }
        leaving
    }

    /// Requests on it.
    pub(crate) fn streams(&self) -> usize {
        self.state.streams()
    }

    /// How many it takes at a time.
    fn most_streams(&self) -> usize {
        UPSTREAM_HTTP2_STREAMS_MAX.min(self.sender.current_max_send_streams())
    }

    /// Whether it has had no request for as long as it may rest.
    pub(crate) fn has_rested(&self, now: std::time::Instant) -> bool {
        let since = self.state.rests_since.get().into_std();
        self.streams() == 0 && now.saturating_duration_since(since) >= self.terms.idle_limit()
    }

    /// Whether it is to be let go of for a request that waits elsewhere and cannot share it; if so, that is its due.
    pub(crate) fn is_claimed(&self) -> bool {
        self.own_needed && self.terms.is_claimed()
    }

    /// The bound that it counts against.
    pub(super) fn quota(&self) -> Option<&Arc<Quota>> {
        self.terms.quota()
    }

    /// A place for a request, if it takes another one at once.
    pub(crate) fn slot(self: &Arc<Self>) -> Option<Slot> {
        let most = self.most_streams();
        let one_more = |count: usize| (count < most).then(|| count.saturating_add(1));
        let entered = self
            .state
            .streams
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_more);
        entered.ok().map(|before| self.entered(before))
    }

    /// The same for one who comes, behind those who wait for it.
    pub(crate) fn slot_if_free(self: &Arc<Self>) -> Option<Slot> {
        let waited_for = self.terms.quota().is_some_and(|quota| quota.lent.is_waited_for());
        if waited_for { None } else { self.slot() }
    }

    /// A place for a request, which may have to wait until another one ends.
    pub(crate) fn slot_in_turn(self: &Arc<Self>) -> Slot {
        let before = self.state.streams.fetch_add(1, Ordering::SeqCst);
        self.entered(before)
    }

    fn entered(self: &Arc<Self>, before: usize) -> Slot {
        let state = &self.state;
        if before == 0 {
            state.heard.set(Instant::now());
            self.note_rest();
        }
        Slot {
            reused: state.used.swap(true, Ordering::Relaxed),
            connection: self.clone(),
        }
    }

    /// Says whether it rests. Of two workers that say it at once the last one has seen what is.
    fn note_rest(&self) {
        loop {
            let rests = self.streams() == 0;
            self.terms.rests(rests);
            if rests == (self.streams() == 0) {
                return;
            }
        }
    }
}

impl Slot {
    /// Sends by it.
    pub(crate) fn sender(&self) -> SendRequest<Bytes> {
        self.connection.sender.clone()
    }

    /// Whether the connection was there before this request: then it may have been about to close.
    pub(crate) fn is_reused(&self) -> bool {
        self.reused
    }

    /// The connection.
    pub(crate) fn connection(&self) -> &Arc<Connection> {
        &self.connection
    }

    /// Something of a response came.
    pub(crate) fn heard(&self) {
        self.connection.state.heard.set(Instant::now());
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let Connection {
            state,
            terms,
            own_needed,
            ..
        } = &*self.connection;
        let before = state.streams.fetch_sub(1, Ordering::SeqCst);
        if before == 1 {
            state.rests_since.set(Instant::now());
            self.connection.note_rest();
        }
        let Some(quota) = terms.quota() else { return };
        quota.lent.serve();
        if before == 1 && *own_needed && quota.is_wanted() {
            quota.call();
        }
    }
}

type Begun = (SendRequest<Bytes>, Codec<Socket, Bytes>, Option<PingPong>);

async fn begin(socket: Socket) -> Result<Begun, h2::Error> {
    let (sender, mut codec) = codec().handshake::<_, Bytes>(socket).await?;
    let pings = codec.ping_pong();
    poll_fn(|cx| match Pin::new(&mut codec).poll(cx) {
        Poll::Ready(Ok(())) => Poll::Ready(Err(h2::Reason::REFUSED_STREAM.into())),
        Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
        Poll::Pending if codec.max_concurrent_send_streams() > 0 => Poll::Ready(Ok(())),
        Poll::Pending => Poll::Pending,
    })
    .await?;
    Ok((sender, codec, pings))
}

/// Every limit said, also where it is the codec's own default today.
fn codec() -> Builder {
    let mut builder = Builder::new();
    builder
        .enable_push(false)
        // None before its SETTINGS have come.
        .initial_max_send_streams(0)
        .initial_window_size(UPSTREAM_HTTP2_STREAM_WINDOW_BYTES)
        .initial_connection_window_size(UPSTREAM_HTTP2_CONNECTION_WINDOW_BYTES)
        .max_frame_size(HTTP2_FRAME_BYTES)
        .max_header_list_size(MAX_RESPONSE_HEAD_BYTES as u32)
        .header_table_size(HTTP2_HEADER_TABLE_BYTES)
        .max_send_buffer_size(HTTP2_SEND_BUFFER_BYTES)
        .max_concurrent_reset_streams(UPSTREAM_HTTP2_STREAMS_MAX);
    builder
}

async fn drive(mut codec: Codec<Socket, Bytes>, pings: Option<PingPong>, state: Arc<State>, quota: Option<Arc<Quota>>) {
    let mut watch = Watch {
        pings,
        ticks: tokio::time::interval(Duration::from_secs(UPSTREAM_PING_WAIT_SECONDS / 2)),
        pinged: None,
        waiting: None,
    };
    let mut most = codec.max_concurrent_send_streams();
    let ended = poll_fn(|cx| {
        if watch.poll_dead(cx, &state).is_ready() {
            return Poll::Ready(None);
        }
        let polled = Pin::new(&mut codec).poll(cx).map(Some);
        let before = std::mem::replace(&mut most, codec.max_concurrent_send_streams());
        if before < most
            && let Some(quota) = &quota
        {
            quota.lent.serve();
        }
        polled
    })
    .await;
    state.ended.store(true, Ordering::SeqCst);
    match ended {
        None => tracing::debug!("an HTTP/2 connection to an upstream answered no PING, and was ended"),
        Some(Err(error)) => tracing::debug!(%error, "an HTTP/2 connection to an upstream broke"),
        Some(Ok(())) => {}
    }
    // What is still on it ends with the codec.
    drop(codec);
    state.give_up_permit();
}

/// Whether the upstream is there at all.
struct Watch {
    pings: Option<PingPong>,
    ticks: Interval,
    /// When the last ping was sent.
    pinged: Option<Instant>,
    /// Since when the answer to one is waited for.
    waiting: Option<Instant>,
}

impl Watch {
    /// Ready when it is not.
    fn poll_dead(&mut self, cx: &mut Context<'_>, state: &State) -> Poll<()> {
        let Some(pings) = &mut self.pings else {
            return Poll::Pending;
        };
        if self.waiting.is_some() && pings.poll_pong(cx).is_ready() {
            self.waiting = None;
        }
        while self.ticks.poll_tick(cx).is_ready() {
            let now = Instant::now();
            if self
                .waiting
                .is_some_and(|since| passed(since, now, UPSTREAM_PING_WAIT_SECONDS))
            {
                return Poll::Ready(());
            }
            if self.waiting.is_none() && is_due(state, self.pinged, now) && pings.send_ping(Ping::opaque()).is_ok() {
                (self.waiting, self.pinged) = (Some(now), Some(now));
                // Registers for the answer.
                if pings.poll_pong(cx).is_ready() {
                    self.waiting = None;
                }
            }
        }
        Poll::Pending
    }
}

fn passed(since: Instant, now: Instant, seconds: u64) -> bool {
    now.saturating_duration_since(since) >= Duration::from_secs(seconds)
}

/// Whether it is time for a ping: requests wait, nothing came for long, and none was sent in the same silence.
fn is_due(state: &State, pinged: Option<Instant>, now: Instant) -> bool {
    let heard = state.heard.get();
    state.streams() > 0
        && passed(heard, now, UPSTREAM_PING_AFTER_SECONDS)
        && pinged.is_none_or(|pinged| pinged < heard || passed(pinged, now, UPSTREAM_PING_EVERY_SECONDS))
}

#[cfg(test)]
mod tests {
    use http::Request;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};
    use tokio::task::LocalSet;

    use super::super::socket::Stream;
    use super::*;

    /// Empty `SETTINGS`, and windows as large as there are: for a stream, and for the connection.
    const GREETING: &[u8] = b"\0\0\x06\x04\0\0\0\0\0\0\x04\x7f\xff\xff\xff\0\0\x04\x08\0\0\0\0\0\x7f\xff\0\0";

    /// A connection that has begun, and the upstream's end of it.
    async fn begun() -> (Arc<Connection>, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let ours = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (mut upstream, _) = listener.accept().await.unwrap();
        upstream.write_all(GREETING).await.unwrap();
        let socket = Socket::new(Stream::Plain(ours), Duration::from_secs(30), None);
        let connection = Connection::begin(socket, Offer::Http2).await.unwrap();
        upstream.read_exact(&mut [0; 24]).await.unwrap();
        (connection, upstream)
    }

    /// The payload of the next frame of this kind with these flags.
    async fn next_of(upstream: &mut TcpStream, kind: u8, flags: u8) -> Vec<u8> {
        loop {
            let mut head = [0; 9];
            upstream.read_exact(&mut head).await.unwrap();
            let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
            upstream.read_exact(&mut payload).await.unwrap();
            if (head[3], head[4]) == (kind, flags) {
                return payload;
            }
        }
    }

    async fn ping(upstream: &mut TcpStream, flags: u8, payload: &[u8]) {
        let frame = [&[0, 0, 8, 6, flags, 0, 0, 0, 0], payload].concat();
        upstream.write_all(&frame).await.unwrap();
    }

    fn get() -> Request<()> {
        Request::get("http://a.test/").body(()).unwrap()
    }

    #[tokio::test]
    async fn an_upstream_that_answers_no_ping_is_dead_and_so_are_its_requests() {
        let dead = async |ends: bool| {
            let (connection, _upstream) = begun().await;
            let slot = connection.slot().unwrap();
            let mut sender = slot.sender().ready().await.unwrap();
            let (response, mut body) = sender.send_request(get(), ends).unwrap();
            tokio::time::pause();
            let began = Instant::now();
            let mut response = std::pin::pin!(response);
            // With a body it is one that does not even read: what it is sent fills all there is.
            let error = loop {
                body.reserve_capacity(HTTP2_FRAME_BYTES as usize);
                tokio::select! {
                    biased;
                    Some(Ok(room)) = poll_fn(|cx| body.poll_capacity(cx)), if !ends => {
                        body.send_data(Bytes::from(vec![0; room]), false).unwrap();
                    }
                    answer = &mut response => break answer.unwrap_err(),
                }
            };
            tokio::time::resume();
            // By this the proxy knows that the request may have been acted upon.
            assert!(error.is_io(), "{error}");
            assert!((40..=51).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());
            assert!(connection.is_leaving());
        };
        for ends in [true, false] {
            LocalSet::new().run_until(dead(ends)).await;
        }
    }

    #[tokio::test]
    async fn an_upstream_that_is_quiet_and_answers_pings_is_not() {
        let quiet = async {
            let (connection, mut upstream) = begun().await;
            let slot = connection.slot().unwrap();
            let mut sender = slot.sender().ready().await.unwrap();
            let (response, _) = sender.send_request(get(), true).unwrap();
            for silence in [35, 315, 315] {
                tokio::time::pause();
                tokio::time::advance(Duration::from_secs(silence)).await;
                tokio::time::resume();
                let asked = next_of(&mut upstream, 6, 0).await;
                ping(&mut upstream, 1, &asked).await;
                // It has heard that when it answers this.
                ping(&mut upstream, 0, &[7; 8]).await;
                assert_eq!(next_of(&mut upstream, 6, 1).await, [7; 8]);
                assert!(!connection.is_leaving());
            }
            upstream.write_all(b"\0\0\x01\x01\x05\0\0\0\x01\x88").await.unwrap();
            assert_eq!(response.await.unwrap().status(), 200);
        };
        LocalSet::new().run_until(quiet).await;
    }

    #[test]
    fn pings_are_for_silence_with_requests_and_rare_in_one() {
        let state = State::new(None);
        let start = state.heard.get();
        let at = |seconds| start + Duration::from_secs(seconds);
        assert!(!is_due(&state, None, at(3600)), "nobody waits");
        state.streams.store(1, Ordering::SeqCst);
        assert!(!is_due(&state, None, at(29)) && is_due(&state, None, at(30)));
        let pinged = Some(at(30));
        assert!(!is_due(&state, pinged, at(339)) && is_due(&state, pinged, at(340)));
        state.heard.set(at(50));
        assert!(!is_due(&state, pinged, at(79)) && is_due(&state, pinged, at(80)));
    }
}
