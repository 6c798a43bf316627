//! The parts of a boot phase.

use serde::{Deserialize, Serialize};

/// The parts of one instance's boot phase, in ns, in their order. In a VM the parts that are not null add up to the
/// boot phase exactly: `firmware` is the host's time less the guest's uptime, the others are durations by the guest's
/// clock. A container with systemd inside has `userspace` and `agent_unit` alone. They begin with systemd; the boot
/// phase begins when the engine's start call returns, so it may be shorter than their sum.
///
/// Null where an instance has no such part or its start is unknown; the part before it then includes its time.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Boot {
    /// The boot phase less the uptime of the guest's kernel at the agent's hello: QEMU, firmware, boot loader, and
    /// the kernel's unpacking of itself. Null also where the guest's kernel was up before the engine's start call
    /// returned: the other parts then add up to more than the boot phase.
    pub firmware: Option<u64>,
    /// The kernel's start by its own clock -> the initrd's first program is executed.
    pub kernel: Option<u64>,
    /// -> systemd begins in the root file system. With direct boot the agent is that program, and this ends with
    /// hello.
    pub initrd: Option<u64>,
    /// -> systemd starts the agent's unit.
    pub userspace: Option<u64>,
    /// -> the agent's hello.
    pub agent_unit: Option<u64>,
    /// From the kernel's start (in a container: systemd's) until systemd calls its start-up finished; null where that
    /// had not happened when all measuring was done. Not part of the boot phase, which may end before or after.
    pub finished: Option<u64>,
    /// Why parts are missing that this instance should have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl Boot {
    /// The sum of the parts that are not null, in ns.
    pub fn sum(&self) -> u64 {
        [self.firmware, self.kernel, self.initrd, self.userspace, self.agent_unit].into_iter().flatten().sum()
    }
}
