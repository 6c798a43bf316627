//! The runner's order of side effects and what it does about failures, on the fake target.

#[path = "common/fake.rs"]
mod fixture;

use std::{path::Path, time::Duration};

use async_trait::async_trait;
use bootrace::{
    control::Greeting,
    plan::{Trial, plan},
    runner::{self, Job, Step, Watch},
    sample::{Outcome, Results, Sample},
    scenario::{Scenario, Span, Start},
};
use fixture::fake_target::{Fake, Log, Part};
use tokio_util::sync::CancellationToken;

const SCENARIO: &str = r#"
name = "fake"
[image]
suite = "debian/bookworm"
[workload]
command = ["x"]
ready = { line = "ready" }
work = { command = ["y"] }
[sampling]
samples = 4
warmup = 1
settle = "0s"
idle = "100ms"
timeout = "500ms"
"#;

/// Remembers every save, and can stop the run or refuse to save at a given sample.
#[derive(Default)]
struct Recorder {
    saved: Vec<usize>,
    /// The results as each save wrote them.
    written: Vec<String>,
    stop_at: Option<(usize, CancellationToken)>,
    refuse_at: Option<usize>,
    steps: Vec<Step>,
    /// Panics at a given trial and step.
    panic_at: Option<(usize, Step)>,
    /// Stops the run at a given turn.
    stop_at_turn: Option<(usize, CancellationToken)>,
    /// The calls of the watcher, each with the number of samples by then.
    turns: Vec<(&'static str, usize, usize)>,
}

#[async_trait]
impl Watch for Recorder {
    async fn turn(&mut self, done: usize) {
        self.turns.push(("turn", done, self.saved.len()));
        if let Some((at, stop)) = &self.stop_at_turn
            && done == *at
        {
            stop.cancel();
        }
    }

    fn left_out(&mut self, done: usize) {
        self.turns.push(("left out", done, self.saved.len()));
    }

    fn step(&mut self, done: usize, _trial: &Trial, _target: &str, step: Step) {
        self.steps.push(step);
        assert_ne!(self.panic_at, Some((done, step)), "a bug");
        if let Some((at, stop)) = &self.stop_at
            && done == *at
            && step == Step::Settling
        {
            stop.cancel();
        }
    }

    fn sampled(&mut self, results: &Results) -> anyhow::Result<()> {
        self.saved.push(results.samples.len());
        self.written.push(serde_json::to_string(results).unwrap());
        anyhow::ensure!(self.refuse_at != Some(results.samples.len()), "the disk is full");
        Ok(())
    }
}

fn job(dir: &Path, log: &Log, parts: &[(&str, &[Part])]) -> Job {
    fixture::job("fake-run", SCENARIO, dir, log, parts)
}

struct Done {
    results: anyhow::Result<Results>,
    log: Vec<String>,
    watch: Recorder,
    left: Vec<std::ffi::OsString>,
}

async fn run_with(
    parts: &[(&str, &[Part])],
    mut watch: Recorder,
    change: impl FnOnce(&mut Scenario),
) -> Done {
    let (dir, log) = (tempfile::tempdir().unwrap(), Log::default());
    let mut job = job(dir.path(), &log, parts);
    // Shorter than a scenario file may ask for: the fake's CPU isn't worth a wait.
    job.scenario.sampling.idle = Span(Duration::from_millis(1));
    change(&mut job.scenario);
    let stop = watch.stop_at.as_ref().or(watch.stop_at_turn.as_ref());
    let stop = stop.map(|(_, stop)| stop.clone()).unwrap_or_default();
    let results = runner::run(job, &mut watch, &stop).await;
    let log = log.lock().unwrap().clone();
    let left = std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    Done { results, log, watch, left }
}

async fn run(parts: &[(&str, &[Part])]) -> Done {
    run_with(parts, Recorder::default(), |_| {}).await
}

fn of<'a>(results: &'a Results, target: &str) -> Vec<&'a Sample> {
    results.samples.iter().filter(|s| s.target == target).collect()
}

