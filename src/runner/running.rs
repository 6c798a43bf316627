//! One instance, from staging until nothing of it is left. It can run and be read for any time. Its events wait until
//! the runner asks for them, and cost nothing until then.

use std::time::Duration;

use bootrace_agent::protocol::{self, FromAgent, ToAgent};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use super::{
    events::EventStream,
    outcome::{InstanceEnd, how, printed},
};
use crate::{
    agent,
    control::{ChannelEvent, Control, Event, Greeting, Timestamp},
    probe::{self, Meter, Shortage, disk},
    sample::{Accelerator, Timeline},
    scenario::{Bytes, Ready, Scenario, Span},
    sys::load::Load,
    target::{self, Instance, InstanceId, Target},
};

mod restart;

/// How long an engine may take to finish a start call after the user has stopped the run: an interrupted start is
/// harder to remove.
const START_GRACE: Duration = Duration::from_secs(10);
/// Limit for answers of the agent that need no work.
pub(super) const ANSWER: Duration = Duration::from_secs(60);
/// Limit for an engine to remove an instance, and again to undo its staging. Generous, since engines of a busy host
/// are slow; but an engine that never answers must not hold up the run.
const REMOVAL: Duration = Duration::from_secs(120);
/// Limit for an engine's explanation of a failure.
const EXPLANATION_TIMEOUT: Duration = Duration::from_secs(5);

/// An instance's limits.
#[derive(Debug, Clone)]
pub struct LaunchSpec {
    workload: protocol::Workload,
    ready: Ready,
    /// From requested to ready.
    limit: Span,
    /// The scenario's key of this limit.
    limit_key: &'static str,
    /// Limit of each attempt to remove it.
    removal: Duration,
    memory: Bytes,
}

impl LaunchSpec {
    pub fn of(scenario: &Scenario) -> Self {
        LaunchSpec {
            workload: workload(scenario),
            ready: scenario.workload.ready.clone(),
            limit: scenario.sampling.timeout,
            limit_key: "sampling.timeout",
            removal: REMOVAL,
            memory: scenario.resources.memory,
        }
    }

    /// The same limits with another one on start-up, from this key of the scenario.
    pub fn within(self, limit: Span, limit_key: &'static str) -> Self {
        LaunchSpec { limit, limit_key, ..self }
    }
}

/// The scenario's workload as the protocol sends it to the agent.
pub fn workload(scenario: &Scenario) -> protocol::Workload {
    let workload = &scenario.workload;
    protocol::Workload {
        argv: workload.command.clone(),
        env: workload.env.clone().into_iter().collect(),
        user: workload.user.clone(),
        capabilities: scenario.resources.capabilities.bits(),
        ready: match workload.ready.clone() {
            Ready::Exit(code) => protocol::Ready::Exit(code),
            Ready::Line(regex) => protocol::Ready::Line(regex),
            Ready::Tcp(port) => protocol::Ready::Tcp(port),
            Ready::File(path) => protocol::Ready::File(path),
        },
    }
}

pub struct RunningInstance {
    instance: Box<dyn Instance>,
    events: EventStream,
    launch_spec: LaunchSpec,
    instance_id: InstanceId,
    greeting: Greeting,
    /// Whether it has its own kernel, whose memory is its limit.
    own_kernel: bool,
    /// Whether its agent speaks, and would answer.
    speaks: bool,
    stop: CancellationToken,
    requested: Timestamp,
    /// Attached when it is ready.
    meter: Option<Meter>,
    /// CPU time in ns that the meter had counted before the request: a paused instance's initial start.
    spent: u64,
    /// The uptime of the agent's kernel at its hello.
    uptime_ns: Option<u64>,
}

/// The outcome of a removal.
#[derive(Debug, Default)]
pub struct Removal {
    /// Why the first attempt failed. The teardown is then not measured, even if the second attempt succeeded.
    pub failed: Option<String>,
    /// What could not be removed, and why.
    pub left_behind: Vec<String>,
}

impl RunningInstance {
    /// Opens the control socket and stages the instance; requests nothing yet. After a failure the instance's directory
    /// still has to be removed.
    pub(super) async fn stage(
        target: &dyn Target,
        launch_spec: &LaunchSpec,
        instance_id: &InstanceId,
        stop: &CancellationToken,
    ) -> Result<Self, InstanceEnd> {
        let control = Control::listen(
            &instance_id.socket(),
            instance_id.nonce.clone(),
            &ToAgent::Start(launch_spec.workload.clone()),
            target.greeting(),
        )
        .map_err(|e| InstanceEnd::Failed(format!("listening at {}: {e}", instance_id.socket().display())))?;
        let mut instance = target.stage(instance_id).await?;
        let events = EventStream::new(control, instance.ended());
        Ok(RunningInstance {
            instance,
            events,
            launch_spec: launch_spec.clone(),
            instance_id: instance_id.clone(),
            greeting: target.greeting(),
            own_kernel: target.info().accelerator != Accelerator::None,
            speaks: false,
            stop: stop.clone(),
            requested: Timestamp::now(),
            meter: None,
            spent: 0,
            uptime_ns: None,
        })
    }

