//! The coordinator of an A/B: starts both sides, prepares one after the other, then gives them turns.

use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use serde::Serialize;

use super::{
    child::SideEnd,
    protocol::{Broken, Protocol},
    show::Show,
    sides::SideProcess,
};
use crate::{
    cli::{Failure, progress::Progress, run, signals::Signals},
    image::Cache,
    plan::turns::{Place, Planned, turns},
    report::{self, sudo_user::as_sudo_user},
    runner::left_over,
    sample::Side,
};

/// An A/B to run.
pub struct Job {
    pub id: String,
    /// The folder of reports; this A/B gets one below it.
    pub out: PathBuf,
    pub seed: u64,
    /// Base first, then new.
    pub sides: [SideProcess; 2],
}

/// `ab.json`: both sides, and the order of each pair.
#[derive(Serialize)]
struct Record<'a> {
    schema: &'static str,
    id: &'a str,
    /// The coordinator's version; each side's own is in its results.
    bootrace_version: &'static str,
    seed: u64,
    sides: &'a [SideProcess; 2],
    pairs: Vec<Pair<'a>>,
}

#[derive(Serialize)]
struct Pair<'a> {
    round: u32,
    target: &'a str,
    first: Side,
}

impl Job {
    pub fn dir(&self) -> PathBuf {
        self.out.join(&self.id)
    }

    pub fn dir_of(&self, side: Side) -> PathBuf {
        self.dir().join(side.name())
    }

    /// Runs both sides to the end. Samples are in the sides' directories, however this ends.
    ///
    /// # Errors
    /// [`Failure::Usage`] and [`Failure::Run`] when a side can't be prepared or is lost; on a signal
    /// [`Failure::Interrupted`], or [`Failure::Stopped`] before the first sample.
    pub async fn coordinate(&self, progress: &Progress, signals: &Signals) -> Result<(), Failure> {
        let mut protocol = Protocol::new(&signals.stop);
        let done = self.take_turns(&mut protocol, progress).await;
        let begun = protocol.begun;
        let ended = protocol.end(&done).await;
        let done = done.and_then(|()| match ended.iter().find(|ended| !ended.finished) {
            Some(lost) => Err(Broken::Lost { side: lost.side, why: None }),
            None => Ok(()),
        });
        for ended in ended.iter().filter(|ended| !ended.finished) {
            // A side that ends by itself before its first turn leaves no instance.
            if begun || ended.code.is_none() {
                self.clean_up(ended.side, progress).await;
            }
        }
        if !begun {
            self.forget();
        }
        match done {
            Ok(()) if signals.stop.is_cancelled() => Err(self.interrupted(signals)),
            Ok(()) => Ok(()),
            Err(Broken::Stopped) => Err(self.interrupted(signals)),
            Err(Broken::Lost { side, why }) => Err(self.lost(side, why, &ended, begun)),
            Err(Broken::Mismatched(why)) => Err(Failure::Usage(anyhow!(why))),
            Err(Broken::Other(error)) => Err(Failure::Run(error)),
        }
    }

    async fn take_turns(&self, protocol: &mut Protocol, progress: &Progress) -> Result<(), Broken> {
        let mut plans = Vec::new();
        let mut said: Vec<String> = Vec::new();
        // One after the other, so that an image of both is built once.
        for side_process in &self.sides {
            progress.say(&format!("preparing the {} side: {}", side_process.side, side_process.argument));
            let (plan, warnings) = protocol.prepare(side_process).await?;
            plans.push(plan);
            for warning in warnings {
                if !said.contains(&warning) {
                    progress.say(&report::clean(&warning, 1000));
                    said.push(warning);
                }
            }
        }
        let [base, new] = &plans[..] else { unreachable!("there are two sides, and so two plans") };
        rounds_match(rounds(base), rounds(new)).map_err(Broken::Mismatched)?;
        let order = turns(base, new, self.seed);
        let plan = |side| if side == Side::Base { base } else { new };
        let first = |turn: &&crate::plan::turns::Turn| turn.paired == Some(Place::First);
        let pairs = order.iter().filter(first).map(|turn| {
            let Planned { round, target, .. } = &plan(turn.side)[turn.trial];
            Pair { round: *round, target, first: turn.side }
        });
        self.keep(pairs.collect()).map_err(Broken::Other)?;
        let mut show = Show::new(progress, order.len(), base.last().map_or(0, |last| last.round + 1));
        protocol.begun = true;
        for (at, turn) in order.iter().enumerate() {
            let trial = &plan(turn.side)[turn.trial];
            show.turn(at, turn.side, trial);
            let done = protocol.trial(turn.side, turn.trial).await?;
            let next = order.get(at + 1).map(|next| plan(next.side)[next.trial].round);
            show.done(turn.side, trial, &done, next != Some(trial.round));
        }
        show.finish();
        Ok(())
    }

