//! Measures how many false alarms the gate raises and which regressions it finds. The README quotes these figures.
//!
//! - `gate_figures`: prints them as Markdown, from simulated distributions and from recorded sessions
//!   (docs/gate/sessions.json). Exits with 1 if they miss a requirement. Seeded: the output is always the same.
//! - `gate_figures record FILE DIR...`: makes that file from run directories. `scripts/gate-sessions` records them.

use std::path::Path;

use anyhow::{Context, bail};
use bootrace::analysis::gate::{self, GateVerdict, LEAST_MARGIN, Values};

mod recorded;
mod simulated;

const LEVEL: f64 = bootrace::analysis::LEVEL;
/// The largest share of comparisons of equal sides that may be REGRESSED.
const MOST_FALSE_ALARMS: f64 = 0.01;
const SESSIONS: &str = "docs/gate/sessions.json";

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => figures(Path::new(SESSIONS)),
        ["record", file, ref dirs @ ..] if !dirs.is_empty() => recorded::record(Path::new(file), dirs),
        _ => bail!("usage: gate_figures, or gate_figures record FILE DIR..."),
    }
}

fn figures(sessions: &Path) -> anyhow::Result<()> {
    let mut missed = simulated::report();
    let recorded = recorded::load(sessions).with_context(|| format!("reading {}", sessions.display()))?;
    missed.extend(recorded::report(&recorded)?);
    if missed.is_empty() {
        return Ok(());
    }
    bail!("{}", missed.join("\n"))
}

/// Verdicts of many comparisons.
#[derive(Debug, Default, Clone)]
struct Tally {
    all: usize,
    regressed: usize,
    improved: usize,
    unchanged: usize,
}

impl Tally {
    fn count(&mut self, verdict: GateVerdict) {
        self.all += 1;
        match verdict {
            GateVerdict::Regressed => self.regressed += 1,
            GateVerdict::Improved => self.improved += 1,
            GateVerdict::Unchanged => self.unchanged += 1,
            GateVerdict::Inconclusive | GateVerdict::Failed => {}
        }
    }

    fn add(&mut self, other: &Tally) {
        self.all += other.all;
        self.regressed += other.regressed;
        self.improved += other.improved;
        self.unchanged += other.unchanged;
    }

    fn share(&self, count: usize) -> f64 {
        count as f64 / self.all.max(1) as f64
    }

    /// "| what | 1000 | 0.3 % | 0.2 % | 61.0 % | 38.5 % |".
    fn line(&self, what: &str) -> String {
        let percent = |count| format!("{:.1} %", self.share(count) * 100.0);
        let rest = self.all - self.regressed - self.improved - self.unchanged;
        let [regressed, improved, unchanged, rest] =
            [self.regressed, self.improved, self.unchanged, rest].map(percent);
        format!("| {what} | {} | {regressed} | {improved} | {unchanged} | {rest} |", self.all)
    }

    fn head() {
        println!("| | comparisons | REGRESSED | IMPROVED | UNCHANGED | INCONCLUSIVE |");
        println!("|:--|--:|--:|--:|--:|--:|");
    }
}

/// The gate's verdict on the two sides of one job.
fn in_one_job(pairs: Vec<(f64, f64)>) -> GateVerdict {
    verdict(&Values::Paired(pairs), LEAST_MARGIN)
}

fn verdict(values: &Values, margin: f64) -> GateVerdict {
    gate::judge(gate::shift(values, LEVEL, margin).as_ref(), LEVEL, margin).verdict
}
