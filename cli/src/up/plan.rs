//! What `up` is going to do: everything that can be checked is checked here, before anything runs.

use std::ffi::OsString;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use sluice_controller::problem::Severity;
use sluice_model::unit::Listener;
use sluice_model::{FleetName, InstanceId, Snapshot};

use super::children::{self, Instance};
use super::controller::Controller;
use super::demo::{self, Demo};
use super::{Args, folder, port, state};
use crate::failure::Failure;
use crate::lint;

/// A plan that can be carried out.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The folder of manifests, absolute.
    pub folder: PathBuf,
    /// The state folder, absolute and writable.
    pub state: PathBuf,
    /// The fleet.
    pub fleet: FleetName,
    /// What the folder serves now, if it is complete.
    pub snapshot: Option<Snapshot>,
    /// How many errors the folder has.
    pub errors: usize,
    /// Where HTTP is served.
    pub http: SocketAddr,
    /// The listeners; the first is the one that `http` stands in for.
    pub listeners: Vec<Listening>,
    /// The controller's admin port.
    pub admin: SocketAddr,
    /// How many instances.
    pub instances: u16,
    /// Worker threads of each.
    pub workers: u16,
    /// The demo, if it is one.
    pub demo: Option<Demo>,
}

/// A listener and where it binds here.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Listening {
    /// Its name.
    pub name: String,
    /// Where it binds.
    pub address: SocketAddr,
    /// How a client has to speak to it from this machine.
    pub speaks: Speaks,
}

/// How a client has to speak to a listener.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Speaks {
    /// HTTP in the clear.
    Http,
    /// HTTP over TLS.
    Https,
    /// Either, behind a header of the PROXY protocol.
    Proxied,
}

impl Listening {
    fn of(listener: &Listener, address: SocketAddr) -> Self {
        // Clients on this machine come from the address that they connect to, if that is one of it.
        let mut proxied = listener.proxy_protocol_from.iter();
        let proxied = proxied.any(|from| from.contains(address.ip()));
        Self {
            name: listener.name.to_string(),
            address,
            speaks: match listener.tls {
                _ if proxied => Speaks::Proxied,
                Some(_) => Speaks::Https,
                None => Speaks::Http,
            },
        }
    }

    /// For people: where it is, and how it wants to be spoken to.
    pub fn url(&self) -> String {
        let address = self.address;
        match self.speaks {
            Speaks::Http => format!("http://{address}"),
            Speaks::Https => format!("https://{address}"),
            Speaks::Proxied => format!("{address} behind the PROXY protocol"),
        }
    }
}

impl Plan {
    /// Checks the arguments against the machine.
    ///
    /// # Errors
    /// With the first thing that is missing or taken.
    pub fn make(args: &Args) -> Result<Self, Failure> {
        let folder = folder::open(&args.folder)?;
        let state = match &args.state {
            Some(state) => state.clone(),
            None => state::default_for(&folder, |name| std::env::var_os(name))?,
        };
        let wants_demo = args.demo || demo::file(&folder).exists();
        let demo = wants_demo.then(|| demo::read(&folder)).transpose()?;
        let report = lint::report(&folder)?;
        let errors = report.count(Severity::Error);
        let (fleet, snapshot) = fleet(report.fleets, args.fleet.as_deref(), &folder, &state, errors)?;
        let state = state::prepare(&state)?;
        let listeners = listeners(snapshot.as_ref(), args.http);
        port::must_be_free(args.http, &port::Mend::Flag("--http"))?;
        for Listening { name, address, .. } in listeners.iter().skip(1) {
            if *address == args.http {
                return Err(Failure::usage(format!(
                    "{address} is asked for twice: by --http, and by the listener {name} of the Rollout; choose another with --http ADDR"
                )));
            }
            port::must_be_free(*address, &port::Mend::Listener(name))?;
        }
        port::must_be_free(args.admin, &port::Mend::Flag("--admin"))?;
        Ok(Self {
            folder,
            state,
            fleet,
            snapshot,
            errors,
            http: args.http,
            listeners,
            admin: args.admin,
            instances: args.instances,
            workers: args.workers.unwrap_or_else(|| workers(args.instances)),
            demo,
        })
    }

