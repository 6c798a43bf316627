//! The system that starts before the workload: the agent alone, or the image's whole system.

use serde::{Deserialize, Serialize};

use super::{Bytes, LibvirtOptions, Scenario, ScenarioTarget};

/// The system that a VM boots.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Boot {
    /// The image's own kernel, with an initramfs that contains only the agent.
    #[default]
    Direct,
    /// The image's own kernel and initrd, passed to QEMU; the image's systemd is PID 1.
    Systemd,
    /// A disk with a boot loader, started by the machine's firmware; then as `systemd`.
    Firmware,
}

/// The firmware of a VM with `boot = "firmware"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Firmware {
    /// SeaBIOS; x86_64 only.
    Bios,
    /// OVMF.
    Uefi,
}

/// A container's PID 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Init {
    /// bootrace's agent alone.
    #[default]
    Agent,
    /// The image's own systemd; the agent is one of its units.
    Systemd,
}

/// The kernel unpacks the initrd into memory before anything runs. Debian's (14 MB packed) reaches the agent with 144
/// MiB; larger ones and a workload need more.
pub(super) const MEMORY_SYSTEM: Bytes = Bytes(256 << 20);

impl Boot {
    /// The value of `boot` in scenarios.
    pub fn name(self) -> &'static str {
        match self {
            Boot::Direct => "direct",
            Boot::Systemd => "systemd",
            Boot::Firmware => "firmware",
        }
    }
}

impl Firmware {
    /// The default firmware of this architecture's machines.
    pub fn usual() -> Self {
        if cfg!(target_arch = "x86_64") { Firmware::Bios } else { Firmware::Uefi }
    }

    /// The value of `firmware` in scenarios.
    pub fn name(self) -> &'static str {
        match self {
            Firmware::Bios => "bios",
            Firmware::Uefi => "uefi",
        }
    }
}

impl Init {
    /// The value of `init` in scenarios.
    pub fn name(self) -> &'static str {
        match self {
            Init::Agent => "agent",
            Init::Systemd => "systemd",
        }
    }
}

impl ScenarioTarget {
    /// The system that it boots; `None` except for a VM.
    pub fn boot(&self) -> Option<Boot> {
        self.vm().map(|options| options.boot.unwrap_or_default())
    }

    /// The firmware that it boots from; `None` without one.
    pub fn firmware(&self) -> Option<Firmware> {
        let options = self.vm().filter(|_| self.boot() == Some(Boot::Firmware))?;
        Some(options.firmware.unwrap_or_else(Firmware::usual))
    }

    /// Whether it is a VM that boots the image's whole system.
    pub fn boots_system(&self) -> bool {
        matches!(self.boot(), Some(Boot::Systemd | Boot::Firmware))
    }

    /// Whether the image's systemd is its PID 1.
    pub fn runs_systemd(&self) -> bool {
        self.boots_system() || self.docker().is_some_and(|options| options.init == Some(Init::Systemd))
    }
}

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
