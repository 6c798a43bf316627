//! A valid results.json with changed values: what is made of it, and that a stranger's text is only text there.
#![no_main]

use std::{fs, path::PathBuf, sync::LazyLock};

use bootrace_fuzz::{Bytes, output};
use bootrace_model::sample::Results;
use bootrace_report::export::{Files, Format, export, write_files};
use serde_json::{Value, json};

static BASE: LazyLock<Value> =
    LazyLock::new(|| serde_json::from_str(include_str!("../base.json")).expect("the base is JSON"));
static FORMATS: LazyLock<Vec<Format>> = LazyLock::new(|| Format::all().collect());

/// Each text that the input brings ends with this: markup, and a terminal's escape.
const ACTIVE: &str = "<script>\u{1b}[2J";

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
                6 => json!(bytes.text()),
                _ => json!(bytes.text() + ACTIVE),
            }
        }
    }
}

/// One of the outputs, as text by file name.
fn made(results: &Results, which: u8) -> Vec<(PathBuf, String)> {
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("every output is text");
    let dir = output();
    match usize::from(which) % (FORMATS.len() + 4) {
        0..=2 => {
            bootrace_report::render(results, &dir).expect("every run can be drawn");
            let entries =
                [dir.clone(), dir.join("charts")].into_iter().flat_map(fs::read_dir).flatten().flatten();
            let files = entries.map(|entry| entry.path()).filter(|path| path.is_file());
            files.map(|path| (path.clone(), text(fs::read(path).expect("it was written")))).collect()
        }
        3 => {
            let analysis = bootrace_analysis::analyse(results);
            vec![("table".into(), bootrace_report::table(results, &analysis, true))]
        }
        n => match export(results, FORMATS[n - 4]).files {
            Files::One(bytes) => vec![(FORMATS[n - 4].name().into(), text(bytes))],
            Files::Several(files) => {
                write_files(&dir, &files).expect("no name leads out of the directory");
                files.into_iter().map(|(path, bytes)| (path, text(bytes))).collect()
            }
        },
    }
}

fn check(name: &str, text: &str) {
    assert!(!text.contains("\u{1b}[2J"), "{name} has a terminal's escape");
    if [".html", ".svg", ".md", "junit"].iter().any(|end| name.ends_with(end)) {
        assert!(!text.contains("<script>"), "{name} has markup");
    }
    if name == "csv" {
        let cells = csv::Reader::from_reader(text.as_bytes()).into_records().flat_map(|row| {
            let row = row.expect("a reader can read it");
            row.iter().map(str::to_owned).collect::<Vec<_>>()
        });
        for cell in cells.filter(|cell| cell.parse::<f64>().is_err()) {
            assert!(!cell.starts_with(['=', '+', '-', '@', '\t', '\r']), "{cell:?} is a formula");
        }
    }
}

bootrace_fuzz::target!(|data| {
    let mut bytes = Bytes(data);
    let which = bytes.byte();
    let mut value = BASE.clone();
    while !bytes.0.is_empty() {
        let before = value.clone();
        change(&mut value, &mut bytes);
        // A change that no run can have leaves the others.
        if serde_json::from_value::<Results>(value.clone()).is_err() {
            value = before;
        }
    }
    if let Ok(results) = serde_json::from_value::<Results>(value) {
        for (path, text) in made(&results, which) {
            check(&path.to_string_lossy(), &text);
        }
        let _ = fs::remove_dir_all(output());
    }
});
