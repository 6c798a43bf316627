//! The forms that hold figures: Bencher's, github-action-benchmark's, hyperfine's and Prometheus'.

use std::collections::BTreeSet;

use bootrace::{
    analysis::{Metric, analyse},
    report::export::{Files, Format, export},
    sample::Results,
};
use serde_json::{Value, json};

use crate::{example, hostile, json as parsed, one, real, several, short};

/// What <https://bencher.dev/bmf.json> asks for, and nothing beside it; names as long as Bencher takes them.
fn bencher_schema() -> Value {
    let number = json!({ "type": "number" });
    json!({
        "type": "object",
        "propertyNames": { "minLength": 1, "maxLength": 1024 },
        "additionalProperties": {
            "type": "object",
            "propertyNames": { "minLength": 1, "maxLength": 64 },
            "additionalProperties": {
                "type": "object",
                "properties": { "value": number, "lower_value": number, "upper_value": number },
                "required": ["value"],
                "additionalProperties": false,
            },
        },
    })
}

/// What the action's README and its source say of an entry.
fn action_schema() -> Value {
    let text = json!({ "type": "string", "minLength": 1 });
    json!({
        "type": "array",
        "items": {
            "type": "object",
            "properties": {
                "name": text, "unit": text, "extra": text,
                "value": { "type": "number", "exclusiveMinimum": 0 },
                // Else it is text to the action, and does not follow where a unit changes.
                "range": { "type": "string", "pattern": "^± [0-9]+(\\.[0-9]+)?$" },
            },
            "required": ["name", "unit", "value"],
            "additionalProperties": false,
        },
    })
}

fn complaints(schema: &Value, document: &Value) -> Vec<String> {
    let validator = jsonschema::validator_for(schema).unwrap();
    validator.iter_errors(document).map(|e| format!("{}: {e}", e.instance_path())).collect()
}

fn all() -> [Results; 7] {
    [real(), example::results(), example::clean(), short(0), short(1), short(5), hostile()]
}

#[test]
fn benchers_schema_holds_for_every_run() {
    for results in all() {
        let bmf = parsed(&one(&results, Format::Bmf));
        assert_eq!(complaints(&bencher_schema(), &bmf), [] as [String; 0]);
    }
    let wrong = json!({ "a": { "b": { "value": null } } });
    assert_eq!(complaints(&bencher_schema(), &wrong).len(), 1);
}

#[test]
fn an_emulated_processor_of_the_host_is_said_in_every_form_and_only_then() {
    let mut results = example::clean();
    let all = |results: &Results| {
        Format::all()
            .map(|format| match export(results, format).files {
                Files::One(bytes) => String::from_utf8(bytes).unwrap(),
                Files::Several(files) => {
                    files.into_iter().map(|(_, bytes)| String::from_utf8(bytes).unwrap()).collect()
                }
            })
            .collect::<Vec<_>>()
    };
    for text in all(&results) {
        assert!(!text.contains("Bochs"), "{text}");
    }
    results.host.processor_emulator = Some("Bochs".into());
    for text in all(&results) {
        // In the name, unless there is another place.
        let in_its_place = text.contains("processor_emulator") && text.contains("Bochs");
        assert!(in_its_place || text.contains("emulated processor (Bochs)"), "{text}");
    }
}

#[test]
fn bencher_gets_every_median_with_its_interval_in_ns_and_bytes() {
    let results = real();
    let bmf = parsed(&one(&results, Format::Bmf));
    let analysis = analyse(&results);
    assert_eq!(bmf.as_object().unwrap().len(), 3);
    for (target, label) in analysis.targets.iter().zip([
        "quickstart/native, fallback image",
        "quickstart/docker, fallback image",
        "quickstart/libvirt, TCG (emulated), fallback image",
    ]) {
        assert_eq!(bmf[label].as_object().unwrap().len(), target.figures.len());
        for figure in &target.figures {
            let value = &bmf[label][figure.metric.name()];
            let interval = figure.interval.unwrap();
            assert_eq!(value["value"], figure.median);
            assert_eq!(
                (&value["lower_value"], &value["upper_value"]),
                (&interval.low.into(), &interval.high.into())
            );
        }
    }
    // As its summary had it: 2.39 s and 218 MiB.
    let vm = &bmf["quickstart/libvirt, TCG (emulated), fallback image"];
    assert!((2.385e9..2.395e9).contains(&vm["startup"]["value"].as_f64().unwrap()), "{vm}");
    let mib = vm["memory.footprint"]["value"].as_f64().unwrap() / 1_048_576.0;
    assert!((217.5..218.5).contains(&mib), "{mib}");
}

