//! The Secret of keys and the ConfigMaps of trust on a real API server: two replicas that begin at once have one cluster;
//! what is deleted is put back, what is damaged is named and never replaced; keys are replaced phase by phase when
//! somebody asks for it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::Api;
use sluice_controller::installation::Installation;
use sluice_controller::keyring::secret::{KeptKeys, ROTATE, WorkingCopy};
use sluice_controller::keyring::{Keyring, Pace};
use sluice_controller::leader::Leadership;
use sluice_controller::pipeline::wall_clock;
use sluice_controller::stream::Post;
use sluice_controller::trust::Trust;
use sluice_controller::trust::config_maps::{ConfigMaps, Troubles};
use sluice_e2e::wait::wait_until;
use sluice_proto::KeySet;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::memberships;
use crate::world::World;

const PATIENCE: Duration = Duration::from_secs(60);
/// Fast enough to be watched.
const PACE: Pace = Pace {
    announced_seconds: 12,
    signing_seconds: 12,
};

/// See the registry.
pub(crate) async fn kept(world: &World) -> anyhow::Result<()> {
    let own = world.namespace("own").await?;
    let shop = world.namespace("shop").await?;
    let strangers = world.namespace("strangers").await?;
    let (one, other) = (tempfile::tempdir()?, tempfile::tempdir()?);
    let open = |folder: &tempfile::TempDir| {
        let copy = WorkingCopy {
            state: folder.path().to_owned(),
            host: None,
            pace: PACE,
        };
        KeptKeys::open(world.client(), own.clone(), Installation::none(), copy)
    };
    let (leader, follower) = tokio::try_join!(open(&one), open(&other))?;
    ensure!(leader.cluster() == follower.cluster(), "two replicas made two clusters");
    let keyrings = [&one, &other].map(|folder| Keyring::read(folder.path()));
    let [keyring, same] = keyrings;
    let keyring = keyring?;
    ensure!(keyring == same?, "two replicas have different keys");

    let stop = CancellationToken::new();
    let _guard = stop.clone().drop_guard();
    let troubles = lead(world, &own, &shop, &leader, &stop)?;
    let (_follows, following) = watch::channel(Leadership::Follows { leader: None });
    let followed = (follower.trust(), follower.changes());
    let (_leads, leading) = watch::channel(Leadership::Leads);
    let story = leader.story();
    tokio::spawn(leader.keep(leading, Arc::new(wall_clock), stop.clone()));
    tokio::spawn(follower.keep(following, Arc::new(wall_clock), stop.clone()));

    trust_is_kept(world, [&own, &shop, &strangers], &keyring, troubles).await?;
    secret_is_kept(world, &own, &keyring).await?;
    replaced(world, &own, &shop, &keyring, story, followed).await?;
    damage_is_named(world, &own, open(&tempfile::tempdir()?)).await?;
    new_beside_old_records(world).await
}

/// Keys that are made where a fleet has a record are marked as new to it: its instances trust others.
async fn new_beside_old_records(world: &World) -> anyhow::Result<()> {
    let own = world.namespace("renewed").await?;
    let labels = "app.kubernetes.io/managed-by=sluice-controller,sluice.dev/part=record,sluice.dev/fleet=edge";
    world
        .kubectl(&["-n", &own, "create", "configmap", "sluice-record-edge"])
        .await?;
    let label = ["-n", &own, "label", "configmap", "sluice-record-edge"];
    let labels: Vec<&str> = label.into_iter().chain(labels.split(',')).collect();
    world.kubectl(&labels).await?;
    let folder = tempfile::tempdir()?;
    let copy = WorkingCopy {
        state: folder.path().to_owned(),
        host: None,
        pace: PACE,
    };
    KeptKeys::open(world.client(), own.clone(), Installation::none(), copy).await?;
    let api: Api<Secret> = Api::namespaced(world.client(), &own);
    let marks = api.get("sluice-keys").await?.metadata.annotations.unwrap_or_default();
    ensure!(marks.contains_key("new-to.sluice.dev/edge"), "{marks:?}");
    Ok(())
}

