//! Runs the plan: each trial in its order. Hands over each sample at once, and removes every instance.

use std::path::PathBuf;

use anyhow::Context;
use tokio_util::sync::CancellationToken;

use crate::{
    control::Timestamp,
    plan::{plan, taken},
    probe::host,
    sample::{Isolation, Outcome, Results, Sample},
    scenario::{PageCache, Scenario},
    target::Target,
};

mod boot;
mod cold;
mod density;
mod events;
pub mod left_over;
mod lock;
mod names;
mod outcome;
mod running;
mod trial;
mod watch;

pub use cold::drop_caches;
pub use lock::Lock;
pub use names::{make_instance_id, tag};
pub use running::workload;
pub use trial::{Step, trial, trial_with_pings};
pub use watch::Watch;

/// The runner gives up a target that has never succeeded after so many failures in a row, and skips its remaining
/// trials.
const GIVE_UP: u32 = 3;

/// The input of a run.
pub struct Job {
    pub scenario: Scenario,
    /// In the order of the scenario's targets.
    pub targets: Vec<Box<dyn Target>>,
    /// The results' head; the run adds the samples. With samples of an earlier part, it goes on after the last of them.
    pub results: Results,
    /// The directory of the instances' files and control sockets.
    pub instances: PathBuf,
}

/// Runs all rounds, then the scenario's density phase. A failed trial is a sample too, and the run goes on.
///
/// # Errors
/// When the samples of an earlier part don't follow the plan, a sample can't be saved, an instance's directory can't be made, or the scenario asks for a cold page cache and
/// it can't be dropped. Earlier samples are kept, and no instance is left running.
pub async fn run(job: Job, watch: &mut dyn Watch, stop: &CancellationToken) -> anyhow::Result<Results> {
    let Job { scenario, targets, mut results, instances } = job;
    let trials = plan(targets.len(), &scenario.sampling, results.run.seed);
    results.run.planned = trials.len() as u32;
    let names: Vec<&str> = results.targets.iter().map(|target| target.name.as_str()).collect();
    let first = taken(&trials, &names, &results.samples)
        .context("the samples of the results don't follow the plan of their scenario and seed")?;
    let begin = Timestamp::now();
    let earlier = results.run.wall_ns.unwrap_or(0);
    let mut measuring = results.run.measuring_ns.unwrap_or(0);
    let cold = scenario.sampling.page_cache_state() == Some(PageCache::Cold);
    let mut dropping = results.run.cache_drop_ns.unwrap_or(0);
    let mut failures = vec![Some(0); targets.len()];
    for (name, failures) in names.iter().zip(&mut failures) {
        results.samples.iter().filter(|s| s.target == *name).for_each(|sample| count(failures, sample));
    }
    for (done, trial) in trials.iter().enumerate().skip(first) {
        if stop.is_cancelled() {
            break;
        }
        let target = targets[trial.target].as_ref();
        watch.turn(done).await;
        if stop.is_cancelled() {
            break;
        }
        if failures[trial.target] == Some(GIVE_UP) {
            watch.left_out(done);
            continue;
        }
        let name = results.targets[trial.target].name.clone();
        if cold {
            // Before staging, which may read the image.
            watch.step(done, trial, &name, Step::Cooling);
            let from = Timestamp::now();
            drop_caches().await?;
            dropping += Timestamp::now().since(from);
        }
        let instance_id = make_instance_id(&instances, &results.run.id, done)?;
        let mut sample = Sample::blank(&name, trial);
        tracing::debug!(instance = instance_id.instance, target = name, "trial begins");
        let mut step = |step| {
            tracing::debug!(instance = instance_id.instance, target = name, ?step, "trial");
            watch.step(done, trial, &name, step);
        };
        let end = self::trial(target, &scenario, &instance_id, &mut sample, stop, &mut step).await;
        tracing::debug!(instance = instance_id.instance, target = name, outcome = ?sample.outcome, "trial ended");
        results.run.warnings.extend(end.left_behind);
        if end.stopped {
            break;
        }
        measuring += measured(&sample, &scenario);
        let more = trials[done + 1..].iter().any(|later| later.target == trial.target);
        count(&mut failures[trial.target], &sample);
        if failures[trial.target] == Some(GIVE_UP) && more {
            results.run.warnings.push(format!(
                "target {name} failed {GIVE_UP} times and never succeeded: its remaining trials were left out; fix the errors of its samples, and run again"
            ));
        }
        only_once(&mut sample, &results.samples);
        results.samples.push(sample);
        results.run.wall_ns = Some(earlier + Timestamp::now().since(begin));
        results.run.measuring_ns = Some(measuring);
        results.run.cache_drop_ns = cold.then_some(dropping);
        // True until the last trial, so that the file of a killed harness says that it is incomplete.
        results.run.interrupted = done + 1 < trials.len() || scenario.density.is_some();
        watch.sampled(&results).context("saving a sample")?;
    }
    if !stop.is_cancelled() {
        let host = density::Host { scenario: &scenario, instances: &instances, stop };
        density::run(&host, targets, trials.len(), &mut results, watch).await?;
    }
    results.run.interrupted = stop.is_cancelled();
    results.host.noise_after = Some(host::noise());
    Ok(results)
}

/// Drops the names of devices and the surroundings when an earlier sample of the target has the same: they are long.
fn only_once(sample: &mut Sample, earlier: &[Sample]) {
    let mut same_target = earlier.iter().rev().filter(|s| s.target == sample.target);
    if same_target.find_map(|s| s.surroundings.as_ref()) == sample.surroundings.as_ref() {
        sample.surroundings = None;
    }
    let Some(isolation) = &mut sample.isolation else { return };
    let before: Vec<_> =
        earlier.iter().filter(|s| s.target == sample.target).filter_map(|s| s.isolation.as_ref()).collect();
    let known = |names: fn(&Isolation) -> &Option<Vec<String>>, own: &Option<Vec<String>>| {
        before.iter().rev().find_map(|isolation| names(isolation).as_ref()) == own.as_ref()
    };
    if known(|i| &i.device_names, &isolation.device_names) {
        isolation.device_names = None;
    }
    if known(|i| &i.block_device_names, &isolation.block_device_names) {
        isolation.block_device_names = None;
    }
}

/// The part of the run's wall time, in ns, in which this sample was measured.
fn measured(sample: &Sample, scenario: &Scenario) -> u64 {
    let settled =
        if sample.outcome == Outcome::Ok { scenario.sampling.settle.0.as_nanos() as u64 } else { 0 };
    let (timeline, cpu) = (&sample.timeline_ns, &sample.cpu_ns);
    [timeline.startup(), Some(settled), cpu.idle_window, sample.work_ns.wall, timeline.teardown()]
        .into_iter()
        .flatten()
        .sum()
}

/// Counts failures in a row of a target that has never succeeded; `None` after its first success.
fn count(failures: &mut Option<u32>, sample: &Sample) {
    *failures = match sample.outcome {
        Outcome::Ok => None,
        Outcome::Failed | Outcome::TimedOut => failures.map(|n| n + 1),
    };
}
