//! The delivery stream: gRPC over mutual TLS, one stream per instance.
//!
//! Who is connected is what its certificate says; whoever has none of this authority, or one of another cluster, or is
//! not on the [`Register`], is refused. Only a controller that leads listens; another says who does. What instances say
//! becomes [`StreamEvent`]s, in order. What is sent to an instance waits in a bounded queue; an instance that does not
//! read it is cut off and may come back. Decisions are made elsewhere.
//!
//! The same port lets instances enrol (`enrol`): the one call without a client certificate.

pub mod identity;
pub mod link;
pub mod port;
mod services;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use sluice_model::limits::{
    MAX_ENROL_REQUEST_BYTES, MAX_ENROL_RESPONSE_BYTES, MAX_STREAM_MESSAGE_BYTES, STREAM_HELLO_WAIT_MS,
    STREAM_KEEPALIVE_MS, STREAM_QUEUE_MESSAGES, STREAM_SEND_WAIT_MS,
};
use sluice_model::{ClusterId, Digest, FleetName, InstanceId, Name};
use sluice_proto::pb;
use sluice_proto::pb::delivery_server::{Delivery, DeliveryServer};
use sluice_proto::pb::enrolment_server::EnrolmentServer;
use sluice_proto::{Downward, Hello, Upward, UpwardMessage};
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;
use tonic::{Code, Request, Response, Status, Streaming};

use crate::enrol::Enrolment;
use crate::pki::Peer;
use crate::register::{self, Register};
use crate::revisions;
pub use link::{Link, LinkId};
pub use port::{Port, TlsFailure};
use services::Services;

/// Something that happened on a stream.
#[derive(Debug)]
pub enum StreamEvent {
    /// An instance said hello.
    Opened {
        /// Of which fleet, as its certificate says.
        fleet: FleetName,
        /// Who, as its certificate says.
        instance: InstanceId,
        /// The namespace of its pod, as its certificate says; `None` without a cluster.
        namespace: Option<Name>,
        /// What it says that it holds.
        hello: Box<Hello>,
        /// The way to it.
        link: Link,
    },
    /// It said something else.
    Said {
        /// Of which fleet.
        fleet: FleetName,
        /// Who.
        instance: InstanceId,
        /// Over which stream.
        link: LinkId,
        /// What. Never a hello or a request for sections.
        message: Box<UpwardMessage>,
    },
    /// An instance of this cluster was not let in.
    TurnedAway {
        /// Of which fleet, as its certificate says.
        fleet: FleetName,
        /// Who, as its certificate says.
        instance: InstanceId,
        /// Why, and what to do.
        why: String,
    },
    /// An instance needs a section that is not here any more.
    SectionLost {
        /// Of which fleet.
        fleet: FleetName,
    },
    /// The stream ended.
    Closed {
        /// Of which fleet.
        fleet: FleetName,
        /// Whose.
        instance: InstanceId,
        /// Which.
        link: LinkId,
    },
}

/// Serves the delivery stream and enrolment on `port` until `stop`.
///
/// # Errors
/// When the server fails as a whole.
pub async fn serve(
    port: Port,
    desk: Desk,
    enrolment: Enrolment,
    stop: CancellationToken,
) -> Result<(), tonic::transport::Error> {
    let keepalive = Duration::from_millis(STREAM_KEEPALIVE_MS);
    let delivery = DeliveryServer::new(desk)
        .max_decoding_message_size(MAX_STREAM_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_STREAM_MESSAGE_BYTES);
    let enrolment = EnrolmentServer::new(enrolment)
        .max_decoding_message_size(MAX_ENROL_REQUEST_BYTES)
        .max_encoding_message_size(MAX_ENROL_RESPONSE_BYTES);
    Server::builder()
        .http2_keepalive_interval(Some(keepalive))
        .http2_keepalive_timeout(Some(keepalive))
        .max_concurrent_streams(1)
        .serve_with_incoming_shutdown(
            Services { delivery, enrolment },
            port.open(stop.clone()),
            stop.cancelled_owned(),
        )
        .await
}

/// What a desk does with instances that say hello.
#[derive(Clone, Debug)]
pub enum Post {
    /// It listens to them.
    Leads(mpsc::Sender<StreamEvent>),
    /// It says who does.
    Follows {
        /// Where the leader's stream is; `None`: nobody leads right now, or nobody knows.
        leader: Option<String>,
    },
}

