//! Makes a root file system boot as a whole system: with the distribution's systemd and initrd, and a unit with which
//! systemd starts the agent.
//!
//! The system stays as the distribution installs it, with no unit masked. It differs in two ways from one that was
//! installed on its own machine. It has a machine id: without one each start would be a first boot, at which systemd
//! presets every unit. And it has no fstab, which containers of the same image would have too: the kernel's command
//! line makes it mount the root read-write at once.

use bootrace_agent::protocol::{AGENT_PATH, SERVICE_FLAG, UNIT};

use super::{definition::Distribution, kernel::Kernel};
use crate::sys::rootfs::Rootfs;

/// A directory that systemd searches on every distribution. Presets remove no links there.
const UNITS: &str = "/usr/lib/systemd/system";
/// The target that starts the unit, like the system's other services.
const TARGET: &str = "multi-user.target";
const MACHINE_ID: &str = "etc/machine-id";

/// Packages beside the scenario's: those that a minimal installation boots with, and those that initramfs-tools
/// recommends.
pub(super) fn packages(distribution: Distribution) -> &'static [&'static str] {
    match distribution {
        Distribution::Debian => {
            &["systemd-sysv", "dbus", "udev", "kmod", "initramfs-tools", "busybox", "zstd"]
        }
        // Its initramfs-tools depends on the other two.
        Distribution::Ubuntu => &["systemd-sysv", "dbus", "udev", "kmod", "initramfs-tools"],
    }
}

/// The unit. It allows the workload as many tasks as on other targets, and the agent outlives a workload that is killed
/// for lack of memory; the agent sets all other limits itself.
pub(super) fn unit() -> String {
    format!(
        "[Unit]\nDescription=The agent of bootrace, parent of the workload\n\n\
         [Service]\nExecStart={AGENT_PATH} {SERVICE_FLAG}\nTasksMax=infinity\nOOMPolicy=continue\n\n\
         [Install]\nWantedBy={TARGET}\n"
    )
}

/// Checks that systemd can be PID 1; else returns what is missing, with the fix.
pub(super) fn systemd(tree: &Rootfs) -> Result<(), String> {
    let anywhere = |paths: &[&str]| paths.iter().any(|path| tree.file(path).is_ok());
    if !anywhere(&["usr/lib/systemd/systemd", "lib/systemd/systemd"]) {
        return Err("it has no systemd (/usr/lib/systemd/systemd); add the package systemd-sysv".into());
    }
    if !anywhere(&["sbin/init"]) {
        return Err("it has no /sbin/init; add the package systemd-sysv".into());
    }
    Ok(())
}

/// The path of the initrd that boots `kernel` into systemd; else what is missing, with the fix.
pub(super) fn initrd(tree: &Rootfs, kernel: &Kernel) -> Result<String, String> {
    systemd(tree)?;
    let udev = ["usr/lib/systemd/systemd-udevd", "lib/systemd/systemd-udevd"];
    if !udev.iter().any(|path| tree.file(path).is_ok()) {
        return Err("it has no udev (/usr/lib/systemd/systemd-udevd); add the package udev".into());
    }
    let path = format!("boot/initrd.img-{}", kernel.release);
    match tree.file(&path) {
        Ok(_) => Ok(path),
        Err(error) => Err(format!(
            "it has no initrd of its kernel: /{path}: {error}; add the package initramfs-tools (and run \
             update-initramfs -c -k {} in it, if it is a tarball)",
            kernel.release
        )),
    }
}

/// Adds the unit to a tree with systemd, and a machine id if it has none. `digest` is the image's.
pub(super) fn add(tree: &Rootfs, digest: &str) -> std::io::Result<()> {
    if systemd(tree).is_err() {
        return Ok(());
    }
    tree.write(&format!("{UNITS}/{UNIT}"), unit().as_bytes(), 0o644)?;
    tree.link(&format!("{UNITS}/{TARGET}.wants/{UNIT}"), &format!("../{UNIT}"))?;
    let id = tree.read_text(MACHINE_ID, 256).unwrap_or_default();
    if !is_machine_id(id.trim()) {
        let id: String = digest.chars().take(32).collect();
        tree.write(MACHINE_ID, format!("{id}\n").as_bytes(), 0o444)?;
    }
    Ok(())
}

fn is_machine_id(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit()) && text.bytes().any(|b| b != b'0')
}

/// The kernel's command line, for QEMU and for GRUB. Distributions use `quiet`; `panic=-1` ends the VM of a dead kernel
/// at once.
pub(super) fn command_line(root_uuid: &str) -> String {
    format!("root=UUID={root_uuid} rw quiet panic=-1")
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn tree(files: &[&str]) -> (tempfile::TempDir, Rootfs) {
        let dir = tempfile::tempdir().unwrap();
        for file in files {
            let path = dir.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        let tree = Rootfs::open(dir.path()).unwrap();
        (dir, tree)
    }

    fn kernel() -> Kernel {
        Kernel { release: "6.1.0".into(), image: String::new(), modules: String::new() }
    }

    const WHOLE: [&str; 4] =
        ["usr/lib/systemd/systemd", "sbin/init", "usr/lib/systemd/systemd-udevd", "boot/initrd.img-6.1.0"];

    #[test]
    fn a_missing_part_for_a_boot_is_named_with_its_package() {
        let (_dir, whole) = tree(&WHOLE);
        assert_eq!(initrd(&whole, &kernel()).as_deref(), Ok("boot/initrd.img-6.1.0"));
        for (missing, (sign, package)) in WHOLE.iter().zip([
            ("no systemd", "systemd-sysv"),
            ("no /sbin/init", "systemd-sysv"),
            ("no udev", "package udev"),
            ("/boot/initrd.img-6.1.0", "initramfs-tools"),
        ]) {
            let files: Vec<&str> = WHOLE.iter().copied().filter(|file| file != missing).collect();
            let (_dir, tree) = tree(&files);
            let why = initrd(&tree, &kernel()).unwrap_err();
            assert!(why.contains(sign) && why.contains(package), "{why}");
        }
    }

    #[test]
    fn only_a_tree_with_a_systemd_gets_the_unit_and_its_own_machine_id_stays() {
        let digest = "0123456789abcdef".repeat(4);
        let (dir, plain) = tree(&["bin/sh"]);
        add(&plain, &digest).unwrap();
        assert!(!dir.path().join("usr").exists() && !dir.path().join("etc").exists());

        let (dir, whole) = tree(&WHOLE);
        let id = dir.path().join("etc/machine-id");
        fs::create_dir(dir.path().join("etc")).unwrap();
        for (before, after) in [
            ("uninitialized\n", format!("{}\n", &digest[..32])),
            ("", format!("{}\n", &digest[..32])),
            ("fedcba9876543210fedcba9876543210\n", "fedcba9876543210fedcba9876543210\n".into()),
        ] {
            let _ = fs::remove_file(&id);
            fs::write(&id, before).unwrap();
            add(&whole, &digest).unwrap();
            assert_eq!(fs::read_to_string(&id).unwrap(), after);
        }
        let link = dir.path().join(format!("usr/lib/systemd/system/multi-user.target.wants/{UNIT}"));
        assert!(fs::read_to_string(link).unwrap().contains("ExecStart=/usr/lib/bootrace/agent --service\n"));
    }
}
