//! One instance from request to gone: the measured path and what is read beside it.

use std::time::Duration;

use bootrace_agent::protocol::{self, FromAgent, ToAgent};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use super::{boot, heard::Heard};
use crate::{
    agent,
    control::{Control, Event, Moment, What},
    probe::{self, Meter, host::Reading},
    sample::{Accelerator, Identity, Outcome, Sample},
    scenario::{Ready, Scenario},
    target::{self, Instance, Target, Ticket},
};

/// How long an engine gets to finish a start call after the user has asked to stop: what is cut off
/// in the middle is harder to remove.
const START_GRACE: Duration = Duration::from_secs(10);
/// For answers of the agent that need no work.
const ANSWER: Duration = Duration::from_secs(60);
/// For an engine's account of what happened.
const POST_MORTEM: Duration = Duration::from_secs(5);
/// Longest error text that is kept in a sample, in bytes.
const ERROR_LIMIT: usize = 4096;

/// What a trial is doing, for the progress bar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Dropping the page cache.
    Cooling,
    Starting,
    Settling,
    /// Its memory is about to be read.
    Reading,
    Idling,
    Working,
    Removing,
}

/// Why a trial gave no good sample.
enum Ended {
    Failed(String),
    TimedOut(String),
    /// The user asked to stop; not a fault of the instance.
    Stopped,
}

impl From<target::Error> for Ended {
    fn from(e: target::Error) -> Self {
        Ended::Failed(e.to_string())
    }
}

impl From<probe::Error> for Ended {
    fn from(e: probe::Error) -> Self {
        Ended::Failed(format!("reading {e}"))
    }
}

impl From<protocol::FrameError> for Ended {
    fn from(e: protocol::FrameError) -> Self {
        Ended::Failed(e.to_string())
    }
}

/// How a trial ended, beside what its sample says.
#[derive(Debug, Default)]
pub struct End {
    /// The user asked to stop half-way: the sample says nothing.
    pub stopped: bool,
    /// What could not be removed, and why.
    pub left_behind: Vec<String>,
    /// From host to agent and back, in ns; as many as were asked for.
    pub round_trips_ns: Vec<u64>,
}

/// Runs one instance and fills in `sample`. Whatever happens, the instance and the ticket's directory are removed.
pub async fn trial(
    target: &dyn Target,
    scenario: &Scenario,
    ticket: &Ticket,
    sample: &mut Sample,
    stop: &CancellationToken,
    step: &mut (dyn FnMut(Step) + Send),
) -> End {
    trial_with_pings(target, scenario, ticket, sample, stop, step, 0).await
}

/// [`trial`], at whose end the agent is asked so many times for an answer.
pub async fn trial_with_pings(
    target: &dyn Target,
    scenario: &Scenario,
    ticket: &Ticket,
    sample: &mut Sample,
    stop: &CancellationToken,
    step: &mut (dyn FnMut(Step) + Send),
    pings: u32,
) -> End {
    let mut end = End::default();
    let control = match Control::listen(&ticket.socket(), ToAgent::Start(workload(scenario))) {
        Ok(control) => control,
        Err(e) => {
            fail(sample, Ended::Failed(format!("listening at {}: {e}", ticket.socket().display())));
            remove_dir(ticket, sample, &mut end);
            return end;
        }
    };
    let mut instance = match target.stage(ticket).await {
        Ok(instance) => instance,
        Err(e) => {
            fail(sample, e.into());
            remove_dir(ticket, sample, &mut end);
            return end;
        }
    };
    let before = Reading::now();
    let heard = Heard::new(control, instance.ended());
    let mut trial = Trial { scenario, heard, stop, requested: Moment::now(), uptime_ns: None };
    let mut meter = None;
    let mut ended = trial.measure(target, instance.as_mut(), sample, &mut meter, step).await;
    if ended.is_ok() && pings > 0 {
        ended = trial.ping(pings, &mut end.round_trips_ns).await;
    }
    // Before it is stopped: what is gone can't be asked any more how much of the host's CPU time was its own.
    let own = meter.as_ref().and_then(|meter| meter.cpu_ns().ok());
    sample.noise = Some(before.until_now(own));
    end.stopped = matches!(ended, Err(Ended::Stopped));
    if let Err(mut ended) = ended {
        if let Ended::Failed(text) | Ended::TimedOut(text) = &mut ended
            && let Ok(Some(account)) = timeout(POST_MORTEM, instance.post_mortem()).await
        {
            *text = format!("{}. {account}", text.trim_end_matches(['.', '\n']));
        }
        fail(sample, ended);
    }
    step(Step::Removing);
    trial.remove(instance.as_mut(), sample, &mut end).await;
    match instance.unstage().await {
        Ok(()) => remove_dir(ticket, sample, &mut end),
        // Its directory stays: something may still be mounted there.
        Err(e) => left_behind(sample, &mut end, e),
    }
    end
}