    /// The instances, each with its identity in its state folder.
    ///
    /// # Errors
    /// When one cannot be made.
    pub fn instances(&self, controller: &Controller) -> Result<Vec<Instance>, Failure> {
        let program = std::env::current_exe()
            .map_err(|error| Failure::failed(format!("cannot find the sluice program itself: {error}")))?;
        let mut instances = Vec::new();
        let mut wanted = self.admin.port();
        for id in self.ids()? {
            wanted = wanted.saturating_add(1);
            let admin = port::near(SocketAddr::from((Ipv4Addr::LOCALHOST, wanted)))?;
            controller.enroll(&self.fleet, &id)?;
            let folder = children::folder(&self.state, &id);
            let arguments = self.arguments(controller.stream(), &folder, admin);
            instances.push(Instance {
                id,
                folder,
                admin,
                program: program.clone(),
                arguments,
            });
        }
        Ok(instances)
    }

    /// Who the instances are. They keep their names from one `up` to the next.
    ///
    /// # Errors
    /// When the fleet's name leaves no room for a number.
    pub fn ids(&self) -> Result<Vec<InstanceId>, Failure> {
        let numbers = 1..=self.instances;
        numbers.map(|number| instance_id(&self.fleet, number)).collect()
    }

    fn arguments(&self, stream: SocketAddr, folder: &Path, admin: SocketAddr) -> Vec<OsString> {
        let mut arguments: Vec<OsString> = vec!["data-plane".into()];
        let mut add = |name: &str, value: OsString| arguments.extend([name.into(), value]);
        add("--controller", stream.to_string().into());
        add("--state", folder.into());
        add("--admin", admin.to_string().into());
        if let Some(Listening { name, address, .. }) = self.listeners.first() {
            add("--bind", format!("{name}={address}").into());
        }
        // What a later change listens on is no more public than the rest.
        add("--bind-ip", self.http.ip().to_string().into());
        add("--workers", self.workers.to_string().into());
        // Through a pipe: `up` writes and rotates the file.
        add("--access-log", "-".into());
        // No load balancer has to notice anything.
        add("--lame-duck", "0".into());
        arguments.push(format!("--die-with-parent={}", std::process::id()).into());
        arguments
    }
}

/// The fleet to serve: the one asked for, or the only one of the folder; a folder that is broken now still has the fleet
/// that its state knows.
fn fleet(
    fleets: std::collections::BTreeMap<FleetName, Option<Snapshot>>,
    wanted: Option<&str>,
    folder: &Path,
    state: &Path,
    errors: usize,
) -> Result<(FleetName, Option<Snapshot>), Failure> {
    let names: Vec<String> = fleets.keys().map(ToString::to_string).collect();
    let mut complete = fleets
        .into_iter()
        .filter_map(|(name, snapshot)| Some((name, snapshot?)))
        .filter(|(name, _)| wanted.is_none_or(|wanted| name.as_str() == wanted));
    match (complete.next(), complete.next()) {
        (Some((name, snapshot)), None) => Ok((name, Some(snapshot))),
        (Some(_), Some(_)) => Err(Failure::usage(format!(
            "this folder has several fleets: say which with --fleet: {}",
            names.join(", ")
        ))),
        (None, _) => match known_fleet(state, wanted) {
            Some(name) => Ok((name, None)),
            None => Err(nothing_to_serve(folder, wanted, errors)),
        },
    }
}

fn nothing_to_serve(folder: &Path, wanted: Option<&str>, errors: usize) -> Failure {
    let shown = folder.display();
    let fleet = wanted.map(|wanted| format!(" for fleet {wanted}")).unwrap_or_default();
    Failure::usage(if errors > 0 {
        format!(
            "{shown} has {errors} errors and nothing complete to serve{fleet}; `sluice lint {shown}` names them and how to mend them"
        )
    } else {
        format!(
            "{shown} has no Rollout{fleet}, which says where a fleet listens and how changes reach it; add one, such as examples/quickstart/rollout.yaml"
        )
    })
}

