//! The repository's own rules, as far as a machine can hold them: who may depend on whom, which files open with what,
//! which documents name things that must exist. The reasons stand in ARCHITECTURE.md and CONTRIBUTING.md.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use sluice_e2e::documents;
use sluice_e2e::repository::{self, Source};

/// A crate of the workspace, which others it may name, and what must not be in its whole graph.
struct Wall {
    package: &'static str,
    may_use: &'static [&'static str],
    never: &'static [&'static str],
}

const WALLS: [Wall; 6] = [
    Wall {
        package: "sluice-model",
        may_use: &[],
        never: &[
            "tokio",
            "prost",
            "kube",
            "kube-core",
            "k8s-openapi",
            "hyper",
            "rustls",
            "getrandom",
            "rand",
            "notify",
        ],
    },
    Wall {
        package: "sluice-proto",
        may_use: &["sluice-model"],
        never: &["kube", "kube-core", "k8s-openapi", "notify", "arc-swap"],
    },
    Wall {
        package: "sluice-crds",
        may_use: &[],
        never: &["tokio", "prost", "tonic", "hyper"],
    },
    Wall {
        package: "sluice-controller",
        may_use: &["sluice-model", "sluice-proto", "sluice-crds"],
        never: &["sluice-dataplane"],
    },
    Wall {
        package: "sluice-dataplane",
        may_use: &["sluice-model", "sluice-proto"],
        never: &[
            "sluice-controller",
            "sluice-crds",
            "kube",
            "kube-core",
            "k8s-openapi",
            "schemars",
        ],
    },
    Wall {
        package: "sluice-cli",
        may_use: &[
            "sluice-model",
            "sluice-proto",
            "sluice-crds",
            "sluice-controller",
            "sluice-dataplane",
        ],
        never: &["sluice-e2e"],
    },
];

/// How much of a package's graph.
#[derive(Clone, Copy)]
enum Depth {
    Direct,
    Whole,
}

/// The crates of a package's graph, without what is used in tests only.
fn graph(package: &str, depth: Depth) -> BTreeSet<String> {
    let depth: &[&str] = match depth {
        Depth::Direct => &["--depth", "1"],
        Depth::Whole => &[],
    };
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let output = Command::new(cargo)
        .args([
            "tree",
            "--offline",
            "--locked",
            "--edges",
            "normal",
            "--prefix",
            "none",
            "--format",
            "{p}",
        ])
        .args(["--package", package])
        .args(depth)
        .current_dir(repository::root())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines()
        .filter_map(|line| line.split(' ').next())
        .map(str::to_owned)
        .collect()
}

#[test]
fn manifests_are_walls() {
    for wall in WALLS {
        let (direct, graph) = (graph(wall.package, Depth::Direct), graph(wall.package, Depth::Whole));
        assert!(direct.contains(wall.package), "{direct:?}");
        let ours = direct
            .iter()
            .filter(|name| name.starts_with("sluice-") && *name != wall.package);
        for name in ours {
            assert!(
                wall.may_use.contains(&name.as_str()),
                "{} must not use {name}",
                wall.package
            );
        }
        for name in wall.never {
            assert!(
                !graph.contains(*name),
                "{} must not have {name} in its graph",
                wall.package
            );
        }
    }
}

/// Two providers in one process make rustls panic at the first handshake.
#[test]
fn there_is_one_crypto_provider() {
    let graph = graph("sluice-cli", Depth::Whole);
    assert!(graph.contains("aws-lc-rs") && !graph.contains("ring") && !graph.contains("openssl"));
}

/// What the data plane decides or holds, each by itself; `proxy` alone knows them all.
const LEAVES: [&str; 7] = ["router", "middleware", "traffic", "cache", "pool", "tls", "guard"];

#[test]
fn leaves_of_the_data_plane_do_not_import_each_other() {
    for file in repository::files("rs") {
        let Some(path) = file.path.strip_prefix("dataplane/src/") else {
            continue;
        };
        let module = path.split(['/', '.']).next().unwrap();
        if !LEAVES.contains(&module) {
            continue;
        }
        for (number, line) in code(&file) {
            for other in LEAVES.into_iter().filter(|leaf| *leaf != module) {
                let import = [format!("crate::{other}::"), format!("crate::{other};")];
                let braces = line.contains("crate::{") && line.contains(&format!("{other}::"));
                let imported = import.iter().any(|import| line.contains(import.as_str())) || braces;
                assert!(
                    !imported,
                    "{}:{number}: {module} is a leaf and imports {other}",
                    file.path
                );
            }
        }
    }
}

