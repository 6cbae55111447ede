//! With a WebSocket library on both sides.

use futures_util::SinkExt;
use tokio_stream::StreamExt;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};
use tokio_tungstenite::tungstenite::protocol::frame::{CloseFrame, Frame};
use tokio_tungstenite::tungstenite::{Bytes, Message};
use tokio_tungstenite::{WebSocketStream, accept_async, client_async};

use super::*;

/// Sends every message back; pings and ends are the library's.
async fn websocket_echo() -> SocketAddr {
    upstream(|stream, _| async move {
        let Ok(mut socket) = accept_async(stream).await else {
            return;
        };
        while let Some(Ok(message)) = socket.next().await {
            if (message.is_binary() || message.is_text()) && socket.send(message).await.is_err() {
                return;
            }
        }
    })
    .await
}

async fn connected(world: &World) -> WebSocketStream<TcpStream> {
    let stream = TcpStream::connect(world.address).await.unwrap();
    let (socket, response) = client_async("ws://a.test/ws", stream).await.unwrap();
    assert_eq!(response.status(), 101);
    socket
}

async fn says(socket: &mut WebSocketStream<TcpStream>, message: Message, expected: &Message) {
    within(socket.send(message)).await.unwrap();
    let came = within(socket.next()).await.unwrap().unwrap();
    assert!(came == *expected, "{} bytes came, not {}", came.len(), expected.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_of_every_size_come_back() {
    let world = World::start(setup(websocket_echo().await)).await;
    let mut socket = connected(&world).await;
    for size in [0, 1, 125, 126, 127, 65_535, 65_536, 65_537, 1 << 20] {
        let message = Message::Binary(Bytes::from(pattern(0, size)));
        says(&mut socket, message.clone(), &message).await;
    }
    let text = Message::text("grüße");
    says(&mut socket, text.clone(), &text).await;
    let piece =
        |text: &'static str, code, last| Message::Frame(Frame::message(Bytes::from(text), OpCode::Data(code), last));
    within(socket.send(piece("in ", Data::Text, false))).await.unwrap();
    within(socket.send(Message::Ping(Bytes::from("between"))))
        .await
        .unwrap();
    within(socket.send(piece("three ", Data::Continue, false)))
        .await
        .unwrap();
    let pong = within(socket.next()).await.unwrap().unwrap();
    assert_eq!(pong, Message::Pong(Bytes::from("between")));
    says(
        &mut socket,
        piece("pieces", Data::Continue, true),
        &Message::text("in three pieces"),
    )
    .await;
    let bye = CloseFrame {
        code: 4001.into(),
        reason: "enough".into(),
    };
    within(socket.close(Some(bye.clone()))).await.unwrap();
    let last = within(socket.next()).await.unwrap().unwrap();
    assert_eq!(last, Message::Close(Some(bye)));
    assert!(within(socket.next()).await.is_none());
    drop(socket);
    let line = world.logged(|line| line["upgrade"] == "websocket").await;
    assert_eq!(line["tunnel_end"], "complete", "{line}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_at_once_each_get_their_own() {
    let world = World::start(setup(websocket_echo().await)).await;
    let mut sockets = Vec::new();
    for _ in 0..50 {
        sockets.push(connected(&world).await);
    }
    world.metric_is("proxy_tunnels", 50).await;
    for (number, socket) in sockets.iter_mut().enumerate() {
        let message = Message::text(number.to_string());
        says(socket, message.clone(), &message).await;
    }
    drop(sockets);
    world.metric_is("proxy_tunnels", 0).await;
    world.metric_is("proxy_connections", 0).await;
}
