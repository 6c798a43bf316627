//! One check on one target: its instances, and the kinds of rows that they give.

use std::collections::BTreeSet;

use super::super::{Calibration, Check, CheckVerdict, Quantity, ReferenceInstance, Row};
use crate::{
    InterferenceKind, interference,
    median::median,
    sample::{Accelerator, Outcome, TargetRecord},
    slope,
};

/// Bound on the difference to the stopwatch, which starts a few calls after the clock.
const STOPWATCH_NS: f64 = 500_000.0;
const STOPWATCH_SHARE: f64 = 0.01;
/// Level of the intervals of slopes that must be 1.
pub const LEVEL: f64 = 0.99;
/// Level of the intervals of slopes that must be 0. A calibration has several, each noisier than its bound on some
/// hosts, and a failure by chance of one in a hundred would be too many.
const LEVEL_OF_NONE: f64 = 0.999;

/// One check on one target.
pub struct Subject<'a> {
    check: Check,
    target: &'a TargetRecord,
    /// Number of the host's CPUs.
    cpus: u32,
    pub good: Vec<&'a ReferenceInstance>,
    /// Number of failed instances, and the error of the first.
    bad: Option<(usize, &'a str)>,
}

/// A figure of an instance.
pub type Figure = fn(&ReferenceInstance) -> Option<f64>;

impl<'a> Subject<'a> {
    pub fn new(calibration: &'a Calibration, check: Check, target: &'a TargetRecord) -> Self {
        // Every instance is torn down.
        let of = |taken: &&ReferenceInstance| {
            taken.sample.target == target.name && (check == Check::Teardown || taken.check == check)
        };
        let rows: Vec<&ReferenceInstance> = calibration.taken.iter().filter(of).collect();
        let (good, bad): (Vec<_>, Vec<_>) =
            rows.into_iter().partition(|taken| taken.sample.outcome == Outcome::Ok);
        let first =
            bad.first().map(|taken| taken.sample.error.as_deref().unwrap_or("no reason was recorded"));
        Subject { check, target, cpus: calibration.host.cpus, good, bad: first.map(|why| (bad.len(), why)) }
    }

    pub fn is_vm(&self) -> bool {
        self.target.accelerator != Accelerator::None
    }

    pub fn is_emulated(&self) -> bool {
        self.target.accelerator == Accelerator::Tcg
    }

    pub fn is_empty(&self) -> bool {
        self.good.is_empty() && self.bad.is_none()
    }

    /// A row with the subject filled in.
    pub fn row(&self, metric: &str, says: impl Into<String>, quantity: Quantity) -> Row {
        Row {
            check: self.check,
            target: self.target.name.clone(),
            metric: metric.into(),
            says: says.into(),
            quantity,
            truth: None,
            measured: None,
            interval: None,
            level: None,
            error: None,
            relative: false,
            bound: None,
            verdict: CheckVerdict::Stated,
            note: None,
            n: self.good.len(),
            points: Vec::new(),
        }
    }

    /// The verdict on a row whose error and bound are filled in.
    pub fn judged(&self, mut row: Row) -> Row {
        row.verdict = match (row.error, row.bound) {
            (Some(error), Some(bound)) if error.abs() <= bound => CheckVerdict::Pass,
            _ => CheckVerdict::Fail,
        };
        self.complete(row)
    }

    /// Fails the row if an instance failed or the figure is missing. The note of a failed row names interference with
    /// its instances.
    fn complete(&self, mut row: Row) -> Row {
        if row.measured.is_none() {
            row.verdict = CheckVerdict::Fail;
            let why = match row.n {
                0 => "no instance gave this figure".into(),
                n => format!("{n} instances are too few for this figure"),
            };
            add(&mut row.note, &why);
        }
        // Each instance gives many round trips, so `n` may exceed the number of instances.
        if row.measured.is_some() && row.n < self.good.len() {
            row.verdict = CheckVerdict::Fail;
            add(&mut row.note, &format!("only {} of {} instances gave this figure", row.n, self.good.len()));
        }
        if let Some((count, why)) = self.bad {
            row.verdict = CheckVerdict::Fail;
            let all = count + self.good.len();
            add(&mut row.note, &format!("{count} of {all} instances failed, the first: {why}"));
        }
        if let (CheckVerdict::Fail, Some(interference)) = (row.verdict, self.interference()) {
            add(&mut row.note, &interference);
        }
        row
    }

    /// Number of instances with interference, and its kinds.
    fn interference(&self) -> Option<String> {
        let kinds = self
            .good
            .iter()
            .map(|taken| interference(&taken.sample, self.cpus))
            .filter(|kinds| !kinds.is_empty());
        let kinds: Vec<Vec<InterferenceKind>> = kinds.collect();
        let kinds: BTreeSet<&str> = kinds.iter().flatten().map(|kind| kind.word()).collect();
        let kinds = kinds.into_iter().collect::<Vec<_>>().join(", ");
        (!kinds.is_empty())
            .then(|| format!("{} of {} instances had interference ({kinds})", kinds.len(), self.good.len()))
    }

