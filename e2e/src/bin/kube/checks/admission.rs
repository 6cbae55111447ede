//! The chart's admission policies on a real API server: who may give commands and in whose name, what an operator and the
//! chart's own accounts may change, and who is told that nobody looks. Only the policies are installed, for a namespace of
//! the check.

use std::time::Duration;

use anyhow::ensure;
use sluice_e2e::repository;
use sluice_e2e::wait::wait_until;

use crate::kubectl::Said;
use crate::world::World;

/// Until the API server has compiled the policies.
const PATIENCE: Duration = Duration::from_secs(30);
/// May do everything with routes, pools and Rollouts.
const EDITOR: &str = "ed";
/// May give commands.
const OPERATOR: &str = "olga";
/// What is written about.
const ROLLOUT: &str = "rollouts.sluice.dev/case";
const REVISION: &str = "sluice.dev/command-revision=42-c01d9a3f";

/// What of the chart is installed here.
const TEMPLATES: [&str; 4] = [
    "templates/admission/commands.yaml",
    "templates/admission/accounts.yaml",
    "templates/admission/warnings.yaml",
    "templates/users/roles.yaml",
];

/// One call, by whom, and what the refusal says; `None`: it goes through.
type Case = (&'static str, &'static [&'static str], Option<&'static str>);

/// A Rollout that has a command of olga's.
const COMMANDS: [Case; 23] = [
    (
        OPERATOR,
        &["annotate", "sluice.dev/command=pause", "sluice.dev/command-id=2"],
        None,
    ),
    (
        OPERATOR,
        &[
            "annotate",
            "sluice.dev/command=forget",
            "sluice.dev/command-id=2",
            "sluice.dev/command-instance=edge-7.0a1b2c3d",
        ],
        None,
    ),
    (
        OPERATOR,
        &["annotate", "sluice.dev/command=forget", "sluice.dev/command-id=2"],
        Some("which instance to forget"),
    ),
    (
        OPERATOR,
        &["annotate", "sluice.dev/command-instance=edge-7.0a1b2c3d"],
        Some("which instance to forget"),
    ),
    (
        EDITOR,
        &[
            "annotate",
            "sluice.dev/command=abort",
            "sluice.dev/command-by=ed",
            "sluice.dev/command-id=2",
        ],
        None,
    ),
    // In another's name, wholly or by changing what another has said.
    (
        EDITOR,
        &["annotate", "sluice.dev/command=abort", "sluice.dev/command-id=2"],
        Some("command-by: must be ed"),
    ),
    (
        EDITOR,
        &["annotate", "sluice.dev/command-id=2"],
        Some("command-by: must be ed"),
    ),
    (
        EDITOR,
        &["annotate", "sluice.dev/command-reason=mine"],
        Some("command-by: must be ed"),
    ),
    (
        OPERATOR,
        &["annotate", "sluice.dev/command-by=ed"],
        Some("command-by: must be olga"),
    ),
    (
        OPERATOR,
        &["annotate", "sluice.dev/command-by-", "sluice.dev/command-id=9"],
        Some("command-by: must be olga"),
    ),
    // Incomplete, unknown, endless.
    (
        OPERATOR,
        &["annotate", "sluice.dev/command-revision-", "sluice.dev/command-id=9"],
        Some("needs sluice.dev/command-revision"),
    ),
    (
        OPERATOR,
        &["annotate", "sluice.dev/command-id="],
        Some("sluice.dev/command-id"),
    ),
    (
        OPERATOR,
        &["annotate", "sluice.dev/command=halt"],
        Some("no command \"halt\""),
    ),
    (
        OPERATOR,
        &["annotate", "sluice.dev/command-", "sluice.dev/command-id=9"],
        Some("there is no command"),
    ),
    (
        OPERATOR,
        &["annotate", "sluice.dev/command-when=now"],
        Some("no others"),
    ),
    (OPERATOR, &["annotate", LONG_ID], Some("limited")),
    // To tidy up is no command, wholly or in part.
    (EDITOR, &["annotate", "sluice.dev/command-reason-"], None),
    (EDITOR, &["annotate", "sluice.dev/command-by-"], None),
    (OPERATOR, &["annotate", "sluice.dev/command-revision-"], None),
    (OPERATOR, &["annotate", "sluice.dev/command-"], None),
    (
        EDITOR,
        &[
            "annotate",
            "sluice.dev/command-",
            "sluice.dev/command-by-",
            "sluice.dev/command-id-",
            "sluice.dev/command-reason-",
            "sluice.dev/command-revision-",
        ],
        None,
    ),
    // What leaves the command alone.
    (EDITOR, &["annotate", "team=edge"], None),
    (
        EDITOR,
        &["patch", "--type=merge", "--patch", r#"{"spec":{"paused":true}}"#],
        None,
    ),
];

/// 257 characters.
const LONG_ID: &str = concat!(
    "sluice.dev/command-id=",
    "0123456789012345678901234567890123456789012345678901234567890123",
    "0123456789012345678901234567890123456789012345678901234567890123",
    "0123456789012345678901234567890123456789012345678901234567890123",
    "0123456789012345678901234567890123456789012345678901234567890123",
    "x"
);

/// What an operator may not.
const OPERATORS: [Case; 5] = [
    (OPERATOR, &["annotate", "team=edge"], Some("change nothing else")),
    (OPERATOR, &["label", "team=edge"], Some("change nothing else")),
    (
        OPERATOR,
        &["patch", "--type=merge", "--patch", r#"{"spec":{"paused":true}}"#],
        Some("change nothing else"),
    ),
    (
        OPERATOR,
        &[
            "patch",
            "--type=merge",
            "--patch",
            r#"{"metadata":{"finalizers":["example.com/stay"]}}"#,
        ],
        Some("change nothing else"),
    ),
    (OPERATOR, &["delete"], Some("cannot delete")),
];

/// All tables.
pub(crate) async fn table(world: &World) -> anyhow::Result<()> {
    // Its policies would speak as well.
    world.no_sluice().await?;
    world.crds().await?;
    let namespace = world.namespace("system").await?;
    let elsewhere = world.namespace("elsewhere").await?;
    let policies = policies(world, &namespace).await?;
    world.kubectl_with(&policies, &["apply", "-f", "-"]).await?;
    // They would hold for all checks that follow.
    let verdict = with_policies(world, &namespace, &elsewhere).await;
    world
        .kubectl_with(&policies, &["delete", "-f", "-", "--ignore-not-found"])
        .await?;
    verdict
}

/// Policies and roles of the chart. The roles have no namespace, and may be there already: these are called otherwise.
async fn policies(world: &World, namespace: &str) -> anyhow::Result<String> {
    let chart = repository::root().join("charts/sluice");
    let chart = chart.to_string_lossy();
    let mut arguments = vec!["template", "sluice", &chart, "--namespace", namespace];
    for template in TEMPLATES {
        arguments.extend(["--show-only", template]);
    }
    let rendered = world.tool("helm", "", &arguments).await?;
    Ok(rendered.replace("name: sluice-", "name: e2e-sluice-"))
}

async fn with_policies(world: &World, namespace: &str, elsewhere: &str) -> anyhow::Result<()> {
    prepare(world, namespace).await?;
    for (who, what, refused) in COMMANDS.iter().chain(&OPERATORS) {
        let mut call = vec![what[0], ROLLOUT];
        call.extend(&what[1..]);
        if what[0] == "annotate" || what[0] == "label" {
            call.push("--overwrite");
        }
        case(world, namespace, who, &call, *refused).await?;
    }
    let of_another = rollout("forged", "ed");
    let create = ["create", "-f", "-", "--dry-run=server", "--as", EDITOR, "-n", namespace];
    let said = world.kubectl_raw(&of_another, &create).await?;
    ensure!(
        said.status.success(),
        "one's own command in a new object: {}",
        said.stderr
    );
    let said = world.kubectl_raw(&rollout("forged", OPERATOR), &create).await?;
    ensure!(
        said.stderr.contains("command-by: must be ed"),
        "a new object with another's command: {said:?}"
    );
    accounts(world, namespace, elsewhere).await?;
    warnings(world, namespace, elsewhere).await?;
    checked(world, namespace).await
}

fn rollout(name: &str, by: &str) -> String {
    format!(
        "{{apiVersion: sluice.dev/v1alpha1, kind: Rollout, metadata: {{name: {name}, annotations: {{
            sluice.dev/command: pause, sluice.dev/command-by: {by}, sluice.dev/command-id: '1',
            sluice.dev/command-reason: because, sluice.dev/command-revision: 42-c01d9a3f}}}},
          spec: {{dataPlane: {{listeners: [{{name: http, port: 8080}}]}}}}}}"
    )
}

