//! The system that starts before the workload: the agent alone, or the image's whole system.

use serde::{Deserialize, Serialize};

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