    /// Requested -> ready: the measured path. All its timestamps are taken here.
    pub(super) async fn request(&mut self, timeline: &mut Timeline) -> Result<(), InstanceEnd> {
        let deadline = Instant::now() + self.launch_spec.limit.0;
        self.requested = Timestamp::now();
        self.start(deadline).await?;
        timeline.started = Some(Timestamp::now().since(self.requested));
        tracing::debug!(instance = self.instance_id.instance, "the engine's start call has returned");
        self.until_ready(timeline, deadline).await
    }

    /// When it was requested.
    pub(super) fn requested(&self) -> Timestamp {
        self.requested
    }

    /// Attaches the meter that was made before the request.
    pub(super) fn attach(&mut self, mut meter: Meter) -> Result<&Meter, InstanceEnd> {
        let leader = self.events.control.peer();
        let leader = leader.ok_or_else(|| InstanceEnd::Failed("the control channel has no peer".into()))?;
        if !meter.is_attached() {
            meter.attach(&self.instance.scope(leader))?;
        }
        Ok(self.meter.insert(meter))
    }

    /// Attaches the meter before a restart and subtracts the CPU time used so far.
    pub(super) fn attach_meter(&mut self, mut meter: Meter) -> Result<Meter, InstanceEnd> {
        if let Some(leader) = self.events.control.peer() {
            meter.attach(&self.instance.scope(leader))?;
            self.spent = meter.cpu_ns()?;
        }
        Ok(meter)
    }

    /// Host CPU time since the request, the engine's daemons included, in ns.
    pub(super) fn cpu_ns(&self) -> Result<u64, InstanceEnd> {
        let meter =
            self.meter().ok_or_else(|| InstanceEnd::Failed("no meter knows it: this is a bug".into()))?;
        Ok(meter.cpu_ns()?.saturating_sub(self.spent))
    }

    /// Uptime of its kernel in ns at the agent's hello; `None` if it has not said hello since this start.
    pub(super) fn uptime_ns(&self) -> Option<u64> {
        self.uptime_ns
    }

    /// Where its disk is; may ask the engine.
    pub(super) async fn disk(&mut self) -> Option<disk::Place> {
        self.instance.disk().await
    }

    /// Its meter, once attached.
    pub(super) fn meter(&self) -> Option<&Meter> {
        self.meter.as_ref()
    }

    async fn start(&mut self, deadline: Instant) -> Result<(), InstanceEnd> {
        let start = self.instance.start();
        tokio::pin!(start);
        tokio::select! {
            result = &mut start => Ok(result?),
            _ = tokio::time::sleep_until(deadline) => {
                Err(self.launch_spec.timed_out("the engine's start call has not returned"))
            }
            _ = self.stop.cancelled() => {
                let _ = timeout_at(deadline.min(Instant::now() + START_GRACE), start).await;
                Err(InstanceEnd::Stopped)
            }
        }
    }

    async fn until_ready(&mut self, timeline: &mut Timeline, deadline: Instant) -> Result<(), InstanceEnd> {
        loop {
            let waiting_for = match (timeline.agent, &self.launch_spec.ready) {
                (None, _) => match self.events.control.refused() {
                    Some(refused) => format!("the agent has not come up ({refused})"),
                    None => "the agent has not come up".into(),
                },
                (_, Ready::Exit(code)) => format!("the workload has not ended with code {code}"),
                (_, Ready::Line(regex)) => {
                    format!("the workload has not printed a line that matches {regex:?}")
                }
                (_, Ready::Tcp(port)) => {
                    format!("the workload does not accept connections on port {port} of 127.0.0.1 or ::1")
                }
                (_, Ready::File(path)) => format!("{path} has not appeared"),
            };
            let Ok(event) = timeout_at(deadline, self.next()).await else {
                return Err(self.launch_spec.timed_out(&waiting_for));
            };
            let event = event?;
            let at = event.at.since(self.requested);
            match event.what {
                ChannelEvent::Said(FromAgent::Hello(hello)) => {
                    if hello.version != protocol::VERSION || hello.build != agent::BUILD {
                        let seen = format!("protocol {}, build {}", hello.version, hello.build);
                        return Err(InstanceEnd::Failed(format!(
                            "the agent in the image is not this program's own ({seen}): bootrace image prune, then run again"
                        )));
                    }
                    timeline.agent = Some(at);
                    self.uptime_ns = Some(hello.uptime_ns);
                }
                ChannelEvent::Said(FromAgent::Awake { .. }) => timeline.agent = Some(at),
                ChannelEvent::Said(FromAgent::Ready { .. }) if timeline.agent.is_some() => {
                    timeline.ready = Some(at);
                    return Ok(());
                }
                ChannelEvent::Said(FromAgent::Exited(exit)) => {
                    return Err(InstanceEnd::Failed(format!(
                        "the workload ended before it was ready: {}",
                        how(&exit)
                    )));
                }
                other => self.ignore_or_fail(other)?,
            }
        }
    }

