//! What a rule does to requests and responses besides choosing a pool.

use std::collections::BTreeMap;
use std::sync::Arc;

use sluice_crds::{ChangedName, HeaderChanges as ChangesSpec, HeaderField};
use sluice_model::header_changes::{Field, FieldName, FieldValue, HeaderChangeError, HeaderChanges};

use super::Findings;
use crate::problem::FieldPath;

/// The changes that are asked for; none if there is nothing.
pub(super) fn header_changes(
    field: &FieldPath,
    spec: Option<&ChangesSpec>,
    findings: &mut Findings<'_>,
) -> Arc<HeaderChanges> {
    let Some(ChangesSpec { set, add, remove }) = spec else {
        return Arc::default();
    };
    let mut seen = BTreeMap::new();
    let changes = HeaderChanges {
        set: fields(&field.field("set"), set, &mut seen, findings),
        add: fields(&field.field("add"), add, &mut seen, findings),
        remove: names(&field.field("remove"), remove, &mut seen, findings),
    };
    Arc::new(changes)
}

/// Where each name stands, with `-` for `_`.
type Seen = BTreeMap<String, FieldPath>;

fn fields(field: &FieldPath, specs: &[HeaderField], seen: &mut Seen, findings: &mut Findings<'_>) -> Vec<Field> {
    let mut fields = Vec::with_capacity(specs.len());
    for (index, HeaderField { name, value }) in specs.iter().enumerate() {
        let field = field.index(index);
        let name = name_of(&field.field("name"), name, seen, findings);
        let value = FieldValue::new(value);
        let value = findings.ok(
            &field.field("value"),
            value,
            "write one line of printable ASCII characters",
        );
        fields.extend(name.zip(value).map(|(name, value)| Field { name, value }));
    }
    fields
}

fn names(field: &FieldPath, specs: &[ChangedName], seen: &mut Seen, findings: &mut Findings<'_>) -> Vec<FieldName> {
    let numbered = specs.iter().enumerate();
    numbered
        .filter_map(|(index, name)| name_of(&field.index(index), name, seen, findings))
        .collect()
}

fn name_of(field: &FieldPath, spec: &ChangedName, seen: &mut Seen, findings: &mut Findings<'_>) -> Option<FieldName> {
    let name = FieldName::new(&spec.0);
    let fix = match &name {
        Err(HeaderChangeError::Owned(_)) => "leave it out",
        Ok(_) | Err(HeaderChangeError::Name(_) | HeaderChangeError::Value) => "use a name such as x-api-version",
    };
    let name = findings.ok(field, name, fix)?;
    // Neither the three lists nor the spellings of one name meet in the schema's uniqueness.
    match seen.get(&name.to_string().replace('_', "-")) {
        Some(first) => findings.error(
            field,
            format!("{name} is changed twice: also by {first}"),
            "remove one of the two; upper and lower case, '-' and '_' are the same header",
        ),
        None => drop(seen.insert(name.to_string().replace('_', "-"), field.clone())),
    }
    Some(name)
}
