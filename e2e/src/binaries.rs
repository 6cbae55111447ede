//! Finds the binaries under test.
//!
//! `CARGO_BIN_EXE_…` exists only for a package's own binaries, so they are looked for beside the running test:
//! `cargo test --workspace` has built them there. When only this package was built, they are built once.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

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

struct Binaries {
    sluice: PathBuf,
    controller: PathBuf,
    dataplane: PathBuf,
}

static BINARIES: LazyLock<Binaries> = LazyLock::new(|| {
    let folder = profile_folder();
    let at = |name: &str| folder.join(format!("{name}{}", std::env::consts::EXE_SUFFIX));
    let binaries = Binaries {
        sluice: at("sluice"),
        controller: at("sluice-controller"),
        dataplane: at("sluice-dataplane"),
    };
    let all = [&binaries.sluice, &binaries.controller, &binaries.dataplane];
    if !all.into_iter().all(|path| path.is_file()) {
        build(&folder);
    }
    for path in all {
        assert!(path.is_file(), "{} was not built", path.display());
    }
    binaries
});

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
    let status = Command::new(env!("CARGO"))
        .args(["build", "--offline", "--locked", "--bins", "--profile", profile])
        .args(["-p", "sluice-cli", "-p", "sluice-controller", "-p", "sluice-dataplane"])
        .arg("--target-dir")
        .arg(folder.parent().expect("the target folder"))
        .current_dir(crate::repository::root())
        .status()
        .expect("cargo starts");
    assert!(status.success(), "the binaries under test do not build");
}
