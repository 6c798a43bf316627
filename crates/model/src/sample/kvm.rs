//! What a host's KVM is, and which conclusions it allows.

use serde::{Deserialize, Serialize};

/// How KVM runs guests on a host, as a probe guest found it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Kvm {
    /// How KVM runs a guest's instructions.
    pub degree: KvmDegree,
    /// A loop's rate in a guest, as a multiple of the same loop's on the host: near 1 on hardware.
    pub loop_ratio: Option<f64>,
    /// Time of one exit from the guest to KVM and back (`cpuid`).
    pub exit_ns: Option<u64>,
}

/// How KVM runs a guest's instructions, by the probe guest's behaviour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum KvmDegree {
    /// By the processor's own virtualisation.
    Hardware,
    /// The same, on a host that is itself a guest.
    Nested,
    /// Without the processor's virtualisation, as pvm does.
    Paravirtual,
    /// Each instruction is emulated.
    Emulated,
    /// A guest computes wrong results or dies.
    Broken,
}

impl KvmDegree {
    /// As reports print it.
    pub fn name(self) -> &'static str {
        match self {
            KvmDegree::Hardware => "hardware",
            KvmDegree::Nested => "nested",
            KvmDegree::Paravirtual => "para-virtualised",
            KvmDegree::Emulated => "emulated",
            KvmDegree::Broken => "broken",
        }
    }

    /// What the figures of its VMs show, as the end of a sentence.
    pub fn explanation(self) -> &'static str {
        match self {
            KvmDegree::Hardware => "its VMs' figures are those of hardware virtualisation",
            KvmDegree::Nested => {
                "its VMs are VMs within a VM: their exits cost a multiple of those on bare metal, and their figures hold \
                 for such hosts"
            }
            KvmDegree::Paravirtual => {
                "its VMs run without the processor's virtualisation: their figures say what this KVM costs, and nothing \
                 about hardware virtualisation"
            }
            KvmDegree::Emulated => {
                "its VMs are slower than QEMU's own emulation, and their figures say nothing about hardware \
                 virtualisation"
            }
            KvmDegree::Broken => "its VMs may die or compute what is wrong, and their figures say nothing",
        }
    }
}
