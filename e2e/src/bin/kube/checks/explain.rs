//! `kubectl explain` has a text for every field that people may write or read.

use anyhow::ensure;
use serde_json::Value;

use crate::world::World;

/// Asks kubectl about each field of each kind.
pub(crate) async fn every_field(world: &World) -> anyhow::Result<()> {
    world.crds().await?;
    for crd in sluice_crds::generate::all()? {
        let plural = crd.file_name.trim_end_matches(".yaml");
        let mut fields = Vec::new();
        walk(crd.schema(), "", &mut fields);
        ensure!(fields.iter().any(|field| field == "spec"), "{plural} has no spec");
        for field in fields {
            explained(world, plural, &field).await?;
        }
    }
    Ok(())
}

/// Every field below `schema`, as `kubectl explain` names it: items of lists have no name of their own.
fn walk(schema: &Value, path: &str, fields: &mut Vec<String>) {
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        let path = if path.is_empty() {
            name.clone()
        } else {
            format!("{path}.{name}")
        };
        walk(property, &path, fields);
        fields.push(path);
    }
    if let Some(items) = schema.get("items") {
        walk(items, path, fields);
    }
}

/// `DESCRIPTION:` and below it, indented, the text; `<empty>` stands there when there is none.
async fn explained(world: &World, plural: &str, field: &str) -> anyhow::Result<()> {
    // `pools.sluice.dev.spec`: the full name, in case another group has the short one.
    let said = world.kubectl(&["explain", &format!("{plural}.{field}")]).await?;
    let text = said.split_once("DESCRIPTION:\n").map(|(_, below)| below);
    let first = text.and_then(|text| text.lines().next()).unwrap_or_default().trim();
    ensure!(
        !first.is_empty() && first != "<empty>",
        "{plural} {field} is not explained: {said}"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn fields_of_items_stand_below_their_list() {
        let schema = json!({"properties": {"spec": {"properties": {"a": {"items": {"properties": {"b": {}}}}}}}});
        let mut fields = Vec::new();
        walk(&schema, "", &mut fields);
        assert_eq!(fields, ["spec.a.b", "spec.a", "spec"]);
    }
}
