//! `sluice inject` on whole files: what comes out of each is in the file beside it, and injecting twice changes nothing.
//!
//! `SLUICE_BLESS=1 cargo test -p sluice-cli --test inject` writes what comes out; read the difference before committing.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

fn cases() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/inject")
}

fn inject(text: &str, arguments: &[&str]) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_sluice"))
        .args(["inject", "-f", "-"])
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

fn injected(text: &str, arguments: &[&str]) -> (String, String) {
    let output = inject(text, arguments);
    let (out, said) = (
        String::from_utf8(output.stdout).unwrap(),
        String::from_utf8(output.stderr).unwrap(),
    );
    assert_eq!(output.status.code(), Some(0), "{said}");
    (out, said)
}

#[test]
fn every_case_is_as_written_down_and_twice_is_once() {
    let mut count = 0;
    for entry in std::fs::read_dir(cases()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "yaml") {
            continue;
        }
        count += 1;
        let arguments = std::fs::read_to_string(path.with_extension("args")).unwrap_or_default();
        let arguments: Vec<&str> = arguments.split_whitespace().collect();
        let (out, said) = injected(&std::fs::read_to_string(&path).unwrap(), &arguments);
        let (twice, said_twice) = injected(&out, &arguments);
        assert_eq!(twice, out, "{}: twice", path.display());
        assert_eq!(said_twice.lines().count(), said.lines().count(), "{said}{said_twice}");
        let golden = path.with_extension("injected");
        let text = format!(
            "{}{out}",
            said.lines().map(|line| format!("## {line}\n")).collect::<String>()
        );
        if std::env::var_os("SLUICE_BLESS").is_some() {
            std::fs::write(&golden, &text).unwrap();
        }
        let expected = std::fs::read_to_string(&golden).unwrap_or_default();
        assert_eq!(text, expected, "{}", golden.display());
    }
    assert!(count >= 8, "only {count} cases");
}

const DEPLOYMENT: &str = "apiVersion: apps/v1
kind: Deployment
metadata:
  name: a
spec:
  template:
    spec:
      serviceAccountName: a
      containers:
      - name: a
        ports:
        - containerPort: 80
";

/// One line on standard error that holds each of the parts; nothing on standard output.
fn refused(text: &str, arguments: &[&str], code: i32, parts: &[&str]) {
    let output = inject(text, arguments);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(code), "{text}: {said}");
    assert!(
        output.stdout.is_empty() && said.trim_end().lines().count() == 1,
        "{said:?}"
    );
    for part in parts {
        assert!(said.contains(part), "{part:?} is not in {said:?}");
    }
}

#[test]
fn what_cannot_have_a_sidecar_is_refused_with_place_and_fix() {
    let with = |from: &str, to: &str| DEPLOYMENT.replace(from, to);
    let second_port = with(
        "        - containerPort: 80\n",
        "        - containerPort: 80\n        - containerPort: 81\n",
    );
    refused(
        &second_port,
        &[],
        1,
        &["line 9", "spec.template.spec.containers", "80, 81", "--app-port"],
    );
    refused(
        &with("        ports:\n        - containerPort: 80\n", ""),
        &[],
        1,
        &["no containerPort", "--app-port"],
    );
    refused(
        &with(": 80", ": 9903"),
        &[],
        1,
        &["containers[0].ports", "9903", "--listener-port"],
    );
    refused(
        &with(": 80", ": 9902"),
        &[],
        1,
        &["health and metrics", "let the app use another"],
    );
    refused(DEPLOYMENT, &["--app-port", "9901"], 1, &["admin views"]);
    refused(DEPLOYMENT, &["--listener-port", "9902"], 2, &["another use"]);
    let host = with("      containers:", "      hostNetwork: true\n      containers:");
    refused(&host, &[], 1, &["line 9", "hostNetwork", "gateway"]);
    refused(
        &with("- name: a", "- name: sluice"),
        &[],
        1,
        &["containers[0].name", "not the sidecar", "rename"],
    );
    let strange = with(
        "      containers:",
        "      initContainers:\n      - name: sluice\n      containers:",
    );
    refused(&strange, &[], 1, &["initContainers[0].name", "not the sidecar"]);
    let volume = with(
        "      containers:",
        "      volumes:\n      - name: sluice-state\n      containers:",
    );
    refused(&volume, &[], 1, &["volumes[0].name", "rename"]);
    refused(
        &with("apps/v1", "extensions/v1beta1"),
        &[],
        1,
        &["line 2", "write apps/v1"],
    );
    refused(
        &with("  name: a\nspec", "  labels: {}\nspec"),
        &[],
        1,
        &["metadata.name"],
    );
    refused(
        &with(
            "      containers:\n      - name: a\n        ports:\n        - containerPort: 80\n",
            "",
        ),
        &[],
        1,
        &["no container"],
    );
}

