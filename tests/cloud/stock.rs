//! A stock image in a container and in a VM that boots it by its firmware, set up by its cloud-init.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

use super::{
    common::{Bench, boot_id, left_over, ran_the_same},
    disk::{self, Content, Partition, qcow2, run, sha256},
};

/// What Debian's own cloud images have, as far as it takes part in their boot.
const PACKAGES: &str = "linux-image-cloud-amd64,initramfs-tools,busybox,zstd,systemd-sysv,udev,dbus,kmod,cloud-init,\
    ifupdown,isc-dhcp-client,iproute2,netbase";
/// The part of GRUB that the boot sector loads, and what it does.
const GRUB: &str =
    "search.fs_label BOOT root\nlinux /vmlinuz root=LABEL=rootfs ro quiet\ninitrd /initrd\nboot\n";

/// The image, made once and kept: it takes minutes.
fn image() -> PathBuf {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("cloud-image-2");
    let image = dir.join("image.qcow2");
    if !image.exists() {
        let temp = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        make(temp.path());
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir(&dir).unwrap();
        fs::rename(temp.path().join("image.qcow2"), &image).unwrap();
    }
    image
}

/// Makes `image.qcow2` in a directory: Debian with a boot sector, an EFI partition, /boot and root, as Ubuntu's have.
fn make(dir: &Path) {
    let (root, boot) = (dir.join("root"), dir.join("boot"));
    let fstab = "LABEL=rootfs / ext4 rw 0 1\nLABEL=BOOT /boot ext4 defaults 0 2\nLABEL=UEFI /boot/efi vfat umask=0077 0 0\n";
    run(Command::new("mmdebstrap")
        .args(["--mode=root", "--variant=minbase", "--include", PACKAGES])
        .arg("--customize-hook=rm -rf \"$1\"/var/cache/apt/archives/*.deb \"$1\"/etc/apt/apt.conf.d/99mmdebstrap")
        .arg("bookworm")
        .arg(&root));
    fs::write(root.join("etc/fstab"), fstab).unwrap();
    // As published images have it: this boot is the first one.
    fs::write(root.join("etc/machine-id"), "uninitialized\n").unwrap();
    fs::rename(root.join("boot"), &boot).unwrap();
    fs::create_dir(root.join("boot")).unwrap();
    fs::create_dir(boot.join("efi")).unwrap();
    let names: Vec<String> =
        fs::read_dir(&boot).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    for (start, link) in [("vmlinuz-", "vmlinuz"), ("initrd.img-", "initrd")] {
        let name =
            names.iter().find(|name| name.starts_with(start)).unwrap_or_else(|| panic!("{start}: {names:?}"));
        symlink(name, boot.join(link)).unwrap();
    }

    let config = dir.join("grub.cfg");
    fs::write(&config, GRUB).unwrap();
    let grub = |format: &str, more: &[&str]| {
        let core = dir.join(format);
        let mut grub = Command::new("grub-mkimage");
        grub.args(["--format", format, "--prefix", "/grub", "--config"])
            .arg(&config)
            .arg("--output")
            .arg(&core);
        run(grub.args(["part_gpt", "ext2", "search_label", "linux", "boot"]).args(more));
        core
    };
    let mut core = fs::read(grub("i386-pc", &["biosdisk"])).unwrap();
    let efi = grub("x86_64-efi", &[]);
    // Its first sector loads the rest, which follows it on the disk.
    core[0x1f4..0x1fc].copy_from_slice(&(FIRST + 1).to_le_bytes());
    let raw = dir.join("disk.raw");
    let starts = disk::write(
        &raw,
        &[
            Partition { number: 14, mib: 1, content: Content::Bytes(&core) },
            Partition { number: 15, mib: 16, content: Content::Efi { label: "UEFI", program: &efi } },
            Partition { number: 16, mib: 160, content: Content::Ext4 { label: "BOOT", files: &boot } },
            Partition { number: 1, mib: 1200, content: Content::Ext4 { label: "rootfs", files: &root } },
        ],
    );
    assert_eq!(starts[0], FIRST);
    let mut sector =
        fs::read("/usr/lib/grub/i386-pc/boot.img").expect("the package grub-pc-bin is installed");
    sector[0x5c..0x64].copy_from_slice(&FIRST.to_le_bytes());
    let file = fs::File::options().write(true).open(&raw).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &sector[..440], 0).unwrap();
    qcow2(&raw, &dir.join("image.qcow2"));
    fs::remove_file(raw).unwrap();
}

/// Where the boot loader lies, in sectors.
const FIRST: u64 = 2048;

