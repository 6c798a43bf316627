//! Density: how many instances a host holds at once. For each target in turn it adds instances one by one until a
//! limit is reached, then starts bursts of several at once. It removes all of them in every case.
//!
//! It measures a start with the code of a trial. Meanwhile it asks the earlier instances nothing: their messages wait
//! for the next reading.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::Arc,
};

use anyhow::Context;
use futures_util::{FutureExt, StreamExt, future::join_all, stream};
use tokio_util::sync::CancellationToken;

use super::{
    Step, Watch, make_instance_id,
    outcome::{InstanceEnd, bounded, contained, fail, panicked},
    running::{LaunchSpec, Removal, RunningInstance, remove_dir},
    trial::metered,
};
use crate::{
    control::Timestamp,
    plan::Trial,
    probe::{Meter, host},
    sample::{
        Accelerator, Outcome, Results, Sample, Timeline,
        density::{self, Limit},
    },
    scenario::{Density, Scenario, Span},
    target::{InstanceId, Target},
};

mod bursts;
mod files;
mod identity;
mod record;

use record::{record, step};

/// The number of instances removed at a time. Engines do little more at once, and their queues would only grow.
const REMOVED_AT_ONCE: usize = 4;
/// How long the runner waits for the reason when an instance can't be read any more.
const REASON_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(4);

/// What the density of all targets shares.
pub struct Host<'a> {
    pub scenario: &'a Scenario,
    /// The directory of the instances' files and control sockets.
    pub instances: &'a Path,
    pub stop: &'a CancellationToken,
}

/// Fills each target of the scenario's density, if it has one. `first` is the number of the next instance.
///
/// # Errors
/// When results can't be saved or an instance's directory can't be made. No instance is left running.
pub async fn run(
    host: &Host<'_>,
    targets: Vec<Box<dyn Target>>,
    first: usize,
    results: &mut Results,
    watch: &mut dyn Watch,
) -> anyhow::Result<()> {
    let Some(density) = &host.scenario.density else { return Ok(()) };
    let mut number = first;
    results.run.warnings.extend(files::allow(density.instances.max(density.vms.unwrap_or(0))));
    for target in targets {
        let info = target.info();
        if host.stop.is_cancelled() {
            break;
        }
        if !density.has(&info.name) {
            continue;
        }
        let most = density.most(info.accelerator != Accelerator::None);
        results.density.push(record(host.scenario, density, &info.name, most, results.host.memory_bytes));
        results.run.warnings.extend(results.density.last().and_then(record::unbounded));
        let startup = match density.startup {
            Some(startup) => LaunchSpec::of(host.scenario).within(startup, "density.startup"),
            None => LaunchSpec::of(host.scenario),
        };
        let mut filling = Filling {
            host,
            density,
            target: target.into(),
            name: info.name,
            launch_spec: startup,
            number: &mut number,
            results,
            watch,
            running: Vec::new(),
        };
        filling.all().await?;
    }
    Ok(())
}

/// The state while one target is being filled.
struct Filling<'a> {
    host: &'a Host<'a>,
    density: &'a Density,
    target: Arc<dyn Target>,
    name: String,
    launch_spec: LaunchSpec,
    /// Number of the next instance.
    number: &'a mut usize,
    results: &'a mut Results,
    watch: &'a mut dyn Watch,
    /// The running instances, in the order of the record's steps.
    running: Vec<RunningInstance>,
}

/// The limit that stopped the additions, and its explanation.
type Stop = (Limit, String);

