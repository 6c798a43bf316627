//! One trial: an instance from its request until it is gone, with all readings.

use std::time::Duration;

use bootrace_agent::protocol::{self, BootTimes, FromAgent, ToAgent};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{
    boot,
    outcome::{InstanceEnd, contained, fail, how},
    running::{ANSWER, LaunchSpec, RunningInstance, remove_dir},
};
use crate::{
    control::Timestamp,
    probe::{self, Meter, host::Reading},
    sample::{Accelerator, Identity, Sample},
    scenario::{Scenario, Start},
    target::{InstanceId, Target},
};

mod inside;

/// How long to wait for a whole system to finish starting after its workload is ready. After that it is measured as
/// it is.
const SYSTEM_UP: Duration = Duration::from_secs(90);
const SYSTEM_ASKED: Duration = Duration::from_secs(1);

/// The step that a trial is in, for the progress bar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Dropping the page cache.
    Cooling,
    /// Initial start, before the measured one.
    Preparing,
    Starting,
    Settling,
    /// Reading its memory.
    Reading,
    Idling,
    Working,
    /// Writing to a file of the image.
    Copying,
    Removing,
}

/// The outcome of a trial beside its sample.
#[derive(Debug, Default)]
pub struct End {
    /// The user stopped the run during the trial: the sample is void.
    pub stopped: bool,
    /// What could not be removed, and why.
    pub left_behind: Vec<String>,
    /// Round trips from host to agent and back, in ns, as many as requested.
    pub round_trips_ns: Vec<u64>,
}

/// Runs one instance and fills in `sample`. Removes the instance and its directory in every case.
pub async fn trial(
    target: &dyn Target,
    scenario: &Scenario,
    instance_id: &InstanceId,
    sample: &mut Sample,
    stop: &CancellationToken,
    step: &mut (dyn FnMut(Step) + Send),
) -> End {
    trial_with_pings(target, scenario, instance_id, sample, stop, step, 0).await
}

/// [`trial`] with so many round trips to the agent at its end.
pub async fn trial_with_pings(
    target: &dyn Target,
    scenario: &Scenario,
    instance_id: &InstanceId,
    sample: &mut Sample,
    stop: &CancellationToken,
    step: &mut (dyn FnMut(Step) + Send),
    pings: u32,
) -> End {
    let mut end = End::default();
    let mut running = match RunningInstance::stage(target, &LaunchSpec::of(scenario), instance_id, stop).await
    {
        Ok(running) => running,
        Err(ended) => {
            fail(sample, ended);
            left_behind(sample, &mut end, remove_dir(instance_id).err());
            return end;
        }
    };
    let mut ended = match target.begins() {
        Start::Create => Ok(()),
        begins => {
            step(Step::Preparing);
            contained(running.initial_start(begins, &scenario.sampling)).await
        }
    };
    let before = Reading::now();
    if ended.is_ok() {
        ended = contained(measure(&mut running, target, scenario, sample, step)).await;
    }
    if ended.is_ok() && pings > 0 {
        ended = ping(&mut running, pings, &mut end.round_trips_ns).await;
    }
    // Before it is stopped: afterwards its cgroup and its CPU time are gone.
    let own = running.cpu_ns().ok();
    sample.interference = Some(before.until_now(own));
    end.stopped = matches!(ended, Err(InstanceEnd::Stopped));
    if let Err(mut ended) = ended {
        running.explain(&mut ended).await;
        fail(sample, ended);
    }
    let shown = contained(async {
        step(Step::Removing);
        Ok(())
    });
    if let Err(ended) = shown.await {
        fail(sample, ended);
    }
    let removal = running.remove(&mut sample.timeline_ns).await;
    if let Some(error) = removal.failed {
        // Recorded even if the second attempt succeeded, since the teardown was then not measured.
        fail(sample, InstanceEnd::Failed(error));
    }
    left_behind(sample, &mut end, removal.left_behind);
    end
}

fn left_behind(sample: &mut Sample, end: &mut End, texts: impl IntoIterator<Item = String>) {
    for text in texts {
        end.left_behind.push(text.clone());
        fail(sample, InstanceEnd::Failed(text));
    }
}

