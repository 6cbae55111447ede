//! The join, readable from top to bottom: source → debounce → translate, validate, compile → sections → manifest,
//! signed → record → orders.
//!
//! One task owns everything that can change (each fleet's record, core and connections), so that events happen one
//! after the other. It waits for six things: the objects, the values that they refer to, the instances, word of pods that
//! are gone, people, and the clock. Everything beneath is deterministic. What it shows is on the [`Board`].

pub mod board;
pub mod commands;
mod concerns;
pub mod fleet;
mod instances;
mod observed;
pub mod offer;
pub mod situation;
pub mod story;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use sluice_model::ServiceRef;
use sluice_model::limits::{PIPELINE_TICK_MS, REVISION_RETRY_MS};
use sluice_model::{FleetName, InstanceId};
use sluice_proto::sections::unit_digest;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::audit::Audit;
use crate::compile::{Compiled, Compiler};
use crate::live::{self, Feed, RemovalBrake, Values, Wanted};
use crate::pods::Census;
use crate::problem::Problem;
use crate::revisions;
use crate::rollout::{Beginning, Event, Millis, Plan};
use crate::source::{Source, View};
use crate::stream::StreamEvent;
use crate::trust::config_maps::Troubles;
use crate::validate::Governed;
pub use board::Board;
pub use commands::Asked;
pub use fleet::{Fleet, FleetError, Next, Shared};
pub use situation::Situation;
pub use story::{Happening, StoryLine};

use crate::debounce::Debounce;
use situation::Written;

/// What time it is.
pub type Clock = Arc<dyn Fn() -> Millis + Send + Sync>;

/// What the system's clock says.
pub fn wall_clock() -> Millis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// What people may set.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Settings {
    /// How long objects have to be at rest before they are compiled, in milliseconds.
    pub debounce_ms: u64,
    /// For how long newer revisions may supersede an unfinished change, in milliseconds.
    pub max_pending_age_ms: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            debounce_ms: 100,
            max_pending_age_ms: 600_000,
        }
    }
}

/// What the pipeline waits for, besides the clock.
#[derive(Debug)]
pub struct Inputs<S> {
    /// The objects.
    pub source: S,
    /// What the source showed first, if that was waited for.
    pub first: Option<Arc<View>>,
    /// What objects refer to on the live lane.
    pub live: Feed,
    /// The instances.
    pub instances: mpsc::Receiver<StreamEvent>,
    /// Who of the instances is gone for good; `None`: nobody knows but people, who say so by command.
    pub census: Option<Census>,
    /// People's commands.
    pub people: mpsc::Receiver<Asked>,
    /// Namespaces whose pods cannot learn whom to trust.
    pub untrusting: watch::Receiver<Troubles>,
}

/// The next one that is gone; never, if nobody knows.
async fn gone(census: &mut Option<Census>) -> Option<InstanceId> {
    match census {
        Some(census) => census.gone.recv().await,
        None => std::future::pending().await,
    }
}

/// See the file's comment.
pub struct Pipeline {
    shared: Shared,
    settings: Settings,
    clock: Clock,
    audit: Audit,
    beginning: Beginning,
    /// The fleets that the objects named at first.
    at_first: Option<BTreeSet<FleetName>>,
    compiler: Compiler,
    fleets: BTreeMap<FleetName, Fleet>,
    /// Those whose record could not be read, and when it is tried again. They keep serving what they serve.
    unread: BTreeMap<FleetName, Millis>,
    newest: Option<Arc<View>>,
    values: Arc<Values>,
    brakes: BTreeMap<ServiceRef, RemovalBrake>,
    /// What compile had to say; what the live lane has to say is added each time.
    compiled_problems: Vec<Problem>,
    /// The objects as they are shown; `None` before the first compile.
    written: Option<Arc<Written>>,
    /// Namespaces whose pods cannot learn whom to trust.
    untrusting: Troubles,
}

