//! Cost of one more instance on a host with others: memory, CPU time, and start-up of the next one.
//!
//! # Memory
//! Readings accumulate: the n-th is the sum of the costs of n instances and of a reading error. Successive readings
//! therefore depend on each other, and the interval of a line fitted through them is far too narrow (Granger and
//! Newbold 1974, *Spurious regressions in econometrics*; a test below shows it). The increments of single instances
//! are independent. The estimate is their mean, (M_n - M_0) / n, the best estimate for a random walk with drift
//! (Harvey 1989, *Forecasting, Structural Time Series Models and the Kalman Filter*), with Student's interval of the
//! increments. A reading error enters two neighbouring increments with opposite signs and cancels in the mean except
//! at the ends. It still widens the interval, which then covers more than its level; this applies most to
//! MemAvailable, which varies with the whole host.
//!
//! Instances may share pages, and engines keep memory for each instance. Welch's interval of the difference shows
//! whether the second half of the instances cost as much as the first.
//!
//! # CPU time
//! Each window is an independent reading of all n instances, so nothing accumulates. The estimate is the sum of the
//! shares of a core over all windows, divided by the sum of n, with the ratio estimator's interval (Cochran 1977,
//! *Sampling Techniques*, chapter 6).
//!
//! # Start-up
//! Theil and Sen's slope of the start-up of the n-th instance over n ([`slope`]).

use super::{Interval, Metric, median::FEWEST, slope, student};
use crate::{
    metric::{DensityFigure, Source},
    sample::{
        Accelerator, Outcome, Results,
        density::{self, Burst, Limit, Step},
    },
};

/// Figures of one target that the run filled with instances.
#[derive(Debug, Clone, PartialEq)]
pub struct Density {
    /// Name of the target.
    pub target: String,
    /// How a VM executed its code; `Accelerator::None` for processes and containers.
    pub accelerator: Accelerator,
    /// Largest number of ready instances at the same time.
    pub reached: u32,
    /// What ended the filling; `None` when it was cut off.
    pub limit: Option<Limit>,
    /// Memory of one more instance in bytes, by the instances' footprints.
    pub memory: Option<Each>,
    /// The same by the host's MemAvailable, which includes memory outside of all footprints and the activity of other
    /// processes, but no page cache that the kernel can drop.
    pub available: Option<Each>,
    /// Growth of the engine's daemons per instance in bytes; no footprint includes it.
    pub daemons: Option<Each>,
    /// Memory of the first and the second half of the instances.
    pub halves: Option<Halves>,
    /// Share of a core per idle instance.
    pub cpu: Option<Each>,
    /// Start-up of the instances; `None` when none was ready.
    pub startup: Option<Startup>,
    /// Instances requested at the same time, by burst.
    pub bursts: Vec<BurstFigures>,
    /// Memory for instances in bytes: MemAvailable before the first one, less `density.memory_left`.
    pub room: Option<f64>,
    /// Whether same-page merging (KSM) was on; `None` where it could not be read.
    pub ksm: Option<bool>,
    /// Pages that KSM saved, before the first and after the last instance; `None` where it was off.
    pub ksm_pages: Option<(u64, u64)>,
    /// Growth of swapped-out memory in bytes; no footprint includes it.
    pub swapped: Option<u64>,
}

/// Cost of one more instance, in the metric's unit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Each {
    /// Point estimate.
    pub value: f64,
    /// `None` below [`FEWEST`] instances.
    pub interval: Option<Interval>,
    /// Number of instances or windows.
    pub n: usize,
}

/// Cost of earlier and later instances, in bytes each.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Halves {
    /// Mean of the first half.
    pub first: f64,
    /// Mean of the second half.
    pub second: f64,
    /// Interval of second less first; `None` where a half has fewer than [`FEWEST`] instances.
    pub difference: Option<Interval>,
}

impl Halves {
    /// Whether the halves differ: the whole interval lies on one side of zero.
    pub fn bends(&self) -> bool {
        self.difference.is_some_and(|d| d.low > 0.0 || d.high < 0.0)
    }
}

/// Start-up while the target fills, in ns.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Startup {
    /// Start-up of the first ready instance.
    pub first: f64,
    /// Number of the last ready instance, and its start-up.
    pub last: (u32, f64),
    /// Growth with each instance that is already there.
    pub slope: Option<Each>,
    /// Intercept of the line with that slope.
    pub intercept: Option<f64>,
}

