//! The HTTP/2 connections of one worker, by place. A request goes to the first that has room, so that the rest can end; when
//! none has, one more is opened, by a task of its own for whoever waits: a hundred requests at once open one, not a hundred.
//! Where there may not be another one, those of other workers are asked (`lent`).

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sluice_model::limits::{UPSTREAM_CHOICE_SECONDS, UPSTREAM_HTTP2_CONNECTIONS_MAX};
use tokio::sync::watch;

use super::dial::{self, Spoken, Unreached};
use super::http2::{Connection, Slot};
use super::quota::Quota;
use super::socket::Socket;
use super::way::Way;
use crate::pool::transport::Place;
use crate::tls::upstream::Offer;
use crate::worker::Worker;

/// What becomes of an attempt to open a connection; `None` as long as it lasts.
pub(super) type Opening = watch::Receiver<Option<Result<(), Unreached>>>;

/// Those of one place.
#[derive(Default)]
struct Group {
    connections: Vec<Arc<Connection>>,
    opening: Option<Opening>,
    /// A connection on which the endpoint chose HTTP/1.1, for whoever comes first.
    http1: Option<Socket>,
    /// When it did.
    chose_http1: Option<Instant>,
}

/// All of one worker.
#[derive(Default)]
pub(crate) struct Multiplexed {
    groups: RefCell<HashMap<Place, Group>>,
}

/// What a request can be sent over.
pub(crate) enum Got {
    /// A stream of HTTP/2.
    Stream(Slot),
    /// A connection of HTTP/1.1, which the endpoint chose.
    Http1(Socket),
}

/// What a group has for a request now.
enum Has {
    Got(Got),
    Opening(Opening),
    /// It has no room, but for another connection.
    Nothing,
    /// It has as many connections as it may.
    Full,
}

impl Group {
    fn look(&mut self, avoid: Option<&Arc<Connection>>) -> Has {
        if let Some(socket) = self.http1.take() {
            return Has::Got(Got::Http1(socket));
        }
        self.connections.retain(|connection| !connection.is_leaving());
        let avoided = |connection: &Arc<Connection>| avoid.is_some_and(|avoid| Arc::ptr_eq(avoid, connection));
        let mut others = self.connections.iter().filter(|connection| !avoided(connection));
        if let Some(slot) = others.find_map(Connection::slot_if_free) {
            return Has::Got(Got::Stream(slot));
        }
        if self.connections.len() < UPSTREAM_HTTP2_CONNECTIONS_MAX {
            return self.opening.clone().map_or(Has::Nothing, Has::Opening);
        }
        Has::Full
    }

    /// A stream of the connection with the fewest, where the request waits until another one has ended.
    fn shared(&self) -> Option<Slot> {
        let connection = self.connections.iter().min_by_key(|connection| connection.streams())?;
        Some(connection.slot_in_turn())
    }

    /// Lets go of what rests, for requests that wait elsewhere.
    fn give_up(&mut self) {
        self.connections
            .retain(|connection| connection.streams() > 0 || !(connection.is_leaving() || connection.is_claimed()));
        self.http1 = self.http1.take().filter(|socket| !socket.terms().is_claimed());
    }
}

impl Multiplexed {
    /// Whether the endpoint, which may choose, has chosen HTTP/1.1 not long ago.
    pub(crate) fn chose_http1(&self, place: Place) -> bool {
        let groups = self.groups.borrow();
        let chose = groups.get(&place).and_then(|group| group.chose_http1);
        chose.is_some_and(|at| at.elapsed() < Duration::from_secs(UPSTREAM_CHOICE_SECONDS))
    }

    /// What a request can be sent over; not over `avoid`, if it can be helped.
    pub(crate) async fn get(
        worker: &Rc<Worker>,
        way: &Way,
        offer: Offer,
        avoid: Option<&Arc<Connection>>,
    ) -> Result<Got, Unreached> {
        way.in_time(Self::find(worker, way, offer, avoid)).await
    }

    async fn find(
        worker: &Rc<Worker>,
        way: &Way,
        offer: Offer,
        avoid: Option<&Arc<Connection>>,
    ) -> Result<Got, Unreached> {
        let place = way.place;
        if let Some(slot) = way.kept_slot() {
            return Ok(Got::Stream(slot));
        }
        loop {
            let has = worker
                .multiplexed
                .groups
                .borrow_mut()
                .entry(place)
                .or_default()
                .look(avoid);
            let (may_open, opening) = match has {
                Has::Got(got) => {
                    way.give_up();
                    return Ok(got);
                }
                Has::Opening(opening) => (false, Some(opening)),
                Has::Nothing => (true, None),
                Has::Full => (false, None),
            };
            let quota = way.quota(&worker.quotas);
            let open = || open(worker, way, offer, quota.as_deref());
            let mut opening = match &quota {
                None if may_open => open()?,
                None => match opening {
                    Some(opening) => opening,
                    None => return worker.multiplexed.shared(place).ok_or(Unreached::Full),
                },
                Some(quota) => {
                    // One of one's own is for the next, if another worker's has room.
                    let opening = opening.or_else(|| open_if(may_open, open));
                    if let Some(slot) = quota.lent.slot(avoid) {
                        return Ok(Got::Stream(slot));
                    }
                    // One that goes away has made room by now; and one of another worker's is for all.
                    let opening = opening.or_else(|| open_if(may_open, open));
                    opening.or_else(|| quota.lent.opening()).ok_or(Unreached::Full)?
                }
            };
            // Ends without a result only with the worker.
            let opened = match opening.wait_for(Option::is_some).await {
                Ok(result) => result.clone(),
                Err(_) => None,
            };
            match opened {
                Some(Ok(())) => {}
                Some(Err(unreached)) => {
                    let slot = quota.and_then(|quota| quota.lent.slot(avoid));
                    return slot.map(Got::Stream).ok_or(unreached);
                }
                None => return Err(Unreached::Http2("the worker ends".into())),
            }
            if worker.multiplexed.chose_http1(place) {
                return own(worker, way).await;
            }
        }
    }

