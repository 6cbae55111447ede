//! Beginning to lead: the folder is made equal to what is kept, for every fleet. What another leader wrote comes, and what it removed goes. What is
//! here already is not asked for again: a piece never changes.
//!
//! Nothing is removed before everything was listed and fetched, so that an answer that is cut short costs nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::api::ObjectMeta;
use sluice_model::FleetName;
use sluice_model::limits::API_QUESTIONS_AT_ONCE;

use super::config_map::{self, FLEET_LABEL, PART_LABEL, Part, Place};
use super::folder::{FileError, Folder};
use super::kubernetes::{ConfigMaps, list};
use super::piece::{Piece, PieceName};
use crate::api_server::{ApiError, in_time};

/// What pulling did.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Pulled {
    /// Fleets that something is kept of.
    pub fleets: usize,
    /// Pieces that were fetched.
    pub fetched: usize,
    /// Pieces that were removed, because they are not kept any more.
    pub removed: usize,
    /// Objects that are nothing of ours, whatever their labels say, or damaged.
    pub passed_over: usize,
    /// Objects that had no owner.
    pub owned: usize,
}

/// Why the folder is not equal to what is kept.
#[derive(Debug, thiserror::Error)]
pub enum PullError {
    /// It could not be told what is kept.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// What is kept is another installation's.
    #[error(
        "ConfigMap {0} and others belong to an installation that was removed; waiting until Kubernetes has deleted them. If \
         they are a backup that you have restored, remove their ownerReferences"
    )]
    Past(String),
    /// The folder could not be read or written.
    #[error(transparent)]
    File(#[from] FileError),
}

/// What is kept, by its names.
#[derive(Debug, Default)]
struct Kept {
    fleets: BTreeMap<FleetName, BTreeSet<Place>>,
    passed_over: usize,
}

/// One fleet's folder, and how it differs.
struct Difference {
    fleet: FleetName,
    folder: Folder,
    lacks: Vec<Place>,
    extra: Vec<PieceName>,
}

impl ConfigMaps {
    /// Makes the folder `state` equal to what is kept.
    ///
    /// # Errors
    /// When it could not be done; done again it takes up where it ended.
    pub async fn pull(&self, state: &Path) -> Result<Pulled, PullError> {
        let api = self.api();
        let listed = in_time(list(&api, &Self::selector(None))).await?;
        if let Some(past) = listed.iter().find(|object| self.owner.is_past(object)) {
            return Err(PullError::Past(past.name.clone().unwrap_or_default()));
        }
        let kept = Kept::of(&listed);
        let mut pulled = Pulled {
            fleets: kept.fleets.len(),
            passed_over: kept.passed_over,
            ..Pulled::default()
        };
        let differences: Result<Vec<_>, _> = kept.fleets.iter().map(|kept| Difference::of(state, kept)).collect();
        let differences = differences?;
        for difference in &differences {
            let (fetched, passed_over) = difference.fetch(&api).await?;
            pulled.fetched += fetched;
            pulled.passed_over += passed_over;
        }
        for difference in differences {
            pulled.removed += difference.extra.len();
            let extra = difference.extra.iter();
            extra.rev().try_for_each(|name| difference.folder.remove(name))?; // manifests first
        }
        for fleet in super::fleets(state)
            .iter()
            .filter(|fleet| !kept.fleets.contains_key(fleet))
        {
            forget(state, fleet)?;
        }
        pulled.owned = self.own(listed.iter().filter(|object| whose(object).is_some())).await;
        Ok(pulled)
    }
}

impl Kept {
    fn of(objects: &[ObjectMeta]) -> Self {
        let mut kept = Self::default();
        for object in objects {
            match whose(object) {
                Some((fleet, place)) => kept.fleets.entry(fleet).or_default().extend(place),
                None => {
                    let name = object.name.as_deref().unwrap_or_default();
                    tracing::warn!(name, "has our labels and is nothing of ours; it is passed over");
                    kept.passed_over += 1;
                }
            }
        }
        kept
    }
}

/// Of which fleet an object is, and which piece, if it is one and not the record.
fn whose(object: &ObjectMeta) -> Option<(FleetName, Option<Place>)> {
    let labels = object.labels.as_ref()?;
    let fleet: FleetName = labels.get(FLEET_LABEL)?.parse().ok()?;
    let label = labels.get(PART_LABEL)?;
    let part = Part::ALL.into_iter().find(|part| part.as_str() == label)?;
    let name = object.name.as_deref()?;
    match part {
        Part::Record => (name == config_map::record_name(&fleet)).then_some((fleet, None)),
        Part::Manifest | Part::Section | Part::Origins => {
            let place = Place::of_name(&fleet, part, name)?;
            Some((fleet, Some(place)))
        }
    }
}

