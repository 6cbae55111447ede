//! A watch against an API server that answers as it is told, over a socket: what the list and each watch say, one after the
//! other, and what is told of it.

use std::collections::VecDeque;
use std::convert::Infallible;

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use sluice_model::Kind;
use tokio::net::TcpListener;

use super::*;

/// What the server answers to one request.
enum Answer {
    /// To a list: these objects, at this version.
    List(u64, Vec<Value>),
    /// To a watch: these events, and then nothing more.
    Events(Vec<Value>),
    /// Either: this status.
    Refused(u16),
}

fn pool(name: &str, version: u64) -> Value {
    json!({"apiVersion": "sluice.dev/v1alpha1", "kind": "Pool", "spec": {"endpoints": "odd"},
           "metadata": {"name": name, "namespace": "shop", "uid": name, "resourceVersion": version.to_string()}})
}

fn status(code: u16) -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": "", "message": "so it is"})
}

fn respond(answer: Answer) -> Response<UnsyncBoxBody<Bytes, Infallible>> {
    let whole = |body: Value| Full::new(Bytes::from(body.to_string())).boxed_unsync();
    let (code, body) = match answer {
        Answer::Refused(code) => (code, whole(status(code))),
        Answer::List(version, items) => {
            let metadata = json!({"resourceVersion": version.to_string()});
            (
                200,
                whole(json!({"apiVersion": "v1", "kind": "List", "metadata": metadata, "items": items})),
            )
        }
        Answer::Events(events) => {
            let lines = events
                .into_iter()
                .map(|event| Ok(Frame::data(Bytes::from(format!("{event}\n")))));
            let open = futures::stream::iter(lines).chain(futures::stream::pending());
            (200, StreamBody::new(open).boxed_unsync())
        }
    };
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_u16(code).unwrap();
    response
}

/// A server that gives these answers in turn, and what was asked of it.
async fn server(answers: Vec<Answer>) -> (Client, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (answers, asked) = (Arc::new(Mutex::new(VecDeque::from(answers))), Arc::default());
    let record: Arc<Mutex<Vec<String>>> = Arc::clone(&asked);
    tokio::spawn(async move {
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            let (answers, record) = (Arc::clone(&answers), Arc::clone(&record));
            let service = service_fn(move |request: Request<Incoming>| {
                record
                    .lock()
                    .unwrap()
                    .push(request.uri().query().unwrap_or_default().to_owned());
                let next = answers.lock().unwrap().pop_front();
                let next = next.unwrap_or(Answer::Events(vec![]));
                async move { Ok::<_, Infallible>(respond(next)) }
            });
            tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(socket), service));
        }
    });
    let mut config = kube::Config::new(format!("http://{address}").parse().unwrap());
    // kube would wait seconds before it says that a server is busy.
    config.default_retry = false;
    (Client::try_from(config).unwrap(), asked)
}

/// What a watch of Pools tells, up to the first object that is called `last`.
async fn told(answers: Vec<Answer>, last: &str) -> (Vec<String>, Vec<String>) {
    let (client, asked) = server(answers).await;
    let (tell, mut heard) = mpsc::channel(64);
    let (_anew, begin_anew) = watch::channel(0);
    let line = Line {
        client,
        told: tell,
        anew: begin_anew,
    };
    let watch = Watch {
        watched: Watched::Object(Kind::Pool),
        namespace: Some("shop".parse().unwrap()),
    };
    let following = tokio::spawn(kind(line, watch));
    let mut all = Vec::new();
    while all.last().is_none_or(|told: &String| !told.ends_with(last)) {
        let Some(Told::Watch(_, heard)) = heard.recv().await else {
            panic!("{all:?}")
        };
        all.push(match heard {
            Heard::ListBegins => "begins".to_owned(),
            Heard::ListEnds => "ends".to_owned(),
            Heard::Listed(sighting) => format!("listed {}", sighting.place.1),
            Heard::Changed(sighting) => format!("changed {}", sighting.place.1),
            Heard::Deleted(sighting) => format!("deleted {}", sighting.place.1),
            Heard::Failed(trouble) => format!("{trouble:?}"),
        });
    }
    following.abort();
    let asked = asked.lock().unwrap().clone();
    (all, asked)
}

#[tokio::test]
async fn what_has_expired_is_listed_anew_in_whichever_form_that_is_said() {
    let (told, asked) = told(
        vec![
            Answer::List(5, vec![pool("a", 4)]),
            Answer::Refused(410),
            Answer::List(9, vec![pool("b", 8)]),
            Answer::Events(vec![json!({"type": "ERROR", "object": status(410)})]),
            Answer::List(12, vec![]),
            Answer::Events(vec![
                json!({"type": "DELETED", "object": pool("b", 13)}),
                json!({"type": "ADDED", "object": pool("c", 14)}),
            ]),
        ],
        "changed c",
    )
    .await;
    assert_eq!(
        told,
        [
            "begins",
            "listed a",
            "ends",
            "Expired",
            "begins",
            "listed b",
            "ends",
            "Expired",
            "begins",
            "ends",
            "deleted b",
            "changed c",
        ]
    );
    let watches: Vec<bool> = asked.iter().map(|query| query.contains("watch=true")).collect();
    assert_eq!(watches, [false, true, false, true, false, true], "{asked:?}");
    for query in asked.iter().filter(|query| query.contains("watch=true")) {
        assert!(
            query.contains("timeoutSeconds=60") && query.contains("allowWatchBookmarks=true"),
            "{query}"
        );
    }
}

#[tokio::test]
async fn a_server_that_is_busy_is_waited_for_and_the_watch_goes_on_where_it_was() {
    let (told, asked) = told(
        vec![
            Answer::Refused(429),
            Answer::List(5, vec![pool("a", 4)]),
            Answer::Refused(503),
            Answer::Events(vec![json!({"type": "MODIFIED", "object": pool("a", 6)})]),
        ],
        "changed a",
    )
    .await;
    assert_eq!(
        told,
        ["begins", "Busy", "begins", "listed a", "ends", "Busy", "changed a"]
    );
    assert_eq!(asked.len(), 4, "{asked:?}");
    assert!(asked[3].contains("resourceVersion=5"), "{asked:?}");
}