#[test]
fn what_is_written_in_another_form_is_refused_not_guessed() {
    let braces = "{apiVersion: v1, kind: Pod, metadata: {name: a}, spec: {containers: [{name: a, ports: [{containerPort: 80}]}]}}";
    refused(
        braces,
        &[],
        1,
        &[
            "line 1",
            "not written as indented lines",
            "kubectl create --dry-run=client",
        ],
    );
    let json = r#"{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, "spec": {
      "containers": [{"name": "a", "ports": [{"containerPort": 80}]}]}}"#;
    refused(json, &[], 1, &["not written as indented lines"]);
    let volumes = DEPLOYMENT.to_owned() + "      volumes: [{name: b}]\n";
    refused(
        &volumes,
        &[],
        1,
        &["line 13", "volumes", "not written as indented lines"],
    );
    let list = "apiVersion: v1\nkind: List\nitems:\n- apiVersion: apps/v1\n  kind: Deployment\n";
    refused(list, &[], 1, &["line 3", "documents of their own"]);
    // An empty line at the end that counts, in a list that has to be added to.
    let keep = DEPLOYMENT.to_owned() + "      volumes:\n      - name: b\n        text: |+\n          x\n\n\n";
    refused(&keep, &[], 1, &["without changing what else it says"]);
}

#[test]
fn input_without_a_workload_is_refused() {
    refused("", &[], 1, &["no manifest is in it", "Deployment"]);
    refused(
        "kind: Service\n---\nkind: ConfigMap\n",
        &[],
        1,
        &["only Service, ConfigMap"],
    );
    refused("kind: {{ .Values.kind }}\n", &[], 2, &["line 1", "no YAML"]);
    for (arguments, part) in [
        (["--image", "a b"], "REGISTRY/NAME:TAG"),
        (["--fleet", "a"], "--with-resources"),
    ] {
        let output = inject(DEPLOYMENT, &arguments);
        assert_eq!(output.status.code(), Some(2));
        assert!(String::from_utf8(output.stderr).unwrap().contains(part), "{part}");
    }
    let two = format!("{DEPLOYMENT}---\n{DEPLOYMENT}");
    refused(
        &two,
        &["--with-resources", "--fleet", "a"],
        2,
        &["--fleet is for one workload"],
    );
    refused(DEPLOYMENT, &["--with-resources"], 1, &["no labels", "Service"]);
}

#[test]
fn an_unknown_kind_that_makes_pods_is_left_alone_and_told() {
    let strange = DEPLOYMENT
        .replace("apps/v1", "argoproj.io/v1alpha1")
        .replace("kind: Deployment", "kind: Rollout");
    let (out, said) = injected(&format!("{strange}---\n{DEPLOYMENT}"), &[]);
    assert!(out.starts_with(&strange), "{out}");
    assert!(
        said.contains("line 2: argoproj.io/v1alpha1 Rollout is left as it is"),
        "{said}"
    );
}

