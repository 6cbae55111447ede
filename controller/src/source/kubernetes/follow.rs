//! The watches themselves: kube's watcher for each kind, object by object, whatever befalls it.
//!
//! An object that is not of the form that its kind has ends nothing: everything is read as it comes and parsed here. A watch
//! that fails waits, each time longer, and goes on where it was; where that is of no use it begins with a new list.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::stream::{BoxStream, StreamExt};
use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::api::{Api, DynamicObject};
use kube::core::PartialObjectMeta;
use kube::runtime::utils::Backoff;
use kube::runtime::watcher::{self, DefaultBackoff, watcher};
use kube::{Client, Resource};
use sluice_model::CertificateRef;
use sluice_model::limits::{
    SOURCE_NAMESPACE_LOOK_MS, SOURCE_PAGE_OBJECTS, SOURCE_RETRY_WAIT_MAX_MS, SOURCE_SECRETS_BEGINNING,
    SOURCE_WATCH_SECONDS,
};
use tokio::sync::{Semaphore, mpsc, watch};

use super::kinds::{Watch, Watched};
use super::live::Held;
use super::read;
use super::sight::Heard;
use super::store::{Sighting, Version};
use super::trouble::Trouble;

/// How often a watch fails, for whatever reason, before it no longer goes on where it was.
const FAILURES_BEFORE_A_LIST: u32 = 3;

/// What the tasks of a source tell.
#[derive(Debug)]
pub(super) enum Told {
    /// Of a kind.
    Watch(Watch, Heard),
    /// Of one Secret.
    Secret(CertificateRef, Heard<Held>),
    /// The API server's history was set back.
    SetBack,
    /// Which kinds it serves, as it was at that time; `None` if it did not say.
    Served(crate::rollout::Millis, Option<super::ask::ServedKinds>),
}

/// What every task of a source has.
#[derive(Clone)]
pub(super) struct Line {
    /// The API server.
    pub(super) client: Client,
    /// Where it is told.
    pub(super) told: mpsc::Sender<Told>,
    /// Counts up when everything is to be read anew.
    pub(super) anew: watch::Receiver<u64>,
}

type Events<K> = BoxStream<'static, watcher::Result<watcher::Event<K>>>;

/// Follows `watch` until nobody listens.
pub(super) async fn kind(line: Line, watch: Watch) {
    match (watch.watched, &watch.namespace) {
        (Watched::Namespace, Some(_)) => look_at_namespace(line, watch).await,
        (Watched::Namespace | Watched::Object(_) | Watched::Service | Watched::EndpointSlice, _) => {
            let client = line.client.clone();
            let open = || events(&client, &watch);
            let tell = |event| Some(Told::Watch(watch.clone(), heard(&watch, event)?));
            let failed = |trouble| Told::Watch(watch.clone(), Heard::Failed(trouble));
            // There are a dozen of these: they may come back sooner than a crowd could.
            let longest = Duration::from_millis(SOURCE_RETRY_WAIT_MAX_MS);
            drive(line, longest, open, tell, failed).await;
        }
    }
}

fn config() -> watcher::Config {
    watcher::Config::default()
        .timeout(SOURCE_WATCH_SECONDS)
        .page_size(SOURCE_PAGE_OBJECTS)
}

/// A watch from its beginning: a list, a quorum read, and what happens from there on.
fn events(client: &Client, watch: &Watch) -> Events<DynamicObject> {
    let client = client.clone();
    if watch.watched == Watched::Namespace {
        // Of namespaces nobody needs more than their metadata.
        let api: Api<PartialObjectMeta<Namespace>> = Api::all(client);
        let whole = |meta: PartialObjectMeta<Namespace>| DynamicObject {
            types: None,
            metadata: meta.metadata,
            data: serde_json::Value::Null,
        };
        return watcher(api, config())
            .map(move |event| event.map(|event| mapped(event, whole)))
            .boxed();
    }
    let resource = watch.watched.resource();
    let api: Api<DynamicObject> = match &watch.namespace {
        None => Api::all_with(client, &resource),
        Some(namespace) => Api::namespaced_with(client, namespace.as_str(), &resource),
    };
    watcher(api, config()).boxed()
}

fn mapped<A, B>(event: watcher::Event<A>, map: impl FnOnce(A) -> B) -> watcher::Event<B> {
    match event {
        watcher::Event::Apply(object) => watcher::Event::Apply(map(object)),
        watcher::Event::Delete(object) => watcher::Event::Delete(map(object)),
        watcher::Event::InitApply(object) => watcher::Event::InitApply(map(object)),
        watcher::Event::Init => watcher::Event::Init,
        watcher::Event::InitDone => watcher::Event::InitDone,
    }
}

/// What an event says. `None` for an object that is of no use to anybody, such as the endpoints of no Service.
fn heard(watch: &Watch, event: watcher::Event<DynamicObject>) -> Option<Heard> {
    let read = |object| {
        read::read(watch.watched, object)
            .inspect_err(|passed| tracing::debug!(%watch, "passed over: {passed}"))
            .ok()
    };
    Some(match event {
        watcher::Event::Init => Heard::ListBegins,
        watcher::Event::InitApply(object) => Heard::Listed(read(object)?),
        watcher::Event::InitDone => Heard::ListEnds,
        watcher::Event::Apply(object) => Heard::Changed(read(object)?),
        watcher::Event::Delete(object) => Heard::Deleted(read(object)?),
    })
}

