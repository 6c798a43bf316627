//! A run as criterion's benchmarks. Includes the bench target's module, since no crate can link to a bench.

#[path = "../benches/startup/replay.rs"]
mod replay;

use std::{fs, path::Path, time::Duration};

use bootrace::{
    kind::Kind,
    sample::{Host, Image, Outcome, Results, Run, SCHEMA, Sample, TargetRecord, Work},
};
use criterion::Criterion;
use replay::{Metric, Series};

const MS: u64 = 1_000_000;

fn sample(target: &str, startup: Option<u64>) -> Sample {
    Sample {
        target: target.into(),
        round: 0,
        position: 0,
        warmup: false,
        outcome: Outcome::Ok,
        error: None,
        timeline_ns: bootrace::sample::Timeline { ready: startup, ..Default::default() },
        memory_bytes: Default::default(),
        cpu_ns: Default::default(),
        identity: None,
        work_ns: Work::default(),
        interference: None,
        disk: None,
        isolation: None,
        surroundings: None,
        boot_ns: None,
    }
}

fn results(targets: &[&str], samples: Vec<Sample>) -> Results {
    let target = |name: &&str| {
        let kind = Kind::ALL.into_iter().find(|kind| kind.name() == *name).unwrap_or(Kind::Native);
        TargetRecord::without_vm(name.to_string(), kind, serde_json::Value::Null)
    };
    Results {
        schema: SCHEMA.into(),
        run: Run {
            id: "quickstart-1".into(),
            started_at: "2026-01-02T03:04:05Z".into(),
            seed: 1,
            bootrace_version: "0".into(),
            planned: samples.len() as u32,
            ..Run::default()
        },
        host: Host::default(),
        image: Image {
            distribution: "debian".into(),
            suite: "bookworm".into(),
            source: "mmdebstrap".into(),
            ..Image::default()
        },
        targets: targets.iter().map(target).collect(),
        samples,
        density: Vec::new(),
    }
}

/// Eleven values that are far apart, in no order, with a median of 300 ms.
const STARTUPS: [u64; 11] = [310, 90, 250, 300, 4000, 270, 305, 280, 500, 290, 900];

fn startups(target: &str, n: usize) -> Vec<Sample> {
    STARTUPS[..n].iter().map(|ms| sample(target, Some(ms * MS))).collect()
}

/// criterion as `cargo bench` has it, but quick and without plots.
fn criterion(dir: &Path) -> Criterion {
    Criterion::default().output_directory(dir).without_plots().nresamples(100)
}

fn json(path: &Path) -> serde_json::Value {
    serde_json::from_slice(&fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))).unwrap()
}

#[test]
fn criterion_gets_every_sample_in_the_order_taken_and_shows_their_median() {
    let dir = tempfile::tempdir().unwrap();
    let samples = startups("docker", 11);
    let series = replay::series("quickstart", &[Metric::Startup], &results(&["docker"], samples));
    assert_eq!(replay::replay(&mut criterion(dir.path()), &series), []);

    let saved = dir.path().join("quickstart/startup/docker/new");
    let times = json(&saved.join("sample.json"));
    assert_eq!(times["times"], serde_json::json!(STARTUPS.map(|ms| (ms * MS) as f64)));
    assert_eq!(times["iters"], serde_json::json!([1.0_f64; 11].to_vec()));
    assert_eq!(json(&saved.join("estimates.json"))["median"]["point_estimate"], (300 * MS) as f64);
    let benchmark = json(&saved.join("benchmark.json"));
    assert_eq!(benchmark["full_id"], "quickstart/startup/docker");
}

#[test]
fn warmups_failures_and_samples_never_ready_are_not_replayed() {
    let ready = Some(5 * MS);
    let samples = vec![
        Sample { warmup: true, ..sample("native", ready) },
        Sample { outcome: Outcome::Failed, ..sample("native", ready) },
        Sample { outcome: Outcome::TimedOut, ..sample("native", None) },
        sample("native", None),
        sample("native", Some(0)),
        sample("other", ready),
        sample("native", Some(7 * MS)),
    ];
    let series = replay::series("s", &[Metric::Startup], &results(&["native"], samples));
    assert_eq!(series.len(), 1);
    assert_eq!(series[0].samples, [Duration::from_millis(7)]);
}

#[test]
fn the_work_of_a_scenario_is_a_benchmark_of_its_own() {
    let mut work = sample("native", Some(MS));
    work.work_ns.wall = Some(80 * MS);
    let series =
        replay::series("s", &[Metric::Startup, Metric::Work], &results(&["native"], vec![work.clone()]));
    let one = |metric, ms| Series {
        scenario: "s".into(),
        metric,
        target: "native".into(),
        samples: vec![Duration::from_millis(ms)],
    };
    assert_eq!(series, [one(Metric::Startup, 1), one(Metric::Work, 80)]);
}

#[test]
fn a_target_with_too_few_samples_is_handed_back_and_the_others_are_replayed() {
    let dir = tempfile::tempdir().unwrap();
    let samples = [startups("docker", 10), startups("libvirt", 9)].concat();
    let series =
        replay::series("quickstart", &[Metric::Startup], &results(&["docker", "libvirt", "native"], samples));
    let few = replay::replay(&mut criterion(dir.path()), &series);
    let few: Vec<_> = few.iter().map(|s| (s.target.as_str(), s.samples.len())).collect();
    assert_eq!(few, [("libvirt", 9), ("native", 0)]);
    assert!(dir.path().join("quickstart/startup/docker/new/sample.json").exists());
    assert!(!dir.path().join("quickstart/startup/libvirt").exists());
}
