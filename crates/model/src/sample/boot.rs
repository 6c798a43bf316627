//! What a boot phase consists of.

use serde::{Deserialize, Serialize};

/// The parts of one instance's boot phase, in ns, in the order in which they come. In a VM those that are there add up
/// to the boot phase exactly: `firmware` is by the host's clock less a duration of the guest's, the others are durations
/// by the guest's clock. A container with systemd inside has `userspace` and `agent_unit` alone; they begin with systemd and
/// not with the boot phase, which begins when the engine's start call has returned and may so be shorter.
///
/// Null where an instance has no such part or nothing tells; its time is then in the part before it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Boot {
    /// The boot phase less the uptime of the guest's kernel at the agent's hello: QEMU, firmware, boot loader, and of
    /// the kernel what unpacks it. Null also where the guest's kernel was up before the engine's start call had returned:
    /// the other parts are then longer than the boot phase by that.
    pub firmware: Option<u64>,
    /// The kernel's start by its own clock -> the initrd's first program is executed.
    pub kernel: Option<u64>,
    /// -> systemd begins in the root file system. With direct boot the agent is that program, and this ends with hello.
    pub initrd: Option<u64>,
    /// -> systemd starts the agent's unit.
    pub userspace: Option<u64>,
    /// -> the agent's hello.
    pub agent_unit: Option<u64>,
    /// From the kernel's start (in a container: systemd's) until systemd calls its start-up finished; null where it
    /// hadn't when it was asked, after all measuring. No part of the boot phase, which may be over before or after.
    pub finished: Option<u64>,
    /// Why there are fewer parts than there should be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl Boot {
    /// The sum of the parts that are there, in ns.
    pub fn sum(&self) -> u64 {
        [self.firmware, self.kernel, self.initrd, self.userspace, self.agent_unit].into_iter().flatten().sum()
    }
}
