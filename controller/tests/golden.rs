//! Broken manifests of every kind: each is a Problem with place and fix, the change beside it is applied, and the good
//! form keeps serving. `tests/golden/README.md` says how to add one.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    missing_docs
)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kube::core::DynamicObject;
use rcgen::{CertificateParams, KeyPair};
use serde_json::json;
use sluice_controller::compile::{Compiled, Compiler, FleetState, Output, Stable};
use sluice_controller::lint::lint;
use sluice_controller::problem::Problem;
use sluice_controller::source::folder::Folder;
use sluice_controller::source::kubernetes::read;
use sluice_controller::source::yaml::{self, Node};
use sluice_controller::source::{View, manifest};
use sluice_model::{FleetName, Kind};
use sluice_proto::sections::unit_digest;

fn golden(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(path)
}

fn edge() -> FleetName {
    "edge".parse().unwrap()
}

fn look(folder: &mut Folder) -> View {
    let listing = folder.list();
    folder.view(&listing)
}

fn compile(view: &View, stable: Option<Stable>) -> (Compiled, Vec<Problem>) {
    let state = FleetState {
        stable,
        ..FleetState::default()
    };
    let Output {
        mut fleets,
        problems,
        brakes: _,
    } = Compiler::new(unit_digest).compile(view, &BTreeMap::from([(edge(), state)]));
    (fleets.remove(&edge()).unwrap(), problems)
}

fn copy_of_good() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(golden("good")).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), dir.path().join(entry.file_name())).unwrap();
    }
    dir
}

/// What happens to a folder that serves.
#[derive(Default)]
struct Harm {
    /// Files that are put into it.
    put: Vec<(String, Vec<u8>)>,
    /// Files that are removed.
    removed: Vec<String>,
}

impl Harm {
    /// The files of a folder; its `REMOVED` lists those to remove.
    fn of(folder: &Path) -> Self {
        let mut harm = Self::default();
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            if name == "REMOVED" {
                harm.removed = fs::read_to_string(path).unwrap().lines().map(str::to_owned).collect();
            } else {
                harm.put.push((name, fs::read(path).unwrap()));
            }
        }
        harm
    }

    fn do_to(&self, folder: &Path) {
        for (name, text) in &self.put {
            fs::write(folder.join(name), text).unwrap();
        }
        for name in &self.removed {
            fs::remove_file(folder.join(name)).unwrap();
        }
        let api = fs::read_to_string(folder.join("api.yaml")).unwrap();
        fs::write(folder.join("api.yaml"), api.replace("8000", "8001")).unwrap();
    }
}

/// Breaks a folder that serves with `broken`, put as `name`, and says what is told and what changes.
fn report(name: &str, broken: &[u8]) -> String {
    report_of(&Harm {
        put: vec![(name.to_owned(), broken.to_owned())],
        removed: vec![],
    })
}

fn report_of(harm: &Harm) -> String {
    let dir = copy_of_good();
    let mut folder = Folder::new(dir.path());
    let (good, problems) = compile(&look(&mut folder), None);
    assert_eq!(problems, [], "the good folder is good");
    let stable = Stable {
        snapshot: Arc::new(good.snapshot.unwrap()),
        sources: good.sources,
    };

    harm.do_to(dir.path());
    let view = look(&mut folder);
    let (compiled, problems) = compile(&view, Some(stable.clone()));
    let (restarted, again) = compile(&look(&mut Folder::new(dir.path())), Some(stable.clone()));
    assert_eq!(
        (&compiled.snapshot, &problems),
        (&restarted.snapshot, &again),
        "a restart changes nothing"
    );
    check(&compiled, &problems, &stable);
    let removals = compiled
        .changed
        .iter()
        .filter(|changed| changed.after.is_none())
        .count();
    assert!(removals <= harm.removed.len(), "something good was removed");
    said(&compiled, &problems)
}

fn check(compiled: &Compiled, problems: &[Problem], stable: &Stable) {
    assert!(!problems.is_empty(), "nothing is told");
    for problem in problems {
        assert!(
            problem.place.is_some() && !problem.fix.is_empty(),
            "no place or no fix: {problem}"
        );
    }
    let snapshot = compiled.snapshot.as_ref().unwrap();
    let changed: Vec<_> = compiled.changed.iter().map(|changed| &changed.object).collect();
    assert!(
        changed.iter().any(|key| key.to_string() == "Pool shop/api"),
        "the change beside is not applied"
    );
    for problem in problems.iter().filter(|problem| problem.is_error()) {
        let Some(key) = &problem.object else { continue };
        assert_eq!(
            snapshot.unit(key),
            stable.snapshot.unit(key),
            "{key} does not serve as before"
        );
    }
}

