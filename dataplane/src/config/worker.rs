//! The thread that the intake runs on: one, of its own, at low priority, so that building a large revision takes
//! nothing from requests. Deliveries queue up in a short channel, which holds the stream back in turn.

use std::time::{SystemTime, UNIX_EPOCH};

use sluice_model::limits::{MAX_WAITING_ANSWERS, MAX_WAITING_DELIVERIES};
use sluice_proto::keys::KeySet;
use tokio::sync::{mpsc, oneshot, watch};

use super::target::Target;
use super::{Answer, Delivered, Effect, Intake, Introduction};

/// How much nicer the thread is than those that serve.
#[cfg(target_os = "linux")]
const NICENESS: i32 = 10;

/// What the thread is asked to do.
#[derive(Debug)]
enum Command {
    Open(mpsc::Sender<Said>),
    Take(Delivered),
    Trust(KeySet),
    Ending(oneshot::Sender<()>),
    Stop(oneshot::Sender<()>),
}

/// What the intake says on a stream: an introduction first, then answers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Said {
    /// The first thing on every stream.
    Introduction(Introduction),
    /// To a delivery.
    Answer(Answer),
}

/// The way to the thread. Clones lead to the same one; it ends when the last is dropped, or by [`stop`](Self::stop).
#[derive(Clone, Debug)]
pub struct Worker {
    commands: mpsc::Sender<Command>,
    effect: watch::Receiver<Effect>,
}

impl Worker {
    /// Starts the thread. `start` makes the intake there, which serves what is on disk before it returns.
    pub fn spawn<T: Target>(start: impl FnOnce() -> Intake<T> + Send + 'static) -> std::io::Result<Self> {
        let (commands, inbox) = mpsc::channel(MAX_WAITING_DELIVERIES);
        let (effect, seen) = watch::channel(Effect::default());
        std::thread::Builder::new().name("intake".to_owned()).spawn(move || {
            // The kept configuration is built at full priority: nothing serves yet.
            let intake = start();
            lower_priority();
            run(intake, inbox, &effect);
        })?;
        Ok(Self { commands, effect: seen })
    }

    /// A stream to the controller is open: what the intake says goes there from now on, an introduction first.
    pub async fn open(&self) -> mpsc::Receiver<Said> {
        let (said, heard) = mpsc::channel(MAX_WAITING_ANSWERS);
        // If the thread is gone, `said` is dropped and the receiver reports the end.
        let _ = self.commands.send(Command::Open(said)).await;
        heard
    }

    /// Hands over what arrived; waits while the queue is full.
    pub async fn take(&self, delivered: Delivered) {
        let _ = self.commands.send(Command::Take(delivered)).await;
    }

    /// These keys may sign from now on, and no others.
    pub async fn trust(&self, keys: KeySet) {
        let _ = self.commands.send(Command::Trust(keys)).await;
    }

    /// What serves.
    pub fn effect(&self) -> Effect {
        *self.effect.borrow()
    }

    /// To wait for a change of what serves.
    pub fn watch(&self) -> watch::Receiver<Effect> {
        self.effect.clone()
    }

    /// The process was asked to end, and will: returns when the state folder says so.
    pub async fn ending(&self) {
        let (done, noted) = oneshot::channel();
        if self.commands.send(Command::Ending(done)).await.is_ok() {
            let _ = noted.await;
        }
    }

    /// Ends the thread in good order; returns when the state folder says so.
    pub async fn stop(&self) {
        let (done, stopped) = oneshot::channel();
        if self.commands.send(Command::Stop(done)).await.is_ok() {
            let _ = stopped.await;
        }
    }
}

fn run<T: Target>(mut intake: Intake<T>, mut inbox: mpsc::Receiver<Command>, effect: &watch::Sender<Effect>) {
    let mut stream: Option<mpsc::Sender<Said>> = None;
    publish(effect, &intake);
    loop {
        match inbox.blocking_recv() {
            Some(Command::Open(said)) => {
                stream = Some(said);
                let introduction = intake.introduce();
                say(&mut stream, Said::Introduction(introduction));
            }
            Some(Command::Take(delivered)) => {
                let answers = intake.take(delivered, now_unix_seconds());
                publish(effect, &intake); // known here before the controller can know it
                for answer in answers {
                    say(&mut stream, Said::Answer(answer));
                }
            }
            Some(Command::Trust(keys)) => intake.trust(keys),
            Some(Command::Ending(done)) => {
                intake.stop();
                let _ = done.send(());
            }
            Some(Command::Stop(done)) => {
                intake.stop();
                let _ = done.send(());
                return;
            }
            None => return,
        }
    }
}

fn publish<T: Target>(effect: &watch::Sender<Effect>, intake: &Intake<T>) {
    let now = intake.effect();
    effect.send_if_modified(|seen| std::mem::replace(seen, now) != now);
}

/// Never waits: a stream that takes nothing is dropped, and the next one begins with an introduction that tells all.
fn say(stream: &mut Option<mpsc::Sender<Said>>, said: Said) {
    if stream.as_ref().is_some_and(|stream| stream.try_send(said).is_err()) {
        *stream = None;
    }
}

fn now_unix_seconds() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

/// On Linux a thread's own matter; elsewhere it would slow the whole process down.
fn lower_priority() {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::nice(NICENESS) {
        tracing::debug!(%error, "the intake's thread keeps its priority");
    }
}
