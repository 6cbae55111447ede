//! The port of the stream: TCP and TLS, up to where gRPC begins.
//!
//! Whoever has shown a certificate of ours may stay. Everybody else is a guest, who may enrol: guests are few, fewer from
//! one address, and not for long, so that a stranger on the network takes nobody's place. The controller's own
//! certificate may be replaced while connections are open; those that begin later see the new one.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use rustls::AlertDescription;
use sluice_model::limits::{
    STREAM_CONNECTIONS, STREAM_GUEST_MS, STREAM_GUESTS, STREAM_GUESTS_PER_ADDRESS, STREAM_HELLO_WAIT_MS,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::time::{Sleep, sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::server::{Connected, TcpConnectInfo, TlsConnectInfo};

use crate::telemetry::Telemetry;
use crate::trust::Trust;

/// How long to wait after accepting failed, as when there are no more file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How often it is told of one address that it does not believe us.
const DISTRUST_TOLD: Duration = Duration::from_secs(600);
/// How many addresses are told of in that time.
const DISTRUST_MAX: usize = 100;

/// Where instances connect to.
#[derive(Debug)]
pub struct Port {
    /// Listens.
    pub listener: TcpListener,
    /// What is shown to whoever connects, and believed of them.
    pub trust: watch::Receiver<Arc<Trust>>,
    /// Where it is counted who does not get through.
    pub telemetry: Arc<Telemetry>,
}

impl Port {
    /// Connections that have come through TLS, until `stop`.
    pub(super) fn open(self, stop: CancellationToken) -> ReceiverStream<io::Result<Caller>> {
        let (through, callers) = mpsc::channel(1);
        let door = Door {
            trust: self.trust,
            telemetry: self.telemetry,
            distrust: Arc::default(),
            through,
            connections: Arc::new(Semaphore::new(STREAM_CONNECTIONS)),
            guests: Arc::default(),
        };
        let listener = self.listener;
        tokio::spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = door.accept(listener) => {}
            }
        });
        ReceiverStream::new(callers)
    }
}

#[derive(Clone)]
struct Door {
    trust: watch::Receiver<Arc<Trust>>,
    telemetry: Arc<Telemetry>,
    distrust: Arc<Distrust>,
    through: mpsc::Sender<io::Result<Caller>>,
    connections: Arc<Semaphore>,
    guests: Arc<Guests>,
}

impl Door {
    async fn accept(self, listener: TcpListener) {
        loop {
            // Never closed.
            let Ok(place) = Arc::clone(&self.connections).acquire_owned().await else {
                return;
            };
            match listener.accept().await {
                Ok((tcp, from)) => {
                    let door = self.clone();
                    tokio::spawn(async move {
                        if let Err(error) = door.greet(tcp, from.ip(), place).await {
                            door.turn_away(from, &error);
                        }
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "accepting instances failed");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    async fn greet(&self, tcp: TcpStream, from: IpAddr, place: OwnedSemaphorePermit) -> io::Result<()> {
        let guest =
            Guests::let_in(&self.guests, from).ok_or_else(|| io::Error::other("too many without a certificate"))?;
        tcp.set_nodelay(true)?;
        let tls = Arc::clone(self.trust.borrow().pki.tls());
        let wait = Duration::from_millis(STREAM_HELLO_WAIT_MS);
        let tls = timeout(wait, TlsAcceptor::from(tls).accept(tcp)).await??;
        let is_known = tls.get_ref().1.peer_certificates().is_some();
        let stay = if is_known {
            Stay::Known
        } else {
            Stay::Guest {
                until: Box::pin(sleep(Duration::from_millis(STREAM_GUEST_MS))),
                _place: guest,
            }
        };
        let caller = Caller {
            tls,
            stay,
            _place: place,
        };
        // Nobody takes it: the server is at its end.
        let _ = self.through.send(Ok(caller)).await;
        Ok(())
    }
}

impl Door {
    /// Tells of a connection that came to nothing: loudly of one that does not believe us, since it is an instance of an
    /// installation before this one, to which nobody else can say so.
    fn turn_away(&self, from: SocketAddr, error: &io::Error) {
        let failure = TlsFailure::of(error);
        self.telemetry.no_tls(failure);
        if failure == TlsFailure::Distrust && self.distrust.is_news(from.ip(), Instant::now()) {
            tracing::warn!(
                %from,
                "an instance does not trust this controller's CA: it was enrolled by an installation before this one, and takes \
                 nothing from this one; restart its pod (kubectl rollout restart)"
            );
        } else {
            tracing::debug!(%from, %error, "no TLS connection");
        }
    }
}

/// Why there is no TLS connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TlsFailure {
    /// The other side does not believe our certificate.
    Distrust,
    /// We do not believe its.
    Untrusted,
    /// It was slow, went away, or spoke something else, as probes and scanners do.
    Other,
}

impl TlsFailure {
    fn of(error: &io::Error) -> Self {
        let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        match tls {
            Some(rustls::Error::AlertReceived(
                AlertDescription::UnknownCA
                | AlertDescription::BadCertificate
                | AlertDescription::CertificateUnknown
                | AlertDescription::CertificateExpired
                | AlertDescription::DecryptError,
            )) => Self::Distrust,
            Some(rustls::Error::InvalidCertificate(_)) => Self::Untrusted,
            _ => Self::Other,
        }
    }

    /// As the metric has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Distrust => "distrust",
            Self::Untrusted => "untrusted",
            Self::Other => "other",
        }
    }
}

/// Who was told of lately for not believing us: an instance tries again all the time.
#[derive(Debug, Default)]
struct Distrust(Mutex<HashMap<IpAddr, Instant>>);

impl Distrust {
    fn is_news(&self, from: IpAddr, now: Instant) -> bool {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        told.retain(|_, at| now.duration_since(*at) < DISTRUST_TOLD);
        if told.contains_key(&from) || told.len() >= DISTRUST_MAX {
            return false;
        }
        told.insert(from, now);
        true
    }
}

/// How many guests are there, by address.
#[derive(Debug, Default)]
struct Guests(Mutex<HashMap<IpAddr, usize>>);

/// A guest's place; free again when dropped.
struct GuestPlace {
    guests: Arc<Guests>,
    from: IpAddr,
}

impl Guests {
    fn let_in(guests: &Arc<Self>, from: IpAddr) -> Option<GuestPlace> {
        // Whole after every line, so a panic elsewhere spoils nothing.
        let mut counts = guests.0.lock().unwrap_or_else(PoisonError::into_inner);
        let all: usize = counts.values().sum();
        let of_address = counts.entry(from).or_default();
        let fits = all < STREAM_GUESTS && *of_address < STREAM_GUESTS_PER_ADDRESS;
        if fits {
            *of_address += 1;
        } else if *of_address == 0 {
            counts.remove(&from);
        }
        fits.then(|| GuestPlace {
            guests: Arc::clone(guests),
            from,
        })
    }
}

impl Drop for GuestPlace {
    fn drop(&mut self) {
        let mut counts = self.guests.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.from) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                counts.remove(&self.from);
            }
        }
    }
}

