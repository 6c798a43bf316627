//! How many instances a host holds at once: the records of `density` in `results.json`.
//!
//! As all records: a value that can't be had is null, times are ns, sizes bytes, and names carry the unit.

use serde::{Deserialize, Serialize};

use super::{Identity, Outcome, Timeline};

/// Instances of one target, started one at a time, all of them kept until the last was read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Density {
    /// Name of the target.
    pub target: String,
    /// At most so many at once.
    pub most: u32,
    /// No more were to be started once the host's available memory would have fallen below this.
    pub memory_left_bytes: u64,
    /// No more were to be started once one took longer than this to be ready.
    pub startup_limit_ns: u64,
    /// From the last one's ready to the reading.
    pub settle_ns: u64,
    /// Why no more were started; null while it went on, so also where the harness was killed.
    pub limit: Option<Limit>,
    /// The same in words, with what was seen.
    pub limit_why: Option<String>,
    /// Before the first was requested.
    pub before: HostMemory,
    /// In the order in which they were started.
    pub steps: Vec<Step>,
    /// How many ended by themselves while others were added.
    pub died: u32,
    /// In the order of the scenario.
    pub bursts: Vec<Burst>,
    /// From the first request to the last instance's end, bursts included.
    pub wall_ns: Option<u64>,
    /// How long the removal of all that were added took, several at a time.
    pub removal_ns: Option<u64>,
}

/// Why no more instances were started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Limit {
    /// As many as were asked for are there.
    Count,
    /// The host's available memory would have fallen below the bound.
    Memory,
    /// One was not ready in time.
    Startup,
    /// One could not be started, or one ended by itself.
    Failure,
    /// The user stopped the run.
    Stopped,
}

/// One more instance, and what all of them together cost once it was ready.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Step {
    /// How many there are with this one, from 1.
    pub n: u32,
    /// Of the start of this one.
    pub outcome: Outcome,
    /// What was tried, on what, why it failed; also of one that was there before and ended by itself.
    pub error: Option<String>,
    /// Of this one; `stopping` and `gone` are of the removal of all, several at a time.
    pub timeline_ns: Timeline,
    /// Host CPU time from requested to ready of this one and the engine's daemons.
    pub cpu_startup_ns: Option<u64>,
    /// Sum of the footprints of all that are there; null where one of them could not be read.
    pub footprint_sum_bytes: Option<u64>,
    /// This one's footprint, read with the others.
    pub footprint_bytes: Option<u64>,
    /// Growth of the engine's daemons' anonymous and shared PSS since before the first; null where there are none.
    pub daemons_bytes: Option<i64>,
    /// Sum of the host CPU time of all over the idle window, without the daemons.
    pub idle_cpu_sum_ns: Option<u64>,
    /// Wall time of that window.
    pub idle_window_ns: Option<u64>,
    /// The host's memory after the settle time, read just before the footprints.
    pub host: HostMemory,
    /// Of this one, as seen inside and asked for once nothing more was read; null where it was not asked.
    pub identity: Option<Identity>,
}

/// What the kernel says of all of the host's memory at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct HostMemory {
    /// The kernel's estimate of what can be given out without swapping (MemAvailable).
    pub available_bytes: Option<u64>,
    pub swap_used_bytes: Option<u64>,
    /// Kernel same-page merging is on.
    pub ksm: Option<bool>,
    /// Pages that it saves.
    pub ksm_pages: Option<u64>,
}

/// Instances that were requested at once.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Burst {
    pub n: u32,
    /// Start-up of each that was ready, from its own request, ascending.
    pub ready_ns: Vec<u64>,
    /// How many were not.
    pub failed: u32,
    /// Why, the first few.
    pub errors: Vec<String>,
    /// From the first request to the last.
    pub request_spread_ns: Option<u64>,
    /// From the first request until the last of those that were ready was.
    pub all_ready_ns: Option<u64>,
}

impl Density {
    /// How many were there at once, all of them ready and none ended.
    pub fn reached(&self) -> u32 {
        let whole = self.steps.iter().filter(|step| step.outcome == Outcome::Ok && step.error.is_none());
        whole.map(|step| step.n).max().unwrap_or(0)
    }
}
