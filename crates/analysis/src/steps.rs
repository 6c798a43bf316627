//! Finds changes of a series' level: a step fit, weighted by the precision of each value.
//!
//! A value's variance is the sum of its own, from its interval, and of the variance between runs, which the interval
//! of one run can't show (samples of one run are not independent replicates). A robust estimate of the latter comes
//! from the differences of neighbours, which hardly depend on steps (Rice 1984). PELT (Killick, Fearnhead and Eckley
//! 2012) finds the optimal places of steps under a penalty of 4 ln n for each (3 ln n suffices for normal noise:
//! Zhang and Siegmund 2007), with at least [`SHORTEST`] values between steps. Then every step has to pass a
//! permutation test, which compares the largest gain of a step in its two adjacent segments with the gain for their
//! values in random order. The least significant step is removed until all have p < [`ALPHA`]. Hampel's identifier
//! finds single values far from their neighbours, which are not steps: they move closer and get less weight. A drift
//! is a part that a straight line explains at least as well as steps.

use std::ops::Range;

use rand::{SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;

use super::{median, slope::quantile};

mod search;

pub use search::SHORTEST;

/// A step has a p below this.
pub const ALPHA: f64 = 0.01;
/// Number of random orders in a permutation test; the smallest p is 0.001.
const ORDERS: usize = 999;
/// A permutation test ends early after this number of orders with at least the same gain: p is then far above [`ALPHA`]
/// (Besag and Clifford 1991).
const ENOUGH: usize = 20;
/// Makes the median of absolute normal deviates estimate their standard deviation.
const TO_SIGMA: f64 = 1.4826;
/// Outliers are more than this number of deviations from the median of their neighbourhood.
const FAR: f64 = 3.0;
/// How far the likelihood of a place may be below the best one's to be in its 99 % set: twice the logarithm, from
/// (1 - exp(-x / 2))^2 = 0.99 (Siegmund 1988).
const PLACE: f64 = 10.6;

/// One value of a series.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Value {
    /// On the scale on which steps add up: a logarithm where changes are ratios.
    pub at: f64,
    /// Variance from its own run, on the same scale; 0 where it is unknown.
    pub variance: f64,
}

/// Levels and changes of a series.
#[derive(Debug, Clone, PartialEq)]
pub struct Fit {
    /// Standard deviation between runs, in addition to the variance within runs.
    pub between: f64,
    /// Indices of values far from their neighbours.
    pub outliers: Vec<usize>,
    /// In order and without gaps. A step separates two of them, except where a drift joins its neighbour without one.
    pub segments: Vec<Segment>,
    /// In order.
    pub changes: Vec<Change>,
}

/// Values of one level, or a drift between two levels.
#[derive(Debug, Clone, PartialEq)]
pub struct Segment {
    /// Indices of its values.
    pub range: Range<usize>,
    /// Level at its first value.
    pub start: f64,
    /// Level at its last value; equal to `start` unless it drifts.
    pub end: f64,
    /// Standard error of either end.
    pub error: f64,
}

/// Kind of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// From one value to the next.
    Step,
    /// Gradual change: a line explains it at least as well as steps.
    Drift,
}

/// A change of the level. Indices refer to the values of the series.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// Step or drift.
    pub kind: Kind,
    /// Index of the last value before a step; the first value of a drift.
    pub before: usize,
    /// Index of the first value after a step; the last value of a drift.
    pub after: usize,
    /// Earliest index of `after`, with 99 % confidence.
    pub earliest: usize,
    /// Latest index of `after`, with 99 % confidence.
    pub latest: usize,
    /// Change of the level, on the scale of the values.
    pub difference: f64,
    /// Lower bound of `difference`, with 99 % confidence.
    pub low: f64,
    /// Upper bound of `difference`, with 99 % confidence.
    pub high: f64,
    /// p of the permutation test; for a drift, the largest p of the steps that it replaces.
    pub p: f64,
}

/// Fits a series in its order. `floor` is the smallest deviation between runs. `None` without values. The same
/// seed gives the same fit.
pub fn fit(values: &[Value], floor: f64, seed: u64) -> Option<Fit> {
    if values.is_empty() {
        return None;
    }
    let between = between(values, floor);
    let (values, outliers) = pulled_in(values, between);
    let weighted = search::Weighted::new(values.iter().map(|v| (v.at, 1.0 / (between.powi(2) + v.variance))));
    let places = search::best(&weighted, penalty(values.len()));
    let tested = tested(&weighted, places, seed);
    let (segments, changes) = described(&weighted, &tested);
    Some(Fit { between, outliers, segments, changes })
}

