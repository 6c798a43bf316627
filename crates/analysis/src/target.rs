//! The figures of one target.

use crate::{
    Drift, Interval, Metric, Ratio,
    kind::Kind,
    sample::{Accelerator, KvmDegree},
};

/// Figures of one target.
#[derive(Debug, Clone, PartialEq)]
pub struct TargetAnalysis {
    /// As in the scenario; unique in the run.
    pub name: String,
    /// Engine that ran the instances.
    pub kind: Kind,
    /// How a VM executed its code; `Accelerator::None` for processes and containers.
    pub accelerator: Accelerator,
    /// Degree of the host's KVM; `None` where the run did not determine it.
    pub kvm: Option<KvmDegree>,
    /// Whether the other targets' ratios refer to this one.
    pub baseline: bool,
    /// Number of samples by outcome.
    pub counts: Counts,
    /// Metrics with at least one value, in [`Metric::ALL`]'s order.
    pub figures: Vec<Figure>,
    /// Drift of start-up over the run.
    pub drift: Option<Drift>,
}

/// How the samples of one target ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Measured samples that became ready and finished; figures come from these.
    pub ok: usize,
    /// Measured samples with an error.
    pub failed: usize,
    /// Measured samples that were not ready within `sampling.timeout`.
    pub timed_out: usize,
    /// Warm-ups, whatever their outcome; the fields above exclude them.
    pub warmup: usize,
    /// Warm-ups that failed or timed out.
    pub warmup_failed: usize,
}

/// One metric of one target.
#[derive(Debug, Clone, PartialEq)]
pub struct Figure {
    /// Determines the unit of the values below.
    pub metric: Metric,
    /// Number of samples with a value.
    pub n: usize,
    /// In the metric's unit: ns, bytes or a share.
    pub median: f64,
    /// `None`: need >= 6 samples.
    pub interval: Option<Interval>,
    /// Smallest value, outliers included.
    pub min: f64,
    /// Largest value, outliers included.
    pub max: f64,
    /// Indices into the results' samples.
    pub outliers: Vec<usize>,
    /// Comparison with the baseline.
    pub against: RelativeTo,
}

/// A figure relative to the baseline's.
#[derive(Debug, Clone, PartialEq)]
pub enum RelativeTo {
    /// This is the baseline.
    Baseline,
    /// Ratio to the baseline's values.
    Ratio(Ratio),
    /// There is no ratio, for this reason.
    None(&'static str),
}

impl RelativeTo {
    /// The ratio; `None` for the baseline and where a ratio does not exist.
    pub fn ratio(&self) -> Option<&Ratio> {
        match self {
            RelativeTo::Ratio(ratio) => Some(ratio),
            _ => None,
        }
    }
}

impl TargetAnalysis {
    /// `None` when no sample has a value.
    pub fn figure(&self, metric: Metric) -> Option<&Figure> {
        self.figures.iter().find(|f| f.metric == metric)
    }

    /// The median in the metric's unit; `None` when no sample has a value.
    pub fn median(&self, metric: Metric) -> Option<f64> {
        self.figure(metric).map(|f| f.median)
    }
}
