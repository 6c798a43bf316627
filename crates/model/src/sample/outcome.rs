//! The end of a sample.

use serde::{Deserialize, Serialize};

/// How a sample or a step ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The instance became ready, and all requested work succeeded.
    Ok,
    /// A step failed; `error` says which.
    Failed,
    /// The instance or its work took longer than the scenario's time-out.
    TimedOut,
}
