//! Runs the plan: each trial in its order. Hands over each sample at once, and removes every instance.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use anyhow::Context;
use async_trait::async_trait;
use sha2::{Digest, Sha256};
use tokio_util::sync::CancellationToken;

use crate::{
    control::Timestamp,
    plan::{Trial, plan},
    probe::host,
    sample::{Isolation, Outcome, Results, Sample},
    scenario::{PageCache, Scenario},
    target::{InstanceId, Target},
};

mod boot;
mod cold;
mod density;
mod events;
pub mod left_over;
mod lock;
mod outcome;
mod running;
mod trial;

pub use cold::drop_caches;
pub use lock::Lock;
pub use trial::{Step, trial, trial_with_pings, workload};

/// The runner gives up a target that has never succeeded after so many failures in a row, and skips its remaining
/// trials.
const GIVE_UP: u32 = 3;

/// The input of a run.
pub struct Job {
    pub scenario: Scenario,
    /// In the order of the scenario's targets.
    pub targets: Vec<Box<dyn Target>>,
    /// The results' head; the run adds the samples.
    pub results: Results,
    /// The directory of the instances' files and control sockets.
    pub instances: PathBuf,
}

/// Follows a run and paces it. The runner calls these methods as it goes on.
#[async_trait]
pub trait Watch: Send {
    /// Waits until the `done`-th trial (from 0) may start. The default returns at once.
    async fn turn(&mut self, _done: usize) {}

    /// The runner skips the `done`-th trial, because it has given up its target.
    fn left_out(&mut self, _done: usize) {}

    /// The `done`-th trial (from 0) has reached this step.
    fn step(&mut self, done: usize, trial: &Trial, target: &str, step: Step);

    /// The last sample of `results` is new.
    ///
    /// # Errors
    /// When the results can't be saved. The error ends the run.
    fn sampled(&mut self, results: &Results) -> anyhow::Result<()>;

    /// Density fills a target: the `n`-th of at most `most` instances, or a burst of `n`, has reached this step.
    fn filling(&mut self, _target: &str, _n: u32, _most: u32, _step: Step) {}

    /// The last density record of the results has a new entry.
    ///
    /// # Errors
    /// When the results can't be saved. The error ends the run.
    fn filled(&mut self, _results: &Results) -> anyhow::Result<()> {
        Ok(())
    }
}

/// The prefix that the names of all instances of a run share.
pub fn tag(run: &str) -> String {
    let digest = Sha256::digest(run.as_bytes());
    format!("bootrace-{:02x}{:02x}{:02x}{:02x}", digest[0], digest[1], digest[2], digest[3])
}

/// Runs all rounds, then the scenario's density phase. A failed trial is a sample too, and the run goes on.
///
/// # Errors
/// When a sample can't be saved, an instance's directory can't be made, or the scenario asks for a cold page cache and
/// it can't be dropped. Earlier samples are kept, and no instance is left running.
pub async fn run(job: Job, watch: &mut dyn Watch, stop: &CancellationToken) -> anyhow::Result<Results> {
    let Job { scenario, targets, mut results, instances } = job;
    let trials = plan(targets.len(), &scenario.sampling, results.run.seed);
    results.run.planned = trials.len() as u32;
    let begin = Timestamp::now();
    let mut measuring = 0;
    let cold = scenario.sampling.page_cache_state() == Some(PageCache::Cold);
    let mut dropping = 0;
    let mut failures = vec![Some(0); targets.len()];
    for (done, trial) in trials.iter().enumerate() {
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
        let mut step = |step| watch.step(done, trial, &name, step);
        let end = self::trial(target, &scenario, &instance_id, &mut sample, stop, &mut step).await;
        tracing::debug!(instance = instance_id.instance, target = name, outcome = ?sample.outcome, "trial ended");
        results.run.warnings.extend(end.left_behind);
        if end.stopped {
            break;
        }
        measuring += measured(&sample, &scenario);
        let more = trials[done + 1..].iter().any(|later| later.target == trial.target);
        count(&mut failures[trial.target], &sample, more, &mut results);
        only_once(&mut sample, &results.samples);
        results.samples.push(sample);
        results.run.wall_ns = Some(Timestamp::now().since(begin));
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

/// Makes an id for the run's `number`-th instance, and its directory.
///
/// # Errors
/// When the directory can't be made.
pub fn make_instance_id(instances: &Path, run: &str, number: usize) -> anyhow::Result<InstanceId> {
    let instance = format!("{}-{number}", tag(run));
    let dir = instances.join(&instance);
    let open = fs::Permissions::from_mode(0o755);
    fs::create_dir_all(&dir)
        // QEMU's user must be able to enter it, whatever the umask is.
        .and_then(|()| fs::set_permissions(&dir, open))
        .with_context(|| format!("making {}", dir.display()))?;
    Ok(InstanceId { run: run.into(), instance, dir })
}

/// Drops the names of devices when an earlier sample of the target has the same list: it is long.
fn only_once(sample: &mut Sample, earlier: &[Sample]) {
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
fn count(failures: &mut Option<u32>, sample: &Sample, more: bool, results: &mut Results) {
    match (sample.outcome, failures.as_mut()) {
        (Outcome::Ok, _) => *failures = None,
        (_, Some(n)) => {
            *n += 1;
            if *n == GIVE_UP && more {
                results.run.warnings.push(format!(
                    "target {} failed {GIVE_UP} times and never succeeded: its remaining trials were left out; fix the errors of its samples, and run again",
                    sample.target
                ));
            }
        }
        _ => {}
    }
}
