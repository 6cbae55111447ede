//! Many hosts with a certificate each, of which one is replaced every second while clients shake hands: each is shown the
//! certificate of the host that it asks for, the new one within moments, and no connection that is open notices.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use http_body_util::BodyExt;
use rustls::pki_types::CertificateDer;
use sluice_e2e::manifests;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{interval, sleep, timeout};

use crate::authority::Authority;
use crate::back::Back;
use crate::edge::{Edge, PATIENCE};
use crate::front::{self, Client, Front, empty};
use crate::options::Form;

/// Who shakes hands at a time.
const CLIENTS: u64 = 6;
/// Connections that stay open, of each protocol; their hosts are the first to get another certificate.
const OPEN: usize = 10;
/// How often those ask for something.
const ASK_EVERY: Duration = Duration::from_millis(300);
/// Between two replacements.
const REPLACE_EVERY: Duration = Duration::from_secs(1);
/// From a Secret's change to the first handshake that shows it. What is believed to take longer has not come.
const SHOWN_MAX: Duration = Duration::from_secs(15);

/// What each host's certificate is.
struct Hosts {
    authority: Authority,
    all: Mutex<Vec<Host>>,
}

struct Host {
    now: CertificateDer<'static>,
    /// Until when the one before may be shown.
    before: Option<(CertificateDer<'static>, Instant)>,
}

fn name(number: usize) -> String {
    format!("h{number}.certs.example.com")
}

/// Where the Secret of a host stands.
fn file(number: usize) -> String {
    format!("secret-{number}.yaml")
}

impl Hosts {
    /// With their routes, and the Secrets of their certificates.
    fn new(count: usize) -> (Self, Vec<String>, Vec<String>) {
        let authority = Authority::new();
        let (mut all, mut routes, mut secrets) = (Vec::new(), Vec::new(), Vec::new());
        for number in 0..count {
            let issued = authority.issue(&name(number));
            let host = manifests::route(&format!("h{number}"), &name(number), Back::Http1.name());
            routes.push(host + &format!("  tls: {{certificates: [{{secretName: h{number}}}]}}\n"));
            secrets.push(issued.secret(&format!("h{number}")));
            let now = issued.der();
            all.push(Host { now, before: None });
        }
        let all = Mutex::new(all);
        (Self { authority, all }, routes, secrets)
    }

    /// Gives a host another certificate; its Secret.
    fn replace(&self, number: usize) -> (CertificateDer<'static>, String) {
        let issued = self.authority.issue(&name(number));
        let host = &mut self.all.lock().expect("a lock")[number];
        let before = std::mem::replace(&mut host.now, issued.der());
        host.before = Some((before, Instant::now() + SHOWN_MAX));
        (issued.der(), issued.secret(&format!("h{number}")))
    }

