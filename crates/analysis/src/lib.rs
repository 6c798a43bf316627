//! Pure statistics over the records of a run: figures, their intervals, verdicts and caveats.
//!
//! Figures exclude warm-ups and failed samples, which are counted, and include outliers, which are
//! flagged. Medians have exact order-statistic intervals ([`median`]); ratios to the baseline are
//! Hodges-Lehmann estimates over the pairs of each round ([`paired`]); [`unpaired`] compares samples
//! without common rounds, such as those of two runs. [`history`] finds changes across many runs; its permutation
//! tests draw their random numbers from a seed.

use std::collections::BTreeMap;

use bootrace_model::{kind, metric, sample, scenario};

use crate::{
    kind::Kind,
    sample::{Outcome, Results, Sample},
};

pub mod calibration;
mod caveats;
mod claims;
pub mod comparison;
pub mod density;
mod drift;
mod facts;
pub mod gate;
pub mod history;
mod identity;
mod interference;
pub mod median;
pub mod noise;
mod outlier;
pub mod paired;
pub mod slope;
pub mod steps;
mod student;
mod target;
pub mod unpaired;

pub use bootrace_model::metric::{Metric, Unit, is_measured};
pub use claims::{ClaimVerdict, EstimateKind, Judged, Measured};
pub use drift::{Drift, drift};
pub use facts::Fact;
pub use identity::{Identities, Kernel, Seen, short};
pub use interference::{InterferenceKind, interference, others_cpus};
pub use median::Interval;
pub use paired::Ratio;
pub use target::{Counts, Figure, RelativeTo, TargetAnalysis};

/// Default confidence level of every interval.
pub const LEVEL: f64 = 0.99;

/// Figures, verdicts and caveats of one run.
#[derive(Debug, Clone, PartialEq)]
pub struct Analysis {
    /// Requested confidence level, 0 to 1; each interval carries its actual coverage.
    pub level: f64,
    /// Name of the target that ratios and overheads refer to; `None` when the run has one target, not native.
    pub baseline: Option<String>,
    /// In the order of the results' targets.
    pub targets: Vec<TargetAnalysis>,
    /// Verdicts on the scenario's claims, in their order.
    pub claims: Vec<Judged>,
    /// One entry for each target that the run filled with instances.
    pub density: Vec<density::Density>,
    /// Evidence that all instances ran the same image, agent and workload.
    pub identities: Identities,
    /// Caveats of the comparison and the runner's own warnings, most serious first.
    pub caveats: Vec<String>,
}

impl Analysis {
    /// Finds a target by name.
    pub fn target(&self, name: &str) -> Option<&TargetAnalysis> {
        self.targets.iter().find(|t| t.name == name)
    }
}

/// Analyses a run at the default level of 99 %.
pub fn analyse(results: &Results) -> Analysis {
    analyse_at(results, LEVEL)
}

/// Analyses a run at the given level, 0 < level < 1.
pub fn analyse_at(results: &Results, level: f64) -> Analysis {
    let baseline = baseline(results);
    let mut ranks = paired::Ranks::default();
    let targets: Vec<TargetAnalysis> =
        results.targets.iter().map(|t| target(results, t, baseline.as_deref(), level, &mut ranks)).collect();
    let identities = identity::identities(results);
    let base = baseline.as_deref();
    let filled = claims::Filled {
        one: density::densities(results, level),
        both: density::densities(results, (1.0 + level) / 2.0),
    };
    let claims = claims::judge(results, &targets, &filled, &mut |target, other, metric| {
        let of = |name| series(results, name, metric, base);
        against(&of(target), &of(other), level, &mut ranks)
    });
    let caveats = caveats::all(results, &targets, &identities, baseline.as_deref());
    Analysis { level, baseline, targets, claims, density: filled.one, identities, caveats }
}

/// The target named `native`, else the first of kind `native`, else the first; `None` when there is
/// nothing to compare.
fn baseline(results: &Results) -> Option<String> {
    let targets = &results.targets;
    let native = targets.iter().find(|t| t.name == Kind::BASELINE.name());
    let native = native.or_else(|| targets.iter().find(|t| t.kind == Kind::BASELINE));
    native.or_else(|| targets.first().filter(|_| targets.len() > 1)).map(|t| t.name.clone())
}

/// The values of one metric, each with its round and its index into the results' samples.
type Series = Vec<(usize, u32, f64)>;