/// The people, the Rollout with olga's command, and the wait until a forged one is refused.
async fn prepare(world: &World, namespace: &str) -> anyhow::Result<()> {
    for (role, user) in [
        ("e2e-sluice-rollout-operator", OPERATOR),
        ("e2e-sluice-edit", EDITOR),
        ("view", EDITOR),
    ] {
        let (role, user) = (format!("--clusterrole={role}"), format!("--user={user}"));
        let name = format!("{}-{}", &role[14..], &user[7..]);
        let bind = ["-n", namespace, "create", "rolebinding", &name, &role, &user];
        world.kubectl(&bind).await?;
    }
    let anonymous = rollout("case", "nobody");
    let create = ["-n", namespace, "create", "-f", "-", "--dry-run=server"];
    wait_until("the policies to hold", PATIENCE, || async {
        let said = world
            .kubectl_raw(&anonymous, &create)
            .await
            .map_err(|error| error.to_string())?;
        if said.stderr.contains("command-by") {
            Ok(())
        } else {
            Err(said.stderr)
        }
    })
    .await;
    let plain = r"{apiVersion: sluice.dev/v1alpha1, kind: Rollout, metadata: {name: case},
                   spec: {dataPlane: {listeners: [{name: http, port: 8080}]}}}";
    world
        .kubectl_with(plain, &["-n", namespace, "create", "-f", "-"])
        .await?;
    let command = [
        "-n",
        namespace,
        "annotate",
        ROLLOUT,
        "--as",
        OPERATOR,
        "sluice.dev/command=pause",
        "sluice.dev/command-by=olga",
        "sluice.dev/command-id=1",
        "sluice.dev/command-reason=because",
        REVISION,
    ];
    world.kubectl(&command).await?;
    Ok(())
}

