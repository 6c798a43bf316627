//! `bootrace run --as-side`: one side of an A/B. It waits for a line on standard input before each trial, and reports
//! on standard output, one [`Event`] as a JSON line each. `bootrace ab` coordinates it.

use std::{
    fs::File,
    io::{BufRead, BufReader, Write},
    path::PathBuf,
    str::FromStr,
};

use anyhow::Context;
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::progress::Recorder;
use crate::{
    plan::{Trial, plan, turns::Planned},
    runner::{Job, Step, Watch},
    sample::{Ab, Outcome, Results, Setting, Side, Source},
};

/// The version of the events and of [`SideConfig`]. Coordinator and side may be of different builds of bootrace, but
/// need the same protocol.
pub const PROTOCOL: u32 = 2;

/// The configuration of a side: the value of `--as-side`, as JSON.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SideConfig {
    /// The A/B's id.
    pub ab: String,
    pub side: Side,
    /// Ids of this run and of the other side's.
    pub run: String,
    pub partner: String,
    /// This run's own directory.
    pub dir: PathBuf,
    /// The host settings that the coordinator tuned for both sides.
    #[serde(default)]
    pub tuned: Option<Vec<Setting>>,
    /// The commit of this side. CI's variables and git in the working directory can't tell the sides apart.
    #[serde(default)]
    pub source: Option<Source>,
}

impl FromStr for SideConfig {
    type Err = serde_json::Error;

    fn from_str(json: &str) -> Result<Self, Self::Err> {
        serde_json::from_str(json)
    }
}

impl SideConfig {
    pub fn record(&self) -> Ab {
        Ab { id: self.ab.clone(), side: self.side }
    }
}

/// A line from a side.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// The first event, before any preparation.
    Hello { protocol: u32 },
    /// Preparation is done, and the side waits for its first turn.
    Ready { trials: Vec<Planned>, warnings: Vec<String> },
    /// A trial is done, its sample saved and its instance removed; `outcome` is null for a trial that was left out.
    Done { trial: usize, outcome: Option<Outcome>, startup_ns: Option<u64>, error: Option<String> },
    /// The last event: results and report are written.
    Finished { interrupted: bool },
}

/// A side's end of the protocol.
pub struct SideChannel {
    out: File,
    input: Option<File>,
    turns: Option<mpsc::UnboundedReceiver<()>>,
    stop: CancellationToken,
}

impl SideChannel {
    /// Takes standard input and output for the protocol, so that no other code or child process reads or writes them,
    /// and says hello. Starts no thread yet.
    ///
    /// # Errors
    /// When standard input or output can't be duplicated or replaced, or the hello can't be written.
    pub fn open() -> anyhow::Result<Self> {
        let taken = || -> rustix::io::Result<(File, File)> {
            let input = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)?;
            let out = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdout(), 3)?;
            let flags = rustix::fs::OFlags::RDWR | rustix::fs::OFlags::CLOEXEC;
            let null = rustix::fs::open("/dev/null", flags, rustix::fs::Mode::empty())?;
            rustix::stdio::dup2_stdin(&null)?;
            rustix::stdio::dup2_stdout(&null)?;
            Ok((input.into(), out.into()))
        };
        let (input, out) = taken().context("taking standard input and output for --as-side")?;
        let stop = CancellationToken::new();
        let mut channel = SideChannel { out, input: Some(input), turns: None, stop };
        channel.say(&Event::Hello { protocol: PROTOCOL });
        Ok(channel)
    }

    /// Starts to listen. The end of standard input stops the run, as a signal does.
    pub fn listen(&mut self, stop: &CancellationToken) {
        let Some(input) = self.input.take() else { return };
        let (sender, receiver) = mpsc::unbounded_channel();
        (self.turns, self.stop) = (Some(receiver), stop.clone());
        let stop = stop.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(input).lines() {
                if line.is_err() || sender.send(()).is_err() {
                    break;
                }
            }
            stop.cancel();
        });
    }

    /// Returns when the coordinator gives a turn, or the run is to stop.
    pub async fn turn(&mut self) {
        let Some(turns) = &mut self.turns else { return };
        tokio::select! {
            _ = turns.recv() => {}
            () = self.stop.cancelled() => {}
        }
    }

    /// Sends an event. A failure means that the coordinator has ended, which the end of standard input reports too.
    pub fn say(&mut self, event: &Event) {
        if let Ok(mut line) = serde_json::to_vec(event) {
            line.push(b'\n');
            let _ = self.out.write_all(&line);
        }
    }

    /// Reports that the side is ready, and returns its watcher.
    pub fn watch<'a>(&'a mut self, job: &Job, recorder: &'a mut Recorder) -> SideWatch<'a> {
        let results = &job.results;
        let trials = plan(job.targets.len(), &job.scenario.sampling, results.run.seed);
        let planned = |trial: Trial| Planned {
            target: results.targets[trial.target].name.clone(),
            round: trial.round,
            warmup: trial.warmup,
        };
        let trials = trials.into_iter().map(planned).collect();
        self.say(&Event::Ready { trials, warnings: results.run.warnings.clone() });
        SideWatch { channel: self, recorder, trial: 0 }
    }
}

/// A run's watcher that waits for its turns.
pub struct SideWatch<'a> {
    channel: &'a mut SideChannel,
    recorder: &'a mut Recorder,
    trial: usize,
}

#[async_trait]
impl Watch for SideWatch<'_> {
    async fn turn(&mut self, done: usize) {
        self.trial = done;
        self.channel.turn().await;
    }

    fn left_out(&mut self, done: usize) {
        self.channel.say(&Event::Done { trial: done, outcome: None, startup_ns: None, error: None });
    }

    fn step(&mut self, done: usize, trial: &Trial, target: &str, step: Step) {
        self.recorder.step(done, trial, target, step);
    }

    fn sampled(&mut self, results: &Results) -> anyhow::Result<()> {
        self.recorder.sampled(results)?;
        if let Some(sample) = results.samples.last() {
            self.channel.say(&Event::Done {
                trial: self.trial,
                outcome: Some(sample.outcome),
                startup_ns: sample.timeline_ns.startup(),
                error: sample.error.clone(),
            });
        }
        Ok(())
    }
}
