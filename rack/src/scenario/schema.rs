//! The JSON Schema of a scenario for editors: the keys of this crate and the configuration of every gear of a catalog.

use fluxrig_actors::Catalog;
use schemars::schema_for;
use serde_json::{Map, Value, json};

use super::Scenario;

/// The schema, with each gear's `config` chosen by its `type`.
#[must_use]
pub fn scenario_schema(catalog: &Catalog) -> Value {
    let mut schema = schema_for!(Scenario).to_value();
    let mut defs = Map::new();
    let (mut types, mut choices) = (Vec::new(), Vec::new());
    for manifest in catalog.manifests() {
        let name = manifest.type_name;
        let mut config = manifest.schema.clone().to_value();
        move_defs(&mut config, name, &mut defs);
        if let Some(config) = config.as_object_mut() {
            config.remove("$schema");
        }
        let key = format!("config.{name}");
        types.push(json!({ "const": name, "description": manifest.doc() }));
        choices.push(json!({
            "if": { "properties": { "type": { "const": name } }, "required": ["type"] },
            "then": { "properties": { "config": { "$ref": format!("#/$defs/{key}") } } },
        }));
        defs.insert(key, config);
    }
    if let Some(all) = schema.get_mut("$defs").and_then(Value::as_object_mut) {
        if let Some(gear) = all.get_mut("GearEntry") {
            gear["properties"]["type"]["oneOf"] = types.into();
            gear["allOf"] = choices.into();
            gear["properties"]["config"] = json!({ "description": gear["properties"]["config"]["description"] });
        }
        all.append(&mut defs);
    }
    schema
}

/// Two gears may each have a definition of one name, so each gets its gear's name before it.
fn move_defs(schema: &mut Value, gear: &str, defs: &mut Map<String, Value>) {
    let own = schema.as_object_mut().and_then(|schema| schema.remove("$defs"));
    rename(schema, gear);
    if let Some(Value::Object(own)) = own {
        for (name, mut definition) in own {
            rename(&mut definition, gear);
            defs.insert(format!("{gear}.{name}"), definition);
        }
    }
}

fn rename(schema: &mut Value, gear: &str) {
    match schema {
        Value::Object(map) => {
            for (key, value) in map {
                match value {
                    Value::String(path) if key == "$ref" => {
                        *path = path.replace("#/$defs/", &format!("#/$defs/{gear}."))
                    }
                    other => rename(other, gear),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| rename(item, gear)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reference_leads_somewhere() {
        let schema = scenario_schema(&fluxrig_gears::standard());
        let mut left = vec![&schema];
        let mut count = 0;
        while let Some(value) = left.pop() {
            match value {
                Value::Object(map) => {
                    if let Some(path) = map.get("$ref").and_then(Value::as_str) {
                        let path = path.strip_prefix('#').expect("a reference inside the schema");
                        assert!(schema.pointer(path).is_some(), "{path}");
                        count += 1;
                    }
                    left.extend(map.values());
                }
                Value::Array(items) => left.extend(items),
                _ => {}
            }
        }
        assert!(count > 10, "{count}");
    }

    #[test]
    fn every_gear_has_its_config() {
        let catalog = fluxrig_gears::standard();
        let schema = scenario_schema(&catalog);
        for manifest in catalog.manifests() {
            let config = &schema["$defs"][format!("config.{}", manifest.type_name)];
            assert_eq!(config["additionalProperties"], false, "{}", manifest.type_name);
        }
    }
}
