//! What is in a document: whether pods are made of it, and of these as much as decides where a sidecar goes and whether
//! it can.

use sluice_controller::source::yaml::{Node, Value};

use super::documents::Document;
use super::sidecar::{CONTAINER, Sidecar, TOKEN_VOLUME};
use crate::failure::Failure;

/// A kind that pods are made of.
#[derive(Debug, PartialEq, Eq)]
pub struct Kind {
    /// Its name.
    pub name: &'static str,
    api_version: &'static str,
    /// Where the pod is described, with `metadata` and `spec`; empty: the document itself.
    template: &'static str,
    life: Life,
}

/// Whether requests are sent to pods while they are replaced by others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    /// They are.
    Serves,
    /// It runs to its end.
    Completes,
}

/// The kinds that a sidecar can be put into.
pub const KINDS: [Kind; 7] = [
    kind("Pod", "v1", "", Life::Serves),
    kind("Deployment", "apps/v1", "spec.template", Life::Serves),
    kind("StatefulSet", "apps/v1", "spec.template", Life::Serves),
    kind("DaemonSet", "apps/v1", "spec.template", Life::Serves),
    kind("ReplicaSet", "apps/v1", "spec.template", Life::Serves),
    kind("Job", "batch/v1", "spec.template", Life::Completes),
    kind("CronJob", "batch/v1", "spec.jobTemplate.spec.template", Life::Completes),
];

const fn kind(name: &'static str, api_version: &'static str, template: &'static str, life: Life) -> Kind {
    Kind {
        name,
        api_version,
        template,
        life,
    }
}

impl Kind {
    /// Where the pod's spec is, as a path.
    pub fn pod_path(&self) -> String {
        match self.template {
            "" => "spec".to_owned(),
            template => format!("{template}.spec"),
        }
    }

    fn pod_labels(&self) -> String {
        match self.template {
            "" => "metadata.labels".to_owned(),
            template => format!("{template}.metadata.labels"),
        }
    }
}

/// What a document holds.
#[derive(Debug)]
pub enum Found<'a> {
    /// Something to put a sidecar into.
    Workload(Workload<'a>),
    /// Something else, and what its author should know about it.
    Other(Option<String>),
}

/// Something that pods are made of.
#[derive(Clone, Debug)]
pub struct Workload<'a> {
    /// Its kind.
    pub kind: &'static Kind,
    /// Its name.
    pub name: &'a str,
    /// Its namespace, if it says one.
    pub namespace: Option<&'a str>,
    /// The pod's spec.
    pub pod: &'a Node,
    document: &'a Document<'a>,
}

/// One container of the pod.
#[derive(Clone, Copy, Debug)]
pub struct Container<'a> {
    /// `containers` or `initContainers`.
    pub list: &'static str,
    /// Which of them.
    pub index: usize,
    /// What it says.
    pub node: &'a Node,
}

