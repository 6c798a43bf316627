//! Many runs in the order of time: the series that may be compared, and where each of them changed.
//!
//! A series has one scenario, target, accelerator, host and metric; what else changed from a run to the next (scenario,
//! image, versions) is a note at the later one. Figures that are all above zero are looked at on a logarithmic scale, so
//! that changes are ratios. A run without a good sample is counted and has no point.

use std::collections::BTreeMap;

use super::{
    LEVEL, Metric,
    median::{Interval, median},
    slope::quantile,
    steps::{self, Fit, Kind, SHORTEST, Value},
};
use crate::sample::Accelerator;

mod run;

pub use run::{Figure, HostName, Measured, Run, Timeless};

/// Deviations below this share of a value are not believed: a series that hardly moves has no change of 0.01 %.
const FLOOR: f64 = 1e-4;

/// Which series there are of some runs, and how they went.
#[derive(Debug, Clone, PartialEq)]
pub struct History {
    /// By time, then id.
    pub runs: Vec<Run>,
    pub metrics: Vec<Metric>,
    /// By scenario, metric, target, accelerator and host.
    pub series: Vec<Series>,
}

/// What a series has in common.
#[derive(Debug, Clone, PartialEq)]
pub struct Key {
    pub scenario: String,
    pub metric: Metric,
    pub target: String,
    pub kind: crate::kind::Kind,
    pub accelerator: Accelerator,
    pub host: HostName,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    pub key: Key,
    /// Only what has a value, in the order of the runs.
    pub points: Vec<Point>,
    /// Runs that have the target and no good sample of it, by index.
    pub empty: Vec<usize>,
    /// True where changes are ratios.
    pub log: bool,
    /// Of the points; its values are logarithms where `log` is true.
    pub fit: Fit,
    pub notes: Vec<Note>,
    pub latest: Latest,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Point {
    /// Index into the history's runs.
    pub run: usize,
    pub figure: Figure,
    pub failed: usize,
}

/// What was no longer the same at a point as at the one before it.
#[derive(Debug, Clone, PartialEq)]
pub struct Note {
    /// Index into the series' points.
    pub point: usize,
    pub what: &'static str,
    pub from: String,
    pub to: String,
}

/// The newest point beside the others of its segment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Latest {
    /// How many others.
    pub others: usize,
    /// Where one more of them is expected with 99 %; `None` with fewer than three.
    pub expected: Option<Interval>,
    /// The others' level; of a drift, where it is now.
    pub level: f64,
}

impl Latest {
    /// Whether `value` is where it is expected; `None` where nothing is.
    pub fn holds(&self, value: f64) -> Option<bool> {
        self.expected.map(|expected| expected.low <= value && value <= expected.high)
    }
}

impl Series {
    /// A value of the fit as it is shown.
    pub fn plain(&self, value: f64) -> f64 {
        if self.log { value.exp() } else { value }
    }

    /// The last point.
    pub fn newest(&self) -> &Point {
        self.points.last().expect("a series without a point is not made")
    }

    /// What a change went from and to.
    pub fn levels(&self, change: usize) -> (f64, f64) {
        let change = &self.fit.changes[change];
        let of = |point: usize| self.fit.segments.iter().find(|s| s.range.contains(&point));
        let (before, after) = (of(change.before), of(change.after));
        let from = before.map_or(0.0, |s| if change.kind == Kind::Drift { s.start } else { s.end });
        let to = after.map_or(0.0, |s| if change.kind == Kind::Drift { s.end } else { s.start });
        (self.plain(from), self.plain(to))
    }

    /// Notes at points after a change's `before` and not after its `after`.
    pub fn notes_at(&self, change: usize) -> impl Iterator<Item = &Note> {
        let change = &self.fit.changes[change];
        self.notes.iter().filter(|note| (change.before + 1..=change.after).contains(&note.point))
    }
}

/// Orders runs, takes copies of one run together, and gives how many copies there were. The order of `runs` is none
/// of its business: what has one time and id, and differs, is ordered by what is in it.
pub fn ordered(mut runs: Vec<Run>) -> (Vec<Run>, usize) {
    runs.sort_by(|a, b| (a.time, &a.id).cmp(&(b.time, &b.id)));
    for same in runs.chunk_by_mut(|a, b| a.time == b.time && a.id == b.id) {
        if same.len() > 1 {
            same.sort_by_cached_key(|run| format!("{run:?}"));
        }
    }
    let all = runs.len();
    runs.dedup();
    let copies = all - runs.len();
    (runs, copies)
}

