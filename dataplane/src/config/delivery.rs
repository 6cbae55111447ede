//! The stream to the controller: connect, say hello, hand over what arrives, send what the intake says and what was
//! observed; and begin again whenever that ends. Decides nothing about configuration.
//!
//! ```text
//! connect (mutual TLS) ─► hello ─► orders, manifests, sections ─► intake ─► acks, nacks, wants
//!     ▲                                                            reports, each second or each five
//!     └── wait (jittered, bounded) ◄── lost, refused, or told who leads
//! ```

use std::sync::Arc;
use std::time::Duration;

use sluice_model::feature::Feature;
use sluice_model::limits::{
    CONTROLLER_SEND_WAIT_MS, MAX_NACK_CHARS, MAX_STREAM_MESSAGE_BYTES, MAX_WAITING_UPWARD, REPORT_AT_REST_MS,
    REPORT_ON_TRIAL_MS, USEFUL_STREAM_MS,
};
use sluice_proto::delivery::{Ack, Downward, HAND_BACK, Hello, LiveRefused, Nack, Upward, UpwardMessage};
use sluice_proto::pb;
use sluice_proto::pb::delivery_client::DeliveryClient;
use sluice_proto::report::Report;
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::Streaming;
use tonic::transport::Channel;

use crate::dial::{Controller, chance};
use crate::identity::Current;

use super::metrics::IntakeMetrics;
use super::refusal::Refusal;
use super::search::{Ended, Search};
use super::worker::{Said, Worker};
use super::{Answer, Delivered, Effect, Introduction};

const SEND_WAIT: Duration = Duration::from_millis(CONTROLLER_SEND_WAIT_MS);
const USEFUL_STREAM: Duration = Duration::from_millis(USEFUL_STREAM_MS);

/// Where reports come from.
pub trait Observe: Send + 'static {
    /// What was observed since the last call, while `under` was in effect; `None` while nothing serves.
    fn observe(&mut self, under: &Effect) -> Option<Report>;
}

/// What the stream needs to know.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// Who we are, and what we show: looked at anew with each connection.
    pub identity: Current,
    /// Where it is.
    pub controller: Controller,
    /// Told when the controller refuses us for who we say we are.
    pub refused: Arc<Notify>,
    /// Drawn when the process started.
    pub boot_id: String,
    /// The intake.
    pub worker: Worker,
    /// Its metrics.
    pub metrics: IntakeMetrics,
}