impl<'a> Workload<'a> {
    /// What `document` holds.
    ///
    /// # Errors
    /// When it holds a workload in a form that inject does not know.
    pub fn find(document: &'a Document<'a>) -> Result<Found<'a>, Failure> {
        let Some(node) = &document.node else {
            return Ok(Found::Other(None));
        };
        let (api_version, kind) = (document.field("apiVersion"), document.kind());
        if kind == Some("List") {
            return list(document, node);
        }
        let Some(known) = KINDS.iter().find(|known| kind == Some(known.name)) else {
            return Ok(Found::Other(makes_pods(document, node)));
        };
        let place = format!("line {}", document.line_of("kind"));
        if api_version != Some(known.api_version) {
            let version = api_version.unwrap_or("(none)");
            let what = format!(
                "{place}: a {} of apiVersion {version} is none that inject knows; write {}",
                known.name, known.api_version
            );
            return Err(Failure::failed(what));
        }
        let name = document.metadata("name").or(document.metadata("generateName"));
        let name = name.ok_or_else(|| Failure::failed(format!("{place}: the {} has no metadata.name", known.name)))?;
        let pod = at(node, &known.pod_path()).filter(|pod| matches!(pod.value, Value::Map(_)));
        let pod = pod.ok_or_else(|| {
            let path = known.pod_path();
            Failure::failed(format!(
                "{place}: {} {name} has no {path} to put a sidecar into",
                known.name
            ))
        })?;
        let workload = Self {
            kind: known,
            name: name.trim_end_matches('-'),
            namespace: document.metadata("namespace"),
            pod,
            document,
        };
        workload.check()?;
        Ok(Found::Workload(workload))
    }

    /// What no sidecar can be put into, whatever its settings.
    fn check(&self) -> Result<(), Failure> {
        if self.containers().all(|container| container.list != "containers") {
            return Err(self.refuse("containers", "there is no container to put a sidecar beside"));
        }
        let host = self.pod.get("hostNetwork").map(|node| &node.value);
        if matches!(host, Some(Value::Bool(true))) {
            let what = "a sidecar's ports would be the node's, and two pods on one node would want the same; \
                        take hostNetwork away, or serve the app through the gateway";
            return Err(self.refuse("hostNetwork", what));
        }
        self.names_are_free()
    }

    fn names_are_free(&self) -> Result<(), Failure> {
        let ours = self.sidecar();
        let strange = |container: &Container<'_>| {
            let is_ours = ours.is_some_and(|ours| ours.list == container.list && ours.index == container.index);
            container.name() == Some(CONTAINER) && !is_ours
        };
        if let Some(container) = self.containers().find(strange) {
            let path = format!("{}[{}].name", container.list, container.index);
            let what =
                format!("a container is called {CONTAINER:?}, and is not the sidecar that inject makes; rename it");
            return Err(self.refuse(&path, &what));
        }
        if ours.is_some() {
            return Ok(());
        }
        let taken = |name: &str| super::sidecar::VOLUMES.contains(&name);
        match self.volumes().find(|(_, name)| taken(name)) {
            None => Ok(()),
            Some((index, name)) => {
                let what = format!("a volume is called {name:?}, which the sidecar's is to be called; rename it");
                Err(self.refuse(&format!("volumes[{index}].name"), &what))
            }
        }
    }

    /// Every container, init containers included.
    pub fn containers(&self) -> impl Iterator<Item = Container<'a>> {
        let pod = self.pod;
        ["containers", "initContainers"].into_iter().flat_map(move |list| {
            let items = pod.get(list).map(Node::items).unwrap_or_default();
            let one = move |(index, node)| Container { list, index, node };
            items.iter().enumerate().map(one)
        })
    }

    /// The sidecar that an earlier inject has put in.
    pub fn sidecar(&self) -> Option<Container<'a>> {
        self.containers().find(|container| {
            let always = container.node.get("restartPolicy").and_then(Node::text) == Some("Always");
            let mounts = container.node.get("volumeMounts").map(Node::items).unwrap_or_default();
            let token = |mount: &Node| mount.get("name").and_then(Node::text) == Some(TOKEN_VOLUME);
            container.list == "initContainers"
                && container.name() == Some(CONTAINER)
                && always
                && mounts.iter().any(token)
        })
    }

    /// Containers that are not the sidecar's.
    pub fn others(&self) -> impl Iterator<Item = Container<'a>> {
        self.containers()
            .filter(|container| container.list == "containers" || container.name() != Some(CONTAINER))
    }

    fn volumes(&self) -> impl Iterator<Item = (usize, &'a str)> {
        let volumes = self.pod.get("volumes").map(Node::items).unwrap_or_default();
        let named = |(index, volume): (usize, &'a Node)| Some((index, volume.get("name")?.text()?));
        volumes.iter().enumerate().filter_map(named)
    }

    /// The service account that its pods run as: the fleet's member.
    pub fn service_account(&self) -> &'a str {
        let named = |field| self.pod.get(field).and_then(Node::text);
        named("serviceAccountName")
            .or_else(|| named("serviceAccount"))
            .unwrap_or("default")
    }

    /// The labels of its pods, in the order of the text.
    pub fn labels(&self) -> Vec<(&'a str, &'a str)> {
        let node = self.document.node.as_ref();
        let selector = node.and_then(|node| at(node, "spec.selector.matchLabels"));
        let labels = selector.or_else(|| at(node?, &self.kind.pod_labels()));
        let entries = labels.map(Node::entries).unwrap_or_default();
        let text = |(key, value): &'a (_, Node)| {
            let key: &'a sluice_controller::source::yaml::Key = key;
            Some((key.text.as_str(), value.text()?))
        };
        entries.iter().filter_map(text).collect()
    }

    /// What is said about the field at `path` below the pod's spec; empty: about the spec.
    pub fn refuse(&self, path: &str, what: &str) -> Failure {
        let pod = self.kind.pod_path();
        let path = if path.is_empty() { pod } else { format!("{pod}.{path}") };
        let line = self.document.line_of(&path);
        Failure::failed(format!("line {line}: {} {} {path}: {what}", self.kind.name, self.name))
    }

    /// What its author should know, though it is no error.
    pub fn remarks(&self, sidecar: &Sidecar) -> Vec<String> {
        let who = format!("{} {}", self.kind.name, self.name);
        let mut remarks = Vec::new();
        if self.service_account() == "default" {
            remarks.push(format!(
                "{who} runs as its namespace's default service account: every pod that does could join this fleet; \
                 give it a serviceAccountName of its own"
            ));
        }
        let hook = |container: &Container<'_>| at(container.node, "lifecycle.preStop").is_some();
        if self.kind.life == Life::Serves && !hook(&sidecar.app) {
            let name = sidecar.app.name().unwrap_or_default();
            remarks.push(format!(
                "{who}: container {name} has no preStop hook, so it may be gone before clients have noticed that the pod \
                 ends; give it one: lifecycle: {{preStop: {{sleep: {{seconds: 15}}}}}}"
            ));
        }
        remarks
    }
}

