//! Connections of HTTP/2 to upstreams that are lost or left while requests are on them: what may be sent again is, and
//! nothing else. The upstream writes its frames by hand, so that it ends when and how a test wants.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::Request;
use sluice_model::unit::UpstreamProtocol;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};

use super::client::*;
use super::server::world;
use super::world::*;

/// A request that an upstream saw: on which of its connections, by which method, with which body.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Saw {
    connection: u64,
    method: &'static str,
    body: String,
}

type All = Arc<Mutex<Vec<Saw>>>;

/// One connection of an upstream.
struct Speaking {
    raw: Raw,
    number: u64,
    all: All,
    /// Requests that have begun.
    incomplete: HashMap<u32, (&'static str, String)>,
    /// Streams whose requests are complete, in order.
    streams: Vec<u32>,
}

impl Speaking {
    async fn begin(mut stream: TcpStream, number: u64, all: All) -> Option<Self> {
        stream.read_exact(&mut [0; 24]).await.ok()?;
        let mut raw = Raw(stream);
        raw.send(&frame(SETTINGS, 0, 0, &[])).await;
        raw.next_of(SETTINGS).await?;
        raw.send(&frame(SETTINGS, ACK, 0, &[])).await;
        Some(Self {
            raw,
            number,
            all,
            incomplete: HashMap::new(),
            streams: Vec::new(),
        })
    }

    /// Takes the next request that is complete; its stream.
    async fn take(&mut self) -> Option<u32> {
        loop {
            let came = self.raw.next().await?;
            match came.kind {
                HEADERS => {
                    let method = match came.payload.first()? {
                        0x82 => "GET",
                        0x83 => "POST",
                        other => panic!("{other:#x} is no method in the static table"),
                    };
                    self.incomplete.insert(came.stream, (method, String::new()));
                }
                DATA => {
                    let (_, body) = self.incomplete.get_mut(&came.stream).unwrap();
                    body.push_str(std::str::from_utf8(&came.payload).unwrap());
                }
                _ => continue,
            }
            if came.flags & END_STREAM != 0 {
                let (method, body) = self.incomplete.remove(&came.stream).unwrap();
                let connection = self.number;
                self.streams.push(came.stream);
                self.all.lock().unwrap().push(Saw {
                    connection,
                    method,
                    body,
                });
                return Some(came.stream);
            }
        }
    }

    /// `200` without a body.
    async fn answer(&mut self, stream: u32) {
        self.raw
            .send(&frame(HEADERS, END_HEADERS | END_STREAM, stream, &[0x88]))
            .await;
    }

    /// Answers all that comes.
    async fn serve(mut self) {
        while let Some(stream) = self.take().await {
            self.answer(stream).await;
        }
    }

