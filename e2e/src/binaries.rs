//! Finds the binaries under test.
//!
//! `CARGO_BIN_EXE_…` exists only for a package's own binaries, so they are looked for beside the running test, where
//! `cargo test --workspace` has put them. `cargo test -p sluice-e2e` does not build them: when one is missing, or older
//! than its sources, they are built here, so that a test never looks at yesterday's program.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{LazyLock, OnceLock};
use std::time::SystemTime;

/// The `sluice` command.
pub fn sluice() -> &'static Path {
    &BINARIES.sluice
}

/// The controller.
pub fn controller() -> &'static Path {
    &BINARIES.controller
}

/// The data plane.
pub fn dataplane() -> &'static Path {
    &BINARIES.dataplane
}

/// Takes the binaries of this folder instead, whatever they were built of: a release, or those of another build. To be said
/// before any is asked for.
///
/// # Panics
/// If another folder was said before.
pub fn look_in(folder: PathBuf) {
    GIVEN.set(folder).expect("one folder of binaries");
}

static GIVEN: OnceLock<PathBuf> = OnceLock::new();

struct Binaries {
    sluice: PathBuf,
    controller: PathBuf,
    dataplane: PathBuf,
}

static BINARIES: LazyLock<Binaries> = LazyLock::new(|| {
    let folder = GIVEN.get().cloned().unwrap_or_else(profile_folder);
    let at = |name: &str| folder.join(format!("{name}{}", std::env::consts::EXE_SUFFIX));
    let binaries = Binaries {
        sluice: at("sluice"),
        controller: at("sluice-controller"),
        dataplane: at("sluice-dataplane"),
    };
    if GIVEN.get().is_some() {
        return binaries;
    }
    let current = is_current(&binaries.dataplane, &["model", "proto", "dataplane"])
        && is_current(&binaries.controller, &["model", "proto", "crds", "controller"])
        && is_current(
            &binaries.sluice,
            &["model", "proto", "crds", "controller", "dataplane", "cli"],
        );
    if !current {
        build(&folder);
    }
    binaries
});

/// Whether the binary is there and no older than what it is made of, by time as cargo itself judges.
fn is_current(binary: &Path, crates: &[&str]) -> bool {
    let Some(built) = modified(binary) else { return false };
    let root = crate::repository::root();
    crates
        .iter()
        .all(|name| newest(&root.join(name).join("src")).is_none_or(|source| source <= built))
}

fn modified(path: &Path) -> Option<SystemTime> {
    path.metadata().and_then(|data| data.modified()).ok()
}

/// The newest file below a folder; other binaries of the crate (`src/bin`) are no part of it.
fn newest(folder: &Path) -> Option<SystemTime> {
    let entries = std::fs::read_dir(folder).ok()?.flatten();
    let times = entries.filter_map(|entry| match entry.path() {
        path if path.is_dir() && !path.ends_with("src/bin") => newest(&path),
        path if path.is_file() => modified(&path),
        _ => None,
    });
    times.max()
}

/// `target/<profile>`: tests run in its `deps`, binaries in it.
fn profile_folder() -> PathBuf {
    let me = std::env::current_exe().expect("the path of this test");
    let folder = me.parent().expect("the folder of this test");
    let folder = if folder.ends_with("deps") {
        folder.parent().expect("the folder above deps")
    } else {
        folder
    };
    folder.to_path_buf()
}

fn build(folder: &Path) {
    let profile = match folder.file_name().and_then(|name| name.to_str()) {
        Some("debug") | None => "dev",
        Some(other) => other,
    };
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .args(["build", "--offline", "--locked", "--bins", "--profile", profile])
        .args(["-p", "sluice-cli", "-p", "sluice-controller", "-p", "sluice-dataplane"])
        .arg("--target-dir")
        .arg(folder.parent().expect("the target folder"))
        .current_dir(crate::repository::root())
        .status()
        .expect("cargo starts");
    assert!(status.success(), "the binaries under test do not build");
}