async fn case(world: &World, namespace: &str, who: &str, call: &[&str], refused: Option<&str>) -> anyhow::Result<()> {
    let said = by(world, namespace, who, call).await?;
    match refused {
        None => ensure!(said.status.success(), "{who} {call:?}: {}", said.stderr),
        Some(why) => ensure!(
            !said.status.success() && said.stderr.contains(why),
            "{who} {call:?}: not refused with {why:?}: {}{}",
            said.stdout,
            said.stderr
        ),
    }
    Ok(())
}

/// As `who`; nothing is kept.
async fn by(world: &World, namespace: &str, who: &str, call: &[&str]) -> anyhow::Result<Said> {
    let around = ["-n", namespace, "--as", who, "--dry-run=server"];
    world.kubectl_raw("", &[call, &around].concat()).await
}

/// The accounts of the chart, given every right there is: the policies alone hold them.
async fn accounts(world: &World, namespace: &str, elsewhere: &str) -> anyhow::Result<()> {
    let user = |account: &str| format!("system:serviceaccount:{namespace}:{account}");
    let (controller, dataplane) = (user("sluice-controller"), user("sluice-dataplane"));
    for place in [namespace, elsewhere] {
        for (name, user) in [("controller", &controller), ("dataplane", &dataplane)] {
            let user = format!("--user={user}");
            world
                .kubectl(&[
                    "-n",
                    place,
                    "create",
                    "rolebinding",
                    name,
                    "--clusterrole=cluster-admin",
                    &user,
                ])
                .await?;
        }
    }
    let own = Some("writes only what is its own");
    let cases: [(&str, &str, &[&str], Option<&str>); 14] = [
        (
            namespace,
            &controller,
            &["create", "configmap", "sluice-record-default"],
            None,
        ),
        (
            namespace,
            &controller,
            &["create", "configmap", "sluice-origins-default-0a1b"],
            None,
        ),
        (namespace, &controller, &["create", "configmap", "sluice-trust"], None),
        (elsewhere, &controller, &["create", "configmap", "sluice-trust"], None),
        (
            namespace,
            &controller,
            &["create", "secret", "generic", "sluice-keys"],
            None,
        ),
        (namespace, &controller, &["create", "configmap", "settings"], own),
        (
            elsewhere,
            &controller,
            &["create", "configmap", "sluice-record-default"],
            own,
        ),
        (
            namespace,
            &controller,
            &["delete", "configmap", "kube-root-ca.crt"],
            own,
        ),
        (namespace, &controller, &["create", "secret", "generic", "other"], own),
        (namespace, &controller, &["annotate", ROLLOUT, "team=edge"], own),
        (namespace, &controller, &["delete", ROLLOUT], own),
        (
            namespace,
            &controller,
            &[
                "patch",
                ROLLOUT,
                "--subresource=status",
                "--type=merge",
                "--patch",
                r#"{"status":{"phase":"Idle"}}"#,
            ],
            None,
        ),
        (
            namespace,
            &dataplane,
            &["create", "configmap", "sluice-trust"],
            Some("writes nothing"),
        ),
        (
            elsewhere,
            &dataplane,
            &["delete", "configmap", "kube-root-ca.crt"],
            Some("writes nothing"),
        ),
    ];
    for (place, who, call, refused) in cases {
        case(world, place, who, call, refused).await?;
    }
    // To ask what it may do is not to write.
    let can = ["-n", namespace, "auth", "can-i", "--list", "--as", &dataplane];
    world.kubectl(&can).await?;
    Ok(())
}

