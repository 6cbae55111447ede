//! Where records and pieces outlive a pod: ConfigMaps in the controller's namespace. Nothing watches them: who leads knows
//! what it wrote, and who begins to lead reads all of it ([`super::pull`]). They belong to the installation, and go with it.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{DeleteParams, ListParams, ObjectMeta, PostParams};
use kube::{Api, Client};
use sluice_model::FleetName;
use sluice_model::limits::{API_LIST_ATTEMPTS, API_PAGE_OBJECTS};

use super::config_map::{self, FLEET_LABEL, MANAGED_BY, PART_LABEL, Part, Place};
use super::piece::{Piece, PieceName};
use super::record::Version;
use super::remote::{Kept, Remote, RemoteError, WriteError};
use crate::api_server::ApiServer;
use crate::installation::Owner;

/// The ConfigMaps of one installation.
#[derive(Clone, Debug)]
pub struct ConfigMaps {
    server: ApiServer,
    namespace: String,
    pub(super) owner: Owner,
}

/// What became of a write.
enum Written {
    /// This is there now.
    Now(Box<ConfigMap>),
    /// Something else is there.
    Conflict,
    /// There is nothing to be replaced.
    Gone,
}

impl ConfigMaps {
    /// Those in the namespace of the controller. What is written is `owner`'s.
    pub fn new(server: ApiServer, namespace: &str, owner: Owner) -> Self {
        Self {
            server,
            namespace: namespace.to_owned(),
            owner,
        }
    }

    fn owned(&self, mut object: ConfigMap) -> ConfigMap {
        self.owner.put_on(&mut object.metadata);
        object
    }

    pub(super) fn api(&self) -> Api<ConfigMap> {
        let client: Client = self.server.client().clone();
        Api::namespaced(client, &self.namespace)
    }

    /// Of everything that is kept here, or of one fleet alone.
    pub(super) fn selector(fleet: Option<&FleetName>) -> String {
        let (managed_by, us) = MANAGED_BY;
        let parts = Part::ALL.map(Part::as_str).join(",");
        let all = format!("{managed_by}={us},{PART_LABEL} in ({parts}),{FLEET_LABEL}");
        match fleet {
            Some(fleet) => format!("{all}={fleet}"),
            None => all,
        }
    }
}

/// The metadata of all objects that `selector` selects: all of them, or an error.
pub(super) async fn list(api: &Api<ConfigMap>, selector: &str) -> kube::Result<Vec<ObjectMeta>> {
    let mut attempts = 1;
    loop {
        match list_once(api, selector).await {
            // It no longer knows where it was: what was read so far may lack what was written since.
            Err(kube::Error::Api(status)) if status.code == 410 && attempts < API_LIST_ATTEMPTS => attempts += 1,
            listed => return listed,
        }
    }
}

async fn list_once(api: &Api<ConfigMap>, selector: &str) -> kube::Result<Vec<ObjectMeta>> {
    let mut page = ListParams::default().labels(selector).limit(API_PAGE_OBJECTS);
    let mut all = Vec::new();
    loop {
        let listed = api.list_metadata(&page).await?;
        all.extend(listed.items.into_iter().map(|object| object.metadata));
        match listed.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => page = page.continue_token(&token),
            None => return Ok(all),
        }
    }
}

/// The fleets that have a record which belongs to nobody else.
///
/// # Errors
/// When they cannot be listed.
pub async fn fleets(api: &Api<ConfigMap>, owner: &Owner) -> kube::Result<BTreeSet<FleetName>> {
    let (managed_by, us) = MANAGED_BY;
    let selector = format!("{managed_by}={us},{PART_LABEL}={}", Part::Record.as_str());
    let listed = list(api, &selector).await?;
    let ours = listed.iter().filter(|about| !owner.is_past(about));
    let label = |about: &ObjectMeta| about.labels.as_ref()?.get(FLEET_LABEL)?.parse().ok();
    Ok(ours.filter_map(label).collect())
}

pub(super) fn writing() -> PostParams {
    PostParams {
        field_manager: Some(MANAGED_BY.1.to_owned()),
        ..PostParams::default()
    }
}

async fn create(api: &Api<ConfigMap>, object: &ConfigMap) -> kube::Result<Written> {
    match api.create(&writing(), object).await {
        Ok(now) => Ok(Written::Now(Box::new(now))),
        Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(Written::Conflict),
        Err(error) => Err(error),
    }
}

async fn replace(api: &Api<ConfigMap>, name: &str, object: &ConfigMap) -> kube::Result<Written> {
    match api.replace(name, &writing(), object).await {
        Ok(now) => Ok(Written::Now(Box::new(now))),
        Err(kube::Error::Api(status)) if status.is_conflict() => Ok(Written::Conflict),
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(Written::Gone),
        Err(error) => Err(error),
    }
}

