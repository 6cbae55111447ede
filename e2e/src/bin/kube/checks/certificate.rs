//! A renewed certificate is shown within seconds and closes no connection; one whose key is another's is refused, and
//! the one before stays.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::json;
use sluice_e2e::wait::wait_until;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::served::Served;
use crate::sluice::PATIENCE;
use crate::tls::{Authority, Issued};
use crate::world::World;

/// From the Secret to the first handshake with what it holds.
const SHOWN_WITHIN: Duration = Duration::from_secs(5);
/// Connections that are kept all the time: more than one for every worker of every instance.
const KEPT: usize = 12;
/// Each of them asks this often.
const PAUSE: Duration = Duration::from_millis(100);
/// For how long a refused certificate must not be shown.
const REFUSED_FOR: Duration = Duration::from_secs(5);
const SECRET: &str = "shop-tls";

/// Issued, renewed, and then half renewed.
pub(crate) async fn renewed(world: &World) -> anyhow::Result<()> {
    let sluice = world.sluice().await?;
    let namespace = world.namespace("a").await?;
    let (authority, address) = (Authority::new()?, sluice.address_of("https").await?);
    let shop = Served::start(world, &namespace, "shop").await?;
    let [first, second, third] = [
        authority.issue(&shop.host)?,
        authority.issue(&shop.host)?,
        authority.issue(&shop.host)?,
    ];
    let mut route = shop.objects()[0].clone();
    route["spec"]["tls"] = json!({"certificates": [{"secretName": SECRET}]});
    world.apply(&namespace, &[first.secret(SECRET), route]).await?;
    world.programmed(&namespace, &["shop"]).await?;
    shown(&authority, address, &shop.host, &first).await;

    let (stop, kept) = keep(&authority, address, &shop.host).await?;
    world.apply(&namespace, &[second.secret(SECRET)]).await?;
    let began = Instant::now();
    shown(&authority, address, &shop.host, &second).await;
    let took = began.elapsed();
    ensure!(took <= SHOWN_WITHIN, "the renewed certificate was shown after {took:?}");

    world
        .apply(&namespace, &[third.secret_with_key_of(&first, SECRET)])
        .await?;
    let began = Instant::now();
    while began.elapsed() < REFUSED_FOR {
        let connection = authority.connect(address, &shop.host).await?;
        ensure!(
            second.is(&connection),
            "the certificate without its key is shown, or an older one"
        );
        sleep(PAUSE).await;
    }
    told(world, &namespace).await;
    drop(stop);
    let requests = all_kept(kept).await?;
    world.figure(format!(
        "renewed certificate shown after {:.1} s; {KEPT} connections kept through it, {requests} requests, 0 failed",
        took.as_secs_f64()
    ));
    Ok(())
}

/// Waits until new connections are shown this certificate.
async fn shown(authority: &Authority, address: SocketAddr, host: &str, wanted: &Issued) {
    wait_until("the certificate to be shown", PATIENCE, || async {
        let connection = authority
            .connect(address, host)
            .await
            .map_err(|error| format!("{error:#}"))?;
        if wanted.is(&connection) {
            Ok(())
        } else {
            Err("another one".to_owned())
        }
    })
    .await;
}

/// Connections that ask again and again until the sender is dropped; each gives how often, or why it broke.
async fn keep(
    authority: &Authority,
    address: SocketAddr,
    host: &str,
) -> anyhow::Result<(watch::Sender<()>, JoinSet<anyhow::Result<u64>>)> {
    let (stop, stopped) = watch::channel(());
    let mut kept = JoinSet::new();
    for number in 0..KEPT {
        let (mut connection, stopped) = (authority.connect(address, host).await?, stopped.clone());
        kept.spawn(async move {
            let mut count = 0;
            while stopped.has_changed().is_ok() {
                let asked = connection.get().await;
                asked.with_context(|| format!("connection {number}, request {count}"))?;
                count += 1;
                sleep(PAUSE).await;
            }
            Ok(count)
        });
    }
    Ok((stop, kept))
}

async fn all_kept(kept: JoinSet<anyhow::Result<u64>>) -> anyhow::Result<u64> {
    let counts: anyhow::Result<Vec<u64>> = kept.join_all().await.into_iter().collect();
    Ok(counts?.iter().sum())
}

/// Whoever looks at the route reads what is wrong with its Secret.
async fn told(world: &World, namespace: &str) {
    wait_until("the route's status to say what is wrong", PATIENCE, || async {
        let route = world
            .object("ProxyRoute", namespace, "shop")
            .await
            .map_err(|error| format!("{error:#}"))?;
        let status = route["status"].to_string();
        if status.contains("is not the private key") {
            Ok(())
        } else {
            Err(format!("{:#}", route["status"]))
        }
    })
    .await;
}
