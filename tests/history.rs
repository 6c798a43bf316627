//! `bootrace history` as scripts see it, on directories of generated runs. Needs no engine.

use std::{
    fs,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use serde_json::Value;

#[path = "../examples/make_history.rs"]
mod make_history;

const SAMPLE: &str = include_str!("../tests/report/recorded-run.json");

fn template() -> Value {
    serde_json::from_str(SAMPLE).unwrap()
}

fn made(runs: usize) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    make_history::make(&template(), dir.path(), runs, 1).unwrap();
    dir
}

fn history(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bootrace"));
    command.arg("history").args(arguments);
    for name in ["CLICOLOR", "CLICOLOR_FORCE", "RUST_LOG"] {
        command.env_remove(name);
    }
    command.env("NO_COLOR", "1").output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn json(arguments: &[&str]) -> Value {
    let output = history(&[arguments, &["--json"]].concat());
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The series of one target.
fn of<'a>(json: &'a Value, target: &str) -> &'a Value {
    json["series"].as_array().unwrap().iter().find(|s| s["target"] == target).unwrap()
}

fn file_of(dir: &Path, index: usize) -> PathBuf {
    let mut dirs: Vec<PathBuf> = fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).collect();
    dirs.sort();
    dirs[index].join("results.json")
}

fn changed(path: &Path, change: impl Fn(&mut Value)) {
    let mut json: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    change(&mut json);
    fs::write(path, serde_json::to_vec(&json).unwrap()).unwrap();
}

#[test]
fn every_change_is_found_between_the_right_runs_and_linked_to_its_commit() {
    let dir = made(100);
    let json = json(&[dir.path().to_str().unwrap()]);
    assert_eq!(json["schema"], "bootrace.history/2");
    assert_eq!(json["runs"].as_array().unwrap().len(), 100);
    for target in ["native", "docker", "libvirt"] {
        let series = of(&json, target);
        assert_eq!(series["points"].as_array().unwrap().len(), 100);
        let changes = series["changes"].as_array().unwrap();
        assert_eq!(changes.len(), 3, "{target}: {changes:#?}");
        let levels = make_history::LEVELS;
        for (i, change) in changes.iter().enumerate() {
            let at = (levels[i + 1].0 * 100.0) as u64;
            let (earliest, latest) =
                (change["earliest"].as_u64().unwrap(), change["latest"].as_u64().unwrap());
            assert!(earliest <= at && at <= latest && latest - earliest < 10, "{target}: {change}");
            let ratio = levels[i + 1].1 / levels[i].1;
            let [low, high] = ["ratio_low", "ratio_high"].map(|key| change[key].as_f64().unwrap());
            assert!(low < ratio && ratio < high, "{target}: {change}");
            let commit = &json["runs"][change["first_after"].as_u64().unwrap() as usize]["source"]["commit"];
            let page = format!("https://example.org/project/commit/{}", commit.as_str().unwrap());
            assert_eq!(change["url"], page.as_str());
        }
    }
}

#[test]
fn the_same_runs_give_the_same_bytes_in_any_order_and_on_any_number_of_threads() {
    let dir = made(30);
    let other = tempfile::tempdir().unwrap();
    // Half of them elsewhere, written the other way round.
    let mut runs: Vec<PathBuf> = fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().path()).collect();
    runs.sort();
    for (i, run) in runs.iter().enumerate().rev() {
        let to = other.path().join(if i % 2 == 0 { "a" } else { "b/c" }).join(format!("{}", 100 - i));
        fs::create_dir_all(&to).unwrap();
        fs::copy(run.join("results.json"), to.join("results.json")).unwrap();
    }
    let outs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let [one, a, b] = [dir.path().to_path_buf(), other.path().join("a"), other.path().join("b")];
    for (dirs, threads, out) in
        [(vec![&one], "1", &outs[0]), (vec![&a, &b], "2", &outs[1]), (vec![&b, &a], "7", &outs[2])]
    {
        let mut arguments: Vec<&str> = dirs.iter().map(|dir| dir.to_str().unwrap()).collect();
        arguments.extend([
            "--threads",
            threads,
            "--out",
            out.path().to_str().unwrap(),
            "--metric",
            "startup",
        ]);
        arguments.extend(["--metric", "memory.footprint"]);
        assert_eq!(history(&arguments).status.code(), Some(0));
    }
    let names = [
        "index.html",
        "history.json",
        "charts/trend-quickstart-startup.svg",
        "charts/trend-quickstart-memory.footprint.svg",
    ];
    for name in names {
        let [first, second, third] = outs.each_ref().map(|out| fs::read(out.path().join(name)).unwrap());
        assert!(first == second && second == third, "{name} differs");
    }
}

