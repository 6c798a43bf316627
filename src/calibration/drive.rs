//! Runs a calibration's plan: each instance through the runner's own trial, so that it judges the code that measures.

use std::{collections::BTreeSet, path::PathBuf, time::Duration};

use anyhow::Context;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::{Break, Calibration, Check, Plan, ReferenceInstance, plan::Step, watched::Watched};
use crate::{
    control::Timestamp,
    plan::Trial,
    probe::process,
    runner,
    sample::Sample,
    target::{InstanceId, Target},
};

/// Round trips per target.
const ROUND_TRIPS: u32 = 500;
/// How long processes that are ending may take.
const EXIT_TIMEOUT: Duration = Duration::from_secs(1);

/// The input of a calibration.
pub struct Job {
    pub targets: Vec<Box<dyn Target>>,
    pub plan: Plan,
    pub broken: Option<Break>,
    /// The calibration's head; the run adds the rows.
    pub calibration: Calibration,
    /// The directory of the instances' files and control sockets.
    pub instances: PathBuf,
}

/// Follows a calibration.
pub trait Watch: Send {
    /// The `done`-th of all instances (from 0) is about to start.
    fn starting(&mut self, done: usize, check: Check, target: &str);

    /// The calibration has a new row.
    ///
    /// # Errors
    /// When the calibration can't be saved. The error ends the calibration.
    fn taken(&mut self, calibration: &Calibration) -> anyhow::Result<()>;
}

/// Runs every instance of the plan. A failed one gives a failed row.
///
/// # Errors
/// When a row can't be saved, or an instance's directory can't be made.
pub async fn run(job: Job, watch: &mut dyn Watch, stop: &CancellationToken) -> anyhow::Result<Calibration> {
    let Job { targets, plan, broken, mut calibration, instances } = job;
    let targets: Vec<Watched> = targets.into_iter().map(|target| Watched::new(target, broken)).collect();
    let begin = Timestamp::now();
    for (done, step) in plan.0.iter().enumerate() {
        if stop.is_cancelled() {
            break;
        }
        let target = &targets[step.target];
        watch.starting(done, step.check, &calibration.targets[step.target].name);
        let instance_id = runner::make_instance_id(&instances, &calibration.id, done)?;
        let Some(taken) = take(target, step, &instance_id, stop, &mut calibration.errors).await? else {
            break;
        };
        calibration.taken.push(taken);
        calibration.wall_ns = Some(Timestamp::now().since(begin));
        watch.taken(&calibration).context("saving what was taken")?;
    }
    calibration.interrupted = stop.is_cancelled();
    calibration.wall_ns = Some(Timestamp::now().since(begin));
    calibration.judge();
    Ok(calibration)
}

/// Runs one instance; `None` if the user stopped it.
async fn take(
    target: &Watched,
    step: &Step,
    instance_id: &InstanceId,
    stop: &CancellationToken,
    errors: &mut Vec<String>,
) -> anyhow::Result<Option<ReferenceInstance>> {
    let scenario = step
        .check
        .scenario(step.amount)
        .context("a reference workload's scenario is wrong: this is a bug")?;
    let trial = Trial { target: step.target, round: step.round, position: 0, warmup: false };
    let mut sample = Sample::blank(&target.info().name, &trial);
    let roots = roots(target);
    let mut new_processes = None;
    let mut watch = |now: runner::Step| {
        if now == runner::Step::Reading {
            new_processes = Some(process::pss_of_new(&target.seen().before, &roots));
        }
    };
    let pings = if step.check == Check::Channel { ROUND_TRIPS } else { 0 };
    let end =
        runner::trial_with_pings(target, &scenario, instance_id, &mut sample, stop, &mut watch, pings).await;
    errors.extend(end.left_behind);
    if end.stopped {
        return Ok(None);
    }
    if target.broken == Some(Break::PageCache) {
        count_page_cache(&mut sample);
    }
    let new_processes = match new_processes {
        Some(Ok(bytes)) => Some(bytes),
        // The row fails without the figure; this records the reason.
        Some(Err(error)) => {
            errors.push(format!(
                "reading the processes that came with an instance of {}: {error}",
                target.info().name
            ));
            None
        }
        None => None,
    };
    let seen = target.seen();
    Ok(Some(ReferenceInstance {
        check: step.check,
        amount: step.amount,
        work_ns: step.check.work_ns(),
        start_call_ns: seen.start_call_ns,
        remove_call_ns: seen.remove_call_ns,
        new_processes_bytes: new_processes,
        processes_left: surviving_processes(&seen.before, &roots).await,
        round_trips_ns: end.round_trips_ns,
        sample,
    }))
}

/// Counts processes that came with the instance and outlive it. Waits for helpers of the engine that are still ending.
async fn surviving_processes(before: &BTreeSet<u32>, roots: &[u32]) -> u64 {
    if process::new_since(before, roots).is_empty() {
        return 0;
    }
    sleep(EXIT_TIMEOUT).await;
    process::new_since(before, roots).len() as u64
}

/// The possible ancestors of an instance's processes: this process, the engine's, and the reaper of its orphans.
fn roots(target: &Watched) -> Vec<u32> {
    let daemons = target.daemons();
    let above = daemons.iter().filter_map(|pid| process::parent(*pid));
    let mut roots: Vec<u32> = above.collect();
    roots.extend(daemons);
    roots.push(std::process::id());
    roots
}

/// A deliberate error: counts the page cache, as a reader of the cgroup's usage does.
fn count_page_cache(sample: &mut Sample) {
    let memory = &mut sample.memory_bytes;
    if let (Some(footprint), Some(file)) = (&mut memory.footprint, memory.cgroup_file) {
        *footprint += file;
    }
}
