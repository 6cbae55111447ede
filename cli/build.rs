//! Tells the command which commit, profile and target it was built from. Without git the commit is "unknown".

use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let git = |arguments: &[&str]| {
        let output = Command::new("git").args(arguments).output().ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        (output.status.success() && !text.trim().is_empty()).then(|| text.trim().to_owned())
    };
    // The log of HEAD grows with every commit; a missing file would make cargo run this every time.
    if let Some(log) = git(&["rev-parse", "--git-path", "logs/HEAD"]).filter(|path| Path::new(path).exists()) {
        println!("cargo::rerun-if-changed={log}");
    }
    let commit = git(&["rev-parse", "--short=12", "HEAD"]).unwrap_or_else(|| "unknown".to_owned());
    let of = |name| std::env::var(name).unwrap_or_else(|_| "unknown".to_owned());
    println!("cargo::rustc-env=SLUICE_COMMIT={commit}");
    println!("cargo::rustc-env=SLUICE_PROFILE={}", of("PROFILE"));
    println!("cargo::rustc-env=SLUICE_TARGET={}", of("TARGET"));
}
