//! How a VM starts: from a kernel that QEMU loads, or from a disk that its firmware boots.

use std::path::{Path, PathBuf};

use bootrace_agent::protocol::NONCE_VARIABLE;
use quick_xml::escape::escape;

use super::{
    Error,
    machine::{self, MACHINE},
};
use crate::{
    control::Greeting,
    image::{StockFiles, SystemFiles, VmFiles},
    probe::disk::Files,
    scenario::{self, Boot, Firmware},
    target::InstanceId,
};

/// File of an instance's UEFI variables, in its directory, so that it is removed with it.
pub(super) const VARIABLES: &str = "uefi-variables.fd";

/// How a target's VMs start.
#[derive(Debug, Clone)]
pub enum Start {
    /// The image's kernel, loaded by QEMU.
    Kernel {
        boot: Boot,
        kernel: PathBuf,
        initrd: PathBuf,
        command_line: String,
        /// The empty overlay that each instance's disk is a copy of.
        overlay: PathBuf,
    },
    /// A disk with a boot loader.
    Disk {
        firmware: Firmware,
        /// The kernel's command line in the disk's boot loader.
        command_line: String,
        overlay: PathBuf,
    },
    /// A cloud image's own disk, and the seed disk for its cloud-init.
    Stock { firmware: Firmware, overlay: PathBuf, seed: PathBuf },
}

impl Start {
    /// # Errors
    /// When the image lacks what this start needs.
    pub fn of(spec: &scenario::ScenarioTarget, files: &VmFiles, network: bool) -> Result<Self, Error> {
        let boot = spec.boot().unwrap_or_default();
        let missing = |what: &str| {
            let tried = format!("booting a VM for target {} with boot = \"{}\"", spec.name, boot.name());
            Error::new(tried, format!("the image was made without {what}: this is a bug"))
        };
        let system = || files.system.clone().ok_or_else(|| missing("an initrd of its own"));
        Ok(match boot {
            Boot::Direct => Start::Kernel {
                boot,
                kernel: files.kernel.clone(),
                initrd: files.initramfs.clone(),
                command_line: machine::kernel_command_line(network),
                overlay: files.overlay.clone(),
            },
            Boot::Systemd => {
                let SystemFiles { initrd, command_line, .. } = system()?;
                let (kernel, overlay) = (files.kernel.clone(), files.overlay.clone());
                Start::Kernel { boot, kernel, initrd, command_line, overlay }
            }
            Boot::Firmware => {
                let SystemFiles { command_line, bios, uefi, .. } = system()?;
                let firmware = firmware(spec)?;
                let overlay = if firmware == Firmware::Bios { bios } else { uefi };
                let overlay = overlay.ok_or_else(|| missing("a disk that its firmware boots"))?;
                Start::Disk { firmware, command_line, overlay }
            }
        })
    }

    /// # Errors
    /// When this architecture has no such firmware.
    pub fn stock(spec: &scenario::ScenarioTarget, files: &StockFiles) -> Result<Self, Error> {
        let (overlay, seed) = (files.overlay.clone(), files.seed.clone());
        Ok(Start::Stock { firmware: firmware(spec)?, overlay, seed })
    }

    /// After the hello if there is firmware, which may read the agent's port first.
    pub fn greeting(&self) -> Greeting {
        match self {
            Start::Kernel { .. } => Greeting::AtOnce,
            Start::Disk { .. } | Start::Stock { .. } => Greeting::AfterHello,
        }
    }

    pub fn overlay(&self) -> &Path {
        match self {
            Start::Kernel { overlay, .. } | Start::Disk { overlay, .. } | Start::Stock { overlay, .. } => {
                overlay
            }
        }
    }

    /// The disk below the overlay, and where the image's files are on it; `None` if that is unknown.
    pub fn base(&self) -> (PathBuf, Option<Files>) {
        match self {
            Start::Kernel { overlay, .. } => {
                let disk = VmFiles::disk_below(overlay);
                (disk.clone(), Some(Files::Ext4(disk)))
            }
            // The files are in a partition.
            Start::Disk { overlay, .. } => (VmFiles::disk_below(overlay), None),
            Start::Stock { overlay, .. } => (StockFiles::disk_below(overlay), None),
        }
    }

    /// The options that the results record.
    pub fn options(&self) -> Vec<(&'static str, serde_json::Value)> {
        let (boot, firmware, command_line) = match self {
            // The command line is in the image's own boot loader, and not known here.
            Start::Stock { firmware, .. } => {
                return vec![
                    ("boot", Boot::Firmware.name().into()),
                    ("firmware", firmware.name().into()),
                    ("seed", "NoCloud".into()),
                ];
            }
            // QEMU's firmware loads the kernel here too, from QEMU's memory.
            Start::Kernel { boot, command_line, .. } => (*boot, None, command_line),
            Start::Disk { firmware, command_line, .. } => {
                (Boot::Firmware, Some(firmware.name()), command_line)
            }
        };
        let firmware = firmware.map(|firmware| ("firmware", firmware.into()));
        let always = [("boot", boot.name().into()), ("kernel_command_line", command_line.as_str().into())];
        always.into_iter().chain(firmware).collect()
    }

