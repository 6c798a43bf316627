//! A claim with its verdict.

use crate::{Interval, Unit};

/// Verdict on a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClaimVerdict {
    /// The whole interval lies within the bound.
    Supported,
    /// The whole interval lies beyond the bound.
    Refuted,
    /// The interval straddles the bound, or the run has no interval.
    Undecided,
}

impl ClaimVerdict {
    /// In lower case, as reports show it.
    pub fn word(self) -> &'static str {
        match self {
            ClaimVerdict::Supported => "supported",
            ClaimVerdict::Refuted => "refuted",
            ClaimVerdict::Undecided => "undecided",
        }
    }
}

/// A claim of the scenario and this run's verdict on it.
#[derive(Debug, Clone, PartialEq)]
pub struct Judged {
    /// The claim in the scenario's words.
    pub says: String,
    /// Published name of the metric, or name of a fact.
    pub metric: String,
    /// Name of the target that the claim is about.
    pub target: String,
    /// Denominator of a ratio; `None` for a claim about an absolute value.
    pub relative_to: Option<String>,
    /// As written, for example "at most 2s".
    pub bound: String,
    /// `None` where the run has no such figure.
    pub measured: Option<Measured>,
    /// Undecided where `measured` is `None`.
    pub verdict: ClaimVerdict,
    /// Reason for the verdict, as a clause without a full stop.
    pub why: String,
}

/// The measured value that a claim is about.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Measured {
    /// In the unit's base (ns, bytes, share), or a ratio.
    pub value: f64,
    /// Unit of `value`; `None` for a ratio.
    pub unit: Option<Unit>,
    /// `None`: need >= 6.
    pub interval: Option<Interval>,
    /// Number of good samples, of rounds with both targets, or of instances.
    pub n: usize,
    /// Kind of estimate that `value` is.
    pub of: EstimateKind,
}

/// Kind of estimate that a claim is judged by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EstimateKind {
    /// Median of the good samples.
    Median,
    /// Ratio of two targets over the pairs of each round.
    Ratio,
    /// Cost of one more instance, or the ratio of two such costs.
    Each,
}

impl EstimateKind {
    /// Its name, and the observations that it is computed from.
    pub(crate) fn words(self) -> (&'static str, &'static str) {
        match self {
            EstimateKind::Median => ("median", "good samples"),
            EstimateKind::Ratio => ("ratio", "rounds with both"),
            EstimateKind::Each => ("estimate", "instances at once"),
        }
    }
}