fn said(compiled: &Compiled, problems: &[Problem]) -> String {
    let problems = problems.iter().map(|problem| format!("{problem}\n"));
    let changed = compiled.changed.iter().map(|changed| {
        let verb = if changed.after.is_some() { "changes" } else { "removes" };
        format!("{verb} {}\n", changed.object)
    });
    problems.chain(changed).collect()
}

/// What every case says, beside what its golden file says; cases are what `paths` has, and how to report on each.
fn compare(paths: &[PathBuf], report: impl Fn(&Path) -> String + std::panic::RefUnwindSafe) {
    let mut wrong = Vec::new();
    for path in paths {
        let Ok(said) = std::panic::catch_unwind(|| report(path)) else {
            wrong.push(format!("{}: see above", path.display()));
            continue;
        };
        let expected = path.with_extension("golden");
        if std::env::var_os("SLUICE_BLESS").is_some() {
            fs::write(&expected, &said).unwrap();
        }
        let golden = fs::read_to_string(&expected).unwrap_or_default();
        if golden != said {
            wrong.push(format!("{}\n--- expected\n{golden}--- said\n{said}", path.display()));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} differ (SLUICE_BLESS=1 writes them anew):\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

fn entries(path: &str, wanted: impl Fn(&Path) -> bool) -> Vec<PathBuf> {
    let listed = fs::read_dir(golden(path)).unwrap().map(|entry| entry.unwrap().path());
    let mut wanted: Vec<PathBuf> = listed.filter(|path| wanted(path)).collect();
    wanted.sort();
    wanted
}

#[test]
fn broken_manifests_harm_only_themselves() {
    let files = entries("cases", |path| {
        path.extension().is_some_and(|extension| extension == "yaml")
    });
    assert!(files.len() >= 40, "{}", files.len());
    compare(&files, |file| {
        let broken = fs::read(file).unwrap();
        let first = broken.split(|byte| *byte == b'\n').next().unwrap();
        let name = std::str::from_utf8(first)
            .ok()
            .and_then(|line| line.strip_prefix("# Put as "))
            .unwrap_or("broken.yaml");
        report(name, &broken)
    });
}

/// The documents of `text` as an API server would give them out, where it can be told which objects they are.
fn as_stored(text: &str) -> Vec<DynamicObject> {
    let documents = yaml::documents(text).unwrap_or_default();
    let read = manifest::read(&"file.yaml".into(), documents.clone());
    // Where one cannot be told, or stands twice, the API server never had it.
    if read.incomplete || read.objects.iter().any(|object| !object.also_in.is_empty()) {
        return vec![];
    }
    let ours = documents.iter().map(Node::to_json);
    let ours = ours.filter(|json| json["apiVersion"] == "sluice.dev/v1alpha1");
    ours.map(|mut json| {
        let namespace = json["metadata"]["namespace"].as_str().unwrap_or("default").to_owned();
        // What an API server lets through of `metadata` is of its own form.
        json["metadata"] = json!({"name": json["metadata"]["name"], "namespace": namespace, "resourceVersion": "1"});
        serde_json::from_value(json).unwrap()
    })
    .collect()
}

#[test]
fn an_api_servers_objects_are_told_what_files_are_told() {
    let files = entries("cases", |path| {
        path.extension().is_some_and(|extension| extension == "yaml")
    });
    let mut compared = 0;
    for file in files {
        let Ok(text) = fs::read_to_string(&file) else { continue };
        let of_file = manifest::read(&"file.yaml".into(), yaml::documents(&text).unwrap_or_default());
        let is_of_content =
            |problem: &Problem| problem.object.is_some() && !problem.field.as_str().starts_with("metadata");
        let of_file = of_file.problems.into_iter().filter(is_of_content);
        let without_places = of_file.map(|problem| Problem { place: None, ..problem });
        let stored = as_stored(&text);
        if stored.is_empty() {
            continue;
        }
        let told = stored.iter().flat_map(|object| {
            let kind = Kind::ALL
                .into_iter()
                .find(|kind| kind.as_str() == object.types.as_ref().unwrap().kind);
            read::object(kind.unwrap(), object).unwrap().1
        });
        let told: Vec<Problem> = told.collect();
        assert_eq!(told, without_places.collect::<Vec<_>>(), "{}", file.display());
        compared += told.len();
    }
    assert!(compared >= 30, "{compared}");
}

/// The text with certificates put in: `@a.crt@` and `@a.key@` belong together, and so on.
fn with_certificates(mut text: String) -> String {
    for (name, not_after) in [("a", 2100), ("b", 2100), ("ended", 2020)] {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["a.example.com".to_owned()]).unwrap();
        params.not_after = rcgen::date_time_ymd(not_after, 1, 1);
        let pems = [
            ("crt", params.self_signed(&key).unwrap().pem()),
            ("key", key.serialize_pem()),
        ];
        for (part, pem) in pems {
            text = text.replace(&format!("@{name}.{part}@"), &pem.replace(['\r', '\n'], "\\n"));
        }
    }
    text
}

#[test]
fn what_services_and_certificates_lack_is_told() {
    let files = entries("live", |path| {
        path.extension().is_some_and(|extension| extension == "yaml")
    });
    assert!(files.len() >= 9, "{}", files.len());
    compare(&files, |file| {
        let dir = tempfile::tempdir().unwrap();
        let text = with_certificates(fs::read_to_string(file).unwrap());
        fs::write(dir.path().join("shop.yaml"), text).unwrap();
        let problems = lint(dir.path()).problems;
        assert!(problems.iter().all(|problem| !problem.is_error()), "{problems:?}");
        problems.iter().map(|problem| format!("{problem}\n")).collect()
    });
}

#[test]
fn several_breaks_at_once_harm_only_themselves() {
    let folders = entries("together", Path::is_dir);
    assert!(folders.len() >= 3, "{}", folders.len());
    compare(&folders, |folder| report_of(&Harm::of(folder)));
}

#[test]
fn a_huge_file_is_refused_by_its_size() {
    let mut huge = fs::read(golden("good/broken.yaml")).unwrap();
    huge.extend(std::iter::repeat_n(b"# padding\n", 1 << 20).flatten());
    assert_eq!(
        report("broken.yaml", &huge),
        "broken.yaml: error: the file is larger than 4 MiB; split it into several files; what was read from there before \
         keeps serving\nchanges Pool shop/api\n"
    );
}

#[test]
fn too_many_of_everything_is_refused() {
    let many = |count: usize, item: &str| {
        (0..count)
            .map(|n| item.replace('N', &n.to_string()))
            .collect::<Vec<_>>()
            .join(", ")
    };
    let route = |rules: String| {
        format!(
            "apiVersion: sluice.dev/v1alpha1\nkind: ProxyRoute\nmetadata: {{name: broken, namespace: shop}}\nspec: {{fleet: edge, hostnames: [broken.example.com], rules: [{rules}]}}\n"
        )
    };
    let one = |matches: String| route(format!("{{name: all, pool: api, matches: [{matches}]}}"));
    let cases = [
        (route(many(65, "{name: rN, pool: api}")), "spec.rules"),
        (one(many(65, "{path: {value: /N}}")), "spec.rules[0].matches"),
        (
            one(format!("{{headers: [{}]}}", many(17, "{name: xN, value: a}"))),
            "spec.rules[0].matches[0].headers",
        ),
        (
            one(format!("{{queryParams: [{}]}}", many(17, "{name: xN, value: a}"))),
            "spec.rules[0].matches[0].queryParams",
        ),
        (
            one(format!("{{methods: [{}]}}", many(17, "MN"))),
            "spec.rules[0].matches[0].methods",
        ),
        (
            one(format!("{{path: {{value: /{}}}}}", "a".repeat(1024))),
            "spec.rules[0].matches[0].path.value",
        ),
    ];
    for (text, field) in cases {
        let said = report("broken.yaml", text.as_bytes());
        assert!(
            said.contains(&format!("error: ProxyRoute shop/broken {field}: ")) && said.contains("too many"),
            "{said}"
        );
    }
}

#[test]
fn lint_says_what_compile_says() {
    let dir = copy_of_good();
    let good = lint(dir.path());
    assert_eq!((good.problems.len(), good.objects, good.unreadable), (0, 6, false));
    assert!(good.fleets[&edge()].is_some());
    fs::copy(golden("cases/did-you-mean-field.yaml"), dir.path().join("broken.yaml")).unwrap();
    let bad = lint(dir.path());
    assert_eq!(bad.problems.len(), 1);
    assert!(
        bad.problems[0].to_string().contains("did you mean \"matches\"?"),
        "{}",
        bad.problems[0]
    );
    assert!(lint(&dir.path().join("nowhere")).unreadable);
}