impl Pipeline {
    /// The fleets that the state folder knows, each as its record says. Where records are kept elsewhere, one that cannot
    /// be read at the moment is read later, and the other fleets do not wait for it.
    ///
    /// # Errors
    /// When a record is there, in the folder itself, but cannot be read.
    pub fn open(shared: Shared, settings: Settings, clock: Clock, audit: Audit) -> Result<Self, FleetError> {
        let beginning = if shared.signers.are_unused() {
            Beginning::NewFleet
        } else {
            Beginning::RecordMissing
        };
        let mut pipeline = Self {
            compiler: Compiler::new(unit_digest),
            fleets: BTreeMap::new(),
            unread: BTreeMap::new(),
            newest: None,
            values: Arc::default(),
            brakes: BTreeMap::new(),
            compiled_problems: vec![],
            written: None,
            untrusting: Troubles::new(),
            shared,
            settings,
            clock,
            audit,
            beginning,
            at_first: None,
        };
        pipeline.shared.board.begin_anew();
        let now = (pipeline.clock)();
        for name in revisions::fleets(&pipeline.shared.state) {
            match pipeline.begin(&name, Plan::built_in(), beginning, now) {
                Err(error) if pipeline.shared.remote.is_none() => return Err(error),
                Ok(()) | Err(_) => {}
            }
        }
        pipeline.show_all();
        Ok(pipeline)
    }

    /// Governs the fleet called `name` from now on, as its record says.
    fn begin(&mut self, name: &FleetName, plan: Plan, beginning: Beginning, now: Millis) -> Result<(), FleetError> {
        match Fleet::open(self.shared.clone(), name.clone(), plan, beginning, now) {
            Ok(fleet) => {
                self.unread.remove(name);
                self.fleets.insert(name.clone(), fleet);
                Ok(())
            }
            Err(error) => {
                let again = Millis(now.0.saturating_add(REVISION_RETRY_MS));
                if self.unread.insert(name.clone(), again).is_none() {
                    let trouble = Happening::Trouble(format!("not governed, and serves what it serves: {error}"));
                    self.shared.board.tell(Some(name), trouble, now);
                }
                Err(error)
            }
        }
    }

    /// Reads again what could not be read.
    fn begin_unread(&mut self, now: Millis) -> Next {
        let due = self.unread.iter().filter(|(_, again)| **again <= now);
        let due: Vec<FleetName> = due.map(|(name, _)| name.clone()).collect();
        let mut next = Next::Nothing;
        for name in due {
            let beginning = self.beginning_of(&name);
            if self.begin(&name, Plan::built_in(), beginning, now).is_ok() {
                let mended = Happening::Mended("its record is read".to_owned());
                self.shared.board.tell(Some(&name), mended, now);
                next = Next::Recompile;
            }
        }
        next
    }

    /// Whether some fleet has a revision already.
    pub fn has_history(&self) -> bool {
        self.fleets.values().any(Fleet::has_a_revision)
    }

    /// `fleet` has these instances and no others: what its record says about others counts no more.
    pub fn has_only(&mut self, fleet: &FleetName, instances: BTreeSet<InstanceId>) {
        let now = (self.clock)();
        let Some(fleet) = self.fleets.get_mut(fleet) else {
            return;
        };
        // Whether to compile again is no question: `run` begins with it.
        let _ = fleet.happen(Event::Roster(instances), now);
        let shown = fleet.shown(now);
        self.shared.board.show(vec![shown], self.written.as_ref());
    }

    /// Works until `stop`.
    pub async fn run<S: Source>(mut self, inputs: Inputs<S>, stop: CancellationToken) {
        let Inputs {
            mut source,
            first,
            mut live,
            mut instances,
            mut census,
            mut people,
            mut untrusting,
        } = inputs;
        self.untrusting = untrusting.borrow_and_update().clone();
        let mut debounce = Debounce::new(self.settings.debounce_ms);
        let mut tick = tokio::time::interval(Duration::from_millis(PIPELINE_TICK_MS));
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut source_ended = false;
        self.newest = first;
        self.compile();
        self.live(&mut live);
        loop {
            let rest = debounce.left_ms((self.clock)());
            tokio::select! {
                () = stop.cancelled() => break,
                view = source.next(), if !source_ended => match view {
                    Some(view) => {
                        self.newest = Some(view);
                        debounce.note((self.clock)());
                    }
                    None => source_ended = true,
                },
                () = tokio::time::sleep(Duration::from_millis(rest.unwrap_or(0))), if rest.is_some() => {
                    debounce.clear();
                    self.compile();
                    self.live(&mut live);
                }
                Ok(()) = live.values.changed() => self.live(&mut live),
                Some(event) = instances.recv() => self.heard(event),
                Some(instance) = gone(&mut census) => self.gone(&instance),
                Some(asked) = people.recv() => self.asked(asked),
                Ok(()) = untrusting.changed() => {
                    self.untrusting = untrusting.borrow_and_update().clone();
                    self.tell_problems((self.clock)());
                    self.show_all();
                }
                _ = tick.tick() => {
                    self.tick();
                    self.live(&mut live);
                    self.count(census.as_ref());
                }
            }
        }
        self.end();
    }

