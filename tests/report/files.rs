use std::{fs, path::Path};

use bootrace::report;

use crate::example;

/// Left in target/tmp for people to look at.
fn written(name: &str, results: &bootrace::sample::Results) -> std::path::PathBuf {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = fs::remove_dir_all(&dir);
    report::write(results, &dir).unwrap();
    dir
}

#[test]
fn every_file_of_a_report_is_written() {
    let dir = written("example", &example::results());
    written("clean", &example::clean());
    for file in ["results.json", "summary.md", "index.html"] {
        assert!(dir.join(file).metadata().unwrap().len() > 1000, "{file}");
    }
    for chart in ["startup", "phases", "memory", "cpu", "order"] {
        assert!(dir.join("charts").join(format!("{chart}.svg")).metadata().unwrap().len() > 1000, "{chart}");
    }
}