/// Start-up in ns of the ready instances of a burst, each from its own request.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BurstFigures {
    /// Size of the burst.
    pub n: u32,
    /// Number of instances that failed or timed out.
    pub failed: u32,
    /// Smallest, median, 90th percentile (nearest rank) and largest; `None` when none was ready.
    pub quantiles: Option<[f64; 4]>,
    /// From the first request until the last ready instance; `None` when none was ready.
    pub all_ready: Option<f64>,
}

impl Density {
    /// Extrapolated number of instances that fit into the host's memory at this cost, and its interval.
    pub fn fits(&self, each: &Each) -> Option<(f64, Option<(f64, f64)>)> {
        let room = self.room.filter(|room| *room > 0.0)?;
        let holds = |cost: f64| (room / cost).floor();
        let value = (each.value > 0.0).then(|| holds(each.value))?;
        let interval = each.interval.filter(|i| i.low > 0.0).map(|i| (holds(i.high), holds(i.low)));
        Some((value, interval))
    }

    /// Value of a density metric; `None` without a reading and for metrics of single instances.
    pub fn figure(&self, metric: Metric) -> Option<Each> {
        match metric.row().source {
            Source::Density(DensityFigure::Memory) => self.memory,
            Source::Density(DensityFigure::Cpu) => self.cpu,
            Source::Density(DensityFigure::Startup) => self.startup.and_then(|startup| startup.slope),
            Source::Sample(_) | Source::PairedFootprint => None,
        }
    }
}

/// The ratio of `of` to `to`, between the ratios of the intervals' ends. Each of the two intervals needs the level
/// 1 - (1 - level) / 2, so that both hold jointly with `level` (Bonferroni).
///
/// # Errors
/// When a value or the lower end of an interval is zero or below.
pub fn ratio(of: &Each, to: &Each) -> Result<Each, &'static str> {
    if of.value <= 0.0 || to.value <= 0.0 {
        return Err("a value is zero or below");
    }
    let both = of.interval.zip(to.interval);
    if both.is_some_and(|(of, to)| of.low <= 0.0 || to.low <= 0.0) {
        return Err("the interval of one of the two reaches zero");
    }
    let interval = both.map(|(of, to)| Interval {
        low: of.low / to.high,
        high: of.high / to.low,
        coverage: 1.0 - (1.0 - of.coverage) - (1.0 - to.coverage),
    });
    Ok(Each { value: of.value / to.value, interval, n: of.n.min(to.n) })
}

/// Density of every target that the run filled, in the order of the results.
pub fn densities(results: &Results, level: f64) -> Vec<Density> {
    let accelerator = |name: &str| results.targets.iter().find(|t| t.name == name).map(|t| t.accelerator);
    let of = |density: &density::Density| {
        one(density, accelerator(&density.target).unwrap_or(Accelerator::None), level)
    };
    results.density.iter().map(of).collect()
}

fn one(density: &density::Density, accelerator: Accelerator, level: f64) -> Density {
    let good: Vec<&Step> =
        density.steps.iter().filter(|s| s.outcome == Outcome::Ok && s.error.is_none()).collect();
    // A missing reading would make two increments wrong: only the readings before it count.
    let series =
        |read: &dyn Fn(&Step) -> Option<f64>| -> Vec<f64> { good.iter().map_while(|s| read(s)).collect() };
    let from = |zero: Option<f64>, read: &dyn Fn(&Step) -> Option<f64>| {
        let all: Vec<f64> = zero.into_iter().chain(series(read)).collect();
        all.windows(2).map(|pair| pair[1] - pair[0]).collect::<Vec<f64>>()
    };
    let whole = |value: Option<u64>| value.map(|v| v as f64);
    let memory = from(Some(0.0), &|s| whole(s.footprint_sum_bytes));
    let before = whole(density.before.available_bytes);
    let available = match before {
        Some(before) => from(Some(0.0), &|s| Some(before - whole(s.host.available_bytes)?)),
        None => Vec::new(),
    };
    let daemons = from(Some(0.0), &|s| s.daemons_bytes.map(|v| v as f64));
    let ends =
        |of: fn(&density::HostMemory) -> Option<u64>| Some((of(&density.before)?, of(&good.last()?.host)?));
    Density {
        target: density.target.clone(),
        accelerator,
        reached: density.reached(),
        limit: density.limit,
        memory: mean(&memory, level),
        available: mean(&available, level),
        daemons: mean(&daemons, level),
        halves: halves(&memory, level),
        cpu: cpu(&good, level),
        startup: startup(&good, level),
        bursts: density.bursts.iter().map(burst).collect(),
        room: before.map(|before| before - density.memory_left_bytes as f64),
        ksm: density.before.ksm,
        ksm_pages: ends(|host| host.ksm_pages).filter(|_| density.before.ksm == Some(true)),
        swapped: ends(|host| host.swap_used_bytes).map(|(first, last)| last.saturating_sub(first)),
    }
}

