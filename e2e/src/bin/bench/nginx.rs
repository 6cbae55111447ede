//! nginx: as the peer, and as the upstream of both.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use sluice_e2e::{ports, process};

use crate::{LOAD_CORE, PROXY_CORE, Scratch, host};

/// A running nginx with one worker; dropping it ends it.
pub(crate) struct Nginx {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    master: Child,
}

impl Nginx {
    /// The process that does the work.
    pub(crate) fn worker(&self) -> anyhow::Result<u32> {
        process::children(self.master.id())
            .first()
            .copied()
            .context("nginx has no worker")
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        for worker in process::children(self.master.id()) {
            if let Some(pid) = i32::try_from(worker).ok().and_then(rustix::process::Pid::from_raw) {
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
        }
        let _ = self.master.kill();
        let _ = self.master.wait();
    }
}

/// Answers everything with so many bytes.
pub(crate) fn upstream(scratch: &Scratch, bytes: usize) -> anyhow::Result<Nginx> {
    let address = ports::free();
    let root = scratch.path().join("root");
    std::fs::create_dir_all(&root)?;
    std::fs::write(root.join("body"), "x".repeat(bytes))?;
    let root = root.display();
    let server = format!(
        "open_file_cache max=1; sendfile on;\n\
         server {{ listen {address}; root {root}; location / {{ try_files /body =404; }} }}"
    );
    start(scratch, "upstream", address, LOAD_CORE, &server)
}

/// Sends everything to `upstream`, over kept connections, one server block for each route.
pub(crate) fn proxy(scratch: &Scratch, routes: usize, upstream: SocketAddr) -> anyhow::Result<Nginx> {
    let address = ports::free();
    let mut servers = format!("upstream up {{ server {upstream}; keepalive 64; keepalive_requests 1000000000; }}\n");
    servers.push_str("server_names_hash_max_size 8192; server_names_hash_bucket_size 128;\n");
    servers.push_str("proxy_http_version 1.1; proxy_set_header Connection \"\"; proxy_set_header Host $host;\n");
    servers.push_str("proxy_set_header X-Forwarded-For $remote_addr; proxy_set_header X-Request-Id $request_id;\n");
    for number in 0..routes {
        let name = host(number);
        writeln!(
            servers,
            "server {{ listen {address}; server_name {name}; location / {{ proxy_pass http://up; }} }}"
        )?;
    }
    start(scratch, "proxy", address, PROXY_CORE, &servers)
}

fn start(scratch: &Scratch, name: &str, address: SocketAddr, core: u8, servers: &str) -> anyhow::Result<Nginx> {
    let folder = scratch.path().join(name);
    std::fs::create_dir_all(&folder)?;
    let (file, errors) = (folder.join("nginx.conf"), folder.join("error.log"));
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("{kind}_temp_path {}/{kind};\n", folder.display()))
        .concat();
    let text = format!(
        "daemon off;\nworker_processes 1;\nuser root;\npid {}/pid;\nerror_log {} warn;\nevents {{ worker_connections 4096; }}\n\
         http {{\naccess_log off;\nkeepalive_requests 1000000000;\n{temporary}{servers}\n}}\n",
        folder.display(),
        errors.display()
    );
    std::fs::write(&file, text)?;
    let mut command = Command::new("taskset");
    command
        .args(["--cpu-list", &core.to_string(), "nginx", "-e"])
        .arg(&errors)
        .arg("-c")
        .arg(&file);
    let master = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    let nginx = Nginx { address, master };
    let began = Instant::now();
    while std::net::TcpStream::connect(address).is_err() {
        if began.elapsed() > Duration::from_secs(10) {
            bail!(
                "nginx does not start: {}",
                std::fs::read_to_string(&errors).unwrap_or_default()
            );
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(nginx)
}