impl Difference {
    fn of(state: &Path, (fleet, kept): (&FleetName, &BTreeSet<Place>)) -> Result<Self, FileError> {
        let folder = Folder::open(&super::fleet_folder(state, fleet))?;
        let here = folder.pieces()?;
        let places: BTreeSet<Place> = here.iter().map(Place::from).collect();
        let mut lacks: Vec<Place> = kept.difference(&places).cloned().collect();
        // A manifest comes after what it refers to.
        lacks.sort_by_key(|place| std::cmp::Reverse(place.part));
        Ok(Self {
            fleet: fleet.clone(),
            folder,
            lacks,
            extra: here
                .into_iter()
                .filter(|name| !kept.contains(&Place::from(name)))
                .collect(),
        })
    }

    /// Fetches what lacks, in order; says how much that was, and how much there is nothing of ours.
    async fn fetch(&self, api: &Api<ConfigMap>) -> Result<(usize, usize), PullError> {
        let pieces = self.lacks.iter().map(|place| self.piece(api, place));
        let pieces = futures::stream::iter(pieces).buffered(API_QUESTIONS_AT_ONCE);
        let write = |(fetched, passed_over), piece: Option<Piece>| async move {
            match piece {
                Some(piece) => self.folder.write(&piece).map(|()| (fetched + 1, passed_over)),
                None => Ok((fetched, passed_over + 1)),
            }
            .map_err(PullError::from)
        };
        pieces.map_err(PullError::from).try_fold((0, 0), write).await
    }

    /// A piece; `None` if it is damaged, or gone since it was listed. Instances hand back what is needed of that.
    async fn piece(&self, api: &Api<ConfigMap>, place: &Place) -> Result<Option<Piece>, ApiError> {
        let name = place.name(&self.fleet);
        let Some(object) = in_time(api.get_opt(&name)).await? else {
            tracing::warn!(name, "is gone since it was listed");
            return Ok(None);
        };
        let piece = config_map::piece_in(&object, place);
        Ok(piece
            .inspect_err(|error| tracing::warn!(%error, "it is passed over"))
            .ok())
    }
}

/// Nothing is kept of `fleet`.
fn forget(state: &Path, fleet: &FleetName) -> Result<(), FileError> {
    let path = super::fleet_folder(state, fleet);
    fs::remove_dir_all(&path).map_err(|source| FileError { path, source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use sluice_model::Digest;

    fn object(name: &str, fleet: &str, part: &str) -> ObjectMeta {
        let labels = [(FLEET_LABEL, fleet), (PART_LABEL, part)];
        ObjectMeta {
            name: Some(name.to_owned()),
            labels: Some(labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into()),
            ..ObjectMeta::default()
        }
    }

    #[test]
    fn what_is_listed_is_told_by_labels_and_name() {
        let section = Place::from(&PieceName::Section(Digest([0xab; 32])));
        let edge: FleetName = "edge".parse().unwrap();
        let kept = Kept::of(&[
            object("sluice-record-edge", "edge", "record"),
            object(&section.name(&edge), "edge", "section"),
            object("sluice-record-new", "new", "record"),
            object("mine", "edge", "section"),
            object("sluice-record-edge", "other", "record"),
            object("sluice-keys", "edge", "keys"),
            ObjectMeta::default(),
        ]);
        let new = "new".parse().unwrap();
        assert_eq!(kept.passed_over, 4);
        assert_eq!(kept.fleets, [(edge, [section].into()), (new, BTreeSet::new())].into());
    }

    #[test]
    fn only_what_lacks_is_asked_for_and_what_it_refers_to_comes_first() {
        let state = tempfile::tempdir().unwrap();
        let fleet: FleetName = "edge".parse().unwrap();
        let folder = Folder::open(&super::super::fleet_folder(state.path(), &fleet)).unwrap();
        let section = |byte: u8| Piece::Section {
            digest: Digest([byte; 32]),
            wire: bytes::Bytes::new(),
        };
        folder.write(&section(1)).unwrap();
        folder.write(&section(2)).unwrap();
        let manifest = PieceName::Manifest("3-c01d9a3f".parse().unwrap());
        let places = [section(2).name(), section(3).name(), manifest].map(|name| Place::from(&name));
        let difference = Difference::of(state.path(), (&fleet, &places.clone().into())).unwrap();
        assert_eq!(difference.lacks, [places[1].clone(), places[2].clone()]);
        assert_eq!(difference.extra, [section(1).name()]);
    }
}
