//! One instance from its command line to its end, in the order in which things have to happen.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use prometheus::Registry;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::descriptors;
use super::ending::{Ending, Endings, Parent};
use super::serving::{Observer, Serving};
use super::{Configured, Subscription};
use crate::args::Args;
use crate::config::last_good::LastGood;
use crate::config::metrics::IntakeMetrics;
use crate::dial::Controller;
use crate::enrol::Enrolment;
use crate::enrol::metrics::IdentityMetrics;
use crate::health::{self, Health};
use crate::identity::keeper::{Keeper, KeptUntil};
use crate::identity::trust::TrustFolder;
use crate::identity::{Folder, Identity};
use crate::listener::{Binding, Sharing};
use crate::live::LiveStore;
use crate::server::{DataPlane, Options};
use crate::shutdown::{Plan, Skip};
use crate::telemetry::access_log::Target;

/// How long an orphan waits for its requests, in whole seconds' order: long enough for most, short for a restart.
const ORPHAN_GRACE: Duration = Duration::from_secs(1);

/// Runs an instance until a signal, or the loss of a parent that it needs, ends it.
///
/// # Errors
/// When it cannot start: the identity, the admin or health address, the access log.
pub fn run(args: Args) -> anyhow::Result<()> {
    descriptors::raise();
    // The control side: delivery, admin, signals. Requests have the workers' own runtimes.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("control")
        .enable_all()
        .build()
        .context("no runtime")?;
    runtime.block_on(serve(args))
}

async fn serve(args: Args) -> anyhow::Result<()> {
    let parent = args.die_with_parent.map_or(Parent::Ignored, Parent::Needed);
    let mut endings = Endings::watch(parent).context("signals cannot be handled")?;
    let registry = Registry::new();
    let health = Health::beginning(registry.clone());
    let _open = match args.health {
        Some(address) => Some(open(&health, address).await?),
        None => None,
    };
    let keeper = keeper(&args, &registry)?;
    let refused = Arc::clone(&keeper.refused);
    let first = tokio::select! {
        first = keeper.first(|why| health.waits_for(&format!("not enrolled: {why}"))) => first?,
        ending = endings.next() => {
            tracing::info!(?ending, "ended before this instance was anybody");
            return Ok(());
        }
    };
    tracing::info!(instance = %first.instance, fleet = %first.audience.fleet, "starting");

    let store = LiveStore::new(usize::from(args.metric_names));
    let data_plane = DataPlane::start(options(&args, &first, registry.clone()), store.clone()).await?;
    health.begun(Arc::clone(data_plane.admin()));
    let metrics = IntakeMetrics::register(&registry).context("metrics")?;
    let serving = Serving {
        store: store.clone(),
        listeners: Arc::clone(data_plane.listeners()),
        runtime: Handle::current(),
    };
    let observer = Observer::new(store, Arc::clone(data_plane.metrics()));
    let (current, identity) = watch::channel(first);
    let subscription = Subscription {
        controller: controller(&args),
        identity,
        refused,
    };
    let disk = LastGood::new(&args.state);
    let disk = match &args.keys {
        Some(keys) => disk.with_keys(keys.clone()),
        None => disk,
    };
    let configured =
        Configured::start(subscription, disk, metrics, (serving, observer)).context("the intake cannot start")?;

    let stop = CancellationToken::new();
    let mut keeping = tokio::spawn(keeper.keep(current, stop.clone()));
    let ending = tokio::select! {
        ending = endings.next() => ending,
        () = replaced(&mut keeping) => Ending::InGoodOrder,
    };
    stop.cancel();
    let (converge, grace) = match ending {
        Ending::InGoodOrder => (args.lame_duck, args.grace),
        // Nobody watches any more, and whoever starts anew wants the ports.
        Ending::Orphaned => (Duration::ZERO, args.grace.min(ORPHAN_GRACE)),
    };
    configured.ending().await;
    tracing::info!(?ending, ?converge, ?grace, "draining");
    let plan = Plan { converge, grace };
    let skip = Skip::default();
    let impatience = tokio::spawn(be_impatient(endings, skip.clone()));
    let end = data_plane.shutdown(plan, &skip).await;
    impatience.abort();
    configured.stop().await;
    tracing::info!(?end, "ended");
    Ok(())
}

/// Until this process is found to be another instance than it began as: whoever started it starts it again, as the right
/// one. Otherwise never, whatever happens to the keeper: what serves goes on.
async fn replaced(keeping: &mut JoinHandle<KeptUntil>) {
    match keeping.await {
        Ok(KeptUntil::Replaced) => {}
        Ok(KeptUntil::Stopped) | Err(_) => std::future::pending().await,
    }
}

/// Every further reason to end skips a stage.
async fn be_impatient(mut endings: Endings, skip: Skip) {
    loop {
        endings.next().await;
        skip.now();
        // An orphan stays one: without this, it would skip without end.
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

async fn open(health: &Health, address: SocketAddr) -> anyhow::Result<health::Open> {
    let opened = health.open(address).await;
    opened.with_context(|| format!("the health address {address} cannot be used; choose another with --health"))
}

fn controller(args: &Args) -> Controller {
    Controller {
        address: args.controller.clone(),
        name: args.controller_name.clone(),
    }
}

fn keeper(args: &Args, registry: &Registry) -> anyhow::Result<Keeper> {
    Ok(Keeper {
        folder: Folder::new(&args.state, args.keys.as_deref()),
        trust: args.trust.clone().map(TrustFolder::new),
        enrolment: args.token.clone().map(|token| Enrolment {
            controller: controller(args),
            token,
        }),
        metrics: IdentityMetrics::register(registry).context("metrics")?,
        refused: Arc::default(),
    })
}

fn options(args: &Args, identity: &Identity, registry: Registry) -> Options {
    let overrides: BTreeMap<_, _> = args
        .bind
        .iter()
        .map(|bind| (bind.listener.to_string(), bind.address))
        .collect();
    Options {
        instance: identity.instance.to_string(),
        workers: args.workers.map(usize::from),
        binding: Binding {
            ip: args.bind_ip,
            overrides,
            // Instances of one machine share their ports; a stranger's port is an error all the same.
            sharing: Sharing::Fleet,
        },
        admin: Some(args.admin),
        access_log: args.access_log.as_ref().map_or(Target::Off, |path| {
            if path.as_os_str() == "-" {
                Target::Stdout
            } else {
                Target::File(path.clone())
            }
        }),
        registry,
    }
}
