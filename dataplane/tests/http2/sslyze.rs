//! The scanner sslyze against listeners of TLS: what they offer is what Mozilla's profiles allow, and none of the attacks it
//! knows works. `e2e/sslyze` installs the scanner and runs this.

use std::process::Command;

use sluice_model::unit::TlsVersion;

use super::tls::site_from;

/// Scans the listener that speaks this version and later ones.
async fn scan(min_version: TlsVersion, profile: &'static str) {
    let scanner = std::env::var("SLUICE_SSLYZE").expect("SLUICE_SSLYZE says where sslyze is: run e2e/sslyze");
    let site = site_from(min_version).await;
    let target = format!("localhost:{}", site.world.address.port());
    let trusted = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(trusted.path(), site.authority()).unwrap();
    let scan = move || {
        let mut command = Command::new(scanner);
        command.args(["--mozilla_config", profile, "--early_data", "--fallback", "--resum"]);
        command.arg("--certinfo_ca_file").arg(trusted.path());
        command.arg(target).output().unwrap()
    };
    let output = tokio::task::spawn_blocking(scan).await.unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    println!("{text}");
    // A scanner that reaches nobody finds nothing wrong.
    assert!(text.contains("ACCEPTED") || text.contains("accepted"), "{text}");
    assert!(output.status.success() && text.contains("OK - Compliant."), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs sslyze: run e2e/sslyze"]
async fn the_usual_listener_is_intermediate() {
    scan(TlsVersion::Tls12, "intermediate").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs sslyze: run e2e/sslyze"]
async fn one_of_tls_1_3_is_modern() {
    scan(TlsVersion::Tls13, "modern").await;
}