#[test]
fn too_few_samples_have_a_median_and_no_interval() {
    let bmf = parsed(&one(&short(5), Format::Bmf));
    let value = bmf["quickstart/docker, fallback image"]["startup"].as_object().unwrap();
    assert_eq!(value.keys().collect::<Vec<_>>(), ["value"]);
    for (_, text) in several(&short(5), Format::Gab) {
        for entry in parsed(&text).as_array().unwrap() {
            assert!(entry.get("range").is_none());
            assert!(entry["extra"].as_str().unwrap().contains("no interval: need >= 6 samples"), "{entry}");
        }
    }
    let prometheus = one(&short(5), Format::Prometheus);
    assert!(
        prometheus.contains("bootrace_startup_seconds{") && !prometheus.contains("_lower"),
        "{prometheus}"
    );
}

#[test]
fn the_actions_form_holds_for_both_directions_of_every_run() {
    for results in all() {
        let files = several(&results, Format::Gab);
        let names: Vec<_> = files.iter().map(|(path, _)| path.to_str().unwrap()).collect();
        assert_eq!(names, ["smaller-is-better.json", "bigger-is-better.json"]);
        for (_, text) in &files {
            let entries = parsed(text);
            assert_eq!(complaints(&action_schema(), &entries), [] as [String; 0]);
            let entries = entries.as_array().unwrap();
            let names: BTreeSet<_> = entries.iter().map(|e| e["name"].as_str().unwrap()).collect();
            // The action finds the earlier value by its name.
            assert_eq!(names.len(), entries.len());
            // It shows names between backticks in a table.
            assert!(names.iter().all(|n| !n.contains(['`', '|', '\n'])), "{names:?}");
        }
    }
}

#[test]
fn the_actions_files_of_a_short_run() {
    let files = several(&short(6), Format::Gab);
    insta::assert_snapshot!(files.iter().map(|(p, t)| format!("{}:\n{t}", p.display())).collect::<String>());
}

#[test]
fn the_longer_side_of_an_interval_is_the_actions_range() {
    let results = real();
    let smaller = parsed(&several(&results, Format::Gab)[0].1);
    let entry = |name: &str| {
        let wanted = format!("quickstart/docker, fallback image: {name}");
        smaller.as_array().unwrap().iter().find(|e| e["name"] == wanted.as_str()).cloned()
    };
    let figure = analyse(&results).target("docker").unwrap().figure(Metric::Startup).cloned().unwrap();
    let startup = entry("startup").unwrap();
    let range: f64 = startup["range"].as_str().unwrap().strip_prefix("± ").unwrap().parse().unwrap();
    let (median, interval) = (figure.median / 1e6, figure.interval.unwrap());
    assert_eq!((&startup["unit"], &startup["value"]), (&"ms".into(), &median.into()));
    assert!(median - range <= interval.low / 1e6 && median + range >= interval.high / 1e6, "{startup}");
    // Docker's boot takes 0 here: two of it have no quotient.
    assert_eq!(entry("startup.boot"), None);
}

#[test]
fn hyperfines_file_of_a_short_run() {
    insta::assert_snapshot!(one(&short(3), Format::Hyperfine));
}

