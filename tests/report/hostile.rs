//! Whatever text a stranger's run has in all its fields, it is only text in all that is made of it.

use std::sync::LazyLock;

use bootrace::{
    analysis::analyse,
    report::{
        self,
        export::{Files, Format, export},
    },
    sample::Results,
};
use proptest::{collection::vec, prelude::*, sample::select};
use serde_json::Value;

use crate::files::{all_files, written};

/// What is active in HTML, SVG, Markdown, XML, CSV, Prometheus' format or a terminal.
const ACTIVE: [&str; 16] = [
    "<script>",
    "</svg>",
    "<!--",
    "]]>",
    "&lt;",
    "\"",
    "'",
    "`",
    "|",
    "](javascript:x)",
    "\u{1b}[2J",
    "\u{202e}",
    "\r\n",
    "=1+1",
    "@a",
    ",",
];

static RECORDED: LazyLock<Value> =
    LazyLock::new(|| serde_json::from_str(include_str!("recorded-run.json")).unwrap());

/// Where the recorded run may have any text, as JSON pointers.
static TEXTS: LazyLock<Vec<String>> = LazyLock::new(|| {
    let mut found = Vec::new();
    find(&RECORDED, String::new(), &mut found);
    let mut run = RECORDED.clone();
    found.retain(|at| {
        let before = run.pointer_mut(at).unwrap().take();
        *run.pointer_mut(at).unwrap() = "any text".into();
        let taken = serde_json::from_value::<Results>(run.clone()).is_ok();
        *run.pointer_mut(at).unwrap() = before;
        taken
    });
    assert!(found.len() > 100, "{found:?}");
    found
});

fn find(value: &Value, at: String, found: &mut Vec<String>) {
    match value {
        Value::String(_) => found.push(at),
        Value::Array(list) => {
            list.iter().enumerate().for_each(|(n, value)| find(value, format!("{at}/{n}"), found))
        }
        Value::Object(fields) => {
            let key = |key: &str| key.replace('~', "~0").replace('/', "~1");
            fields.iter().for_each(|(name, value)| find(value, format!("{at}/{}", key(name)), found));
        }
        _ => {}
    }
}

/// The recorded run with this text before each of its texts: equal ones stay equal.
fn run_of(text: &str) -> Results {
    let mut run = RECORDED.clone();
    for at in TEXTS.iter() {
        let value = run.pointer_mut(at).unwrap();
        *value = format!("{text}{}", value.as_str().unwrap()).into();
    }
    serde_json::from_value(run).unwrap()
}

fn is_xml(text: &str) -> bool {
    let mut reader = quick_xml::Reader::from_str(text);
    loop {
        match reader.read_event() {
            Ok(quick_xml::events::Event::Eof) => return true,
            Ok(_) => {}
            Err(_) => return false,
        }
    }
}

fn starts_a_formula(cell: &str) -> bool {
    cell.parse::<f64>().is_err() && cell.starts_with(['=', '+', '-', '@', '\t', '\r'])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn no_text_is_active_in_a_report_or_an_export(parts in vec(select(ACTIVE.to_vec()), 1..5)) {
        let results = run_of(&parts.concat());
        let mut made = all_files(&written("hostile-any", &results));
        made.retain(|(name, _)| name != "results.json");
        made.push(("table".into(), report::table(&results, &analyse(&results), true)));
        for format in Format::all() {
            let text = |bytes| String::from_utf8(bytes).unwrap();
            match export(&results, format).files {
                Files::One(bytes) => made.push((format.name().into(), text(bytes))),
                Files::Several(files) => {
                    made.extend(files.into_iter().map(|(path, bytes)| (path.display().to_string(), text(bytes))));
                }
            }
        }
        for (name, text) in made {
            prop_assert!(!text.contains("\u{1b}[2J") && !text.contains('\u{202e}'), "{name}");
            if [".html", ".svg", ".md", "junit"].iter().any(|end| name.ends_with(end)) {
                prop_assert!(!text.contains("<script>") && !text.contains("<!--"), "{name}");
            }
            if name.ends_with(".svg") || name == "junit" {
                prop_assert!(is_xml(&text), "{name}");
            }
            if name.ends_with(".json") {
                prop_assert!(serde_json::from_str::<Value>(&text).is_ok(), "{name}");
            }
            if name == "csv" {
                for row in csv::Reader::from_reader(text.as_bytes()).records() {
                    let row = row.unwrap();
                    prop_assert!(!row.iter().any(starts_a_formula), "{row:?}");
                }
            }
        }
    }
}