    /// Whether the machine has SMBIOS tables, which come from its firmware. On other architectures than x86 a kernel that
    /// QEMU loads itself has none.
    fn has_smbios(&self) -> bool {
        cfg!(target_arch = "x86_64") || !matches!(self, Start::Kernel { .. })
    }

    /// An element of the domain: the instance's nonce as the machine's serial number, which only root reads inside.
    pub fn serial(&self, instance_id: &InstanceId) -> String {
        let nonce = instance_id.nonce.text();
        match self.has_smbios() {
            true => format!(
                "\n  <sysinfo type='smbios'><system><entry name='serial'>{nonce}</entry></system></sysinfo>"
            ),
            false => String::new(),
        }
    }

    /// The content of the domain's `<os>`.
    pub fn os(&self, instance_id: &InstanceId) -> String {
        let path = |path: &Path| escape(path.to_string_lossy()).into_owned();
        let (smbios, nonce) = match self.has_smbios() {
            true => ("\n    <smbios mode='sysinfo'/>", String::new()),
            false => ("", format!(" {NONCE_VARIABLE}={}", instance_id.nonce.text())),
        };
        let machine =
            format!("<type arch='{}' machine='{MACHINE}'>hvm</type>{smbios}", std::env::consts::ARCH);
        match self {
            Start::Kernel { kernel, initrd, command_line, .. } => format!(
                "<os>
    {machine}
    <kernel>{}</kernel>
    <initrd>{}</initrd>
    <cmdline>{}{nonce}</cmdline>
  </os>",
                path(kernel),
                path(initrd),
                escape(command_line.as_str())
            ),
            Start::Disk { firmware: Firmware::Bios, .. } | Start::Stock { firmware: Firmware::Bios, .. } => format!("<os>\n    {machine}\n  </os>"),
            // libvirt chooses the file. Without secure boot, which would refuse GRUB's unsigned core.
            Start::Disk { firmware: Firmware::Uefi, .. } | Start::Stock { firmware: Firmware::Uefi, .. } => format!(
                "<os firmware='efi'>
    {machine}
    <firmware><feature enabled='no' name='enrolled-keys'/><feature enabled='no' name='secure-boot'/></firmware>
    <nvram>{}</nvram>
  </os>",
                path(&instance_id.dir.join(VARIABLES))
            ),
        }
    }

    /// An element of the disk. Without it firmware tries all devices in turn.
    pub fn boot_order(&self) -> &'static str {
        match self {
            Start::Kernel { .. } => "",
            Start::Disk { .. } | Start::Stock { .. } => "\n      <boot order='1'/>",
        }
    }

    /// The seed disk, beside the instance's own.
    pub fn seed(&self) -> String {
        match self {
            Start::Kernel { .. } | Start::Disk { .. } => String::new(),
            Start::Stock { seed, .. } => format!(
                "
    <disk type='file' device='disk'>
      <driver name='qemu' type='raw'/>
      <source file='{}'/>
      <target dev='vdb' bus='virtio'/>
      <readonly/>
    </disk>",
                escape(seed.to_string_lossy())
            ),
        }
    }
}

