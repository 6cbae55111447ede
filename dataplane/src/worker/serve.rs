//! How a connection is met: who is let in, by whom it is introduced, and what is spoken on it.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;

use sluice_model::client_limits::Bounded;
use tokio::io::AsyncRead;
use tokio::net::TcpStream;

use super::accept::{Manner, Speech};
use super::connection::{Connection, Phase, Wish, cohort};
use super::crowd::Place;
use super::introduction::{self, Unserved};
use super::socket::ClientStream;
use super::{Worker, handshake, http1};
use crate::guard::rule::Rule;
use crate::http2;
use crate::http2::preface::{Begins, Rewound};
use crate::proxy;
use crate::tls::certificate::Offer;

/// A connection's place among the worker's and the instance's, given up however its task ends.
pub(super) struct Admission {
    id: u64,
    worker: Rc<Worker>,
    place: Place,
}

impl Drop for Admission {
    fn drop(&mut self) {
        self.worker.dismiss(self.id);
    }
}

/// Serves a connection until it ends.
pub(super) fn serve(worker: &Rc<Worker>, stream: TcpStream, peer: SocketAddr, manner: &Manner) {
    let introduced = manner.wants_introduction(peer.ip());
    let limits = worker.limits(cohort(peer.ip().to_canonical()));
    let mut place = match worker.crowd.enter(limits.connections.map(Bounded::get)) {
        Ok(place) => place,
        Err(rule) => return worker.turn_away(stream, peer.ip(), rule),
    };
    // Who is introduced by it is the client; a load balancer is none.
    if !introduced && let Err(rule) = place.belongs_to(peer.ip(), limits.connections_per_client.map(Bounded::get)) {
        return worker.turn_away(stream, peer.ip(), rule);
    }
    // Fails only on a connection that is dead already; the codec will notice.
    let _ = stream.set_nodelay(true);
    let phase = if introduced {
        Phase::Handshake
    } else {
        first_phase(&manner.speech)
    };
    let connection = Rc::new(Connection::new(peer.ip(), phase, limits));
    let admission = Admission {
        id: worker.admit(&connection),
        worker: worker.clone(),
        place,
    };
    if introduced {
        let speech = manner.speech.clone();
        tokio::task::spawn_local(introduce(worker.clone(), connection, stream, speech, admission));
    } else {
        speak(worker.clone(), connection, stream, &manner.speech, admission);
    }
}

/// Serves it as the client's whom its PROXY header names, or not at all.
async fn introduce(
    worker: Rc<Worker>,
    connection: Rc<Connection>,
    mut stream: TcpStream,
    speech: Speech,
    mut admission: Admission,
) {
    let connection = match introduction::hear(&mut stream).await {
        Ok(None) => {
            connection.enters(first_phase(&speech));
            connection
        }
        Ok(Some(client)) => {
            let limits = worker.limits(cohort(client.to_canonical()));
            let introduced = Rc::new(Connection::new(client, first_phase(&speech), limits));
            introduced.wish(connection.wished());
            worker.readmit(admission.id, &introduced);
            introduced
        }
        Err(Unserved::Silent) => return,
        Err(Unserved::Refused(rule)) => return proxy::respond::not_introduced(&worker, &connection, rule),
    };
    let most = connection.limits().connections_per_client.map(Bounded::get);
    if let Err(rule) = admission.place.belongs_to(connection.ip, most) {
        return worker.turn_away(stream, connection.ip, rule);
    }
    speak(worker, connection, stream, &speech, admission);
}

fn first_phase(speech: &Speech) -> Phase {
    match speech {
        Speech::Clear | Speech::ClearEither => Phase::Head,
        Speech::Tls(_) | Speech::TlsEither(_) => Phase::Handshake,
    }
}

fn speak(worker: Rc<Worker>, connection: Rc<Connection>, stream: TcpStream, speech: &Speech, admission: Admission) {
    let stream = ClientStream::new(stream, connection.clone());
    match speech {
        Speech::Clear => {
            tokio::task::spawn_local(async move { http1::serve(&worker, &connection, stream, admission).await })
        }
        Speech::ClearEither => {
            tokio::task::spawn_local(async move { drive_either(&worker, &connection, stream, admission).await })
        }
        Speech::Tls(tls) => {
            let shake = handshake::Shake::new(tls.clone(), Offer::Http1);
            tokio::task::spawn_local(async move { drive_tls(&worker, &connection, shake, stream, admission).await })
        }
        Speech::TlsEither(tls) => {
            let shake = handshake::Shake::new(tls.clone(), Offer::Either);
            tokio::task::spawn_local(async move { drive_tls(&worker, &connection, shake, stream, admission).await })
        }
    };
}

// Whatever a connection does in its life has a place of its own in its task's memory, for as long as it lasts. Most connections
// rest most of the time: so each part of its life is in a box, which is there only while it is lived.

/// What the handshake agrees upon is spoken, and nothing else.
async fn drive_tls(
    worker: &Rc<Worker>,
    connection: &Rc<Connection>,
    shake: handshake::Shake,
    stream: ClientStream,
    admission: Admission,
) {
    let Some(stream) = Box::pin(shake.perform(worker, connection, stream)).await else {
        return;
    };
    if !stream.agreed_on_http2() {
        return Box::pin(http1::serve(worker, connection, stream, admission)).await;
    }
    match Box::pin(looked_at(connection, stream)).await {
        Some((Begins::Http2, stream)) => Box::pin(http2::serve::serve(worker, connection, stream)).await,
        Some((Begins::Otherwise, stream)) => {
            http2::preface::refuse(stream).await;
            let rule = Rule::H2Preface;
            proxy::respond::refused_by_codec(worker, connection, rule.failure(), Some(rule));
        }
        None => {}
    }
    drop(admission);
}

/// HTTP/2 for who begins with its preface, and HTTP/1.1 for everybody else.
async fn drive_either(worker: &Rc<Worker>, connection: &Rc<Connection>, stream: ClientStream, admission: Admission) {
    match Box::pin(looked_at(connection, stream)).await {
        Some((Begins::Http2, stream)) => Box::pin(http2::serve::serve(worker, connection, stream)).await,
        Some((Begins::Otherwise, stream)) => {
            return Box::pin(http1::serve(worker, connection, stream, admission)).await;
        }
        None => {}
    }
    drop(admission);
}

/// How it begins; `None`: it ends before that is known. As slow as a head may be.
async fn looked_at<S>(connection: &Connection, stream: S) -> Option<(Begins, Rewound<S>)>
where
    S: AsyncRead + Unpin,
{
    let mut looking = pin!(http2::preface::look(stream));
    poll_fn(|cx| {
        connection.remember(cx.waker());
        // Who was let in before the end is served, as with HTTP/1.1.
        match connection.wished() {
            Wish::Stay | Wish::Finish if connection.gate.cut().is_none() => looking.as_mut().poll(cx).map(Result::ok),
            Wish::Stay | Wish::Finish | Wish::Abort => Poll::Ready(None),
        }
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The size of the future that a function makes, without a call of it.
    fn future_bytes<F>(_: fn(&'static Rc<Worker>, &'static Rc<Connection>, ClientStream, Admission) -> F) -> usize {
        size_of::<F>()
    }

    /// A connection at rest holds its task and no more of its life than that it waits.
    #[test]
    fn a_connection_at_rest_has_a_small_task() {
        let (task, waiting) = (future_bytes(drive_either), future_bytes(http1::serve));
        assert!(task <= 1 << 10, "{task} bytes");
        assert!(waiting <= 1 << 10, "{waiting} bytes");
    }
}
