//! The command as people call it: help, errors in one line with what to do, exit codes, and formats.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod nobody;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use nobody::nobody;

/// The repository's root.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn quickstart() -> String {
    root().join("examples/quickstart").display().to_string()
}

fn sluice(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sluice"))
        .args(arguments)
        .env_remove("SLUICE_ADMIN")
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn help_and_version() {
    let help = sluice(&["--help"]);
    assert_eq!(help.status.code(), Some(0));
    let help = text(&help.stdout);
    for part in [
        "up",
        "lint",
        "explain",
        "rollout",
        "bundle",
        "demo-upstream",
        "Exit codes",
    ] {
        assert!(help.contains(part), "{part} is not in {help}");
    }
    assert!(!help.contains("data-plane"), "hidden");
    let version = text(&sluice(&["--version"]).stdout);
    assert!(
        version.contains(env!("CARGO_PKG_VERSION")) && version.contains("commit: "),
        "{version}"
    );
}

/// One line on standard error, that begins with `sluice: ` and holds each of the parts.
fn must_fail(arguments: &[&str], code: i32, parts: &[&str]) {
    let output = sluice(arguments);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
    assert!(
        said.starts_with("sluice: ") && said.trim_end().lines().count() == 1,
        "{arguments:?}: {said:?}"
    );
    for part in parts {
        assert!(said.contains(part), "{arguments:?}: {part:?} is not in {said:?}");
    }
}

#[test]
fn errors_are_one_line_with_what_to_do() {
    let temp = tempfile::tempdir().unwrap();
    let path = |name: &str| temp.path().join(name).display().to_string();
    std::fs::create_dir(path("empty")).unwrap();
    std::fs::write(path("file"), "").unwrap();
    std::fs::create_dir(path("no-rollout")).unwrap();
    let pool = "{apiVersion: sluice.dev/v1alpha1, kind: Pool, metadata: {name: a}, spec: {endpoints: [{address: 127.0.0.1, port: 1}]}}";
    std::fs::write(path("no-rollout/pool.yaml"), pool).unwrap();
    let state = path("state");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let quickstart = quickstart();
    must_fail(
        &["up", &path("nowhere"), "--state", &state],
        2,
        &["give a folder of manifests"],
    );
    must_fail(&["up", &path("file"), "--state", &state], 2, &["is not a folder"]);
    must_fail(
        &["up", &path("empty"), "--state", &state],
        2,
        &["holds no manifests", "copy some in"],
    );
    must_fail(
        &["up", &path("no-rollout"), "--state", &state],
        2,
        &["has no Rollout", "add one"],
    );
    must_fail(
        &["up", &quickstart, "--state", &path("file/state")],
        1,
        &["state folder", "--state DIR"],
    );
    must_fail(
        &["up", &quickstart, "--state", &state, "--http", &taken],
        1,
        &["is in use", "--http ADDR"],
    );
    must_fail(
        &[
            "up",
            &quickstart,
            "--state",
            &state,
            "--http",
            "127.0.0.1:0",
            "--admin",
            &taken,
        ],
        1,
        &["is in use", "--admin ADDR"],
    );
    must_fail(&["lint", &path("nowhere")], 2, &["give a folder of manifests"]);
    must_fail(&["explain", &quickstart, "--path", "nothing"], 2, &["--path"]);
    must_fail(
        &["explain", &quickstart, "--fleet", "other"],
        2,
        &["no such fleet", "default"],
    );
    must_fail(
        &["rollout", "get", "--admin", "nonsense"],
        2,
        &["http://127.0.0.1:9901"],
    );
    must_fail(&["bundle", "inspect", &path("nowhere")], 2, &["No such file"]);
    must_fail(
        &["bundle", "inspect", &format!("{quickstart}/pool.yaml")],
        2,
        &["not an envelope"],
    );
}

#[test]
fn nobody_at_the_admin_port_is_said() {
    let (_held, free) = nobody();
    must_fail(
        &["rollout", "get", "--admin", &format!("http://{free}")],
        1,
        &["no controller", "is `sluice up` running"],
    );
}

#[test]
fn the_quickstart_is_clean_and_explained() {
    let lint = sluice(&["lint", &quickstart(), "--deny-warnings"]);
    assert_eq!(lint.status.code(), Some(0), "{}", text(&lint.stdout));
    let explained = sluice(&[
        "explain",
        &quickstart(),
        "--host",
        "localhost",
        "--path",
        "/docs/a",
        "-o",
        "json",
    ]);
    assert_eq!(explained.status.code(), Some(0));
    let explained: serde_json::Value = serde_json::from_slice(&explained.stdout).unwrap();
    assert_eq!(explained["explanation"]["winner"]["route"], "ProxyRoute default/docs");
}

#[test]
fn every_change_of_the_quickstart_is_clean() {
    let changes = root().join("examples/quickstart/changes");
    for (change, over) in [("good-change", "pool"), ("bad-change", "pool"), ("docs-change", "docs")] {
        let temp = tempfile::tempdir().unwrap();
        for name in ["rollout", "route", "pool", "docs"] {
            let name = format!("{name}.yaml");
            std::fs::copy(root().join("examples/quickstart").join(&name), temp.path().join(&name)).unwrap();
        }
        let target = temp.path().join(format!("{over}.yaml"));
        let before = std::fs::read(&target).unwrap();
        std::fs::copy(changes.join(format!("{change}.yaml")), &target).unwrap();
        assert_ne!(std::fs::read(&target).unwrap(), before, "{change} changes nothing");
        let lint = sluice(&["lint", &temp.path().display().to_string(), "--deny-warnings"]);
        assert_eq!(lint.status.code(), Some(0), "{change}: {}", text(&lint.stdout));
    }
}

#[test]
fn lint_has_exit_codes_and_json() {
    let temp = tempfile::tempdir().unwrap();
    let folder = temp.path().display().to_string();
    std::fs::copy(
        root().join("examples/quickstart/rollout.yaml"),
        temp.path().join("rollout.yaml"),
    )
    .unwrap();
    let pool = "{apiVersion: sluice.dev/v1alpha1, kind: Pool, metadata: {name: a}, spec: {endpoint: []}}";
    std::fs::write(temp.path().join("pool.yaml"), pool).unwrap();
    let lint = sluice(&["lint", &folder, "-o", "json"]);
    assert_eq!(lint.status.code(), Some(1));
    let report: serde_json::Value = serde_json::from_slice(&lint.stdout).unwrap();
    assert!(report["errors"].as_u64().unwrap() >= 1, "{report}");
    let shown = report["problems"][0]["place"]["file"].as_str().unwrap();
    assert_eq!(
        Path::new(shown),
        temp.path().join("pool.yaml"),
        "it opens from anywhere"
    );
    let lint = text(&sluice(&["lint", &folder]).stdout);
    assert!(
        lint.contains("pool.yaml:1:") && lint.contains("endpoints"),
        "did you mean: {lint}"
    );
}

/// An admin port that answers every request with `body`, once for each of `times`.
fn fake_admin(body: &'static str, times: usize) -> (String, std::thread::JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let served = std::thread::spawn(move || {
        let mut seen = Vec::new();
        for stream in listener.incoming().take(times) {
            seen.push(answer(stream.unwrap(), body));
        }
        seen
    });
    (url, served)
}