/// The points of every series, by key. `keep` chooses targets by scenario and name.
pub fn series(runs: &[Run], metrics: &[Metric], keep: impl Fn(&str, &str) -> bool) -> Vec<Unfitted> {
    let mut all: BTreeMap<_, Unfitted> = BTreeMap::new();
    for (index, run) in runs.iter().enumerate() {
        for (place, target) in run.targets.iter().enumerate().filter(|(_, t)| keep(&run.scenario, &t.name)) {
            for (i, metric) in metrics.iter().enumerate() {
                let order =
                    (&run.scenario, i, &target.name, &target.kind, target.accelerator as u8, &run.host);
                let series = all.entry(order).or_insert_with(|| Unfitted {
                    key: Key {
                        scenario: run.scenario.clone(),
                        metric: *metric,
                        target: target.name.clone(),
                        kind: target.kind,
                        accelerator: target.accelerator,
                        host: run.host.clone(),
                    },
                    points: Vec::new(),
                    empty: Vec::new(),
                    places: Vec::new(),
                });
                match target.figures[i] {
                    Some(figure) => {
                        series.points.push(Point { run: index, figure, failed: target.failed });
                        series.places.push(place);
                    }
                    None => series.empty.push(index),
                }
            }
        }
    }
    // A metric that no run of the series has, as a VM's memory of a bare process, is no series.
    all.into_values().filter(|series| !series.points.is_empty()).collect()
}

/// A series whose changes nobody has looked for yet.
#[derive(Debug, Clone, PartialEq)]
pub struct Unfitted {
    key: Key,
    points: Vec<Point>,
    empty: Vec<usize>,
    /// Which of its run's targets each point is.
    places: Vec<usize>,
}

impl Unfitted {
    /// Looks for changes. The same seed gives the same.
    pub fn fit(&self, runs: &[Run], seed: u64) -> Series {
        let figures: Vec<Figure> = self.points.iter().map(|p| p.figure).collect();
        let log = figures.iter().all(|f| f.median > 0.0);
        let size = median(&figures.iter().map(|f| f.median.abs()).collect::<Vec<_>>()).unwrap_or(0.0);
        // Nothing that is measured here is finer than a millionth of its unit.
        let floor = if log { FLOOR } else { (FLOOR * size).max(1e-6) };
        let values = values(&figures, log);
        let fit = steps::fit(&values, floor, seed).expect("a series has a point");
        let latest = latest(&values, &fit, log);
        Series {
            key: self.key.clone(),
            points: self.points.clone(),
            empty: self.empty.clone(),
            log,
            fit,
            notes: self.notes(runs),
            latest,
        }
    }

    fn notes(&self, runs: &[Run]) -> Vec<Note> {
        let at = |point: usize| &runs[self.points[point].run].targets[self.places[point]].conditions;
        let changed = |point: usize| {
            let before = at(point - 1);
            let here = at(point).iter();
            here.filter_map(move |(what, to)| {
                let (_, from) = before.iter().find(|(name, from)| name == what && from != to)?;
                Some(Note { point, what, from: from.clone(), to: to.clone() })
            })
        };
        (1..self.points.len()).flat_map(changed).collect()
    }
}

/// On the scale of the fit. A run that has too few samples for an interval is taken to be as exact as the others'
/// samples would make it.
fn values(figures: &[Figure], log: bool) -> Vec<Value> {
    let scale = |v: f64| if log { v.ln() } else { v };
    // Few numbers of samples, so few coverages, occur in thousands of runs.
    let coverages: BTreeMap<u64, f64> =
        figures.iter().filter_map(|f| f.interval).map(|i| (i.coverage.to_bits(), i.coverage)).collect();
    let quantiles: BTreeMap<u64, f64> =
        coverages.into_iter().map(|(bits, coverage)| (bits, quantile(coverage))).collect();
    let deviation = |figure: &Figure| {
        let interval = figure.interval?;
        let (low, high, at) = (interval.low, interval.high, figure.median);
        // A bound at zero or below tells nothing on a logarithmic scale; the other side then does.
        let width = if log && low <= 0.0 { 2.0 * (high / at).ln() } else { scale(high) - scale(low) };
        Some(width / (2.0 * quantiles[&interval.coverage.to_bits()]))
    };
    let known: Vec<f64> = figures.iter().filter_map(|f| Some(deviation(f)? * (f.n as f64).sqrt())).collect();
    let of_one = median(&known).unwrap_or(0.0);
    let value = |figure: &Figure| {
        let deviation = deviation(figure).unwrap_or(of_one / (figure.n.max(1) as f64).sqrt());
        Value { at: scale(figure.median), variance: deviation * deviation }
    };
    figures.iter().map(value).collect()
}

fn latest(values: &[Value], fit: &Fit, log: bool) -> Latest {
    let plain = |v: f64| if log { v.exp() } else { v };
    let segment = fit.segments.last().expect("a fit has a segment");
    let others = segment.range.start..segment.range.end - 1;
    let n = others.len();
    let newest = values[others.end];
    let weight = |v: &Value| 1.0 / (fit.between.powi(2) + v.variance);
    let total: f64 = values[others.clone()].iter().map(weight).sum();
    let drifts = segment.start != segment.end;
    let mean = values[others].iter().map(|v| v.at * weight(v)).sum::<f64>() / total;
    let level = if drifts || n == 0 { segment.end } else { mean };
    let error = if drifts { segment.error.powi(2) } else { 1.0 / total };
    let expected = (n >= SHORTEST).then(|| {
        let far = steps::student(n - 1) * (fit.between.powi(2) + newest.variance + error).sqrt();
        Interval { low: plain(level - far), high: plain(level + far), coverage: LEVEL }
    });
    Latest { others: n, expected, level: plain(level) }
}

#[cfg(test)]
mod tests;