impl Delivery {
    /// Keeps a stream to the controller open until `stop`.
    pub async fn run(self, mut observe: impl Observe, stop: CancellationToken) {
        let mut search = Search::new(self.controller.address.clone());
        loop {
            let address = search.address().to_owned();
            let began = Instant::now();
            let ended = self.session(&address, &mut observe, &stop).await;
            self.metrics.connected.set(0);
            if began.elapsed() >= USEFUL_STREAM {
                search.was_useful();
            }
            if search.is_about_us(&ended) {
                self.refused.notify_one();
            }
            let Some(wait) = search.after(ended, chance()) else {
                return;
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    async fn session(&self, address: &str, observe: &mut impl Observe, stop: &CancellationToken) -> Ended {
        let opened = tokio::select! {
            () = stop.cancelled() => return Ended::Stopped,
            opened = self.open(address) => opened,
        };
        let (up, said, down) = match opened {
            Ok(opened) => opened,
            Err(ended) => return ended,
        };
        self.metrics.connected.set(1);
        let mut stream = Stream {
            delivery: self,
            address,
            up,
            said,
            down,
            accepted: false,
        };
        tokio::select! {
            () = stop.cancelled() => Ended::Stopped,
            ended = stream.serve(observe) => ended,
        }
    }

    async fn open(&self, address: &str) -> Result<(mpsc::Sender<pb::Upward>, mpsc::Receiver<Said>, Down), Ended> {
        let identity = Arc::clone(&self.identity.borrow());
        let shown = (identity.tls.cert_pem.as_str(), identity.tls.key_pem.as_str());
        let controller = self.controller.at(address.to_owned());
        let channel = controller
            .connect(&identity.tls.ca_pem, Some(shown))
            .await
            .map_err(Ended::Lost)?;
        let mut client: DeliveryClient<Channel> = DeliveryClient::new(channel)
            .max_decoding_message_size(MAX_STREAM_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_STREAM_MESSAGE_BYTES);
        // The controller answers once it has read the hello, so that is on its way first.
        let mut said = self.worker.open().await;
        let introduction = match said.recv().await {
            Some(Said::Introduction(introduction)) => introduction,
            Some(Said::Answer(_)) | None => return Err(Ended::Lost("the intake has ended".to_owned())),
        };
        let (up, upward) = mpsc::channel(MAX_WAITING_UPWARD);
        let hello = self.upward(UpwardMessage::Hello(self.hello(introduction)));
        up.try_send(hello)
            .map_err(|_| Ended::Lost("cannot queue the hello".to_owned()))?;
        let down = timeout(SEND_WAIT, client.connect(ReceiverStream::new(upward)))
            .await
            .map_err(|_| Ended::Lost(format!("no answer to the hello within {SEND_WAIT:?}")))??;
        Ok((up, said, down.into_inner()))
    }

    fn hello(&self, introduction: Introduction) -> Hello {
        let Introduction {
            effect,
            heeded_epoch,
            order,
            booted_epoch,
            last_end,
            held_sections,
            live_term,
            live_held,
        } = introduction;
        Hello {
            build: env!("CARGO_PKG_VERSION").to_owned(),
            boot_id: self.boot_id.clone(),
            features: features(),
            epoch: heeded_epoch,
            stable: effect.stable,
            candidate: effect.candidate,
            held_sections,
            order,
            booted_epoch,
            live_term,
            live_held,
            last_end,
        }
    }

    fn upward(&self, message: UpwardMessage) -> pb::Upward {
        let instance = self.identity.borrow().instance.clone();
        pb::Upward::from(&Upward { instance, message })
    }
}

type Down = Streaming<pb::Downward>;

/// One open stream.
struct Stream<'a> {
    delivery: &'a Delivery,
    address: &'a str,
    /// Whether it delivers: one that does not lead answers only who does.
    accepted: bool,
    up: mpsc::Sender<pb::Upward>,
    said: mpsc::Receiver<Said>,
    down: Down,
}

impl Stream<'_> {
    async fn serve(&mut self, observe: &mut impl Observe) -> Ended {
        let mut last_report = Instant::now();
        let mut effects = self.delivery.worker.watch();
        let mut under = *effects.borrow_and_update();
        loop {
            let step = tokio::select! {
                arrived = self.down.message() => match arrived {
                    Ok(Some(message)) => self.hand_over(message).await,
                    Ok(None) => Err(Ended::Lost("the controller closed the stream".to_owned())),
                    Err(status) => Err(status.into()),
                },
                said = self.said.recv() => match said {
                    Some(Said::Answer(answer)) => self.send(message_of(answer)).await,
                    Some(Said::Introduction(_)) => Err(Ended::Lost("the intake began anew".to_owned())),
                    None => Err(Ended::Lost("the stream takes no answers".to_owned())),
                },
                () = tokio::time::sleep_until(last_report + interval_for(&under)) => {
                    last_report = Instant::now();
                    let now = *effects.borrow();
                    self.report(observe, &under, &now).await
                }
                Ok(()) = effects.changed() => {
                    // No interval spans two orders: this one ends here.
                    let before = std::mem::replace(&mut under, *effects.borrow_and_update());
                    last_report = Instant::now();
                    self.report(observe, &before, &under).await
                }
            };
            if let Err(ended) = step {
                return ended;
            }
        }
    }

    async fn hand_over(&mut self, message: pb::Downward) -> Result<(), Ended> {
        let message = Downward::try_from(message).map_err(|error| Ended::Lost(format!("not understood: {error}")))?;
        let delivered = match message {
            Downward::Order(envelope) => Delivered::Order(envelope),
            Downward::Manifest(envelope) => Delivered::Manifest(envelope),
            Downward::Section { digest, wire } => Delivered::Section { digest, wire },
            Downward::Live(sealed) => Delivered::Live(sealed),
            Downward::LostManifest(revision) => Delivered::LostManifest(revision),
            Downward::LostSections(digests) => Delivered::LostSections(digests),
            Downward::NotLeader { address } => return Err(Ended::Elsewhere(address)),
        };
        if !std::mem::replace(&mut self.accepted, true) {
            tracing::info!(address = self.address, "the controller delivers");
        }
        self.delivery.worker.take(delivered).await;
        Ok(())
    }

    /// After a restart the candidate comes back under the order that is in effect already. What was seen before that
    /// tells nothing about the candidate, and its acknowledgement may have gone ahead: it is not sent.
    async fn report(&self, observe: &mut impl Observe, under: &Effect, now: &Effect) -> Result<(), Ended> {
        let came_back = now.epoch == under.epoch && now.candidate != under.candidate;
        match observe.observe(under) {
            Some(report) if !came_back => self.send(UpwardMessage::Report(report)).await,
            Some(_) | None => Ok(()),
        }
    }

    async fn send(&self, message: UpwardMessage) -> Result<(), Ended> {
        let message = self.delivery.upward(message);
        match timeout(SEND_WAIT, self.up.send(message)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(Ended::Lost("the stream is closed".to_owned())),
            Err(_) => Err(Ended::Lost(format!("the controller took nothing for {SEND_WAIT:?}"))),
        }
    }
}

/// What this build understands: of revisions, and of the stream.
fn features() -> Vec<String> {
    let of_revisions = Feature::ALL.iter().map(ToString::to_string);
    of_revisions.chain([HAND_BACK.to_owned()]).collect()
}

fn interval_for(effect: &Effect) -> Duration {
    if effect.fleet_candidate.is_some() {
        Duration::from_millis(REPORT_ON_TRIAL_MS)
    } else {
        Duration::from_millis(REPORT_AT_REST_MS)
    }
}

fn message_of(answer: Answer) -> UpwardMessage {
    match answer {
        Answer::Want(digests) => UpwardMessage::Want(digests),
        Answer::Manifest { revision, envelope } => UpwardMessage::Manifest { revision, envelope },
        Answer::Section { digest, wire } => UpwardMessage::Section { digest, wire },
        Answer::Ack(effect) => UpwardMessage::Ack(Ack {
            epoch: effect.epoch,
            stable: effect.stable,
            candidate: effect.candidate,
        }),
        Answer::Nack { epoch, refusal } => UpwardMessage::Nack(Nack {
            epoch,
            reason: refusal.on_the_wire(),
            detail: told(&refusal),
        }),
        Answer::LiveRefused { subject, refusal } => UpwardMessage::LiveRefused(LiveRefused {
            subject,
            reason: refusal.on_the_wire(),
            detail: told(&refusal),
        }),
    }
}

fn told(refusal: &Refusal) -> String {
    let text = format!("{}: {refusal}", refusal.reason());
    text.chars().take(MAX_NACK_CHARS).collect()
}
