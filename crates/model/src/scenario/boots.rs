//! What comes up before the workload: the agent alone, or the image's whole system.

use serde::{Deserialize, Serialize};

use super::{Bytes, Kind, Scenario, ScenarioTarget};

/// What a VM boots.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Boot {
    /// The image's own kernel with an initramfs that holds only the agent.
    #[default]
    Direct,
    /// The image's own kernel and its own initrd, passed to QEMU; its systemd as PID 1.
    Systemd,
    /// A disk with a boot loader, by the machine's firmware; then as `systemd`.
    Firmware,
}

/// What a VM with `boot = "firmware"` starts from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Firmware {
    /// SeaBIOS; x86_64 only.
    Bios,
    /// OVMF.
    Uefi,
}

/// A container's PID 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Init {
    #[default]
    Agent,
    /// The image's own; the agent is a unit of it.
    Systemd,
}

/// The kernel unpacks the initrd into memory before anything runs. Debian's (14 MB packed) came as far as the agent with
/// 144 MiB; larger ones and a workload need more.
pub(super) const MEMORY_SYSTEM: Bytes = Bytes(256 << 20);

impl Boot {
    /// As scenarios have it.
    pub fn name(self) -> &'static str {
        match self {
            Boot::Direct => "direct",
            Boot::Systemd => "systemd",
            Boot::Firmware => "firmware",
        }
    }
}

impl Firmware {
    /// What machines of this architecture have by default.
    pub fn usual() -> Self {
        if cfg!(target_arch = "x86_64") { Firmware::Bios } else { Firmware::Uefi }
    }

    /// As scenarios have it.
    pub fn name(self) -> &'static str {
        match self {
            Firmware::Bios => "bios",
            Firmware::Uefi => "uefi",
        }
    }
}

impl Init {
    /// As scenarios have it.
    pub fn name(self) -> &'static str {
        match self {
            Init::Agent => "agent",
            Init::Systemd => "systemd",
        }
    }
}

impl ScenarioTarget {
    /// What it boots; `None` for what is no VM.
    pub fn boot(&self) -> Option<Boot> {
        self.kind.is_vm().then(|| self.boot.unwrap_or_default())
    }

    /// The firmware that it boots from, where it boots from one.
    pub fn firmware(&self) -> Option<Firmware> {
        (self.boot() == Some(Boot::Firmware)).then(|| self.firmware.unwrap_or_else(Firmware::usual))
    }

    /// Whether it is a VM that boots the image's whole system.
    pub fn boots_system(&self) -> bool {
        matches!(self.boot(), Some(Boot::Systemd | Boot::Firmware))
    }

    /// Whether the image's systemd is its PID 1.
    pub fn runs_systemd(&self) -> bool {
        self.boots_system() || (self.kind == Kind::Docker && self.init == Some(Init::Systemd))
    }
}

/// The first target, by its place, that needs more memory than any VM does.
pub(super) fn boots_system(scenario: &Scenario) -> Option<&ScenarioTarget> {
    scenario.targets.iter().find(|target| target.boots_system())
}

/// `firmware` says which one, so there must be one.
pub(super) fn firmware(target: &ScenarioTarget) -> Result<(), String> {
    match target.firmware {
        Some(_) if target.kind.is_vm() && target.boot != Some(Boot::Firmware) => {
            Err("this goes with boot = \"firmware\": write that too, or leave this out".into())
        }
        _ => Ok(()),
    }
}
