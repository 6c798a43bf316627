//! The agent as `/init` of a VM: from an initramfs to the image's root file system, with the same mounts as a
//! container's, and power-off at the end.
//!
//! All of it is on the measured path: the cost of the VM's boot beyond its kernel.

use std::{
    env,
    fs::{self, File, OpenOptions},
    io::{self, Write},
    net::Ipv4Addr,
    os::fd::{AsRawFd, OwnedFd},
    os::unix::fs::{MetadataExt, symlink},
    path::{Path, PathBuf},
    process, thread,
    time::{Duration, Instant},
};

use bootrace_agent::{
    protocol::{HOSTNAME, NETWORK_VARIABLE, PORT_NAME},
    surroundings::SHM_OPTIONS,
};

use crate::{channel::Channel, nonce, sys};

/// Longest wait for the control port to appear and to be connected, once its driver is loaded.
const PORT_TIMEOUT: Duration = Duration::from_secs(60);
const DISK: &str = "/dev/vda";
const NEW_ROOT: &str = "/root";

/// Drivers of the network; only a VM with a network loads them.
const NETWORK_MODULES: &str = "/modules-network";
const INTERFACE: &str = "eth0";
/// The address that QEMU's user network gives its first guest by DHCP. These are QEMU's defaults, which bootrace
/// keeps.
const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 15);
const NETMASK: Ipv4Addr = Ipv4Addr::new(255, 255, 255, 0);
const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 2);
const NAMESERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 3);
const RESOLVER: &str = "/etc/resolv.conf";
/// Longest wait for the interface's carrier, once it is up.
const CARRIER_TIMEOUT: Duration = Duration::from_secs(5);

/// A failed step of the VM's start.
#[derive(Debug, thiserror::Error)]
#[error("start the VM: {tried}: {why}")]
pub struct VmError {
    tried: String,
    why: String,
}

/// Names the step that failed.
trait Tried<T> {
    fn tried(self, step: impl FnOnce() -> String) -> Result<T, VmError>;
}

impl<T> Tried<T> for io::Result<T> {
    fn tried(self, step: impl FnOnce() -> String) -> Result<T, VmError> {
        self.map_err(|e| VmError { tried: step(), why: e.to_string() })
    }
}

/// Loads drivers, opens the control port and makes the disk the root. Sends the error over the port when a step after
/// it fails.
///
/// # Errors
/// With the step that failed, and why.
pub fn boot() -> Result<Channel, VmError> {
    let events = begin()?;
    // The port carries the error of a disk that fails, so it is opened in any case. While the kernel mounts the
    // disk, the host's messages arrive that make the port.
    let network = env::var_os(NETWORK_VARIABLE).is_some();
    let prepared =
        mount_disk().and_then(|()| if network { load_modules(Path::new(NETWORK_MODULES)) } else { Ok(()) });
    let channel = open_port(&events, PORT_TIMEOUT)?;
    let entered = prepared.and_then(|()| enter_root());
    match entered.and_then(|()| if network { join_network(INTERFACE) } else { Ok(()) }) {
        Ok(()) => Ok(channel),
        Err(error) => {
            // The kernel log gets the error too.
            let _ = channel.writer().fail(&error);
            Err(error)
        }
    }
}

/// Writes to the kernel log, which the VM's console shows if it has one.
pub fn log(error: impl std::fmt::Display) {
    if let Ok(mut log) = OpenOptions::new().write(true).open("/dev/kmsg") {
        // One write is one record. If it fails, there is no other place to report.
        let _ = log.write_all(format!("<3>bootrace-agent: {error}\n").as_bytes());
    }
}

/// Kills everything else and ends the machine.
pub fn power_off() -> ! {
    sys::kill(-1);
    // Read-only, so that a restart from this disk needs no repair. Killed processes may keep files open for some time.
    for _ in 0..100 {
        if sys::mount("", "/", "", libc::MS_REMOUNT | libc::MS_RDONLY, "").is_ok() {
            break;
        }
        thread::sleep(Duration::from_millis(5));
    }
    sys::power_off();
    process::abort();
}