#[test]
fn links_and_copies_are_no_further_runs_and_the_order_is_that_of_time() {
    let dir = made(8);
    // A fraction of a second later than the first, though its text sorts before it.
    changed(&file_of(dir.path(), 2), |run| {
        run["run"]["started_at"] = "2025-01-01T00:00:00.5Z".into();
    });
    let newest = file_of(dir.path(), 7);
    std::os::unix::fs::symlink(newest.parent().unwrap(), dir.path().join("latest")).unwrap();
    let copy = dir.path().join("0-copy/deeper");
    fs::create_dir_all(&copy).unwrap();
    fs::copy(&newest, copy.join("results.json")).unwrap();
    let json = json(&[dir.path().to_str().unwrap()]);
    let times: Vec<&str> =
        json["runs"].as_array().unwrap().iter().map(|run| run["started_at"].as_str().unwrap()).collect();
    assert_eq!(times.len(), 8);
    assert_eq!(json["copies"], 1);
    // A link that is given is meant.
    let latest = self::json(&[dir.path().join("latest").to_str().unwrap()]);
    assert_eq!(latest["runs"].as_array().unwrap().len(), 1);
    assert_eq!(times[..2], ["2025-01-01T00:00:00Z", "2025-01-01T00:00:00.5Z"]);
}

#[test]
fn hosts_and_accelerators_are_never_mixed_and_other_changes_are_noted() {
    let dir = made(24);
    for i in 0..24 {
        changed(&file_of(dir.path(), i), |run| {
            if i % 2 == 1 {
                run["host"]["hostname"] = "other".into();
            }
            if i >= 12 {
                run["targets"][2]["accelerator"] = "kvm".into();
                run["host"]["kernel_release"] = "6.99".into();
                run["run"]["scenario"]["resources"]["memory"] = "1GiB".into();
            }
        });
    }
    let path = dir.path().to_str().unwrap();
    let both = json(&[path]);
    let series = both["series"].as_array().unwrap();
    // native and docker on two hosts, libvirt on two with two accelerators.
    assert_eq!(series.len(), 2 * 2 + 4);
    let docker = of(&both, "docker");
    assert_eq!(docker["points"].as_array().unwrap().len(), 12);
    let notes: Vec<&str> =
        docker["notes"].as_array().unwrap().iter().map(|note| note["what"].as_str().unwrap()).collect();
    assert_eq!(notes, ["scenario", "kernel"]);
    let any = json(&[path, "--any-host-name"]);
    assert_eq!(any["series"].as_array().unwrap().len(), 4);
    assert_eq!(of(&any, "docker")["host"]["name"], Value::Null);
}

#[test]
fn a_host_for_each_run_makes_no_page_that_nobody_can_read() {
    let dir = made(60);
    for i in 0..60 {
        // Hosts 0 to 7 have six runs, all others one.
        let host = if i < 48 { i % 8 } else { i };
        changed(&file_of(dir.path(), i), |run| run["host"]["hostname"] = format!("host-{host:02}").into());
    }
    let out = tempfile::tempdir().unwrap();
    let arguments = [dir.path().to_str().unwrap(), "--out", out.path().to_str().unwrap()];
    let output = history(&arguments);
    let page = fs::read_to_string(out.path().join("index.html")).unwrap();
    for shown in [&page, &text(&output.stdout)] {
        assert!(shown.contains("36 more series") && shown.contains("host-07"), "{shown}");
        assert!(!shown.contains("host-48"), "{shown}");
    }
    assert_eq!(json(&arguments[..1])["series"].as_array().unwrap().len(), 60);
    assert!(!text(&history(&[arguments[0], "--any-host-name"]).stdout).contains("more series"));
}