fn remove_dir(ticket: &Ticket, sample: &mut Sample, end: &mut End) {
    if let Err(e) = std::fs::remove_dir_all(&ticket.dir) {
        left_behind(sample, end, target::Error::new(format!("removing {}", ticket.dir.display()), e));
    }
}

fn left_behind(sample: &mut Sample, end: &mut End, error: target::Error) {
    let text = format!("{error}; it is left behind: bootrace clean removes it");
    end.left_behind.push(text.clone());
    fail(sample, Ended::Failed(text));
}

/// The scenario's workload as the agent is told of it.
pub fn workload(scenario: &Scenario) -> protocol::Workload {
    let workload = &scenario.workload;
    protocol::Workload {
        argv: workload.command.clone(),
        env: workload.env.clone().into_iter().collect(),
        ready: match workload.ready.clone() {
            Ready::Exit(code) => protocol::Ready::Exit(code),
            Ready::Line(regex) => protocol::Ready::Line(regex),
            Ready::Tcp(port) => protocol::Ready::Tcp(port),
            Ready::File(path) => protocol::Ready::File(path),
        },
    }
}

fn fail(sample: &mut Sample, ended: Ended) {
    let (outcome, mut text) = match ended {
        Ended::Failed(text) => (Outcome::Failed, text),
        Ended::TimedOut(text) => (Outcome::TimedOut, text),
        Ended::Stopped => (Outcome::Failed, "stopped by the user".into()),
    };
    if let Some(earlier) = sample.error.take() {
        text = format!("{earlier}; then {text}");
    } else {
        sample.outcome = outcome;
    }
    if text.len() > ERROR_LIMIT {
        text.truncate(text.floor_char_boundary(ERROR_LIMIT));
        text.push_str(" ...");
    }
    sample.error = Some(text);
}

struct Trial<'a> {
    scenario: &'a Scenario,
    heard: Heard,
    stop: &'a CancellationToken,
    requested: Moment,
    /// Of the agent's kernel, at its hello.
    uptime_ns: Option<u64>,
}

