//! Who may join and who may connect, as a real API server reviews real tokens: a replica of the controller in this
//! process, pods that exist and never run, and credentials of every wrong sort on every call.

mod caller;
mod replica;

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use sluice_controller::stream::StreamEvent;
use sluice_e2e::wait::wait_until;
use tonic::Code;

use crate::options::Form;
use crate::world::World;
use caller::{Given, Shown};
use replica::{EDGE, OTHER, Replica};

/// The audience of good tokens.
const AUDIENCE: &str = "sluice-controller";
/// The API server issues no token for less.
const SHORTEST: &str = "10m";

/// See the registry.
pub(crate) async fn refusals(world: &World) -> anyhow::Result<()> {
    let [own, members, strangers] = [
        world.namespace("own").await?,
        world.namespace("members").await?,
        world.namespace("strangers").await?,
    ];
    for (namespace, account) in [
        (&members, EDGE),
        (&members, OTHER),
        (&members, "nobody"),
        (&strangers, EDGE),
    ] {
        world
            .kubectl(&["-n", namespace, "create", "serviceaccount", account])
            .await?;
    }
    for (namespace, pod, account) in [
        (&members, "edge-0", EDGE),
        (&members, "edge-1", EDGE),
        (&members, "other-0", OTHER),
        (&members, "nobody-0", "nobody"),
        (&strangers, "edge-0", EDGE),
    ] {
        pod_that_never_runs(world, namespace, pod, account).await?;
    }
    let mut replica = Replica::start(world, &own, &members).await?;
    let began = Instant::now();
    let ends_soon = token(world, &members, EDGE, Some("edge-0"), AUDIENCE).await?;

    let edge = joins(world, &mut replica, &members).await?;
    tokens(world, &replica, &members, &strangers).await?;
    other_fleets(world, &mut replica, &members, &edge).await?;
    deleted(world, &mut replica, &members).await?;
    match world.form() {
        Form::Short => world.say("an expired token: in the full form only, since none ends within ten minutes"),
        Form::Full => {
            // The API server allows clocks a minute, and remembers a good token for some seconds.
            let ends = Duration::from_secs(10 * 60 + 60 + 30);
            tokio::time::sleep(ends.saturating_sub(began.elapsed())).await;
            let refused = replica.enrol(Shown::Nothing, &ends_soon).await;
            says("an expired token", refused, Code::Unauthenticated, "it has ended")?;
        }
    }
    Ok(())
}

/// A pod, as far as the API server is concerned; no node takes it.
async fn pod_that_never_runs(world: &World, namespace: &str, name: &str, account: &str) -> anyhow::Result<()> {
    let pod = serde_json::json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "serviceAccountName": account,
            "automountServiceAccountToken": false,
            "nodeSelector": {"sluice.dev/no-node-has": "this"},
            "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [{
                "name": "c", "image": "localhost/none",
                "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
            }],
        },
    });
    world.kubectl_with(&pod.to_string(), &["create", "-f", "-"]).await?;
    Ok(())
}