/// Whoever applies something where nobody looks is told, and not held up.
async fn warnings(world: &World, namespace: &str, elsewhere: &str) -> anyhow::Result<()> {
    let pool = "{apiVersion: sluice.dev/v1alpha1, kind: Pool, metadata: {name: p}, \
                spec: {endpoints: [{address: 10.0.0.1, port: 80}]}}";
    let plain = "{apiVersion: sluice.dev/v1alpha1, kind: Rollout, metadata: {name: r}, \
                 spec: {dataPlane: {listeners: [{name: http, port: 8080}]}}}";
    for (object, place, warns) in [
        (pool, namespace, None),
        (pool, elsewhere, Some("does not watch namespace")),
        (plain, namespace, None),
        (plain, elsewhere, Some("governs nothing")),
    ] {
        let said = world
            .kubectl_raw(object, &["-n", place, "create", "-f", "-", "--dry-run=server"])
            .await?;
        ensure!(said.status.success(), "{object}: {}", said.stderr);
        let warned = warns.map_or(said.stderr.is_empty(), |text| said.stderr.contains(text));
        ensure!(warned, "{object} in {place}: {:?}, not {warns:?}", said.stderr);
    }
    Ok(())
}

/// The API server checked every expression against the types of what it is about.
async fn checked(world: &World, namespace: &str) -> anyhow::Result<()> {
    let warnings = [
        "get",
        "validatingadmissionpolicies",
        "-o",
        "jsonpath={range .items[*]}{.metadata.name} {.status.typeChecking.expressionWarnings}{'\\n'}{end}",
    ];
    let said = world.kubectl(&warnings).await?;
    let ours: Vec<_> = said.lines().filter(|line| line.contains(namespace)).collect();
    ensure!(ours.len() == 6, "{ours:?}");
    let bad: Vec<_> = ours.iter().filter(|line| line.contains("warning")).collect();
    ensure!(bad.is_empty(), "expressions that may not work: {bad:?}");
    Ok(())
}
