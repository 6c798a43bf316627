//! `bootrace compare` as scripts see it: verdicts, exit codes, and what is said of files that are not as they should be.
//! Made of a real run's results. Needs no engine.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use serde_json::{Value, json};
use tempfile::TempDir;

/// A directory for runs, and a state of its own, where no noise of this host is known.
struct Runs(TempDir);

impl Runs {
    fn new() -> Self {
        Runs(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// The sample run with `change` made to it, as the run `name`.
    fn put(&self, name: &str, change: impl FnOnce(&mut Value)) -> PathBuf {
        let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/report/recorded-run.json");
        let mut results: Value = serde_json::from_slice(&fs::read(sample).unwrap()).unwrap();
        results["run"]["id"] = json!(name);
        change(&mut results);
        self.write(name, results.to_string().as_bytes())
    }

    fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        fs::create_dir_all(self.path(name)).unwrap();
        fs::write(self.path(name).join("results.json"), bytes).unwrap();
        self.path(name)
    }

    fn compare(&self, base: &Path, new: &Path, options: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bootrace"));
        command.arg("compare").args([base, new]).args(options).env("BOOTRACE_STATE", self.path("state"));
        for name in ["NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE", "RUST_LOG"] {
            command.env_remove(name);
        }
        command.output().unwrap()
    }
}

fn samples(results: &mut Value) -> &mut Vec<Value> {
    results["samples"].as_array_mut().unwrap()
}

/// Makes start-up of a target's instances `times` as long, in its app phase.
fn slower(results: &mut Value, target: &str, times: f64) {
    for sample in samples(results).iter_mut().filter(|sample| sample["target"] == target) {
        for moment in ["ready", "stopping", "gone"] {
            let ready = sample["timeline_ns"]["ready"].as_f64().unwrap();
            let more = if moment == "ready" { ready * (times - 1.0) } else { ready * (1.0 - 1.0 / times) };
            let at = sample["timeline_ns"][moment].as_f64().unwrap();
            sample["timeline_ns"][moment] = json!((at + more).round() as u64);
        }
    }
}

/// Keeps so many measured samples of each target.
fn keep(results: &mut Value, most: usize) {
    let mut kept = std::collections::BTreeMap::<String, usize>::new();
    samples(results).retain(|sample| {
        let count = kept.entry(sample["target"].to_string()).or_default();
        *count += usize::from(sample["warmup"] == false);
        *count <= most || sample["warmup"] == true
    });
}

fn fail(sample: &mut Value) {
    sample["outcome"] = json!("failed");
    sample["error"] = json!("starting: <b>\u{1b}[31mno</b> | `such` file");
    sample["timeline_ns"]["ready"] = Value::Null;
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn a_run_against_itself_is_not_regressed_and_a_slower_one_is() {
    let runs = Runs::new();
    let base = runs.put("base", |_| {});
    let same = runs.put("same", |_| {});
    let slow = runs.put("slow", |results| slower(results, "docker", 1.6));
    let output = runs.compare(&base, &same, &[]);
    assert_eq!(code(&output), 0, "{}{}", out(&output), err(&output));
    assert!(!out(&output).contains("REGRESSED"));
    let output = runs.compare(&base, &slow, &[]);
    assert_eq!(code(&output), 3, "{}", out(&output));
    assert!(err(&output).contains("regressed: startup of quickstart on docker"), "{}", err(&output));
    assert!(err(&output).contains("wholly above 1.05, beyond the margin of 5 %"), "{}", err(&output));
    assert!(out(&output).contains("REGRESSED: startup on docker 1.60"), "{}", out(&output));
    assert_eq!(code(&runs.compare(&base, &slow, &["--fail-on", "never"])), 0);
    // The other way round it is an improvement.
    let output = runs.compare(&slow, &base, &[]);
    assert_eq!(code(&output), 0);
    assert!(out(&output).contains("IMPROVED"), "{}", out(&output));
}

#[test]
fn inconclusive_exits_with_4_only_on_request_and_names_the_samples_needed() {
    let runs = Runs::new();
    let base = runs.put("base", |_| {});
    let near = runs.put("near", |results| slower(results, "docker", 1.06));
    let output = runs.compare(&base, &near, &[]);
    assert_eq!(code(&output), 0, "{}", out(&output));
    assert!(out(&output).contains("samples a side"), "{}", out(&output));
    let output = runs.compare(&base, &near, &["--fail-on", "inconclusive"]);
    assert_eq!(code(&output), 4);
    assert!(err(&output).contains("inconclusive: startup"), "{}", err(&output));
    let wide = runs.compare(&base, &near, &["--margin", "60%", "--fail-on", "inconclusive"]);
    assert_eq!(code(&wide), 0, "{}", out(&wide));
}

#[test]
fn none_one_and_five_samples_are_never_a_verdict() {
    let runs = Runs::new();
    let base = runs.put("base", |_| {});
    for count in [0, 1, 5] {
        let few = runs.put("few", |results| keep(results, count));
        for (base, new) in [(&base, &few), (&few, &base)] {
            let output = runs.compare(base, new, &["--fail-on", "inconclusive"]);
            // What NEW has lost is worse than what is not settled.
            let lost = count == 0 && new == &few;
            assert_eq!(code(&output), if lost { 1 } else { 4 }, "{count}: {}{}", out(&output), err(&output));
            let says = if count == 0 { "has no good sample of docker" } else { "need >= 6" };
            assert!(err(&output).contains(says), "{count}: {}", err(&output));
            assert_eq!(code(&runs.compare(base, new, &[])), i32::from(lost));
        }
    }
}

#[test]
fn failures_of_new_fail_the_gate_and_those_of_base_are_reported() {
    let runs = Runs::new();
    let base = runs.put("base", |_| {});
    let broken = runs.put("broken", |results| {
        let mine = samples(results).iter_mut().filter(|s| s["target"] == "docker" && s["warmup"] == false);
        mine.take(5).for_each(fail);
    });
    let output = runs.compare(&base, &broken, &[]);
    assert_eq!(code(&output), 1, "{}", out(&output));
    assert!(err(&output).contains("failed: startup of quickstart on docker: 5 of 10"), "{}", err(&output));
    let output = runs.compare(&broken, &base, &["--markdown"]);
    assert_eq!(code(&output), 0);
    assert!(out(&output).contains("n = 5, 5 failed"), "{}", out(&output));
}

#[test]
fn runs_that_are_not_alike_are_refused_by_name_unless_that_is_wanted() {
    let runs = Runs::new();
    let base = runs.put("base", |_| {});
    type Change = fn(&mut Value);
    let changes: [(&str, &str, Change); 5] = [
        ("host", "another host", |r| {
            r["host"]["boot_id"] = json!("other");
            r["host"]["cpu_model"] = json!("other processor");
        }),
        ("accelerator", "another accelerator", |r| r["targets"][2]["accelerator"] = json!("kvm")),
        ("image", "another image", |r| r["image"]["digest"] = json!("ab".repeat(32))),
        ("command", "workload.command", |r| r["run"]["scenario"]["workload"]["command"] = json!(["other"])),
        ("target", "another scenario", |r| {
            r["targets"].as_array_mut().unwrap().retain(|t| t["name"] != "docker");
            r["run"]["scenario"]["target"].as_array_mut().unwrap().retain(|t| t["kind"] != "docker");
            samples(r).retain(|s| s["target"] != "docker");
        }),
    ];
    for (name, says, change) in changes {
        let other = runs.put(name, change);
        let output = runs.compare(&base, &other, &[]);
        assert_eq!(code(&output), 2, "{name}: {}", out(&output));
        assert!(err(&output).contains(says), "{name}: {}", err(&output));
        let output = runs.compare(&base, &other, &["--across-hosts"]);
        assert_eq!(code(&output), i32::from(name == "target"), "{name}: {}", err(&output));
        assert!(out(&output).contains("differs"), "{name}: {}", out(&output));
    }
}

#[test]
fn a_target_that_new_has_lost_fails_and_one_that_base_lacked_is_not_settled() {
    let runs = Runs::new();
    let base = runs.put("base", |_| {});
    let without = runs.put("without", |r| {
        r["targets"].as_array_mut().unwrap().retain(|t| t["name"] != "docker");
        samples(r).retain(|s| s["target"] != "docker");
    });
    let output = runs.compare(&base, &without, &["--across-hosts", "--fail-on", "inconclusive"]);
    assert_eq!(code(&output), 1, "{}", out(&output));
    assert!(err(&output).contains("NEW has no target docker"), "{}", err(&output));
    let output = runs.compare(&without, &base, &["--across-hosts", "--fail-on", "inconclusive"]);
    assert_eq!(code(&output), 4, "{}", out(&output));
    assert!(err(&output).contains("BASE has no target docker"), "{}", err(&output));
}

#[test]
fn between_hosts_nothing_gates() {
    let runs = Runs::new();
    let base = runs.put("base", |_| {});
    let other = runs.put("other", |results| {
        slower(results, "docker", 2.0);
        results["host"]["boot_id"] = json!("other");
        results["host"]["hostname"] = json!("other");
    });
    let output = runs.compare(&base, &other, &["--across-hosts", "--fail-on", "inconclusive"]);
    assert_eq!(code(&output), 0, "{}", out(&output));
    assert!(out(&output).contains("a trend") && !out(&output).contains("REGRESSED"), "{}", out(&output));
}

#[test]
fn files_that_are_no_results_are_named_with_the_place_and_the_code_is_2() {
    let runs = Runs::new();
    let base = runs.put("base", |_| {});
    let whole = fs::read_to_string(base.join("results.json")).unwrap();
    let truncated = runs.write("truncated", &whole.as_bytes()[..whole.len() / 2]);
    let nan = whole.replacen("\"ready\":", "\"ready\":NaN,\"unread\":", 1);
    let nan = runs.write("nan", nan.as_bytes());
    let foreign = runs.put("foreign", |results| results["schema"] = json!("bootrace.results/99"));
    let negative = runs.put("negative", |results| samples(results)[0]["timeline_ns"]["ready"] = json!(-1));
    let empty = runs.path("empty");
    fs::create_dir_all(&empty).unwrap();
    for (path, says) in [
        (&truncated, "line 1 column"),
        (&nan, "line 1 column"),
        (&foreign, "bootrace.results/99"),
        (&negative, "-1"),
        (&empty, "has none in it"),
        (&runs.path("nowhere"), "No such file"),
    ] {
        for (a, b) in [(&base, path), (path, &base)] {
            let output = runs.compare(a, b, &[]);
            assert_eq!(code(&output), 2, "{}", out(&output));
            assert!(err(&output).contains(says), "{}: {}", path.display(), err(&output));
            assert!(err(&output).contains(path.file_name().unwrap().to_str().unwrap()));
        }
    }
}

#[test]
fn of_directories_of_runs_the_newest_of_each_scenario_is_taken_whatever_they_are_called() {
    let runs = Runs::new();
    let named = |scenario: &'static str, at: &'static str, times: f64| {
        move |results: &mut Value| {
            results["run"]["scenario"]["name"] = json!(scenario);
            results["run"]["started_at"] = json!(at);
            slower(results, "docker", times);
        }
    };
    runs.put("before/a", named("one", "2026-01-01T00:00:00Z", 1.0));
    runs.put("before/z", named("two", "2026-01-01T00:00:00Z", 1.0));
    runs.put("after/z", named("one", "2026-01-02T00:00:00Z", 3.0));
    runs.put("after/b", named("one", "2026-01-03T00:00:00Z", 1.0));
    runs.put("after/c", named("two", "2026-01-03T00:00:00Z", 2.0));
    let output = runs.compare(&runs.path("before"), &runs.path("after"), &[]);
    assert_eq!(code(&output), 3, "{}", out(&output));
    assert!(err(&output).contains("startup of two on docker"), "{}", err(&output));
    assert!(!err(&output).contains("startup of one"), "{}", err(&output));
    // A damaged run is left out and reported.
    runs.write("after/d", b"{");
    let output = runs.compare(&runs.path("before"), &runs.path("after"), &[]);
    assert_eq!(code(&output), 3, "{}", out(&output));
    assert!(err(&output).contains("left out"), "{}", err(&output));
    fs::remove_dir_all(runs.path("after/c")).unwrap();
    let output = runs.compare(&runs.path("before"), &runs.path("after"), &[]);
    assert_eq!(code(&output), 2);
    assert!(err(&output).contains("no run of the scenario two"), "{}", err(&output));
}

#[test]
fn the_same_runs_give_the_same_bytes_and_hostile_text_stays_text() {
    let runs = Runs::new();
    let hostile = "<script>alert(1)</script>\u{1b}[31m|`x`";
    let base = runs.put("base", |results| results["run"]["scenario"]["name"] = json!(hostile));
    let new = runs.put("new", |results| {
        results["run"]["scenario"]["name"] = json!(hostile);
        slower(results, "docker", 2.0);
    });
    let (one, two) = (runs.path("one"), runs.path("two"));
    for dir in [&one, &two] {
        let output = runs.compare(&base, &new, &["--markdown", "--out", dir.to_str().unwrap()]);
        assert_eq!(code(&output), 3, "{}", err(&output));
        assert_eq!(out(&output), fs::read_to_string(dir.join("summary.md")).unwrap());
    }
    for file in ["comparison.json", "summary.md", "index.html", "charts/sides.svg"] {
        let bytes = fs::read_to_string(one.join(file)).unwrap();
        assert_eq!(bytes, fs::read_to_string(two.join(file)).unwrap(), "{file}");
        if file != "comparison.json" {
            assert!(!bytes.contains("<script>") && !bytes.contains('\u{1b}'), "{file}");
        }
    }
    let json: Value = serde_json::from_slice(&fs::read(one.join("comparison.json")).unwrap()).unwrap();
    assert_eq!((&json["schema"], &json["verdict"]), (&json!("bootrace.comparison/2"), &json!("regressed")));
    let output = runs.compare(&base, &new, &["--json"]);
    assert_eq!(serde_json::from_str::<Value>(&out(&output)).unwrap(), json);
}

#[test]
fn long_names_of_targets_stay_whole() {
    let runs = Runs::new();
    let name = |target: &str| format!("{}-{target}-{}", "x".repeat(20), "y".repeat(35));
    let rename = |results: &mut Value| {
        for target in ["docker", "native"] {
            let long = name(target);
            let named = results["targets"].as_array_mut().unwrap().iter_mut();
            named.filter(|t| t["name"] == target).for_each(|t| t["name"] = json!(long));
            samples(results)
                .iter_mut()
                .filter(|s| s["target"] == target)
                .for_each(|s| s["target"] = json!(long));
        }
    };
    let (base, new) = (runs.put("base", rename), runs.put("new", rename));
    let (table, markdown) = (runs.compare(&base, &new, &[]), runs.compare(&base, &new, &["--markdown"]));
    let history =
        Command::new(env!("CARGO_BIN_EXE_bootrace")).arg("history").arg(runs.path("")).output().unwrap();
    for target in ["docker", "native"] {
        // Terminals break a name.
        let part = format!("x-{target}-y");
        assert!(out(&table).contains(&part), "{}", out(&table));
        assert!(out(&history).contains(&part), "{}{}", out(&history), err(&history));
        assert!(out(&markdown).contains(&name(target)), "{}", out(&markdown));
    }
}

#[test]
fn markdown_fits_into_a_comment_with_the_verdicts_first_and_is_cut_between_rows() {
    let runs = Runs::new();
    let many = |results: &mut Value| {
        let names: Vec<String> = (0..60).map(|n| format!("docker-µ→{n}")).collect();
        let of = |list: &Value, key: &str| {
            let mine = list.as_array().unwrap().iter().filter(|of| of[key] == "docker");
            mine.cloned().collect::<Vec<_>>()
        };
        let (targets, samples) = (of(&results["targets"], "name"), of(&results["samples"], "target"));
        let named = |list: &[Value], key: &str| {
            let each = names.iter().flat_map(|name| list.iter().map(move |of| (name, of.clone())));
            let each = each.map(|(name, mut of)| {
                of[key] = json!(name);
                of
            });
            each.collect::<Vec<_>>()
        };
        results["targets"] = json!(named(&targets, "name"));
        results["samples"] = json!(named(&samples, "target"));
    };
    let base = runs.put("base", many);
    let new = runs.put("new", |results| {
        many(results);
        slower(results, "docker-µ→59", 2.0);
    });
    let dir = runs.path("out");
    let output = runs.compare(&base, &new, &["--markdown", "--out", dir.to_str().unwrap()]);
    assert_eq!(code(&output), 3, "{}", err(&output));
    let text = out(&output);
    assert_eq!(text, fs::read_to_string(dir.join("summary.md")).unwrap());
    assert!(text.len() <= 65_536, "{}", text.len());
    let mut lines = text.lines().filter(|line| !line.is_empty());
    assert_eq!(lines.next(), Some("### bootrace: REGRESSED"));
    assert!(lines.next().unwrap().starts_with("- startup on docker-µ→59: REGRESSED, "), "{text}");
    assert!(lines.next().unwrap().contains(": INCONCLUSIVE, "), "{text}");
    let (rows, note) = text.split_once("\n\n</details>\n\n").unwrap();
    let row = rows.lines().next_back().unwrap();
    assert!(row.starts_with("| docker-µ→") && row.ends_with("inconclusive |"), "{row}");
    assert!(note.contains("more lines don't fit into a comment: `bootrace compare --json`"), "{note}");
}

#[test]
fn other_metrics_gate_where_they_are_asked_for() {
    let runs = Runs::new();
    let base = runs.put("base", |_| {});
    let new = runs.put("new", |results| {
        for sample in samples(results).iter_mut().filter(|sample| sample["target"] == "docker") {
            let footprint = sample["memory_bytes"]["footprint"].as_u64().unwrap();
            sample["memory_bytes"]["footprint"] = json!(footprint * 2);
        }
    });
    assert_eq!(code(&runs.compare(&base, &new, &[])), 0);
    let output = runs.compare(&base, &new, &["--metric", "memory.footprint"]);
    assert_eq!(code(&output), 3, "{}", out(&output));
    let output = runs.compare(&base, &new, &["--metric", "speed"]);
    assert_eq!(code(&output), 2);
    assert!(err(&output).contains("memory.footprint"), "{}", err(&output));
    for margin in ["0", "-5", "nan", "a lot"] {
        assert_eq!(code(&runs.compare(&base, &new, &["--margin", margin])), 2, "{margin}");
    }
}

#[test]
fn an_ab_is_paired_by_round_and_rendered_again_as_it_was_judged() {
    let runs = Runs::new();
    let side = |side: &'static str, times: f64| {
        move |results: &mut Value| {
            results["run"]["id"] = json!(format!("ab-x-1-{side}"));
            results["run"]["ab"] = json!({"id": "ab-x-1", "side": side});
            results["run"]["scenario"]["name"] = json!(side);
            slower(results, "docker", times);
        }
    };
    let base = runs.put("ab-x-1/base", side("base", 1.0));
    let new = runs.put("ab-x-1/new", side("new", 1.2));
    let ab = runs.path("ab-x-1");
    // The sides' differences are the subject here: they are shown, and no comparison is refused.
    let output = runs.compare(&base, &new, &["--out", ab.to_str().unwrap(), "--margin", "15"]);
    assert_eq!(code(&output), 3, "{}{}", out(&output), err(&output));
    assert!(
        out(&output).contains("paired by round") && out(&output).contains("name differs"),
        "{}",
        out(&output)
    );
    // Either way round; the A/B itself is no run.
    assert!(out(&runs.compare(&new, &base, &[])).contains("paired by round"));
    assert!(err(&runs.compare(&ab, &base, &[])).contains("is an A/B"));
    let before = fs::read(ab.join("index.html")).unwrap();
    fs::remove_file(ab.join("index.html")).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_bootrace")).arg("report").arg(&ab).output().unwrap();
    assert_eq!(code(&output), 0, "{}", err(&output));
    assert!(out(&output).contains("REGRESSED") && ab.join("new/index.html").exists());
    assert_eq!(fs::read(ab.join("index.html")).unwrap(), before);
    fs::write(ab.join("comparison.json"), "{}").unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_bootrace")).arg("report").arg(&ab).output().unwrap();
    assert_eq!(code(&output), 2, "{}", out(&output));
}

#[test]
fn each_scenario_has_its_own_margin_and_one_that_makes_no_sense_is_refused() {
    let runs = Runs::new();
    let named = |scenario: &'static str, gate: Value, times: f64| {
        move |results: &mut Value| {
            results["run"]["scenario"]["name"] = json!(scenario);
            results["run"]["scenario"]["gate"] = gate;
            slower(results, "docker", times);
        }
    };
    let gate = |margin: &str| json!({"metrics": ["startup"], "margin": margin});
    for (dir, times) in [("before", 1.0), ("after", 1.6)] {
        runs.put(&format!("{dir}/loose"), named("loose", gate("90%"), times));
        runs.put(&format!("{dir}/strict"), named("strict", gate("2%"), times));
    }
    let output = runs.compare(&runs.path("before"), &runs.path("after"), &[]);
    assert_eq!(code(&output), 3, "{}", out(&output));
    assert!(
        err(&output).contains("of strict on docker") && !err(&output).contains("of loose"),
        "{}",
        err(&output)
    );
    assert!(
        out(&output).contains("Margin 90.0 %") && out(&output).contains("Margin 2.0 %"),
        "{}",
        out(&output)
    );
    let base = runs.put("base", |_| {});
    for wrong in [
        json!({"margin": -1}),
        json!({"margin": "0%"}),
        json!({"metrics": ["speed"]}),
        json!({"metrics": []}),
    ] {
        let new = runs.put("wrong", named("x", wrong.clone(), 1.0));
        let output = runs.compare(&base, &new, &["--across-hosts"]);
        assert_eq!(code(&output), 2, "{wrong}: {}", out(&output));
        assert!(err(&output).contains("can't judge"), "{}", err(&output));
    }
}