fn answer(mut stream: TcpStream, body: &str) -> String {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let (mut head, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        if line.trim().is_empty() {
            break;
        }
        head.push_str(&line);
    }
    let mut sent = vec![0; length];
    reader.read_exact(&mut sent).unwrap();
    write!(
        stream,
        "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    format!("{} {}", head.lines().next().unwrap(), text(&sent))
}

const STATUS: &str = r#"[{"fleet":"default","phase":"RolledBack","message":"","stage":null,
    "instances":{"total":3,"label":"3/3","refusals":[]},"health":"Degraded",
    "stableRevision":"1-aaaaaaaa","targetRevision":"1-aaaaaaaa","gates":[],
    "held":[{"object":"Pool default/hello","content":"0badc0de","revision":"2-bbbbbbbb",
             "reason":"ErrorRate 98% against 0%","at":"2026-11-23T10:20:00Z"}],
    "blocked":[],"unreached":[],"history":[]}]"#;

#[test]
fn one_answer_in_three_formats() {
    let get = |format: &str| {
        let (admin, served) = fake_admin(STATUS, 1);
        let output = sluice(&["rollout", "get", "--admin", &admin, "-o", format]);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        assert!(served.join().unwrap()[0].starts_with("GET /api/v2/rollouts HTTP/1.1"));
        text(&output.stdout)
    };
    let sent: serde_json::Value = serde_json::from_str(STATUS).unwrap();
    assert_eq!(serde_json::from_str::<serde_json::Value>(&get("json")).unwrap(), sent);
    assert_eq!(serde_saphyr::from_str::<serde_json::Value>(&get("yaml")).unwrap(), sent);
    let table = get("table");
    assert!(table.starts_with("NAME      PHASE        STAGE"), "{table}");
    assert!(
        table.contains("Pool default/hello (0badc0de)") && table.contains("ErrorRate 98% against 0%"),
        "{table}"
    );
}