impl Post {
    /// One that never changes: there is one controller, and instances are heard by `events`. When it is full, instances
    /// are read more slowly.
    pub fn alone(events: mpsc::Sender<StreamEvent>) -> watch::Receiver<Self> {
        watch::channel(Self::Leads(events)).1
    }
}

/// Answers instances.
#[derive(Clone, Debug)]
pub struct Desk {
    /// Which cluster's certificates are good.
    pub cluster: ClusterId,
    /// The state folder, for sections.
    pub state: PathBuf,
    /// What to do with whoever says hello. A stream lasts as long as what was so when it began.
    pub post: watch::Receiver<Post>,
    /// Who may be an instance; `None`: whoever has a certificate of ours.
    pub register: Option<Arc<dyn Register>>,
    /// Ends every stream.
    pub stop: CancellationToken,
    /// Numbers the streams.
    pub next: Arc<AtomicU64>,
}

#[tonic::async_trait]
impl Delivery for Desk {
    type ConnectStream = ReceiverStream<Result<pb::Downward, Status>>;

    async fn connect(&self, request: Request<Streaming<pb::Upward>>) -> Result<Response<Self::ConnectStream>, Status> {
        let peer = identity::of_peer(request.peer_certs().as_deref().map(Vec::as_slice), &self.cluster)?;
        let mut post = self.post.clone();
        let events = match post.borrow_and_update().clone() {
            Post::Leads(events) => events,
            Post::Follows { leader } => return Ok(Response::new(elsewhere(leader))),
        };
        if let Some(register) = &self.register {
            let admitted = register::admit(register.as_ref(), &peer).await;
            if let Err(status) = &admitted {
                turned_away(&events, &peer, status).await;
            }
            admitted?;
        }
        let (queue, sent) = mpsc::channel(STREAM_QUEUE_MESSAGES);
        let link = Link::new(
            LinkId(self.next.fetch_add(1, Ordering::Relaxed)),
            queue,
            self.stop.child_token(),
        );
        let conversation = Conversation {
            desk: self.clone(),
            peer,
            events,
            link,
            heard: request.into_inner(),
        };
        tokio::spawn(conversation.hold(post));
        Ok(Response::new(ReceiverStream::new(sent)))
    }
}

/// Has it known that `peer` was not let in, if that is not only for now.
async fn turned_away(events: &mpsc::Sender<StreamEvent>, peer: &Peer, status: &Status) {
    if status.code() != Code::PermissionDenied {
        return;
    }
    let turned_away = StreamEvent::TurnedAway {
        fleet: peer.identity.fleet.clone(),
        instance: peer.identity.instance.clone(),
        why: status.message().to_owned(),
    };
    let _ = events.send(turned_away).await; // the controller leads no more
}

/// All that a controller says that does not lead.
fn elsewhere(leader: Option<String>) -> ReceiverStream<Result<pb::Downward, Status>> {
    let (queue, sent) = mpsc::channel(1);
    let hint = Downward::NotLeader { address: leader };
    // It has room for one.
    let _ = queue.try_send(Ok((&hint).into()));
    ReceiverStream::new(sent)
}

/// Until this controller does something else than when the stream began; then what to say to the instance.
async fn relieved(mut post: watch::Receiver<Post>) -> Downward {
    if post.changed().await.is_err() {
        std::future::pending::<()>().await; // it is what it is for good
    }
    let leader = match &*post.borrow() {
        Post::Leads(_) => None,
        Post::Follows { leader } => leader.clone(),
    };
    Downward::NotLeader { address: leader }
}

/// One stream.
struct Conversation {
    desk: Desk,
    peer: Peer,
    events: mpsc::Sender<StreamEvent>,
    link: Link,
    heard: Streaming<pb::Upward>,
}

impl Conversation {
    /// From hello to the end. Whatever ends it, it is said once.
    async fn hold(mut self, post: watch::Receiver<Post>) {
        let cut = self.link.ended();
        let link = self.link.clone();
        let spoken = tokio::select! {
            () = cut.cancelled() => Ok(()),
            hint = relieved(post) => {
                let _ = link.send(&hint);
                Ok(())
            }
            () = link.keep_moving() => Ok(()), // it does not read
            spoken = self.speak() => spoken,
        };
        if let Err(status) = spoken {
            tracing::info!(instance = %self.peer.identity.instance, fleet = %self.peer.identity.fleet, %status, "stream refused");
            self.link.refuse(status);
        }
        self.link.cut();
        let closed = StreamEvent::Closed {
            fleet: self.peer.identity.fleet,
            instance: self.peer.identity.instance,
            link: self.link.id(),
        };
        // Nobody listens any more: the controller is going down, or does not lead any more.
        let _ = self.events.send(closed).await;
    }

