//! The delivery stream: gRPC over mutual TLS, one stream per instance.
//!
//! Who is connected is what its certificate says; whoever has none of this authority, or one of another cluster, is
//! refused. What instances say becomes [`StreamEvent`]s, in order. What is sent to an instance waits in a bounded
//! queue; an instance that does not read it is cut off and may come back. Decisions are made elsewhere.

pub mod identity;
pub mod link;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use sluice_model::limits::{
    MAX_STREAM_MESSAGE_BYTES, STREAM_HELLO_WAIT_MS, STREAM_KEEPALIVE_MS, STREAM_QUEUE_MESSAGES, STREAM_SEND_WAIT_MS,
};
use sluice_model::{ClusterId, Digest, FleetName, InstanceId};
use sluice_proto::pb;
use sluice_proto::pb::delivery_server::{Delivery, DeliveryServer};
use sluice_proto::{Downward, Hello, Upward, UpwardMessage};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Certificate, Server, ServerTlsConfig};
use tonic::{Request, Response, Status, Streaming};

use crate::pki::{Identity, Pki};
use crate::revisions;
pub use link::{Link, LinkId};

/// Something that happened on a stream.
#[derive(Debug)]
pub enum StreamEvent {
    /// An instance said hello.
    Opened {
        /// Of which fleet, as its certificate says.
        fleet: FleetName,
        /// Who, as its certificate says.
        instance: InstanceId,
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

/// Serves the delivery stream on `listener` until `stop`.
///
/// # Errors
/// When TLS cannot be set up or the listener fails.
pub async fn serve(
    listener: TcpListener,
    pki: &Pki,
    desk: Desk,
    stop: CancellationToken,
) -> Result<(), tonic::transport::Error> {
    let server = pki.server();
    let tls = ServerTlsConfig::new()
        .identity(tonic::transport::Identity::from_pem(&server.certificate, &server.key))
        .client_ca_root(Certificate::from_pem(pki.authority().certificate()))
        .timeout(Duration::from_millis(STREAM_HELLO_WAIT_MS));
    let keepalive = Duration::from_millis(STREAM_KEEPALIVE_MS);
    let service = DeliveryServer::new(desk)
        .max_decoding_message_size(MAX_STREAM_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_STREAM_MESSAGE_BYTES);
    Server::builder()
        .tls_config(tls)?
        .http2_keepalive_interval(Some(keepalive))
        .http2_keepalive_timeout(Some(keepalive))
        .max_concurrent_streams(1)
        .serve_with_incoming_shutdown(
            service,
            TcpIncoming::from(listener).with_nodelay(Some(true)),
            stop.cancelled_owned(),
        )
        .await
}

/// Answers instances.
#[derive(Clone, Debug)]
pub struct Desk {
    /// Which cluster's certificates are good.
    pub cluster: ClusterId,
    /// The state folder, for sections.
    pub state: PathBuf,
    /// Where events go. When it is full, instances are read more slowly.
    pub events: mpsc::Sender<StreamEvent>,
    /// Ends every stream.
    pub stop: CancellationToken,
    /// Numbers the streams.
    pub next: Arc<AtomicU64>,
}

#[tonic::async_trait]
impl Delivery for Desk {
    type ConnectStream = ReceiverStream<Result<pb::Downward, Status>>;

    async fn connect(&self, request: Request<Streaming<pb::Upward>>) -> Result<Response<Self::ConnectStream>, Status> {
        let identity = identity::of_peer(request.peer_certs().as_deref().map(Vec::as_slice), &self.cluster)?;
        let (queue, sent) = mpsc::channel(STREAM_QUEUE_MESSAGES);
        let link = Link::new(
            LinkId(self.next.fetch_add(1, Ordering::Relaxed)),
            queue,
            self.stop.child_token(),
        );
        let conversation = Conversation {
            desk: self.clone(),
            identity,
            link,
            heard: request.into_inner(),
        };
        tokio::spawn(conversation.hold());
        Ok(Response::new(ReceiverStream::new(sent)))
    }
}

/// One stream.
struct Conversation {
    desk: Desk,
    identity: Identity,
    link: Link,
    heard: Streaming<pb::Upward>,
}

impl Conversation {
    /// From hello to the end. Whatever ends it, it is said once.
    async fn hold(mut self) {
        let cut = self.link.ended();
        let spoken = tokio::select! {
            () = cut.cancelled() => Ok(()),
            spoken = self.speak() => spoken,
        };
        if let Err(status) = spoken {
            tracing::info!(instance = %self.identity.instance, fleet = %self.identity.fleet, %status, "stream refused");
            self.link.refuse(status);
        }
        self.link.cut();
        let closed = StreamEvent::Closed {
            fleet: self.identity.fleet,
            instance: self.identity.instance,
            link: self.link.id(),
        };
        // Nobody listens any more: the controller is going down.
        let _ = self.desk.events.send(closed).await;
    }

    async fn speak(&mut self) -> Result<(), Status> {
        let wait = Duration::from_millis(STREAM_HELLO_WAIT_MS);
        let first = timeout(wait, self.hear())
            .await
            .map_err(|_| Status::deadline_exceeded("no hello"))??;
        match first {
            Some(UpwardMessage::Hello(hello)) => {
                let opened = StreamEvent::Opened {
                    fleet: self.identity.fleet.clone(),
                    instance: self.identity.instance.clone(),
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
        if instance != self.identity.instance {
            return Err(Status::permission_denied(format!(
                "the certificate is for {}, the message says {instance}",
                self.identity.instance
            )));
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
            | UpwardMessage::Manifest { .. }
            | UpwardMessage::Section { .. } => {
                let said = StreamEvent::Said {
                    fleet: self.identity.fleet.clone(),
                    instance: self.identity.instance.clone(),
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
            let Some(wire) = revisions::section(&self.desk.state, &self.identity.fleet, digest) else {
                tracing::warn!(instance = %self.identity.instance, section = %digest, "asked for a section that is not here");
                let fleet = self.identity.fleet.clone();
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
        let told = self.desk.events.send(event).await;
        told.map_err(|_| Status::unavailable("the controller is going down"))
    }
}
