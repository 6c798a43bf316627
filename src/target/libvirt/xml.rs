//! What a direct-boot VM *is*, as libvirt's domain XML: no device that the workload doesn't need.

use std::path::Path;

use quick_xml::escape::escape;

use crate::{sample::Accelerator, scenario::Resources};

/// Namespace of the metadata that marks a domain as ours.
pub const METADATA_URI: &str = "https://bootrace.invalid/domain/1";

#[cfg(target_arch = "x86_64")]
pub const MACHINE: &str = "q35";
#[cfg(not(target_arch = "x86_64"))]
pub const MACHINE: &str = "virt";

/// - `quiet`: each byte on a console costs an exit.
/// - `panic=-1`: a dead kernel ends its VM at once.
/// - `cryptomgr.notests`: the kernel's self-tests of its ciphers took 0.3 s of an emulated boot of 2.0 s, and
///   no container's start has them.
pub const KERNEL_COMMAND_LINE: &str = "quiet panic=-1 cryptomgr.notests";

/// Without it the kernel of a VM that nobody types into waits for entropy, and so does a workload that asks
/// for random numbers early. `host-passthrough` has it where the host does.
#[cfg(target_arch = "x86_64")]
const RANDOM: &str = "<feature policy='require' name='rdrand'/>";
#[cfg(not(target_arch = "x86_64"))]
const RANDOM: &str = "";

/// KVM shows the host's CPU; emulation is quickest with QEMU's plainest model.
pub fn cpu_model(accelerator: Accelerator) -> &'static str {
    match (accelerator, cfg!(target_arch = "x86_64")) {
        (Accelerator::Kvm, _) => "host-passthrough",
        (_, true) => "qemu64",
        (_, false) => "max",
    }
}

pub struct Machine<'a> {
    pub name: &'a str,
    pub run: &'a str,
    pub accelerator: Accelerator,
    pub resources: &'a Resources,
    /// The host's CPUs that vCPUs are bound to, as a list.
    pub cpus: &'a str,
    pub kernel: &'a Path,
    pub initramfs: &'a Path,
    pub disk: &'a Path,
    pub socket: &'a Path,
}

impl Machine<'_> {
    pub fn to_xml(&self) -> String {
        let path = |path: &Path| escape(path.to_string_lossy()).into_owned();
        let pin = |vcpu| format!("<vcpupin vcpu='{vcpu}' cpuset='{}'/>", self.cpus);
        let pins: String = (0..self.resources.cpus).map(pin).collect();
        // On other architectures ACPI needs a UEFI firmware.
        let acpi = if cfg!(target_arch = "x86_64") { "<acpi/>" } else { "" };
        let kind = if self.accelerator == Accelerator::Kvm { "kvm" } else { "qemu" };
        let cpu = match cpu_model(self.accelerator) {
            "host-passthrough" => "<cpu mode='host-passthrough' migratable='off'/>".to_owned(),
            model => format!(
                "<cpu mode='custom' match='exact' check='none'><model fallback='forbid'>{model}</model>{RANDOM}</cpu>"
            ),
        };
        format!(
            "<domain type='{kind}'>
  <name>{name}</name>
  <metadata><bootrace:run xmlns:bootrace='{METADATA_URI}'>{run}</bootrace:run></metadata>
  <memory unit='b'>{memory}</memory>
  <vcpu>{count}</vcpu>
  <cputune>{pins}</cputune>
  <os>
    <type arch='{arch}' machine='{MACHINE}'>hvm</type>
    <kernel>{kernel}</kernel>
    <initrd>{initramfs}</initrd>
    <cmdline>{KERNEL_COMMAND_LINE}</cmdline>
  </os>
  <features>{acpi}</features>
  {cpu}
  <on_poweroff>destroy</on_poweroff>
  <on_reboot>destroy</on_reboot>
  <on_crash>destroy</on_crash>
  <devices>
    <controller type='usb' model='none'/>
    <memballoon model='none'/>
    <disk type='file' device='disk'>
      <driver name='qemu' type='qcow2'/>
      <source file='{disk}'/>
      <target dev='vda' bus='virtio'/>
    </disk>
    <channel type='unix'>
      <source mode='connect' path='{socket}'/>
      <target type='virtio' name='{port}'/>
    </channel>
  </devices>
</domain>
",
            name = escape(self.name),
            run = escape(self.run),
            memory = self.resources.memory.0,
            count = self.resources.cpus,
            arch = std::env::consts::ARCH,
            kernel = path(self.kernel),
            initramfs = path(self.initramfs),
            disk = path(self.disk),
            socket = path(self.socket),
            port = bootrace_agent::protocol::PORT_NAME,
        )
    }
}

#[cfg(test)]
mod tests {
    use quick_xml::events::Event;

    use super::*;
    use crate::scenario::Bytes;

    #[test]
    fn hostile_text_stays_text() {
        let hostile = "a'/><x y=\"&\"><!--";
        let resources = Resources { cpus: 2, memory: Bytes(256 << 20) };
        let machine = |text: &str| {
            Machine {
                name: text,
                run: text,
                accelerator: Accelerator::Tcg,
                resources: &resources,
                cpus: "0,1",
                kernel: Path::new(text),
                initramfs: Path::new(text),
                disk: Path::new(text),
                socket: Path::new(text),
            }
            .to_xml()
        };
        let shape = |xml: &str| {
            let mut reader = quick_xml::Reader::from_str(xml);
            let mut tags = Vec::new();
            loop {
                match reader.read_event().unwrap() {
                    Event::Eof => return tags,
                    Event::Start(_) => tags.push("start"),
                    Event::End(_) => tags.push("end"),
                    Event::Empty(_) => tags.push("empty"),
                    Event::Text(_) | Event::GeneralRef(_) => {}
                    _ => tags.push("other"),
                }
            }
        };
        assert_eq!(shape(&machine(hostile)), shape(&machine("plain")));
        assert!(!machine(hostile).contains(hostile));
    }
}