/// Keeps the ConfigMaps, for a Rollout whose members are in `shop` and in a namespace that does not exist.
fn lead(
    world: &World,
    own: &str,
    shop: &str,
    keys: &KeptKeys,
    stop: &CancellationToken,
) -> anyhow::Result<watch::Receiver<Troubles>> {
    let (said, _) = mpsc::channel(1);
    let memberships = memberships::of(own, &[("edge", &[(shop, "s"), ("e2e-keys-nowhere", "s")])])?;
    let maps = ConfigMaps {
        client: world.client(),
        cluster: keys.cluster().clone(),
        own: own.to_owned(),
        installation: Installation::none(),
        memberships: watch::channel(Some(Arc::new(memberships))).1,
        trust: keys.trust(),
        story: keys.story(),
        post: watch::channel(Post::Leads(said)).1,
    };
    let (told, troubles) = watch::channel(Troubles::new());
    tokio::spawn(maps.keep(told, stop.clone()));
    Ok(troubles)
}

async fn trust_map(world: &World, namespace: &str) -> anyhow::Result<Option<ConfigMap>> {
    let api: Api<ConfigMap> = Api::namespaced(world.client(), namespace);
    Ok(api.get_opt("sluice-trust").await?)
}

/// Waits until the ConfigMap says what `keyring` says.
async fn says_of(world: &World, namespace: &str, keyring: &Keyring) -> anyhow::Result<()> {
    let trusted = keyring.trusted()?;
    wait_until(&format!("the ConfigMap in {namespace}"), PATIENCE, || async {
        let map = trust_map(world, namespace).await?.context("there is none")?;
        let data = map.data.unwrap_or_default();
        let part = |name: &str| data.get(name).cloned().unwrap_or_default();
        let listed = KeySet::from_json(&part("trusted.json"))?;
        ensure!(part("ca.pem") == keyring.ca_bundle(), "other authorities");
        ensure!(listed == trusted, "{listed:?}");
        ensure!(part("cluster") == keyring.cluster().as_str(), "another cluster");
        anyhow::Ok(())
    })
    .await;
    Ok(())
}

async fn trust_is_kept(
    world: &World,
    [own, shop, strangers]: [&str; 3],
    keyring: &Keyring,
    mut troubles: watch::Receiver<Troubles>,
) -> anyhow::Result<()> {
    says_of(world, own, keyring).await?;
    says_of(world, shop, keyring).await?;
    ensure!(trust_map(world, strangers).await?.is_none(), "nobody there is a member");
    tokio::time::timeout(PATIENCE, troubles.wait_for(|troubles| !troubles.is_empty())).await??;
    let told = troubles.borrow().clone();
    let namespaces: BTreeSet<&str> = told.keys().map(String::as_str).collect();
    ensure!(namespaces == ["e2e-keys-nowhere"].into(), "{told:?}");
    ensure!(
        told.values().all(|trouble| trouble.contains("does not exist")),
        "{told:?}"
    );

    // Both are mended with the next look.
    world
        .kubectl(&["-n", own, "delete", "configmap", "sluice-trust"])
        .await?;
    let edit = r#"{"data":{"ca.pem":"of a stranger"}}"#;
    let patch = [
        "-n",
        shop,
        "patch",
        "configmap",
        "sluice-trust",
        "--type=merge",
        "-p",
        edit,
    ];
    world.kubectl(&patch).await?;
    says_of(world, own, keyring).await?;
    says_of(world, shop, keyring).await
}

async fn secret_is_kept(world: &World, own: &str, keyring: &Keyring) -> anyhow::Result<()> {
    let api: Api<Secret> = Api::namespaced(world.client(), own);
    let made = api.get("sluice-keys").await?;
    let labels = made.metadata.labels.unwrap_or_default();
    ensure!(
        labels.get("sluice.dev/part").map(String::as_str) == Some("keys"),
        "{labels:?}"
    );
    world.kubectl(&["-n", own, "delete", "secret", "sluice-keys"]).await?;
    let parts = keyring.parts()?;
    wait_until("the Secret to be put back", PATIENCE, || async {
        let data = api.get("sluice-keys").await?.data.unwrap_or_default();
        let same = parts
            .iter()
            .all(|(part, bytes)| data.get(part).is_some_and(|held| held.0 == **bytes));
        ensure!(same && data.len() == parts.len(), "it is not as it was");
        anyhow::Ok(())
    })
    .await;
    Ok(())
}

