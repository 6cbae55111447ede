//! Upstreams of the three kinds that a data plane speaks to. What they do stands in the path:
//! `…/take` takes a body and answers with its digest, `…/give?seed&length` gives one after a `pause`, and `cut` makes it die in
//! between.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{self, Stream, StreamExt};
use http::{Request, Response, header};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ServerConfig;
use sha2::{Digest, Sha256};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio_rustls::TlsAcceptor;

use crate::authority::Authority;
use crate::front::Body;
use crate::pattern;

/// How an upstream is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Back {
    /// HTTP/1.1 in the clear.
    Http1,
    /// HTTP/2 over TLS.
    Http2Tls,
    /// HTTP/2 in the clear.
    H2c,
}

impl Back {
    pub(crate) const ALL: [Self; 3] = [Self::Http1, Self::Http2Tls, Self::H2c];

    /// Names its pool, and begins the paths that lead there.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Http1 => "http1",
            Self::Http2Tls => "http2tls",
            Self::H2c => "h2c",
        }
    }

    /// What its pool says beside endpoints.
    pub(crate) fn transport(self) -> &'static str {
        match self {
            Self::Http1 => "",
            Self::Http2Tls => "  protocol: HTTP2\n  tls: {serverName: upstream.test, ca: {secretName: upstream-ca}}\n",
            Self::H2c => "  protocol: HTTP2\n",
        }
    }
}

/// The name in the upstreams' certificates.
const NAME: &str = "upstream.test";

/// A server that runs until the runtime ends.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    dying: Arc<Notify>,
}

impl Server {
    /// Listens on a free port.
    pub(crate) async fn start(back: Back, authority: &Authority) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let dying = Arc::new(Notify::new());
        let tls = (back == Back::Http2Tls).then(|| authority.server(NAME, &["h2"]));
        tokio::spawn(accept(listener, back, tls, dying.clone()));
        Self { address, dying }
    }

    /// Lets the one exchange die that has come to where it is to.
    pub(crate) fn die(&self) {
        self.dying.notify_one();
    }
}

async fn accept(listener: TcpListener, back: Back, tls: Option<Arc<ServerConfig>>, dying: Arc<Notify>) {
    loop {
        let Ok((socket, _)) = listener.accept().await else {
            continue;
        };
        let _ = socket.set_nodelay(true);
        tokio::spawn(connection(socket, back, tls.clone(), dying.clone()));
    }
}

/// How a connection is to end before its time.
#[derive(Default)]
struct End {
    asked: Notify,
}

async fn connection(socket: TcpStream, back: Back, tls: Option<Arc<ServerConfig>>, dying: Arc<Notify>) {
    let end = Arc::new(End::default());
    // A second handle on the socket, which says how it closes.
    let handle = socket2::SockRef::from(&socket).try_clone();
    let serving = async {
        match tls {
            None => serve(socket, back, end.clone(), dying).await,
            Some(config) => {
                if let Ok(stream) = TlsAcceptor::from(config).accept(socket).await {
                    serve(stream, back, end.clone(), dying).await;
                }
            }
        }
    };
    tokio::select! {
        () = serving => {}
        () = end.asked.notified() => {
            // As the kernel does for a process that is killed with bytes unread.
            if let Ok(handle) = handle {
                let _ = handle.set_linger(Some(Duration::ZERO));
            }
        }
    }
}

async fn serve<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: S,
    back: Back,
    end: Arc<End>,
    dying: Arc<Notify>,
) {
    let service = service_fn(move |request| {
        let (end, dying) = (end.clone(), dying.clone());
        async move { Ok::<_, Infallible>(answer(request, end, dying).await) }
    });
    let stream = TokioIo::new(stream);
    // How a connection ends is the scenario's business.
    match back {
        Back::Http1 => _ = http1::Builder::new().serve_connection(stream, service).await,
        Back::Http2Tls | Back::H2c => {
            let _ = http2::Builder::new(TokioExecutor::new())
                .serve_connection(stream, service)
                .await;
        }
    }
}

/// How an upstream dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Death {
    /// The connection is reset (`RST`).
    Killed,
    /// The response alone ends: in HTTP/1.1 with its connection (`FIN`), in HTTP/2 with `RST_STREAM`.
    Broken,
}

impl Death {
    pub(crate) const ALL: [Self; 2] = [Self::Killed, Self::Broken];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Killed => "killed",
            Self::Broken => "broken",
        }
    }
}

fn parameter<'a>(request: &'a Request<Incoming>, name: &str) -> Option<&'a str> {
    let pairs = request.uri().query().unwrap_or_default().split('&');
    pairs
        .filter_map(|pair| pair.split_once('='))
        .find_map(|(key, value)| (key == name).then_some(value))
}

fn number(request: &Request<Incoming>, name: &str) -> Option<usize> {
    parameter(request, name)?.parse().ok()
}

async fn answer(request: Request<Incoming>, end: Arc<End>, dying: Arc<Notify>) -> Response<Body> {
    if request.uri().path().ends_with("/take") {
        return take(request, end).await;
    }
    if let Some(pause) = number(&request, "pause") {
        tokio::time::sleep(Duration::from_millis(pause as u64)).await;
    }
    let seed = number(&request, "seed").unwrap_or_default();
    let length = number(&request, "length").unwrap_or(2);
    let mut response = Response::builder();
    if parameter(&request, "framing") != Some("open") {
        response = response.header(header::CONTENT_LENGTH, length);
    }
    let given = number(&request, "cut").unwrap_or(length);
    let pieces = stream::iter(pattern::pieces(seed, given)).map(|piece| Ok(Frame::data(piece)));
    let death = match parameter(&request, "death") {
        Some("killed") => Some(Death::Killed),
        Some(_) => Some(Death::Broken),
        None => None,
    };
    let pieces = pieces.chain(last(death, end, dying));
    response
        .body(StreamBody::new(pieces).boxed_unsync())
        .expect("a response")
}

/// What comes after the bytes: nothing, or the death of it.
fn last(death: Option<Death>, end: Arc<End>, dying: Arc<Notify>) -> impl Stream<Item = io::Result<Frame<Bytes>>> {
    stream::iter(death).then(move |death| {
        let (end, dying) = (end.clone(), dying.clone());
        async move {
            dying.notified().await;
            match death {
                Death::Broken => Err(io::Error::other("broken off, as was asked for")),
                Death::Killed => {
                    end.asked.notify_one();
                    std::future::pending().await
                }
            }
        }
    })
}

/// Takes a body, or no more of it than `cut` bytes.
async fn take(request: Request<Incoming>, end: Arc<End>) -> Response<Body> {
    let cut = number(&request, "cut").unwrap_or(usize::MAX);
    let mut body = request.into_body();
    let (mut hash, mut length) = (Sha256::new(), 0);
    while let Some(frame) = body.frame().await {
        match frame.map(Frame::into_data) {
            Ok(Ok(data)) => {
                hash.update(&data);
                length += data.len();
            }
            Ok(Err(_)) => {}
            Err(error) => return text(500, format!("{error}")),
        }
        if length >= cut {
            end.asked.notify_one();
            std::future::pending::<()>().await;
        }
    }
    text(200, pattern::hex(hash))
}

fn text(status: u16, text: String) -> Response<Body> {
    let body = Full::from(text).map_err(|never| match never {}).boxed_unsync();
    Response::builder().status(status).body(body).expect("a response")
}
