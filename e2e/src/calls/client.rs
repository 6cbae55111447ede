//! Makes calls, and knows how each has to end.

use std::error::Error;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::uri::PathAndQuery;
use tokio_stream::StreamExt;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};
use tonic::{Code, Request, Status};

use super::service::{CALL, LARGEST, MANY, codec};

/// The kinds of calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One message there and back.
    Unary,
    /// One of 4 MiB.
    Large,
    /// An error without a message: trailers only.
    Refused,
    /// One that takes as long as it may.
    Late,
    /// Messages there, one back.
    Upward,
    /// One there, messages back and an error in the trailers.
    Downward,
    /// Each message back before the next goes there.
    Both,
}

impl Kind {
    /// Of the call with this number.
    pub fn of(call: u64) -> Self {
        match call % 100 {
            0 => Self::Large,
            1..=4 => Self::Late,
            rest => [Self::Unary, Self::Refused, Self::Upward, Self::Downward, Self::Both][rest as usize % 5],
        }
    }
}

const LARGE_BYTES: usize = 4 << 20;
const DEADLINE: Duration = Duration::from_millis(40);
/// A call that takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(20);

/// A client with a connection of its own.
#[derive(Debug)]
pub struct Caller(tonic::client::Grpc<Channel>);

impl Caller {
    /// To `host` at this address: over TLS if `authority` is given, which has signed what it shows (PEM).
    ///
    /// # Errors
    /// If there is no connection.
    pub async fn connect(address: SocketAddr, host: &str, authority: Option<&str>) -> anyhow::Result<Self> {
        let endpoint = if let Some(pem) = authority {
            let tls = ClientTlsConfig::new()
                .ca_certificate(Certificate::from_pem(pem))
                .domain_name(host);
            let endpoint = Endpoint::from_shared(format!("https://{address}"))?;
            endpoint.tls_config(tls)?.origin(format!("https://{host}").parse()?)
        } else {
            let endpoint = Endpoint::from_shared(format!("http://{address}"))?;
            endpoint.origin(format!("http://{host}").parse()?)
        };
        let client = tonic::client::Grpc::new(endpoint.connect().await?);
        Ok(Self(
            client
                .max_decoding_message_size(LARGEST)
                .max_encoding_message_size(LARGEST),
        ))
    }

    /// A call that ends as it has to; otherwise the status that it ended with.
    ///
    /// # Errors
    /// That status.
    ///
    /// # Panics
    /// If it has no end, or is answered with something else than was asked for.
    pub async fn call(&self, call: u64, kind: Kind) -> Result<(), Status> {
        let ending = tokio::time::timeout(PATIENCE, self.make(call, kind));
        ending
            .await
            .unwrap_or_else(|_| panic!("call {call} ({kind:?}) has no end"))
    }

    async fn make(&self, call: u64, kind: Kind) -> Result<(), Status> {
        match kind {
            Kind::Unary => self.echo(call, Bytes::from(format!("message of {call}"))).await,
            Kind::Large => self.echo(call, Bytes::from(vec![call as u8; LARGE_BYTES])).await,
            Kind::Refused => self.refused(call).await,
            Kind::Late => self.late(call).await,
            Kind::Upward => self.upward(call).await,
            Kind::Downward => self.downward(call).await,
            Kind::Both => self.both(call).await,
        }
    }

    async fn client(&self) -> Result<tonic::client::Grpc<Channel>, Status> {
        let mut client = self.0.clone();
        let ready = client.ready().await;
        ready.map_err(|error| Status::unknown(format!("the client's own connection: {error}")))?;
        Ok(client)
    }

    async fn echo(&self, call: u64, message: Bytes) -> Result<(), Status> {
        let request = numbered(call, Request::new(message.clone()));
        let answer = self.client().await?.unary(request, path("Echo"), codec()).await?;
        assert!(answer.into_inner() == message, "call {call}: a wrong OK");
        Ok(())
    }

    async fn refused(&self, call: u64) -> Result<(), Status> {
        let request = numbered(call, Request::new(Bytes::new()));
        let answer: Result<tonic::Response<Bytes>, _> =
            self.client().await?.unary(request, path("Refuse"), codec()).await;
        let status = answer.expect_err("a wrong OK");
        let said = status.code() == Code::FailedPrecondition && status.message() == "not so: 100 %";
        if said { Ok(()) } else { Err(status) }
    }

