//! The reference of scenarios is generated from their types: `BOOTRACE_GENERATE=1 cargo test -p bootrace-model` writes it.

use std::{borrow::Cow, fmt::Write};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::Value;

use super::{Bound, Bytes, Capabilities, CpuChoice, Scenario, Share, Span};
use crate::{generated, kind::Kind};

/// What is written as a string of its own form.
macro_rules! written {
    ($($type:ty: $form:expr),* $(,)?) => {
        $(impl JsonSchema for $type {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> Cow<'static, str> {
                stringify!($type).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": $form })
            }
        })*
    };
}

written! {
    Bytes: "size",
    Share: "share",
    Span: "time",
    Bound: "time, size, share or number of times",
    Capabilities: "list of names of capabilities(7) without `CAP_`, as in `[\"CHOWN\"]`",
    CpuChoice: "whole number, or CPUs as in `\"2-3\"`",
}

/// What a value is, in words.
fn form(schema: &Value, whole: &Value) -> String {
    if let Some(name) = schema["$ref"].as_str() {
        return form(whole.pointer(name.trim_start_matches('#')).unwrap(), whole);
    }
    if let Some(either) = schema["anyOf"].as_array() {
        let one = either.iter().find(|one| one["type"] != "null").unwrap();
        return form(one, whole);
    }
    let names: Vec<String> = match (&schema["enum"], &schema["oneOf"]) {
        (Value::Array(values), _) => values.iter().map(|v| format!("`{v}`")).collect(),
        (_, Value::Array(each)) => each.iter().flat_map(variant).collect(),
        _ => Vec::new(),
    };
    if !names.is_empty() {
        return names.join(", ");
    }
    let kind = match &schema["type"] {
        Value::Array(kinds) => kinds.iter().find(|kind| *kind != "null").unwrap().as_str().unwrap(),
        kind => kind.as_str().unwrap_or("value"),
    };
    match kind {
        "array" => format!("list of {}s", form(&schema["items"], whole)),
        "object" => match schema["properties"].as_object().and_then(|keys| keys.keys().next()) {
            Some(key) => format!("`{{ {key} = [...] }}`"),
            None => "table".into(),
        },
        "integer" => "whole number".into(),
        other => other.into(),
    }
}

/// The values or the one key of a variant.
fn variant(one: &Value) -> Vec<String> {
    let key = one["properties"].as_object().and_then(|keys| keys.keys().next());
    let value = one.get("const").map(|value| format!("`{value}`"));
    let listed = one["enum"].as_array().into_iter().flatten().map(|value| format!("`{value}`"));
    value.into_iter().chain(key.map(|key| format!("`{{ {key} = ... }}`"))).chain(listed).collect()
}

/// A section for a table of the file, and the ones within it.
fn table(out: &mut String, path: &str, schema: &Value, whole: &Value) {
    let schema = match schema["$ref"].as_str() {
        Some(name) => whole.pointer(name.trim_start_matches('#')).unwrap(),
        None => schema,
    };
    let about = schema["description"].as_str().unwrap_or_default();
    let title = if path.is_empty() { "The file".into() } else { format!("`{path}`") };
    let _ = writeln!(out, "\n## {title}\n\n{}\n\n| key | value | what it is |\n|---|---|---|", plain(about));
    let mut below = Vec::new();
    for (key, value) in schema["properties"].as_object().unwrap() {
        let inner = inner_table(value, whole);
        let form = match (&inner, value["type"].as_str()) {
            (Some(_), Some("array")) => format!("tables `[[{key}]]`"),
            (Some(_), _) => format!("table `[{key}]`"),
            (None, _) => form(value, whole),
        };
        let required =
            schema["required"].as_array().is_some_and(|names| names.iter().any(|name| name == key));
        let required = if required { " **Required.**" } else { "" };
        let default = match &value["default"] {
            Value::Null | Value::Object(_) | Value::Array(_) => String::new(),
            Value::String(empty) if empty.is_empty() => String::new(),
            default => format!(" Default: `{default}`."),
        };
        let mut about = plain(value["description"].as_str().unwrap_or_default());
        if let Some(kinds) = kinds_of(path, key) {
            about = format!("{kinds}: {about}");
        }
        let _ = writeln!(out, "| `{key}` | {form} | {about}{default}{required} |");
        below.extend(inner.map(|inner| (key, value["type"] == "array", inner)));
    }
    for (key, many, inner) in below {
        table(out, &if many { format!("[[{key}]]") } else { format!("[{key}]") }, inner, whole);
    }
}

/// The table that a key has, or has several of; `None` for a value, and for what is written in one line.
fn inner_table<'a>(value: &'a Value, whole: &'a Value) -> Option<&'a Value> {
    let value = value["anyOf"].as_array().and_then(|either| either.first()).unwrap_or(value);
    let value = if value["type"] == "array" { &value["items"] } else { value };
    let schema = whole.pointer(value["$ref"].as_str()?.trim_start_matches('#'))?;
    let in_one_line =
        schema["properties"].as_object().is_none_or(|keys| keys.len() == 1 && keys.contains_key("command"));
    (!in_one_line).then_some(schema)
}

/// The kinds that an option of a target is for; `None` for what every kind has.
fn kinds_of(path: &str, key: &str) -> Option<String> {
    let kinds: Vec<&str> = Kind::with_option(key).map(Kind::name).collect();
    (path == "[[target]]" && !kinds.is_empty()).then(|| kinds.join(", "))
}

/// A doc comment on one line, without links to code.
fn plain(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|")
}

#[test]
fn the_reference_of_scenarios_is_that_of_the_types() {
    let whole = schemars::schema_for!(Scenario).to_value();
    let mut page = String::from(
        "# Scenario\n\nGenerated from the program's types. A scenario is a TOML file; unknown keys are errors. A size is a string as \
         in `\"512MiB\"`, a time in whole ms, s or m as in `\"2s\"`,\na share as in `\"0.5%\"`, a number of times as in `\"1.5x\"`. `bootrace check FILE` validates a file.\n",
    );
    table(&mut page, "", &whole, &whole);
    generated::holds("docs/scenario.md", &page);
}
