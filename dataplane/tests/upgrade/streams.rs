//! WebSocket over HTTP/2 (RFC 8441): a client, and upstreams of both versions. What they do with it is in `extended`.

use std::net::SocketAddr;

use bytes::Bytes;
use h2::ext::Protocol;
use h2::server::SendResponse;
use h2::{RecvStream, SendStream};
use http::{HeaderMap, Request, Response};
use sluice_model::client_limits::ClientLimits;
use sluice_model::unit::UpstreamProtocol;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use super::client::{Good, cleartext};
use super::server::{send_all, serve};
use super::world::*;
use super::{Setup, setup};

/// A world whose clients of HTTP/2 may go over to WebSocket.
pub(super) async fn world(upstream: SocketAddr, protocol: UpstreamProtocol) -> World {
    world_with(setup(upstream).spoken("ws", protocol, None), ClientLimits::default()).await
}

pub(super) async fn world_with(setup: Setup, limits: ClientLimits) -> World {
    let mut world = World::start(Setup { limits, ..setup }).await;
    world.address = world.listen(cleartext()).await;
    world
}

/// An extended `CONNECT`.
pub(super) fn connect(protocol: &str, fields: &[(&'static str, &str)]) -> Request<()> {
    let mut request = Request::connect("http://a.test/ws?q").body(()).unwrap();
    request.extensions_mut().insert(Protocol::from(protocol));
    for (name, value) in fields {
        request.headers_mut().insert(*name, value.parse().unwrap());
    }
    request
}

/// The answer to it, and what the client may send.
pub(super) async fn ask(good: &Good, request: Request<()>) -> (Response<RecvStream>, SendStream<Bytes>) {
    let sender = within(good.0.clone().ready()).await.unwrap();
    let announced = async {
        // Nothing may be asked before the other side has said that it may.
        while !sender.is_extended_connect_protocol_enabled() {
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
    };
    within(announced).await;
    let (response, send) = { sender }.send_request(request, false).unwrap();
    (within(response).await.unwrap(), send)
}

/// A WebSocket's stream that was agreed upon.
pub(super) async fn connected(good: &Good) -> (RecvStream, SendStream<Bytes>) {
    let (response, send) = ask(good, connect("websocket", &[("sec-websocket-version", "13")])).await;
    assert_eq!(response.status(), 200);
    (response.into_body(), send)
}

/// All that comes, to its end.
pub(super) async fn whole(mut recv: RecvStream) -> Result<Vec<u8>, h2::Error> {
    let mut all = Vec::new();
    while let Some(data) = within(recv.data()).await {
        let data = data?;
        let _ = recv.flow_control().release_capacity(data.len());
        all.extend_from_slice(&data);
    }
    Ok(all)
}

/// The stream as bytes, for a library that wants that.
pub(super) fn as_bytes(mut recv: RecvStream, mut send: SendStream<Bytes>) -> DuplexStream {
    let (ours, theirs) = tokio::io::duplex(1 << 16);
    let (mut reading, mut writing) = tokio::io::split(theirs);
    tokio::spawn(async move {
        while let Some(Ok(data)) = recv.data().await {
            let _ = recv.flow_control().release_capacity(data.len());
            if writing.write_all(&data).await.is_err() {
                return;
            }
        }
        let _ = writing.shutdown().await;
    });
    tokio::spawn(async move {
        let mut chunk = vec![0; 1 << 14];
        while let Ok(read) = reading.read(&mut chunk).await {
            if read == 0 {
                let _ = send.send_data(Bytes::new(), true);
                return;
            }
            if send_all(&mut send, Bytes::copy_from_slice(&chunk[..read]))
                .await
                .is_err()
            {
                return;
            }
        }
    });
    ours
}

/// Says that it takes extended `CONNECT`.
pub(super) fn announces(builder: &mut h2::server::Builder) {
    builder.enable_connect_protocol();
}

/// An upstream of HTTP/2 that agrees, and then does as told. The head that it saw comes first.
pub(super) async fn agreeing<F, R>(then: F) -> (SocketAddr, tokio::sync::mpsc::UnboundedReceiver<HeaderMap>)
where
    F: Fn(RecvStream, SendStream<Bytes>) -> R + Clone + Send + Sync + 'static,
    R: Future<Output = ()> + Send + 'static,
{
    let (seen, heads) = tokio::sync::mpsc::unbounded_channel();
    let answer = move |request: Request<RecvStream>, mut respond: SendResponse<Bytes>, _| {
        let (then, seen) = (then.clone(), seen.clone());
        async move {
            let protocol = request.extensions().get::<Protocol>().cloned();
            assert_eq!(protocol, Some(Protocol::from_static("websocket")));
            assert_eq!((request.method().as_str(), request.uri().path()), ("CONNECT", "/ws"));
            let _ = seen.send(request.headers().clone());
            let response = Response::builder().header("x-own", "1").body(()).unwrap();
            let send = respond.send_response(response, false).unwrap();
            then(request.into_body(), send).await;
        }
    };
    let (address, _) = serve(None, announces, answer).await;
    (address, heads)
}

/// Sends everything back until the end.
pub(super) async fn echoes(mut recv: RecvStream, mut send: SendStream<Bytes>) {
    while let Some(Ok(data)) = recv.data().await {
        let _ = recv.flow_control().release_capacity(data.len());
        if send_all(&mut send, data).await.is_err() {
            return;
        }
    }
    let _ = send.send_data(Bytes::new(), true);
}