#[test]
fn a_command_names_the_revision_it_saw_and_who_asks() {
    let (admin, served) = fake_admin(STATUS, 2);
    let output = sluice(&[
        "rollout", "pause", "--admin", &admin, "--reason", "lunch", "--actor", "ann",
    ]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let seen = served.join().unwrap();
    let (line, body) = seen[1].split_once(" HTTP/1.1 ").unwrap();
    assert_eq!(line, "POST /api/v2/rollouts/default/pause");
    let body: serde_json::Value = serde_json::from_str(body).unwrap();
    assert_eq!(
        body,
        serde_json::json!({"revision": "1-aaaaaaaa", "actor": "ann", "reason": "lunch"})
    );
}

#[test]
fn forgetting_names_the_instance_and_who_asks() {
    let (admin, served) = fake_admin(STATUS, 2);
    let output = sluice(&["rollout", "forget", "default-3", "--admin", &admin, "--actor", "ann"]);
    assert_eq!(
        text(&output.stdout),
        "fleet default: forgot default-3\n",
        "{}",
        text(&output.stderr)
    );
    let seen = served.join().unwrap();
    let (line, body) = seen[1].split_once(" HTTP/1.1 ").unwrap();
    assert_eq!(line, "POST /api/v2/rollouts/default/forget");
    assert_eq!(
        serde_json::from_str::<serde_json::Value>(body).unwrap(),
        serde_json::json!({"instance": "default-3", "actor": "ann", "reason": ""})
    );
    let wrong = sluice(&["rollout", "forget", "no such", "--admin", &admin]);
    assert_eq!(wrong.status.code(), Some(2));
    assert!(text(&wrong.stderr).contains("is not a valid instance id"));
}

#[test]
fn a_demo_upstream_says_its_version_and_fails_as_told() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_sluice"))
        .args([
            "demo-upstream",
            "--listen",
            "127.0.0.1:0",
            "--version",
            "v9",
            "--fail-percent",
            "50",
        ])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = String::new();
    BufReader::new(child.stdout.take().unwrap())
        .read_line(&mut said)
        .unwrap();
    let address = said.trim().rsplit_once("http://").unwrap().1.to_owned();
    let mut failed = 0;
    for _ in 0..10 {
        let mut stream = TcpStream::connect(&address).unwrap();
        write!(stream, "GET /x HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.contains("x-demo-version: v9"), "{answer}");
        failed += usize::from(answer.starts_with("HTTP/1.1 500"));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(failed, 5);
}
