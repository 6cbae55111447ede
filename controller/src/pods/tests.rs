//! Who is told to be gone, by an API server that is made up.

use super::*;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What there is of each pod, by namespace and name. Nothing can be asked while it is away.
#[derive(Debug, Default)]
struct Fake {
    pods: Mutex<BTreeMap<(String, String), Seen>>,
    is_away: Mutex<bool>,
    asked: AtomicUsize,
}

#[tonic::async_trait]
impl Lookup for Fake {
    async fn look(&self, namespace: &str, name: &str) -> Result<Seen, LookupError> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        if *self.is_away.lock().unwrap() {
            return Err(LookupError("away".to_owned()));
        }
        let key = (namespace.to_owned(), name.to_owned());
        Ok(self.pods.lock().unwrap().get(&key).cloned().unwrap_or(Seen::Nothing))
    }
}

impl Fake {
    fn has(&self, namespace: &str, name: &str, uid: &str) {
        let seen = Seen::Alive { uid: uid.to_owned() };
        self.pods
            .lock()
            .unwrap()
            .insert((namespace.to_owned(), name.to_owned()), seen);
    }
}

fn id(text: &str) -> InstanceId {
    text.parse().unwrap()
}

fn ids(texts: &[&str]) -> BTreeSet<InstanceId> {
    texts.iter().map(|text| id(text)).collect()
}

fn world() -> (Arc<Fake>, Pods) {
    let fake = Arc::<Fake>::default();
    let pods = Pods::new(Arc::clone(&fake) as Arc<dyn Lookup>);
    pods.update(|view| {
        view.look_at(&["shop".to_owned()].into());
        view.listed("shop", ids(&["a.00000001"]));
    });
    (fake, pods)
}

#[tokio::test]
async fn a_view_that_is_behind_condemns_nobody() {
    let (fake, pods) = world();
    assert_eq!(pods.existence("shop", &id("a.00000001")).await, Existence::Presumed);
    assert_eq!(
        fake.asked.load(Ordering::Relaxed),
        0,
        "who is in view is not asked about"
    );
    fake.has("shop", "b", "00000002-4e5f");
    assert_eq!(
        pods.existence("shop", &id("b.00000002")).await,
        Existence::Presumed,
        "the watch is late"
    );
    assert_eq!(
        pods.existence("shop", &id("b.00000009")).await,
        Existence::Gone,
        "the one before of that name"
    );
    assert_eq!(pods.existence("shop", &id("not-a-pod")).await, Existence::Presumed);
}

#[tokio::test]
async fn while_nobody_can_be_asked_nobody_is_gone() {
    let (fake, pods) = world();
    *fake.is_away.lock().unwrap() = true;
    assert_eq!(pods.existence("shop", &id("b.00000002")).await, Existence::Presumed);
    *fake.is_away.lock().unwrap() = false;
    assert_eq!(pods.existence("shop", &id("b.00000002")).await, Existence::Gone);
    *fake.is_away.lock().unwrap() = true;
    assert_eq!(
        pods.existence("shop", &id("b.00000002")).await,
        Existence::Gone,
        "it does not come back"
    );
}

#[tokio::test(start_paused = true)]
async fn the_pipeline_is_told_of_those_that_it_counts() {
    let (fake, pods) = world();
    fake.has("shop", "late", "00000007");
    let (mut census, reports) = census();
    let stop = CancellationToken::new();
    let reporting = tokio::spawn(pods.clone().report(reports, stop.clone()));
    census
        .counted
        .send_replace(Arc::new(ids(&["a.00000001", "b.00000002", "late.00000007", "by-hand"])));
    assert_eq!(census.gone.recv().await, Some(id("b.00000002")));
    census
        .counted
        .send_replace(Arc::new(ids(&["a.00000001", "late.00000007"])));
    pods.update(|view| view.went("shop", &id("a.00000001")));
    assert_eq!(census.gone.recv().await, Some(id("a.00000001")));
    stop.cancel();
    reporting.await.unwrap();
    assert_eq!(census.gone.recv().await, None, "nobody else");
}

#[tokio::test(start_paused = true)]
async fn who_could_not_be_asked_about_is_asked_about_again() {
    let (fake, pods) = world();
    *fake.is_away.lock().unwrap() = true;
    let (mut census, reports) = census();
    let reporting = tokio::spawn(pods.report(reports, CancellationToken::new()));
    census.counted.send_replace(Arc::new(ids(&["b.00000002"])));
    while fake.asked.load(Ordering::Relaxed) < 3 {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    *fake.is_away.lock().unwrap() = false;
    assert_eq!(census.gone.recv().await, Some(id("b.00000002")));
    reporting.abort();
}
