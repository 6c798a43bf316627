//! Many runs in the order of time: series of comparable figures, and their changes.
//!
//! A series has one scenario, target, accelerator, host and metric; a note at a run records any other change since the
//! previous one (scenario, image, versions). Series whose figures are all above zero use a logarithmic scale, so that
//! changes are ratios. A run without a good sample is counted and has no point.

use std::collections::BTreeMap;

use super::{
    LEVEL, Metric,
    median::{Interval, median},
    slope::quantile,
    steps::{self, Fit, Kind, SHORTEST, Value},
};
use crate::sample::Accelerator;

mod run;

pub use run::{Figure, HostName, InvalidStartTime, Measured, Run};

/// Smallest deviation as a share of a value: a series that hardly moves has no change of 0.01 %.
const FLOOR: f64 = 1e-4;

/// Runs and their series with changes.
#[derive(Debug, Clone, PartialEq)]
pub struct History {
    /// Sorted by time, then id.
    pub runs: Vec<Run>,
    /// Metrics of each run's figures, in their order.
    pub metrics: Vec<Metric>,
    /// Sorted by scenario, metric, target, accelerator and host.
    pub series: Vec<Series>,
}

/// Properties that all points of a series share.
#[derive(Debug, Clone, PartialEq)]
pub struct Key {
    /// Name of the scenario.
    pub scenario: String,
    /// Determines the unit of all values.
    pub metric: Metric,
    /// Name of the target.
    pub target: String,
    /// Engine of the target.
    pub kind: crate::kind::Kind,
    /// How a VM executed its code.
    pub accelerator: Accelerator,
    /// Host that all runs of the series ran on.
    pub host: HostName,
}

/// Figures of one metric of one target on one host over time.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// Properties that all points share.
    pub key: Key,
    /// Runs with a value, in the order of time.
    pub points: Vec<Point>,
    /// Indices of the runs with the target and without a good sample of it.
    pub empty: Vec<usize>,
    /// True where changes are ratios.
    pub log: bool,
    /// Levels and changes of the points; logarithms where `log` is true.
    pub fit: Fit,
    /// Other conditions that changed, in the order of the points.
    pub notes: Vec<Note>,
    /// Comparison of the newest point with its segment.
    pub latest: Latest,
}

/// One run of a series.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Point {
    /// Index into the history's runs.
    pub run: usize,
    /// Median and interval of the run.
    pub figure: Figure,
    /// Number of measured samples that failed or timed out.
    pub failed: usize,
}

/// A condition that differs between a point and the previous one.
#[derive(Debug, Clone, PartialEq)]
pub struct Note {
    /// Index into the series' points.
    pub point: usize,
    /// Name of the condition, for example `kernel`.
    pub what: &'static str,
    /// Value at the previous point.
    pub from: String,
    /// Value at this point.
    pub to: String,
}

/// The newest point relative to the others of its segment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Latest {
    /// Number of the other points.
    pub others: usize,
    /// 99 % prediction interval of one more point; `None` with fewer than three others.
    pub expected: Option<Interval>,
    /// Level of the others, at its present end for a drift; in the metric's unit.
    pub level: f64,
}

impl Latest {
    /// Whether `value` lies within the prediction interval; `None` without one.
    pub fn holds(&self, value: f64) -> Option<bool> {
        self.expected.map(|expected| expected.low <= value && value <= expected.high)
    }
}

impl Series {
    /// Converts a value of the fit into the metric's unit.
    pub fn plain(&self, value: f64) -> f64 {
        if self.log { value.exp() } else { value }
    }

    /// The last point.
    pub fn newest(&self) -> &Point {
        self.points.last().expect("a series without a point is not made")
    }

    /// Levels before and after a change, given by its index, in the metric's unit.
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

/// Sorts runs, removes copies of a run, and returns the number of copies. The result does not depend on the order of
/// `runs`: different runs with one time and id are sorted by their contents.
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

/// Collects the points of every series, by key. `keep` selects targets by scenario and name.
pub fn series(runs: &[Run], metrics: &[Metric], keep: impl Fn(&str, &str) -> bool) -> Vec<RawSeries> {
    let mut all: BTreeMap<_, RawSeries> = BTreeMap::new();
    for (index, run) in runs.iter().enumerate() {
        for (place, target) in run.targets.iter().enumerate().filter(|(_, t)| keep(&run.scenario, &t.name)) {
            for (i, metric) in metrics.iter().enumerate() {
                let order =
                    (&run.scenario, i, &target.name, &target.kind, target.accelerator as u8, &run.host);
                let series = all.entry(order).or_insert_with(|| RawSeries {
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
    // A metric without a value in any run, such as a VM's memory for a bare process, has no series.
    all.into_values().filter(|series| !series.points.is_empty()).collect()
}

/// A series before the search for changes.
#[derive(Debug, Clone, PartialEq)]
pub struct RawSeries {
    key: Key,
    points: Vec<Point>,
    empty: Vec<usize>,
    /// Index into its run's targets, for each point.
    places: Vec<usize>,
}

impl RawSeries {
    /// Finds the changes; the same seed gives the same ones.
    pub fn fit(&self, runs: &[Run], seed: u64) -> Series {
        let figures: Vec<Figure> = self.points.iter().map(|p| p.figure).collect();
        let log = figures.iter().all(|f| f.median > 0.0);
        let size = median(&figures.iter().map(|f| f.median.abs()).collect::<Vec<_>>()).unwrap_or(0.0);
        // No measured value is finer than a millionth of its unit.
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

/// Values on the scale of the fit. A run with too few samples for an interval gets the other runs' deviation per
/// sample.
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
        // A bound at zero or below has no logarithm; then the other bound gives the width.
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
