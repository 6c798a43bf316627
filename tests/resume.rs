//! `bootrace run --resume`: what it refuses, and a real run that is killed in a sample and goes on.

mod common;

use std::{
    fs,
    io::{BufRead, BufReader},
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use bootrace::{digest::hex, sample::Outcome, scenario::Scenario};
use common::{Bench, Ran, boot_id, bootrace, holds_to_schema, left_over};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// An interrupted run in `out`, and the scenario that it came from.
struct Interrupted {
    dir: tempfile::TempDir,
}

impl Interrupted {
    /// The recorded run, as if this program had been killed after 7 samples of it, with a change.
    fn new(change: impl FnOnce(&mut Value)) -> Self {
        let run = Interrupted { dir: tempfile::tempdir().unwrap() };
        let recorded = fs::read("tests/report/recorded-run.json").unwrap();
        let mut results: Value = serde_json::from_slice(&recorded).unwrap();
        let text = bootrace::scenario::QUICKSTART;
        fs::write(run.scenario(), text).unwrap();
        let scenario = Scenario::parse(text, "a test").unwrap().to_json();
        let program = fs::read(env!("CARGO_BIN_EXE_bootrace")).unwrap();
        let digest = hex(Sha256::digest(scenario.to_string()));
        results["run"]["scenario_file"] = json!({ "path": run.scenario(), "digest": digest });
        results["run"]["scenario"] = scenario;
        results["run"]["program_digest"] = hex(Sha256::digest(program)).into();
        results["run"]["interrupted"] = true.into();
        results["host"]["boot_id"] = boot_id().into();
        results["samples"].as_array_mut().unwrap().truncate(7);
        change(&mut results);
        fs::create_dir_all(run.path()).unwrap();
        fs::write(run.path().join("results.json"), results.to_string()).unwrap();
        run
    }

    fn scenario(&self) -> PathBuf {
        self.dir.path().join("quickstart.toml")
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("out/quickstart-20261125T042336Z-1481129760")
    }

    fn resume(&self, arguments: &[&str]) -> Ran {
        let mut command = bootrace(&["run", "--resume"]);
        Ran::new(command.arg(self.path()).args(arguments).output().unwrap(), None)
    }

    /// Asserts that it is refused for this reason and left as it is.
    fn is_refused(&self, arguments: &[&str], signs: &[&str]) {
        let before = fs::read(self.path().join("results.json")).unwrap();
        self.resume(arguments).fails(2, signs);
        assert_eq!(fs::read(self.path().join("results.json")).unwrap(), before);
        assert_eq!(fs::read_dir(self.path()).unwrap().count(), 1);
    }
}

/// Another option that the run would refuse as the last one: all checks before it were passed.
const PASSED: (&[&str], &str) =
    (&["--tune"], "--tune changes settings of the host, and its first samples ran without");

#[test]
fn a_run_that_is_no_interrupted_one_is_refused() {
    let nothing = tempfile::tempdir().unwrap();
    let resume = |dir: &str| Ran::new(bootrace(&["run", "--resume", dir]).output().unwrap(), None);
    resume("/no/such/run").fails(2, &["/no/such/run can't be resumed", "No such file", "fix: "]);
    resume(nothing.path().to_str().unwrap()).fails(2, &["results.json", "No such file"]);
    fs::write(nothing.path().join("ab.json"), "{}").unwrap();
    resume(nothing.path().to_str().unwrap()).fails(2, &["it is an A/B", "fix: run the A/B again"]);

    let finished = Interrupted::new(|results| results["run"]["interrupted"] = false.into());
    finished.is_refused(&[], &["it is finished", "fix: `bootrace report ", "start a new run: bootrace run "]);
    let side = Interrupted::new(|r| r["run"]["ab"] = json!({ "id": "ab-1", "side": "new" }));
    side.is_refused(&[], &["it is the new side of an A/B"]);
    let filling = Interrupted::new(|results| {
        results["density"] = json!([{
            "target": "docker", "most": 4, "startup_limit_ns": 1, "memory_left_bytes": 1, "settle_ns": 1, "before": {},
            "steps": [], "bursts": [], "died": 0,
        }]);
    });
    filling.is_refused(
        &[],
        &["it had begun to fill the host with instances (density)", "fix: `bootrace report "],
    );
}

#[test]
fn damaged_and_foreign_results_are_refused() {
    let other = Interrupted::new(|results| results["schema"] = "bootrace.results/3".into());
    other.is_refused(&[], &["the schema \"bootrace.results/3\"", "fix: use the bootrace that wrote it"]);
    let half = Interrupted::new(|_| {});
    let bytes = fs::read(half.path().join("results.json")).unwrap();
    fs::write(half.path().join("results.json"), &bytes[..bytes.len() / 2]).unwrap();
    half.is_refused(&[], &["is damaged", "fix: "]);
    type Change = fn(&mut Value);
    let damages: [(Change, &str); 4] = [
        (|r| r["samples"].as_array_mut().unwrap().swap(0, 4), "its samples do not follow the plan"),
        (|r| r["run"]["id"] = "../x".into(), "its id is none of a run"),
        (|r| r["targets"][0]["name"] = "other".into(), "its targets are not those of its scenario"),
        (|r| r["run"]["scenario"]["image"]["suite"] = "--help".into(), "\"--help\" is not a suite"),
    ];
    for (damage, sign) in damages {
        Interrupted::new(damage).is_refused(&[], &["results.json", sign]);
    }
}

#[test]
fn another_boot_or_program_is_refused() {
    type Change = fn(&mut Value);
    let changes: [(Change, &[&str]); 4] = [
        (|r| r["host"]["boot_id"] = "another".into(), &["the run's boot is another, this one is "]),
        (
            |r| r["run"]["bootrace_version"] = "0.0.1".into(),
            &["bootrace 0.0.1 took its samples", "fix: use that version"],
        ),
        (
            |r| r["run"]["program_digest"] = "0".repeat(64).into(),
            &["another build of bootrace", "fix: use that executable"],
        ),
        (|r| r["run"]["program_digest"] = Value::Null, &["sha256 of its executable is unknown"]),
    ];
    for (change, signs) in changes {
        Interrupted::new(change).is_refused(&[], signs);
    }
}

#[test]
fn a_changed_scenario_is_refused_with_its_key_and_a_changed_comment_is_none() {
    let run = Interrupted::new(|_| {});
    let text = fs::read_to_string(run.scenario()).unwrap();
    let with = |from: &str, to: &str| {
        assert!(text.contains(from), "{text}");
        fs::write(run.scenario(), text.replace(from, to)).unwrap();
    };
    with("settle = \"1s\"", "settle = \"2s\"");
    run.is_refused(
        &[],
        &["sampling.settle was \"1s\" and is \"2s\"", "fix: undo the change, or start a new run"],
    );
    // What the command line may replace.
    with("samples = 10", "samples = 11");
    run.is_refused(&[], &["its targets or numbers of rounds differ"]);
    with("[sampling]", "[sampling]\nsettel = 1");
    run.is_refused(&[], &["is not that of the run any more", "sampling.settel"]);
    with("[sampling]", "# a comment\n[sampling]");
    run.is_refused(PASSED.0, &[PASSED.1]);
    fs::remove_file(run.scenario()).unwrap();
    run.is_refused(PASSED.0, &[PASSED.1]);
    // One in the program.
    let built_in = Interrupted::new(|results| results["run"]["scenario_file"] = Value::Null);
    built_in.is_refused(PASSED.0, &[PASSED.1]);
}

#[test]
fn options_that_would_change_the_plan_are_refused_unless_they_name_the_runs_own() {
    let run = Interrupted::new(|_| {});
    for (arguments, sign) in [
        (&["--samples", "40"][..], "--samples 40 differs from the run's 10\n    fix: leave --samples out"),
        (&["--warmup", "0"], "--warmup 0 differs from the run's 1"),
        (&["--seed", "7"], "--seed 7 differs from the run's 1481129760"),
        (
            &["--targets", "native,docker"],
            "--targets native,docker differs from the run's native, docker, libvirt",
        ),
        (&["--out", "elsewhere"], "--out elsewhere differs from the run's /"),
        (&["redis"], "the scenario redis is not that of the run any more: "),
        (&["quickstart", "redis"], "it has one scenario"),
        (&["no-such"], "there is no scenario \"no-such\""),
        (&["--build"], "cannot be used with"),
        (&["--commit", "0123456"], "cannot be used with"),
        PASSED,
    ] {
        run.is_refused(arguments, &[sign]);
    }
    let (scenario, out) = (run.scenario(), run.dir.path().join("out"));
    let same =
        [scenario.to_str().unwrap(), "--out", out.to_str().unwrap(), "--samples", "10", "--warmup", "1"];
    let more = ["--seed", "1481129760", "--targets", "libvirt,native,docker"];
    run.is_refused(&[&same[..], &more, PASSED.0].concat(), &[PASSED.1]);
}

/// A part of a run that doesn't outlive a test that fails.
struct Part(Child);

impl Part {
    /// Starts the run, or goes on with it, until a round has ended.
    fn until_round(bench: &Bench, round: u32, arguments: &[&str]) -> Self {
        let mut command = bench.command(arguments);
        let mut child = command.stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let part = Part(child);
        let sign = format!("round {round} of 4");
        let mut before = String::new();
        loop {
            let line = lines.next().unwrap_or_else(|| panic!("it ended before {sign:?}:\n{before}")).unwrap();
            if line.starts_with(&sign) {
                break;
            }
            before += &(line + "\n");
        }
        // The rest is read, so that the program never blocks on it.
        std::thread::spawn(move || lines.for_each(drop));
        part
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
#[ignore = "needs docker and libvirt: scripts/test runs it"]
fn a_run_that_is_killed_in_a_sample_and_then_interrupted_goes_on_to_its_end() {
    let bench = Bench::new(
        "\n[workload]\ncommand = [\"sh\", \"-c\", \"echo ready; exec sleep infinity\"]\nready = { line = \"ready\" }\n\
         [resources]\nmemory = \"256MiB\"\n\
         [sampling]\nsamples = 3\nwarmup = 1\nsettle = \"1s\"\nidle = \"0s\"\ntimeout = \"120s\"\n",
    );
    let mut killed = Part::until_round(&bench, 1, &[]);
    let dir = bench.latest().canonicalize().unwrap();
    let resume = ["--resume", dir.to_str().unwrap()];
    bench
        .run(&resume)
        .fails(2, &["can't be resumed", "it is still going on", "fix: wait until it has ended"]);
    killed.0.kill().unwrap();
    killed.0.wait().unwrap();
    assert_ne!(left_over(), Vec::<String>::new(), "it was killed in a sample");
    let first = bench.results().unwrap();
    assert!(first.run.interrupted && first.samples.len() >= 3);
    // As if it had been killed while it saved.
    fs::write(dir.join(".bootrace-x1y2z3"), "{").unwrap();

    let mut interrupted = Part::until_round(&bench, 3, &resume);
    let pid = interrupted.0.id().to_string();
    assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    assert_eq!(interrupted.0.wait().unwrap().code(), Some(130));
    assert_eq!(left_over(), Vec::<String>::new());
    let second = bench.results().unwrap();
    assert!(second.run.interrupted && (9..12).contains(&second.samples.len()));

    let ran = bench.run(&resume);
    assert_eq!(ran.code, Some(0), "{}\n{}", ran.stdout, ran.stderr);
    assert_eq!(left_over(), Vec::<String>::new());
    let results = ran.results.as_ref().unwrap();
    holds_to_schema(results);
    assert_eq!(results.run.id, first.run.id);
    assert_eq!(results.samples[..first.samples.len()], first.samples, "what was taken is kept as it is");
    assert_eq!(results.samples[..second.samples.len()], second.samples);
    let scenario = Scenario::load(&bench.scenario()).unwrap();
    let planned = bootrace::plan::plan(3, &scenario.sampling, results.run.seed);
    assert_eq!(results.samples.len(), planned.len());
    for (sample, trial) in results.samples.iter().zip(planned) {
        let place = (&results.targets[trial.target].name, trial.round, trial.position, trial.warmup);
        assert_eq!((&sample.target, sample.round, sample.position, sample.warmup), place);
        assert_eq!(sample.outcome, Outcome::Ok, "{:?}", sample.error);
    }
    let had: Vec<u32> = results.run.resumptions.iter().map(|resumption| resumption.samples).collect();
    assert_eq!(had, [first.samples.len() as u32, second.samples.len() as u32]);
    assert!(!results.run.interrupted);
    assert!(first.run.wall_ns < second.run.wall_ns && second.run.wall_ns < results.run.wall_ns);
    let [summary, page] =
        ["summary.md", "index.html"].map(|file| fs::read_to_string(dir.join(file)).unwrap());
    for n in had {
        let caveat = format!("the run was interrupted after {n} samples and resumed after ");
        let table = ran.stdout.split_whitespace().collect::<Vec<_>>().join(" ");
        for text in [&table, &summary, &page] {
            assert!(text.contains(&caveat), "no {caveat:?} in {text}");
        }
    }
    assert!(!dir.join(".bootrace-x1y2z3").exists());
    bench.run(&resume).fails(2, &["can't be resumed", "it is finished"]);
}
