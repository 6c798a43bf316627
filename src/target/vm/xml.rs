//! A VM's domain XML: it has only devices that the workload needs.

use std::path::Path;

use bootrace_agent::protocol::PORT_NAME;
use quick_xml::escape::escape;

use super::{machine::domain_type, options::VmOptions, start::Start};
use crate::{
    sample::Accelerator,
    scenario::Bytes,
    target::{Cpus, InstanceId, libvirt::METADATA_URI},
};

/// QEMU's user network: it needs no bridge and no privileges. It has no ROM, from which firmware would try to boot.
const NETWORK: &str = "
    <interface type='user'>
      <model type='virtio'/>
      <rom enabled='no'/>
    </interface>";

pub struct Machine<'a> {
    pub instance_id: &'a InstanceId,
    pub accelerator: Accelerator,
    pub memory: Bytes,
    /// The host's CPUs that the vCPUs are bound to, one vCPU for each.
    pub cpus: &'a Cpus,
    pub vm_options: &'a VmOptions,
    pub network: bool,
    pub start: &'a Start,
    pub disk: &'a Path,
    pub socket: &'a Path,
}

impl Machine<'_> {
    pub fn to_xml(&self) -> String {
        let path = |path: &Path| escape(path.to_string_lossy()).into_owned();
        let pin = |vcpu| format!("<vcpupin vcpu='{vcpu}' cpuset='{}'/>", self.cpus.list());
        let pins: String = (0..self.cpus.count()).map(pin).collect();
        // On other architectures ACPI needs UEFI firmware.
        let acpi = if cfg!(target_arch = "x86_64") { "<acpi/>" } else { "" };
        format!(
            "<domain type='{kind}'>
  <name>{name}</name>
  <metadata><bootrace:run xmlns:bootrace='{METADATA_URI}'>{run}</bootrace:run></metadata>{serial}
  <memory unit='b'>{memory}</memory>{memory_backing}
  <vcpu>{count}</vcpu>
  <cputune>{pins}</cputune>
  {os}
  <features>{acpi}</features>
  {cpu}
  <on_poweroff>destroy</on_poweroff>
  <on_reboot>destroy</on_reboot>
  <on_crash>destroy</on_crash>
  <devices>
    <controller type='usb' model='none'/>
    <memballoon model='none'/>
    <disk type='file' device='disk'>
      <driver name='qemu' type='qcow2'{disk_cache}/>
      <source file='{disk}'/>
      <target dev='vda' bus='virtio'/>{boot_order}
    </disk>{seed}
    <channel type='unix'>
      <source mode='connect' path='{socket}'/>
      <target type='virtio' name='{port}'/>
    </channel>{interface}
  </devices>
</domain>
",
            name = escape(self.instance_id.instance.as_str()),
            run = escape(self.instance_id.run.as_str()),
            serial = self.start.serial(self.instance_id),
            kind = domain_type(self.accelerator),
            memory = self.memory.0,
            memory_backing = self.vm_options.memory_backing(),
            count = self.cpus.count(),
            cpu = self.vm_options.cpu(),
            disk_cache = self.vm_options.disk_cache(),
            os = self.start.os(self.instance_id),
            boot_order = self.start.boot_order(),
            seed = self.start.seed(),
            disk = path(self.disk),
            socket = path(self.socket),
            port = PORT_NAME,
            interface = if self.network { NETWORK } else { "" },
        )
    }
}

#[cfg(test)]
mod tests {
    use super::{super::machine::kernel_command_line, *};
    use crate::{
        control::Nonce,
        scenario::{Boot, DiskCache},
        target::libvirt::shape::shape,
    };

    fn machine(text: &str, network: bool) -> String {
        machine_with(text, network, &VmOptions::default_for(Accelerator::Tcg))
    }

    fn machine_with(text: &str, network: bool, vm_options: &VmOptions) -> String {
        machine_on(Accelerator::Tcg, text, network, vm_options)
    }

    fn machine_on(accelerator: Accelerator, text: &str, network: bool, vm_options: &VmOptions) -> String {
        let nonce = Nonce::random().unwrap();
        let instance_id = InstanceId { run: text.into(), instance: text.into(), dir: text.into(), nonce };
        let start = Start::Kernel {
            boot: Boot::Direct,
            kernel: text.into(),
            initrd: text.into(),
            command_line: kernel_command_line(network),
            overlay: text.into(),
        };
        Machine {
            instance_id: &instance_id,
            accelerator,
            memory: Bytes(256 << 20),
            cpus: &Cpus(vec![2, 3]),
            vm_options,
            network,
            start: &start,
            disk: Path::new(text),
            socket: Path::new(text),
        }
        .to_xml()
    }

    #[test]
    fn only_with_a_network_is_there_a_nic_and_an_agents_option() {
        for (network, count) in [(false, 0), (true, 1)] {
            let xml = machine("plain", network);
            assert_eq!(xml.matches("<interface type='user'>").count(), count);
            assert_eq!(xml.matches(" BOOTRACE_NETWORK=user</cmdline>").count(), count);
        }
    }

