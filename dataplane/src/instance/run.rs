//! One instance from its command line to its end, in the order in which things have to happen.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::runtime::Handle;

use super::ending::{Ending, Endings, Parent};
use super::serving::{Observer, Serving};
use super::{Configured, Controller};
use crate::args::Args;
use crate::config::last_good::LastGood;
use crate::config::metrics::IntakeMetrics;
use crate::identity::Identity;
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
/// When it cannot start: the identity, the admin address, the access log.
pub fn run(args: Args) -> anyhow::Result<()> {
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
    let identity = Arc::new(Identity::load(&args.state)?);
    tracing::info!(instance = %identity.instance, fleet = %identity.audience.fleet, "starting");

    let store = LiveStore::new(usize::from(args.metric_names));
    let data_plane = DataPlane::start(options(&args, &identity), store.clone()).await?;
    let metrics = IntakeMetrics::register(data_plane.metrics().delivery()).context("metrics")?;
    let serving = Serving {
        store: store.clone(),
        listeners: Arc::clone(data_plane.listeners()),
        runtime: Handle::current(),
    };
    let observer = Observer::new(store, Arc::clone(data_plane.metrics()));
    let controller = Controller {
        address: args.controller,
        name: args.controller_name,
    };
    let disk = LastGood::new(&args.state);
    let disk = match args.keys {
        Some(keys) => disk.with_keys(keys),
        None => disk,
    };
    let configured = Configured::start(identity, disk, controller, metrics, (serving, observer))
        .context("the intake cannot start")?;

    let ending = endings.next().await;
    let (converge, grace) = match ending {
        Ending::InGoodOrder => (args.lame_duck, args.grace),
        // Nobody watches any more, and whoever starts anew wants the ports.
        Ending::Orphaned => (Duration::ZERO, args.grace.min(ORPHAN_GRACE)),
    };
    configured.ending().await;
    tracing::info!(?ending, ?converge, ?grace, "draining");
    let plan = Plan { converge, grace };
    let skip = Skip::default();
    let again = skip.clone();
    let impatience = tokio::spawn(async move {
        loop {
            endings.next().await;
            again.now();
            // An orphan stays one: without this, it would skip without end.
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    });
    let end = data_plane.shutdown(plan, &skip).await;
    impatience.abort();
    configured.stop().await;
    tracing::info!(?end, "ended");
    Ok(())
}

fn options(args: &Args, identity: &Identity) -> Options {
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
    }
}