fn penalty(n: usize) -> f64 {
    4.0 * (n as f64).ln()
}

/// Standard deviation between runs: half the variance of the neighbours' differences, less the variance within runs.
/// The median of their sizes gives a rough deviation; the mean square of those within three of it gives the result.
fn between(values: &[Value], floor: f64) -> f64 {
    let sizes: Vec<f64> = values.windows(2).map(|pair| (pair[1].at - pair[0].at).abs()).collect();
    let rough = median::median(&sizes).unwrap_or(0.0) * TO_SIGMA;
    let near: Vec<f64> = sizes.iter().copied().filter(|d| *d <= FAR * rough).collect();
    // The square of a normal deviate within three deviations has a mean of 0.973.
    let square = near.iter().map(|d| d * d).sum::<f64>() / near.len().max(1) as f64 / 0.973;
    let own: Vec<f64> = values.windows(2).map(|pair| (pair[0].variance + pair[1].variance) / 2.0).collect();
    let own = median::median(&own).unwrap_or(0.0);
    (square / 2.0 - own).max(0.0).sqrt().max(floor)
}

/// Moves values to within [`FAR`] deviations of the median of the five around them, and returns the indices of the
/// moved ones; their weight decreases with the distance.
fn pulled_in(values: &[Value], between: f64) -> (Vec<Value>, Vec<usize>) {
    let mut outliers = Vec::new();
    let pull = |(i, value): (usize, &Value)| {
        let around = &values[i.saturating_sub(2)..(i + 3).min(values.len())];
        let around: Vec<f64> = around.iter().map(|v| v.at).collect();
        let centre = median::median(&around).unwrap_or(value.at);
        let reach = FAR * (between.powi(2) + value.variance).sqrt();
        let beyond = (value.at - centre).abs() - reach;
        if around.len() < SHORTEST || beyond <= 0.0 {
            return *value;
        }
        outliers.push(i);
        let at = value.at.clamp(centre - reach, centre + reach);
        Value { at, variance: value.variance + beyond * beyond }
    };
    let pulled = values.iter().enumerate().map(pull).collect();
    (pulled, outliers)
}

/// A step before this index, and its p.
#[derive(Debug, Clone, Copy)]
struct Step {
    at: usize,
    p: f64,
}

/// Removes the least significant step and tests its neighbours again, until all steps are significant.
fn tested(weighted: &search::Weighted, places: Vec<usize>, seed: u64) -> Vec<Step> {
    let n = weighted.len();
    let mut steps: Vec<Step> = places.into_iter().map(|at| Step { at, p: f64::NAN }).collect();
    loop {
        for i in 0..steps.len() {
            if steps[i].p.is_nan() {
                let start = if i == 0 { 0 } else { steps[i - 1].at };
                let range = start..steps.get(i + 1).map_or(n, |next| next.at);
                steps[i] = test(weighted, &range, seed);
            }
        }
        let worst = steps.iter().enumerate().filter(|(_, s)| s.p >= ALPHA);
        let Some((worst, _)) = worst.max_by(|a, b| a.1.p.total_cmp(&b.1.p)) else { return steps };
        steps.remove(worst);
        for neighbour in [worst.checked_sub(1), Some(worst)].into_iter().flatten() {
            if let Some(step) = steps.get_mut(neighbour) {
                step.p = f64::NAN;
            }
        }
    }
}

/// The best step of a range, and the share of random orders with a step of at least the same gain.
fn test(weighted: &search::Weighted, range: &Range<usize>, seed: u64) -> Step {
    let (at, gain) = weighted.best_step(range);
    let mut pairs = weighted.pairs(range);
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    random.set_stream(at as u64);
    let mut as_good = 0;
    for tried in 1..=ORDERS {
        pairs.shuffle(&mut random);
        // With a tolerance for rounding: many orders of equal values give the same gain.
        as_good += usize::from(search::best_gain_of(&pairs) >= gain * (1.0 - 1e-9));
        if as_good == ENOUGH {
            return Step { at, p: ENOUGH as f64 / tried as f64 };
        }
    }
    Step { at, p: (1 + as_good) as f64 / (1 + ORDERS) as f64 }
}