    /// libvirt confines a domain by itself, unless its XML says otherwise.
    #[test]
    fn a_domain_has_libvirts_confinement_and_nothing_of_the_host_but_its_files() {
        let xml = machine("plain", false);
        for open in [
            "<seclabel",
            "<hostdev",
            "<interface",
            "<filesystem",
            "<shmem",
            "<qemu:",
            "<graphics",
            "<redirdev",
        ] {
            assert!(!xml.contains(open), "{open}: {xml}");
        }
        assert_eq!(xml.matches("<disk ").count(), 1, "{xml}");
        assert_eq!(xml.matches("<channel ").count(), 1, "{xml}");
        let networked = machine("plain", true);
        assert_eq!(networked.matches("<interface type='user'>").count(), 1, "{networked}");
    }

    #[test]
    fn there_are_as_many_vcpus_as_cpus_and_each_is_bound_to_them() {
        let xml = machine("plain", false);
        assert!(xml.contains("<vcpu>2</vcpu>"));
        assert_eq!(xml.matches(" cpuset='2,3'/>").count(), 2);
    }

    #[test]
    fn each_option_is_in_the_domain_and_without_them_nothing_is() {
        let plain = machine("plain", false);
        assert!(!plain.contains("memoryBacking") && !plain.contains("cache="), "{plain}");
        let with = |cpu_model: &str| {
            let vm_options = VmOptions {
                cpu_model: cpu_model.into(),
                hugepages: Some(Bytes(2 << 20)),
                disk_cache: Some(DiskCache::Directsync),
                ..VmOptions::default_for(Accelerator::Tcg)
            };
            machine_with("plain", false, &vm_options)
        };
        for (model, cpu) in [
            ("host-passthrough", "<cpu mode='host-passthrough' migratable='on'/>"),
            ("host-model", "<cpu mode='host-model'/>"),
            ("max", "<cpu mode='maximum' migratable='on'/>"),
            ("Skylake-Server", "<model fallback='forbid'>Skylake-Server</model>"),
            ("a'/><x>", "<model fallback='forbid'>a&apos;/&gt;&lt;x&gt;</model>"),
        ] {
            let xml = with(model);
            assert!(xml.contains(cpu), "{xml}");
            assert!(
                xml.contains("<hugepages><page size='2097152' unit='b'/>")
                    && xml.contains(" cache='directsync'/>"),
                "{xml}"
            );
        }
    }

    /// QEMU saves no VM with an invariant clock, which every CPU but a migratable one has from its host.
    #[test]
    fn no_cpu_keeps_a_vm_from_being_saved_whichever_model_it_is() {
        for cpu_model in ["host-passthrough", "host-model", "max", "qemu64"] {
            let vm_options =
                VmOptions { cpu_model: cpu_model.into(), ..VmOptions::default_for(Accelerator::Kvm) };
            for accelerator in [Accelerator::Kvm, Accelerator::Tcg] {
                let xml = machine_on(accelerator, "plain", false, &vm_options);
                let (_, cpu) = xml.split_once("<cpu ").unwrap();
                let mode = cpu.split_once('>').unwrap().0;
                let hosts = mode.contains("host-passthrough") || mode.contains("maximum");
                assert!(!hosts || mode.contains("migratable='on'"), "{mode}");
                assert!(!xml.contains("invtsc"), "{xml}");
            }
        }
    }

    #[test]
    #[ignore = "needs libvirt: scripts/test runs it"]
    fn qemu_is_given_the_cpu_that_we_say_it_is_given() {
        let emulated = [(Accelerator::Tcg, "max"), (Accelerator::Tcg, "qemu64")];
        // Without the device libvirt has no such domain.
        let on_kvm = Path::new("/dev/kvm").exists().then_some((Accelerator::Kvm, "host-passthrough"));
        for (accelerator, cpu_model) in emulated.into_iter().chain(on_kvm) {
            let vm_options = VmOptions { cpu_model: cpu_model.into(), ..VmOptions::default_for(accelerator) };
            let file = tempfile::NamedTempFile::new().unwrap();
            let xml =
                machine_on(accelerator, "plain", false, &vm_options).replace("file='plain'", "file='/plain'");
            std::fs::write(file.path(), xml).unwrap();
            let mut virsh = std::process::Command::new("virsh");
            virsh.args(["-c", "qemu:///system", "domxml-to-native", "qemu-argv"]).arg(file.path());
            let output = virsh.output().unwrap();
            let said = String::from_utf8_lossy(&output.stdout);
            let error = String::from_utf8_lossy(&output.stderr);
            let cpu = format!("-cpu {} ", vm_options.qemu_cpu().unwrap());
            assert!(said.replace('\\', "").replace('\n', " ").contains(&cpu), "{cpu}: {said}{error}");
        }
    }

    #[test]
    fn hostile_text_stays_text() {
        let hostile = "a'/><x y=\"&\"><!--";
        assert_eq!(shape(&machine(hostile, true)), shape(&machine("plain", true)));
        assert!(!machine(hostile, true).contains(hostile));
    }
}