/// Lines that are no comments, with their numbers.
fn code(file: &Source) -> impl Iterator<Item = (usize, &str)> {
    let lines = (1..).zip(file.text.lines());
    lines.filter(|(_, line)| !line.trim_start().starts_with("//"))
}

#[test]
fn every_file_says_first_what_it_owns() {
    for file in repository::files("rs") {
        assert!(
            file.text.starts_with("//! "),
            "{} does not open with a //! comment",
            file.path
        );
        let said = file.text.lines().next().unwrap().trim_start_matches("//! ");
        assert!(
            said.len() >= 12 && !said.starts_with("Placeholder"),
            "{}: {said:?} says nothing",
            file.path
        );
    }
}

#[test]
fn no_file_is_named_after_nothing() {
    const NOTHING: [&str; 8] = [
        "utils", "util", "common", "helpers", "helper", "manager", "misc", "shared",
    ];
    for file in repository::files("rs") {
        for part in Path::new(&file.path).iter().filter_map(|part| part.to_str()) {
            let name = part.trim_end_matches(".rs");
            assert!(!NOTHING.contains(&name), "{}: name it after what it does", file.path);
        }
    }
}

/// Spelled in pieces, so that this file does not find itself.
const STUBS: [&str; 3] = [
    concat!("todo", "!("),
    concat!("unimplemented", "!("),
    concat!("dbg", "!("),
];

#[test]
fn nothing_is_a_stub_and_every_ignored_test_says_why() {
    for file in repository::files("rs") {
        for (number, line) in code(&file) {
            for stub in STUBS {
                assert!(!line.contains(stub), "{}:{number}: {stub}", file.path);
            }
            let ignored = line.trim_start().starts_with(concat!("#[ign", "ore"));
            assert!(
                !ignored || line.contains("= \""),
                "{}:{number}: why is it ignored?",
                file.path
            );
        }
    }
}

#[test]
fn generated_crds_are_current() {
    for crd in sluice_crds::generate::all().unwrap() {
        let current = crd.yaml().unwrap();
        // Helm takes none but the chart's own.
        for folder in ["crds/yaml", "charts/sluice/crds"] {
            let path = format!("{folder}/{}", crd.file_name);
            assert!(
                repository::read(&path) == current,
                "{path} is out of date: run `just crds`"
            );
        }
        let listed = format!("- yaml/{}\n", crd.file_name);
        assert!(
            repository::read("crds/kustomization.yaml").contains(&listed),
            "crds/kustomization.yaml lacks {}",
            crd.file_name
        );
    }
}

