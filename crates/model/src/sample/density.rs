//! How many instances a host holds at once: the records of `density` in `results.json`.
//!
//! As in all records, a value that can't be read is null, times are ns, sizes are bytes, and names carry the unit.

use serde::{Deserialize, Serialize};

use super::{Identity, Outcome, Timeline};

/// Instances of one target, started one at a time and kept until after the last reading.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Density {
    /// Name of the target.
    pub target: String,
    /// Most instances at once.
    pub most: u32,
    /// The run starts no more once the host's available memory would fall below this.
    pub memory_left_bytes: u64,
    /// The run starts no more once an instance takes longer than this to be ready.
    pub startup_limit_ns: u64,
    /// Wait between the newest instance's ready and the reading.
    pub settle_ns: u64,
    /// Why the run started no more; null while it goes on, and where the harness was killed.
    pub limit: Option<Limit>,
    /// The same in words, with the observed value.
    pub limit_why: Option<String>,
    /// The host's memory before the first instance.
    pub before: HostMemory,
    /// One for each instance, in the order of their starts.
    pub steps: Vec<Step>,
    /// Instances that ended by themselves while others were added.
    pub died: u32,
    /// In the scenario's order.
    pub bursts: Vec<Burst>,
    /// From the first request to the last instance's end, bursts included.
    pub wall_ns: Option<u64>,
    /// Time to remove all added instances, several at a time.
    pub removal_ns: Option<u64>,
}

/// Why a density run started no more instances.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Limit {
    /// The requested number is running.
    Count,
    /// The host's available memory would have fallen below the bound.
    Memory,
    /// An instance was not ready in time.
    Startup,
    /// An instance failed to start, or ended by itself.
    Failure,
    /// The user stopped the run.
    Stopped,
}

/// One more instance, and the cost of all of them together once it is ready.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Step {
    /// Number of instances with this one, from 1.
    pub n: u32,
    /// How the start of this instance ended.
    pub outcome: Outcome,
    /// What failed, on what, and why; also where an earlier instance ended by itself.
    pub error: Option<String>,
    /// This instance's; `stopping` and `gone` belong to the removal of all, several at a time.
    pub timeline_ns: Timeline,
    /// Host CPU time from requested to ready, of this instance and the engine's daemons.
    pub cpu_startup_ns: Option<u64>,
    /// Sum of the footprints of all running instances; null where one could not be read.
    pub footprint_sum_bytes: Option<u64>,
    /// This instance's footprint, read with the others.
    pub footprint_bytes: Option<u64>,
    /// Growth of the engine's daemons' anonymous and shared PSS since before the first instance; null without daemons.
    pub daemons_bytes: Option<i64>,
    /// Sum of the host CPU time of all instances over the idle window, without the daemons.
    pub idle_cpu_sum_ns: Option<u64>,
    /// Wall time of that window.
    pub idle_window_ns: Option<u64>,
    /// The host's memory after the settle time, read just before the footprints.
    pub host: HostMemory,
    /// This instance's, read after all measuring; null where the agent did not report it.
    pub identity: Option<Identity>,
}

/// The host's memory at one time, as its kernel reports it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct HostMemory {
    /// The kernel's estimate of what programs can get without swapping (MemAvailable).
    pub available_bytes: Option<u64>,
    /// Swap in use.
    pub swap_used_bytes: Option<u64>,
    /// Whether kernel same-page merging (KSM) is on.
    pub ksm: Option<bool>,
    /// Pages that KSM saves.
    pub ksm_pages: Option<u64>,
}

/// Instances requested at once.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Burst {
    /// Number of instances requested.
    pub n: u32,
    /// Start-up of each instance that became ready, from its own request, ascending.
    pub ready_ns: Vec<u64>,
    /// Instances that did not become ready.
    pub failed: u32,
    /// Why, for the first few.
    pub errors: Vec<String>,
    /// From the first request to the last.
    pub request_spread_ns: Option<u64>,
    /// From the first request until the last instance that became ready.
    pub all_ready_ns: Option<u64>,
}

impl Density {
    /// The most instances that ran at once, all ready and none ended.
    pub fn reached(&self) -> u32 {
        let whole = self.steps.iter().filter(|step| step.outcome == Outcome::Ok && step.error.is_none());
        whole.map(|step| step.n).max().unwrap_or(0)
    }
}
