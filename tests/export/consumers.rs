//! The programs that the forms are for, on exports of a real run and of files made by hand. `scripts/setup --for-tests`
//! installs them.

use std::{
    collections::BTreeMap,
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use bootrace::{
    report::export::{Files, Format, export, write_files},
    sample::Results,
};
use serde_json::Value;

use crate::{example, hostile, json, one, real, short};

/// What a program said that must be there and must have ended well.
fn output_of(command: &mut Command) -> String {
    let output =
        command.output().unwrap_or_else(|e| panic!("{command:?}: {e}: run scripts/setup --for-tests"));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {stderr}");
    String::from_utf8(output.stdout).unwrap()
}

/// As `scripts/setup --for-tests` puts it into the target directory.
fn tool(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("tools/bin").join(name)
}

fn critcmp() -> Command {
    Command::new(tool("critcmp"))
}

fn save_criterion(results: &Results, dir: &Path) {
    match export(results, Format::Criterion).files {
        Files::Several(files) => write_files(&dir.join("criterion"), &files).unwrap(),
        Files::One(_) => panic!("criterion has many files"),
    }
}

#[test]
#[ignore = "needs docker and libvirt: scripts/test runs it"]
fn critcmp_compares_two_exported_runs_by_the_ids_of_cargo_bench() {
    let dir = tempfile::tempdir().unwrap();
    let base = real();
    let mut slower = real();
    slower.run.id = "slower".into();
    for sample in slower.samples.iter_mut().filter(|s| s.target == "docker") {
        sample.timeline_ns.ready = sample.timeline_ns.ready.map(|ns| ns * 2);
    }
    save_criterion(&base, dir.path());
    save_criterion(&slower, dir.path());
    let ask = |arguments: &[&str]| output_of(critcmp().arg("--target-dir").arg(dir.path()).args(arguments));

    assert_eq!(ask(&["--baselines"]), format!("{}\nslower\n", base.run.id));
    let shown = ask(&[&base.run.id, "slower", "--list", "--color", "never"]);
    let ids: Vec<_> = shown.lines().filter(|l| l.starts_with("quickstart/")).collect();
    let metrics = ["startup", "work.time"];
    let wanted =
        metrics.iter().flat_map(|m| ["docker", "libvirt", "native"].map(|t| format!("quickstart/{m}/{t}")));
    assert_eq!(ids, wanted.collect::<Vec<_>>());
    let startup = shown.split("quickstart/startup/docker").nth(1).unwrap();
    let slow = startup.lines().find(|l| l.starts_with("slower")).unwrap();
    assert_eq!(slow.split_whitespace().nth(1), Some("2.00"), "{shown}");
    // The mean of the good samples, as critcmp has it.
    let times: Vec<f64> = base
        .samples
        .iter()
        .filter(|s| s.target == "docker" && bootrace::analysis::is_measured(s))
        .map(|s| s.timeline_ns.ready.unwrap() as f64)
        .collect();
    let mean = times.iter().sum::<f64>() / times.len() as f64;
    let exported = json(&ask(&["--export", &base.run.id]));
    let docker = &exported["benchmarks"]["quickstart/startup/docker"]["criterion_estimates_v1"];
    assert!((docker["mean"]["point_estimate"].as_f64().unwrap() - mean).abs() < 1e-3, "{docker}");
}

#[test]
#[ignore = "needs docker and libvirt: scripts/test runs it"]
fn critcmp_reads_whatever_is_exported() {
    for results in [example::results(), short(2), hostile()] {
        let dir = tempfile::tempdir().unwrap();
        save_criterion(&results, dir.path());
        let shown =
            output_of(critcmp().arg("--target-dir").arg(dir.path()).args(["--list", "--color", "never"]));
        assert!(shown.contains("startup/"), "{shown}");
    }
}

#[test]
#[ignore = "needs docker and libvirt: scripts/test runs it"]
fn promtool_has_nothing_to_say_of_prometheus_text() {
    for results in [real(), example::results(), example::clean(), short(0), short(1), hostile()] {
        let text = one(&results, Format::Prometheus);
        assert_eq!(promtool(&text), (Some(0), String::new()), "{text}");
    }
    // It would, if there were anything: a unit that is no base unit, and a label that is not closed.
    let (code, said) = promtool("# TYPE bootrace_x_ms gauge\nbootrace_x_ms 1\n");
    assert!(code != Some(0) && said.contains("bootrace_x_ms"), "{code:?} {said}");
    assert_ne!(promtool(&one(&real(), Format::Prometheus).replacen("\",", ",", 1)).0, Some(0));
}

fn promtool(text: &str) -> (Option<i32>, String) {
    let mut child = Command::new(tool("promtool"))
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool is there: run scripts/setup --for-tests");
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(said).unwrap())
}

#[test]
#[ignore = "needs docker and libvirt: scripts/test runs it"]
fn the_results_have_the_keys_and_types_of_hyperfines_own() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("own.json");
    let own = ["--runs", "3", "--style", "none", "--parameter-list", "target", "a,b", "--export-json"];
    output_of(Command::new("hyperfine").args(own).arg(&file).arg("echo {target}"));
    let theirs = shapes(&fs::read_to_string(&file).unwrap());
    for results in [real(), example::results(), short(2)] {
        let ours = shapes(&one(&results, Format::Hyperfine));
        for (key, kind) in &theirs {
            match key.as_str() {
                // Where no sample has its CPU time.
                "user" | "system" if results.samples.iter().all(|s| s.cpu_ns.startup.is_none()) => {
                    assert_eq!(ours[key], "null");
                }
                // Where samples have none; only newer versions of hyperfine have it.
                "memory_usage_byte" if !ours.contains_key(key) => {}
                "exit_codes" => {
                    assert_eq!((kind.as_str(), ours[key].as_str()), ("list of number", "list of null"))
                }
                _ => assert_eq!(&ours[key], kind, "{key}"),
            }
        }
        let more = ours.keys().filter(|key| !theirs.contains_key(*key) && *key != "memory_usage_byte");
        assert_eq!(more.count(), 0, "{ours:?} against {theirs:?}");
    }
}

/// By key, of all results: what it holds.
fn shapes(text: &str) -> BTreeMap<String, String> {
    let document = json(text);
    assert_eq!(document.as_object().unwrap().keys().collect::<Vec<_>>(), ["results"]);
    let results = document["results"].as_array().unwrap();
    let mut shapes: BTreeMap<String, String> = BTreeMap::new();
    for (key, value) in results.iter().flat_map(|r| r.as_object().unwrap()) {
        let shape = match value {
            Value::Array(items) => format!("list of {}", kind(&items[0])),
            Value::Object(items) => format!("map of {}", kind(items.values().next().unwrap())),
            value => kind(value).to_owned(),
        };
        assert_eq!(shapes.entry(key.clone()).or_insert_with(|| shape.clone()), &shape, "{key}");
    }
    shapes
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "list",
        Value::Object(_) => "map",
    }
}