async fn delete(api: &Api<ConfigMap>, name: &str) -> kube::Result<()> {
    match api.delete(name, &DeleteParams::default()).await {
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
        Ok(_) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Creates the object of a piece. Of one that is there already, says which it is; one that is no piece at all gives way.
async fn keep(api: &Api<ConfigMap>, place: &Place, piece: &Piece, object: &ConfigMap) -> kube::Result<Kept> {
    if let Written::Now(_) = create(api, object).await? {
        return Ok(Kept::ThisOne);
    }
    let name = object.metadata.name.as_deref().unwrap_or_default();
    let there = api.get(name).await?;
    match config_map::piece_in(&there, place) {
        Ok(theirs) if theirs == *piece => Ok(Kept::ThisOne),
        Ok(theirs) => Ok(Kept::Another(theirs)),
        Err(error) => {
            tracing::warn!(%error, "it is made again");
            delete(api, name).await?;
            api.create(&writing(), object).await.map(|_| Kept::ThisOne)
        }
    }
}

impl Remote for ConfigMaps {
    fn place(&self, fleet: &FleetName) -> String {
        format!(
            "ConfigMap {} in namespace {}",
            config_map::record_name(fleet),
            self.namespace
        )
    }

    fn forgetting(&self, fleet: &FleetName) -> String {
        let command = format!(
            "kubectl -n {} delete configmaps -l {FLEET_LABEL}={fleet}",
            self.namespace
        );
        format!("delete what is kept of the fleet (`{command}`)")
    }

    fn load_record(&self, fleet: &FleetName) -> Result<Option<(Vec<u8>, Version)>, RemoteError> {
        let api = self.api();
        let name = config_map::record_name(fleet);
        let Some(object) = self.server.ask(api.get_opt(&name))? else {
            return Ok(None);
        };
        Ok(Some((config_map::record_in(&object)?, version_of(&object))))
    }

    fn commit_record(&self, fleet: &FleetName, expected: &Version, record: &[u8]) -> Result<Version, WriteError> {
        let api = self.api();
        let name = config_map::record_name(fleet);
        let written = match expected {
            Version::None => {
                let object = self.owned(config_map::of_record(fleet, record, None)?);
                self.server.ask(create(&api, &object))
            }
            Version::Resource(version) => {
                let object = self.owned(config_map::of_record(fleet, record, Some(version.clone()))?);
                self.server.ask(replace(&api, &name, &object))
            }
            Version::Count(_) => Ok(Written::Conflict),
        };
        match written.map_err(RemoteError::from)? {
            Written::Now(object) => Ok(version_of(&object)),
            Written::Conflict => Err(WriteError::Stale("at another version".to_owned())),
            Written::Gone => Err(WriteError::Stale("gone".to_owned())),
        }
    }

    fn keep(&self, fleet: &FleetName, pieces: &[Piece]) -> Vec<Result<Kept, RemoteError>> {
        let api = self.api();
        let object = |piece| Ok(self.owned(config_map::of_piece(fleet, piece)?));
        let objects: Vec<Result<ConfigMap, RemoteError>> = pieces.iter().map(object).collect();
        let fitting = pieces.iter().zip(&objects);
        let fitting = fitting.filter_map(|(piece, object)| Some((piece, object.as_ref().ok()?)));
        let questions = fitting.map(|(piece, object)| {
            let (api, place) = (&api, Place::from(&piece.name()));
            async move { keep(api, &place, piece, object).await }
        });
        let mut answers = self.server.ask_all(questions).into_iter();
        let answer = |object: Result<ConfigMap, RemoteError>| {
            object?;
            let nothing = || RemoteError::from(crate::api_server::ApiError::Unavailable("it was not asked".to_owned()));
            Ok(answers.next().ok_or_else(nothing)??)
        };
        objects.into_iter().map(answer).collect()
    }

    fn remove(&self, fleet: &FleetName, names: &BTreeSet<PieceName>) -> Result<(), RemoteError> {
        let api = self.api();
        let questions = names.iter().map(|name| {
            let (api, name) = (&api, Place::from(name).name(fleet));
            async move { delete(api, &name).await }
        });
        let answers = self.server.ask_all(questions).into_iter();
        Ok(answers.collect::<Result<(), _>>()?)
    }

    fn lacking(&self, fleet: &FleetName, names: &BTreeSet<PieceName>) -> Result<BTreeSet<PieceName>, RemoteError> {
        let (api, selector) = (self.api(), Self::selector(Some(fleet)));
        let there = self.server.ask(list(&api, &selector))?;
        let there: BTreeSet<String> = there.into_iter().filter_map(|object| object.name).collect();
        let lacks = |name: &&PieceName| !there.contains(&Place::from(*name).name(fleet));
        Ok(names.iter().filter(lacks).cloned().collect())
    }
}

fn version_of(object: &ConfigMap) -> Version {
    Version::Resource(object.metadata.resource_version.clone().unwrap_or_default())
}