/// For how long a connection may last.
enum Stay {
    /// As long as it likes.
    Known,
    /// Until then.
    Guest { until: Pin<Box<Sleep>>, _place: GuestPlace },
}

/// A connection that has come through TLS.
pub(super) struct Caller {
    tls: TlsStream<TcpStream>,
    stay: Stay,
    _place: OwnedSemaphorePermit,
}

impl Caller {
    fn check(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        let is_over = match &mut self.stay {
            Stay::Guest { until, .. } => until.as_mut().poll(cx).is_ready(),
            Stay::Known => false,
        };
        if is_over {
            let why = "a connection without a certificate lasts for one enrolment";
            return Err(io::Error::new(io::ErrorKind::TimedOut, why));
        }
        Ok(())
    }
}

impl Connected for Caller {
    type ConnectInfo = TlsConnectInfo<TcpConnectInfo>;

    fn connect_info(&self) -> Self::ConnectInfo {
        self.tls.connect_info()
    }
}

impl AsyncRead for Caller {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.check(cx)?;
        Pin::new(&mut self.tls).poll_read(cx, into)
    }
}

impl AsyncWrite for Caller {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tls).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tls).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tls).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guests_are_few_and_fewer_from_one_address() {
        let guests = Arc::<Guests>::default();
        let address = |number: usize| IpAddr::from([10, 0, 0, u8::try_from(number).unwrap()]);
        let from_one: Vec<_> = (0..200).filter_map(|_| Guests::let_in(&guests, address(1))).collect();
        assert_eq!(from_one.len(), STREAM_GUESTS_PER_ADDRESS);
        let from_others = (2..100).flat_map(|at| [address(at); 40]);
        let others: Vec<_> = from_others.filter_map(|from| Guests::let_in(&guests, from)).collect();
        assert_eq!(others.len(), STREAM_GUESTS - STREAM_GUESTS_PER_ADDRESS);
        drop(from_one);
        assert!(Guests::let_in(&guests, address(1)).is_some());
        drop(others);
        assert!(guests.0.lock().unwrap().is_empty(), "nothing is kept of those who left");
    }

    #[test]
    fn distrust_is_told_once_in_a_while_and_of_few() {
        let (told, now) = (Distrust::default(), Instant::now());
        let from = |number: u32| IpAddr::from(number.to_be_bytes());
        assert!(told.is_news(from(1), now));
        assert!(!told.is_news(from(1), now), "a moment ago");
        let news = (2..1_000).filter(|number| told.is_news(from(*number), now)).count();
        assert_eq!(news, DISTRUST_MAX - 1);
        assert!(told.is_news(from(1), now + DISTRUST_TOLD));
        assert_eq!(told.0.lock().unwrap().len(), 1, "the others are forgotten");
    }
}
