//! The rules of targets that boot a whole system.

use crate::scenario::{Boot, Bytes, LibvirtOptions, Scenario, ScenarioTarget};

/// The kernel unpacks the initrd into memory before anything runs. Debian's (14 MB packed) reaches the agent with 144
/// MiB; larger ones and a workload need more.
pub(super) const MEMORY_SYSTEM: Bytes = Bytes(256 << 20);

/// The first target that boots a whole system, and so needs more memory than other VMs.
pub(super) fn boots_system(scenario: &Scenario) -> Option<&ScenarioTarget> {
    scenario.targets.iter().find(|target| target.boots_system())
}

/// `firmware` chooses the firmware of a VM that boots from one.
pub(super) fn firmware(options: &LibvirtOptions) -> Result<(), String> {
    match options.firmware {
        Some(_) if options.boot != Some(Boot::Firmware) => {
            Err("this goes with boot = \"firmware\": write that too, or leave this out".into())
        }
        _ => Ok(()),
    }
}