impl<'a> Container<'a> {
    /// Its name.
    pub fn name(&self) -> Option<&'a str> {
        self.node.get("name").and_then(Node::text)
    }

    /// Its TCP ports, as far as they are told.
    pub fn ports(self) -> impl Iterator<Item = u16> + use<'a> {
        let ports = self.node.get("ports").map(Node::items).unwrap_or_default();
        ports.iter().filter_map(|port| {
            let protocol = port.get("protocol").and_then(Node::text);
            match port.get("containerPort").map(|node| &node.value) {
                Some(Value::Integer(number)) if protocol.is_none_or(|name| name == "TCP") => {
                    u16::try_from(*number).ok()
                }
                Some(_) | None => None,
            }
        })
    }
}

/// The field at `path`.
fn at<'a>(node: &'a Node, path: &str) -> Option<&'a Node> {
    path.split('.').try_fold(node, |node, field| node.get(field))
}

/// Inside of a `List` nothing is edited: that is no form in which manifests are kept.
fn list<'a>(document: &'a Document<'a>, node: &'a Node) -> Result<Found<'a>, Failure> {
    let items = node.get("items").map(Node::items).unwrap_or_default();
    let kind = |item: &'a Node| item.get("kind").and_then(Node::text);
    let known = items
        .iter()
        .filter_map(kind)
        .find(|kind| KINDS.iter().any(|known| known.name == *kind));
    match known {
        None => Ok(Found::Other(None)),
        Some(kind) => Err(Failure::failed(format!(
            "line {}: a {kind} is inside of a List; write the items as documents of their own, with `---` between them",
            document.line_of("items")
        ))),
    }
}

/// A remark about something that makes pods and is none of ours to edit.
fn makes_pods(document: &Document<'_>, node: &Node) -> Option<String> {
    at(node, "spec.template.spec.containers")?;
    Some(format!(
        "line {}: {} {} is left as it is: it makes pods, and inject does not know its kind",
        document.line_of("kind"),
        document.field("apiVersion").unwrap_or("(no apiVersion)"),
        document.kind().unwrap_or("(no kind)"),
    ))
}
