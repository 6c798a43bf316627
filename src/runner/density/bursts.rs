//! Bursts: several instances requested at once, each by its own thread and with its own timestamps.

use std::sync::Arc;

use tokio::{runtime::Handle, sync::Barrier, task::JoinSet};

use super::{Filling, remove, remove_dir};
use crate::{
    control::Timestamp,
    runner::{
        Step,
        outcome::{InstanceEnd, bounded, contained},
        running::{LaunchSpec, RunningInstance},
    },
    sample::{
        Timeline,
        density::{Burst, Limit},
    },
};

/// The number of errors kept of one burst: failures of one burst are mostly alike.
const ERRORS: usize = 3;

impl Filling<'_> {
    /// Why this target gets no burst of this size; `None` if it gets one.
    pub(super) fn no_burst(&mut self, burst: u32, failed: bool) -> Option<String> {
        let most = self.record().most;
        if failed {
            return Some("adding one at a time ended with a failure; fix that and run again".into());
        }
        if burst > most {
            return Some(format!(
                "it may have {most} at once; raise density.instances (of VMs density.vms), or take it out of density.bursts"
            ));
        }
        let record = self.record();
        let reached = record.reached();
        if record.limit == Some(Limit::Startup) && burst > reached {
            return Some(format!(
                "start-up was over its bound with more than {reached}; take it out of density.bursts, or raise density.startup"
            ));
        }
        let why = self.too_little(burst)?;
        Some(format!("{why}; free some, or take it out of density.bursts"))
    }

    /// Requests `n` instances at once, waits until each is ready or has failed, and removes them. Fails only when an
    /// instance's directory can't be made.
    pub(super) async fn burst(&mut self, n: u32) -> anyhow::Result<()> {
        let (mut staged, mut errors) = (Vec::new(), Vec::new());
        // density.startup limits only instances that start alone.
        let launch_spec = LaunchSpec::of(self.host.scenario);
        for _ in 0..n {
            let instance_id = match self.instance_id() {
                Ok(instance_id) => instance_id,
                Err(e) => {
                    remove(staged).await;
                    return Err(e);
                }
            };
            match RunningInstance::stage(self.target.as_ref(), &launch_spec, &instance_id, self.host.stop)
                .await
            {
                Ok(running) => staged.push(running),
                Err(ended) => {
                    errors.push(ended);
                    self.results.run.warnings.extend(remove_dir(&instance_id).err());
                }
            }
        }
        self.show(n, n, Step::Starting);
        let mut done = at_once(staged).await;
        let mut instances = Vec::new();
        let (mut ready, mut requests) = (Vec::new(), Vec::new());
        for (running, timeline, ended) in done.came.drain(..) {
            requests.push(running.requested());
            instances.push(running);
            match ended {
                Ok(()) => ready.extend(timeline.ready.map(|ns| (requests[requests.len() - 1], ns))),
                Err(mut ended) => {
                    if let Some(running) = instances.last_mut() {
                        running.explain(&mut ended).await;
                    }
                    errors.push(ended);
                }
            }
        }
        self.show(n, n, Step::Removing);
        for (_, _, removal) in remove(instances).await {
            self.removed(removal);
        }
        if errors.iter().any(|ended| matches!(ended, InstanceEnd::Stopped)) {
            return Ok(());
        }
        let burst = of(n, &ready, &requests, texts(errors, done.lost));
        self.record().bursts.push(burst);
        Ok(())
    }
}

/// The outcome of a burst's requests.
struct Done {
    came: Vec<(RunningInstance, Timeline, Result<(), InstanceEnd>)>,
    /// The errors of threads that panicked.
    lost: Vec<String>,
}

/// Requests each instance in its own thread, since a start call may block. The threads wait for each other first, so
/// that no start-up includes the creation of threads.
async fn at_once(staged: Vec<RunningInstance>) -> Done {
    let barrier = Arc::new(Barrier::new(staged.len().max(1)));
    let mut tasks = JoinSet::new();
    for mut running in staged {
        let barrier = barrier.clone();
        let runtime = Handle::current();
        tasks.spawn_blocking(move || {
            runtime.block_on(async {
                barrier.wait().await;
                let mut timeline = Timeline::default();
                let ended = contained(running.request(&mut timeline)).await;
                (running, timeline, ended)
            })
        });
    }
    let mut done = Done { came: Vec::new(), lost: Vec::new() };
    while let Some(joined) = tasks.join_next().await {
        match joined {
            Ok(one) => done.came.push(one),
            Err(e) => done.lost.push(format!("its thread was lost: {e}")),
        }
    }
    done
}

fn texts(errors: Vec<InstanceEnd>, lost: Vec<String>) -> Vec<String> {
    let text = |ended| match ended {
        InstanceEnd::Failed(text) | InstanceEnd::TimedOut(text) => bounded(text),
        InstanceEnd::Stopped => "stopped by the user".into(),
    };
    errors.into_iter().map(text).chain(lost).collect()
}

/// `ready`: request and start-up in ns of each instance that became ready.
fn of(n: u32, ready: &[(Timestamp, u64)], requests: &[Timestamp], mut errors: Vec<String>) -> Burst {
    errors.truncate(ERRORS);
    let first = requests.iter().min().copied();
    let mut ready_ns: Vec<u64> = ready.iter().map(|(_, ns)| *ns).collect();
    ready_ns.sort_unstable();
    Burst {
        n,
        failed: n - ready_ns.len() as u32,
        ready_ns,
        errors,
        request_spread_ns: first.zip(requests.iter().max()).map(|(first, last)| last.since(first)),
        all_ready_ns: first.and_then(|first| ready.iter().map(|(at, ns)| at.since(first) + ns).max()),
    }
}