#[test]
fn failures_that_chance_explains_are_reported_and_leave_it_inconclusive() {
    let runs = Runs::new();
    let base = runs.put("base", |_| {});
    let flaky = runs.put("flaky", |results| {
        samples(results)
            .iter_mut()
            .filter(|s| s["target"] == "libvirt" && s["warmup"] == false)
            .take(1)
            .for_each(fail);
    });
    let output = runs.compare(&base, &flaky, &["--fail-on", "inconclusive"]);
    assert_eq!(code(&output), 4, "{}", out(&output));
    assert!(
        err(&output).contains("startup of quickstart on libvirt: 1 of 10 instances failed"),
        "{}",
        err(&output)
    );
    assert_eq!(code(&runs.compare(&base, &flaky, &[])), 0);
}

#[test]
fn several_figures_that_gate_are_harder_to_regress_together() {
    let runs = Runs::new();
    let side = |side: &'static str, times: f64| {
        move |results: &mut Value| {
            keep(results, 8);
            results["run"]["ab"] = json!({"id": "ab-x-1", "side": side});
            for target in ["native", "docker", "libvirt"] {
                slower(results, target, times);
            }
        }
    };
    let (base, new) = (runs.put("base", side("base", 1.0)), runs.put("new", side("new", 3.0)));
    let output = runs.compare(&base, &new, &["--fail-on", "inconclusive"]);
    assert_eq!(code(&output), 4, "{}", out(&output));
    assert!(out(&output).contains("need >= 10 where 3 figures gate"), "{}", out(&output));
    assert!(err(&output).contains("Holm's procedure stops at p = 0.00391"), "{}", err(&output));
}

