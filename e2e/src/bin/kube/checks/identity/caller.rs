//! Whoever calls the replica, with whatever credentials.

use std::time::Duration;

use rcgen::{CertificateParams, KeyPair};
use sluice_model::InstanceId;
use sluice_proto::pb::delivery_client::DeliveryClient;
use sluice_proto::pb::enrolment_client::EnrolmentClient;
use sluice_proto::{Hello, Report, Upward, UpwardMessage, pb};
use tokio::sync::mpsc;
use tonic::Status;
use tonic::codegen::tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

use super::replica::Replica;

const PATIENCE: Duration = Duration::from_secs(20);

/// What a caller shows.
#[derive(Clone)]
pub(super) enum Shown {
    Nothing,
    /// A certificate and its key, as PEM.
    Pair(String, String),
}

/// What an enrolment gave.
pub(super) struct Given {
    pub(super) instance: String,
    pub(super) fleet: String,
    certificate: String,
    key: String,
}

impl std::fmt::Debug for Given {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Given({} of {})", self.instance, self.fleet)
    }
}

impl Given {
    pub(super) fn shown(&self) -> Shown {
        Shown::Pair(self.certificate.clone(), self.key.clone())
    }
}

impl Replica {
    fn channel(&self, shown: &Shown) -> Result<Channel, Status> {
        let tls = ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(self.ca()))
            .domain_name(sluice_controller::pki::SERVER_NAME);
        let tls = match shown {
            Shown::Nothing => tls,
            Shown::Pair(certificate, key) => tls.identity(Identity::from_pem(certificate, key)),
        };
        let unusable = |error: tonic::transport::Error| Status::internal(error.to_string());
        let endpoint = Endpoint::from_shared(format!("https://{}", self.address)).map_err(unusable)?;
        Ok(endpoint.tls_config(tls).map_err(unusable)?.connect_lazy())
    }

    pub(super) async fn enrol(&self, shown: Shown, token: &str) -> Result<Given, Status> {
        let unusable = |error: rcgen::Error| Status::internal(error.to_string());
        let key = KeyPair::generate().map_err(unusable)?;
        let request = CertificateParams::default().serialize_request(&key).map_err(unusable)?;
        let request = pb::EnrolRequest {
            token: token.to_owned(),
            signing_request: request.der().to_vec().into(),
            build: "e2e".to_owned(),
        };
        let given = EnrolmentClient::new(self.channel(&shown)?)
            .enrol(request)
            .await?
            .into_inner();
        Ok(Given {
            instance: given.instance,
            fleet: given.fleet,
            certificate: given.certificate_pem,
            key: key.serialize_pem(),
        })
    }

    /// Says hello as `instance`.
    pub(super) async fn connect(&self, shown: &Shown, instance: &str) -> Result<Stream, Status> {
        let instance: InstanceId = instance.parse().map_err(|error| Status::internal(format!("{error}")))?;
        let (up, said) = mpsc::channel(16);
        let say = |message| {
            pb::Upward::from(&Upward {
                instance: instance.clone(),
                message,
            })
        };
        let hello = say(UpwardMessage::Hello(Hello::default()));
        up.send(hello)
            .await
            .map_err(|error| Status::internal(error.to_string()))?;
        let down = DeliveryClient::new(self.channel(shown)?)
            .connect(ReceiverStream::new(said))
            .await?;
        Ok(Stream {
            report: say(UpwardMessage::Report(Report {
                epoch: 0,
                sequence: 1,
                interval_ms: 1,
                roles: vec![],
                inflight: 0,
                uptime_ms: 0,
                rss_bytes: 0,
            })),
            up,
            down: down.into_inner(),
        })
    }
}

/// An open stream.
#[derive(Debug)]
pub(super) struct Stream {
    up: mpsc::Sender<pb::Upward>,
    down: tonic::Streaming<pb::Downward>,
    report: pb::Upward,
}

impl Stream {
    /// With what it ended.
    pub(super) async fn ended(mut self) -> Status {
        loop {
            match tokio::time::timeout(PATIENCE, self.down.message()).await {
                Ok(Ok(Some(_))) => {}
                Ok(Ok(None)) => return Status::ok("it ended without a word"),
                Ok(Err(status)) => return status,
                Err(_) => return Status::deadline_exceeded("it did not end"),
            }
        }
    }

    /// The same, while it says something again and again.
    pub(super) async fn reporting_until_it_ends(self) -> Status {
        let (up, report) = (self.up.clone(), self.report.clone());
        let reporting = tokio::spawn(async move {
            while up.send(report.clone()).await.is_ok() {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        });
        let ended = self.ended().await;
        reporting.abort();
        ended
    }
}