fn firmware(spec: &scenario::ScenarioTarget) -> Result<Firmware, Error> {
    let firmware = spec.firmware().unwrap_or_else(Firmware::usual);
    if firmware == Firmware::Bios && cfg!(not(target_arch = "x86_64")) {
        let why = "machines of this architecture have none: write firmware = \"uefi\"";
        return Err(Error::new(format!("booting target {} by a BIOS", spec.name), why));
    }
    Ok(firmware)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::Nonce;
    use crate::scenario::{Kind, LibvirtOptions, TargetOptions};

    fn files(system: bool) -> VmFiles {
        let system = system.then(|| SystemFiles {
            initrd: "/initrd".into(),
            command_line: "root=UUID=1 rw".into(),
            bios: Some("/bios/overlay".into()),
            uefi: None,
        });
        VmFiles {
            kernel: "/kernel".into(),
            initramfs: "/initramfs".into(),
            disk: "/disk".into(),
            overlay: "/overlay".into(),
            system,
        }
    }

    fn vm(boot: Boot, firmware: Option<Firmware>) -> scenario::ScenarioTarget {
        let options = LibvirtOptions { boot: Some(boot), firmware, ..LibvirtOptions::default() };
        let target = scenario::ScenarioTarget::new(Kind::Libvirt);
        scenario::ScenarioTarget { options: TargetOptions::Libvirt(options), ..target }
    }

    fn start(boot: Boot, firmware: Option<Firmware>, files: &VmFiles) -> Result<Start, String> {
        let spec = vm(boot, firmware);
        Start::of(&spec, files, false).map_err(|e| e.to_string())
    }

    fn os(start: &Start) -> String {
        let instance_id = InstanceId {
            run: "run".into(),
            instance: "it".into(),
            dir: "/instances/it".into(),
            nonce: Nonce::random().unwrap(),
        };
        start.os(&instance_id)
    }

    #[test]
    fn direct_and_systemd_boot_have_the_same_kernel_and_disk_and_each_its_own_initrd() {
        let direct = start(Boot::Direct, None, &files(true)).unwrap();
        let systemd = start(Boot::Systemd, None, &files(true)).unwrap();
        let expected = [
            (&direct, "<initrd>/initramfs</initrd>", machine::KERNEL_COMMAND_LINE),
            (&systemd, "<initrd>/initrd</initrd>", "root=UUID=1 rw"),
        ];
        for (start, initrd, command_line) in expected {
            let os = os(start);
            assert!(os.contains("<kernel>/kernel</kernel>") && os.contains(initrd), "{os}");
            assert!(os.contains(&format!("<cmdline>{command_line}</cmdline>")), "{os}");
            assert_eq!((start.overlay(), start.boot_order()), (Path::new("/overlay"), ""));
        }
    }

    #[test]
    fn nothing_is_passed_in_to_a_disk_that_firmware_boots() {
        let bios = start(Boot::Firmware, None, &files(true)).unwrap();
        let os = os(&bios);
        assert!(!os.contains("kernel") && !os.contains("initrd") && !os.contains("cmdline"), "{os}");
        assert_eq!(bios.overlay(), Path::new("/bios/overlay"));
        assert!(bios.boot_order().contains("<boot order='1'/>"));
        let options: Vec<String> =
            bios.options().into_iter().map(|(key, value)| format!("{key}={value}")).collect();
        let expected = ["boot=\"firmware\"", "kernel_command_line=\"root=UUID=1 rw\"", "firmware=\"bios\""];
        assert_eq!(options, expected);
    }

    #[test]
    fn a_cloud_image_starts_from_its_own_disk_with_the_seed_beside_it_and_nothing_passed_in() {
        let spec = vm(Boot::Firmware, None);
        let files =
            StockFiles { overlay: "/stock/overlay".into(), seed: "/stock/a'&<seed>".into(), disk_bytes: 1 };
        let stock = Start::stock(&spec, &files).unwrap();
        assert!(!os(&stock).contains("kernel") && !os(&stock).contains("cmdline"), "{}", os(&stock));
        assert!(stock.boot_order().contains("<boot order='1'/>"));
        let seed = stock.seed();
        assert!(seed.contains("<source file='/stock/a&apos;&amp;&lt;seed&gt;'/>"), "{seed}");
        assert!(seed.contains("<readonly/>") && seed.contains("dev='vdb'"), "{seed}");
        assert_eq!(start(Boot::Direct, None, &self::files(true)).unwrap().seed(), "");
        let options: Vec<String> =
            stock.options().into_iter().map(|(key, value)| format!("{key}={value}")).collect();
        assert_eq!(options, ["boot=\"firmware\"", "firmware=\"bios\"", "seed=\"NoCloud\""]);
    }

    #[test]
    fn a_uefis_variables_are_in_the_instances_directory() {
        let uefi =
            Start::Disk { firmware: Firmware::Uefi, command_line: String::new(), overlay: PathBuf::new() };
        assert!(os(&uefi).contains("<nvram>/instances/it/uefi-variables.fd</nvram>"));
    }

    #[test]
    fn an_agent_behind_a_firmware_is_sent_nothing_that_the_firmware_could_read() {
        let of = |boot| start(boot, None, &files(true)).unwrap().greeting();
        assert_eq!(of(Boot::Firmware), Greeting::AfterHello);
        assert_eq!((of(Boot::Direct), of(Boot::Systemd)), (Greeting::AtOnce, Greeting::AtOnce));
        let stock = Start::Stock { firmware: Firmware::Uefi, overlay: PathBuf::new(), seed: PathBuf::new() };
        assert_eq!(stock.greeting(), Greeting::AfterHello);
    }

    #[test]
    fn an_image_that_was_not_made_for_it_is_an_error_that_says_so() {
        let error = start(Boot::Systemd, None, &files(false)).unwrap_err();
        assert!(error.contains("boot = \"systemd\": the image was made without an initrd"), "{error}");
        let error = start(Boot::Firmware, Some(Firmware::Uefi), &files(true)).unwrap_err();
        assert!(error.contains("without a disk that its firmware boots"), "{error}");
    }
}
