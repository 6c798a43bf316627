//! Shows the progress of an A/B: a bar on a terminal, a line per round elsewhere.

use indicatif::ProgressBar;

use crate::{
    cli::{progress::Progress, say, side::Event},
    plan::turns::Planned,
    report::clean,
    sample::{Outcome, Side},
};

/// Longest error to show, in characters.
const LONGEST: usize = 500;

pub struct Show {
    bar: ProgressBar,
    rounds: u32,
    lines: bool,
    /// The current round, in order: target, and its start-up on either side as text.
    round: Vec<(String, [Option<String>; 2])>,
}

impl Show {
    pub fn new(progress: &Progress, turns: usize, rounds: u32) -> Self {
        let lines = progress.lines();
        if lines {
            progress.say("start-up, base | new:");
        }
        Show { bar: progress.bar("ab", turns as u64), rounds, lines, round: Vec::new() }
    }

    /// Shows that a side is about to measure.
    pub fn turn(&mut self, at: usize, side: Side, trial: &Planned) {
        // Drawn only between trials: a bar that redraws by itself would take CPU time from the instance.
        self.bar.set_position(at as u64);
        let target = clean(&trial.target, 64);
        self.bar.set_message(format!("round {} of {}: {side} {target}", trial.round + 1, self.rounds));
    }

    /// Shows a side's trial; `round_ends` after the last one of a round.
    pub fn done(&mut self, side: Side, trial: &Planned, done: &Event, round_ends: bool) {
        let target = clean(&trial.target, 64);
        if let Some(why) = failure(done) {
            self.bar.println(format!("{side} {target} failed: {why}"));
        }
        if !self.lines {
            return;
        }
        let at = self.round.iter().position(|(name, _)| *name == target).unwrap_or_else(|| {
            self.round.push((target, [None, None]));
            self.round.len() - 1
        });
        self.round[at].1[side as usize] = Some(startup(done));
        if round_ends {
            let warmup = if trial.warmup { " (warm-up)" } else { "" };
            let words: Vec<String> = self
                .round
                .drain(..)
                .map(|(target, sides)| {
                    let [base, new] = sides.map(|side| side.unwrap_or_else(|| "-".into()));
                    format!("{target} {base} | {new}")
                })
                .collect();
            say(&format!("round {} of {}{warmup}: {}", trial.round + 1, self.rounds, words.join(", ")));
        }
    }

    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

fn startup(done: &Event) -> String {
    match done {
        Event::Done { outcome: Some(Outcome::Ok), startup_ns: Some(ns), .. } => {
            format!("{:.1} ms", *ns as f64 / 1e6)
        }
        Event::Done { outcome: None, .. } => "left out".into(),
        _ => match failure(done) {
            Some(why) => format!("failed ({why})"),
            None => "-".into(),
        },
    }
}

/// Start-up or failure as text. Text from guests and engines is sanitised.
fn failure(done: &Event) -> Option<String> {
    match done {
        Event::Done { outcome: Some(Outcome::Failed | Outcome::TimedOut), error, .. } => {
            Some(clean(error.as_deref().unwrap_or("no reason is known"), LONGEST))
        }
        _ => None,
    }
}