fn series(results: &Results, target: &str, metric: Metric, baseline: Option<&str>) -> Series {
    let of = |name: &str| -> Vec<(usize, &Sample)> {
        let of_target = |(_, s): &(usize, &Sample)| s.target == name && is_measured(s);
        results.samples.iter().enumerate().filter(of_target).collect()
    };
    if metric != Metric::Overhead {
        return of(target).into_iter().filter_map(|(i, s)| Some((i, s.round, metric.of(s)?))).collect();
    }
    let Some(baseline) = baseline.filter(|b| *b != target) else { return Vec::new() };
    let under: BTreeMap<u32, f64> =
        of(baseline).into_iter().filter_map(|(_, s)| Some((s.round, Metric::Footprint.of(s)?))).collect();
    let over = |(i, s): (usize, &Sample)| Some((i, s.round, Metric::Footprint.of(s)? - under.get(&s.round)?));
    of(target).into_iter().filter_map(over).collect()
}

/// Values of one metric from the measured samples of a target, in the order taken and in the metric's unit.
pub fn values(results: &Results, target: &str, metric: Metric) -> Vec<f64> {
    series(results, target, metric, baseline(results).as_deref()).into_iter().map(|(_, _, v)| v).collect()
}

fn target(
    results: &Results,
    target: &crate::sample::TargetRecord,
    baseline: Option<&str>,
    level: f64,
    ranks: &mut paired::Ranks,
) -> TargetAnalysis {
    let is_baseline = baseline == Some(target.name.as_str());
    let mut figures = Vec::new();
    for metric in Metric::ALL {
        let values = series(results, &target.name, metric, baseline);
        let Some(mut figure) = figure(metric, &values, level) else { continue };
        figure.against = match baseline {
            _ if is_baseline => RelativeTo::Baseline,
            Some(baseline) => against(&values, &series(results, baseline, metric, None), level, ranks),
            None => RelativeTo::None("there is no baseline"),
        };
        figures.push(figure);
    }
    let startup: Vec<f64> =
        series(results, &target.name, Metric::Startup, None).into_iter().map(|(_, _, v)| v).collect();
    TargetAnalysis {
        name: target.name.clone(),
        kind: target.kind,
        accelerator: target.accelerator,
        kvm: target.kvm.map(|kvm| kvm.degree),
        baseline: is_baseline,
        counts: count(results, &target.name),
        figures,
        drift: drift(&startup),
    }
}

fn figure(metric: Metric, series: &Series, level: f64) -> Option<Figure> {
    let values: Vec<f64> = series.iter().map(|(_, _, v)| *v).collect();
    let sorted = median::sorted(&values);
    Some(Figure {
        metric,
        n: values.len(),
        median: median::of_sorted(&sorted)?,
        interval: median::interval(&sorted, level),
        min: *sorted.first()?,
        max: *sorted.last()?,
        outliers: outlier::flagged(&values).into_iter().map(|i| series[i].0).collect(),
        against: RelativeTo::Baseline,
    })
}

/// Pairs samples by round, so that influences on a whole round (load, heat) cancel in the ratio.
fn against(values: &Series, baseline: &Series, level: f64, ranks: &mut paired::Ranks) -> RelativeTo {
    let base: BTreeMap<u32, f64> = baseline.iter().map(|(_, round, v)| (*round, *v)).collect();
    let pairs: Vec<(f64, f64)> =
        values.iter().filter_map(|(_, round, v)| Some((*base.get(round)?, *v))).collect();
    if pairs.is_empty() {
        return RelativeTo::None("no round has both targets");
    }
    match ranks.ratio(&pairs, level) {
        Some(ratio) => RelativeTo::Ratio(ratio),
        None => RelativeTo::None("a value is zero or below"),
    }
}

fn count(results: &Results, target: &str) -> Counts {
    let mut counts = Counts::default();
    for sample in results.samples.iter().filter(|s| s.target == target) {
        match (sample.warmup, sample.outcome) {
            (true, outcome) => {
                counts.warmup += 1;
                counts.warmup_failed += usize::from(outcome != Outcome::Ok);
            }
            (false, Outcome::Ok) => counts.ok += 1,
            (false, Outcome::Failed) => counts.failed += 1,
            (false, Outcome::TimedOut) => counts.timed_out += 1,
        }
    }
    counts
}