#[test]
fn sides_of_an_ab_are_no_points_unless_that_is_asked_for() {
    let dir = made(12);
    for (i, side) in [(3, "base"), (4, "new"), (9, "new")] {
        changed(&file_of(dir.path(), i), |run| {
            run["run"]["ab"] = serde_json::json!({"id": "ab-20250101T000000Z-1", "side": side});
        });
    }
    let out = tempfile::tempdir().unwrap();
    let path = dir.path().to_str().unwrap();
    let output = history(&[path, "--out", out.path().to_str().unwrap()]);
    let page = fs::read_to_string(out.path().join("index.html")).unwrap();
    for shown in [&text(&output.stdout), &page] {
        assert!(shown.contains("3 sides of A/Bs are left out: --with-ab includes them"), "{shown}");
    }
    assert!(text(&output.stdout).contains("history of 9 runs"), "{}", text(&output.stdout));
    let without = json(&[path]);
    assert_eq!(without["sides_of_ab_left_out"], 3);
    assert_eq!(of(&without, "docker")["points"].as_array().unwrap().len(), 9);
    let with = json(&[path, "--with-ab"]);
    assert_eq!((&with["sides_of_ab_left_out"], with["runs"].as_array().unwrap().len()), (&0.into(), 12));

    let only = tempfile::tempdir().unwrap();
    fs::copy(file_of(dir.path(), 3), only.path().join("results.json")).unwrap();
    let output = history(&[only.path().to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        text(&output.stderr).contains("fix: --with-ab includes the sides of A/Bs (1 left out)"),
        "{}",
        text(&output.stderr)
    );
}

#[test]
fn runs_that_were_not_asked_for_are_no_part_of_the_history() {
    let dir = made(10);
    for i in 0..4 {
        changed(&file_of(dir.path(), i), |run| run["run"]["scenario"]["name"] = "redis".into());
    }
    let path = dir.path().to_str().unwrap();
    let json = json(&[path, "--scenario", "quickstart"]);
    assert_eq!((json["runs"].as_array().unwrap().len(), &json["other_runs"]), (6, &4.into()));
    assert_eq!(of(&json, "docker")["points"][0]["run"], 0);
    let shown = text(&history(&[path, "--scenario", "quickstart"]).stdout);
    assert!(shown.contains("history of 6 runs") && shown.contains("4 other runs have none of"), "{shown}");
}

#[test]
fn a_gate_and_claims_change_no_figure_and_so_are_no_note() {
    let dir = made(8);
    for i in 4..8 {
        changed(&file_of(dir.path(), i), |run| {
            run["run"]["scenario"]["gate"] = serde_json::json!({"margin": "5%"});
            run["run"]["scenario"]["claim"] = serde_json::json!([{"says": "fast"}]);
        });
    }
    assert_eq!(of(&json(&[dir.path().to_str().unwrap()]), "docker")["notes"], serde_json::json!([]));
}

#[test]
fn runs_of_one_id_and_time_that_differ_are_ordered_by_content() {
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let made = made(2);
    let [first, second] = [0, 1].map(|i| file_of(made.path(), i));
    let of_first: Value = serde_json::from_slice(&fs::read(&first).unwrap()).unwrap();
    changed(&second, |run| {
        for key in ["id", "started_at"] {
            run["run"][key] = of_first["run"][key].clone();
        }
    });
    for (dir, names) in dirs.iter().zip([["a", "b"], ["b", "a"]]) {
        for (name, file) in names.iter().zip([&first, &second]) {
            fs::create_dir(dir.path().join(name)).unwrap();
            fs::copy(file, dir.path().join(name).join("results.json")).unwrap();
        }
    }
    let [one, other] = dirs.each_ref().map(|dir| json(&[dir.path().to_str().unwrap()]));
    assert_eq!(one["runs"].as_array().unwrap().len(), 2);
    assert_eq!(one, other);
}

#[test]
fn a_file_with_more_targets_than_a_scenario_can_have_is_damaged() {
    let dir = made(2);
    changed(&file_of(dir.path(), 1), |run| {
        let target = run["targets"][0].clone();
        run["targets"] = vec![target; 65].into();
    });
    let json = json(&[dir.path().to_str().unwrap()]);
    assert_eq!(json["runs"].as_array().unwrap().len(), 1);
    let why = json["left_out"][0]["why"].as_str().unwrap();
    assert!(why.contains("damaged: it has 65 targets"), "{why}");
}

#[test]
fn damaged_and_foreign_files_are_named_and_left_out_and_an_error_only_if_that_is_asked_for() {
    let dir = made(12);
    let path = |i| file_of(dir.path(), i);
    fs::write(path(0), "").unwrap();
    let whole = fs::read(path(1)).unwrap();
    fs::write(path(1), &whole[..whole.len() / 2]).unwrap();
    changed(&path(2), |run| run["schema"] = "bootrace.results/9".into());
    fs::write(path(3), "{\"name\": \"someone else's\"}").unwrap();
    changed(&path(4), |run| run["run"]["started_at"] = "yesterday".into());
    fs::write(
        path(5),
        String::from_utf8(whole).unwrap().replacen("\"ready\": ", "\"ready\": NaN, \"x\": ", 1),
    )
    .unwrap();
    fs::write(path(6), "\u{1b}[31m{".repeat(1000)).unwrap();
    let arguments = [dir.path().to_str().unwrap()];
    let output = history(&arguments);
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(0), "{err}");
    assert!(out.contains("history of 5 runs"), "{out}");
    for sign in [
        "7 files could not be read",
        "results.json: damaged",
        "\"bootrace.results/9\"",
        "no \"schema\"",
        "and 2 more",
    ] {
        assert!(err.contains(sign), "no {sign:?} in\n{err}");
    }
    assert!(!err.contains('\u{1b}'));
    let json = json(&arguments);
    let left_out = json["left_out"].as_array().unwrap();
    assert_eq!(left_out.len(), 7);
    assert!(left_out[4]["why"].as_str().unwrap().contains("started_at"), "{left_out:#?}");
    assert_eq!(history(&[arguments[0], "--strict"]).status.code(), Some(1));
}

