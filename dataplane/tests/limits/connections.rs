//! How many connections there may be, in all and of one client.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use sluice_model::unit::{Listener, ListenerTls};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use super::world::*;
use super::*;

fn at_most(all: Option<u64>, per_client: Option<u64>) -> ClientLimits {
    ClientLimits {
        connections: all.map(set),
        connections_per_client: per_client.map(set),
        ..ClientLimits::default()
    }
}

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n";

/// Whether a connection is served. One that is refused ends without a word.
async fn served(stream: &mut TcpStream, introduction: &str) -> bool {
    let mut first = [0];
    // A connection that is reset already may refuse what is written.
    let _ = stream.write_all(introduction.as_bytes()).await;
    let _ = stream.write_all(REQUEST).await;
    let read = within(stream.read(&mut first)).await;
    read.is_ok_and(|count| count > 0)
}

/// A connection that is served. One that is refused may be reset before it is known to be open.
async fn taken(address: SocketAddr) -> Option<TcpStream> {
    let mut stream = TcpStream::connect(address).await.ok()?;
    served(&mut stream, "").await.then_some(stream)
}

/// From this address of the machine's own network.
async fn connect_from(last: u8, to: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4().unwrap();
    let from = IpAddr::from(Ipv4Addr::new(127, 0, 0, last));
    socket.bind(SocketAddr::new(from, 0)).unwrap();
    socket.connect(to).await
}

fn refused(rule: &str) -> String {
    format!("proxy_refused_requests_total{{rule=\"{rule}\"}}")
}

#[tokio::test]
async fn one_connection_too_many_is_closed_and_makes_no_other_wait() {
    let world = World::start(setup(at_most(Some(20), None)).await).await;
    let mut open = Vec::new();
    for _ in 0..60 {
        open.extend(taken(world.address).await);
    }
    assert_eq!(open.len(), 20, "exact, whichever worker they came to");
    assert_eq!(world.metric(&refused("connections")), 40);
    assert_eq!(world.metric("proxy_connections"), 20);
    let line = world.logged(|line| line["refused_by"] == "connections").await;
    assert_eq!(
        (&line["error_category"], &line["client"]),
        (&"too_many_connections".into(), &"127.0.0.1".into())
    );
    assert!(line.get("status").is_none(), "it was no request");
    drop(open.pop());
    world.metric_is("proxy_connections", 19).await;
    assert!(taken(world.address).await.is_some());
    let fleet = world.store.stats().drain().roles[0].scopes[0].clone();
    assert_eq!(
        (fleet.client_failures, fleet.failures),
        (0, 0),
        "gates see nothing of it"
    );
}

#[tokio::test]
async fn a_client_has_so_many_and_the_others_have_theirs() {
    let world = World::start(setup(at_most(None, Some(2))).await).await;
    let mut open = Vec::new();
    for last in [1, 1, 1, 2, 2, 2, 3] {
        let Ok(mut stream) = connect_from(last, world.address).await else {
            continue;
        };
        if served(&mut stream, "").await {
            open.push((last, stream));
        }
    }
    let open: Vec<u8> = open.iter().map(|(last, _)| *last).collect();
    assert_eq!(open, [1, 1, 2, 2, 3]);
    assert_eq!(world.metric(&refused("connections_of_client")), 2);
    let line = world.logged(|line| line["refused_by"] == "connections_of_client").await;
    assert!(line["client"] == "127.0.0.1" || line["client"] == "127.0.0.2");
}

#[tokio::test]
async fn whom_a_load_balancer_introduces_is_counted_and_not_the_load_balancer() {
    let world = World::start(setup(at_most(None, Some(1))).await).await;
    let listener = Listener {
        proxy_protocol_from: vec!["127.0.0.0/8".parse().unwrap()],
        ..listener("http", 80)
    };
    let address = world.listen(listener).await;
    let mut open = Vec::new();
    for (client, expected) in [("192.0.2.1", true), ("192.0.2.2", true), ("192.0.2.1", false)] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let introduction = format!("PROXY TCP4 {client} 192.0.2.99 4000 80\r\n");
        assert_eq!(served(&mut stream, &introduction).await, expected, "{client}");
        open.push(stream);
    }
    for (client, expected) in [("2001:db8::1", true), ("2001:db8::2", false), ("2001:db8:0:1::1", true)] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let introduction = format!("PROXY TCP6 {client} 2001:db8::99 4000 80\r\n");
        assert_eq!(served(&mut stream, &introduction).await, expected, "{client}");
        open.push(stream);
    }
}

#[tokio::test]
async fn it_is_refused_before_tls() {
    let world = World::start(setup(at_most(Some(1), None)).await).await;
    let listener = Listener {
        tls: Some(ListenerTls::default()),
        ..listener("https", 443)
    };
    let address = world.listen(listener).await;
    let first = TcpStream::connect(address).await.unwrap();
    world.metric_is("proxy_connections", 1).await;
    if let Ok(mut second) = TcpStream::connect(address).await {
        assert_eq!(read_all(&mut second).await, "", "no alert: nothing was read or written");
    }
    world.metric_is(&refused("connections"), 1).await;
    drop(first);
}
