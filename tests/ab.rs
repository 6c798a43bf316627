//! `bootrace ab`: its turns, its sides, and what becomes of them when something dies.

mod common;

use std::{
    collections::BTreeSet,
    fs,
    io::{BufRead, BufReader},
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::Path,
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

use bootrace::sample::{Outcome, Results, Side};
use common::{
    Bench, Ran,
    ab::{Run, SIDES, ab, kill, ran, record, scenario, toml},
    left_over,
};

fn results(out: &Path, side: Side) -> Results {
    bootrace::report::load(&out.join("latest").join(side.name())).unwrap()
}

// Without engines.

#[test]
fn a_side_that_is_nothing_exits_with_2_and_all_that_was_tried() {
    let out = tempfile::tempdir().unwrap();
    let ran = ran(ab("quickstart", "no-such-side", out.path()));
    ran.fails(
        2,
        &["--new no-such-side", "no scenario (shipped are", "no executable file", "no git revision here"],
    );
    assert_eq!(ran.stdout, "");
    assert_eq!(fs::read_dir(out.path()).unwrap().count(), 0);
}

#[test]
fn sides_that_cant_be_paired_or_are_wrong_exit_with_2_before_anything_runs() {
    let out = tempfile::tempdir().unwrap();
    let (ten, twenty) =
        (scenario("0", "samples = 10\nwarmup = 1"), scenario("0", "samples = 20\nwarmup = 2"));
    let both = || ab(&toml(&ten), &toml(&twenty), out.path());
    ran(both()).fails(2, &["base has 1 warm-up and 10 measured rounds, new 2 and 20", "--samples"]);
    let mut command = both();
    command.args(["--samples", "3", "--warmup", "0", "quickstart"]);
    ran(command).fails(2, &["both sides are scenarios", "leave it out"]);
    let wrong = Bench::with_text("name = 1\n");
    ran(ab(&toml(&ten), &toml(&wrong), out.path())).fails(2, &["test.toml:1:8: name"]);
    let mut command = ab("quickstart", "quickstart", out.path());
    command.args(["--targets", "podman"]);
    ran(command).fails(2, &["podman"]);
    assert_eq!(fs::read_dir(out.path()).unwrap().count(), 0);
}

// With them.

/// The runs of the containers that Docker started, in order, since a time by its clock.
fn docker_starts(since: &str) -> Vec<String> {
    let until = now();
    let format = "{{index .Actor.Attributes \"bootrace.run\"}}";
    let arguments =
        ["events", "--since", since, "--until", &until, "--filter", "event=start", "--format", format];
    let output = Command::new("docker").args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

fn now() -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    format!("{}.{:09}", now.as_secs(), now.subsec_nanos())
}

#[test]
#[ignore = "needs docker and libvirt: scripts/test runs it"]
fn two_scenarios_are_measured_pair_by_pair_and_a_difference_is_found() {
    let out = tempfile::tempdir().unwrap();
    let (base, new) =
        (scenario("0.1", "samples = 6\nwarmup = 1"), scenario("0.3", "samples = 6\nwarmup = 1"));
    let since = now();
    let mut command = ab(&toml(&base), &toml(&new), out.path());
    command.args(["--targets", "native,docker"]);
    // What CI says is said of its checkout, and these scenarios are in none.
    command.env("GITHUB_SHA", "0123456789abcdef0123456789abcdef01234567");
    let ran = ran(command);
    let starts = docker_starts(&since);
    assert_eq!(ran.code, Some(0), "{}{}", ran.stdout, ran.stderr);
    assert_eq!(left_over(), Vec::<String>::new());

    let dir = fs::read_link(out.path().join("latest")).unwrap();
    let id = dir.to_str().unwrap();
    assert!(id.starts_with("ab-") && id.ends_with("Z-7"), "{id}");
    let mut orders = BTreeSet::new();
    for side in SIDES {
        let results = results(out.path(), side);
        assert_eq!((results.run.seed, results.run.planned, results.samples.len()), (7, 14, 14));
        assert!(!results.run.interrupted);
        assert_eq!(results.run.source, None);
        assert!(out.path().join("latest").join(side.name()).join("index.html").exists());
        let ab = results.run.ab.clone().unwrap();
        assert_eq!((ab.id.as_str(), ab.side), (id, side));
        assert_eq!(results.run.id, format!("{id}-{side}"));
        assert!(
            !results.run.warnings.iter().any(|w| w.contains("other bootrace")),
            "{:?}",
            results.run.warnings
        );
        orders.insert(results.samples.iter().map(|s| (s.round, s.target.clone())).collect::<Vec<_>>());
        Ran::new(output(0), Some(results)).good();
    }
    assert_eq!(orders.len(), 1, "both sides have the same order");

    // What Docker saw is what is on record.
    let record = record(out.path());
    let pairs = record["pairs"].as_array().unwrap();
    assert_eq!(pairs.len(), 14);
    let first =
        pairs.iter().filter(|pair| pair["target"] == "docker").map(|pair| pair["first"].as_str().unwrap());
    let expected: Vec<String> = first
        .flat_map(|first| [first, if first == "base" { "new" } else { "base" }])
        .map(|side| format!("{id}-{side}"))
        .collect();
    assert_eq!(starts, expected);
    assert_eq!(record["seed"], 7);
    let this = fs::canonicalize(env!("CARGO_BIN_EXE_bootrace")).unwrap();
    assert_eq!(record["sides"][0]["program"], this.to_str().unwrap());
    assert_eq!(record["bootrace_version"], env!("CARGO_PKG_VERSION"));

    // 200 ms of sleep.
    for target in ["native", "docker"] {
        let median = |side| {
            let results = results(out.path(), side);
            let mut of: Vec<u64> = results
                .samples
                .iter()
                .filter(|s| s.target == target && !s.warmup)
                .map(|s| s.timeline_ns.startup().unwrap())
                .collect();
            of.sort_unstable();
            of[of.len() / 2]
        };
        assert!(median(Side::New) > median(Side::Base) + 100_000_000, "{target}");
        assert!(ran.stdout.contains(&format!("{target} startup ")), "{}", ran.stdout);
    }
    assert!(ran.stderr.contains("round 7 of 7: "), "{}", ran.stderr);
}

fn output(code: i32) -> Output {
    Output {
        status: std::os::unix::process::ExitStatusExt::from_raw(code << 8),
        stdout: Vec::new(),
        stderr: Vec::new(),
    }
}

#[test]
#[ignore = "needs docker and libvirt: scripts/test runs it"]
fn a_target_that_one_side_lacks_runs_alone_and_a_failed_sample_fails_the_ab() {
    let out = tempfile::tempdir().unwrap();
    let base = scenario("0", "samples = 2\nwarmup = 0\n[[target]]\nkind = \"native\"");
    let new = scenario(
        "0",
        "samples = 2\nwarmup = 0\n[[target]]\nkind = \"docker\"\n[[target]]\nkind = \"native\"",
    );
    let ran_well = ran(ab(&toml(&base), &toml(&new), out.path()));
    assert_eq!(ran_well.code, Some(0), "{}{}", ran_well.stdout, ran_well.stderr);
    assert_eq!(SIDES.map(|side| results(out.path(), side).samples.len()), [2, 4]);
    assert_eq!(record(out.path())["pairs"].as_array().unwrap().len(), 2);

    let bad = Bench::new(
        "\n[workload]\ncommand = [\"false\"]\nready = { exit = 0 }\n[sampling]\nsamples = 5\nwarmup = 0\nsettle = \"0s\"\nidle = \"0s\"\n",
    );
    let mut command = ab(&toml(&base), &toml(&bad), out.path());
    command.args(["--targets", "native", "--samples", "5"]);
    let failed = ran(command);
    failed.fails(1, &["3 of 3 samples failed", "/new"]);
    assert_eq!(results(out.path(), Side::Base).samples.len(), 5);
    // Given up after three, and the other side goes on.
    assert_eq!(results(out.path(), Side::New).samples.len(), 3);
    assert_eq!(left_over(), Vec::<String>::new());
}

#[test]
#[ignore = "needs docker and libvirt: scripts/test runs it"]
fn an_executable_is_a_side_and_one_that_is_no_bootrace_is_refused() {
    let out = tempfile::tempdir().unwrap();
    let bench = scenario("0", "samples = 2\nwarmup = 0");
    let copy = out.path().join("another-bootrace");
    fs::copy(env!("CARGO_BIN_EXE_bootrace"), &copy).unwrap();
    let copy = copy.display().to_string();
    let reports = out.path().join("reports");
    let run = |base: &str, new: &str, out: &Path| {
        let mut command = ab(base, new, out);
        command.args(["--targets", "native", "--json"]).arg(toml(&bench));
        ran(command)
    };
    let well = run(&copy, &format!("binary:{}", env!("CARGO_BIN_EXE_bootrace")), &reports);
    assert_eq!(well.code, Some(0), "{}{}", well.stdout, well.stderr);
    let json: serde_json::Value = serde_json::from_str(&well.stdout).unwrap();
    assert_eq!(json["pairs"][0]["paired"], true);
    let row = &json["pairs"][0]["rows"][0];
    assert_eq!(
        (&row["target"], &row["base"]["n"], &row["new"]["n"]),
        (&"native".into(), &2.into(), &2.into())
    );
    assert_eq!(record(&reports)["sides"][0]["argument"], copy.as_str());

    // A scenario and an executable: both have the one scenario there is.
    let mut mixed = ab(&toml(&bench), &copy, &reports);
    let mixed = ran({
        mixed.args(["--targets", "native"]);
        mixed
    });
    assert_eq!(mixed.code, Some(0), "{}{}", mixed.stdout, mixed.stderr);
    assert_eq!(record(&reports)["sides"][1]["scenario"], toml(&bench));

    let yes = out.path().join("yes");
    fs::write(&yes, "#!/bin/sh\nexec yes\n").unwrap();
    fs::set_permissions(&yes, fs::Permissions::from_mode(0o755)).unwrap();
    for foreign in ["binary:/bin/true", yes.to_str().unwrap()] {
        let reports = tempfile::tempdir().unwrap();
        run(&copy, foreign, reports.path()).fails(
            1,
            &["the new side", "could not be prepared", "it is no bootrace, or one of another version"],
        );
        assert_eq!(fs::read_dir(reports.path()).unwrap().count(), 0, "nothing was measured or is left");
    }
    assert_eq!(left_over(), Vec::<String>::new());
}

/// A long A/B in a process group of its own, once its first round is done and the second has begun.
fn going_on(bench: &Bench, out: &Path) -> Run {
    let mut command = ab(&toml(bench), &toml(bench), out);
    command.args(["--samples", "100", "--warmup", "0", "--targets", "native,docker"]).process_group(0);
    let mut child = command.stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let first = lines.find(|line| line.as_ref().unwrap().starts_with("round 1 of "));
    assert!(first.is_some(), "it ended before its first round");
    // The rest is read, so that the program never blocks on it.
    std::thread::spawn(move || lines.for_each(drop));
    std::thread::sleep(Duration::from_millis(700));
    Run(child)
}

fn samples_are_kept(out: &Path) {
    for side in SIDES {
        let results = results(out, side);
        assert!(results.run.interrupted && (2..200).contains(&results.samples.len()), "{side}");
        assert!(results.samples.iter().all(|s| s.outcome == Outcome::Ok), "{side}");
        assert!(out.join("latest").join(side.name()).join("index.html").exists(), "{side}");
    }
}

#[test]
#[ignore = "needs docker and libvirt: scripts/test runs it"]
fn ctrl_c_and_sigterm_end_both_sides_and_keep_the_samples() {
    let bench = scenario("0.5", "");
    for (signal, whole_group, code) in [("-INT", true, 130), ("-TERM", false, 143), ("-TERM", true, 143)] {
        let out = tempfile::tempdir().unwrap();
        let mut run = going_on(&bench, out.path());
        let sides = run.sides();
        kill(signal, &format!("{}{}", if whole_group { "-" } else { "" }, run.0.id()));
        assert_eq!(run.wait().code(), Some(code), "{signal}");
        assert!(sides.iter().all(|id| !alive(*id)), "the sides have ended before it");
        samples_are_kept(out.path());
        assert_eq!(left_over(), Vec::<String>::new());
    }
}

fn alive(id: u32) -> bool {
    Path::new(&format!("/proc/{id}/cmdline")).exists()
}

#[test]
#[ignore = "needs docker and libvirt: scripts/test runs it"]
fn a_coordinator_that_is_killed_is_missed_by_its_sides_which_clean_up() {
    let bench = scenario("0.5", "");
    let out = tempfile::tempdir().unwrap();
    let mut run = going_on(&bench, out.path());
    let sides = run.sides();
    kill("-KILL", &run.0.id().to_string());
    run.wait();
    let begin = Instant::now();
    while sides.iter().any(|id| alive(*id)) {
        assert!(begin.elapsed() < Duration::from_secs(60), "the sides go on");
        std::thread::sleep(Duration::from_millis(50));
    }
    samples_are_kept(out.path());
    assert_eq!(left_over(), Vec::<String>::new());
}

#[test]
#[ignore = "needs docker and libvirt: scripts/test runs it"]
fn a_side_that_is_killed_ends_the_other_and_leaves_nothing() {
    let bench = scenario("0.5", "");
    for victim in [0, 1] {
        let out = tempfile::tempdir().unwrap();
        let mut run = going_on(&bench, out.path());
        kill("-KILL", &run.sides()[victim].to_string());
        assert_eq!(run.wait().code(), Some(1));
        samples_are_kept(out.path());
        assert_eq!(left_over(), Vec::<String>::new());
    }
}
