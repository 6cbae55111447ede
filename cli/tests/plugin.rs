//! `kubectl sluice` against an API server that is played: what it asks, in whose name, and what it says when it is
//! refused. What only a real one shows is in the checks of `e2e/run`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod nobody;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex};

use nobody::nobody;
use serde_json::{Value, json};

/// A request that came in.
#[derive(Clone, Debug)]
struct Asked {
    method: String,
    path: String,
    headers: String,
    body: Value,
}

/// An API server that answers as it is told.
struct ApiServer {
    folder: tempfile::TempDir,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl ApiServer {
    fn new(answer: impl Fn(&Asked) -> (u16, Value) + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let folder = tempfile::tempdir().unwrap();
        kubeconfig(folder.path(), &format!("http://{}", listener.local_addr().unwrap()));
        let asked = Arc::new(Mutex::new(Vec::new()));
        let seen = asked.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let Some(request) = read(&stream) else { continue };
                let (status, body) = answer(&request);
                seen.lock().unwrap().push(request);
                let body = body.to_string();
                let head = format!("HTTP/1.1 {status} X\r\ncontent-type: application/json\r\nconnection: close\r\n");
                write!(stream, "{head}content-length: {}\r\n\r\n{body}", body.len()).unwrap();
            }
        });
        Self { folder, asked }
    }

    /// Calls `kubectl-sluice` as kubectl would.
    fn plugin(&self, arguments: &[&str]) -> Output {
        plugin(self.folder.path(), arguments)
    }

    fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }
}

