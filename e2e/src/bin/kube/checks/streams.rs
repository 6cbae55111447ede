//! Rolling restarts of the gateway under clients that keep what they have: calls of gRPC in streams over TLS, and WebSockets.
//! Through the Service, on the real cluster, with upstreams in the runner: the gateway alone is restarted.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context;
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use sluice_e2e::calls::{Caller, Seen, Upstream};
use sluice_e2e::lasting::{self, Progress};
use sluice_e2e::wait::wait_until;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::restarts::gateway;
use crate::install::GATEWAYS;
use crate::sluice::{GATEWAY, NAMESPACE};
use crate::tls::Authority;
use crate::world::World;
use crate::{node, objects};

/// Between two calls, or two messages, of one client.
const PAUSE: Duration = Duration::from_millis(5);
const SECRET: &str = "streams-tls";
const CALLERS: u64 = 4;
const TALKERS: usize = 3;

/// All of it.
pub(crate) async fn nothing_is_lost(world: &World) -> anyhow::Result<()> {
    let sluice = world.sluice().await?;
    let namespace = world.namespace("a").await?;
    let host = format!("streams.{namespace}.example.com");
    let (authority, node) = (Authority::new()?, node::address(world).await?);
    let seen = Arc::new(Seen::default());
    let service = Upstream::start_at(node, seen.clone());
    let chat = echo(node).await?;
    let pool = |name: &str, address: SocketAddr, protocol: &str| {
        let endpoint = json!({"address": address.ip(), "port": address.port()});
        json!({
            "apiVersion": "sluice.dev/v1alpha1", "kind": "Pool", "metadata": {"name": name},
            "spec": {"protocol": protocol, "endpoints": [endpoint]},
        })
    };
    let all = [
        authority.issue(&host)?.secret(SECRET),
        pool("calls", service.address, "HTTP2"),
        pool("chat", chat, "HTTP1"),
        route(&host),
    ];
    world.apply(&namespace, &all).await?;
    world.programmed(&namespace, &["streams"]).await?;

    let state = Arc::new(Progress::default());
    let mut clients = JoinSet::new();
    let (clear, tls) = (sluice.address().await?, sluice.address_of("https").await?);
    let pem = authority.pem();
    for number in 0..CALLERS {
        let caller = Caller::connect(tls, &host, Some(&pem)).await?;
        clients.spawn(lasting::calls(state.clone(), caller, seen.clone(), number << 32, PAUSE));
    }
    for _ in 0..TALKERS {
        clients.spawn(lasting::talks(state.clone(), clear, format!("ws://{host}/ws"), PAUSE));
    }
    let (rounds, goal) = world.by_form((1, 500), (5, 20_000));
    for _ in 0..rounds {
        let restarting = restart(world, &state);
        tokio::select! {
            restarted = restarting => restarted?,
            failed = clients.join_next() => failed.context("clients")???,
        }
    }
    let enough = wait_until("calls and messages", Duration::from_secs(600), || async {
        let count = state.all();
        if count >= goal { Ok(()) } else { Err(count) }
    });
    tokio::select! {
        () = enough => {}
        failed = clients.join_next() => failed.context("clients")???,
    }
    state.done.store(true, Ordering::Relaxed);
    while let Some(client) = clients.join_next().await {
        client??;
    }
    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    world.figure(format!(
        "{rounds} restarts of the gateway: {} calls of gRPC and {} messages over WebSocket, 0 failed; {} tunnels cut by their \
         drain, {} calls not taken by connections that were closing, and made again",
        count(&state.calls),
        count(&state.messages),
        count(&state.cut),
        count(&state.unsent),
    ));
    Ok(())
}

fn route(host: &str) -> Value {
    let mut route = objects::routes("streams", host, &[("/calls.Calls", "calls"), ("/ws", "chat")]);
    route["spec"]["tls"] = json!({"certificates": [{"secretName": SECRET}], "plainHttp": "Allow"});
    route["spec"]["rules"][1]["upgrades"] = json!(["websocket"]);
    route
}

async fn restart(world: &World, state: &Progress) -> anyhow::Result<()> {
    state.ending.store(true, Ordering::Relaxed);
    world.restart(NAMESPACE, &gateway(world).await?).await?;
    world.ready_pods(NAMESPACE, GATEWAY, GATEWAYS).await;
    state.ending.store(false, Ordering::Relaxed);
    Ok(())
}

/// Sends every message back.
async fn echo(ip: IpAddr) -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind((ip, 0)).await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let Ok(mut socket) = tokio_tungstenite::accept_async(stream).await else {
                    return;
                };
                while let Some(Ok(message)) = socket.next().await {
                    if message.is_binary() && socket.send(message).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    Ok(address)
}