#[tokio::test]
async fn trials_follow_the_plan_one_after_the_other_and_each_is_saved() {
    let done = run(&[("a", &[]), ("b", &[]), ("c", &[])]).await;
    let results = done.results.unwrap();
    let scenario = Scenario::parse(SCENARIO, "order.rs").unwrap();
    let planned = plan(3, &scenario.sampling, 7);
    let expected: Vec<String> = planned
        .iter()
        .flat_map(|t| {
            ["stage", "start", "remove"].map(|what| format!("{what} {}", ["a", "b", "c"][t.target]))
        })
        .collect();
    assert_eq!(done.log, expected);
    assert_eq!(done.watch.saved, (1..=15).collect::<Vec<_>>());
    assert!(done.left.is_empty(), "{:?}", done.left);
    assert!(!results.run.interrupted);
    for (sample, trial) in results.samples.iter().zip(planned) {
        assert_eq!(
            (sample.round, sample.position, sample.warmup),
            (trial.round, trial.position, trial.warmup)
        );
        assert_eq!(sample.outcome, Outcome::Ok, "{:?}", sample.error);
        let (t, p) = (sample.timeline_ns, sample.timeline_ns.phases().unwrap());
        assert_eq!(p.engine + p.boot + p.app, t.startup().unwrap());
        // Not of the app phase: its hello may be read late.
        assert!(t.startup() >= Some(2_000_000), "the fake sleeps for 2 ms before it is ready: {p:?}");
        assert!(t.stopping >= t.ready && t.gone >= t.stopping);
        assert!(sample.work_ns.wall.is_some() && sample.cpu_ns.idle_window >= Some(1_000_000));
        assert_eq!(sample.memory_bytes.workload_rss, Some(1 << 20));
        assert_eq!(sample.identity.as_ref().unwrap().agent_digest, Some(bootrace::agent::digest()));
    }
    let steps = [Step::Starting, Step::Settling, Step::Reading, Step::Idling, Step::Working, Step::Removing];
    assert!(done.watch.steps.chunks(steps.len()).all(|s| s == steps));
}

#[tokio::test]
async fn each_failure_is_a_sample_with_its_reason_and_the_run_goes_on() {
    let cases: &[(Part, Outcome, &str)] = &[
        (Part::StartFails, Outcome::Failed, "starting a fake: this fake always fails"),
        (
            Part::StartHangs,
            Outcome::TimedOut,
            "the engine's start call has not returned within 500ms (sampling.timeout)",
        ),
        (Part::Silent, Outcome::TimedOut, "the agent has not come up within 500ms"),
        (Part::Foreign, Outcome::Failed, "the agent in the image is not this program's own"),
        (Part::NoProgram, Outcome::Failed, "the agent reports: executing nothing: not found"),
        (
            Part::Dies,
            Outcome::Failed,
            "the workload ended before it was ready: exit code 3; it printed: last words",
        ),
        (
            Part::NeverReady,
            Outcome::TimedOut,
            "the workload has not printed a line that matches \"ready\" within 500ms (sampling.timeout); it printed: \
             10%\rready. the fake says nothing",
        ),
        (
            Part::LacksMemory,
            Outcome::Failed,
            "its memory limit of 512 MiB was met (resources.memory): the workload ended before it was ready: killed by \
             signal 9; it printed: filling",
        ),
        (Part::Ended, Outcome::Failed, "the fake was ended"),
        (Part::LastWords, Outcome::Failed, "the workload ended before it was ready: exit code 3"),
        (Part::Vanishes, Outcome::Failed, "the fake was ended"),
        (Part::Noise, Outcome::Failed, "control stream: a frame of 4294967295 bytes"),
        (
            Part::WorkHangs,
            Outcome::TimedOut,
            "the work command has not ended within 500ms; it printed nothing",
        ),
        (Part::WorkFails, Outcome::Failed, "the work command failed: exit code 1"),
    ];
    for (part, outcome, reason) in cases {
        let done = run(&[("bad", &[Part::Good, *part, Part::Good]), ("good", &[])]).await;
        let results = done.results.unwrap();
        let bad = of(&results, "bad");
        assert_eq!(bad.len(), 5, "{part:?}");
        assert_eq!(bad[1].outcome, *outcome, "{part:?}: {:?}", bad[1].error);
        let error = bad[1].error.as_deref().unwrap();
        assert!(error.contains(reason), "{part:?}: {error}");
        assert!(error.contains("the fake says nothing"), "the engine's account is missing: {error}");
        assert!(bad[1].timeline_ns.gone.is_some(), "{part:?} was not removed");
        for sample in of(&results, "good").into_iter().chain([bad[0], bad[2], bad[3], bad[4]]) {
            assert_eq!(sample.outcome, Outcome::Ok, "{part:?}: {:?}", sample.error);
        }
        assert!(done.left.is_empty(), "{part:?}: {:?}", done.left);
        assert_eq!(done.log.iter().filter(|l| *l == "remove bad").count(), 5, "{part:?}");
    }
}