    /// Takes so many after the one that opened the connection, which is answered.
    async fn take_after_first(&mut self, count: usize) {
        let first = self.take().await.unwrap();
        self.answer(first).await;
        for _ in 0..count {
            self.take().await.unwrap();
        }
    }
}

/// An upstream whose first connection does as told; the others answer all.
async fn first_does<F, R>(behave: F) -> (SocketAddr, All)
where
    F: Fn(Speaking) -> R + Send + Sync + Clone + 'static,
    R: Future<Output = ()> + Send + 'static,
{
    let all = All::default();
    let kept = all.clone();
    let address = upstream(move |stream, number| {
        let (all, behave) = (all.clone(), behave.clone());
        async move {
            match Speaking::begin(stream, number, all).await {
                Some(speaking) if number == 0 => behave(speaking).await,
                Some(speaking) => speaking.serve().await,
                None => {}
            }
        }
    })
    .await;
    (address, kept)
}

/// Sends a request to open the connection, then these at once, each when the one before has been seen; their statuses.
async fn ask(world: &World, all: &All, requests: &[(&str, &str)]) -> Vec<u16> {
    let good = Good::connect(world.address).await;
    assert_eq!(within(good.get("/first")).await.unwrap().status(), 200);
    let mut answers = Vec::new();
    for (place, (method, body)) in requests.iter().enumerate() {
        let request = Request::builder().method(*method).uri("http://a.test/");
        let request = request.body(()).unwrap();
        let body = Some(Bytes::from((*body).to_owned())).filter(|body| !body.is_empty());
        let good = Good(good.0.clone());
        answers.push(tokio::spawn(async move {
            good.ask(request, body).await.unwrap().status().as_u16()
        }));
        within(async {
            while all.lock().unwrap().len() < place + 2 {
                tokio::time::sleep(std::time::Duration::from_millis(2)).await;
            }
        })
        .await;
    }
    let mut statuses = Vec::new();
    for answer in answers {
        statuses.push(within(answer).await.unwrap());
    }
    statuses
}

/// What was seen after the first request: on the first connection, and later.
fn seen(all: &All) -> (Vec<Saw>, Vec<Saw>) {
    let all = all.lock().unwrap();
    let mut rest: Vec<Saw> = all[1..].to_vec();
    rest.sort();
    rest.into_iter().partition(|saw| saw.connection == 0)
}

fn bodies(saw: &[Saw]) -> Vec<(&str, &str)> {
    saw.iter().map(|saw| (saw.method, saw.body.as_str())).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_on_a_connection_that_is_lost_is_repeated_once_if_it_may_be() {
    for reset in [false, true] {
        let (endpoint, all) = first_does(move |mut speaking| async move {
            speaking.take_after_first(4).await;
            if reset {
                speaking.raw.0.set_zero_linger().unwrap();
            }
        })
        .await;
        let world = world(&[endpoint], UpstreamProtocol::Http2, None).await;
        let statuses = ask(&world, &all, &[("GET", ""), ("POST", "a"), ("GET", ""), ("POST", "b")]).await;
        assert_eq!(statuses, [200, 502, 200, 502], "reset: {reset}");
        let (first, later) = seen(&all);
        assert_eq!(bodies(&first), [("GET", ""), ("GET", ""), ("POST", "a"), ("POST", "b")]);
        assert_eq!(bodies(&later), [("GET", ""), ("GET", "")], "each once more");
        let line = world.logged(|line| line["status"] == 502).await;
        assert_eq!(
            (&line["error_category"], &line["retries"]),
            (&"upstream_reset".into(), &0.into()),
            "{line}"
        );
        assert_eq!(world.metric("proxy_reconnects_total"), 2);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_that_is_gone_for_good_leaves_its_requests_to_another() {
    let gone = nobody();
    let listener = TcpListener::bind(gone).await.unwrap();
    let (all, elsewhere) = (All::default(), All::default());
    let kept = all.clone();
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        drop(listener);
        let mut speaking = Speaking::begin(stream, 0, kept).await.unwrap();
        speaking.take_after_first(2).await;
    });
    let kept = elsewhere.clone();
    let other = upstream(move |stream, number| {
        let kept = kept.clone();
        async move {
            if let Some(speaking) = Speaking::begin(stream, number, kept).await {
                speaking.serve().await;
            }
        }
    })
    .await;
    let world = world(&[gone, other], UpstreamProtocol::Http2, None).await;
    let good = Good::connect(world.address).await;
    // Endpoints take turns, so that one of two requests opens each.
    for _ in 0..2 {
        assert_eq!(within(good.get("/first")).await.unwrap().status(), 200);
    }
    let post = |good: Good| async move {
        let request = Request::post("http://a.test/").body(()).unwrap();
        good.ask(request, Some("body".into())).await.unwrap().status().as_u16()
    };
    let get = |good: Good| async move { good.get("/").await.unwrap().status().as_u16() };
    let mut gets = Vec::new();
    for _ in 0..2 {
        gets.push(tokio::spawn(get(Good(good.0.clone()))));
    }
    let mut posts = Vec::new();
    for _ in 0..2 {
        posts.push(tokio::spawn(post(Good(good.0.clone()))));
    }
    let mut statuses = Vec::new();
    for answer in gets {
        statuses.push(within(answer).await.unwrap());
    }
    assert_eq!(statuses, [200, 200], "whichever they came to");
    let mut failed = 0;
    for answer in posts {
        failed += usize::from(within(answer).await.unwrap() == 502);
    }
    let (first, there) = (all.lock().unwrap().clone(), elsewhere.lock().unwrap().clone());
    let lost = first.iter().filter(|saw| saw.method == "POST").count();
    assert_eq!(failed, lost, "a POST that was lost is not repeated");
    assert_eq!(there.iter().filter(|saw| saw.method == "POST").count(), 2 - lost);
}

fn goodbye(last: u32) -> Vec<u8> {
    frame(GOAWAY, 0, 0, &[last.to_be_bytes(), [0; 4]].concat())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_came_after_the_last_of_a_goodbye_goes_elsewhere_and_the_rest_is_answered_there() {
    let (endpoint, all) = first_does(|mut speaking| async move {
        speaking.take_after_first(4).await;
        let taken = speaking.streams[1..3].to_vec();
        speaking.raw.send(&goodbye(taken[1])).await;
        // Those that it took are answered after the others have gone elsewhere.
        let others = speaking.all.clone();
        within(async {
            while others.lock().unwrap().iter().filter(|saw| saw.connection > 0).count() < 2 {
                tokio::time::sleep(std::time::Duration::from_millis(2)).await;
            }
        })
        .await;
        for stream in taken {
            speaking.answer(stream).await;
        }
        speaking.serve().await;
    })
    .await;
    let world = world(&[endpoint], UpstreamProtocol::Http2, None).await;
    let statuses = ask(
        &world,
        &all,
        &[("POST", "a"), ("GET", ""), ("POST", "c"), ("POST", "d")],
    )
    .await;
    assert_eq!(statuses, [200; 4]);
    let (first, later) = seen(&all);
    assert_eq!(first.len(), 4, "nothing is sent there after it");
    assert_eq!(bodies(&later), [("POST", "c"), ("POST", "d")], "processed once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_goodbye_took_and_a_loss_ended_may_have_been_acted_upon() {
    let (endpoint, all) = first_does(|mut speaking| async move {
        speaking.take_after_first(3).await;
        let last = speaking.streams[2];
        speaking.raw.send(&goodbye(last)).await;
        // And then it is gone, with two of the three on it.
    })
    .await;
    let world = world(&[endpoint], UpstreamProtocol::Http2, None).await;
    let statuses = ask(&world, &all, &[("POST", "a"), ("GET", ""), ("POST", "c")]).await;
    assert_eq!(statuses, [502, 200, 200]);
    let (_, later) = seen(&all);
    assert_eq!(bodies(&later), [("GET", ""), ("POST", "c")]);
}
