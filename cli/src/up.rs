//! `sluice up`: a folder of manifests served by a fleet on this machine, with everything that a fleet in a cluster has.
//!
//! The controller runs in this process, each instance in one of its own; between them are the real stream, certificates
//! and signatures. What it shows it reads from its own admin port.
//!
//! ```text
//!  folder ─► preflight ─► state ─► controller ─► children ─► ready ─► demo traffic ─► story … signal ─► drain
//! ```

pub mod banner;
pub mod children;
pub mod controller;
pub mod demo;
pub mod folder;
pub mod log_file;
pub mod plan;
pub mod port;
pub mod ready;
pub mod signals;
pub mod state;
pub mod traffic;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use sluice_model::limits::UP_INSTANCES_MAX;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;

use crate::admin::Admin;
use crate::failure::{Exit, Failure};
use crate::rollout::follow::{self, Update};
use crate::rollout::screen::Screen;
use children::{Instance, Wish};
use demo::Demo;
use plan::{Listening, Plan};
use traffic::Running;

/// Arguments of `sluice up`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Change a file in the folder, and the change is rolled out: stage by stage, watched, and taken back if it does harm.
Ctrl-C drains the instances and ends; a second Ctrl-C ends at once.

Access logs are kept in the state folder, as instances/<id>/access.log: at most 64 MiB, and one older file of that size.")]
pub struct Args {
    /// The folder of manifests, as `kubectl apply` takes them.
    #[arg(value_name = "DIR")]
    pub folder: PathBuf,
    /// Instances of the data plane, which share the HTTP address.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=i64::from(UP_INSTANCES_MAX)))]
    pub instances: u16,
    /// Where HTTP is served: stands in for the port of the listener `http`, or of the first. Others have the same IP.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080")]
    pub http: SocketAddr,
    /// Where the controller's admin port is; the instances' are on the ports after it.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:9901")]
    pub admin: SocketAddr,
    /// Where keys, revisions and logs are kept [default: one for each folder, under ~/.local/state/sluice].
    #[arg(long, value_name = "DIR")]
    pub state: Option<PathBuf>,
    /// The fleet to serve; may be left out when the folder has one Rollout.
    #[arg(long)]
    pub fleet: Option<String>,
    /// Start the upstreams and the traffic that DIR/demo/demo.json describes. Implied when there is one.
    #[arg(long)]
    pub demo: bool,
    /// Worker threads of each instance [default: the machine's cores, divided among the instances].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub workers: Option<u16>,
    /// Plain lines instead of moving ones, also on a terminal.
    #[arg(long)]
    pub plain: bool,
}

/// How often the fleet's state is looked at for the screen.
const LOOK_EVERY: Duration = Duration::from_millis(300);
/// How often the demo traffic's tally is said.
const TALLY_EVERY: Duration = Duration::from_secs(10);

/// Runs `sluice up` until it is told to end.
///
/// # Errors
/// When something it needs is missing or taken; one line that says what to do.
pub fn run(args: Args) -> Result<Exit, Failure> {
    crate::waiting_runtime()?.block_on(up(args))
}

async fn up(args: Args) -> Result<Exit, Failure> {
    // Before anything is started, so that no signal finds children that nobody drains.
    let mut signals = signals::Signals::listen()?;
    let plan = Plan::make(&args)?;
    let controller = controller::start(&plan).await?;
    let plan = Plan {
        admin: controller.admin(),
        ..plan
    };
    let screen = Arc::new(if args.plain { Screen::plain() } else { Screen::fitting() });
    if let Some(demo) = &plan.demo {
        demo::start(demo).await?;
    }
    let instances = plan.instances(&controller)?;
    screen.print(&banner::text(&plan, &instances));
    let (wish, wished) = watch::channel(Wish::Serve);
    let running: Vec<_> = instances
        .iter()
        .map(|instance| children::start(instance.clone(), screen.clone(), wished.clone()))
        .collect();
    let told = tokio::spawn(tell(plan.clone(), instances, screen.clone()));
    signals.wait().await;
    told.abort();
    end(running, &wish, &screen, &mut signals).await;
    controller.stop().await;
    screen.say("ended");
    Ok(Exit::Done)
}

/// Drains the instances; a second signal ends them at once.
async fn end(
    running: Vec<JoinHandle<()>>,
    wish: &watch::Sender<Wish>,
    screen: &Screen,
    signals: &mut signals::Signals,
) {
    screen.clear();
    screen.say("draining the instances; once more ends them at once");
    wish.send_replace(Wish::Drain);
    let ended = async {
        for instance in running {
            let _ = instance.await;
        }
    };
    tokio::pin!(ended);
    tokio::select! {
        () = &mut ended => return,
        () = signals.wait() => {}
    }
    wish.send_replace(Wish::Kill);
    ended.await;
}

/// Says when all are ready, then what happens.
async fn tell(plan: Plan, instances: Vec<Instance>, screen: Arc<Screen>) {
    let (sender, mut updates) = mpsc::channel(64);
    let Ok(admin) = Admin::at(&plan.admin.to_string()) else {
        return;
    };
    tokio::spawn(follow::follow(admin, follow::From::Beginning, LOOK_EVERY, sender));
    let ready = tokio::spawn(until_ready(plan, instances, screen.clone()));
    let mut tally = tokio::time::interval(TALLY_EVERY);
    // After a pause of the whole process (Ctrl-Z) one tally is enough.
    tally.set_missed_tick_behavior(MissedTickBehavior::Delay);
    tally.tick().await;
    let mut traffic: Option<Running> = None;
    let mut ready = Some(ready);
    loop {
        let is_ready = async {
            match &mut ready {
                Some(ready) => ready.await.ok().flatten(),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            update = updates.recv() => match update {
                Some(update) => show(&screen, update),
                None => return,
            },
            started = is_ready => {
                ready = None;
                traffic = started;
                tally.reset();
            }
            _ = tally.tick() => {
                if let Some(traffic) = &traffic {
                    screen.say(&format!("demo traffic (our own): {}", traffic.take().line()));
                }
            }
        }
    }
}

fn show(screen: &Screen, update: Update) {
    match update {
        Update::Line(line) => screen.say(&line.text),
        Update::Status(all, _) => screen.show(&all),
        Update::Lost(why) => screen.say(&why),
    }
}

async fn until_ready(plan: Plan, instances: Vec<Instance>, screen: Arc<Screen>) -> Option<Running> {
    ready::wait(&instances, &screen).await;
    screen.say(&format!(
        "ready: {} {} {}",
        banner::count(instances.len(), "instance"),
        if instances.len() == 1 { "serves" } else { "serve" },
        plan.listeners.first().map(Listening::url).unwrap_or_default()
    ));
    let traffic = plan.demo.as_ref().and_then(|demo: &Demo| demo.traffic.as_ref())?;
    screen.say(&format!(
        "demo traffic (our own): {} requests a second",
        traffic.requests_per_second
    ));
    Some(traffic::start(traffic, plan.http))
}
