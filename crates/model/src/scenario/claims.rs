//! `[[claim]]`: sentences that a run judges.

use serde::{Deserialize, Serialize};

use super::Bound;

/// A sentence with a bound on a target's metric, or on its ratio to another target's; or one about a fact of a target,
/// without a bound.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Claim {
    /// The sentence that reports print with the verdict.
    pub says: String,
    /// Id of the metric; empty in a claim about a fact.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub metric: String,
    /// Name of the target that it is about.
    pub target: String,
    /// The target below the line of the ratio; bounds are then a number of times.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub relative_to: Option<String>,
    /// Upper bound, inclusive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_most: Option<Bound>,
    /// Lower bound, inclusive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_least: Option<Bound>,
    /// `kernel.shared`, `processes.visible` or `pagecache.shared`, in place of a metric; goes with `is`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fact: Option<String>,
    /// The value of `fact` that the claim states.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub is: Option<bool>,
}

impl Claim {
    /// The targets whose samples judge it.
    pub fn targets(&self) -> impl Iterator<Item = &str> {
        [Some(&self.target), self.relative_to.as_ref()].into_iter().flatten().map(String::as_str)
    }
}