impl Filling<'_> {
    async fn all(&mut self) -> anyhow::Result<()> {
        let begin = Timestamp::now();
        let added = AssertUnwindSafe(self.add_and_check()).catch_unwind().await;
        let added = added.unwrap_or_else(|panic| Ok((Limit::Failure, panicked(&*panic))));
        self.remove_all().await;
        let limit = added?;
        let failed = limit.0 == Limit::Failure;
        let record = self.record();
        (record.limit, record.limit_why) = (Some(limit.0), Some(bounded(limit.1)));
        record.wall_ns = Some(Timestamp::now().since(begin));
        self.save()?;
        for burst in self.density.bursts.clone() {
            if self.host.stop.is_cancelled() {
                break;
            }
            match self.no_burst(burst, failed) {
                Some(why) => {
                    let text = format!("density: no burst of {burst} on {}: {why}", self.name);
                    self.results.run.warnings.push(text);
                }
                None => self.burst(burst).await?,
            }
            self.record().wall_ns = Some(Timestamp::now().since(begin));
            self.save()?;
        }
        Ok(())
    }

    async fn add_and_check(&mut self) -> anyhow::Result<Stop> {
        let added = self.add_all().await?;
        if matches!(added.0, Limit::Count | Limit::Memory | Limit::Startup)
            && let Err(void) = self.check_identities().await
        {
            return Ok(void);
        }
        Ok(added)
    }

    /// Adds instances one by one until a limit. An error means that results can't be saved; the instances still run.
    async fn add_all(&mut self) -> anyhow::Result<Stop> {
        let daemons = match Meter::before(&self.target.daemons()) {
            Ok(daemons) => daemons,
            Err(e) => return Ok((Limit::Failure, format!("before the first: reading {e}"))),
        };
        loop {
            let (n, most) = (self.running.len() as u32 + 1, self.record().most);
            if self.host.stop.is_cancelled() {
                return Ok(stopped());
            }
            if n > most {
                return Ok((Limit::Count, format!("all {most} requested instances ran at once")));
            }
            if let Some(why) = self.too_little(1) {
                return Ok((Limit::Memory, why));
            }
            let instance_id = self.instance_id()?;
            let added = self.add(n, most, &instance_id).await;
            let stop = match added {
                Some(stop) => Some(stop),
                None => self.read(n, most, &daemons).await.err(),
            };
            self.save()?;
            if let Some(stop) = stop {
                return Ok(stop);
            }
        }
    }

    /// Starts the n-th instance, waits until it is ready and records it, unless the user stopped it.
    async fn add(&mut self, n: u32, most: u32, instance_id: &InstanceId) -> Option<Stop> {
        let place = Trial { target: 0, round: n, position: 0, warmup: false };
        let mut sample = Sample::blank(&self.name, &place);
        let ended = match RunningInstance::stage(
            self.target.as_ref(),
            &self.launch_spec,
            instance_id,
            self.host.stop,
        )
        .await
        {
            Err(ended) => {
                self.results.run.warnings.extend(remove_dir(instance_id).err());
                ended
            }
            Ok(mut running) => {
                self.show(n, most, Step::Starting);
                match contained(self.start(&mut running, &mut sample)).await {
                    Ok(()) => {
                        self.running.push(running);
                        self.record().steps.push(step(n, &sample));
                        return None;
                    }
                    Err(mut ended) => {
                        running.explain(&mut ended).await;
                        let removal = running.remove(&mut sample.timeline_ns).await;
                        self.removed(removal);
                        ended
                    }
                }
            }
        };
        if matches!(ended, InstanceEnd::Stopped) {
            return Some(stopped());
        }
        fail(&mut sample, ended);
        let why = format!("number {n}: {}", sample.error.as_deref().unwrap_or_default());
        self.record().steps.push(step(n, &sample));
        match sample.outcome {
            Outcome::TimedOut => Some((Limit::Startup, why)),
            _ => Some((Limit::Failure, why)),
        }
    }

    async fn start(&self, running: &mut RunningInstance, sample: &mut Sample) -> Result<(), InstanceEnd> {
        let meter = Meter::before(&self.target.daemons())?;
        running.request(&mut sample.timeline_ns).await?;
        sample.cpu_ns.startup = Some(running.attach(meter)?.cpu_ns()?);
        Ok(())
    }

    /// Reads all running instances into the last step.
    async fn read(&mut self, n: u32, most: u32, daemons: &Meter) -> Result<(), Stop> {
        self.watch.filling(&self.name, n, most, Step::Settling);
        self.wait(self.density.settle).await?;
        self.watch.filling(&self.name, n, most, Step::Reading);
        let host = host::memory();
        let footprints = self.read_meters(|meter| Ok(meter.own_memory()?.footprint)).await?;
        let daemons = daemons.memory().map(|memory| memory.daemons);
        if let Err(e) = &daemons {
            return Err((Limit::Failure, format!("with {n} running: reading {e}")));
        }
        let last = self.last();
        last.host = host;
        last.footprint_sum_bytes = footprints.iter().copied().sum();
        last.footprint_bytes = footprints.last().copied().flatten();
        last.daemons_bytes = daemons.ok().flatten();
        let idle = self.host.scenario.sampling.idle;
        if !idle.0.is_zero() {
            self.watch.filling(&self.name, n, most, Step::Idling);
            let before = self.read_meters(Meter::own_cpu_ns).await?;
            let from = Timestamp::now();
            self.wait(idle).await?;
            let after = self.read_meters(Meter::own_cpu_ns).await?;
            // Both passes read in the same order and speed, so each instance's window is the time between their ends.
            let window = Timestamp::now().since(from);
            let used = after.iter().zip(&before).map(|(after, before)| after.saturating_sub(*before)).sum();
            let last = self.last();
            (last.idle_cpu_sum_ns, last.idle_window_ns) = (Some(used), Some(window));
        }
        Ok(())
    }

    /// Waits, and fails if an instance ends meanwhile.
    async fn wait(&mut self, time: Span) -> Result<(), Stop> {
        let waited = join_all(self.running.iter_mut().map(|running| running.wait(time.0))).await;
        let ended = waited.into_iter().enumerate().filter_map(|(i, ended)| Some((i, ended.err()?)));
        self.died(ended.collect()).await
    }

    /// Reads each instance's meter once.
    async fn read_meters<T>(
        &mut self,
        read: impl Fn(&Meter) -> Result<T, crate::probe::Error>,
    ) -> Result<Vec<T>, Stop> {
        let mut values = Vec::new();
        for i in 0..self.running.len() {
            let running = &mut self.running[i];
            match metered(running, &read) {
                Ok(value) => values.push(value),
                Err(ended) => {
                    // The instance or its engine may have sent a better reason.
                    let said = running.wait(REASON_TIMEOUT).await.err();
                    self.died(vec![(i, said.unwrap_or(ended))]).await?;
                }
            }
        }
        Ok(values)
    }

    /// Records the instances that ended by themselves, and fails if there is one.
    async fn died(&mut self, mut ended: Vec<(usize, InstanceEnd)>) -> Result<(), Stop> {
        if ended.iter().any(|(_, ended)| matches!(ended, InstanceEnd::Stopped)) {
            return Err(stopped());
        }
        let Some((i, why)) = ended.first_mut() else { return Ok(()) };
        self.running[*i].explain(why).await;
        let (InstanceEnd::Failed(text) | InstanceEnd::TimedOut(text)) = why else { return Err(stopped()) };
        let text =
            bounded(format!("number {} ended while there were {}: {text}", *i + 1, self.running.len()));
        self.record().died += ended.len() as u32;
        self.last().error = Some(text.clone());
        Err((Limit::Failure, text))
    }

    /// Why the host has too little memory for so many more instances; `None` if it has enough or does not say.
    fn too_little(&mut self, more: u32) -> Option<String> {
        let available = host::memory().available_bytes?;
        let record = self.record();
        let mut sums: Vec<u64> = record.steps.iter().filter_map(|step| step.footprint_sum_bytes).collect();
        sums.insert(0, 0);
        let growths = sums.windows(2).map(|pair| pair[1].saturating_sub(pair[0]));
        let each = growths.max().unwrap_or(0);
        let left = record.memory_left_bytes;
        (available.saturating_sub(each * u64::from(more)) < left).then(|| {
            let mib = |bytes: u64| bytes >> 20;
            format!(
                "the host had {} MiB available, and {more} more, at {} MiB as the largest so far, would have left it less \
                 than {} MiB (density.memory_left)",
                mib(available),
                mib(each),
                mib(left)
            )
        })
    }

    /// Removes all instances, several at a time, and adds the timestamps of the removal to their steps.
    async fn remove_all(&mut self) {
        let running = std::mem::take(&mut self.running);
        if running.is_empty() {
            return;
        }
        let all = running.len() as u32;
        self.show(all, all, Step::Removing);
        let begin = Timestamp::now();
        for (i, moments, removal) in remove(running).await {
            let timeline = &mut self.record().steps[i].timeline_ns;
            (timeline.stopping, timeline.gone) = (moments.stopping, moments.gone);
            self.removed(removal);
        }
        self.record().removal_ns = Some(Timestamp::now().since(begin));
    }

    fn removed(&mut self, removal: Removal) {
        let first = removal.failed.map(|error| format!("a removal took a second try: {error}"));
        self.results.run.warnings.extend(first.into_iter().chain(removal.left_behind));
    }

    fn instance_id(&mut self) -> anyhow::Result<InstanceId> {
        let instance_id = make_instance_id(self.host.instances, &self.results.run.id, *self.number)?;
        *self.number += 1;
        Ok(instance_id)
    }

    fn record(&mut self) -> &mut density::Density {
        self.results.density.last_mut().expect("made before the target is filled")
    }

    fn last(&mut self) -> &mut density::Step {
        self.record().steps.last_mut().expect("made when its instance was added")
    }

    /// Shows a step between instances' start and removal, which no panic may prevent.
    fn show(&mut self, n: u32, most: u32, step: Step) {
        let _ = catch_unwind(AssertUnwindSafe(|| self.watch.filling(&self.name, n, most, step)));
    }

    fn save(&mut self) -> anyhow::Result<()> {
        self.watch.filled(self.results).context("saving what was taken of the density")
    }
}

fn stopped() -> Stop {
    (Limit::Stopped, "the user stopped the run".into())
}

/// Removes instances, several at a time. Returns for each its index and the timestamps of the removal.
async fn remove(running: Vec<RunningInstance>) -> Vec<(usize, Timeline, Removal)> {
    let one = |(i, mut running): (usize, RunningInstance)| async move {
        let mut moments = Timeline::default();
        let removal = running.remove(&mut moments).await;
        (i, moments, removal)
    };
    stream::iter(running.into_iter().enumerate().map(one)).buffer_unordered(REMOVED_AT_ONCE).collect().await
}