    /// Compiles the newest view for every fleet, and offers what came out to each.
    fn compile(&mut self) {
        // An answer to an offer may be a new basis, for which everything is compiled once more; the core asks again
        // with its next event if that is not enough.
        for _ in 0..3 {
            if self.compile_once() == Next::Nothing {
                break;
            }
        }
        self.show_all();
    }

    fn compile_once(&mut self) -> Next {
        let Some(view) = self.newest.clone() else {
            return Next::Nothing;
        };
        let (now, began) = ((self.clock)(), Instant::now());
        let states = self
            .fleets
            .iter_mut()
            .map(|(name, fleet)| (name.clone(), fleet.state(now)))
            .collect();
        let output = self.compiler.compile(&view, &states);
        self.shared
            .telemetry
            .compile_seconds
            .observe(began.elapsed().as_secs_f64());
        self.compiled_problems = output.problems;
        self.brakes = output.brakes;
        self.tell_problems(now);
        let named = output.fleets.keys().cloned().collect();
        let mut next = Next::Nothing;
        for (name, compiled) in output.fleets {
            next = self.offer(name, compiled, now).or(next);
        }
        self.at_first.get_or_insert(named);
        next
    }

    /// Shows what is wrong with the objects and with what they refer to, and says so if that is news.
    fn tell_problems(&mut self, now: Millis) {
        let seconds = i64::try_from(now.seconds()).unwrap_or(i64::MAX);
        let mut problems = self.compiled_problems.clone();
        problems.extend(live::problems::problems(
            self.compiler.translation(),
            &self.values,
            seconds,
        ));
        problems.extend(concerns::problems(
            self.compiler.translation(),
            self.compiler.memberships(),
            &self.untrusting,
            &self.shared.signers,
        ));
        problems.sort();
        let problems: Arc<[Problem]> = problems.into();
        self.note_written(&problems);
        let known: BTreeSet<Problem> = self.shared.board.problems().into_iter().collect();
        if self.shared.board.show_problems(&problems) {
            let errors = problems.iter().filter(|problem| problem.is_error()).count();
            let warnings = problems.len() - errors;
            let an_error = problems.iter().find(|problem| problem.is_error());
            let first = an_error.or(problems.first());
            let told = Happening::Problems {
                errors,
                warnings,
                first: first.map(ToString::to_string),
            };
            // Each once, for as long as it lasts.
            let new = problems.iter().filter(|problem| !known.contains(*problem));
            new.for_each(|problem| tracing::warn!("{problem}"));
            self.shared.board.tell(None, told, now);
        }
    }

    /// Notes the objects and what is wrong with them for the next time that anything is shown; the same value as before if
    /// neither changed.
    fn note_written(&mut self, problems: &Arc<[Problem]>) {
        let translation = self.compiler.translation();
        let services = self.values.presence();
        let known = self.written.as_ref().filter(|written| {
            Arc::ptr_eq(&written.translation, translation)
                && written.problems == *problems
                && *written.services == services
        });
        if known.is_none() {
            self.written = Some(Arc::new(Written {
                translation: translation.clone(),
                problems: problems.clone(),
                services: Arc::new(services),
            }));
        }
    }

    /// Asks the source about what the fleets want now, and has them send what is new.
    fn live(&mut self, feed: &mut Feed) {
        let now = (self.clock)();
        let mut wanted: Wanted = self
            .fleets
            .values_mut()
            .flat_map(|fleet| fleet.wanted().clone())
            .collect();
        // Also of pools that nobody uses yet: their authors are told whether the Service is there.
        wanted.services.extend(self.brakes.keys().cloned());
        feed.wanted.send_if_modified(|asked| {
            let differs = **asked != wanted;
            if differs {
                *asked = Arc::new(wanted);
            }
            differs
        });
        let values = feed.values.borrow_and_update().clone();
        let is_news = !Arc::ptr_eq(&values, &self.values) && values != self.values;
        self.values = values;
        if is_news {
            self.tell_problems(now);
        }
        for fleet in self.fleets.values_mut() {
            if is_news || fleet.lane_is_due() {
                fleet.live(&self.values, &self.brakes, now);
            }
        }
        if is_news && self.fleets.values().any(Fleet::is_unanswered) {
            self.compile();
        }
    }

    /// Whether a fleet without a record may have lost it. It has not if nothing was ever signed for it, and if it was
    /// not there when this controller first looked: then neither a lost record nor a state folder from a backup that is
    /// older than the fleet is taken for a new one.
    fn beginning_of(&self, fleet: &FleetName) -> Beginning {
        let came_later = self.at_first.as_ref().is_some_and(|first| !first.contains(fleet));
        if came_later && self.shared.signers.never_signed_for(fleet) {
            Beginning::NewFleet
        } else {
            self.beginning
        }
    }

