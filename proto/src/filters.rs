//! Conversions of what a rule does to requests and responses besides choosing a pool.

use std::sync::Arc;

use sluice_model::header_changes::{Field, FieldName, HeaderChanges};

use crate::canonical::{DecodeError, each, wrong};
use crate::pb;

/// `None` when nothing changes: then nothing travels.
pub(crate) fn header_changes_to(changes: &HeaderChanges) -> Option<pb::HeaderChanges> {
    let HeaderChanges { set, add, remove } = changes;
    let field = |Field { name, value }: &Field| pb::HeaderField {
        name: name.to_string(),
        value: value.as_str().to_owned(),
    };
    (!changes.is_empty()).then(|| pb::HeaderChanges {
        set: set.iter().map(field).collect(),
        add: add.iter().map(field).collect(),
        remove: remove.iter().map(ToString::to_string).collect(),
    })
}

/// The changes in `field`; none when it is absent.
pub(crate) fn header_changes_in(
    field: &str,
    changes: Option<pb::HeaderChanges>,
) -> Result<Arc<HeaderChanges>, DecodeError> {
    let changes = changes.map(header_changes_from).transpose();
    let changes = changes.map_err(|error| error.within(field))?;
    Ok(Arc::new(changes.unwrap_or_default()))
}

fn header_changes_from(changes: pb::HeaderChanges) -> Result<HeaderChanges, DecodeError> {
    let pb::HeaderChanges { set, add, remove } = changes;
    let field = |pb::HeaderField { name, value }| Field::new(&name, &value).map_err(|error| wrong("field", error));
    Ok(HeaderChanges {
        set: each("set", set, field)?,
        add: each("add", add, field)?,
        remove: each("remove", remove, |name| {
            FieldName::new(&name).map_err(|error| wrong("name", error))
        })?,
    })
}