/// Drives a watch until nobody listens. `tell` says what an event is worth, `failed` how a failure is told.
async fn drive<K>(
    line: Line,
    longest_wait: Duration,
    open: impl Fn() -> Events<K>,
    tell: impl Fn(watcher::Event<K>) -> Option<Told>,
    failed: impl Fn(Trouble) -> Told,
) {
    let Line { told, mut anew, .. } = line;
    let mut backoff = DefaultBackoff::default();
    loop {
        let mut events = open();
        let mut failures = 0;
        anew.borrow_and_update();
        loop {
            let event = tokio::select! {
                event = events.next() => event,
                changed = anew.changed() => match changed {
                    Ok(()) => break,
                    Err(_) => return,
                },
            };
            match event {
                None => break,
                Some(Ok(event)) => {
                    // The beginning of a list is no sign of life: kube says it before it asks.
                    if !matches!(event, watcher::Event::Init) {
                        failures = 0;
                        backoff.reset();
                    }
                    if let Some(news) = tell(event)
                        && told.send(news).await.is_err()
                    {
                        return;
                    }
                }
                Some(Err(error)) => {
                    let trouble = Trouble::of_watch(&error);
                    failures += 1;
                    // A server that was away may be another one, or have another history: a watch that goes on from a
                    // version that it never had would hear nothing.
                    let was_away = matches!(&error, watcher::Error::WatchStartFailed(_)) && trouble.is_silence();
                    let begin_anew = was_away || trouble.needs_list() || failures >= FAILURES_BEFORE_A_LIST;
                    if told.send(failed(trouble)).await.is_err() {
                        return;
                    }
                    tokio::time::sleep(backoff.next().unwrap_or(longest_wait).min(longest_wait)).await;
                    if begin_anew {
                        break;
                    }
                }
            }
        }
    }
}

/// Follows one namespace where namespaces may not be watched: a Role may allow to read its own namespace, no more.
async fn look_at_namespace(mut line: Line, watch: Watch) {
    let Some(name) = watch.namespace.clone() else { return };
    let api: Api<PartialObjectMeta<Namespace>> = Api::all(line.client.clone());
    loop {
        let heard = match api.get_opt(name.as_str()).await {
            Err(error) => vec![Heard::Failed(Trouble::of(&error))],
            Ok(found) => {
                let found = found.map(|meta| DynamicObject {
                    types: None,
                    metadata: meta.metadata,
                    data: serde_json::Value::Null,
                });
                let listed = found
                    .and_then(|object| read::read(watch.watched, object).ok())
                    .map(Heard::Listed);
                [Heard::ListBegins]
                    .into_iter()
                    .chain(listed)
                    .chain([Heard::ListEnds])
                    .collect()
            }
        };
        for heard in heard {
            if line.told.send(Told::Watch(watch.clone(), heard)).await.is_err() {
                return;
            }
        }
        let wait = tokio::time::sleep(Duration::from_millis(SOURCE_NAMESPACE_LOOK_MS));
        tokio::select! {
            () = wait => {}
            changed = line.anew.changed() => if changed.is_err() { return },
        }
    }
}

/// How many Secrets begin to be followed at a time: a controller that starts must not knock a thousand times at once.
pub(super) fn beginnings() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(SOURCE_SECRETS_BEGINNING))
}

/// Follows one Secret, by its name: what else its namespace holds is none of our business.
pub(super) async fn secret(line: Line, secret: CertificateRef, beginnings: Arc<Semaphore>) {
    let api: Api<Secret> = Api::namespaced(line.client.clone(), secret.namespace.as_str());
    let config = config().fields(&format!("metadata.name={}", secret.name));
    let open = || watcher(api.clone(), config.clone()).boxed();
    let Ok(permit) = beginnings.acquire_owned().await else {
        return;
    };
    let permit = Mutex::new(Some(permit));
    let began = || drop(permit.lock().unwrap_or_else(PoisonError::into_inner).take());
    let tell = |event: watcher::Event<Secret>| {
        if matches!(event, watcher::Event::InitDone) {
            began();
        }
        Some(Told::Secret(secret.clone(), heard_of_secret(event)?))
    };
    let failed = |trouble| {
        began();
        Told::Secret(secret.clone(), Heard::Failed(trouble))
    };
    // These may be a crowd: they wait as long as kube's clients do.
    drive(line, Duration::from_secs(30), open, tell, failed).await;
}

fn heard_of_secret(event: watcher::Event<Secret>) -> Option<Heard<Held>> {
    let sighting = |secret: Secret| {
        let meta = secret.meta();
        Some(Sighting {
            place: read::place(meta).ok()?,
            uid: meta.uid.clone().unwrap_or_default().into(),
            version: Version::of(meta.resource_version.as_deref().unwrap_or_default()),
            value: Held::of(&secret),
        })
    };
    Some(match event {
        watcher::Event::Init => Heard::ListBegins,
        watcher::Event::InitApply(secret) => Heard::Listed(sighting(secret)?),
        watcher::Event::InitDone => Heard::ListEnds,
        watcher::Event::Apply(secret) => Heard::Changed(sighting(secret)?),
        watcher::Event::Delete(secret) => Heard::Deleted(sighting(secret)?),
    })
}

#[cfg(test)]
mod tests;