    async fn speak(&mut self) -> Result<(), Status> {
        let wait = Duration::from_millis(STREAM_HELLO_WAIT_MS);
        let first = timeout(wait, self.hear())
            .await
            .map_err(|_| Status::deadline_exceeded("no hello"))??;
        match first {
            Some(UpwardMessage::Hello(hello)) => {
                let opened = StreamEvent::Opened {
                    fleet: self.peer.identity.fleet.clone(),
                    instance: self.peer.identity.instance.clone(),
                    namespace: self.peer.workload.as_ref().map(|workload| workload.namespace.clone()),
                    hello: Box::new(hello),
                    link: self.link.clone(),
                };
                self.tell(opened).await?;
            }
            Some(
                UpwardMessage::Ack(_)
                | UpwardMessage::Nack(_)
                | UpwardMessage::Want(_)
                | UpwardMessage::Report(_)
                | UpwardMessage::LiveRefused(_)
                | UpwardMessage::Manifest { .. }
                | UpwardMessage::Section { .. },
            ) => return Err(Status::failed_precondition("the first message of a stream is hello")),
            None => return Ok(()),
        }
        while let Some(message) = self.hear().await? {
            self.attend(message).await?;
        }
        Ok(())
    }

    /// The next message; `None` at the end.
    async fn hear(&mut self) -> Result<Option<UpwardMessage>, Status> {
        let Some(proto) = self.heard.message().await? else {
            return Ok(None);
        };
        let Upward { instance, message } =
            Upward::try_from(proto).map_err(|error| Status::invalid_argument(error.to_string()))?;
        if instance != self.peer.identity.instance {
            return Err(Status::permission_denied(format!(
                "the certificate is for {}, the message says {instance}",
                self.peer.identity.instance
            )));
        }
        if let Some(register) = &self.desk.register {
            register::belongs(register.as_ref(), &self.peer)?;
        }
        Ok(Some(message))
    }

    async fn attend(&mut self, message: UpwardMessage) -> Result<(), Status> {
        match message {
            UpwardMessage::Hello(_) => Err(Status::failed_precondition("hello is said once")),
            UpwardMessage::Want(digests) => self.hand_out(&digests).await,
            UpwardMessage::Manifest { .. } | UpwardMessage::Section { .. } if !self.link.is_awaited() => {
                Err(Status::failed_precondition("nobody asked for what is handed back"))
            }
            UpwardMessage::Ack(_)
            | UpwardMessage::Nack(_)
            | UpwardMessage::Report(_)
            | UpwardMessage::LiveRefused(_)
            | UpwardMessage::Manifest { .. }
            | UpwardMessage::Section { .. } => {
                let said = StreamEvent::Said {
                    fleet: self.peer.identity.fleet.clone(),
                    instance: self.peer.identity.instance.clone(),
                    link: self.link.id(),
                    message: Box::new(message),
                };
                self.tell(said).await
            }
        }
    }

    /// Sends sections as fast as the instance takes them. One that is not here is passed over: the instance asks again
    /// or refuses the order.
    async fn hand_out(&self, digests: &[Digest]) -> Result<(), Status> {
        for digest in digests {
            let Some(wire) = revisions::section(&self.desk.state, &self.peer.identity.fleet, digest) else {
                tracing::warn!(instance = %self.peer.identity.instance, section = %digest, "asked for a section that is not here");
                let fleet = self.peer.identity.fleet.clone();
                self.tell(StreamEvent::SectionLost { fleet }).await?;
                continue;
            };
            let section = Downward::Section { digest: *digest, wire };
            let wait = Duration::from_millis(STREAM_SEND_WAIT_MS);
            self.link
                .send_slowly(&section, wait)
                .await
                .map_err(|_| Status::resource_exhausted("reads too slowly"))?;
        }
        Ok(())
    }

    async fn tell(&self, event: StreamEvent) -> Result<(), Status> {
        let told = self.events.send(event).await;
        told.map_err(|_| Status::unavailable("the controller is going down, or does not lead any more"))
    }
}