/// Says which PID 1 it sees, and in a VM that booted the image by what its cloud-init was set up.
const SEEN: &str = r#"
grep -q fstab=no /proc/cmdline && { echo "seen: $(cat /proc/1/comm) of the files"; exec sleep infinity; }
pid1=$(cat /proc/1/comm)
case $pid1 in
    systemd) echo "seen: systemd, $(cat /var/lib/cloud/instance/datasource), $(cat /run/cloud-init/.instance-id)" ;;
    *) echo "seen: $pid1" ;;
esac
exec sleep infinity
"#;

/// Is ready where a UEFI started the system, and that has an address and a resolver by the DHCP of QEMU's network.
const ONLINE: &str = r#"
[ -d /sys/firmware/efi ] || { echo "no UEFI"; exit 1; }
grep -qE '[[:space:]]00000000[[:space:]]+0202000A' /proc/net/route || { echo "no route"; exit 1; }
until grep -qx 'nameserver 10.0.2.3' /etc/resolv.conf; do sleep 0.2; done
echo "seen: $(cat /proc/1/comm)"
exec sleep infinity
"#;

fn scenario(sum: &str, script: &str, ready: &str, more: &str) -> Bench {
    Bench::with_text(&format!(
        r#"
name = "test"
[image]
cloud = "{}"
sha256 = "{sum}"
[resources]
cpus = 1
memory = "512MiB"
[sampling]
samples = 1
warmup = 0
settle = "500ms"
idle = "500ms"
timeout = "400s"
[workload]
command = ["sh", "-c", '''{script}''']
ready = {{ line = "{ready}" }}
{more}
"#,
        image().display()
    ))
}

#[test]
#[ignore = "needs docker and libvirt: scripts/test runs it"]
fn a_stock_image_boots_unchanged_and_is_the_image_of_its_containers() {
    let image = image();
    let before = sha256(&image);
    let bench = scenario(
        &before,
        SEEN,
        "^seen: (agent|init|systemd of the files|systemd, DataSourceNoCloud: .*, bootrace-[0-9a-f]{16})$",
        r#"
[[target]]
kind = "docker"
[[target]]
name = "direct"
kind = "libvirt"
[[target]]
name = "systemd"
kind = "libvirt"
boot = "systemd"
[[target]]
name = "stock"
kind = "libvirt"
boot = "firmware"
"#,
    );
    let samples = bench.run(&[]).good();
    assert_eq!(samples.len(), 4);
    let first = ran_the_same(&samples);
    for sample in &samples {
        let (name, identity) = (sample.target.as_str(), sample.identity.as_ref().unwrap());
        assert_eq!(identity.boot_id != boot_id(), name != "docker", "{name}");
    }
    let stock = samples.iter().find(|sample| sample.target == "stock").unwrap();
    let boot = stock.boot_ns.as_ref().unwrap();
    assert_eq!(boot.error, None);
    assert_eq!(boot.sum(), stock.timeline_ns.phases().unwrap().boot, "{boot:?}");

    let results = bench.results().unwrap();
    assert_eq!(Some(&results.image.digest), first.image_digest.as_ref());
    assert_eq!(results.image.source, format!("cloud image: {}, sha256 {before}", image.display()));
    let target = results.targets.iter().find(|target| target.name == "stock").unwrap();
    assert_eq!((&target.options["boot"], &target.options["seed"]), (&"firmware".into(), &"NoCloud".into()));
    let page = fs::read_to_string(bench.latest().join("index.html")).unwrap();
    assert!(page.contains("boots a stock cloud image for the first time"));

    assert_eq!(sha256(&image), before);
    let cache = std::env::var("BOOTRACE_CACHE").unwrap_or_else(|_| "/var/cache/bootrace".into());
    let kept = Path::new(&cache).join("images").join(&results.image.digest).join("stock/disk.qcow2");
    assert_eq!(sha256(&kept), before, "a VM has written to the image");
    assert_eq!(left_over(), Vec::<String>::new());
}

#[test]
#[ignore = "needs docker and libvirt: scripts/test runs it"]
fn a_stock_image_boots_by_a_uefi_too_and_joins_its_network_by_itself() {
    let bench = scenario(
        &sha256(&image()),
        ONLINE,
        "^seen: systemd$",
        r#"
network = true
[[target]]
kind = "libvirt"
boot = "firmware"
firmware = "uefi"
"#,
    );
    let samples = bench.run(&[]).good();
    assert_eq!(samples.len(), 1);
    let results = bench.results().unwrap();
    assert_eq!(samples[0].identity.as_ref().unwrap().image_digest, Some(results.image.digest));
    let options = &results.targets[0].options;
    assert_eq!((&options["firmware"], &options["network"]), (&"uefi".into(), &"user".into()));
    assert_eq!(left_over(), Vec::<String>::new());
}
