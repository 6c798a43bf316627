//! Whether the host is itself a guest, and of whom.

use super::{Root, value};

/// Bochs's, of its own BIOS. ACPI's tables tell nothing: those of QEMU, under KVM too, are signed by BOCHS.
const BOCHS_BIOS: &str = "The Bochs Project";
/// What QEMU says without KVM.
const TCG: &str = "TCGTCGTCGTCG";

impl Root {
    /// What emulates the processor of the host itself, if anything shows it. `signature` is as for
    /// [`virtualised`](Self::virtualised).
    pub(super) fn processor_emulator(&self, signature: Option<String>) -> Option<String> {
        let emulator = if self.flags_hypervisor()? {
            (signature.as_deref() == Some(TCG)).then_some("QEMU TCG")
        } else {
            // No hypervisor: its processor has none to tell of.
            (self.text("sys/class/dmi/id/bios_vendor")? == BOCHS_BIOS).then_some("Bochs")
        };
        emulator.map(str::to_owned)
    }

    /// Whether the processor says that a hypervisor is below; of those that have no such flag nothing.
    fn flags_hypervisor(&self) -> Option<bool> {
        let cpuinfo = self.text("proc/cpuinfo")?;
        value(&cpuinfo, "flags").map(|flags| flags.split_ascii_whitespace().any(|flag| flag == "hypervisor"))
    }

    /// `signature` is what the processor says through CPUID, if it can be asked.
    pub(super) fn virtualised(&self, signature: Option<String>) -> Option<String> {
        let name = self.text("sys/hypervisor/type").or_else(|| signature.map(|text| known(&text).to_owned()));
        match self.flags_hypervisor() {
            Some(true) => {
                let product = self.text("sys/class/dmi/id/product_name");
                let vendor = self.text("sys/class/dmi/id/sys_vendor");
                let board: Vec<String> = vendor.into_iter().chain(product).collect();
                let name = name.unwrap_or_else(|| "unknown hypervisor".into());
                Some(if board.is_empty() { name } else { format!("{name} ({})", board.join(" ")) })
            }
            Some(false) => Some("none".into()),
            // Other processors have no such flag; only a Xen guest gives itself away.
            None => name,
        }
    }
}

/// The usual name behind a CPUID signature.
fn known(signature: &str) -> &str {
    match signature {
        "KVMKVMKVM" | "Linux KVM Hv" => "KVM",
        TCG => "QEMU TCG (emulated)",
        "VMwareVMware" => "VMware",
        "Microsoft Hv" => "Hyper-V",
        "XenVMMXenVMM" => "Xen",
        "VBoxVBoxVBox" => "VirtualBox",
        "bhyve bhyve " => "bhyve",
        "ACRNACRNACRN" => "ACRN",
        other => other,
    }
}

/// What the hypervisor leaf of CPUID says; nonsense on bare metal, so ask the `hypervisor` flag first.
#[cfg(target_arch = "x86_64")]
pub(super) fn cpuid_signature() -> Option<String> {
    let leaf = std::arch::x86_64::__cpuid(0x4000_0000);
    let bytes = [leaf.ebx, leaf.ecx, leaf.edx].map(u32::to_le_bytes).concat();
    let text = String::from_utf8(bytes).ok()?;
    let text = text.trim_end_matches('\0');
    (!text.is_empty() && text.chars().all(|c| c.is_ascii_graphic() || c == ' ')).then(|| text.to_owned())
}

#[cfg(not(target_arch = "x86_64"))]
pub(super) fn cpuid_signature() -> Option<String> {
    None
}