fn kubeconfig(folder: &Path, server: &str) {
    let text = format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: here\n\
         clusters: [{{name: c, cluster: {{server: \"{server}\"}}}}]\n\
         contexts: [{{name: here, context: {{cluster: c, user: u, namespace: shop}}}}]\n\
         users: [{{name: u, user: {{}}}}]\n"
    );
    std::fs::write(folder.join("config"), text).unwrap();
}

/// The command under the plugin's name, with the kubeconfig `config` of this folder.
fn plugin(folder: &Path, arguments: &[&str]) -> Output {
    let name = folder.join("kubectl-sluice");
    if !name.exists() {
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_sluice"), &name).unwrap();
    }
    Command::new(name)
        .args(arguments)
        .env("KUBECONFIG", folder.join("config"))
        .env_remove("SLUICE_ADMIN")
        .env_remove("SLUICE_NAMESPACE")
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

fn read(stream: &TcpStream) -> Option<Asked> {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let (mut headers, mut length) = (String::new(), 0);
    let mut first = String::new();
    reader.read_line(&mut first).unwrap();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap() == 0 {
            return None;
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        if line.trim().is_empty() {
            break;
        }
        headers.push_str(&line.to_ascii_lowercase());
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    let mut words = first.split(' ');
    Some(Asked {
        method: words.next()?.to_owned(),
        path: words.next()?.to_owned(),
        headers,
        body: serde_json::from_slice(&body).unwrap_or_default(),
    })
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// One line on standard error, by the plugin's name, that holds each of the parts.
fn must_say(output: &Output, code: i32, parts: &[&str]) {
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{said}{}", text(&output.stdout));
    assert!(
        said.starts_with("kubectl sluice: ") && said.trim_end().lines().count() == 1,
        "{said:?}"
    );
    for part in parts {
        assert!(said.contains(part), "{part:?} is not in {said:?}");
    }
}

fn status(code: u16, reason: &str, message: &str, name: &str) -> (u16, Value) {
    let details = json!({"name": name});
    let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": message, "reason": reason,
                        "details": details, "code": code});
    (code, status)
}

fn forbidden() -> (u16, Value) {
    status(403, "Forbidden", "forbidden: User \"ann\" cannot do this", "edge")
}

fn who() -> (u16, Value) {
    let info = json!({"username": "ann@example.com", "groups": ["a"]});
    (
        201,
        json!({"kind": "SelfSubjectReview", "apiVersion": "authentication.k8s.io/v1", "metadata": {},
                 "status": {"userInfo": info}}),
    )
}

const ROLLOUTS: &str = "/apis/sluice.dev/v1alpha1/namespaces/sluice-system/rollouts";
const REVIEW: &str = "/apis/authentication.k8s.io/v1/selfsubjectreviews";

/// The Rollout `edge`, with these annotations and this answer to a command.
fn edge(annotations: &Value, command: &Value) -> Value {
    json!({"apiVersion": "sluice.dev/v1alpha1", "kind": "Rollout",
           "metadata": {"name": "edge", "namespace": "sluice-system", "annotations": annotations,
                        "managedFields": [{"manager": "x"}]},
           "spec": {"fleet": "edge"},
           "status": {"phase": "Baking", "targetRevision": "42-c01d", "stableRevision": "41-8f3c", "health": "Healthy",
                      "message": "baking 2s of 8s", "instances": {"label": "1/3"}, "stage": {"label": "1/2 canary"},
                      "command": command}})
}

/// An API server with one Rollout, whose controller answers every command so.
fn with_answer(answer: &'static str) -> ApiServer {
    let annotations = Mutex::new(json!({}));
    ApiServer::new(move |asked| {
        let path = asked.path.split('?').next().unwrap();
        let mut annotations = annotations.lock().unwrap();
        let mut rollout = || {
            let id = annotations["sluice.dev/command-id"].clone();
            let command = match (answer, id) {
                (_, Value::Null) | ("nothing", _) => Value::Null,
                ("another", _) => {
                    annotations["sluice.dev/command-id"] = json!("other");
                    annotations["sluice.dev/command-by"] = json!("bob");
                    Value::Null
                }
                (answer, id) => json!({"id": id, "result": answer, "message": "as it should be"}),
            };
            edge(&annotations, &command)
        };
        match (asked.method.as_str(), path) {
            ("POST", REVIEW) => who(),
            ("GET", ROLLOUTS) => (
                200,
                json!({"kind": "RolloutList", "metadata": {}, "items": [rollout()]}),
            ),
            ("GET", path) if path.ends_with("/rollouts/edge") => (200, rollout()),
            ("PATCH", path) if path.ends_with("/rollouts/edge") => {
                let given = asked.body["metadata"]["annotations"].as_object().unwrap().clone();
                *annotations = given.into_iter().filter(|(_, value)| !value.is_null()).collect();
                (200, edge(&annotations, &Value::Null))
            }
            _ => status(404, "NotFound", "not found", "nope"),
        }
    })
}

#[test]
fn help_speaks_of_kubectl() {
    let folder = tempfile::tempdir().unwrap();
    for arguments in [&["--help"][..], &["rollout", "pause", "--help"], &["inject", "--help"]] {
        let help = text(&plugin(folder.path(), arguments).stdout);
        assert!(help.contains("Usage: kubectl sluice "), "{arguments:?}: {help}");
    }
}

#[test]
fn get_is_the_table_and_the_objects() {
    let api = with_answer("Done");
    let table = text(&api.plugin(&["rollout", "get"]).stdout);
    assert!(
        table.starts_with("NAME   PHASE    STAGE        INSTANCES   REVISION"),
        "{table}"
    );
    assert!(
        table.contains("edge   Baking   1/2 canary   1/3         42-c01d"),
        "{table}"
    );
    let one: Value = serde_json::from_slice(&api.plugin(&["rollout", "get", "edge", "-o", "json"]).stdout).unwrap();
    assert_eq!(
        (&one["kind"], &one["status"]["phase"]),
        (&json!("Rollout"), &json!("Baking"))
    );
    assert!(one["metadata"]["managedFields"].is_null());
    let all = text(&api.plugin(&["rollout", "get", "-o", "yaml"]).stdout);
    let all: Value = serde_saphyr::from_str(&all).unwrap();
    assert_eq!(
        (&all["kind"], &all["items"][0]["kind"]),
        (&json!("List"), &json!("Rollout"))
    );
    must_say(
        &api.plugin(&["rollout", "get", "nope"]),
        1,
        &["there is no Rollout \"nope\" in namespace sluice-system; there are: edge"],
    );
}

/// An API server whose Lease was renewed last then, or is answered so.
fn led(lease: (u16, Value)) -> ApiServer {
    ApiServer::new(move |asked| {
        if asked.path.contains("/leases/sluice-controller") {
            return lease.clone();
        }
        let items = [edge(&Value::Null, &Value::Null)];
        (
            200,
            json!({"apiVersion": "v1", "kind": "List", "metadata": {}, "items": items}),
        )
    })
}

fn lease(holder: &Value, renewed: &str) -> (u16, Value) {
    let spec = json!({"holderIdentity": holder, "leaseDurationSeconds": 10, "renewTime": renewed});
    let metadata = json!({"name": "sluice-controller", "namespace": "sluice-system"});
    (
        200,
        json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata, "spec": spec}),
    )
}

#[test]
fn when_nobody_leads_that_is_said_beside_what_is_shown() {
    let remark = |lease: (u16, Value), arguments: &[&str]| {
        let shown = led(lease).plugin(arguments);
        assert!(shown.status.success(), "{}", text(&shown.stderr));
        assert!(text(&shown.stdout).contains("edge"), "{}", text(&shown.stdout));
        text(&shown.stderr)
    };
    let long_ago = "2026-11-23T10:20:00.000000Z";
    let late = "no controller leads since 2026-11-23T10:20:10Z; what follows is as of then";
    let given_back = "no controller leads since 2026-11-23T10:20:00Z; what follows is as of then";
    for arguments in [&["rollout", "get"][..], &["rollout", "get", "-o", "json"], &["routes"]] {
        let said = remark(lease(&"sluice-0_1".into(), long_ago), arguments);
        assert!(said.contains(late), "{arguments:?}: {said:?}");
        let said = remark(lease(&Value::Null, long_ago), arguments);
        assert!(said.contains(given_back), "{arguments:?}: {said:?}");
        // Somebody does, or nobody says who.
        let far = "2999-01-01T00:00:00.000000Z";
        assert_eq!(remark(lease(&"sluice-0_1".into(), far), arguments), "");
        assert_eq!(remark(forbidden(), arguments), "", "a right that is missing");
        // It goes with what it belongs to, while controllers run on and lead nothing.
        let said = remark(status(404, "NotFound", "none", "sluice-controller"), arguments);
        for part in ["no controller leads: there is no Lease", "sluice-installation is gone"] {
            assert!(said.contains(part), "{arguments:?}: {said:?}");
        }
    }
}

#[test]
fn a_command_is_annotations_in_the_users_name_and_its_answer_is_waited_for() {
    let api = with_answer("Done");
    let output = api.plugin(&["rollout", "pause", "edge", "--reason", "lunch"]);
    let said = text(&output.stdout);
    assert_eq!(
        said,
        "Rollout sluice-system/edge: pause 42-c01d: done: as it should be\n",
        "{}",
        text(&output.stderr)
    );
    let asked = api.asked();
    let patch = asked.iter().find(|asked| asked.method == "PATCH").unwrap();
    assert!(patch.path.contains("fieldManager=kubectl-sluice"), "{}", patch.path);
    assert!(
        patch.headers.contains("content-type: application/merge-patch+json"),
        "{}",
        patch.headers
    );
    let annotations = &patch.body["metadata"]["annotations"];
    for (key, value) in [
        ("command", "pause"),
        ("command-revision", "42-c01d"),
        ("command-by", "ann@example.com"),
        ("command-reason", "lunch"),
    ] {
        assert_eq!(annotations[format!("sluice.dev/{key}")], value);
    }
    assert_eq!(annotations["sluice.dev/command-id"].as_str().unwrap().len(), 16);
    assert_eq!(patch.body.as_object().unwrap().len(), 1, "nothing else is written");
}

#[test]
fn the_only_rollout_need_not_be_named_and_a_revision_may_be() {
    let api = with_answer("Done");
    let output = api.plugin(&["rollout", "abort", "--revision", "41-8f3c"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let output = api.plugin(&["rollout", "forget", "edge-7.0a1b2c3d"]);
    assert_eq!(
        text(&output.stdout),
        "Rollout sluice-system/edge: forget edge-7.0a1b2c3d: done: as it should be\n"
    );
    let patches: Vec<Asked> = api
        .asked()
        .into_iter()
        .filter(|asked| asked.method == "PATCH")
        .collect();
    let annotation = |index: usize, key: &str| patches[index].body["metadata"]["annotations"][key].clone();
    assert_eq!(annotation(0, "sluice.dev/command-revision"), "41-8f3c");
    assert_eq!(annotation(1, "sluice.dev/command-instance"), "edge-7.0a1b2c3d");
}

#[test]
fn a_refusal_is_told_and_so_is_a_command_that_was_overtaken() {
    must_say(
        &with_answer("Refused").plugin(&["rollout", "resume"]),
        1,
        &["Rollout sluice-system/edge: resume 42-c01d: refused: as it should be"],
    );
    must_say(
        &with_answer("another").plugin(&["rollout", "resume"]),
        1,
        &["bob gave another command"],
    );
    must_say(
        &with_answer("Done").plugin(&["rollout", "pause", "--actor", "eve"]),
        2,
        &["--actor", "knows who you are"],
    );
}

#[test]
fn no_answer_is_told_with_where_to_look() {
    must_say(
        &with_answer("nothing").plugin(&["rollout", "promote", "--timeout", "1"]),
        1,
        &["no answer within 1s", "lease sluice-controller", "42-c01d"],
    );
}

#[test]
fn several_rollouts_have_to_be_told_apart() {
    let api = ApiServer::new(|_| {
        let named = |name: &str| json!({"metadata": {"name": name}, "status": {"targetRevision": "1-a"}});
        (
            200,
            json!({"kind": "RolloutList", "metadata": {}, "items": [named("edge"), named("mail")]}),
        )
    });
    must_say(
        &api.plugin(&["rollout", "pause"]),
        2,
        &["say which Rollout: edge, mail"],
    );
}

#[test]
fn a_missing_right_is_told_in_one_sentence() {
    let api = ApiServer::new(|asked| {
        if asked.path.starts_with(REVIEW) {
            who()
        } else {
            forbidden()
        }
    });
    must_say(
        &api.plugin(&["rollout", "get"]),
        1,
        &[
            "you are ann@example.com, who may not list rollouts.sluice.dev in namespace sluice-system",
            "sluice-view",
        ],
    );
    must_say(
        &api.plugin(&["routes"]),
        1,
        &["list proxyroutes.sluice.dev in namespace shop", "sluice-view"],
    );
    must_say(
        &api.plugin(&["instances"]),
        1,
        &["get leases.coordination.k8s.io in namespace sluice-system", "edit"],
    );
}

#[test]
fn a_cluster_without_our_kinds_is_told_apart_from_a_missing_object() {
    let api = ApiServer::new(|_| status(404, "NotFound", "the server could not find the requested resource", ""));
    must_say(
        &api.plugin(&["routes", "-A"]),
        1,
        &["has no proxyroutes.sluice.dev", "CRDs are not installed", "--context"],
    );
}

#[test]
fn what_a_policy_says_is_passed_on() {
    let api = ApiServer::new(|asked| match asked.method.as_str() {
        "POST" => who(),
        "GET" => (200, edge(&json!({}), &Value::Null)),
        _ => status(
            422,
            "Invalid",
            "rollouts.sluice.dev \"edge\" is forbidden: ValidatingAdmissionPolicy 'commands' denied request: no such verb",
            "edge",
        ),
    });
    must_say(
        &api.plugin(&["rollout", "pause", "edge"]),
        1,
        &["denied request: no such verb"],
    );
}

#[test]
fn something_that_is_no_api_server_is_told() {
    let api = ApiServer::new(|_| (200, json!({"hello": "world"})));
    must_say(
        &api.plugin(&["rollout", "get"]),
        1,
        &["does not answer as an API server would", "--context"],
    );
}

#[test]
fn impersonation_is_passed_on() {
    let api = with_answer("Done");
    api.plugin(&["rollout", "get", "--as", "bob", "--as-group", "ops"]);
    let asked = api.asked();
    assert!(
        asked[0].headers.contains("impersonate-user: bob"),
        "{}",
        asked[0].headers
    );
    assert!(
        asked[0].headers.contains("impersonate-group: ops"),
        "{}",
        asked[0].headers
    );
}

#[test]
fn explain_reads_the_objects_of_the_cluster() {
    let api = ApiServer::new(|asked| {
        let object = |kind: &str, namespace: &str, name: &str, spec: Value| {
            json!({"metadata": {"name": name, "namespace": namespace, "uid": "1", "generation": 1}, "spec": spec,
                   "status": {}, "kind": kind})
        };
        let items = match asked.path.split('?').next().unwrap() {
            ROLLOUTS => vec![object(
                "Rollout",
                "sluice-system",
                "edge",
                json!({"dataPlane": {"listeners": [{"name": "http", "port": 8080}]}}),
            )],
            path if path.ends_with("/proxyroutes") => {
                vec![object(
                    "ProxyRoute",
                    "shop",
                    "shop",
                    json!({"rules": [{"name": "all", "pool": "api"}]}),
                )]
            }
            path if path.ends_with("/pools") => {
                let endpoints = json!({"endpoints": [{"address": "10.0.0.1", "port": 80}]});
                vec![object("Pool", "shop", "api", endpoints)]
            }
            "/api/v1/namespaces" => return forbidden(),
            _ => return who(),
        };
        (200, json!({"kind": "List", "metadata": {}, "items": items}))
    });
    let output = api.plugin(&["explain", "--host", "a.example.com", "--path", "/x"]);
    let said = text(&output.stdout);
    assert!(
        said.starts_with("goes to Pool shop/api\n"),
        "{said}{}",
        text(&output.stderr)
    );
    assert!(
        text(&output.stderr).contains("may not list namespaces; the ClusterRole view"),
        "told, and gone on without"
    );
}

#[test]
fn without_a_cluster_it_says_what_is_missing() {
    let folder = tempfile::tempdir().unwrap();
    let kubeconfig_is = |text: Option<&str>| {
        let _ = std::fs::remove_file(folder.path().join("config"));
        if let Some(text) = text {
            std::fs::write(folder.path().join("config"), text).unwrap();
        }
    };
    kubeconfig_is(None);
    must_say(
        &plugin(folder.path(), &["rollout", "get"]),
        2,
        &["there is no kubeconfig", "--kubeconfig"],
    );
    kubeconfig_is(Some("apiVersion: v1\nkind: Config\n"));
    must_say(
        &plugin(folder.path(), &["rollout", "get"]),
        2,
        &["no current context", "--context"],
    );
    let (_held, free) = nobody();
    kubeconfig(folder.path(), &format!("http://{free}"));
    must_say(
        &plugin(folder.path(), &["rollout", "get", "--context", "nope"]),
        2,
        &["no context \"nope\"", "get-contexts"],
    );
    must_say(
        &plugin(folder.path(), &["rollout", "get"]),
        1,
        &[
            &format!("the API server http://{free}/ cannot be reached"),
            "is the cluster up",
        ],
    );
}

#[test]
fn a_flag_chooses_the_other_place() {
    let folder = tempfile::tempdir().unwrap();
    let (_held, free) = nobody();
    kubeconfig(folder.path(), &format!("http://{free}"));
    must_say(
        &plugin(folder.path(), &["rollout", "get", "--admin", &free.to_string()]),
        1,
        &["no controller"],
    );
    let sluice = |arguments: &[&str]| {
        let program = PathBuf::from(env!("CARGO_BIN_EXE_sluice"));
        let output = Command::new(program)
            .args(arguments)
            .env("KUBECONFIG", folder.path().join("config"))
            .output();
        text(&output.unwrap().stderr)
    };
    assert!(sluice(&["rollout", "get", "--kube"]).contains("the API server"));
    assert!(sluice(&["rollout", "get", "--context", "here"]).contains("the API server"));
    assert!(sluice(&["explain"]).contains("give the folder of manifests, or --kube"));
    assert!(sluice(&["explain", ".", "--context", "here"]).contains("and not both"));
}