/// The fleet whose record is in the state folder, if it is clear which.
fn known_fleet(state: &Path, wanted: Option<&str>) -> Option<FleetName> {
    let entries = std::fs::read_dir(state.join("fleets")).ok()?;
    let names = entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<FleetName>().ok());
    let mut names = names.filter(|name| wanted.is_none_or(|wanted| name.as_str() == wanted));
    match (names.next(), names.next()) {
        (Some(name), None) => Some(name),
        (Some(_), Some(_)) | (None, _) => None,
    }
}

/// The listeners and their addresses. First the one that the HTTP address stands in for: `http`, or the first; others
/// have their port on the same IP.
fn listeners(snapshot: Option<&Snapshot>, http: SocketAddr) -> Vec<Listening> {
    let listeners = snapshot.map(Snapshot::listeners).unwrap_or_default();
    let named = listeners.iter().find(|listener| listener.name.as_str() == "http");
    let Some(main) = named.or(listeners.first()) else {
        return vec![Listening {
            name: "http".to_owned(),
            address: http,
            speaks: Speaks::Http,
        }];
    };
    let others = listeners.iter().filter(|listener| listener.name != main.name);
    let others = others.map(|listener| Listening::of(listener, SocketAddr::new(http.ip(), listener.port)));
    std::iter::once(Listening::of(main, http)).chain(others).collect()
}

/// The machine's cores divided among the instances, at least one each.
fn workers(instances: u16) -> u16 {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    u16::try_from(cores / usize::from(instances.max(1)))
        .unwrap_or(u16::MAX)
        .max(1)
}

fn instance_id(fleet: &FleetName, number: u16) -> Result<InstanceId, Failure> {
    format!("{fleet}-{number}")
        .parse()
        .map_err(|error| Failure::usage(format!("{error}")))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn a_folder_without_a_rollout_says_so() {
        let temp = tempfile::tempdir().unwrap();
        let refused = |errors| {
            fleet(BTreeMap::new(), None, temp.path(), temp.path(), errors)
                .unwrap_err()
                .to_string()
        };
        assert!(refused(0).contains("has no Rollout"), "{}", refused(0));
        assert!(refused(2).contains("2 errors"), "{}", refused(2));
    }

    #[test]
    fn every_listener_has_its_address_on_the_ip_of_the_main_one() {
        let temp = tempfile::tempdir().unwrap();
        let manifest = "{apiVersion: sluice.dev/v1alpha1, kind: Rollout, metadata: {name: default}, spec: {dataPlane: \
                        {listeners: [{name: extra, port: 8082}, {name: http, port: 8081}, {name: https, port: 8443, tls: {}}, \
                        {name: lb, port: 8083, proxyProtocol: {from: [127.0.0.0/8]}}, {name: far, port: 8084, \
                        proxyProtocol: {from: [10.0.0.0/8]}}]}}}";
        std::fs::write(temp.path().join("rollout.yaml"), manifest).unwrap();
        let report = lint::report(temp.path()).unwrap();
        let snapshot = report.fleets.into_values().flatten().next().unwrap();
        let http = "127.0.0.1:9999".parse().unwrap();
        let shown: Vec<_> = listeners(Some(&snapshot), http).iter().map(Listening::url).collect();
        let expected = [
            "http://127.0.0.1:9999",
            "http://127.0.0.1:8082",
            "https://127.0.0.1:8443",
            "127.0.0.1:8083 behind the PROXY protocol",
            "http://127.0.0.1:8084",
        ];
        assert_eq!(shown, expected);
        let none: Vec<_> = listeners(None, http).iter().map(Listening::url).collect();
        assert_eq!(none, ["http://127.0.0.1:9999"]);
    }

    #[test]
    fn a_broken_folder_still_has_the_fleet_it_had() {
        let temp = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(temp.path().join("fleets/edge")).unwrap();
        let (name, snapshot) = fleet(BTreeMap::new(), None, temp.path(), temp.path(), 1).unwrap();
        assert_eq!(name.as_str(), "edge");
        assert!(snapshot.is_none());
        assert!(fleet(BTreeMap::new(), Some("other"), temp.path(), temp.path(), 1).is_err());
    }
}
