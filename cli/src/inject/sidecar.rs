//! What is put in: one container, three volumes, and time to drain.
//!
//! A native sidecar (an init container that goes on) starts before the app and is ended after it, and a Job's pod does not
//! wait for it. Its SIGTERM therefore comes too late to drain by, and the preStop hook says it when the pod begins to end.

use super::Args;
use super::workload::{Container, Workload};
use crate::failure::Failure;

/// The container's name.
pub const CONTAINER: &str = "sluice";
/// Where what serves is kept; in memory, with the private keys.
pub const STATE_VOLUME: &str = "sluice-state";
/// The token by which the controller knows the pod.
pub const TOKEN_VOLUME: &str = "sluice-token";
/// What the controller is known by.
pub const TRUST_VOLUME: &str = "sluice-trust";
/// All of them.
pub const VOLUMES: [&str; 3] = [STATE_VOLUME, TOKEN_VOLUME, TRUST_VOLUME];

/// Views for people, on the pod's loopback address.
const ADMIN_PORT: u16 = 9901;
/// Health and metrics.
const HEALTH_PORT: u16 = 9902;

/// What the data plane takes to end: 10 s until load balancers have noticed, 30 s for requests under way, and 5 s to
/// spare. Its own defaults, since nothing else is asked of it.
pub const DRAIN_SECONDS: i64 = 45;

/// One sidecar.
#[derive(Clone, Debug)]
pub struct Sidecar<'a> {
    /// The app's container.
    pub app: Container<'a>,
    /// The app's port.
    pub app_port: u16,
    /// Where the sidecar listens in its place.
    pub listener_port: u16,
    image: String,
    controller: String,
}

impl<'a> Sidecar<'a> {
    /// The sidecar of this workload.
    ///
    /// # Errors
    /// When the app's port cannot be told, or a port is taken.
    pub fn new(workload: &Workload<'a>, args: &Args) -> Result<Self, Failure> {
        let (app, app_port) = app(workload, args.app_port)?;
        let sidecar = Self {
            app,
            app_port,
            listener_port: args.listener_port,
            image: args.image.clone(),
            controller: format!("sluice-controller.{}.svc:9900", args.controller_namespace),
        };
        sidecar.ports_are_free(workload)?;
        Ok(sidecar)
    }

    fn ports_are_free(&self, workload: &Workload<'_>) -> Result<(), Failure> {
        let uses = [
            (
                self.listener_port,
                "the sidecar's listener",
                "choose another with --listener-port",
            ),
            (
                HEALTH_PORT,
                "the sidecar's health and metrics",
                "let the app use another",
            ),
            (ADMIN_PORT, "the sidecar's admin views", "let the app use another"),
        ];
        let taken = |port: u16| uses.iter().find(|(used, ..)| *used == port);
        if self.listener_port == HEALTH_PORT || self.listener_port == ADMIN_PORT {
            let what = format!(
                "--listener-port {}: the sidecar has another use for it",
                self.listener_port
            );
            return Err(Failure::usage(what));
        }
        let told = workload
            .others()
            .flat_map(|container| container.ports().map(move |port| (container, port)));
        for (container, port) in told.chain([(self.app, self.app_port)]) {
            if let Some((_, whose, fix)) = taken(port) {
                let path = format!("{}[{}].ports", container.list, container.index);
                let what = format!("port {port} is {whose}; {fix}");
                return Err(workload.refuse(&path, &what));
            }
        }
        Ok(())
    }

    /// The container, as an item of a list.
    pub fn container(&self) -> String {
        let Self {
            image,
            controller,
            listener_port,
            ..
        } = self;
        format!(
            "\
- name: {CONTAINER}
  image: {image}
  restartPolicy: Always
  args:
    - --controller={controller}
    - --trust=/etc/sluice/trust
    - --token=/var/run/secrets/sluice/token
    - --state=/var/lib/sluice
    - --keys=/var/lib/sluice/keys
    - --health=0.0.0.0:{HEALTH_PORT}
  env:
    - name: SLUICE_WORKERS
      value: \"1\"
  ports:
    - name: sluice
      containerPort: {listener_port}
    - name: sluice-health
      containerPort: {HEALTH_PORT}
  startupProbe:
    httpGet:
      path: /healthz
      port: {HEALTH_PORT}
    periodSeconds: 1
    failureThreshold: 60
  readinessProbe:
    httpGet:
      path: /ready
      port: {HEALTH_PORT}
    periodSeconds: 2
  lifecycle:
    preStop:
      exec:
        command:
          - /usr/local/bin/sluice-dataplane
          - drain
  resources:
    requests:
      cpu: 50m
      memory: 64Mi
    limits:
      memory: 256Mi
  securityContext:
    allowPrivilegeEscalation: false
    capabilities:
      drop:
        - ALL
    readOnlyRootFilesystem: true
    runAsGroup: 65532
    runAsNonRoot: true
    runAsUser: 65532
    seccompProfile:
      type: RuntimeDefault
  volumeMounts:
    - name: {STATE_VOLUME}
      mountPath: /var/lib/sluice
    - name: {TOKEN_VOLUME}
      mountPath: /var/run/secrets/sluice
      readOnly: true
    - name: {TRUST_VOLUME}
      mountPath: /etc/sluice/trust
      readOnly: true
"
        )
    }

    /// The volumes with their names, each as an item of a list.
    pub fn volumes(&self) -> [(&'static str, String); 3] {
        let state = format!("- name: {STATE_VOLUME}\n  emptyDir:\n    medium: Memory\n    sizeLimit: 64Mi\n");
        let token = format!(
            "\
- name: {TOKEN_VOLUME}
  projected:
    sources:
      - serviceAccountToken:
          audience: sluice-controller
          expirationSeconds: 3600
          path: token
"
        );
        // Optional: the controller puts it there once a Rollout names the pod's account, which may be after the pod.
        let trust = format!("- name: {TRUST_VOLUME}\n  configMap:\n    name: sluice-trust\n    optional: true\n");
        [(STATE_VOLUME, state), (TOKEN_VOLUME, token), (TRUST_VOLUME, trust)]
    }
}

/// The app's container and its port: as told, or the only one that there is.
fn app<'a>(workload: &Workload<'a>, told: Option<u16>) -> Result<(Container<'a>, u16), Failure> {
    let all = || workload.containers().filter(|container| container.list == "containers");
    let ports: Vec<(Container<'a>, u16)> = all()
        .flat_map(|container| container.ports().map(move |port| (container, port)))
        .collect();
    let first = all()
        .next()
        .ok_or_else(|| workload.refuse("containers", "there is no container"))?;
    match (told, ports.as_slice()) {
        (Some(told), ports) => {
            let whose = ports.iter().find(|(_, port)| *port == told);
            Ok((whose.map_or(first, |(container, _)| *container), told))
        }
        (None, [only]) => Ok(*only),
        (None, []) => Err(workload.refuse(
            "containers",
            "no containerPort says where the app listens; say it with --app-port",
        )),
        (None, several) => {
            let ports: Vec<String> = several.iter().map(|(_, port)| port.to_string()).collect();
            let what = format!(
                "which of the ports {} the sidecar is in front of? Say it with --app-port",
                ports.join(", ")
            );
            Err(workload.refuse("containers", &what))
        }
    }
}
