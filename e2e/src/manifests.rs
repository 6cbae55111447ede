//! Manifests for tests: a folder that is changed the way a careful deploy script does it (write aside, rename), and
//! short ways to write the three kinds.

use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// The fleet of all tests.
pub const FLEET: &str = "edge";
/// The namespace of all tests' objects.
pub const NAMESPACE: &str = "demo";

/// A folder of manifests.
#[derive(Debug, Clone)]
pub struct Folder {
    path: PathBuf,
}

impl Folder {
    /// An empty folder below `parent`.
    pub fn new(parent: &Path) -> Self {
        let path = parent.join("manifests");
        fs::create_dir_all(&path).expect("a folder for manifests");
        Self { path }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Puts `text` in place of the file, at once.
    pub fn write(&self, name: &str, text: &str) {
        let aside = self.path.join(format!(".{name}.new"));
        fs::write(&aside, text).expect("a file beside the manifests");
        fs::rename(&aside, self.path.join(name)).expect("a rename within a folder");
    }

    /// Takes the file away.
    pub fn remove(&self, name: &str) {
        fs::remove_file(self.path.join(name)).expect("a manifest to remove");
    }
}

/// A ProxyRoute: one host, one rule for all paths, named like its pool.
pub fn route(name: &str, host: &str, pool: &str) -> String {
    rules(name, host, &[("/", pool)])
}

/// A ProxyRoute with one rule for each (path prefix, pool), named like the pool.
pub fn rules(name: &str, host: &str, rules: &[(&str, &str)]) -> String {
    let mut text = head("ProxyRoute", name);
    let _ = write!(text, "spec:\n  fleet: {FLEET}\n  hostnames: [{host}]\n  rules:\n");
    for (path, pool) in rules {
        let _ = writeln!(text, "    - name: {pool}");
        let _ = writeln!(text, "      matches: [{{path: {{type: PathPrefix, value: {path}}}}}]");
        let _ = writeln!(text, "      pool: {pool}");
    }
    text
}

/// A Pool with these endpoints.
pub fn pool(name: &str, endpoints: &[SocketAddr]) -> String {
    let mut text = head("Pool", name);
    text.push_str("spec:\n  endpoints:\n");
    for endpoint in endpoints {
        let _ = writeln!(text, "    - {{address: {}, port: {}}}", endpoint.ip(), endpoint.port());
    }
    text
}

/// A Secret that holds a certificate and its key, both in PEM.
pub fn certificate(name: &str, certificate: &str, key: &str) -> String {
    let mut text = format!("apiVersion: v1\nkind: Secret\nmetadata: {{name: {name}, namespace: {NAMESPACE}}}\n");
    text.push_str("type: kubernetes.io/tls\nstringData:\n");
    for (file, pem) in [("tls.crt", certificate), ("tls.key", key)] {
        let _ = writeln!(text, "  {file}: |");
        for line in pem.lines() {
            let _ = writeln!(text, "    {line}");
        }
    }
    text
}

/// A Rollout of one listener, with stages as (percent, bake time) and gates as lines of YAML flow mappings.
pub fn rollout(port: u16, stages: &[(u32, &str)], gates: &[&str]) -> String {
    let mut text = head("Rollout", FLEET);
    let _ = write!(
        text,
        "spec:\n  fleet: {FLEET}\n  dataPlane:\n    listeners: [{{name: http, port: {port}}}]\n"
    );
    text.push_str("  stages:\n");
    for (percent, bake) in stages {
        let _ = writeln!(
            text,
            "    - {{name: p{percent}, fleetPercent: {percent}, bakeTime: {bake}}}"
        );
    }
    if !gates.is_empty() {
        text.push_str("  gates:\n");
        for gate in gates {
            let _ = writeln!(text, "    - {gate}");
        }
    }
    text
}

/// Several objects in one file.
pub fn documents(objects: &[String]) -> String {
    objects.join("---\n")
}

fn head(kind: &str, name: &str) -> String {
    let metadata = format!("metadata: {{name: {name}, namespace: {NAMESPACE}}}");
    format!("apiVersion: sluice.dev/v1alpha1\nkind: {kind}\n{metadata}\n")
}
