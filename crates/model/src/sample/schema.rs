//! The published schema is generated from the types: `BOOTRACE_GENERATE=1 cargo test -p bootrace-model` writes it.

use schemars::generate::SchemaSettings;
use serde_json::{Value, json};

use super::{Results, SCHEMA};
use crate::generated;

fn schema() -> Value {
    let settings = SchemaSettings::draft2020_12().for_serialize();
    let mut schema = settings.into_generator().into_root_schema_for::<Results>().to_value();
    schema["$id"] = json!(format!("urn:{}", SCHEMA.replace(['.', '/'], ":")));
    schema["title"] = json!("bootrace results, version 2");
    schema["description"] = json!(
        "What a run of bootrace leaves behind in results.json. All times are nanoseconds, all sizes bytes. A value that a \
         target can't give is null, never 0. Fields may be added within this version: readers must ignore what they don't know."
    );
    schema["properties"]["schema"] = json!({ "const": SCHEMA });
    // An `ok` sample has no error: a rule that no type expresses.
    schema["$defs"]["Sample"]["if"] = json!({ "properties": { "outcome": { "const": "ok" } } });
    schema["$defs"]["Sample"]["then"] = json!({ "properties": { "error": { "const": null } } });
    schema
}

#[test]
fn the_published_schema_is_that_of_the_types() {
    generated::holds("reports/results.schema.json", &format!("{:#}\n", schema()));
}