#[test]
fn hyperfine_gets_the_good_samples_in_seconds_and_in_order() {
    let results = example::results();
    let hyperfine = parsed(&one(&results, Format::Hyperfine));
    for (target, result) in results.targets.iter().zip(hyperfine["results"].as_array().unwrap()) {
        let good =
            results.samples.iter().filter(|s| s.target == target.name && bootrace::analysis::is_measured(s));
        let seconds: Vec<f64> = good.map(|s| s.timeline_ns.ready.unwrap() as f64 / 1e9).collect();
        let n = seconds.len() as f64;
        let mean = seconds.iter().sum::<f64>() / n;
        let variance = seconds.iter().map(|s| (s - mean).powi(2)).sum::<f64>() / (n - 1.0);
        assert_eq!(result["times"], json!(seconds));
        assert!((result["mean"].as_f64().unwrap() - mean).abs() < 1e-12);
        assert!((result["stddev"].as_f64().unwrap() - variance.sqrt()).abs() < 1e-12);
        let good =
            results.samples.iter().filter(|s| s.target == target.name && bootrace::analysis::is_measured(s));
        let cpu: Vec<f64> = good.filter_map(|s| s.cpu_ns.startup).map(|ns| ns as f64 / 1e9).collect();
        let cpu = cpu.iter().sum::<f64>() / cpu.len() as f64;
        assert!((result["user"].as_f64().unwrap() - cpu).abs() < 1e-12, "all CPU time is the user's");
        assert_eq!(result["system"], json!(0.0));
        assert_eq!(result["exit_codes"].as_array().unwrap().len(), seconds.len());
        assert_eq!(result["memory_usage_byte"].as_array().unwrap().len(), seconds.len());
    }
    let single = parsed(&one(&short(1), Format::Hyperfine));
    assert!(single["results"][0]["stddev"].is_null());
    // Its samples have no CPU time.
    assert!(single["results"][0]["user"].is_null() && single["results"][0]["system"].is_null());
}

#[test]
fn prometheus_text_of_a_short_run() {
    insta::assert_snapshot!(one(&short(6), Format::Prometheus));
}

#[test]
fn prometheus_gets_base_units_and_one_series_for_each_set_of_labels() {
    for results in all() {
        let text = one(&results, Format::Prometheus);
        let series: Vec<_> =
            text.lines().filter(|l| !l.starts_with('#')).map(|l| l.rsplit_once(' ').unwrap()).collect();
        let labels: BTreeSet<_> = series.iter().map(|(labels, _)| labels).collect();
        assert_eq!(labels.len(), series.len());
        for (labels, value) in series {
            assert!(value.parse::<f64>().unwrap().is_finite(), "{labels} {value}");
            assert!(labels.ends_with('}') && labels.starts_with("bootrace_"), "{labels}");
        }
    }
    let text = one(&real(), Format::Prometheus);
    let of = |name: &str| {
        let line =
            text.lines().find(|l| l.starts_with(&format!("{name}{{")) && l.contains("target=\"libvirt\""));
        line.unwrap().rsplit_once(' ').unwrap().1.parse::<f64>().unwrap()
    };
    assert!((2.385..2.395).contains(&of("bootrace_startup_seconds")));
    assert!((217.5..218.5).contains(&(of("bootrace_memory_footprint_bytes") / 1_048_576.0)));
    assert!(of("bootrace_startup_lower_seconds") < of("bootrace_startup_seconds"));
}

#[test]
fn two_runs_of_a_scenario_have_no_series_in_common() {
    let series = |id: &str| {
        let mut results = example::results();
        results.run.id = id.into();
        let text = one(&results, Format::Prometheus);
        let of = |line: &str| line.rsplit_once(' ').unwrap().0.to_owned();
        text.lines().filter(|line| !line.starts_with('#')).map(of).collect::<BTreeSet<_>>()
    };
    let (base, new) = (series("ab-20250102T030405Z-42-base"), series("ab-20250102T030405Z-42-new"));
    assert_eq!(base.len(), new.len());
    assert!(base.is_disjoint(&new), "{:?}", base.intersection(&new).next());
}

#[test]
fn text_of_a_hostile_file_makes_no_series() {
    let text = one(&hostile(), Format::Prometheus);
    assert!(text.contains("image=\"debian \\\"} 1 bootrace_forged 1\""), "{text}");
    assert!(text.lines().all(|l| !l.starts_with("bootrace_forged")));
}