#[test]
fn where_there_is_no_run_or_none_that_is_asked_for_the_exit_code_is_2() {
    let empty = tempfile::tempdir().unwrap();
    let output = history(&[empty.path().to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("there is no run below"), "{}", text(&output.stderr));
    let output = history(&["no/such/folder"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("no/such/folder"), "{}", text(&output.stderr));
    let one = made(1);
    let path = one.path().to_str().unwrap();
    let output = history(&[path, "--target", "podman"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("quickstart/docker"), "{}", text(&output.stderr));
    assert_eq!(history(&[path, "--metric", "startup.nothing"]).status.code(), Some(2));
    assert_eq!(history(&[path]).status.code(), Some(0));
}

#[test]
fn runs_without_a_good_sample_are_counted_and_few_samples_have_no_interval() {
    let dir = made(9);
    changed(&file_of(dir.path(), 3), |run| {
        for sample in run["samples"].as_array_mut().unwrap() {
            (sample["outcome"], sample["error"]) = ("failed".into(), "no".into());
        }
    });
    changed(&file_of(dir.path(), 4), |run| run["samples"] = Value::Array(Vec::new()));
    changed(&file_of(dir.path(), 5), |run| run["samples"].as_array_mut().unwrap().truncate(18));
    let json = json(&[dir.path().to_str().unwrap()]);
    let docker = of(&json, "docker");
    assert_eq!(docker["runs_without_value"], serde_json::json!([3, 4]));
    let points = docker["points"].as_array().unwrap();
    assert_eq!(points.len(), 7);
    assert_eq!((&points[3]["run"], &points[3]["n"], &points[3]["low"]), (&5.into(), &5.into(), &Value::Null));
    assert_eq!(docker["changes"], serde_json::json!([]));
}

#[test]
fn foreign_text_in_runs_is_harmless_on_the_page() {
    let hostile = "</script><img src=x onerror=alert(1)>\u{1b}[31m\u{202e}";
    let dir = made(14);
    for i in 0..14 {
        changed(&file_of(dir.path(), i), |run| {
            let source = &mut run["run"]["source"];
            source["branch"] = hostile.into();
            source["url"] =
                if i % 2 == 0 { "javascript:alert(1)//x" } else { "https://h/\" onclick=x" }.into();
            if i > 6 {
                source["commit"] = hostile.into();
                run["run"]["bootrace_version"] = hostile.into();
                for sample in run["samples"].as_array_mut().unwrap() {
                    let ready = sample["timeline_ns"]["ready"].as_u64().unwrap();
                    sample["timeline_ns"]["ready"] = (ready * 2).into();
                }
            }
            run["run"]["scenario"]["name"] = format!("../{hostile}").into();
            run["run"]["id"] = hostile.into();
            run["host"]["hostname"] = hostile.into();
            run["targets"][1]["name"] = hostile.into();
            for sample in run["samples"].as_array_mut().unwrap() {
                if sample["target"] == "docker" {
                    sample["target"] = hostile.into();
                }
            }
        });
    }
    let out = tempfile::tempdir().unwrap();
    let output = history(&[dir.path().to_str().unwrap(), "--out", out.path().to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let shown = text(&output.stdout);
    assert!(
        shown.contains("img src=x") && !shown.contains('\u{1b}') && !shown.contains('\u{202e}'),
        "{shown}"
    );
    let page = fs::read_to_string(out.path().join("index.html")).unwrap();
    assert!(page.contains("default-src 'none'") && page.contains("&lt;img"));
    for not in ["<img", "<script", "javascript:", "\" onclick", "\u{1b}", "\u{202e}"] {
        assert!(!page.contains(not), "{not:?} is in the page");
    }
    let charts: Vec<_> =
        fs::read_dir(out.path().join("charts")).unwrap().map(|e| e.unwrap().path()).collect();
    assert_eq!(charts.len(), 1);
    let svg = fs::read_to_string(&charts[0]).unwrap();
    assert!(!svg.contains("<img") && !svg.contains('\u{1b}') && svg.contains("<title id=\"t\">"));
}

/// The peak of the resident set, in bytes, of a program that ends well.
#[expect(unsafe_code, reason = "rustix has no wait4")]
fn peak_of(mut command: Command) -> u64 {
    let mut child = command.stdout(std::process::Stdio::null()).process_group(0).spawn().unwrap();
    let (mut status, mut usage) = (0, std::mem::MaybeUninit::<libc::rusage>::zeroed());
    // SAFETY: both are written by the call and outlive it; the child is ours and nobody else waits for it.
    let waited = unsafe { libc::wait4(child.id() as i32, &raw mut status, 0, usage.as_mut_ptr()) };
    assert_eq!((waited, status), (child.id() as i32, 0));
    let _ = child.try_wait();
    // SAFETY: the call succeeded, and zeroes are an rusage too.
    unsafe { usage.assume_init() }.ru_maxrss as u64 * 1024
}

#[test]
fn of_a_file_nothing_is_kept_but_its_points() {
    let dir = made(1000);
    let size: u64 = fs::read_dir(dir.path())
        .unwrap()
        .map(|e| fs::metadata(e.unwrap().path().join("results.json")).unwrap().len())
        .sum();
    let mut command = Command::new(env!("CARGO_BIN_EXE_bootrace"));
    command.arg("history").arg(dir.path()).arg("--out").arg(dir.path().join("out"));
    let peak = peak_of(command);
    println!("{} MiB of results, {} MiB at most in memory", size >> 20, peak >> 20);
    // 10,000 such runs have to do with 500 MB; were these kept, they alone would be more than the bound.
    assert!(size > 60 << 20 && peak < 56 << 20, "{} MiB of results, {} MiB at most", size >> 20, peak >> 20);
    // And the page stays one that a browser shows.
    let page = fs::metadata(dir.path().join("out/index.html")).unwrap().len();
    assert!(page < 2 << 20, "{page} bytes");
}
