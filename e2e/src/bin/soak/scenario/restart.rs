//! A rolling restart behind a virtual address that lags: three instances are told to end and started again one after the other,
//! while clients of seven kinds go on. None of their requests fails.

mod balancer;
mod clients;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use sluice_e2e::calls::{Caller, Seen, Upstream};
use sluice_e2e::fleet::Drain;
use sluice_e2e::lasting::{self, Progress};
use sluice_e2e::wait::wait_until;
use tokio::task::JoinSet;

use self::balancer::{Balancer, Member};
use self::clients::{Asks, PAUSE};
use crate::edge::{Edge, HOST, PATIENCE};
use crate::front::Front;
use crate::options::Form;
use crate::scenario::grpc_faults;
use crate::scenario::tunnels;

const INSTANCES: usize = 3;
/// What the end of a process may take beyond what it was given, on a busy machine.
const SLACK: Duration = Duration::from_secs(2);

pub(crate) async fn run(form: Form) -> anyhow::Result<String> {
    let (rounds, goal) = form.pick((1, 0), (10, 100_000));
    let lag = form.pick(Duration::from_millis(700), Duration::from_millis(1_500));
    let drain = Drain {
        lame_duck: form.pick(Duration::from_millis(1_500), Duration::from_millis(2_500)),
        grace: Duration::from_secs(3),
    };
    let chat = tunnels::Upstream::start().await;
    let seen = Arc::new(Seen::default());
    let calls = [Upstream::start(seen.clone())];
    let mut objects = grpc_faults::objects(&calls);
    objects.extend(tunnels::objects(&chat));
    let mut edge = Edge::start_as(&objects, INSTANCES, |setup| setup.apart(drain)).await;
    let members = members(&edge);
    let balancer = Balancer::start(members, lag).await;
    let world = Arc::new(Progress::default());
    let mut clients = start(&edge, &balancer, &world, &seen).await?;
    let mut longest = Duration::ZERO;
    for _ in 0..rounds {
        for number in 0..INSTANCES {
            let restarting = restart(&mut edge, number, &world, drain);
            tokio::select! {
                took = restarting => longest = longest.max(took?),
                failed = clients.join_next() => failed.context("clients")???,
            }
            wait_until("all in rotation", PATIENCE, || async {
                let members = balancer.members();
                if members == INSTANCES { Ok(()) } else { Err(members) }
            })
            .await;
        }
    }
    while world.all() < goal && clients.try_join_next().is_none() {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    world.done.store(true, Ordering::Relaxed);
    while let Some(client) = clients.join_next().await {
        client??;
    }
    let count = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
    Ok(format!(
        "{} requests of seven kinds over {rounds} rounds of {INSTANCES} instances, none failed; {} tunnels cut by their drain, {} requests not taken by connections that were closing, and sent on others; an end took {longest:.1?} at most, the address lags by {lag:?}",
        world.all(),
        count(&world.cut),
        count(&world.unsent),
    ))
}

fn members(edge: &Edge) -> Vec<Member> {
    let member = |instance: &sluice_e2e::fleet::Instance| {
        let http = instance.http();
        Member {
            serves: [http, (http.ip(), edge.tls.port()).into()],
            admin: instance.admin,
        }
    };
    edge.fleet.instances.iter().map(member).collect()
}

/// Some of each kind.
async fn start(
    edge: &Edge,
    balancer: &Balancer,
    world: &Arc<Progress>,
    seen: &Arc<Seen>,
) -> anyhow::Result<JoinSet<anyhow::Result<()>>> {
    let mut clients = JoinSet::new();
    let [clear, tls] = balancer.addresses;
    let kinds = [
        (Front::Http1, Asks::Quick, 4),
        (Front::Http1, Asks::Anew, 2),
        (Front::Http1, Asks::Slow, 4),
        (Front::Http1, Asks::Sends, 2),
    ];
    for (front, asks, count) in kinds {
        let mut dialer = front.dialer(edge);
        dialer.address = if front.secure() { tls } else { clear };
        for _ in 0..count {
            clients.spawn(clients::asks(world.clone(), dialer.clone(), asks));
        }
    }
    let mut dialer = Front::Http2Tls.dialer(edge);
    dialer.address = tls;
    clients.spawn(clients::shares(world.clone(), dialer, 8));
    for number in 0..2 {
        let secure = number == 1;
        let address = if secure { tls } else { clear };
        let authority = secure.then(|| edge.authority.pem());
        let caller = Caller::connect(address, HOST, authority.as_deref()).await?;
        clients.spawn(lasting::calls(world.clone(), caller, seen.clone(), number << 32, PAUSE));
    }
    for _ in 0..3 {
        let uri = format!("ws://{HOST}/ws/echo");
        clients.spawn(lasting::talks(world.clone(), clear, uri, PAUSE));
    }
    Ok(clients)
}

/// Ends an instance as a kubelet does, and starts it again; how long its end took.
async fn restart(edge: &mut Edge, number: usize, world: &Progress, drain: Drain) -> anyhow::Result<Duration> {
    let instance = &mut edge.fleet.instances[number];
    let began = Instant::now();
    world.ending.store(true, Ordering::Relaxed);
    let status = instance.stop().await.context("an instance")?;
    let took = began.elapsed();
    ensure!(status.success(), "{status}");
    ensure!(took <= drain.lame_duck + drain.grace + SLACK, "it took {took:?} to end");
    instance.start();
    instance.ready().await;
    world.ending.store(false, Ordering::Relaxed);
    Ok(took)
}