/// From the request to the last reading; without the removal.
async fn measure(
    running: &mut RunningInstance,
    target: &dyn Target,
    scenario: &Scenario,
    sample: &mut Sample,
    step: &mut (dyn FnMut(Step) + Send),
) -> Result<(), InstanceEnd> {
    let sampling = &scenario.sampling;
    step(Step::Starting);
    let meter = running.attach_meter(Meter::before(&target.daemons())?)?;
    running.request(&mut sample.timeline_ns).await?;
    running.attach(meter)?;
    sample.cpu_ns.startup = Some(running.cpu_ns()?);

    step(Step::Settling);
    // An instance that resumes with its memory does not boot.
    let boots = target.boots() && !target.begins().keeps_memory();
    let times = if boots { Some(system_up(running).await?) } else { None };
    running.wait(sampling.settle.0).await?;
    step(Step::Reading);
    sample.memory_bytes = metered(running, Meter::memory)?;
    let answer = |m: &FromAgent| matches!(m, FromAgent::Readings(_));
    if let FromAgent::Readings(readings) = running.ask(&ToAgent::Read, answer).await? {
        sample.memory_bytes.workload_rss = readings.workload_rss;
        // An instance that shares the host's kernel would report the host's own cache.
        sample.memory_bytes.guest_cache =
            readings.page_cache.filter(|_| target.info().accelerator != Accelerator::None);
    }
    if !sampling.idle.0.is_zero() {
        step(Step::Idling);
        let (from, used) = (Timestamp::now(), metered(running, Meter::own_cpu_ns)?);
        running.wait(sampling.idle.0).await?;
        sample.cpu_ns.idle = Some(metered(running, Meter::own_cpu_ns)?.saturating_sub(used));
        sample.cpu_ns.idle_window = Some(Timestamp::now().since(from));
    }
    let disk = inside::disk(running, target.info().accelerator != Accelerator::None, sample).await?;
    if scenario.workload.work.is_some() {
        step(Step::Working);
        work(running, scenario, sample).await?;
    }
    if let Some(file) = scenario.cow {
        step(Step::Copying);
        inside::copy(running, &disk, file, scenario.sampling.timeout.0, sample).await?;
    }
    let seen = inside::introspect(running, &disk).await?;
    let answer = |m: &FromAgent| matches!(m, FromAgent::Identity(_));
    if let FromAgent::Identity(identity) = running.ask(&ToAgent::Identify, answer).await? {
        sample.isolation = seen.map(|seen| seen.record(&identity.boot_id));
        sample.identity = Some(identity_record(identity));
    }
    sample.surroundings = inside::surroundings(running).await?;
    if let Some(times) = times {
        let own_kernel = target.info().accelerator != Accelerator::None;
        let uptime = running.uptime_ns().filter(|_| own_kernel);
        sample.boot_ns = Some(boot::divided(&sample.timeline_ns, uptime, times));
    }
    inside::image_size(&disk, sample).await;
    Ok(())
}

/// Waits until its systemd has finished starting, since readings of a system that still starts are too high, and
/// returns the parts of its boot. Asks about once a second, after ready and before the first reading. A system that
/// takes longer gets a caveat.
async fn system_up(running: &mut RunningInstance) -> Result<BootTimes, InstanceEnd> {
    let deadline = Instant::now() + SYSTEM_UP;
    loop {
        let answer = |m: &FromAgent| matches!(m, FromAgent::BootTimes(_));
        let FromAgent::BootTimes(times) = running.ask(&ToAgent::BootTimes, answer).await? else {
            return Ok(BootTimes::default());
        };
        let starting = times.userspace_ns.is_some() && times.finished_ns.is_none() && times.error.is_none();
        if !starting || Instant::now() > deadline {
            return Ok(times);
        }
        running.wait(SYSTEM_ASKED).await?;
    }
}

/// A reading of the instance's meter.
pub(super) fn metered<T>(
    running: &RunningInstance,
    read: impl Fn(&Meter) -> Result<T, probe::Error>,
) -> Result<T, InstanceEnd> {
    let meter = running
        .meter()
        .ok_or_else(|| InstanceEnd::Failed("it is not ready to be read: this is a bug".into()))?;
    Ok(read(meter)?)
}

async fn ping(running: &mut RunningInstance, count: u32, trips: &mut Vec<u64>) -> Result<(), InstanceEnd> {
    for token in 1..=u64::from(count) {
        let from = Timestamp::now();
        running.send(&ToAgent::Ping { token })?;
        let answer = |m: &FromAgent| *m == FromAgent::Pong { token };
        trips.push(running.answer(answer, ANSWER).await?.0.since(from));
    }
    Ok(())
}

async fn work(
    running: &mut RunningInstance,
    scenario: &Scenario,
    sample: &mut Sample,
) -> Result<(), InstanceEnd> {
    let Some(work) = &scenario.workload.work else { return Ok(()) };
    let env = scenario.workload.env.clone().into_iter().collect();
    let work = protocol::Work { argv: work.command.clone(), env };
    let used = metered(running, Meter::own_cpu_ns)?;
    running.send(&ToAgent::Work(work))?;
    let limit = scenario.sampling.timeout.0;
    let (from, _) = running.answer(|m| matches!(m, FromAgent::WorkStarted), limit).await?;
    let (to, done) =
        running.answer(|m| matches!(m, FromAgent::WorkDone(_)), limit).await.map_err(|e| match e {
            InstanceEnd::TimedOut(_) => {
                InstanceEnd::TimedOut(format!("the work command has not ended within {limit:?}"))
            }
            other => other,
        })?;
    if let FromAgent::WorkDone(done) = done {
        if done.exit.code != Some(0) {
            return Err(InstanceEnd::Failed(format!("the work command failed: {}", how(&done.exit))));
        }
        sample.work_ns.cpu_guest = Some(done.cpu_ns);
    }
    sample.work_ns.cpu = Some(metered(running, Meter::own_cpu_ns)?.saturating_sub(used));
    sample.work_ns.wall = Some(to.since(from));
    Ok(())
}

pub(super) fn identity_record(identity: protocol::Identity) -> Identity {
    Identity {
        image_digest: identity.image_digest,
        agent_digest: identity.agent_digest,
        workload_digest: identity.workload_digest,
        argv: identity.argv,
        kernel_release: identity.kernel_release,
        boot_id: identity.boot_id,
    }
}