/// Levels and changes; runs of steps in one direction become a drift where a line is as good.
fn described(weighted: &search::Weighted, steps: &[Step]) -> (Vec<Segment>, Vec<Change>) {
    let bounds: Vec<usize> =
        [0].into_iter().chain(steps.iter().map(|s| s.at)).chain([weighted.len()]).collect();
    let (mut segments, mut changes) = (Vec::<Segment>::new(), Vec::new());
    let mut i = 0;
    loop {
        let drifting = drifting(weighted, &bounds, i);
        let range = bounds[i]..bounds[i + drifting + 1];
        let line = (drifting > 0).then(|| weighted.line(&range));
        let segment = match &line {
            Some(line) => {
                Segment { start: line.start, end: line.end, error: line.error, range: range.clone() }
            }
            None => {
                let (at, error) = weighted.level(&range);
                Segment { range: range.clone(), start: at, end: at, error }
            }
        };
        if let Some(before) = segments.last() {
            let step = stepped(weighted, before, &segment, steps[i - 1]);
            // A drift may begin or end without a step.
            let bends = before.start != before.end || line.is_some();
            if !bends || step.low * step.high > 0.0 {
                changes.push(step);
            }
        }
        if let Some(line) = &line {
            let p = steps[i..i + drifting].iter().map(|s| s.p).fold(0.0, f64::max);
            changes.push(drifted(&range, line, p));
        }
        segments.push(segment);
        i += drifting + 1;
        if i > steps.len() {
            return (segments, changes);
        }
    }
}

/// Largest number of steps from segment `i` on, all in one direction, that a line explains as well. A line costs as
/// much as one step.
fn drifting(weighted: &search::Weighted, bounds: &[usize], i: usize) -> usize {
    let level = |j: usize| weighted.level(&(bounds[j]..bounds[j + 1])).0;
    let last = bounds.len() - 2;
    let rises = |j: usize| level(j + 1) > level(j);
    let monotone = (i..last).take_while(|j| rises(*j) == rises(i)).count();
    let penalty = penalty(weighted.len());
    let line_is_as_good = |k: &usize| {
        let stepped: f64 = (i..=i + k).map(|j| weighted.cost(&(bounds[j]..bounds[j + 1]))).sum();
        weighted.line(&(bounds[i]..bounds[i + k + 1])).cost <= stepped + (k - 1) as f64 * penalty
    };
    (1..=monotone).rev().find(line_is_as_good).unwrap_or(0)
}

fn drifted(range: &Range<usize>, line: &search::Line, p: f64) -> Change {
    let difference = line.end - line.start;
    let far = line.slope_error * (range.len() - 1) as f64 * student(range.len() - 2);
    Change {
        kind: Kind::Drift,
        before: range.start,
        after: range.end - 1,
        earliest: range.start,
        latest: range.end - 1,
        difference,
        low: difference - far,
        high: difference + far,
        p,
    }
}

fn stepped(weighted: &search::Weighted, before: &Segment, after: &Segment, step: Step) -> Change {
    let both = before.range.start..after.range.end;
    let difference = after.start - before.end;
    let far = before.error.hypot(after.error) * student(both.len() - 2);
    let best = weighted.gain(&both, step.at);
    let inside = both.start + 1..both.end;
    let possible = |at: &usize| weighted.gain(&both, *at) >= best - PLACE;
    Change {
        kind: Kind::Step,
        before: step.at - 1,
        after: step.at,
        earliest: inside.clone().take_while(|at| *at < step.at).find(possible).unwrap_or(step.at),
        latest: inside.rev().take_while(|at| *at > step.at).find(possible).unwrap_or(step.at),
        difference,
        low: difference - far,
        high: difference + far,
        p: step.p,
    }
}

/// t for which Student's variable with so many degrees of freedom (4 or more) lies within -t and t with 99 %: the
/// expansion of Abramowitz and Stegun 1964, 26.7.5.
pub(super) fn student(freedom: usize) -> f64 {
    let (z, v) = (quantile(super::LEVEL), freedom.max(4) as f64);
    z + (z.powi(3) + z) / (4.0 * v)
        + (5.0 * z.powi(5) + 16.0 * z.powi(3) + 3.0 * z) / (96.0 * v * v)
        + (3.0 * z.powi(7) + 19.0 * z.powi(5) + 17.0 * z.powi(3) - 15.0 * z) / (384.0 * v.powi(3))
}

#[cfg(test)]
mod tests;