    fn offer(&mut self, name: FleetName, compiled: Compiled, now: Millis) -> Next {
        // A fleet without anything to serve is not begun.
        if !self.fleets.contains_key(&name) && compiled.snapshot.is_none() {
            return Next::Nothing;
        }
        let plan = compiled.plan.as_ref().map(|plan| {
            let mut following = plan.plan.clone();
            following.max_pending_age_ms = self.settings.max_pending_age_ms;
            following
        });
        if !self.fleets.contains_key(&name) {
            let plan = plan.clone().unwrap_or_else(Plan::built_in);
            let beginning = self.beginning_of(&name);
            if self.unread.contains_key(&name) || self.begin(&name, plan, beginning, now).is_err() {
                return Next::Nothing; // tried again soon
            }
            if self.fleets.get(&name).is_some_and(Fleet::has_a_revision) {
                return Next::Recompile; // this was compiled without knowing what it serves
            }
        }
        let Some(fleet) = self.fleets.get_mut(&name) else {
            return Next::Nothing;
        };
        if let Some(limit) = compiled.plan.as_ref().map(|plan| plan.history_limit) {
            fleet.history_limit = usize::try_from(limit).unwrap_or(usize::MAX);
        }
        let mut next = Next::Nothing;
        if let Some(plan) = plan.filter(|plan| *plan != fleet.core.record().plan) {
            next = fleet.happen(Event::PlanChanged(plan), now);
        }
        fleet.offer(compiled, &self.values, now).or(next)
    }

    /// Says who is counted, so that somebody can find out who of them is gone. Of a fleet that no Rollout governs it is not
    /// known where its pods are.
    fn count(&self, census: Option<&Census>) {
        let Some(census) = census else { return };
        let governed = self.fleets.values();
        let governed = governed.filter(|fleet| fleet.governed() == Governed::ByRollout);
        let counted: BTreeSet<InstanceId> = governed.flat_map(Fleet::counted).cloned().collect();
        census.counted.send_if_modified(|before| {
            let differs = **before != counted;
            if differs {
                *before = Arc::new(counted);
            }
            differs
        });
    }

    fn gone(&mut self, instance: &InstanceId) {
        let now = (self.clock)();
        let counts = |(name, fleet): (&FleetName, &Fleet)| {
            let is_counted = fleet.counted().any(|counted| counted == instance);
            is_counted.then(|| name.clone())
        };
        let fleets: Vec<FleetName> = self.fleets.iter().filter_map(counts).collect();
        for name in fleets {
            let next = self.fleets.get_mut(&name).map(|fleet| fleet.gone(instance, now));
            self.follow(&name, next.unwrap_or(Next::Nothing));
        }
    }

    fn follow(&mut self, name: &FleetName, next: Next) {
        match next {
            Next::Recompile => self.compile(),
            Next::Nothing => {
                let now = (self.clock)();
                if let Some(fleet) = self.fleets.get_mut(name) {
                    let shown = fleet.shown(now);
                    self.shared.board.show(vec![shown], self.written.as_ref());
                }
            }
        }
    }

    fn tick(&mut self) {
        let now = (self.clock)();
        let mut next = self.begin_unread(now);
        for fleet in self.fleets.values_mut() {
            next = fleet.happen(Event::Tick, now).or(next);
            if fleet.is_due(now) {
                next = Next::Recompile;
            }
            next = fleet.pursue(now).or(next);
            fleet.collect(now);
        }
        match next {
            Next::Recompile => self.compile(),
            Next::Nothing => self.show_all(),
        }
    }

    fn asked(&mut self, asked: Asked) {
        let now = (self.clock)();
        let name = asked.fleet.clone();
        let next = commands::answer(asked, self.fleets.get_mut(&name), &mut self.audit, now);
        self.follow(&name, next);
    }

    fn show_all(&mut self) {
        let now = (self.clock)();
        let shown = self.fleets.values_mut().map(|fleet| fleet.shown(now)).collect();
        self.shared.board.show(shown, self.written.as_ref());
        self.shared.telemetry.show(&self.shared.board);
    }

    fn end(&mut self) {
        let now = (self.clock)();
        for (name, fleet) in &mut self.fleets {
            if let Err(error) = fleet.save_progress(now) {
                tracing::warn!(fleet = %name, %error, "what was observed last is observed again after the next start");
            }
        }
    }
}
