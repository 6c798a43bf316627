//! Density on the fake target: the order of starts and removals, every limit, failures and stops in the middle.

#[path = "common/fake.rs"]
mod fixture;

use std::{ffi::OsString, path::Path, time::Duration};

use async_trait::async_trait;
use bootrace::{
    plan::Trial,
    runner::{self, Job, Step, Watch},
    sample::{
        Outcome, Results,
        density::{Density, Limit},
    },
    scenario::{Bytes, Scenario, Span},
};
use fixture::fake_target::{Log, Part};
use tokio_util::sync::CancellationToken;

const SCENARIO: &str = r#"
name = "fake"
[image]
suite = "debian/bookworm"
[workload]
command = ["x"]
ready = { line = "ready" }
[sampling]
samples = 0
warmup = 0
idle = "100ms"
timeout = "500ms"
[density]
instances = 4
memory_left = "64MiB"
settle = "5ms"
"#;

/// Remembers every save, and can stop the run or refuse to save.
#[derive(Default)]
struct Recorder {
    /// Steps and bursts of the last density at each save.
    saved: Vec<(usize, usize)>,
    /// Stops the run when the n-th comes to this step.
    stop_at: Option<(u32, Step, CancellationToken)>,
    refuse_at: Option<usize>,
    /// Panics when the n-th comes to this step.
    panic_at: Option<(u32, Step)>,
}

#[async_trait]
impl Watch for Recorder {
    fn step(&mut self, _done: usize, _trial: &Trial, _target: &str, _step: Step) {}

    fn sampled(&mut self, _results: &Results) -> anyhow::Result<()> {
        Ok(())
    }

    fn filling(&mut self, _target: &str, n: u32, _most: u32, step: Step) {
        assert_ne!(self.panic_at, Some((n, step)), "a bug");
        if let Some((at, which, stop)) = &self.stop_at
            && (n, step) == (*at, *which)
        {
            stop.cancel();
        }
    }

    fn filled(&mut self, results: &Results) -> anyhow::Result<()> {
        let last = results.density.last().unwrap();
        self.saved.push((last.steps.len(), last.bursts.len()));
        anyhow::ensure!(self.refuse_at != Some(self.saved.len()), "the disk is full");
        Ok(())
    }
}

fn job(dir: &Path, log: &Log, parts: &[(&str, &[Part])]) -> Job {
    fixture::job("fake-density", SCENARIO, dir, log, parts)
}

struct Done {
    results: anyhow::Result<Results>,
    log: Vec<String>,
    saved: Vec<(usize, usize)>,
    left: Vec<OsString>,
}

impl Done {
    /// The first target's.
    fn density(&self) -> &Density {
        &self.results.as_ref().unwrap().density[0]
    }

    fn count(&self, what: &str) -> usize {
        self.log.iter().filter(|line| line.starts_with(what)).count()
    }

    /// As many were removed as were staged, last of all, and no file is left.
    fn nothing_is_left(&self) {
        assert_eq!(self.count("remove"), self.count("stage"), "{:?}", self.log);
        assert!(self.left.is_empty(), "{:?}", self.left);
    }
}

async fn run_with(
    parts: &[(&str, &[Part])],
    mut watch: Recorder,
    change: impl FnOnce(&mut Scenario),
) -> Done {
    let (dir, log) = (tempfile::tempdir().unwrap(), Log::default());
    let mut job = job(dir.path(), &log, parts);
    job.scenario.sampling.idle = Span(Duration::from_millis(1));
    change(&mut job.scenario);
    let stop = watch.stop_at.as_ref().map(|(_, _, stop)| stop.clone()).unwrap_or_default();
    let results = runner::run(job, &mut watch, &stop).await;
    let log = log.lock().unwrap().clone();
    let left = std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    Done { results, log, saved: watch.saved, left }
}

async fn run(parts: &[(&str, &[Part])]) -> Done {
    run_with(parts, Recorder::default(), |_| {}).await
}