/// A record of A/A sessions whose medians differ by `percent` from one to the next, of docker as the sample run has it.
fn noisy(runs: &Runs, results: &Path, sessions: usize, percent: f64) -> PathBuf {
    let run = bootrace::report::load(results).unwrap();
    let host = &run.host;
    let engine = bootrace::kind::Kind::Docker
        .row()
        .programs
        .iter()
        .map(|p| host.version(*p).unwrap_or("-"))
        .collect::<Vec<_>>()
        .join("/");
    let key = bootrace::calibration::noise::key(host);
    let session = |i: usize| {
        let median = 1e8 * (1.0 + percent / 100.0 * (i % 2) as f64);
        json!({
            "run": format!("aa-{i}"), "at": "2026-01-01T00:00:00Z", "bootrace_version": run.run.bootrace_version,
            "target": "docker", "accelerator": "none", "samples": 10, "medians": {"startup": [median, median]},
            "conditions": format!("bootrace {}, engine {engine}, image x, options y, 10 samples a side, not tuned", run.run.bootrace_version),
        })
    };
    let record = json!({
        "schema": "bootrace.noise/2", "host": key, "cpu_model": null, "cpus": 2, "kernel_release": "",
        "sessions": (0..sessions).map(session).collect::<Vec<_>>(),
    });
    let path = runs.path("state").join("noise").join(format!("{key}.json"));
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, record.to_string()).unwrap();
    path
}