    fn keep(&self, pairs: Vec<Pair<'_>>) -> anyhow::Result<()> {
        let record = Record {
            schema: "bootrace.ab/2",
            id: &self.id,
            bootrace_version: env!("CARGO_PKG_VERSION"),
            seed: self.seed,
            sides: &self.sides,
            pairs,
        };
        let json = serde_json::to_string_pretty(&record).context("writing ab.json")? + "\n";
        report::put(&self.dir().join("ab.json"), json.as_bytes())?;
        run::make_latest(&self.out, &self.id);
        Ok(())
    }

    /// Removes the left-overs of a side that did not finish by itself, and writes its report.
    async fn clean_up(&self, side: Side, progress: &Progress) {
        let run = &self.sides[side as usize].run;
        let swept = async { left_over::sweep(&Cache::open(None)?.instances_dir(), run).await };
        if let Err(why) = swept.await {
            progress.say(&format!("{why:#}: bootrace clean removes what is left of the {side} side"));
        }
        let dir = self.dir_of(side);
        if let Ok(results) = report::load(&dir)
            && let Err(why) = report::write(&results, &dir)
        {
            progress.say(&format!("the {side} side has no report: {why}"));
        }
    }

    /// Removes the directory of an A/B without a sample.
    fn forget(&self) {
        if let Err(why) = std::fs::remove_dir_all(self.dir()) {
            tracing::debug!(dir = %self.dir().display(), %why, "removing the directory of an A/B without a sample");
        }
    }

    fn interrupted(&self, signals: &Signals) -> Failure {
        let measured = |side| self.dir_of(side).join(report::RESULTS).exists();
        match measured(Side::Base) || measured(Side::New) {
            true => Failure::Interrupted { signal: signals.signal(), dir: self.dir() },
            false => Failure::Stopped { signal: signals.signal() },
        }
    }

    fn lost(&self, side: Side, why: Option<String>, ended: &[SideEnd], begun: bool) -> Failure {
        let ended = ended.iter().find(|ended| ended.side == side);
        let how = ended.map_or("it never ran", |ended| &ended.how);
        let why = why.map(|why| format!(": {why}")).unwrap_or_default();
        let side_process = &self.sides[side as usize];
        if begun {
            return Failure::Run(anyhow!(
                "the {side} side, {}, ended before its time ({how}){why}; the samples taken are kept in {}",
                side_process.argument,
                self.dir().display()
            ));
        }
        let error = anyhow!("the {side} side, {}, could not be prepared ({how}){why}", side_process.argument);
        match ended.and_then(|ended| ended.code) {
            Some(2) => Failure::Usage(error),
            _ => Failure::Run(error),
        }
    }
}

/// Counts warm-up and measured rounds.
fn rounds(plan: &[Planned]) -> (u32, u32) {
    let count = |warmup| {
        let rounds: std::collections::BTreeSet<u32> =
            plan.iter().filter(|trial| trial.warmup == warmup).map(|trial| trial.round).collect();
        rounds.len() as u32
    };
    (count(true), count(false))
}

/// Checks that both sides have the same number of warm-up and measured rounds, since a pair comes from one round.
///
/// # Errors
/// When they differ, with the numbers and the fix.
pub fn rounds_match(base: (u32, u32), new: (u32, u32)) -> Result<(), String> {
    if base == new {
        return Ok(());
    }
    Err(format!(
        "the sides' rounds don't pair: base has {} warm-up and {} measured rounds, new {} and {}\nfix: make their [sampling] the same, or give --warmup and --samples",
        base.0, base.1, new.0, new.1
    ))
}

/// Makes a directory for this A/B alone. Its name is the A/B's id.
///
/// # Errors
/// When the directory can't be made.
pub async fn make_dir(out: &Path, seed: u64) -> anyhow::Result<String> {
    as_sudo_user(|| std::fs::create_dir_all(out)).with_context(|| format!("making {}", out.display()))?;
    loop {
        let id = format!("ab-{}-{seed}", jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ"));
        match as_sudo_user(|| std::fs::create_dir(out.join(&id))) {
            // Another A/B with this seed began in the same second.
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
            made => {
                let dir = out.join(&id);
                return made.map(|()| id).with_context(|| format!("making {}", dir.display()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_that_do_not_pair_are_refused_with_the_fix() {
        assert!(rounds_match((1, 20), (1, 20)).is_ok());
        let why = rounds_match((1, 20), (2, 20)).unwrap_err();
        assert!(
            why.contains("base has 1 warm-up and 20 measured rounds, new 2 and 20")
                && why.contains("--warmup"),
            "{why}"
        );
    }
}