#[tokio::test]
async fn a_removal_that_fails_is_tried_again_and_spoils_its_sample() {
    let done = run(&[("a", &[Part::Good, Part::RemoveFails, Part::Good])]).await;
    let results = done.results.unwrap();
    assert_eq!(done.log.iter().filter(|l| *l == "remove a").count(), 6);
    assert_eq!(results.samples[1].outcome, Outcome::Failed);
    assert_eq!(results.samples[1].timeline_ns.teardown(), None);
    assert_eq!(results.samples.iter().filter(|s| s.outcome == Outcome::Ok).count(), 4);
}

#[tokio::test]
async fn a_target_that_never_succeeds_is_given_up_and_the_results_say_so() {
    let done = run(&[("bad", &[Part::StartFails]), ("good", &[])]).await;
    let results = done.results.unwrap();
    assert_eq!((of(&results, "bad").len(), of(&results, "good").len()), (3, 5));
    let warning = &results.run.warnings[0];
    assert!(warning.contains("target bad failed 3 times") && warning.ends_with("and run again"), "{warning}");
}

#[tokio::test]
async fn every_trial_waits_for_its_turn_also_one_that_is_left_out() {
    let done = run(&[("bad", &[Part::StartFails]), ("good", &[])]).await;
    assert_eq!(done.results.unwrap().samples.len(), 8);
    let turns: Vec<_> = done.watch.turns.iter().filter(|(what, ..)| *what == "turn").collect();
    assert_eq!(turns.iter().map(|(_, trial, _)| *trial).collect::<Vec<_>>(), (0..10).collect::<Vec<_>>());
    let mut left_out = 0;
    for (what, trial, saved) in &done.watch.turns {
        assert_eq!(*saved, trial - left_out, "the trial before is saved when the next turn is asked for");
        left_out += usize::from(*what == "left out");
    }
    assert_eq!(left_out, 2);
}

#[tokio::test]
async fn a_run_that_is_stopped_while_it_waits_for_its_turn_starts_nothing_more() {
    let stop = CancellationToken::new();
    let watch = Recorder { stop_at_turn: Some((3, stop)), ..Recorder::default() };
    let done = run_with(&[("a", &[]), ("b", &[])], watch, |_| {}).await;
    let results = done.results.unwrap();
    assert!(results.run.interrupted && results.samples.len() == 3);
    assert_eq!(done.log.iter().filter(|line| line.starts_with("stage")).count(), 3);
    assert!(done.left.is_empty(), "{:?}", done.left);
}

#[tokio::test]
async fn a_stop_half_way_keeps_the_samples_and_removes_running_instances() {
    let stop = CancellationToken::new();
    let watch = Recorder { stop_at: Some((4, stop)), ..Recorder::default() };
    let done =
        run_with(&[("a", &[]), ("b", &[])], watch, |s| s.sampling.settle = Span(Duration::from_millis(50)))
            .await;
    let results = done.results.unwrap();
    assert_eq!(results.samples.len(), 4);
    assert!(results.run.interrupted);
    assert!(done.log.last().unwrap().starts_with("remove"), "{:?}", done.log);
    assert!(done.left.is_empty(), "{:?}", done.left);
}

