//! Every sample as a row.

use std::{collections::BTreeMap, fs, path::Path};

use bootrace::{
    analysis::{Metric, analyse},
    report::export::Format,
    sample::{Outcome, Results},
};

use crate::{example, hostile, one, real};

type Table = Vec<BTreeMap<String, String>>;

fn table(results: &Results) -> Table {
    let text = one(results, Format::Csv);
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    reader.deserialize().map(Result::unwrap).collect()
}

#[test]
fn every_sample_is_a_row_in_the_order_taken_warmups_and_failed_ones_too() {
    let results = example::results();
    let rows = table(&results);
    assert_eq!(rows.len(), results.samples.len());
    for (row, sample) in rows.iter().zip(&results.samples) {
        assert_eq!(row["target"], sample.target);
        assert_eq!(row["round"], sample.round.to_string());
        assert_eq!(row["warmup"], (sample.round == 0).to_string());
        assert_eq!(row["counted"], (!sample.warmup && sample.outcome == Outcome::Ok).to_string());
        assert_eq!(row["startup_ns"], sample.timeline_ns.ready.map_or(String::new(), |ns| ns.to_string()));
        let daemons = sample.memory_bytes.daemons.map_or(String::new(), |b| b.to_string());
        assert_eq!(row["memory_daemons_bytes"], daemons);
    }
    let failed: Vec<_> = rows.iter().filter(|r| r["outcome"] != "ok").collect();
    assert_eq!(failed.len(), 2);
    for row in failed {
        assert!(!row["error"].is_empty() && row["memory_footprint_bytes"].is_empty(), "{row:?}");
        assert!(!row["error"].contains('\u{1b}') && !row["error"].contains('\n'), "{row:?}");
    }
    // A negative number is one, and no formula.
    assert!(rows.iter().any(|r| r["memory_daemons_bytes"].starts_with('-')));
}

#[test]
fn figures_can_be_made_again_of_the_rows_that_count() {
    let results = real();
    let rows = table(&results);
    let analysis = analyse(&results);
    for (column, metric) in [
        ("startup_ns", Metric::Startup),
        ("teardown_ns", Metric::Teardown),
        ("memory_footprint_bytes", Metric::Footprint),
        ("memory_overhead_bytes", Metric::Overhead),
        ("work_time_ns", Metric::WorkTime),
    ] {
        for target in &analysis.targets {
            let mine = rows.iter().filter(|r| r["target"] == target.name && r["counted"] == "true");
            let values: Vec<f64> = mine.filter_map(|r| r[column].parse().ok()).collect();
            assert_eq!(bootrace::analysis::median::median(&values), target.median(metric), "{column}");
        }
    }
}

#[test]
fn outliers_and_interference_have_columns() {
    let mut results = example::results();
    results.samples[5].interference.as_mut().unwrap().swapped_in_pages = Some(4096);
    let rows = table(&results);
    let slow = results.samples.iter().position(|s| s.target == "docker" && s.round == 6).unwrap();
    assert!(rows[slow]["outlier_in"].split("; ").any(|m| m == "startup"), "{:?}", rows[slow]);
    assert_eq!(rows[5]["interference"], "swapping");
    assert_eq!(rows[6]["interference"], "");
}

#[test]
fn lines_end_as_rfc_4180_has_them() {
    let text = one(&hostile(), Format::Csv);
    assert!(text.ends_with("\r\n"));
    assert_eq!(text.matches('\n').count(), text.matches("\r\n").count());
    assert_eq!(text.lines().count(), hostile().samples.len() + 1);
}

#[test]
fn no_cell_of_a_hostile_file_is_a_formula() {
    let mut results = hostile();
    results.samples[1].outcome = Outcome::Failed;
    results.samples[1].error = Some("=HYPERLINK(\"http://example.org\")".into());
    results.samples[2].target = "@unknown".into();
    let rows = table(&results);
    assert_eq!(rows[1]["error"], "'=HYPERLINK(\"http://example.org\")");
    assert_eq!(rows[2]["target"], "_unknown");
    for cell in rows.iter().flat_map(BTreeMap::values) {
        let formula = cell.starts_with(['=', '+', '-', '@', '\t', '\r']) && cell.parse::<f64>().is_err();
        assert!(!formula, "{cell}");
    }
}

#[test]
fn every_column_is_in_the_documentation() {
    let text = one(&real(), Format::Csv);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/exports.md");
    let documented = fs::read_to_string(path).unwrap();
    // A metric's columns are by the rule that the table states.
    let of_metric = |column: &str| {
        Metric::of_instances().any(|metric| column.starts_with(&metric.name().replace('.', "_")))
    };
    for column in text.lines().next().unwrap().split(',').filter(|column| !of_metric(column)) {
        assert!(documented.contains(&format!("`{column}`")), "{column} is not in docs/exports.md");
    }
}
