//! Whether the host is itself a guest, and of which hypervisor.

use super::{Root, value};

/// The vendor of Bochs's own BIOS. ACPI's tables are no evidence: QEMU's are signed by BOCHS, also under KVM.
const BOCHS_BIOS: &str = "The Bochs Project";
/// QEMU's CPUID signature without KVM.
const TCG: &str = "TCGTCGTCGTCG";

impl Root {
    /// The emulator of the host's own processor, if there is evidence of one. `signature` is as for
    /// [`virtualised`](Self::virtualised).
    pub(crate) fn processor_emulator(&self, signature: Option<String>) -> Option<String> {
        let emulator = if self.flags_hypervisor()? {
            (signature.as_deref() == Some(TCG)).then_some("QEMU TCG")
        } else {
            // Bochs is no hypervisor, so its processor reports none.
            (self.text("sys/class/dmi/id/bios_vendor")? == BOCHS_BIOS).then_some("Bochs")
        };
        emulator.map(str::to_owned)
    }

    /// Whether the processor reports a hypervisor; `None` for processors without such a flag.
    fn flags_hypervisor(&self) -> Option<bool> {
        let cpuinfo = self.text("proc/cpuinfo")?;
        value(&cpuinfo, "flags").map(|flags| flags.split_ascii_whitespace().any(|flag| flag == "hypervisor"))
    }

    /// The hypervisor's name. `signature` is the hypervisor leaf of CPUID, if the processor has one.
    pub(crate) fn virtualised(&self, signature: Option<String>) -> Option<String> {
        let name =
            self.text("sys/hypervisor/type").or_else(|| signature.map(|text| name_of(&text).to_owned()));
        match self.flags_hypervisor() {
            Some(true) => {
                let product = self.text("sys/class/dmi/id/product_name");
                let vendor = self.text("sys/class/dmi/id/sys_vendor");
                let board: Vec<String> = vendor.into_iter().chain(product).collect();
                let name = name.unwrap_or_else(|| "unknown hypervisor".into());
                Some(if board.is_empty() { name } else { format!("{name} ({})", board.join(" ")) })
            }
            Some(false) => Some("none".into()),
            // Other processors have no such flag; only a Xen guest shows itself.
            None => name,
        }
    }
}

/// The usual name behind a CPUID signature.
fn name_of(signature: &str) -> &str {
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

/// The hypervisor leaf of CPUID. It is meaningless on bare metal: check the `hypervisor` flag first.
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