/// A token as the kubelet would project it, if it is bound to a pod. Not in the log: whoever has it is that pod.
async fn token(
    world: &World,
    namespace: &str,
    account: &str,
    pod: Option<&str>,
    audience: &str,
) -> anyhow::Result<String> {
    let mut arguments = vec!["-n", namespace, "create", "token", account, "--audience", audience];
    arguments.extend(["--duration", SHORTEST]);
    arguments.extend(
        pod.iter()
            .flat_map(|pod| ["--bound-object-kind", "Pod", "--bound-object-name", pod]),
    );
    let output = tokio::process::Command::new("kubectl")
        .args(&arguments)
        .output()
        .await?;
    world.say(&format!("kubectl {} (the token is not shown)", arguments.join(" ")));
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

async fn joins(world: &World, replica: &mut Replica, members: &str) -> anyhow::Result<Given> {
    let good = token(world, members, EDGE, Some("edge-0"), AUDIENCE).await?;
    let given = replica.enrol(Shown::Nothing, &good).await?;
    let uid = ["-n", members, "get", "pod", "edge-0", "-o", "jsonpath={.metadata.uid}"];
    let uid = world.kubectl(&uid).await?;
    let expected = format!("edge-0.{}", uid.get(..8).context("a UID")?);
    ensure!(
        given.instance == expected && given.fleet == EDGE,
        "{given:?} is not {expected}"
    );
    let renewed = replica.enrol(given.shown(), "").await?;
    ensure!(renewed.instance == given.instance, "renewed as {renewed:?}");
    replica.connect(&renewed.shown(), &given.instance).await?;
    let opened = tokio::time::timeout(Duration::from_secs(10), replica.heard.recv()).await?;
    ensure!(
        matches!(&opened, Some(StreamEvent::Opened { fleet, .. }) if fleet.as_str() == EDGE),
        "{opened:?}"
    );
    Ok(renewed)
}

async fn tokens(world: &World, replica: &Replica, members: &str, strangers: &str) -> anyhow::Result<()> {
    let enrol = async |token: &str| replica.enrol(Shown::Nothing, token).await;
    says("nothing", enrol("").await, Code::Unauthenticated, "neither a token")?;
    says("nonsense", enrol("nonsense").await, Code::Unauthenticated, "not good")?;
    let api = token(world, members, EDGE, Some("edge-0"), "https://kubernetes.default.svc").await?;
    says(
        "another audience",
        enrol(&api).await,
        Code::Unauthenticated,
        "audience sluice-controller",
    )?;
    let unbound = token(world, members, EDGE, None, AUDIENCE).await?;
    says(
        "one of no pod",
        enrol(&unbound).await,
        Code::Unauthenticated,
        "not bound to a pod",
    )?;
    let nobody = token(world, members, "nobody", Some("nobody-0"), AUDIENCE).await?;
    says(
        "no member",
        enrol(&nobody).await,
        Code::PermissionDenied,
        "spec.members",
    )?;
    let stranger = token(world, strangers, EDGE, Some("edge-0"), AUDIENCE).await?;
    says(
        "another namespace",
        enrol(&stranger).await,
        Code::PermissionDenied,
        "spec.members",
    )?;
    let good = token(world, members, EDGE, Some("edge-0"), AUDIENCE).await?;
    let mut tampered = good.clone();
    tampered.replace_range(good.len() - 8..good.len() - 4, "AAAA");
    says(
        "a changed one",
        enrol(&tampered).await,
        Code::Unauthenticated,
        "not good",
    )
}

/// A member of one fleet is nobody in the other, and whoever is moved has to begin anew.
async fn other_fleets(world: &World, replica: &mut Replica, members: &str, edge: &Given) -> anyhow::Result<()> {
    let other = token(world, members, OTHER, Some("other-0"), AUDIENCE).await?;
    let other = replica.enrol(Shown::Nothing, &other).await?;
    ensure!(other.fleet == OTHER, "{other:?}");
    let as_edge = replica.connect(&other.shown(), &edge.instance).await?;
    let ended = as_edge.ended().await;
    ensure!(ended.code() == Code::PermissionDenied, "as another instance: {ended:?}");

    let stream = replica.connect(&edge.shown(), &edge.instance).await?;
    replica.members(&[(OTHER, &[(members, EDGE), (members, OTHER)])])?;
    let ended = stream.reporting_until_it_ends().await;
    ensure!(
        ended.code() == Code::PermissionDenied,
        "moved to another fleet: {ended:?}"
    );
    let why = "belongs to fleet other now";
    says(
        "a renewal",
        replica.enrol(edge.shown(), "").await,
        Code::PermissionDenied,
        why,
    )?;
    says(
        "a stream",
        replica.connect(&edge.shown(), &edge.instance).await,
        Code::PermissionDenied,
        why,
    )?;
    replica.members(&[])?;
    let nowhere = replica.enrol(edge.shown(), "").await;
    says("a renewal of nobody's", nowhere, Code::PermissionDenied, "no Rollout")?;
    replica.members_as_at_first(members)
}

/// A deleted pod's token, certificate and place in the count.
async fn deleted(world: &World, replica: &mut Replica, members: &str) -> anyhow::Result<()> {
    let tokens = token(world, members, EDGE, Some("edge-1"), AUDIENCE).await?;
    let given = replica.enrol(Shown::Nothing, &tokens).await?;
    replica.counts(&[&given.instance, "edge-9.0a1b2c3d", "by-hand"]);
    let gone = replica.gone().await?;
    ensure!(gone == "edge-9.0a1b2c3d", "a pod that never was, and {gone} is told");
    let began = Instant::now();
    world
        .kubectl(&["-n", members, "delete", "pod", "edge-1", "--grace-period=0", "--force"])
        .await?;
    while replica.gone().await? != given.instance {}
    world.figure(format!(
        "a deleted pod leaves the count within {} ms",
        began.elapsed().as_millis()
    ));
    let why = "is deleted";
    says(
        "a renewal",
        replica.enrol(given.shown(), "").await,
        Code::PermissionDenied,
        why,
    )?;
    says(
        "a stream",
        replica.connect(&given.shown(), &given.instance).await,
        Code::PermissionDenied,
        why,
    )?;
    // The API server may remember a review for some seconds; whoever asks too often is told to wait.
    wait_until(
        "the deleted pod's token to be refused",
        Duration::from_secs(60),
        || async {
            tokio::time::sleep(Duration::from_millis(500)).await;
            let refused = replica.enrol(Shown::Nothing, &tokens).await;
            says("its token", refused, Code::Unauthenticated, "not good")
        },
    )
    .await;

    // A pod that has come to its end is gone as well, though it is still there to be looked at.
    pod_that_never_runs(world, members, "edge-2", EDGE).await?;
    let tokens = token(world, members, EDGE, Some("edge-2"), AUDIENCE).await?;
    let given = replica.enrol(Shown::Nothing, &tokens).await?;
    let failed = r#"{"status":{"phase":"Failed"}}"#;
    let patch = [
        "-n",
        members,
        "patch",
        "pod",
        "edge-2",
        "--subresource=status",
        "--type=merge",
        "-p",
        failed,
    ];
    world.kubectl(&patch).await?;
    replica.counts(&[&given.instance]);
    while replica.gone().await? != given.instance {}
    says(
        "a renewal",
        replica.enrol(given.shown(), "").await,
        Code::PermissionDenied,
        why,
    )
}

fn says<T: std::fmt::Debug>(
    what: &str,
    answer: Result<T, tonic::Status>,
    code: Code,
    text: &str,
) -> anyhow::Result<()> {
    match answer {
        Ok(given) => anyhow::bail!("{what} is taken: {given:?}"),
        Err(status) => {
            let is_so = status.code() == code && status.message().contains(text);
            ensure!(is_so, "{what}: {status:?}, not {code:?} with {text:?}");
            Ok(())
        }
    }
}