impl Trial<'_> {
    /// The meter is `attached` once it knows the instance.
    async fn measure(
        &mut self,
        target: &dyn Target,
        instance: &mut dyn Instance,
        sample: &mut Sample,
        attached: &mut Option<Meter>,
        step: &mut (dyn FnMut(Step) + Send),
    ) -> Result<(), Ended> {
        let sampling = &self.scenario.sampling;
        step(Step::Starting);
        let mut meter = Meter::before(&target.daemons())?;
        let deadline = Instant::now() + sampling.timeout.0;

        self.requested = Moment::now();
        self.start(instance, deadline).await?;
        sample.timeline_ns.started = Some(Moment::now().since(self.requested));
        self.until_ready(sample, deadline).await?;

        let leader = self
            .heard
            .control
            .peer()
            .ok_or_else(|| Ended::Failed("the control channel has no peer".into()))?;
        meter.attach(&instance.scope(leader))?;
        sample.cpu_ns.startup = Some(meter.cpu_ns()?);
        let meter = attached.insert(meter);

        step(Step::Settling);
        self.wait(sampling.settle.0).await?;
        step(Step::Reading);
        sample.memory_bytes = meter.memory()?;
        let answer = |m: &FromAgent| matches!(m, FromAgent::Readings(_));
        if let FromAgent::Readings(readings) = self.ask(&ToAgent::Read, answer).await? {
            sample.memory_bytes.workload_rss = readings.workload_rss;
            // What shares the host's kernel would only say what the host caches.
            sample.memory_bytes.guest_cache =
                readings.page_cache.filter(|_| target.info().accelerator != Accelerator::None);
        }
        if !sampling.idle.0.is_zero() {
            step(Step::Idling);
            let (from, used) = (Moment::now(), meter.own_cpu_ns()?);
            self.wait(sampling.idle.0).await?;
            sample.cpu_ns.idle = Some(meter.own_cpu_ns()?.saturating_sub(used));
            sample.cpu_ns.idle_window = Some(Moment::now().since(from));
        }
        if self.scenario.workload.work.is_some() {
            step(Step::Working);
            self.work(meter, sample).await?;
        }
        let answer = |m: &FromAgent| matches!(m, FromAgent::Identity(_));
        if let FromAgent::Identity(identity) = self.ask(&ToAgent::Identify, answer).await? {
            sample.identity = Some(as_seen_inside(identity));
        }
        if target.boots() {
            let answer = |m: &FromAgent| matches!(m, FromAgent::BootTimes(_));
            if let FromAgent::BootTimes(times) = self.ask(&ToAgent::BootTimes, answer).await? {
                let own_kernel = target.info().accelerator != Accelerator::None;
                let uptime = self.uptime_ns.filter(|_| own_kernel);
                sample.boot_ns = Some(boot::divided(&sample.timeline_ns, uptime, times));
            }
        }
        Ok(())
    }

    async fn start(&self, instance: &mut dyn Instance, deadline: Instant) -> Result<(), Ended> {
        let start = instance.start();
        tokio::pin!(start);
        tokio::select! {
            result = &mut start => Ok(result?),
            _ = tokio::time::sleep_until(deadline) => Err(self.timed_out("the engine's start call has not returned")),
            _ = self.stop.cancelled() => {
                let _ = timeout_at(deadline.min(Instant::now() + START_GRACE), start).await;
                Err(Ended::Stopped)
            }
        }
    }

    async fn until_ready(&mut self, sample: &mut Sample, deadline: Instant) -> Result<(), Ended> {
        loop {
            let waiting_for = match (sample.timeline_ns.agent, &self.scenario.workload.ready) {
                (None, _) => "the agent has not come up".into(),
                (_, Ready::Exit(code)) => format!("the workload has not ended with code {code}"),
                (_, Ready::Line(regex)) => {
                    format!("the workload has not printed a line that matches {regex:?}")
                }
                (_, Ready::Tcp(port)) => format!("the workload does not accept connections on port {port}"),
                (_, Ready::File(path)) => format!("{path} has not appeared"),
            };
            let Ok(event) = timeout_at(deadline, self.next()).await else {
                return Err(self.timed_out(&waiting_for));
            };
            let event = event?;
            let at = event.at.since(self.requested);
            match event.what {
                What::Said(FromAgent::Hello(hello)) => {
                    if hello.version != protocol::VERSION || hello.build != agent::BUILD {
                        let seen = format!("protocol {}, build {}", hello.version, hello.build);
                        return Err(Ended::Failed(format!(
                            "the agent in the image is not this program's own ({seen}): bootrace image prune, then run again"
                        )));
                    }
                    sample.timeline_ns.agent = Some(at);
                    self.uptime_ns = Some(hello.uptime_ns);
                }
                What::Said(FromAgent::Ready { .. }) if sample.timeline_ns.agent.is_some() => {
                    sample.timeline_ns.ready = Some(at);
                    return Ok(());
                }
                What::Said(FromAgent::Exited(exit)) => {
                    return Err(Ended::Failed(format!(
                        "the workload ended before it was ready: {}",
                        how(&exit)
                    )));
                }
                other => self.unless_bad(other)?,
            }
        }
    }

    /// Lets time pass in which the instance must stay as it is.
    async fn wait(&mut self, time: Duration) -> Result<(), Ended> {
        let end = Instant::now() + time;
        while let Ok(event) = timeout_at(end, self.next()).await {
            self.unless_bad(event?.what)?;
        }
        Ok(())
    }

    /// Asks the agent and waits for the answer that `wanted` knows.
    async fn ask(
        &mut self,
        question: &ToAgent,
        wanted: impl Fn(&FromAgent) -> bool,
    ) -> Result<FromAgent, Ended> {
        self.heard.control.send(question)?;
        Ok(self.answer(wanted, ANSWER).await?.1)
    }

    async fn answer(
        &mut self,
        wanted: impl Fn(&FromAgent) -> bool,
        limit: Duration,
    ) -> Result<(Moment, FromAgent), Ended> {
        let deadline = Instant::now() + limit;
        loop {
            let Ok(event) = timeout_at(deadline, self.next()).await else {
                return Err(Ended::TimedOut(format!("no answer from the agent within {limit:?}")));
            };
            let event = event?;
            match event.what {
                What::Said(message) if wanted(&message) => return Ok((event.at, message)),
                other => self.unless_bad(other)?,
            }
        }
    }

    async fn ping(&mut self, count: u32, trips: &mut Vec<u64>) -> Result<(), Ended> {
        for token in 1..=u64::from(count) {
            let from = Moment::now();
            self.heard.control.send(&ToAgent::Ping { token })?;
            let answer = |m: &FromAgent| *m == FromAgent::Pong { token };
            trips.push(self.answer(answer, ANSWER).await?.0.since(from));
        }
        Ok(())
    }

    async fn work(&mut self, meter: &Meter, sample: &mut Sample) -> Result<(), Ended> {
        let Some(work) = &self.scenario.workload.work else { return Ok(()) };
        let env = self.scenario.workload.env.clone().into_iter().collect();
        let work = protocol::Work { argv: work.command.clone(), env };
        let used = meter.own_cpu_ns()?;
        self.heard.control.send(&ToAgent::Work(work))?;
        let limit = self.scenario.sampling.timeout.0;
        let (from, _) = self.answer(|m| matches!(m, FromAgent::WorkStarted), limit).await?;
        let (to, done) =
            self.answer(|m| matches!(m, FromAgent::WorkDone(_)), limit).await.map_err(|e| match e {
                Ended::TimedOut(_) => {
                    Ended::TimedOut(format!("the work command has not ended within {limit:?}"))
                }
                other => other,
            })?;
        if let FromAgent::WorkDone(done) = done {
            if done.exit.code != Some(0) {
                return Err(Ended::Failed(format!("the work command failed: {}", how(&done.exit))));
            }
            sample.cpu_ns.work_guest = Some(done.cpu_ns);
        }
        sample.cpu_ns.work_host = Some(meter.own_cpu_ns()?.saturating_sub(used));
        sample.cpu_ns.work_wall = Some(to.since(from));
        Ok(())
    }

    async fn next(&mut self) -> Result<Event, Ended> {
        tokio::select! {
            biased;
            _ = self.stop.cancelled() => Err(Ended::Stopped),
            event = self.heard.next() => event.map_err(Ended::Failed),
        }
    }

    /// What may come at any time is passed over; what must not is the end.
    fn unless_bad(&self, what: What) -> Result<(), Ended> {
        match what {
            What::Closed => Err(Ended::Failed("the instance ended: its control channel closed".into())),
            What::Broken(e) => Err(e.into()),
            What::Said(FromAgent::Failed { error }) => {
                Err(Ended::Failed(format!("the agent reports: {error}")))
            }
            What::Said(FromAgent::Exited(exit))
                if !matches!(self.scenario.workload.ready, Ready::Exit(_)) =>
            {
                Err(Ended::Failed(format!("the workload ended while it was measured: {}", how(&exit))))
            }
            What::Said(_) => Ok(()),
        }
    }

    fn timed_out(&self, what: &str) -> Ended {
        let limit = self.scenario.sampling.timeout;
        Ended::TimedOut(format!("{what} within {limit} (sampling.timeout)"))
    }

    /// Stopping -> gone. A first failure is kept in the sample even if the second try succeeds, since
    /// the teardown was not measured then.
    async fn remove(&self, instance: &mut dyn Instance, sample: &mut Sample, end: &mut End) {
        sample.timeline_ns.stopping = Some(Moment::now().since(self.requested));
        match instance.remove().await {
            Ok(()) => sample.timeline_ns.gone = Some(Moment::now().since(self.requested)),
            Err(e) => {
                fail(sample, e.into());
                sleep(Duration::from_secs(1)).await;
                if let Err(e) = instance.remove().await {
                    left_behind(sample, end, e);
                }
            }
        }
    }
}

fn how(exit: &protocol::Exit) -> String {
    let end = match (exit.code, exit.signal) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("killed by signal {signal}"),
        (None, None) => "no exit status".into(),
    };
    match exit.output.trim_end() {
        "" => format!("{end}, and it printed nothing"),
        output => format!("{end}; the end of its output: {output}"),
    }
}

fn as_seen_inside(identity: protocol::Identity) -> Identity {
    Identity {
        image_digest: identity.image_digest,
        agent_digest: identity.agent_digest,
        workload_digest: identity.workload_digest,
        argv: identity.argv,
        kernel_release: identity.kernel_release,
        boot_id: identity.boot_id,
    }
}
