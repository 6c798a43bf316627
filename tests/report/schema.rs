//! What is written keeps to the published schema.

use std::path::Path;

use bootrace::{
    report,
    sample::{Ab, Kvm, KvmDegree, Setting, Side},
};
use serde_json::Value;

use crate::{
    example,
    files::{read, written},
};

fn schema() -> jsonschema::Validator {
    let schema: Value = serde_json::from_str(include_str!("../../reports/results.schema.json")).unwrap();
    jsonschema::meta::validate(&schema).expect("the schema is itself valid");
    jsonschema::validator_for(&schema).unwrap()
}

pub fn complaints(json: &Value) -> Vec<String> {
    schema().iter_errors(json).map(|e| format!("{}: {e}", e.instance_path())).collect()
}

#[test]
fn written_results_keep_to_the_published_schema_and_read_back_the_same() {
    for (name, results) in [("schema", example::results()), ("schema-clean", example::clean())] {
        let dir = written(name, &results);
        let json: Value = serde_json::from_str(&read(dir.join("results.json"))).unwrap();
        assert_eq!(complaints(&json), [] as [String; 0]);
        assert_eq!(report::load(&dir).unwrap(), results);
    }
}

#[test]
fn recorded_results_keep_to_the_published_schema() {
    for path in ["tests/report/recorded-run.json", "reports/sample/results.json"] {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
        let json: Value = serde_json::from_str(&read(file)).unwrap();
        assert_eq!(complaints(&json), [] as [String; 0], "{path}");
    }
}

#[test]
fn a_side_of_an_ab_says_so_and_any_other_run_says_nothing_of_it() {
    let mut results = example::clean();
    let json = serde_json::to_value(&results).unwrap();
    assert!(json["run"].get("ab").is_none());
    results.run.ab = Some(Ab { id: "ab-20260102T030405Z-7".into(), side: Side::New });
    let dir = written("schema-ab", &results);
    let json: Value = serde_json::from_str(&read(dir.join("results.json"))).unwrap();
    assert_eq!(complaints(&json), [] as [String; 0]);
    assert_eq!(json["run"]["ab"], serde_json::json!({ "id": "ab-20260102T030405Z-7", "side": "new" }));
    assert_eq!(report::load(&dir).unwrap(), results);
    let page = read(dir.join("index.html"));
    assert!(
        page.contains("This is the new side of the interleaved A/B <code>ab-20260102T030405Z-7</code>"),
        "{page}"
    );
}

#[test]
fn the_schema_is_strict_on_existing_fields_and_open_to_new_ones() {
    let good = serde_json::to_value(example::results()).unwrap();
    type Change = fn(&mut Value);
    let wrong: [(Change, &str); 13] = [
        (|v| v["schema"] = "bootrace.results/3".into(), "schema"),
        (|v| v["run"]["seed"] = (-1).into(), "seed"),
        (|v| v["run"]["started_at"] = "yesterday".into(), "started_at"),
        (|v| v["run"]["ab"] = serde_json::json!({ "id": "ab-1", "side": "old" }), "side"),
        (|v| v["host"]["cgroup_version"] = 3.into(), "cgroup_version"),
        (|v| v["image"]["digest"] = "A0".into(), "digest"),
        (|v| v["targets"][0]["accelerator"] = "hvf".into(), "accelerator"),
        (|v| v["samples"][0]["outcome"] = "fine".into(), "outcome"),
        (|v| v["samples"][0]["memory_bytes"]["footprint"] = 1.5.into(), "footprint"),
        (|v| v["samples"][0]["interference"]["others_cpu_ns"] = (-1).into(), "interference"),
        (|v| v["host"]["mitigations"] = "off".into(), "mitigations"),
        (|v| v["samples"][0]["error"] = "but it is ok".into(), "error"),
        (|v| drop(v["samples"][0]["cpu_ns"].as_object_mut().unwrap().remove("idle")), "idle"),
    ];
    for (change, what) in wrong {
        let mut json = good.clone();
        change(&mut json);
        assert!(complaints(&json).iter().any(|c| c.contains(what)), "{what}: {:?}", complaints(&json));
    }
    let mut more = good;
    more["extra"] = 1.into();
    more["host"]["cgroup_version"] = 0.into();
    more["samples"][0]["cpu_ns"]["extra"] = 1.into();
    assert_eq!(complaints(&more), [] as [String; 0]);
}

/// Paths of keys in `value` that `schema` does not list.
pub fn unlisted(value: &Value, schema: &Value, path: &str, found: &mut Vec<String>) {
    let whole: Value = serde_json::from_str(include_str!("../../reports/results.schema.json")).unwrap();
    // Whatever a scenario and a target's options have in them.
    if ["/run/scenario", "/targets/options"].contains(&path) {
        return;
    }
    if let Some(name) = schema["$ref"].as_str() {
        return unlisted(value, whole.pointer(name.trim_start_matches('#')).unwrap(), path, found);
    }
    if let Some(either) = schema["anyOf"].as_array() {
        let schema = either.iter().find(|one| one["type"] != "null").unwrap();
        return if value.is_null() {
            found.push(format!("{path} is null"))
        } else {
            unlisted(value, schema, path, found)
        };
    }
    match value {
        Value::Array(items) => items.iter().for_each(|item| unlisted(item, &schema["items"], path, found)),
        Value::Object(fields) => {
            for (key, value) in fields {
                let path = format!("{path}/{key}");
                // A map has one schema for whatever it holds.
                match schema["properties"].get(key).or(schema.get("additionalProperties")) {
                    Some(schema) => unlisted(value, schema, &path, found),
                    None => found.push(path),
                }
            }
        }
        _ => {}
    }
}

/// Paths of keys in results that the schema does not list.
pub fn unlisted_in(json: &Value) -> Vec<String> {
    let schema: Value = serde_json::from_str(include_str!("../../reports/results.schema.json")).unwrap();
    let mut found = Vec::new();
    unlisted(json, &schema, "", &mut found);
    found
}

#[test]
fn every_field_of_the_results_is_in_the_schema() {
    let mut results = example::results();
    let (name, found, set) = ("ksm".into(), Some("1".into()), Some("0".into()));
    results.host.tuned = Some(vec![Setting { name, found, set, why_not: None }]);
    results.targets[2].kvm =
        Some(Kvm { degree: KvmDegree::Nested, loop_ratio: Some(0.98), exit_ns: Some(21_000) });
    results.samples.retain(|s| s.identity.is_some());
    let schema: Value = serde_json::from_str(include_str!("../../reports/results.schema.json")).unwrap();
    let of = |json: &Value| {
        let mut found = Vec::new();
        unlisted(json, &schema, "", &mut found);
        found
    };
    let mut json = serde_json::to_value(&results).unwrap();
    assert_eq!(of(&json), [] as [String; 0]);
    json["samples"][3]["interference"]["more"] = 1.into();
    json["host"]["tuned"][0]["more"] = 1.into();
    assert_eq!(of(&json), ["/host/tuned/more", "/samples/interference/more"]);
}
