//! Shows the progress of a run: a bar on a terminal, a line per round elsewhere.

use std::{io::IsTerminal, path::Path};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::say;
use crate::{
    plan::Trial,
    report::{Growing, clean},
    runner::{Job, Step, Watch},
    sample::{
        Outcome, Results, Sample,
        density::{Burst, Density},
    },
};

pub struct Progress {
    quiet: bool,
    terminal: bool,
}

impl Progress {
    pub fn new(quiet: bool) -> Self {
        Progress { quiet, terminal: std::io::stderr().is_terminal() }
    }

    /// Whether lines replace the bar.
    pub fn lines(&self) -> bool {
        !self.quiet && !self.terminal
    }

    /// Prints a line that stays.
    pub fn say(&self, line: &str) {
        if !self.quiet {
            say(line);
        }
    }

    /// A bar with this many steps; without a terminal it draws nothing.
    pub fn bar(&self, name: &str, steps: u64) -> ProgressBar {
        let bar = ProgressBar::new(steps);
        if self.quiet || !self.terminal {
            bar.set_draw_target(ProgressDrawTarget::hidden());
        }
        let style = ProgressStyle::with_template("{prefix} [{bar:30}] {pos}/{len}  {msg}  {eta} left");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> "));
        bar.set_prefix(name.to_owned());
        bar
    }

    /// A watcher that saves each sample of `job` in `dir` at once.
    pub fn record(&self, dir: &Path, job: &Job) -> Recorder {
        let sampling = &job.scenario.sampling;
        let rounds = sampling.warmup + sampling.samples;
        let bar = self.bar(&job.scenario.name, u64::from(rounds) * job.targets.len() as u64);
        Recorder {
            growing: Growing::new(dir, job.results.samples.len()),
            bar,
            rounds,
            targets: job.targets.len(),
            lines: self.lines(),
            reported: (0, 0),
        }
    }
}

/// Saves each sample at once, and shows it.
pub struct Recorder {
    growing: Growing,
    bar: ProgressBar,
    rounds: u32,
    targets: usize,
    /// Print a line per round instead of the bar.
    lines: bool,
    /// The number of densities and bursts already printed.
    reported: (usize, usize),
}

impl Recorder {
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }

    /// Prints a line that stays, above the bar or instead of it.
    fn print_line(&self, line: &str) {
        match self.lines {
            true => say(line),
            false => self.bar.println(line),
        }
    }

    fn line(&self, results: &Results) {
        let Some(last) = results.samples.last() else { return };
        let of_round: Vec<_> = results.samples.iter().filter(|s| s.round == last.round).collect();
        if of_round.len() == self.targets {
            let warmup = if last.warmup { " (warm-up)" } else { "" };
            let words: Vec<_> = of_round.into_iter().map(words).collect();
            say(&format!("round {} of {}{warmup}: {}", last.round + 1, self.rounds, words.join(", ")));
        }
    }
}

/// One line on a target's density.
fn filled(density: &Density) -> String {
    let last = density.steps.iter().rev().find_map(|step| Some((step.n, step.timeline_ns.ready?)));
    let last = last
        .map_or_else(String::new, |(n, ns)| format!(", number {n} ready after {:.1} ms", ns as f64 / 1e6));
    format!(
        "{}: {} at once{last}; {}",
        density.target,
        density.reached(),
        clean(density.limit_why.as_deref().unwrap_or("it was not finished"), 500)
    )
}

/// One line on a burst.
fn burst(target: &str, burst: &Burst) -> String {
    let ready = burst.ready_ns.len();
    let all = burst
        .all_ready_ns
        .map_or("none ready".into(), |ns| format!("{ready} of them ready after {:.1} ms", ns as f64 / 1e6));
    let failed = match burst.failed {
        0 => String::new(),
        n => format!(", {n} failed: {}", clean(burst.errors.first().map_or("", String::as_str), 300)),
    };
    format!("{target}: {} requested at once, {all}{failed}", burst.n)
}

/// One line on a sample. Text from guests and engines is sanitised.
fn words(sample: &Sample) -> String {
    match (sample.outcome, sample.timeline_ns.startup()) {
        (Outcome::Ok, Some(ns)) => format!("{} {:.1} ms", sample.target, ns as f64 / 1e6),
        _ => format!(
            "{} failed: {}",
            sample.target,
            clean(sample.error.as_deref().unwrap_or("no reason is known"), 500)
        ),
    }
}

/// The words for a step of an instance.
fn word(step: Step) -> &'static str {
    match step {
        Step::Cooling => "dropping the page cache for",
        Step::Preparing => "preparing",
        Step::Starting => "starting",
        Step::Settling => "settling",
        Step::Reading => "reading",
        Step::Idling => "idling",
        Step::Working => "working",
        Step::Copying => "copying",
        Step::Removing => "removing",
    }
}

impl Watch for Recorder {
    fn step(&mut self, done: usize, trial: &Trial, target: &str, step: Step) {
        let what = word(step);
        // Drawn only between trials: a bar that redraws by itself would take CPU time from the instance.
        self.bar.set_position(done as u64);
        self.bar.set_message(format!("round {}: {what} {target}", trial.round + 1));
    }

    fn sampled(&mut self, results: &Results) -> anyhow::Result<()> {
        self.growing.save_last(results)?;
        self.bar.set_position(results.samples.len() as u64);
        if self.lines {
            self.line(results);
        }
        if let Some(sample) = results.samples.last().filter(|s| s.outcome != Outcome::Ok) {
            self.bar.println(words(sample));
        }
        Ok(())
    }

    fn filling(&mut self, target: &str, n: u32, most: u32, step: Step) {
        self.bar.set_length(u64::from(most));
        self.bar.set_position(u64::from(n.saturating_sub(1)));
        self.bar.set_message(format!("density: {} number {n} of {target}", word(step)));
    }

    fn filled(&mut self, results: &Results) -> anyhow::Result<()> {
        self.growing.save_whole(results)?;
        let Some(last) = results.density.last().filter(|last| last.limit.is_some()) else { return Ok(()) };
        if self.reported.0 < results.density.len() {
            self.reported = (results.density.len(), 0);
            self.print_line(&filled(last));
        }
        for one in &last.bursts[self.reported.1..] {
            self.print_line(&burst(&last.target, one));
        }
        self.reported.1 = last.bursts.len();
        Ok(())
    }
}
