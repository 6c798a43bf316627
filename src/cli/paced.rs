//! `bootrace run --paced`: a run that is one side of an A/B. It waits for a line on standard input before each trial,
//! and says on standard output what it does, an [`Event`] as JSON a line. `bootrace ab` is at the other end.

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

/// Of the events and of [`SideConfig`]: both ends must have the same, and they may be of different versions.
pub const PROTOCOL: u32 = 2;

/// What a side of an A/B is started with, as JSON: the value of `--paced`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SideConfig {
    /// The A/B's id.
    pub ab: String,
    pub side: Side,
    /// Ids of this run and of the other side's.
    pub run: String,
    pub partner: String,
    /// Where this run writes, itself and not below it.
    pub dir: PathBuf,
    /// What was set on the host for both.
    #[serde(default)]
    pub tuned: Option<Vec<Setting>>,
    /// What this side measures. What CI's variables and git in the working directory say is of both or of neither.
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

/// What a side says, a line each.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// At once, before anything is prepared.
    Hello { protocol: u32 },
    /// Prepared: waits for its first turn.
    Ready { trials: Vec<Planned>, warnings: Vec<String> },
    /// A trial is done, saved and removed; `outcome` is null where it was left out.
    Done { trial: usize, outcome: Option<Outcome>, startup_ns: Option<u64>, error: Option<String> },
    /// All that it writes is written; nothing else comes.
    Finished { interrupted: bool },
}

/// A side's end of the protocol.
pub struct Pacer {
    out: File,
    input: Option<File>,
    turns: Option<mpsc::UnboundedReceiver<()>>,
    stop: CancellationToken,
}

impl Pacer {
    /// Takes standard input and output for the protocol, so that nothing else that this process or a child of it reads or
    /// writes gets into it, and says hello. Starts no thread yet.
    ///
    /// # Errors
    /// When they can't be taken.
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
        let (input, out) = taken().context("taking standard input and output for --paced")?;
        let stop = CancellationToken::new();
        let mut pacer = Pacer { out, input: Some(input), turns: None, stop };
        pacer.say(&Event::Hello { protocol: PROTOCOL });
        Ok(pacer)
    }

    /// Listens from now on: the end of standard input stops the run, as a signal does.
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

    /// Returns when the other end gives a turn, or the run is to stop.
    pub async fn turn(&mut self) {
        let Some(turns) = &mut self.turns else { return };
        tokio::select! {
            _ = turns.recv() => {}
            () = self.stop.cancelled() => {}
        }
    }

    /// Who is gone needs no news, and the end of standard input says the same.
    pub fn say(&mut self, event: &Event) {
        if let Ok(mut line) = serde_json::to_vec(event) {
            line.push(b'\n');
            let _ = self.out.write_all(&line);
        }
    }

    /// The watcher of a paced run, which has said that it is ready.
    pub fn watch<'a>(&'a mut self, job: &Job, recorder: &'a mut Recorder) -> Paced<'a> {
        let results = &job.results;
        let trials = plan(job.targets.len(), &job.scenario.sampling, results.run.seed);
        let planned = |trial: Trial| Planned {
            target: results.targets[trial.target].name.clone(),
            round: trial.round,
            warmup: trial.warmup,
        };
        let trials = trials.into_iter().map(planned).collect();
        self.say(&Event::Ready { trials, warnings: results.run.warnings.clone() });
        Paced { pacer: self, recorder, trial: 0 }
    }
}

/// Saves as any run's watcher does, and keeps to its turns.
pub struct Paced<'a> {
    pacer: &'a mut Pacer,
    recorder: &'a mut Recorder,
    trial: usize,
}

#[async_trait]
impl Watch for Paced<'_> {
    async fn turn(&mut self, done: usize) {
        self.trial = done;
        self.pacer.turn().await;
    }

    fn left_out(&mut self, done: usize) {
        self.pacer.say(&Event::Done { trial: done, outcome: None, startup_ns: None, error: None });
    }

    fn step(&mut self, done: usize, trial: &Trial, target: &str, step: Step) {
        self.recorder.step(done, trial, target, step);
    }

    fn sampled(&mut self, results: &Results) -> anyhow::Result<()> {
        self.recorder.sampled(results)?;
        if let Some(sample) = results.samples.last() {
            self.pacer.say(&Event::Done {
                trial: self.trial,
                outcome: Some(sample.outcome),
                startup_ns: sample.timeline_ns.startup(),
                error: sample.error.clone(),
            });
        }
        Ok(())
    }
}
