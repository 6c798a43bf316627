//! A valid results.json with changed values: all that is made of it.
#![no_main]

use std::sync::LazyLock;

use bootrace_fuzz::{Bytes, output};
use bootrace_model::sample::Results;
use bootrace_report::export::{Files, Format, export, write_files};
use serde_json::{Value, json};

static BASES: LazyLock<[Value; 2]> = LazyLock::new(|| {
    [include_str!("../bases/results.json"), include_str!("../bases/density.json")]
        .map(|text| serde_json::from_str(text).expect("the base is JSON"))
});

/// Walks down from a value by the input's bytes, and changes what is there.
fn change(value: &mut Value, bytes: &mut Bytes<'_>) {
    match value {
        Value::Array(list) if !list.is_empty() => match bytes.byte() {
            0 => list.clear(),
            1 => list.truncate(list.len() / 2),
            2 => list.push(list[0].clone()),
            n => {
                let at = usize::from(n) % list.len();
                change(&mut list[at], bytes);
            }
        },
        Value::Object(fields) if !fields.is_empty() => {
            let at = usize::from(bytes.byte()) % fields.len();
            if let Some((_, field)) = fields.iter_mut().nth(at) {
                change(field, bytes);
            }
        }
        leaf => {
            *leaf = match bytes.byte() % 8 {
                0 => Value::Null,
                1 => json!(bytes.byte() % 2 == 0),
                2 | 3 => json!(bytes.number()),
                4 => json!(-(bytes.number() as i64).wrapping_abs()),
                5 => json!(f64::from_bits(bytes.number())),
                _ => json!(bytes.text()),
            }
        }
    }
}

bootrace_fuzz::target!(|data| {
    let mut bytes = Bytes(data);
    let mut value = BASES[usize::from(bytes.byte() % 2)].clone();
    while !bytes.0.is_empty() {
        let before = value.clone();
        change(&mut value, &mut bytes);
        // A change that no run can have leaves the others.
        if serde_json::from_value::<Results>(value.clone()).is_err() {
            value = before;
        }
    }
    if let Ok(results) = serde_json::from_value::<Results>(value) {
        let dir = output();
        let analysis = bootrace_analysis::analyse(&results);
        bootrace_report::table(&results, &analysis, true);
        bootrace_report::render(&results, &dir).expect("every run can be drawn");
        for format in Format::all() {
            if let Files::Several(files) = export(&results, format).files {
                write_files(&dir, &files).expect("no name leads out of the directory");
            }
        }
        let _ = std::fs::remove_dir_all(&dir);
    }
});
