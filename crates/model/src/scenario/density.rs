//! `[density]`: how many instances a host holds at once, and the cost of each further one.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Bytes, Span};

/// Without `memory_left`, the host keeps a tenth of its memory, and at least this many bytes.
const LEFT_BY_DEFAULT: u64 = 1 << 30;

/// For each of its targets in turn, a run adds instances one at a time, and keeps them all, until it reaches a limit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Density {
    /// Most instances of a target at once.
    pub instances: u32,
    /// Most VMs of a target at once, as VMs cost more; none given: `instances`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vms: Option<u32>,
    /// The run starts no more once the host's available memory would fall below this; none given: a tenth
    /// of the host's memory, and no less than 1 GiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_left: Option<Bytes>,
    /// The run starts no more once an instance is not ready within this; none given: `sampling.timeout`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub startup: Option<Span>,
    /// Wait between the newest instance's ready and the reading.
    #[serde(default = "default_settle")]
    pub settle: Span,
    /// Sizes of bursts: instances requested at once, one burst after the other.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub bursts: Vec<u32>,
    /// Names of its targets; none given: all targets.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub targets: Vec<String>,
}

fn default_settle() -> Span {
    Span(Duration::from_secs(2))
}

impl Density {
    /// The memory that a host with `host` bytes of RAM keeps available.
    pub fn memory_left(&self, host: u64) -> Bytes {
        self.memory_left.unwrap_or(Bytes((host / 10).max(LEFT_BY_DEFAULT)))
    }

    /// Most instances at once, for a VM target or any other.
    pub fn most(&self, vm: bool) -> u32 {
        self.vms.filter(|_| vm).unwrap_or(self.instances)
    }

    /// Whether the density run includes this target.
    pub fn has(&self, target: &str) -> bool {
        self.targets.is_empty() || self.targets.iter().any(|name| name == target)
    }

    /// Keeps the targets among `names`; false where it named targets and none is left.
    pub(super) fn select(&mut self, names: &[String]) -> bool {
        let all = self.targets.is_empty();
        self.targets.retain(|target| names.contains(target));
        all || !self.targets.is_empty()
    }
}