#[tokio::test]
async fn a_stop_during_a_start_call_that_hangs_ends_too() {
    let stop = CancellationToken::new();
    let later = stop.clone();
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(20)).await;
        later.cancel();
    });
    let watch = Recorder { stop_at: Some((usize::MAX, stop)), ..Recorder::default() };
    let done = run_with(&[("a", &[Part::StartHangs])], watch, |s| {
        s.sampling.timeout = Span(Duration::from_millis(400))
    })
    .await;
    let results = done.results.unwrap();
    assert!(results.run.interrupted);
    assert!(results.samples.is_empty(), "it was no time-out: {:?}", results.samples);
    assert!(done.log.last().unwrap().starts_with("remove"), "{:?}", done.log);
}

#[tokio::test]
async fn a_sample_that_cant_be_saved_ends_the_run_with_nothing_left() {
    let watch = Recorder { refuse_at: Some(3), ..Recorder::default() };
    let done = run_with(&[("a", &[])], watch, |_| {}).await;
    assert!(format!("{:#}", done.results.unwrap_err()).contains("saving a sample: the disk is full"));
    assert_eq!(done.log.last().unwrap(), "remove a");
    assert!(done.left.is_empty(), "{:?}", done.left);
}

#[tokio::test]
async fn a_restart_waits_for_the_end_of_its_initial_start() {
    let greetings = [Greeting::AtOnce, Greeting::AfterHello];
    let each = [Start::Restart, Start::Restore].into_iter().flat_map(|b| greetings.map(|g| (b, g)));
    for (begins, greeting) in each {
        let (dir, log) = (tempfile::tempdir().unwrap(), Log::default());
        let mut job = job(dir.path(), &log, &[("a", &[Part::Good])]);
        let mut fake = Fake::new("a", &log, &[Part::Good, Part::Dies]);
        fake.begins = begins;
        fake.greeting = greeting;
        job.targets = vec![Box::new(fake)];
        job.scenario.sampling.idle = Span(Duration::from_millis(1));
        job.scenario.sampling.samples = 1;
        let mut watch = Recorder::default();
        let results = runner::run(job, &mut watch, &CancellationToken::new()).await.unwrap();
        let log = log.lock().unwrap().join(" ").replace(" a", "");
        assert_eq!(log, format!("stage start rest start remove stage start remove"));
        let [good, bad] = results.samples.as_slice() else { panic!("{:?}", results.samples) };
        assert_eq!(good.outcome, Outcome::Ok, "{:?}", good.error);
        assert!(good.timeline_ns.ready.is_some() && good.identity.is_some());
        assert!(watch.steps.starts_with(&[Step::Preparing, Step::Starting]), "{:?}", watch.steps);
        let error = bad.error.as_deref().unwrap();
        let sign = format!(
            "in its initial start, before a {}: the workload ended before it was ready",
            begins.name()
        );
        assert!(error.starts_with(&sign), "{error}");
        assert_eq!((bad.timeline_ns.ready, bad.timeline_ns.started), (None, None));
    }
}

#[tokio::test]
async fn a_panic_fails_its_trial_removes_what_runs_and_the_run_goes_on() {
    for step in [Step::Starting, Step::Settling, Step::Working, Step::Removing] {
        let done =
            run_with(&[("a", &[])], Recorder { panic_at: Some((2, step)), ..Recorder::default() }, |_| {})
                .await;
        let results = done.results.unwrap();
        let failed: Vec<_> = results.samples.iter().filter_map(|sample| sample.error.as_deref()).collect();
        let [error] = &failed[..] else { panic!("{step:?}: {failed:?}") };
        assert!(error.starts_with("bootrace panicked: ") && error.contains("a bug"), "{step:?}: {error}");
        assert_eq!(results.samples.len(), 5, "{step:?}: nothing taken is lost");
        let count = |what: &str| done.log.iter().filter(|line| line.starts_with(what)).count();
        assert_eq!((count("stage"), count("remove")), (5, 5), "{step:?}: {:?}", done.log);
        assert!(done.left.is_empty(), "{step:?}: {:?}", done.left);
    }
}

