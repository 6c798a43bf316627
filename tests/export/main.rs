//! Runs in the forms that other programs read: by hand-made and real results, by what the forms' publishers say, and
//! by the programs themselves.

mod cli;
mod consumers;
mod criterion;
mod csv;
#[path = "../report/example.rs"]
mod example;
mod figures;
mod junit;
#[path = "../../benches/startup/replay.rs"]
mod replay;

use std::path::{Path, PathBuf};

use bootrace::{
    report::{
        self,
        export::{Export, Files, Format, export},
    },
    sample::{Outcome, Results},
};

/// A real run of this program, whose image was a fallback and whose VM was emulated.
const SAMPLE: &str = "tests/report/recorded-run.json";

fn real() -> Results {
    report::load(&Path::new(env!("CARGO_MANIFEST_DIR")).join(SAMPLE)).unwrap()
}

/// Two targets, one emulated, with so many good samples each and of them only the start-up.
fn short(samples: usize) -> Results {
    let mut results = example::results();
    results.targets.retain(|t| t.name != "native");
    results.samples.retain(|s| s.target != "native" && !s.warmup && s.outcome == Outcome::Ok);
    for name in ["docker", "libvirt"] {
        let mut left = samples;
        results.samples.retain(|s| {
            let keep = s.target != name || left > 0;
            left -= usize::from(s.target == name && keep);
            keep
        });
    }
    for sample in &mut results.samples {
        sample.timeline_ns = bootrace::sample::Timeline {
            ready: sample.timeline_ns.ready,
            ..bootrace::sample::Timeline::default()
        };
        (sample.memory_bytes, sample.cpu_ns, sample.work_ns) = Default::default();
    }
    results
}

/// Names of scenario, run and targets as only a file made by hand can have them.
fn hostile() -> Results {
    let mut results = example::clean();
    results.run.scenario["name"] = "../../outside".into();
    results.run.id = "../../../\"\n\\ change".into();
    let names = ["/etc/passwd", "..", "=cmd|'/C calc'!A0\r\n\u{1b}[31m`a|b`\"},{\""];
    for (target, name) in results.targets.iter_mut().zip(names) {
        let old = std::mem::replace(&mut target.name, name.to_owned());
        results.samples.iter_mut().filter(|s| s.target == old).for_each(|s| s.target = name.into());
    }
    results.image.suite = "\"} 1\nbootrace_forged 1\n".into();
    results
}

fn one(results: &Results, format: Format) -> String {
    match export(results, format).files {
        Files::One(bytes) => String::from_utf8(bytes).unwrap(),
        Files::Several(files) => panic!("{} files of {format:?}", files.len()),
    }
}

fn several(results: &Results, format: Format) -> Vec<(PathBuf, String)> {
    match export(results, format).files {
        Files::Several(files) => {
            files.into_iter().map(|(path, bytes)| (path, String::from_utf8(bytes).unwrap())).collect()
        }
        Files::One(_) => panic!("one file of {format:?}"),
    }
}

fn json(text: &str) -> serde_json::Value {
    serde_json::from_str(text).unwrap_or_else(|e| panic!("{e}\n{text}"))
}

/// Every text that an export has, file names among them.
fn texts(exported: &Export) -> Vec<String> {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    match &exported.files {
        Files::One(bytes) => vec![text(bytes)],
        Files::Several(files) => {
            files.iter().flat_map(|(path, bytes)| [path.display().to_string(), text(bytes)]).collect()
        }
    }
}

#[test]
fn the_same_results_give_the_same_bytes() {
    for results in [real(), example::results(), short(1), hostile()] {
        for format in Format::all() {
            assert_eq!(export(&results, format), export(&results.clone(), format), "{format:?}");
        }
    }
}

#[test]
fn every_form_says_that_a_vm_was_emulated_and_that_the_image_is_a_fallback() {
    for results in [real(), example::results()] {
        for format in Format::all() {
            let texts = texts(&export(&results, format)).concat();
            assert!(texts.contains("TCG (emulated)"), "{format:?}");
            assert!(texts.contains("fallback"), "{format:?}");
        }
    }
    let clean = example::clean();
    for format in Format::all() {
        assert!(!texts(&export(&clean, format)).concat().contains("TCG"), "{format:?}");
    }
}

#[test]
fn a_target_without_a_good_sample_is_named_and_the_others_are_exported() {
    let mut results = example::clean();
    for sample in results.samples.iter_mut().filter(|s| s.target == "libvirt") {
        (sample.outcome, sample.error) = (Outcome::Failed, Some("it did not start".into()));
    }
    for format in Format::all() {
        let exported = export(&results, format);
        assert_eq!(exported.without_samples, ["libvirt"], "{format:?}");
        assert!(texts(&exported).concat().contains("docker"), "{format:?}");
    }
    assert!(export(&example::clean(), Format::Bmf).without_samples.is_empty());
}

#[test]
fn a_run_without_any_sample_is_an_empty_export_in_every_form() {
    let mut results = example::clean();
    results.samples.clear();
    for format in Format::all() {
        assert_eq!(export(&results, format).without_samples.len(), 3, "{format:?}");
    }
    assert_eq!(one(&results, Format::Bmf), "{}\n");
    assert_eq!(one(&results, Format::Hyperfine), "{\n  \"results\": []\n}\n");
    for (_, text) in several(&results, Format::Gab) {
        assert_eq!(text, "[]\n");
    }
    assert_eq!(several(&results, Format::Criterion), []);
    assert_eq!(one(&results, Format::Csv).lines().count(), 1);
    let prometheus = one(&results, Format::Prometheus);
    assert!(prometheus.contains("bootrace_samples{") && !prometheus.contains("startup"), "{prometheus}");
}

#[test]
fn a_value_that_there_is_not_is_no_zero() {
    let results = short(6);
    let bmf = json(&one(&results, Format::Bmf));
    assert_eq!(bmf["quickstart/docker, fallback image"].as_object().unwrap().len(), 1);
    let hyperfine = json(&one(&results, Format::Hyperfine));
    let first = &hyperfine["results"][0];
    assert!(first["user"].is_null() && first["system"].is_null() && first.get("memory_usage_byte").is_none());
    assert!(!one(&results, Format::Prometheus).contains("memory"));
    let smaller = &several(&results, Format::Gab)[0];
    assert_eq!(json(&smaller.1).as_array().unwrap().len(), 2);
}