fn with_density(change: impl FnOnce(&mut bootrace::scenario::Density)) -> impl FnOnce(&mut Scenario) {
    |scenario| change(scenario.density.as_mut().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_of_a_target_stay_until_the_last_is_read_and_the_next_target_comes_after_their_removal() {
    let done = run(&[("a", &[]), ("b", &[])]).await;
    let of = |name: &str| {
        let added = (0..4).flat_map(|_| ["stage", "start"]).chain(["remove"; 4]);
        added.map(|what| format!("{what} {name}")).collect::<Vec<_>>()
    };
    assert_eq!(done.log, [of("a"), of("b")].concat());
    done.nothing_is_left();
    let results = done.results.as_ref().unwrap();
    assert!(!results.run.interrupted && results.samples.is_empty());
    // Each step is on the disk before the next start, and the limit after the removal.
    assert_eq!(done.saved, [[(1, 0), (2, 0), (3, 0), (4, 0), (4, 0)]; 2].concat());
    for density in &results.density {
        assert_eq!((density.limit, density.reached(), density.died), (Some(Limit::Count), 4, 0));
        assert!(density.wall_ns.is_some() && density.removal_ns.is_some());
        let mut last = 0;
        for (step, n) in density.steps.iter().zip(1..) {
            assert_eq!((step.n, step.outcome, &step.error), (n, Outcome::Ok, &None));
            let (t, p) = (step.timeline_ns, step.timeline_ns.phases().unwrap());
            assert_eq!(p.engine + p.boot + p.app, t.startup().unwrap());
            // Not of the app phase: its hello may be read late.
            assert!(t.startup() >= Some(2_000_000), "the fake sleeps for 2 ms before it is ready: {p:?}");
            assert!(t.stopping >= t.ready && t.gone >= t.stopping);
            // All fakes are this very process: each counts it whole.
            assert!(step.footprint_sum_bytes.unwrap() > last, "{step:?}");
            last = step.footprint_sum_bytes.unwrap();
            assert!(step.idle_window_ns >= Some(1_000_000) && step.idle_cpu_sum_ns.is_some());
            assert!(step.host.available_bytes.is_some() && step.daemons_bytes.is_none());
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rounds_come_first_and_their_results_stay() {
    let done = run_with(&[("a", &[])], Recorder::default(), |s| s.sampling.samples = 2).await;
    assert_eq!(done.log[..6], ["stage a", "start a", "remove a"].repeat(2));
    let results = done.results.as_ref().unwrap();
    assert_eq!((results.samples.len(), results.density[0].steps.len()), (2, 4));
    done.nothing_is_left();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_the_targets_that_are_asked_for_are_filled() {
    let only_b = with_density(|density| density.targets = vec!["b".into()]);
    let done = run_with(&[("a", &[]), ("b", &[])], Recorder::default(), only_b).await;
    assert!(done.log.iter().all(|line| line.ends_with(" b")), "{:?}", done.log);
    assert_eq!(done.density().target, "b");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_with_too_little_memory_gets_none() {
    let all = with_density(|density| density.memory_left = Some(Bytes(1 << 50)));
    let done = run_with(&[("a", &[])], Recorder::default(), all).await;
    assert_eq!((done.density().limit, done.log.len()), (Some(Limit::Memory), 0));
    let why = done.density().limit_why.as_deref().unwrap();
    assert!(why.contains("MiB available") && why.ends_with("(density.memory_left)"), "{why}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_is_not_ready_in_time_is_the_limit_and_is_removed_too() {
    let parts = [Part::Good, Part::Good, Part::NeverReady];
    let soon = with_density(|density| density.startup = Some(Span(Duration::from_millis(200))));
    let done = run_with(&[("a", &parts)], Recorder::default(), soon).await;
    let density = done.density();
    assert_eq!((density.limit, density.reached()), (Some(Limit::Startup), 2));
    assert_eq!(density.steps[2].outcome, Outcome::TimedOut);
    let error = density.steps[2].error.as_deref().unwrap();
    assert!(error.contains("within 200ms (density.startup)"), "{error}");
    assert!(density.steps[2].footprint_sum_bytes.is_none() && density.steps[2].timeline_ns.gone.is_some());
    done.nothing_is_left();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_that_fails_ends_its_target_with_the_reason_and_the_next_one_goes_on() {
    for (part, reason) in [
        (Part::StartFails, "number 3: starting a fake: this fake always fails"),
        (Part::Dies, "number 3: the workload ended before it was ready: exit code 3"),
        (Part::Foreign, "number 3: the agent in the image is not this program's own"),
        (Part::Vanishes, "number 3: the fake was ended"),
    ] {
        let parts = [Part::Good, Part::Good, part, Part::Good];
        let burst = with_density(|density| density.bursts = vec![2]);
        let done = run_with(&[("a", &parts), ("b", &[])], Recorder::default(), burst).await;
        let density = done.density();
        assert_eq!((density.limit, density.reached()), (Some(Limit::Failure), 2), "{part:?}");
        let why = density.limit_why.as_deref().unwrap();
        assert!(why.starts_with(reason) && why.contains("the fake says nothing"), "{part:?}: {why}");
        let results = done.results.as_ref().unwrap();
        assert_eq!((density.bursts.len(), results.density[1].bursts.len()), (0, 1));
        assert!(results.run.warnings[0].contains("no burst of 2 on a: "), "{:?}", results.run.warnings);
        assert_eq!(results.density[1].reached(), 4);
        done.nothing_is_left();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_ends_while_others_are_added_is_a_failure_and_is_counted() {
    let parts = [Part::Good, Part::DiesLater, Part::Good];
    let many = with_density(|density| density.instances = 100);
    let done = run_with(&[("a", &parts)], Recorder::default(), many).await;
    let density = done.density();
    assert_eq!((density.limit, density.died), (Some(Limit::Failure), 1));
    let why = density.limit_why.as_deref().unwrap();
    assert!(why.starts_with("number 2 ended while there were ") && why.contains("exit code 3"), "{why}");
    let last = density.steps.last().unwrap();
    assert_eq!((last.outcome, last.error.as_deref()), (Outcome::Ok, Some(why)));
    assert_eq!(density.reached(), last.n - 1, "the last was never there with all others");
    done.nothing_is_left();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_in_the_middle_removes_all_and_keeps_the_readings() {
    for step in [Step::Starting, Step::Settling, Step::Idling] {
        let watch = Recorder { stop_at: Some((3, step, CancellationToken::new())), ..Recorder::default() };
        let slow = with_density(|density| density.settle = Span(Duration::from_millis(50)));
        let done = run_with(&[("a", &[]), ("b", &[])], watch, slow).await;
        let results = done.results.as_ref().unwrap();
        assert!(results.run.interrupted, "{step:?}");
        assert_eq!(results.density.len(), 1, "{step:?}: the next target is not begun");
        assert_eq!(done.density().limit, Some(Limit::Stopped), "{step:?}");
        assert!(done.density().steps[..2].iter().all(|step| step.footprint_sum_bytes.is_some()));
        done.nothing_is_left();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn results_that_cant_be_saved_end_the_run_with_nothing_left() {
    let watch = Recorder { refuse_at: Some(3), ..Recorder::default() };
    let done = run_with(&[("a", &[])], watch, |_| {}).await;
    let error = format!("{:#}", done.results.as_ref().unwrap_err());
    assert!(error.contains("saving what was taken of the density: the disk is full"), "{error}");
    assert_eq!(done.count("remove"), 3);
    done.nothing_is_left();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removal_that_takes_a_second_try_is_reported_and_the_others_are_removed() {
    let done = run(&[("a", &[Part::Good, Part::RemoveFails, Part::Good])]).await;
    assert_eq!((done.count("stage"), done.count("remove")), (4, 5));
    assert!(done.left.is_empty(), "{:?}", done.left);
    let results = done.results.as_ref().unwrap();
    assert!(results.run.warnings[0].contains("second try: removing a fake"), "{:?}", results.run.warnings);
    let gone: Vec<bool> = done.density().steps.iter().map(|step| step.timeline_ns.gone.is_some()).collect();
    assert_eq!(gone, [true, false, true, true]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_burst_is_requested_at_once_and_removed_before_the_next() {
    let bursts = with_density(|density| (density.instances, density.bursts) = (3, vec![1, 3]));
    let done = run_with(&[("a", &[])], Recorder::default(), bursts).await;
    let added = [["stage a", "start a"].repeat(3), vec!["remove a"; 3]].concat();
    let burst = |n| ["stage a", "start a", "remove a"].into_iter().flat_map(move |what| vec![what; n]);
    assert_eq!(done.log, added.into_iter().chain(burst(1)).chain(burst(3)).collect::<Vec<_>>());
    done.nothing_is_left();
    let bursts = &done.density().bursts;
    assert_eq!(bursts.iter().map(|burst| (burst.n, burst.failed)).collect::<Vec<_>>(), [(1, 0), (3, 0)]);
    let three = &bursts[1];
    assert!(three.ready_ns.len() == 3 && three.ready_ns.is_sorted(), "{three:?}");
    assert!(
        three.ready_ns[0] >= 2_000_000 && three.all_ready_ns >= three.ready_ns.last().copied(),
        "{three:?}"
    );
    assert!(three.request_spread_ns < three.all_ready_ns, "{three:?}");
    assert_eq!(done.saved.last(), Some(&(3, 2)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failures_of_a_burst_are_counted_with_their_reason_and_the_others_are_measured() {
    let parts = [Part::Good, Part::Good, Part::StartFails, Part::Good, Part::NeverReady, Part::Good];
    let burst = with_density(|density| (density.instances, density.bursts) = (2, vec![2]));
    // Two that stay, then a burst of one that fails and one that does not.
    let done = run_with(&[("a", &parts)], Recorder::default(), burst).await;
    let burst = &done.density().bursts[0];
    assert_eq!((burst.failed, burst.ready_ns.len()), (1, 1));
    assert!(burst.errors[0].contains("this fake always fails"), "{:?}", burst.errors);
    done.nothing_is_left();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_during_a_burst_removes_it_and_records_none() {
    let parts = [Part::Good, Part::Good, Part::NeverReady];
    let watch =
        Recorder { stop_at: Some((7, Step::Starting, CancellationToken::new())), ..Recorder::default() };
    let stop = watch.stop_at.as_ref().unwrap().2.clone();
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(250)).await;
        stop.cancel();
    });
    let burst = with_density(|density| (density.instances, density.bursts) = (2, vec![2]));
    let done = run_with(&[("a", &parts)], watch, |scenario| {
        scenario.sampling.timeout = Span(Duration::from_secs(60));
        burst(scenario);
    })
    .await;
    assert!(done.results.as_ref().unwrap().run.interrupted);
    assert!(done.density().bursts.is_empty());
    assert_eq!(done.density().reached(), 2);
    done.nothing_is_left();
}

#[tokio::test]
async fn an_instance_of_another_image_is_a_failure_and_no_figure() {
    let done = run(&[("a", &[Part::Good, Part::Good, Part::OtherImage])]).await;
    let density = done.density();
    assert_eq!(density.limit, Some(Limit::Failure));
    let why = density.limit_why.as_deref().unwrap();
    assert!(why.starts_with("number 3: by what it says from inside it is of another image"), "{why}");
    let images: Vec<_> = density
        .steps
        .iter()
        .take(3)
        .map(|step| step.identity.as_ref().unwrap().image_digest.clone().unwrap())
        .collect();
    assert_eq!(images, ["0".repeat(64), "0".repeat(64), "2".repeat(64)]);
    assert_eq!(density.steps[3].identity, None, "one is enough");
    done.nothing_is_left();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_removes_all_that_run_at_once() {
    let burst = || with_density(|density| density.bursts = vec![2]);
    for (n, step) in [(3, Step::Starting), (3, Step::Settling), (4, Step::Idling), (4, Step::Removing)] {
        let watch = Recorder { panic_at: Some((n, step)), ..Recorder::default() };
        let done = run_with(&[("a", &[]), ("b", &[])], watch, burst()).await;
        assert_eq!(done.results.as_ref().unwrap().density.len(), 2, "{n} {step:?}: the run goes on");
        let measures = [Step::Settling, Step::Idling].contains(&step);
        assert_eq!(done.density().limit == Some(Limit::Failure), measures, "{n} {step:?}");
        let why = done.density().limit_why.as_ref().unwrap();
        assert_eq!(why.contains("bootrace panicked: "), measures, "{why}");
        done.nothing_is_left();
    }
    let watch = Recorder { panic_at: Some((2, Step::Removing)), ..Recorder::default() };
    let done = run_with(&[("a", &[])], watch, burst()).await;
    assert_eq!(done.density().bursts.len(), 1);
    done.nothing_is_left();
}