#[test]
fn runs_apart_must_differ_by_more_than_this_hosts_sessions_do() {
    let runs = Runs::new();
    let base = runs.put("base", |_| {});
    let slow = runs.put("slow", |results| slower(results, "docker", 1.6));
    assert_eq!(code(&runs.compare(&base, &slow, &[])), 3);
    let record = noisy(&runs, &base, 12, 30.0);
    let output = runs.compare(&base, &slow, &[]);
    assert_eq!(code(&output), 0, "{}", out(&output));
    assert!(out(&output).contains("from 12 A/A sessions"), "{}", out(&output));
    assert_eq!(code(&runs.compare(&base, &slow, &["--margin", "5"])), 3, "what is asked for comes first");
    // Few sessions know little of what they differ by.
    noisy(&runs, &base, 3, 3.0);
    assert_eq!(code(&runs.compare(&base, &slow, &[])), 0);
    noisy(&runs, &base, 12, 3.0);
    assert_eq!(code(&runs.compare(&base, &slow, &[])), 3);
    fs::write(&record, "{").unwrap();
    let output = runs.compare(&base, &slow, &[]);
    assert_eq!(code(&output), 2);
    assert!(err(&output).contains("move it away"), "{}", err(&output));
}

#[test]
fn an_emulated_vm_is_never_gated_against_one_on_kvm_and_both_are_named() {
    let runs = Runs::new();
    let base = runs.put("base", |_| {});
    let kvm = runs.put("kvm", |results| {
        results["targets"][2]["accelerator"] = json!("kvm");
        slower(results, "libvirt", 3.0);
    });
    let output = runs.compare(&base, &kvm, &["--across-hosts", "--markdown"]);
    assert_eq!(code(&output), 0, "{}", out(&output));
    assert!(out(&output).contains("TCG (emulated) → KVM"), "{}", out(&output));
}

#[test]
fn a_run_against_itself_says_so() {
    let runs = Runs::new();
    let base = runs.put("base", |_| {});
    assert!(out(&runs.compare(&base, &base, &[])).contains("BASE and NEW are the same run"));
}
