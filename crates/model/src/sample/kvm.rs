//! What a host's KVM is worth.

use serde::{Deserialize, Serialize};

/// How KVM runs guests on a host: what a probe guest found.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Kvm {
    pub degree: KvmDegree,
    /// A loop's rate in a guest, as a multiple of the same loop's on the host: near 1 on hardware.
    pub loop_ratio: Option<f64>,
    /// What it costs a guest to ask KVM for something (`cpuid`), and to go on.
    pub exit_ns: Option<u64>,
}

/// Told apart by what they do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum KvmDegree {
    /// On the processor's own virtualisation.
    Hardware,
    /// The same, of a host that is itself a guest.
    Nested,
    /// Without the processor's virtualisation, as by pvm.
    Paravirtual,
    /// Each instruction is emulated.
    Emulated,
    /// A guest does not do what it should.
    Broken,
}

impl KvmDegree {
    /// As users call it.
    pub fn name(self) -> &'static str {
        match self {
            KvmDegree::Hardware => "hardware",
            KvmDegree::Nested => "nested",
            KvmDegree::Paravirtual => "para-virtualised",
            KvmDegree::Emulated => "emulated",
            KvmDegree::Broken => "broken",
        }
    }

    /// What figures of VMs are worth that it runs.
    pub fn worth(self) -> &'static str {
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