/// Mean, and the square of its standard error; `None` below two values.
fn moments(values: &[f64]) -> Option<(f64, f64)> {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let square = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (n - 1.0) / n;
    (values.len() >= 2).then_some((mean, square))
}

fn around(value: f64, far: f64, level: f64) -> Interval {
    Interval { low: value - far, high: value + far, coverage: level }
}

/// Mean of increments with Student's interval; `None` without increments.
fn mean(increments: &[f64], level: f64) -> Option<Each> {
    let n = increments.len();
    let value = increments.iter().sum::<f64>() / n as f64;
    let error = moments(increments).filter(|_| n >= FEWEST).map(|(_, square)| square.sqrt());
    let interval = error.map(|error| around(value, error * student::quantile(level, n - 1), level));
    (n > 0).then_some(Each { value, interval, n })
}

/// Welch 1947, with his degrees of freedom rounded down.
fn halves(increments: &[f64], level: f64) -> Option<Halves> {
    let (first, second) = increments.split_at(increments.len() / 2);
    let (a, b) = (moments(first)?, moments(second)?);
    let enough = first.len() >= FEWEST && second.len() >= FEWEST;
    let square = a.1 + b.1;
    let share = |square: f64, n: usize| square.powi(2) / (n as f64 - 1.0);
    let freedom = square.powi(2) / (share(a.1, first.len()) + share(b.1, second.len()));
    // Without variation there are no degrees of freedom to compute.
    let freedom = if freedom.is_finite() { (freedom as usize).max(1) } else { 1 };
    let far = if square > 0.0 { square.sqrt() * student::quantile(level, freedom) } else { 0.0 };
    Some(Halves { first: a.0, second: b.0, difference: enough.then(|| around(b.0 - a.0, far, level)) })
}

fn cpu(steps: &[&Step], level: f64) -> Option<Each> {
    let share = |s: &&Step| {
        let window = s.idle_window_ns.filter(|w| *w > 0)?;
        Some((f64::from(s.n), s.idle_cpu_sum_ns? as f64 / window as f64))
    };
    let points: Vec<(f64, f64)> = steps.iter().filter_map(share).collect();
    let count = points.len() as f64;
    let (x, y) = points.iter().fold((0.0, 0.0), |(x, y), p| (x + p.0, y + p.1));
    let value = y / x;
    let residual: f64 = points.iter().map(|p| (p.1 - value * p.0).powi(2)).sum();
    let error = (residual / (count - 1.0) / count).sqrt() / (x / count);
    let enough = points.len() >= FEWEST;
    let interval = enough.then(|| around(value, error * student::quantile(level, points.len() - 1), level));
    (!points.is_empty()).then_some(Each { value, interval, n: points.len() })
}

fn startup(steps: &[&Step], level: f64) -> Option<Startup> {
    let ready = |s: &&Step| Some((s.n, s.timeline_ns.startup()? as f64));
    let points: Vec<(u32, f64)> = steps.iter().filter_map(ready).collect();
    let lines: Vec<(f64, f64)> = points.iter().map(|(n, ns)| (f64::from(*n), *ns)).collect();
    let fit = slope::fit(&lines, level);
    Some(Startup {
        first: points.first()?.1,
        last: *points.last()?,
        slope: fit.map(|fit| Each {
            value: fit.slope,
            interval: Some(Interval { low: fit.low, high: fit.high, coverage: level }),
            n: lines.len(),
        }),
        intercept: fit.map(|fit| fit.intercept),
    })
}

fn burst(burst: &Burst) -> BurstFigures {
    let sorted: Vec<f64> = burst.ready_ns.iter().map(|ns| *ns as f64).collect();
    let sorted = super::median::sorted(&sorted);
    let rank =
        |share: f64| sorted[((share * sorted.len() as f64).ceil() as usize).clamp(1, sorted.len()) - 1];
    let quantiles = super::median::of_sorted(&sorted).map(|median| [rank(0.0), median, rank(0.9), rank(1.0)]);
    BurstFigures {
        n: burst.n,
        failed: burst.failed,
        quantiles,
        all_ready: burst.all_ready_ns.map(|ns| ns as f64),
    }
}

#[cfg(test)]
mod tests;
