//! The JSON Schema (2020-12) of jobs.yaml, for editors.

use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Map, Value, json};

use super::policies::Policies;
use super::sections::TopKeys;
use crate::jobs::{KINDS, Kind};

/// The schema of the whole file, with every kind in [`KINDS`].
pub fn schema() -> Value {
    schema_with(KINDS)
}

pub(super) fn schema_with(kinds: &[Kind]) -> Value {
    let mut generator = SchemaGenerator::default();
    let mut job = object_of::<Policies>(&mut generator);
    let mut choices = Vec::new();
    for kind in kinds {
        let mut options = (kind.schema)(&mut generator).to_value();
        if let Some(options) = options.as_object_mut() {
            options.insert("description".into(), kind.summary.into());
        }
        job["properties"][kind.name] = options;
        choices.push(json!({ "required": [kind.name] }));
    }
    job["description"] = "A job: one kind with its options, and its policies".into();
    job["oneOf"] = Value::Array(choices);

    let mut file = object_of::<TopKeys>(&mut generator);
    file["properties"]["jobs"] = json!({
        "type": "object",
        "description": "The jobs, by name",
        "minProperties": 1,
        "propertyNames": { "pattern": "^[a-z0-9][a-z0-9_-]{0,62}$" },
        "additionalProperties": { "$ref": "#/$defs/Job" },
    });
    file["required"] = json!(["jobs"]);

    let mut definitions: Map<String, Value> = generator.take_definitions(true);
    definitions.insert("Job".into(), job);
    let mut whole = Map::new();
    whole.insert("$schema".into(), "https://json-schema.org/draft/2020-12/schema".into());
    whole.insert("title".into(), "jobs.yaml of punk-eco-sched".into());
    if let Value::Object(file) = file {
        whole.extend(file.into_iter().filter(|(key, _)| key != "title"));
    }
    whole.insert("$defs".into(), definitions.into());
    let mut whole = Value::Object(whole);
    drop_defaults(&mut whole);
    whole
}

/// The keys of a struct, in the order in which they are declared.
pub(super) fn properties_of<T: JsonSchema>() -> Vec<String> {
    let schema = object_of::<T>(&mut SchemaGenerator::default());
    schema["properties"].as_object().into_iter().flat_map(Map::keys).cloned().collect()
}

fn object_of<T: JsonSchema>(generator: &mut SchemaGenerator) -> Value {
    T::json_schema(generator).to_value()
}

/// `"default": null` beside a key that may be absent says nothing to an editor but noise.
fn drop_defaults(value: &mut Value) {
    match value {
        Value::Object(object) => {
            if object.get("default").is_some_and(|default| default.is_null() || default.is_object()) {
                object.shift_remove("default");
            }
            object.values_mut().for_each(drop_defaults);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_defaults),
        _ => {}
    }
}