/// In Markdown text: everything between backticks.
fn quoted(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

#[test]
fn every_invariant_names_a_file_that_enforces_it_and_a_test_that_exists() {
    let text = repository::read("docs/invariants.md");
    let rows: Vec<&str> = text
        .lines()
        .filter(|line| line.starts_with("| ") && line.contains('`'))
        .collect();
    assert!(rows.len() >= 20, "promises and rules: {}", rows.len());
    for row in rows {
        let (mut files, mut tests) = (0, 0);
        for name in quoted(row) {
            match name.split_once("::") {
                Some((path, function)) if path.ends_with(".rs") => {
                    assert_is_test(path, function);
                    tests += 1;
                }
                None if name.contains('/') || [".rs", ".toml", ".md"].iter().any(|end| name.ends_with(end)) => {
                    assert!(
                        repository::root().join(name).exists(),
                        "docs/invariants.md: there is no {name}"
                    );
                    files += 1;
                }
                Some(_) | None => {}
            }
        }
        assert!(files > 0, "who enforces it? {row}");
        assert!(tests > 0, "which test would fail? {row}");
    }
}

fn assert_is_test(path: &str, function: &str) {
    let text = repository::read(path);
    // Tests that a macro writes stand as `name: what;` in its call.
    let by_macro = text.contains("macro_rules!") && text.contains("#[test]");
    let in_call = |line: &str| line.trim_start().starts_with(&format!("{function}: "));
    if by_macro && text.lines().any(in_call) {
        return;
    }
    let at = text
        .find(&format!("fn {function}("))
        .unwrap_or_else(|| panic!("{path} has no fn {function}"));
    let before = &text[..at];
    let attributes = &before[before.rfind("\n\n").unwrap_or(0)..];
    let is_test = ["#[test]", "#[tokio::test"]
        .iter()
        .any(|mark| attributes.contains(mark));
    assert!(is_test, "{path}: {function} is not a test");
}

/// What an operator reads in a metric or a log has its line in the document that says what to do.
#[test]
fn every_reason_of_a_refusal_says_what_to_do() {
    let text = repository::read("docs/troubleshooting.md");
    let rows: Vec<&str> = text.lines().filter(|line| line.starts_with("| `")).collect();
    for reason in sluice_dataplane::config::refusal::Refusal::REASONS {
        let told = rows
            .iter()
            .any(|row| row.split('|').nth(1).is_some_and(|cell| cell.contains(reason)));
        assert!(told, "docs/troubleshooting.md has no row for the refusal {reason}");
    }
}

/// Links between our own documents lead somewhere.
#[test]
fn links_in_documents_lead_somewhere() {
    for file in repository::files("md") {
        let folder = repository::root().join(&file.path).parent().unwrap().to_owned();
        for link in file.text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let target = link.split('#').next().unwrap();
            let elsewhere = target.is_empty() || target.contains("://") || target.contains(' ');
            assert!(elsewhere || folder.join(target).exists(), "{}: {link}", file.path);
        }
    }
}

/// Commands that people copy are run by a test, or it is said why not: `sluice_e2e::documents`.
#[test]
fn every_command_in_a_document_is_tested_or_says_why_not() {
    let mut stories = 0;
    for file in repository::files("md") {
        for block in documents::blocks(&file) {
            assert!(
                block.mark != documents::Mark::Missing,
                "{}:{}: no <!-- tested: NAME --> or <!-- not tested: REASON --> before it",
                file.path,
                block.line
            );
        }
        stories += documents::stories(&file).len();
    }
    assert!(stories >= 4, "{stories}");
}

/// The README's two commands are what CI runs; they have to be there, word for word.
#[test]
fn the_readme_has_its_two_commands() {
    let text = repository::read("README.md");
    for command in [
        "cargo run --release -- up examples/quickstart",
        "cargo test --workspace --locked",
    ] {
        assert!(
            text.lines().any(|line| line.trim() == command),
            "README.md lacks a line {command:?}"
        );
    }
}

/// Every folder of examples is clean, as it is and with each of its changes copied over it.
#[test]
fn examples_translate_cleanly() {
    for folder in std::fs::read_dir(repository::root().join("examples"))
        .unwrap()
        .flatten()
    {
        let folder = folder.path();
        if !folder.is_dir() {
            continue;
        }
        lint(&folder);
        let Ok(changes) = std::fs::read_dir(folder.join("changes")) else {
            continue;
        };
        for change in changes.flatten() {
            let scratch = tempfile::tempdir().unwrap();
            for file in std::fs::read_dir(&folder)
                .unwrap()
                .flatten()
                .filter(|file| file.path().is_file())
            {
                std::fs::copy(file.path(), scratch.path().join(file.file_name())).unwrap();
            }
            std::fs::copy(change.path(), scratch.path().join(replaced_by(&change.path()))).unwrap();
            lint(scratch.path());
        }
    }
}

/// The file that a change is to be copied over, as its first lines say it: `../pool.yaml`.
fn replaced_by(change: &Path) -> String {
    let text = std::fs::read_to_string(change).unwrap();
    let comment: String = text.lines().take_while(|line| line.starts_with('#')).collect();
    let name = comment
        .split("over ")
        .nth(1)
        .and_then(|rest| rest.split([' ', ',']).next());
    let name = name.unwrap_or_else(|| panic!("{}: say which file it is copied over", change.display()));
    name.trim_start_matches("../").to_owned()
}

fn lint(folder: &Path) {
    let output = Command::new(sluice_e2e::binaries::sluice())
        .arg("lint")
        .arg(folder)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let wrong = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "sluice lint {}: {said}{wrong}",
        folder.display()
    );
}