/// What stands in the repository beside the app as its team wrote it.
#[test]
fn the_example_is_injected() {
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/sidecar");
    let before = std::fs::read_to_string(example.join("before/app.yaml")).unwrap();
    let (out, said) = injected(&before, &[]);
    assert_eq!(said, "", "nothing to remark");
    let committed = std::fs::read_to_string(example.join("app.yaml")).unwrap();
    assert_eq!(
        out, committed,
        "`sluice inject -f examples/sidecar/before/app.yaml` writes it anew"
    );
    assert_eq!(injected(&committed, &[]).0, committed);
}

mod any_layout {
    use clap::Parser;
    use proptest::prelude::*;
    use sluice_cli::inject::{Args, inject};

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        args: Args,
    }

    /// How a manifest may be laid out.
    #[derive(Clone, Debug)]
    struct Layout {
        margin: usize,
        dash: usize,
        crlf: bool,
        fields: Vec<&'static str>,
        comment: bool,
        empty: bool,
        tail: &'static str,
    }

    fn layout() -> impl Strategy<Value = Layout> {
        let fields = vec![
            "terminationGracePeriodSeconds: 7 # s",
            "serviceAccountName: a",
            "initContainers:\n- name: first\n  args:\n  - |\n    # text\n\n    text",
            "volumes:\n- name: data\n  emptyDir: {}\n# after\n- name: more",
            "volumes: []",
            "initContainers: # none",
            "tolerations:\n- key: a\n\n- key: b",
            "affinity: {}",
        ];
        let tails = ["", "\n", "# the end\n", "---\nkind: Other\n", "status: {}\n"];
        (
            1..5_usize,
            prop::bool::ANY,
            prop::bool::ANY,
            prop::sample::subsequence(fields, 0..=8).prop_shuffle(),
            prop::bool::ANY,
            prop::bool::ANY,
            prop::sample::select(tails.to_vec()),
        )
            .prop_map(|(margin, dash, crlf, fields, comment, empty, tail)| Layout {
                margin,
                dash: if dash { margin } else { 0 },
                crlf,
                fields,
                comment,
                empty,
                tail,
            })
    }

    fn written(layout: &Layout) -> String {
        let mut seen = Vec::new();
        let margin = |depth: usize| " ".repeat(layout.margin * depth);
        let mut text = format!("apiVersion: v1\nkind: Pod\nmetadata:\n{}name: a\nspec:\n", margin(1));
        let mut fields = layout.fields.clone();
        fields.insert(
            fields.len() / 2,
            "containers:\n- name: a\n  ports:\n  - containerPort: 80",
        );
        for field in fields {
            let name = field.split(':').next().unwrap();
            if seen.contains(&name) {
                continue;
            }
            seen.push(name);
            if layout.comment {
                text.push_str(&format!("{}# about {name}\n", margin(1)));
            }
            for (number, line) in field.lines().enumerate() {
                let dash = if number > 0 {
                    " ".repeat(layout.dash)
                } else {
                    String::new()
                };
                let line = if line.is_empty() {
                    String::new()
                } else {
                    format!("{}{dash}{line}", margin(1))
                };
                text.push_str(&format!("{line}\n"));
            }
            if layout.empty {
                text.push('\n');
            }
        }
        text.push_str(layout.tail);
        if layout.crlf { text.replace('\n', "\r\n") } else { text }
    }

    proptest! {
        // A case that failed is written down as a test of its own, not into a file of seeds.
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
        /// However it is laid out: twice is once, and every line of the author's is still there, in its order.
        #[test]
        fn twice_is_once_and_nothing_is_lost(layout in layout()) {
            let args = Command::parse_from(["x", "-f", "-"]).args;
            let text = written(&layout);
            let once = inject(&text, &args).unwrap_or_else(|error| panic!("{error}\n{text}")).text;
            prop_assert_eq!(&inject(&once, &args).unwrap().text, &once);
            let mut rest = once.lines();
            for line in text.lines() {
                let line = line.replace("Seconds: 7 # s", "Seconds: 45 # s").replace("volumes: []", "volumes:");
                prop_assert!(rest.any(|other| other == line), "{line:?} is lost in\n{once}");
            }
        }
    }
}