    async fn late(&self, call: u64) -> Result<(), Status> {
        let mut request = numbered(call, Request::new(Bytes::new()));
        request.set_timeout(DEADLINE);
        let answer: Result<tonic::Response<Bytes>, _> =
            self.client().await?.unary(request, path("Late"), codec()).await;
        let status = answer.expect_err("a wrong OK");
        // The client's own clock may be first.
        let ours = status.code() == Code::Cancelled && status.message() == "Timeout expired";
        if ours || status.code() == Code::DeadlineExceeded {
            Ok(())
        } else {
            Err(status)
        }
    }

    async fn upward(&self, call: u64) -> Result<(), Status> {
        let count = 3 + call % 10;
        let messages = tokio_stream::iter((0..count).map(|number| Bytes::from(number.to_string())));
        let request = numbered(call, Request::new(messages));
        let answer: tonic::Response<Bytes> = self
            .client()
            .await?
            .client_streaming(request, path("Count"), codec())
            .await?;
        assert_eq!(answer.into_inner(), count.to_string(), "call {call}: a wrong OK");
        Ok(())
    }

    async fn downward(&self, call: u64) -> Result<(), Status> {
        let message = Bytes::from(vec![call as u8; 5_000]);
        let request = numbered(call, Request::new(message.clone()));
        let answer = self
            .client()
            .await?
            .server_streaming(request, path("Many"), codec())
            .await?;
        let mut messages = answer.into_inner();
        let mut came = 0;
        let status = loop {
            match messages.next().await {
                Some(Ok(next)) => {
                    assert!(next == message, "call {call}: another message");
                    came += 1;
                }
                Some(Err(status)) => break status,
                None => panic!("call {call}: a wrong OK after {came} messages"),
            }
        };
        let said = status.code() == Code::DataLoss && status.message() == "in the trailers";
        assert!(!said || came == MANY, "call {call}: {came} messages and the end of all");
        if said { Ok(()) } else { Err(status) }
    }

    async fn both(&self, call: u64) -> Result<(), Status> {
        let (send, messages) = tokio::sync::mpsc::channel(1);
        let messages = tokio_stream::wrappers::ReceiverStream::new(messages);
        let request = numbered(call, Request::new(messages));
        let answer = self.client().await?.streaming(request, path("Both"), codec()).await?;
        let mut answers = answer.into_inner();
        for round in 0..10 {
            let message = Bytes::from(format!("{call} {round}"));
            if send.send(message.clone()).await.is_err() {
                // The call has ended; how says the next.
                return Err(answers.message().await.expect_err("a wrong OK"));
            }
            let came = answers.message().await?.expect("no end yet, and no error: a wrong OK");
            assert_eq!(came, message, "call {call}: another message");
        }
        drop(send);
        assert!(answers.message().await?.is_none(), "call {call}: a message too many");
        Ok(())
    }

    /// A call without an end.
    pub fn hang(&self, call: u64) -> impl Future<Output = ()> + Send + 'static {
        let mut client = self.0.clone();
        async move {
            client.ready().await.expect("a connection");
            let request = numbered(call, Request::new(Bytes::new()));
            let answer: Result<tonic::Response<Bytes>, _> = client.unary(request, path("Hang"), codec()).await;
            panic!("it has ended: {answer:?}");
        }
    }
}

fn numbered<T>(call: u64, mut request: Request<T>) -> Request<T> {
    request.metadata_mut().insert(CALL, call.into());
    request
}

fn path(name: &str) -> PathAndQuery {
    PathAndQuery::try_from(format!("/calls.Calls/{name}")).expect("a path")
}

/// Whether a call ended because its connection was closing in order, and did not take it: by `GOAWAY` (RFC 9113 §6.8), or before
/// it was sent. Whoever serves may still have seen it; ask that too.
pub fn was_not_taken(status: &Status) -> bool {
    let causes = || std::iter::successors(Some(status as &(dyn Error + 'static)), |error| (*error).source());
    let said_so =
        |error: &h2::Error| error.is_go_away() && error.is_remote() && error.reason() == Some(h2::Reason::NO_ERROR);
    let mut by_http2 = causes().filter_map(|cause| cause.downcast_ref::<h2::Error>());
    let mut by_library = causes().filter_map(|cause| cause.downcast_ref::<hyper::Error>());
    by_http2.any(said_so) || by_library.any(hyper::Error::is_canceled)
}