/// Goes on with a run that was killed after it had saved these results.
async fn resume(parts: &[(&str, &[Part])], earlier: Results) -> Done {
    let (dir, log) = (tempfile::tempdir().unwrap(), Log::default());
    let mut job = job(dir.path(), &log, parts);
    job.scenario.sampling.idle = Span(Duration::from_millis(1));
    job.results = earlier;
    let mut watch = Recorder::default();
    let results = runner::run(job, &mut watch, &CancellationToken::new()).await;
    let log = log.lock().unwrap().clone();
    let left = std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    Done { results, log, watch, left }
}

#[tokio::test]
async fn a_killed_run_goes_on_with_the_rest_of_its_plan_wherever_it_was_killed() {
    let parts: &[(&str, &[Part])] = &[("a", &[]), ("b", &[]), ("c", &[])];
    let whole = run(parts).await;
    let results = whole.results.unwrap();
    for (n, written) in whole.watch.written.iter().enumerate() {
        let mut earlier: Results = serde_json::from_str(written).unwrap();
        let kept = earlier.samples.clone();
        assert_eq!((kept.len(), earlier.run.interrupted), (n + 1, n + 1 < 15));
        // Of an hour each, which the fake's own times can't be.
        const HOUR: u64 = 3_600_000_000_000;
        (earlier.run.wall_ns, earlier.run.measuring_ns) = (Some(2 * HOUR), Some(HOUR));
        let resumed = resume(parts, earlier).await;
        let all = resumed.results.unwrap();
        assert_eq!(resumed.log, whole.log[3 * (n + 1)..], "after {} samples", n + 1);
        assert_eq!(resumed.watch.saved, (n + 2..=15).collect::<Vec<_>>());
        assert_eq!(all.samples[..=n], kept, "what was taken is left as it is");
        let places = |results: &Results| -> Vec<_> {
            results.samples.iter().map(|s| (s.target.clone(), s.round, s.position, s.warmup)).collect()
        };
        assert_eq!(places(&all), places(&results));
        let (wall, measuring) = (all.run.wall_ns.unwrap(), all.run.measuring_ns.unwrap());
        let more = n + 1 < 15;
        assert!((2 * HOUR..3 * HOUR).contains(&wall) && (wall > 2 * HOUR) == more, "{wall}");
        assert!((HOUR..2 * HOUR).contains(&measuring) && (measuring > HOUR) == more, "{measuring}");
        assert!(!all.run.interrupted && resumed.left.is_empty());
    }
}

#[tokio::test]
async fn a_target_that_was_given_up_stays_so_when_the_run_goes_on() {
    let parts: &[(&str, &[Part])] = &[("bad", &[Part::StartFails]), ("good", &[])];
    let whole = run(parts).await;
    let results = whole.results.unwrap();
    for written in &whole.watch.written {
        let resumed = resume(parts, serde_json::from_str(written).unwrap()).await.results.unwrap();
        assert_eq!((of(&resumed, "bad").len(), of(&resumed, "good").len()), (3, 5));
        assert_eq!(resumed.run.warnings, results.run.warnings, "it is reported once");
    }
}

#[tokio::test]
async fn samples_of_another_plan_start_nothing() {
    let parts: &[(&str, &[Part])] = &[("a", &[]), ("b", &[])];
    let whole = run(parts).await;
    let mut earlier: Results = serde_json::from_str(&whole.watch.written[4]).unwrap();
    earlier.samples.swap(0, 3);
    let resumed = resume(parts, earlier).await;
    let error = format!("{:#}", resumed.results.unwrap_err());
    assert!(error.contains("don't follow the plan"), "{error}");
    assert!(resumed.log.is_empty());
}