    /// Lets go of connections that have rested for as long as they may, and of those that ended.
    pub(crate) fn prune(&self, now: Instant) {
        self.groups.borrow_mut().retain(|_, group| {
            group
                .connections
                .retain(|connection| !connection.is_leaving() && !connection.has_rested(now));
            let chose = group.chose_http1.map(|at| now.saturating_duration_since(at));
            let remembered = chose.is_some_and(|ago| ago < Duration::from_secs(UPSTREAM_CHOICE_SECONDS));
            group.http1 = None;
            !group.connections.is_empty() || group.opening.is_some() || remembered
        });
    }

    /// Lets go of connections at rest, as many as requests wait for elsewhere.
    pub(crate) fn give_up(&self) {
        self.groups.borrow_mut().values_mut().for_each(Group::give_up);
    }

    /// Lets go of those to one address, which is out of service; what is on them goes on.
    pub(crate) fn forget(&self, address: &SocketAddr) {
        self.groups.borrow_mut().retain(|place, _| place.address != *address);
    }

    /// A stream of a connection that there is, where the request waits for its turn.
    fn shared(&self, place: Place) -> Option<Got> {
        let slot = self.groups.borrow().get(&place)?.shared()?;
        Some(Got::Stream(slot))
    }

    fn take_http1(&self, place: Place) -> Option<Socket> {
        self.groups.borrow_mut().get_mut(&place)?.http1.take()
    }

    fn settle(&self, place: Place, opened: Result<Opened, Unreached>) -> Result<(), Unreached> {
        let mut groups = self.groups.borrow_mut();
        let group = groups.entry(place).or_default();
        group.opening = None;
        match opened? {
            Opened::Http2(connection) => {
                group.chose_http1 = None;
                if let Some(quota) = connection.quota() {
                    quota.lent.add(&connection);
                }
                group.connections.push(connection);
            }
            Opened::Http1(socket) => {
                group.chose_http1 = Some(Instant::now());
                group.http1 = Some(socket);
            }
        }
        Ok(())
    }
}

enum Opened {
    Http1(Socket),
    Http2(Arc<Connection>),
}

/// Begins to open a connection, if that may be and there may be one more.
fn open_if(may: bool, open: impl Fn() -> Result<Opening, Unreached>) -> Option<Opening> {
    if may { open().ok() } else { None }
}

/// Begins to open a connection. Whoever began it may leave; it is for all who wait.
fn open(worker: &Rc<Worker>, way: &Way, offer: Offer, quota: Option<&Quota>) -> Result<Opening, Unreached> {
    let place = way.place;
    let begin = || -> Result<_, Unreached> {
        let permit = way.permit(&worker.quotas)?;
        let (tell, opening) = watch::channel(None);
        Ok(((permit, tell), opening))
    };
    let ((permit, tell), opening) = match quota {
        Some(quota) => quota.lent.opens(begin)?,
        None => begin()?,
    };
    let mut groups = worker.multiplexed.groups.borrow_mut();
    groups.entry(place).or_default().opening = Some(opening.clone());
    let (worker, transport) = (worker.clone(), way.transport.clone());
    tokio::task::spawn_local(async move {
        let opened = async {
            match dial::permitted(&worker, place.address, &transport, permit, offer).await? {
                (socket, Spoken::Http1) => Ok(Opened::Http1(socket)),
                (socket, Spoken::Http2) => Connection::begin(socket, offer).await.map(Opened::Http2),
            }
        };
        let settled = worker.multiplexed.settle(place, opened.await);
        if tell.send(Some(settled)).is_err() {
            // Nobody waits for it any more, and nobody else would know of one that serves a single request.
            drop(worker.multiplexed.take_http1(place));
        }
    });
    Ok(opening)
}

/// The connection of HTTP/1.1 that was opened, or one of one's own.
async fn own(worker: &Rc<Worker>, way: &Way) -> Result<Got, Unreached> {
    if let Some(socket) = worker.multiplexed.take_http1(way.place) {
        return Ok(Got::Http1(socket));
    }
    let (socket, _) = dial::open(worker, way, Offer::Http1).await?;
    Ok(Got::Http1(socket))
}