    /// Waits, and fails if the instance ends meanwhile.
    pub(super) async fn wait(&mut self, time: Duration) -> Result<(), InstanceEnd> {
        let end = Instant::now() + time;
        while let Ok(event) = timeout_at(end, self.next()).await {
            self.ignore_or_fail(event?.what)?;
        }
        Ok(())
    }

    /// Asks the agent and waits for the answer that `wanted` accepts.
    pub(super) async fn ask(
        &mut self,
        question: &ToAgent,
        wanted: impl Fn(&FromAgent) -> bool,
    ) -> Result<FromAgent, InstanceEnd> {
        self.send(question)?;
        Ok(self.answer(wanted, ANSWER).await?.1)
    }

    pub(super) fn send(&self, message: &ToAgent) -> Result<(), InstanceEnd> {
        Ok(self.events.control.send(message)?)
    }

    pub(super) async fn answer(
        &mut self,
        wanted: impl Fn(&FromAgent) -> bool,
        limit: Duration,
    ) -> Result<(Timestamp, FromAgent), InstanceEnd> {
        let deadline = Instant::now() + limit;
        loop {
            let Ok(event) = timeout_at(deadline, self.next()).await else {
                return Err(InstanceEnd::TimedOut(format!("no answer from the agent within {limit:?}")));
            };
            let event = event?;
            match event.what {
                ChannelEvent::Said(message) if wanted(&message) => return Ok((event.at, message)),
                other => self.ignore_or_fail(other)?,
            }
        }
    }

    async fn next(&mut self) -> Result<Event, InstanceEnd> {
        let event = tokio::select! {
            biased;
            _ = self.stop.cancelled() => return Err(InstanceEnd::Stopped),
            event = self.events.next() => event.map_err(InstanceEnd::Failed),
        };
        tracing::debug!(instance = self.instance_id.instance, ?event, "control channel");
        self.speaks = event.as_ref().is_ok_and(|event| matches!(event.what, ChannelEvent::Said(_)));
        event
    }

    /// Ignores events that may come at any time; fails on those that mean the end.
    fn ignore_or_fail(&self, what: ChannelEvent) -> Result<(), InstanceEnd> {
        match what {
            ChannelEvent::Closed => {
                Err(InstanceEnd::Failed("the instance ended: its control channel closed".into()))
            }
            ChannelEvent::Broken(e) => Err(e.into()),
            ChannelEvent::Said(FromAgent::Failed { error, .. }) => {
                Err(InstanceEnd::Failed(format!("the agent reports: {error}")))
            }
            ChannelEvent::Said(FromAgent::Exited(exit))
                if !matches!(self.launch_spec.ready, Ready::Exit(_)) =>
            {
                Err(InstanceEnd::Failed(format!("the workload ended while it was measured: {}", how(&exit))))
            }
            ChannelEvent::Said(_) => Ok(()),
        }
    }

    /// Adds to a failure what the agent, the kernel and the engine know of it.
    pub(super) async fn explain(&mut self, ended: &mut InstanceEnd) {
        let is_late = matches!(ended, InstanceEnd::TimedOut(_));
        let (InstanceEnd::Failed(text) | InstanceEnd::TimedOut(text)) = ended else { return };
        let account = self.account().await.unwrap_or_default();
        // Of a program that has ended, its exit has the output.
        if let Some(output) = account.output.filter(|_| is_late) {
            *text = format!("{text}; {}", printed(&output));
        }
        let was_met = match self.memory_shortage(account.oom_kills) {
            Some(Shortage::Killed) => Some("was met (resources.memory)"),
            Some(Shortage::Full) if is_late => Some(
                "is full, and nothing was killed: the kernel may only be reading its programs' pages again and again; fix: \
                 raise resources.memory",
            ),
            Some(Shortage::Full) | None => None,
        };
        if let Some(was_met) = was_met {
            // In front: a sample keeps the beginning of a long error.
            let limit = self.launch_spec.memory.to_string();
            let (number, unit) = limit.split_at(limit.find(char::is_alphabetic).unwrap_or(limit.len()));
            *text = format!("its memory limit of {number} {unit} {was_met}: {text}");
        }
        if let Ok(Some(account)) = timeout(EXPLANATION_TIMEOUT, self.instance.post_mortem()).await {
            *text = format!("{}. {account}", text.trim_end_matches(['.', '\n']));
        }
    }

