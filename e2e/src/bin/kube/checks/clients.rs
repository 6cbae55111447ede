//! Who clients are, on the real cluster: by their certificates, where a host or a rule asks for them, and nothing leads around
//! it; and by what a load balancer says of them in the PROXY protocol, if it is one that is named.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, ensure};
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use sluice_e2e::client;
use sluice_e2e::wait::wait_until;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use crate::sluice::{HTTP, PATIENCE, Sluice};
use crate::tls::{Authority, Issued};
use crate::world::World;
use crate::{node, objects};

/// The Secret of whoever signs clients' certificates.
const SIGNERS: &str = "clients";
/// From that Secret to the first request that is judged by it.
const KNOWN_WITHIN: Duration = Duration::from_secs(5);
/// Until a connection that has no business here is closed.
const CLOSED_WITHIN: Duration = Duration::from_secs(15);
/// The listener for load balancers.
const INTRODUCED: u16 = 8091;

/// Certificates of clients.
pub(crate) async fn show_certificates(world: &World) -> anyhow::Result<()> {
    let sluice = world.sluice().await?;
    let namespace = world.namespace("a").await?;
    let (servers, ours, others) = (Authority::new()?, Authority::new()?, Authority::new()?);
    let host = |name: &str| format!("{name}.{namespace}.example.com");
    let [wants, asks, open] = ["wants", "asks", "open"].map(host);
    let mut all = vec![ours.signers(SIGNERS), mirror(node::address(world).await?).await?];
    for (name, auth) in [
        ("wants", json!({"ca": {"secretName": SIGNERS}, "forward": ["DNS"]})),
        ("asks", json!({"ca": {"secretName": SIGNERS}, "mode": "Optional"})),
        ("open", Value::Null),
    ] {
        let secret = format!("{name}-tls");
        let mut route = objects::routes(name, &host(name), &[("/admin", "mirror"), ("/", "mirror")]);
        route["spec"]["rules"][0]["name"] = json!("admin");
        route["spec"]["tls"] = json!({"certificates": [{"secretName": secret}], "plainHttp": "Allow"});
        if !auth.is_null() {
            route["spec"]["tls"]["clientAuth"] = auth;
            route["spec"]["rules"][0]["requireClientCertificate"] = json!(true);
        }
        all.extend([servers.issue(&host(name))?.secret(&secret), route]);
    }
    world.apply(&namespace, &all).await?;
    world.programmed(&namespace, &["wants", "asks", "open"]).await?;

    let (tls, clear) = (sluice.address_of("https").await?, sluice.address().await?);
    let (known, stranger) = (ours.issue("client.test")?, others.issue("client.test")?);
    let mut cases = 0;
    for (name, asked, path, shown, expected) in [
        (&wants, &wants, "/", None, Some(403)),
        (&wants, &wants, "/", Some(&stranger), None),
        (&wants, &wants, "/", Some(&known), Some(200)),
        (&asks, &asks, "/", None, Some(200)),
        (&asks, &asks, "/", Some(&stranger), None),
        (&asks, &asks, "/admin", None, Some(403)),
        (&asks, &asks, "/x/..//%61dmin/users", None, Some(403)),
        (&asks, &asks, "/admin", Some(&known), Some(200)),
        // A connection for another host has not asked for certificates, or for others.
        (&open, &wants, "/", None, Some(421)),
        (&open, &wants, "/", Some(&known), Some(421)),
        (&open, &asks, "/admin", Some(&known), Some(421)),
        (&open, &open, "/admin", None, Some(200)),
    ] {
        let what = format!(
            "{path} of {asked} over a connection for {name}, certificate: {}",
            shown.is_some()
        );
        let answer = ask(&servers, tls, (name, asked, path), shown).await;
        // A certificate that is asked for and that nobody here has signed ends the handshake.
        let Some(expected) = expected else {
            ensure!(answer.is_err(), "{what}: {answer:?}");
            cases += 1;
            continue;
        };
        let (status, told) = answer.context(what.clone())?;
        ensure!(status == expected, "{what}: {status}, not {expected}: {told}");
        let names = told.contains("x-forwarded-client-cert: DNS=client.test");
        ensure!(
            names == (asked == &wants && expected == 200),
            "{what}: the pool was told {told}"
        );
        cases += 1;
    }
    for (host, path) in [(&wants, "/"), (&asks, "/admin")] {
        let answer = client::get(clear, host, path).await?;
        ensure!(answer.status == 403, "{path} of {host} in the clear: {}", answer.status);
        cases += 1;
    }

    // Who signs is replaced, on open connections too, and without a revision.
    let before = revision(sluice).await?;
    let mut kept = servers.connect_as(tls, &wants, Some(&known)).await?;
    ensure!(kept.ask(&wants, "/").await?.0 == 200, "before the change");
    world.apply(&namespace, &[others.signers(SIGNERS)]).await?;
    let began = tokio::time::Instant::now();
    wait_until("those who sign to be others", PATIENCE, || async {
        match ask(&servers, tls, (&wants, &wants, "/"), Some(&stranger)).await {
            Ok((StatusCode::OK, _)) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    let took = began.elapsed();
    ensure!(took <= KNOWN_WITHIN, "it took {took:?}");
    wait_until(
        "the certificate of before to be refused everywhere",
        PATIENCE,
        || async {
            match ask(&servers, tls, (&wants, &wants, "/"), Some(&known)).await {
                Err(_) => Ok(()),
                Ok(answer) => Err(format!("{answer:?}")),
            }
        },
    )
    .await;
    let judged = kept.ask(&wants, "/").await?.0;
    ensure!(
        judged == 403,
        "an open connection is judged by those of before: {judged}"
    );
    ensure!(revision(sluice).await? == before, "it took a revision");
    world.figure(format!(
        "{cases} ways to ask answered as they should be; those who sign replaced after {:.1} s, on open connections too",
        took.as_secs_f64()
    ));
    Ok(())
}

/// The PROXY protocol.
pub(crate) async fn are_introduced(world: &World) -> anyhow::Result<()> {
    let sluice = world.sluice().await?;
    let namespace = world.namespace("a").await?;
    let host = format!("mirror.{namespace}.example.com");
    let route = objects::route("mirror", &host, "mirror");
    world
        .apply(&namespace, &[mirror(node::address(world).await?).await?, route])
        .await?;
    world.programmed(&namespace, &["mirror"]).await?;
    let listeners = sluice.rollout().await?["spec"]["dataPlane"]["listeners"].clone();
    let result = with_listener(world, sluice, &host, &listeners).await;
    // Whatever came of it, the checks that follow find the Rollout as it was.
    sluice.edit(&json!({"dataPlane": {"listeners": listeners}})).await?;
    result?;
    for pod in sluice.gateways().await? {
        let address = pod.at(INTRODUCED)?;
        wait_until("the listener to be closed", PATIENCE, || async {
            match TcpStream::connect(address).await {
                Ok(_) => Err("it is open"),
                Err(_) => Ok(()),
            }
        })
        .await;
    }
    Ok(())
}

async fn with_listener(world: &World, sluice: Sluice<'_>, host: &str, listeners: &Value) -> anyhow::Result<()> {
    let gateways = sluice.gateways().await?;
    // As they see whoever connects from here.
    let first = gateways.first().context("no gateway")?.at(HTTP)?;
    let source = TcpStream::connect(first).await?.local_addr()?.ip();
    let mut more = listeners.as_array().context("no listeners")?.clone();
    more.push(json!({
        "name": "introduced", "port": INTRODUCED,
        "proxyProtocol": {"from": [format!("{source}/{}", if source.is_ipv4() { 32 } else { 128 })]},
    }));
    sluice.edit(&json!({"dataPlane": {"listeners": more}})).await?;
    let get = format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    let text = format!("PROXY TCP4 192.0.2.7 198.51.100.1 4711 {INTRODUCED}\r\n{get}");
    let mut binary = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x08\xc6\x33\x64\x01\x12\x67\x1f\x9b".to_vec();
    binary.extend_from_slice(get.as_bytes());
    for pod in &gateways {
        let address = pod.at(INTRODUCED)?;
        wait_until("the listener to be open", PATIENCE, || async {
            TcpStream::connect(address)
                .await
                .map(drop)
                .map_err(|error| error.to_string())
        })
        .await;
        for (header, client) in [(text.as_bytes(), "192.0.2.7"), (&binary, "192.0.2.8")] {
            let answer = say(address, header).await?;
            let wanted = format!("x-forwarded-for: {client}\r\n");
            ensure!(
                answer.starts_with("HTTP/1.1 200") && answer.contains(&wanted),
                "{client}: {answer}"
            );
        }
        // Who is a load balancer says so, always.
        let silent = say(address, get.as_bytes()).await?;
        ensure!(silent.is_empty(), "without a header: {silent}");
        // And nobody is believed who is not named.
        let unnamed = say(pod.at(HTTP)?, text.as_bytes()).await?;
        ensure!(unnamed.starts_with("HTTP/1.1 400"), "where nobody is named: {unnamed}");
    }
    world.figure(format!("{} instances, both versions", gateways.len()));
    Ok(())
}

/// All that is answered until the connection is closed.
async fn say(address: SocketAddr, bytes: &[u8]) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(bytes).await?;
    let mut answer = Vec::new();
    // A reset is an end as well.
    let read = timeout(CLOSED_WITHIN, stream.read_to_end(&mut answer)).await;
    read.context("it was not closed")?.ok();
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

async fn ask(
    servers: &Authority,
    address: SocketAddr,
    (name, host, path): (&str, &str, &str),
    shown: Option<&Issued>,
) -> anyhow::Result<(StatusCode, String)> {
    servers.connect_as(address, name, shown).await?.ask(host, path).await
}

/// The revision that the fleet is at.
async fn revision(sluice: Sluice<'_>) -> anyhow::Result<String> {
    let rollout = sluice.rollout().await?;
    let revision = rollout["status"]["stableRevision"].as_str();
    Ok(revision.context("the Rollout names no revision")?.to_owned())
}

/// A Pool of a server that answers with the fields that it was sent.
async fn mirror(ip: IpAddr) -> anyhow::Result<Value> {
    let listener = TcpListener::bind((ip, 0)).await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let serving = http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(fields));
            tokio::spawn(serving);
        }
    });
    Ok(json!({
        "apiVersion": "sluice.dev/v1alpha1", "kind": "Pool", "metadata": {"name": "mirror"},
        "spec": {"endpoints": [{"address": address.ip(), "port": address.port()}]},
    }))
}

async fn fields(request: Request<Incoming>) -> anyhow::Result<Response<Full<Bytes>>> {
    let fields = request.headers().iter();
    let lines = fields.map(|(name, value)| format!("{name}: {}\r\n", String::from_utf8_lossy(value.as_bytes())));
    Ok(Response::new(Full::from(lines.collect::<String>())))
}