fn begin() -> Result<OwnedFd, VmError> {
    mount("sysfs", "/sys", "sysfs", SAFE, "")?;
    mount("devtmpfs", "/dev", "devtmpfs", libc::MS_NOSUID, "mode=0755")?;
    let events = sys::device_events().tried(|| "listen for device events".into())?;
    load_modules(Path::new("/modules"))?;
    Ok(events)
}

const SAFE: libc::c_ulong = libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC;

/// Mounts; makes the mount point where it is missing.
fn mount(source: &str, target: &str, kind: &str, flags: libc::c_ulong, options: &str) -> Result<(), VmError> {
    match sys::mount(source, target, kind, flags, options) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            let made = fs::create_dir_all(target);
            made.and_then(|()| sys::mount(source, target, kind, flags, options))
        }
        result => result,
    }
    .tried(|| format!("mount {kind} on {target}"))
}

/// Loads every file of a directory, in the order of their names. Drivers probe synchronously: with its driver and bus
/// loaded, a disk exists when this returns.
fn load_modules(dir: &Path) -> Result<(), VmError> {
    let Ok(entries) = fs::read_dir(dir) else { return Ok(()) };
    let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    files.sort();
    for path in files {
        match File::open(&path).and_then(|file| sys::load_module(&file)) {
            Err(e) if e.raw_os_error() == Some(libc::EEXIST) => {}
            // The kernel's texts for these two would mislead.
            Err(e) if e.raw_os_error() == Some(libc::ENOENT) => {
                let why = "it needs a symbol of a module that is not loaded yet; \
                           name the files in the order of modules.dep";
                return Err(VmError { tried: format!("load the module {path:?}"), why: why.into() });
            }
            Err(e) if e.raw_os_error() == Some(libc::ENOEXEC) => {
                let why = "it is no module for this kernel; both must be of the same version";
                return Err(VmError { tried: format!("load the module {path:?}"), why: why.into() });
            }
            result => result.tried(|| format!("load the module {path:?}"))?,
        }
    }
    Ok(())
}

fn mount_disk() -> Result<(), VmError> {
    fs::create_dir_all(NEW_ROOT).tried(|| format!("make {NEW_ROOT}"))?;
    sys::mount(DISK, NEW_ROOT, "ext4", 0, "").tried(|| {
        format!(
            "mount {DISK} (ext4) as root; the VM needs a virtio disk, and /modules virtio_pci and virtio_blk"
        )
    })
}

/// Opens the control port once the kernel has it and the host is connected to it.
///
/// # Errors
/// When that takes longer than `patience`, and when the port can't be opened.
pub fn open_port(events: &OwnedFd, patience: Duration) -> Result<Channel, VmError> {
    let deadline = Instant::now() + patience;
    let path = loop {
        if let Some(path) = find_port() {
            break path;
        }
        // The host names its ports in messages to the driver; the kernel sends a device event for each.
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            let why = format!("there is none after {patience:?}; is virtio_console loaded?");
            return Err(VmError { tried: format!("find the virtio-serial port {PORT_NAME}"), why });
        }
        let mut fds = [sys::readable(events.as_raw_fd())];
        sys::poll(&mut fds, Some(left)).tried(|| "wait for device events".into())?;
        discard(events);
    };
    let port = OpenOptions::new().read(true).write(true).open(&path).tried(|| format!("open {path:?}"))?;
    // Until the host's side is connected, reads return end of file. QEMU's next message after the name reports the
    // connection, so this takes microseconds, and no event of the kernel reports it.
    while sys::hung_up(&port).tried(|| format!("poll {path:?}"))? {
        if Instant::now() > deadline {
            let why = format!("the host has not connected to it after {patience:?}");
            return Err(VmError { tried: format!("use the virtio-serial port {PORT_NAME}"), why });
        }
        thread::sleep(Duration::from_micros(100));
    }
    Channel::new(port.into(), nonce::of_system()).tried(|| format!("open {path:?}"))
}

fn find_port() -> Option<PathBuf> {
    let ports = fs::read_dir("/sys/class/virtio-ports").ok()?;
    ports.flatten().find_map(|entry| {
        let name = fs::read_to_string(entry.path().join("name")).ok()?;
        (name.trim() == PORT_NAME).then(|| Path::new("/dev").join(entry.file_name()))
    })
}

