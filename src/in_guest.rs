//! Runs the tests of the probe and of bare processes again on version 2 cgroups under systemd, in an emulated VM that
//! boots Debian from a bootrace image with systemd as PID 1. A host has only one version, and bootrace reads both.
//!
//! The VM runs this test program itself, so the guest's C library must be as new as the host's.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use crate::{
    image::{self, Cache, Forms, VmFiles},
    scenario,
    target::vm::xml::{MACHINE, RANDOM_FEATURE},
};

/// An emulated systemd takes some 40 s to come up; the rest is for busy hosts.
const PATIENCE: Duration = Duration::from_secs(240);
/// The file on the guest's disk that its tests write to.
const RESULT: &str = "bootrace-tests.txt";

/// `/init` of the initramfs in the agent's place: loads the same modules, mounts the same disk and starts systemd.
const INIT: &str = "#!/busybox sh
/busybox mount -t devtmpfs dev /dev
/busybox mount -t proc proc /proc
for module in /modules/*.ko; do /busybox insmod $module; done
/busybox umount /proc
/busybox mount -t ext4 /dev/vda /newroot
exec /busybox switch_root /newroot /sbin/init
";

/// The only unit that the guest starts. Tests of `probe::kvm` are skipped: they concern the host.
const UNIT: &str = "[Service]
Type=oneshot
Environment=LOOPS=100000
StandardOutput=append:/bootrace-tests.txt
StandardError=inherit
ExecStartPre=/bin/sh -c 'cat /proc/1/comm; stat --file-system --format=%%T /sys/fs/cgroup; cat /proc/self/cgroup; \
    cat /proc/self/mountinfo; cat /sys/fs/cgroup$(cut -d: -f3 /proc/self/cgroup)/memory.stat; \
    cat /sys/fs/cgroup$(cut -d: -f3 /proc/self/cgroup)/cpu.stat'
ExecStart=/bootrace-tests probe:: target::native --include-ignored --skip kvm --test-threads=1
[Unit]
SuccessAction=poweroff-force
FailureAction=poweroff-force
";

#[tokio::test]
#[ignore = "needs root, QEMU, debugfs, mmdebstrap and a Debian mirror: scripts/test runs it"]
async fn the_probe_reads_version_2_cgroups_under_systemd_as_it_reads_this_hosts() {
    let image = systemd_image().await;
    let (tree, files) = (image.tree.unwrap(), image.vm.unwrap());
    let dir = tempfile::tempdir_in("/var/tmp").unwrap();
    let disk = disk(dir.path(), &files);
    let initramfs = initramfs(dir.path(), &files, &tree);
    let console = boot(dir.path(), &files.kernel, &initramfs, &disk);
    let result = run("debugfs", &["-R", &format!("cat /{RESULT}"), disk.to_str().unwrap()]);
    let said = format!("{result}\n--- console:\n{console}");
    // Otherwise the test would prove nothing.
    assert!(result.starts_with("systemd\ncgroup2fs\n0::/"), "{said}");
    for test in [
        "probe::cgroup::tests::on_version_2_all_controllers_are_in_one_place_if_the_kernel_has_them",
        "probe::meter::tests::memory_that_a_child_touches_is_in_the_footprint_and_in_the_cgroups_anon",
        "probe::meter::tests::page_cache_is_charged_to_the_cgroup_and_not_in_the_footprint",
        "probe::meter::tests::cpu_time_of_a_cgroup_agrees_with_the_kernels_bill",
        "target::native::launch::tests::a_bare_process_is_in_its_cgroups_which_have_its_limit",
    ] {
        assert!(result.contains(&format!("test {test} ... ok")), "{test} did not pass:\n{said}");
    }
    assert!(result.contains("\ntest result: ok. "), "{said}");
}

/// Kept in the cache like any other image.
async fn systemd_image() -> image::Image {
    let spec = scenario::Image {
        suite: Some("debian/bookworm".into()),
        fallback: None,
        // This program links to the library; the initramfs needs the shell.
        packages: ["busybox-static", "libvirt0", "systemd-sysv"].map(str::to_owned).into(),
        ..scenario::Image::default()
    };
    let forms = Forms { tree: true, vm: true, ..Forms::default() };
    let cache = Cache::open(None).unwrap();
    image::ensure(&spec, Path::new("/"), forms, &cache, &|line| eprintln!("{line}")).await.unwrap()
}

/// The image's disk with this program and its unit on it.
fn disk(dir: &Path, files: &VmFiles) -> PathBuf {
    let disk = dir.join("disk.raw");
    run("cp", &["--sparse=always", files.disk.to_str().unwrap(), disk.to_str().unwrap()]);
    let (program, unit) = (dir.join("tests"), dir.join("unit"));
    fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(&unit, UNIT).unwrap();
    let commands = dir.join("commands");
    let [program, unit] = [program, unit].map(|path| path.display().to_string());
    let text = format!(
        "write {program} bootrace-tests\ncd /etc/systemd/system\nwrite {unit} bootrace-tests.service\n"
    );
    fs::write(&commands, text).unwrap();
    run("debugfs", &["-w", "-f", commands.to_str().unwrap(), disk.to_str().unwrap()]);
    disk
}

/// The image's initramfs with an appended archive that replaces some of its files.
fn initramfs(dir: &Path, files: &VmFiles, tree: &Path) -> PathBuf {
    let mut archive = fs::read(&files.initramfs).unwrap();
    archive.resize(archive.len().next_multiple_of(4), 0);
    let busybox = fs::read(tree.join("bin/busybox")).unwrap();
    entry(&mut archive, "busybox", 0o100_755, &busybox);
    entry(&mut archive, "init", 0o100_755, INIT.as_bytes());
    entry(&mut archive, "TRAILER!!!", 0, &[]);
    let path = dir.join("initramfs.cpio");
    fs::write(&path, archive).unwrap();
    path
}

/// One file in the kernel's form ("newc").
fn entry(archive: &mut Vec<u8>, name: &str, mode: u32, content: &[u8]) {
    let fields = [0, mode, 0, 0, 1, 0, content.len() as u32, 0, 0, 0, 0, name.len() as u32 + 1, 0];
    archive.extend(b"070701");
    fields.iter().for_each(|field| archive.extend(format!("{field:08x}").bytes()));
    archive.extend(name.bytes().chain([0]));
    archive.resize(archive.len().next_multiple_of(4), 0);
    archive.extend(content);
    archive.resize(archive.len().next_multiple_of(4), 0);
}

/// A VM that ends with its test, even a failed one.
struct Vm(Child);

impl Drop for Vm {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Boots, waits for the guest to power itself off, and returns its console output.
fn boot(dir: &Path, kernel: &Path, initramfs: &Path, disk: &Path) -> String {
    let console = dir.join("console");
    let features = if RANDOM_FEATURE.is_empty() { String::new() } else { format!(",+{RANDOM_FEATURE}") };
    let model = if cfg!(target_arch = "x86_64") { "qemu64" } else { "max" };
    let port = if cfg!(target_arch = "x86_64") { "ttyS0" } else { "ttyAMA0" };
    let mut command = Command::new(format!("qemu-system-{}", std::env::consts::ARCH));
    command
        .args([
            "-machine",
            MACHINE,
            "-accel",
            "tcg",
            "-cpu",
            &format!("{model}{features}"),
            "-m",
            "1024",
            "-smp",
            "2",
        ])
        .args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"])
        .arg("-serial")
        .arg(format!("file:{}", console.display()))
        .arg("-kernel")
        .arg(kernel)
        .arg("-initrd")
        .arg(initramfs)
        .arg("-append")
        .arg(format!("quiet panic=-1 cryptomgr.notests console={port} systemd.unit=bootrace-tests.service"))
        .arg("-drive")
        .arg(format!("file={},format=raw,if=virtio,cache=unsafe", disk.display()));
    let mut vm = Vm(command.stdin(Stdio::null()).spawn().unwrap());
    let said = || String::from_utf8_lossy(&fs::read(&console).unwrap_or_default()).into_owned();
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(status) = vm.0.try_wait().unwrap() {
            assert!(status.success(), "QEMU {status}: {}", said());
            return said();
        }
        assert!(
            Instant::now() < deadline,
            "the guest was not done after {PATIENCE:?}; its console: {}",
            said()
        );
        std::thread::sleep(Duration::from_millis(200));
    }
}

fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{program} {arguments:?}: {}", text(&output.stderr));
    text(&output.stdout)
}