    /// Slope of a figure over the known amounts.
    pub fn slope(&self, metric: &str, says: &str, figure: Figure, level: f64) -> Row {
        let points: Vec<(f64, f64)> =
            self.good.iter().filter_map(|taken| Some((taken.amount as f64, figure(taken)?))).collect();
        let fit = slope::fit(&points, level);
        Row {
            measured: fit.map(|fit| fit.slope),
            interval: fit.map(|fit| [fit.low, fit.high]),
            level: Some(level),
            n: points.len(),
            points: points.into_iter().map(|(x, y)| [x, y]).collect(),
            ..self.row(metric, says, Quantity::Slope)
        }
    }

    pub fn follows(&self, metric: &str, says: &str, figure: Figure, bound: f64) -> Row {
        let row = self.slope(metric, says, figure, LEVEL);
        let mut row = self.judged(Row {
            truth: Some(1.0),
            error: row.measured.map(|m| m - 1.0),
            bound: Some(bound),
            ..row
        });
        if let (CheckVerdict::Fail, Some([low, high])) = (row.verdict, row.interval)
            && low <= 1.0
            && high >= 1.0
        {
            // The host backs a VM's memory with huge pages: about 10 MiB more or less from boot to boot, which
            // average out slowly.
            if self.is_vm() && self.bad.is_none() {
                row.verdict = CheckVerdict::Noise;
                row.note = Some(format!(
                    "the noise of these boots is too large to rule out 1: {low:.3} to {high:.3}; raise --samples"
                ));
            } else {
                add(
                    &mut row.note,
                    "noise of the host may explain it: repeat on a quieter host, or with more --samples",
                );
            }
        }
        row
    }

    /// A slope that must be 0: beyond its bound, it fails only if its interval excludes 0.
    pub fn stays(&self, metric: &str, says: &str, figure: Figure, bound: f64) -> Row {
        let row = self.slope(metric, says, figure, LEVEL_OF_NONE);
        let mut row = self.judged(Row { truth: Some(0.0), error: row.measured, bound: Some(bound), ..row });
        if let (CheckVerdict::Fail, Some([low, high]), None) = (row.verdict, row.interval, self.bad)
            && low <= 0.0
            && high >= 0.0
        {
            row.verdict = CheckVerdict::Noise;
            row.note = Some(format!(
                "the noise of start-ups is too large to rule out 0: {:+.1} to {:+.1} %; raise --samples",
                low * 100.0,
                high * 100.0
            ));
        }
        row
    }

    /// The median relative error of a figure; the note has the largest one.
    pub fn share(&self, metric: &str, says: &str, figure: Figure, known: Figure, bound: f64) -> Row {
        let pairs: Vec<(f64, f64)> =
            self.good.iter().filter_map(|t| Some((known(t).filter(|k| *k > 0.0)?, figure(t)?))).collect();
        let misses: Vec<f64> = pairs.iter().map(|(known, is)| is / known - 1.0).collect();
        self.judged(Row {
            truth: median(&pairs.iter().map(|p| p.0).collect::<Vec<_>>()),
            measured: median(&pairs.iter().map(|p| p.1).collect::<Vec<_>>()),
            error: median(&misses),
            relative: true,
            bound: Some(bound),
            n: pairs.len(),
            note: Some(format!("median; the largest error is {:+.1} %", worst(&misses) * 100.0)),
            ..self.row(metric, says, Quantity::Time)
        })
    }

    /// The median difference to the second stopwatch: an interruption between the two affects single instances only.
    pub fn stopwatch(&self, metric: &str, says: &str, figure: Figure, stopwatch: Figure) -> Row {
        let pairs: Vec<(f64, f64)> =
            self.good.iter().filter_map(|t| Some((stopwatch(t)?, figure(t)?))).collect();
        let truth = median(&pairs.iter().map(|p| p.0).collect::<Vec<_>>());
        let differences: Vec<f64> = pairs.iter().map(|(known, is)| is - known).collect();
        self.judged(Row {
            truth,
            measured: median(&pairs.iter().map(|p| p.1).collect::<Vec<_>>()),
            error: median(&differences),
            bound: truth.map(|t| STOPWATCH_NS.max(t * STOPWATCH_SHARE)),
            n: pairs.len(),
            note: Some(format!("median; the largest difference is {:+.3} ms", worst(&differences) / 1e6)),
            ..self.row(metric, says, Quantity::Time)
        })
    }

    pub fn stated(&self, row: Row, note: &str) -> Row {
        let mut row = Row { verdict: CheckVerdict::Stated, bound: None, ..row };
        row.note = Some(note.into());
        self.complete(row)
    }
}

/// The value with the largest size.
fn worst(values: &[f64]) -> f64 {
    values.iter().copied().fold(0.0, |a: f64, b| if b.abs() > a.abs() { b } else { a })
}

/// Appends a remark to a row's note.
pub fn add(note: &mut Option<String>, text: &str) {
    *note = Some(match note.take() {
        Some(note) => format!("{note}; {text}"),
        None => text.into(),
    });
}