async fn replaced(
    world: &World,
    own: &str,
    shop: &str,
    before: &Keyring,
    mut story: watch::Receiver<String>,
    (trust, changes): (watch::Receiver<Arc<Trust>>, watch::Receiver<u64>),
) -> anyhow::Result<()> {
    let ask = format!("{ROTATE}=june");
    world
        .kubectl(&["-n", own, "annotate", "secret", "sluice-keys", &ask])
        .await?;
    for (phase, keys, authorities) in [("announced", 6, 2), ("sign since", 6, 2), ("were replaced", 3, 1)] {
        let told = tokio::time::timeout(PATIENCE, story.wait_for(|told| told.contains(phase)))
            .await??
            .clone();
        world.say(&told);
        wait_until(&format!("members to hear: {told}"), PATIENCE, || async {
            let map = trust_map(world, shop).await?.context("there is none")?;
            let shown = map.metadata.annotations.unwrap_or_default();
            ensure!(shown.get("sluice.dev/rotation") == Some(&told), "{shown:?}");
            let data = map.data.unwrap_or_default();
            let listed = KeySet::from_json(data.get("trusted.json").context("no keys")?)?;
            ensure!(listed.iter().count() == keys, "{listed:?}");
            let ca = data.get("ca.pem").context("no authorities")?;
            ensure!(ca.matches("BEGIN CERTIFICATE").count() == authorities, "{ca}");
            anyhow::Ok(())
        })
        .await;
    }
    let api: Api<Secret> = Api::namespaced(world.client(), own);
    let data = api.get("sluice-keys").await?.data.unwrap_or_default();
    let old = before.parts()?;
    for part in ["manifest.key", "order.key", "live.key", "ca.key", "ca.pem"] {
        let same = data.get(part).map(|held| &held.0) == old.get(part).map(|held| &**held);
        ensure!(!same, "{part} was not replaced");
    }
    ensure!(
        data.get("cluster").map(|held| &held.0) == old.get("cluster").map(|held| &**held),
        "the cluster is another"
    );
    let authority = String::from_utf8(data.get("ca.pem").context("no authority")?.0.clone())?;
    wait_until("the replica that follows", PATIENCE, || async {
        (trust.borrow().pki.authority().certificate() == authority)
            .then_some(())
            .ok_or("it has other keys")
    })
    .await;
    ensure!(*changes.borrow() >= 1, "nobody was told to open them again");
    Ok(())
}

async fn damage_is_named<T>(
    world: &World,
    own: &str,
    start: impl Future<Output = Result<T, sluice_controller::keyring::secret::SecretError>>,
) -> anyhow::Result<()> {
    let api: Api<Secret> = Api::namespaced(world.client(), own);
    let remove = r#"[{"op":"remove","path":"/data/order.key"}]"#;
    world
        .kubectl(&["-n", own, "patch", "secret", "sluice-keys", "--type=json", "-p", remove])
        .await?;
    let damaged = api.get("sluice-keys").await?;
    let Err(error) = start.await else {
        anyhow::bail!("a replica starts with half of the keys");
    };
    let said = error.to_string();
    world.say(&said);
    ensure!(
        said.contains("order.key is missing") && said.contains("backup"),
        "{said}"
    );
    // Nobody mends it, the replicas that still hold the keys least of all: somebody did this.
    tokio::time::sleep(Duration::from_secs(15)).await;
    let now = api.get("sluice-keys").await?;
    ensure!(
        now.metadata.resource_version == damaged.metadata.resource_version,
        "it was written over"
    );
    Ok(())
}