    /// Whether a handshake that began then may show this.
    fn may_show(&self, number: usize, shown: &CertificateDer<'_>, began: Instant) -> bool {
        let host = &self.all.lock().expect("a lock")[number];
        let before = host.before.as_ref();
        host.now == *shown || before.is_some_and(|(before, until)| before == shown && began < *until)
    }
}

pub(crate) async fn run(form: Form) -> anyhow::Result<String> {
    let (count, seconds) = form.pick((100, 6), (1_000, 60));
    let (hosts, routes, secrets) = Hosts::new(count);
    let hosts = Arc::new(hosts);
    let edge = Edge::start_as(&routes, 1, |setup| {
        let files = (0..).zip(&secrets);
        files.fold(setup, |setup, (number, secret)| setup.with(&file(number), secret))
    })
    .await;
    edge.metric_is("proxy_certificates", &[], (count + 1) as f64).await;
    let (done, shaken) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let mut tasks = JoinSet::new();
    for seed in 1..=CLIENTS {
        let (hosts, done, shaken) = (hosts.clone(), done.clone(), shaken.clone());
        tasks.spawn(shake(hosts, edge.tls, (count, seed), done, shaken));
    }
    for number in 0..OPEN {
        for front in [Front::Http1Tls, Front::Http2Tls] {
            tasks.spawn(stay(hosts.clone(), edge.tls, number, front, done.clone()));
        }
    }
    let mut times = Vec::new();
    let mut every = interval(REPLACE_EVERY);
    for number in 0..seconds {
        every.tick().await;
        tokio::select! {
            took = replace(&edge, &hosts, number) => times.push(took?),
            failed = tasks.join_next() => failed.context("clients")???,
        }
    }
    done.store(true, Ordering::Relaxed);
    while let Some(task) = tasks.join_next().await {
        task??;
    }
    times.sort_unstable();
    let (median, longest) = (times[times.len() / 2], times[times.len() - 1]);
    Ok(format!(
        "{count} hosts, {seconds} certificates replaced, shown after {median:.1?}, {longest:.1?} at most; {} handshakes, each with the right one; {} connections open all the time",
        shaken.load(Ordering::Relaxed),
        2 * OPEN
    ))
}

/// Replaces the certificate of a host; how long it took until it was shown.
async fn replace(edge: &Edge, hosts: &Hosts, number: usize) -> anyhow::Result<Duration> {
    let began = Instant::now();
    let (new, secret) = hosts.replace(number);
    edge.fleet.folder.write(&file(number), &secret);
    let config = hosts.authority.client("http/1.1");
    loop {
        let stream = front::handshake(&config, &name(number), TcpStream::connect(edge.tls).await?).await?;
        let shown = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
        if shown.is_some_and(|shown| *shown == new) {
            return Ok(began.elapsed());
        }
        ensure!(
            began.elapsed() < SHOWN_MAX,
            "{} does not show its new certificate",
            name(number)
        );
        sleep(Duration::from_millis(20)).await;
    }
}

/// Shakes hands for one host after the other, in an order of its own.
async fn shake(
    hosts: Arc<Hosts>,
    address: std::net::SocketAddr,
    (count, seed): (usize, u64),
    done: Arc<AtomicBool>,
    shaken: Arc<AtomicU64>,
) -> anyhow::Result<()> {
    let config = hosts.authority.client("http/1.1");
    let mut state = seed;
    while !done.load(Ordering::Relaxed) {
        // A linear congruential generator, with the constants of PCG.
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        // Half of them for those that are being replaced.
        let number = match state >> 33 {
            random if random % 2 == 0 => random as usize % count,
            random => random as usize % count.min(60),
        };
        let began = Instant::now();
        let (host, socket) = (name(number), TcpStream::connect(address).await?);
        let shaking = front::handshake(&config, &host, socket);
        let stream = timeout(PATIENCE, shaking).await?.with_context(|| host.clone())?;
        let shown = stream
            .get_ref()
            .1
            .peer_certificates()
            .and_then(<[_]>::first)
            .context("no certificate")?;
        ensure!(
            hosts.may_show(number, shown, began),
            "{} showed another certificate",
            name(number)
        );
        shaken.fetch_add(1, Ordering::Relaxed);
        sleep(Duration::from_millis(2)).await;
    }
    Ok(())
}

/// Keeps a connection, and asks for something now and then: it is never closed.
async fn stay(
    hosts: Arc<Hosts>,
    address: std::net::SocketAddr,
    number: usize,
    front: Front,
    done: Arc<AtomicBool>,
) -> anyhow::Result<()> {
    let config = hosts.authority.client(if front.two() { "h2" } else { "http/1.1" });
    let stream = front::handshake(&config, &name(number), TcpStream::connect(address).await?).await?;
    let mut client = Client::over(front, stream).await?;
    while !done.load(Ordering::Relaxed) {
        let request = front.request_of(&name(number), "GET", "/").body(empty())?;
        let what = || format!("a connection of {} was closed", name(number));
        let response = client.send(request).await.with_context(what)?;
        ensure!(response.status() == 200, "{}", response.status());
        response.into_body().collect().await.with_context(what)?;
        sleep(ASK_EVERY).await;
    }
    Ok(())
}