    /// The agent's account; `None` if it does not answer.
    async fn account(&mut self) -> Option<protocol::Account> {
        if !self.speaks {
            return None;
        }
        let asked = self.ask(&ToAgent::Account, |message| matches!(message, FromAgent::Account(_)));
        match timeout(EXPLANATION_TIMEOUT, asked).await {
            Ok(Ok(FromAgent::Account(account))) => Some(account),
            _ => None,
        }
    }

    /// Whether its workload lacks memory. The counter of a kernel that is not its own is of the whole host.
    fn memory_shortage(&self, guest_kills: u64) -> Option<Shortage> {
        match self.events.control.peer() {
            _ if self.own_kernel => (guest_kills > 0).then_some(Shortage::Killed),
            Some(leader) => probe::memory_shortage(&self.instance.scope(leader)).unwrap_or(None),
            None => None,
        }
    }

    /// Stopping -> gone, then undoes the staging and removes the instance's directory.
    pub(super) async fn remove(&mut self, timeline: &mut Timeline) -> Removal {
        let mut removal = Removal::default();
        timeline.stopping = Some(Timestamp::now().since(self.requested));
        let limit = self.launch_spec.removal;
        match within(limit, "removing it", self.instance.remove()).await {
            Ok(()) => timeline.gone = Some(Timestamp::now().since(self.requested)),
            Err(first) => {
                removal.failed = Some(first.to_string());
                sleep(Duration::from_secs(1)).await;
                if let Err(e) = within(limit, "removing it once more", self.instance.remove()).await {
                    // Both say the same of an engine that is down. Nobody knows then whether the instance is there.
                    removal.failed = removal.failed.filter(|first| *first != e.to_string());
                    let text = format!("{e}; it may be left behind: bootrace clean removes it then");
                    removal.left_behind.push(text);
                }
            }
        }
        match within(limit, "undoing its staging", self.instance.unstage()).await {
            Ok(()) => removal.left_behind.extend(remove_dir(&self.instance_id).err()),
            // Its directory stays: something may still be mounted there.
            Err(e) => removal.left_behind.push(left_behind(&e)),
        }
        removal
    }
}

impl LaunchSpec {
    fn timed_out(&self, what: &str) -> InstanceEnd {
        InstanceEnd::TimedOut(format!("{what} within {} ({})", self.limit, self.limit_key))
    }
}

/// Waits for an engine's action, and fails if it takes too long.
async fn within(
    limit: Duration,
    tried: &str,
    work: impl Future<Output = Result<(), target::Error>>,
) -> Result<(), target::Error> {
    timeout(limit, work).await.unwrap_or_else(|_| {
        let why = format!("its engine has not done it within {limit:?}: {}", Load::now().explain());
        Err(target::Error::new(tried, why))
    })
}

/// Removes the directory of an instance that is gone or was never staged.
///
/// # Errors
/// The text for the user when the directory can't be removed.
pub(super) fn remove_dir(instance_id: &InstanceId) -> Result<(), String> {
    std::fs::remove_dir_all(&instance_id.dir)
        .map_err(|e| left_behind(&target::Error::new(format!("removing {}", instance_id.dir.display()), e)))
}

fn left_behind(error: &target::Error) -> String {
    format!("{error}; it is left behind: bootrace clean removes it")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        runner,
        target::fake::{Fake, Log, Part},
    };

    #[tokio::test]
    async fn a_removal_that_never_ends_is_given_up_and_may_be_left_behind() {
        let dir = tempfile::tempdir().unwrap();
        let instance_id = runner::make_instance_id(dir.path(), "run", 0).unwrap();
        let (scenario, _) = crate::scenario::find("quickstart").unwrap();
        let launch_spec = LaunchSpec { removal: Duration::from_millis(5), ..LaunchSpec::of(&scenario) };
        let log: Log = Arc::default();
        let fake = Fake::new("a", &log, &[Part::RemoveHangs]);
        let mut running =
            RunningInstance::stage(&fake, &launch_spec, &instance_id, &CancellationToken::new())
                .await
                .ok()
                .unwrap();
        let mut timeline = Timeline::default();
        let removal = running.remove(&mut timeline).await;
        assert!(removal.failed.is_some_and(|why| why.contains("has not done it within 5ms")));
        assert_eq!(timeline.gone, None, "nobody knows when it went");
        let [left] = &removal.left_behind[..] else { panic!("{:?}", removal.left_behind) };
        assert!(left.ends_with("it may be left behind: bootrace clean removes it then"), "{left}");
        assert_eq!(log.lock().unwrap()[..], ["stage a", "remove a", "remove a"]);
    }
}