/// Discards events: they only wake the agent, which then reads /sys.
fn discard(events: &OwnedFd) {
    if let Ok(copy) = events.try_clone() {
        let mut file = File::from(copy);
        let mut event = [0; 8192];
        while matches!(io::Read::read(&mut file, &mut event), Ok(n) if n > 0) {}
    }
}

/// Makes the disk the root, with the same mounts as a container's; /run and /tmp are the image's own in both.
fn enter_root() -> Result<(), VmError> {
    for dir in ["/dev", "/sys"] {
        let target = format!("{NEW_ROOT}{dir}");
        mount(dir, &target, "", libc::MS_MOVE, "")?;
    }
    // The initramfs is memory, which this frees before the workload starts. The agent's own file
    // stays readable through /proc/self/exe.
    let old = fs::metadata("/").map(|m| m.dev()).tried(|| "look at /".into())?;
    clear(Path::new("/"), old);
    std::env::set_current_dir(NEW_ROOT).tried(|| format!("enter {NEW_ROOT}"))?;
    sys::mount(".", "/", "", libc::MS_MOVE, "").tried(|| "move the new root to /".into())?;
    std::os::unix::fs::chroot(".").tried(|| "chroot to the new root".into())?;
    std::env::set_current_dir("/").tried(|| "enter /".into())?;

    mount("proc", "/proc", "proc", SAFE, "")?;
    let no_exec = libc::MS_NOSUID | libc::MS_NOEXEC;
    mount("devpts", "/dev/pts", "devpts", no_exec, "newinstance,ptmxmode=0666,mode=0620,gid=5")?;
    mount("shm", "/dev/shm", "tmpfs", SAFE, &SHM_OPTIONS.to_string_lossy())?;
    // The kernel makes the devices; udev or a container engine adds these links.
    for (name, rest) in [("fd", ""), ("stdin", "/0"), ("stdout", "/1"), ("stderr", "/2")] {
        let link = Path::new("/dev").join(name);
        symlink(format!("/proc/self/fd{rest}"), &link).tried(|| format!("make {}", link.display()))?;
    }
    sys::Interface::new("lo")
        .and_then(|loopback| loopback.up())
        .tried(|| "bring the loopback interface up".into())?;
    sys::set_hostname(HOSTNAME).tried(|| "set the hostname".into())
}

/// Sets the network up, as an engine does for a container before its first process.
///
/// # Errors
/// With the step that failed, and why.
pub fn join_network(name: &str) -> Result<(), VmError> {
    let interface = sys::Interface::new(name).tried(|| "open a socket for the network".into())?;
    interface.set_address(ADDRESS, NETMASK).tried(|| {
        format!(
            "give {name} its address; the VM needs a virtio network card, and the image's kernel virtio_net"
        )
    })?;
    interface.up().tried(|| format!("bring {name} up"))?;
    // The driver detects the carrier some time later, and the kernel drops packets until then: a workload's first
    // connection would take a second. IFF_RUNNING would report the carrier up to a second late.
    let carrier = format!("/sys/class/net/{name}/carrier");
    let deadline = Instant::now() + CARRIER_TIMEOUT;
    while fs::read(&carrier).tried(|| format!("read {carrier}"))? != b"1\n" {
        if Instant::now() > deadline {
            let why = format!("it has no carrier after {CARRIER_TIMEOUT:?}");
            return Err(VmError { tried: format!("bring {name} up"), why });
        }
        thread::sleep(Duration::from_micros(100));
    }
    interface.route_by(GATEWAY).tried(|| format!("route by {GATEWAY}"))?;
    // The image's file may be a link to one that only a running system makes.
    match fs::remove_file(RESOLVER) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
    .and_then(|()| fs::write(RESOLVER, format!("nameserver {NAMESERVER}\n")))
    .tried(|| format!("write {RESOLVER}"))
}

/// Deletes everything on this file system. A file that can't be deleted only stays in memory.
fn clear(dir: &Path, device: u64) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        let Ok(meta) = path.symlink_metadata() else { continue };
        if meta.dev() != device {
            continue;
        }
        let _ = if meta.is_dir() {
            clear(&path, device);
            fs::remove_dir(&path)
        } else {
            fs::remove_file(&path)
        };
    }
}
