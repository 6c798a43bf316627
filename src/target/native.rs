//! The workload as a bare process: forked into a cgroup with the scenario's memory limit, bound to its CPUs,
//! chrooted into the image, nothing else. No namespaces of its own, so the host's network and processes are
//! in sight.
//!
//! Its root is an overlay over the image's tree, as a container's is, so that what a workload writes
//! is gone with it. Mounting that is staging, not start-up: a bare process needs no such thing.

use std::{
    fs, io,
    os::{
        fd::AsFd,
        unix::fs::{MetadataExt, PermissionsExt, symlink},
    },
    path::{Path, PathBuf},
};

use async_trait::async_trait;
use bootrace_agent::protocol::{AGENT_PATH, SOCKET_PATH};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::{CWD, FileType, Mode, makedev},
    io::Errno,
    mount::{self, MountFlags, MountPropagationFlags, UnmountFlags},
    process::{Pid, PidfdFlags, Signal, WaitOptions, pidfd_open, pidfd_send_signal, waitpid},
    thread::UnshareFlags,
};

use super::{Cpus, Error, Instance, Target, Ticket};
use crate::{
    probe::{
        Scope,
        cgroup::{self, Hierarchy},
    },
    sample,
    scenario::{self, Resources},
};

mod launch;

use launch::Launcher;

/// The parent of every instance's cgroup, below the root of each hierarchy.
pub const CGROUP: &str = "bootrace";

/// Where the host says whom to ask for names.
const RESOLVER: &str = "/etc/resolv.conf";

/// Gives this thread, and every thread and process that it starts from now on, mounts of its own: a
/// bare process's root is never seen by the host, and is gone with the harness however that ends.
/// To be called before the async runtime starts its threads.
///
/// # Errors
/// When the caller is not root.
pub fn isolate_mounts() -> Result<(), Error> {
    let failed = |e| Error::new("making mounts of our own for the native target", needs_root(e));
    // Safety: only the mount namespace and the file system attributes (cwd, umask) stop being shared.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNS) }.map_err(failed)?;
    let propagation = MountPropagationFlags::REC | MountPropagationFlags::DOWNSTREAM;
    mount::mount_change("/", propagation).map_err(failed)
}

fn needs_root(error: impl Into<io::Error>) -> String {
    let error = error.into();
    match error.kind() {
        io::ErrorKind::PermissionDenied => {
            format!(
                "{error}. A bare process in the image's root needs root: run bootrace with sudo, or without this target (--targets docker,libvirt)"
            )
        }
        _ => error.to_string(),
    }
}

pub struct Native {
    name: String,
    tree: PathBuf,
    resources: Resources,
    cpus: Cpus,
    network: bool,
}

impl Native {
    /// `tree` is the image's unpacked root file system. `network`: the host's resolver configuration is in it,
    /// too; its network always is.
    ///
    /// # Errors
    /// When there are fewer CPUs than the scenario wants.
    pub fn new(
        spec: &scenario::Target,
        resources: &Resources,
        network: bool,
        tree: PathBuf,
    ) -> Result<Self, Error> {
        let cpus = Cpus::choose(resources.cpus)?;
        Ok(Native { name: spec.name.clone(), tree, resources: resources.clone(), cpus, network })
    }
}

#[async_trait]
impl Target for Native {
    fn info(&self) -> sample::Target {
        sample::Target {
            name: self.name.clone(),
            kind: "native".into(),
            accelerator: sample::Accelerator::None,
            accelerator_reason: None,
            options: serde_json::json!({ "cpus": self.cpus.list(), "network": "host", "root": "overlay" }),
        }
    }

    fn versions(&self, _host: &mut sample::Host) {}

    fn daemons(&self) -> Vec<u32> {
        Vec::new()
    }

    async fn stage(&self, ticket: &Ticket) -> Result<Box<dyn Instance>, Error> {
        let mut bare =
            Bare { root: Root::new(&ticket.dir), cgroups: Vec::new(), launcher: None, child: None };
        match bare.prepare(self, ticket) {
            Ok(()) => Ok(Box::new(bare)),
            Err(e) => {
                let _ = bare.unstage().await;
                Err(Error::new(format!("staging {}", ticket.instance), needs_root(e)))
            }
        }
    }
}

struct Bare {
    root: Root,
    cgroups: Vec<PathBuf>,
    launcher: Option<Launcher>,
    child: Option<Pid>,
}

impl Bare {
    fn prepare(&mut self, target: &Native, ticket: &Ticket) -> io::Result<()> {
        if target.network {
            self.root.write_resolver(Path::new(RESOLVER))?;
        }
        self.root.mount(&target.tree, &ticket.socket())?;
        make_cgroups(&ticket.instance, &target.resources, &mut self.cgroups)?;
        self.launcher = Some(Launcher::new(&self.root.merged, &self.cgroups, target.cpus.set())?);
        Ok(())
    }
}

#[async_trait]
impl Instance for Bare {
    async fn start(&mut self) -> Result<(), Error> {
        let failed = |e| Error::new(format!("executing {AGENT_PATH} in {}", self.root.merged.display()), e);
        let launcher = self.launcher.as_ref().ok_or_else(|| failed(io::Error::other("it is not staged")))?;
        self.child = Some(launcher.launch().map_err(failed)?);
        Ok(())
    }

    fn scope(&self, leader: u32) -> Scope {
        Scope { leader, engine: Vec::new() }
    }

    async fn post_mortem(&mut self) -> Option<String> {
        let pid = self.child?;
        let (_, status) = waitpid(Some(pid), WaitOptions::NOHANG).ok()??;
        self.child = None;
        let how = match (status.exit_status(), status.terminating_signal()) {
            (Some(code), _) => format!("with code {code}"),
            (_, Some(signal)) => format!("by signal {signal}"),
            _ => "somehow".into(),
        };
        Some(format!("the agent ended {how}"))
    }

    async fn remove(&mut self) -> Result<(), Error> {
        self.launcher = None;
        let leader = self.child.map(|pid| pid.as_raw_pid().unsigned_abs());
        for dir in &self.cgroups {
            kill_cgroup(dir, leader)
                .map_err(|e| Error::new(format!("ending the processes in {}", dir.display()), e))?;
        }
        if let Some(pid) = self.child.take() {
            waitpid(Some(pid), WaitOptions::empty())
                .map_err(|e| Error::new("waiting for the agent to end", e))?;
        }
        Ok(())
    }

    async fn unstage(&mut self) -> Result<(), Error> {
        self.launcher = None;
        // First of all: whoever removes the instance's directory must not walk into mounts.
        self.root
            .unmount()
            .map_err(|e| Error::new(format!("unmounting {}", self.root.merged.display()), e))?;
        while let Some(dir) = self.cgroups.last() {
            remove_cgroup(dir).map_err(|e| Error::new(format!("removing {}", dir.display()), e))?;
            self.cgroups.pop();
        }
        Ok(())
    }
}

/// How long a killed process may take to be gone: one that waits for a dead disk or NFS server may take for ever.
const DEATH: Timespec = Timespec { tv_sec: 30, tv_nsec: 0 };

/// Kills every process in the cgroup, the agent last so that it reaps the others, and waits for
/// their end by pidfd.
fn kill_cgroup(dir: &Path, leader: Option<u32>) -> io::Result<()> {
    loop {
        let mut pids = cgroup::pids(dir).map_err(io::Error::other)?;
        // On version 1 a harness that is about to launch has a thread in there.
        pids.retain(|pid| *pid != std::process::id());
        if pids.iter().any(|pid| Some(*pid) != leader) {
            pids.retain(|pid| Some(*pid) != leader);
        }
        let open = |pid: u32| pidfd_open(Pid::from_raw(pid as i32)?, PidfdFlags::empty()).ok();
        let handles: Vec<_> = pids.iter().filter_map(|pid| Some((*pid, open(*pid)?))).collect();
        // A pid that was free again before it was opened may be anybody's by now.
        let members = cgroup::pids(dir).map_err(io::Error::other)?;
        let members: Vec<_> = handles.iter().filter(|(pid, _)| members.contains(pid)).collect();
        if members.is_empty() && pids.is_empty() {
            return Ok(());
        }
        for (_, handle) in &members {
            match pidfd_send_signal(handle, Signal::KILL) {
                // A process that is gone already is what was wanted.
                Ok(()) | Err(Errno::SRCH) => {}
                Err(e) => return Err(e.into()),
            }
        }
        for (pid, handle) in &members {
            let mut gone = [PollFd::from_borrowed_fd(handle.as_fd(), PollFlags::IN)];
            if rustix::io::retry_on_intr(|| poll(&mut gone, Some(&DEATH)))? == 0 {
                return Err(io::Error::other(format!("process {pid} was killed and does not end")));
            }
        }
    }
}

/// A cgroup whose last process was just reaped may be busy for another moment. The cgroups that a workload made
/// in it go first, and the parent of all instances' when it is empty.
fn remove_cgroup(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_cgroup(&entry.path())?;
        }
    }
    let mut tries = 0;
    loop {
        match fs::remove_dir(dir) {
            Err(e) if e.kind() == io::ErrorKind::ResourceBusy && tries < 1000 => {
                tries += 1;
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => break,
        }
    }
    if let Some(parent) = dir.parent().filter(|parent| parent.ends_with(CGROUP)) {
        // Not empty: other instances are there.
        let _ = fs::remove_dir(parent);
    }
    Ok(())
}

/// Makes the instance's cgroup in every hierarchy that limits or accounts, with the memory limit that Docker
/// would set; `made` has each as soon as it is there.
fn make_cgroups(instance: &str, resources: &Resources, made: &mut Vec<PathBuf>) -> io::Result<()> {
    let hierarchy = cgroup::hierarchy().map_err(io::Error::other)?;
    let limit = resources.memory.0.to_string();
    let limits: &[(&str, &str)] = match hierarchy.version {
        1 => &[("memory.limit_in_bytes", &limit), ("memory.memsw.limit_in_bytes", &limit)],
        _ => &[("memory.max", &limit), ("memory.swap.max", "0")],
    };
    for (controller, root) in controllers(&hierarchy) {
        let parent = root.join(CGROUP);
        if hierarchy.version == 2 {
            enable_controller(controller, root, &parent)?;
        }
        let dir = parent.join(instance);
        if !made.contains(&dir) {
            fs::create_dir_all(&dir).map_err(|e| named(&dir, e))?;
            made.push(dir.clone());
        }
        for (file, value) in limits.iter().filter(|_| controller == "memory") {
            let file = dir.join(file);
            // Not there without swap accounting in this kernel: no swap to limit.
            if file.exists() {
                fs::write(&file, value).map_err(|e| named(&file, e))?;
            }
        }
    }
    Ok(())
}

/// An error that says on what.
fn named(path: &Path, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

/// The controllers that limit or account, and where cgroups of theirs are made.
fn controllers(hierarchy: &Hierarchy) -> impl Iterator<Item = (&'static str, &Path)> {
    let Hierarchy { cpu, cpuacct, memory, .. } = hierarchy;
    [("cpu", cpu), ("cpuacct", cpuacct), ("memory", memory)]
        .into_iter()
        .filter_map(|(name, root)| Some((name, root.as_deref()?)))
}

/// cgroup v2 hands a controller to children only where the parent says so.
fn enable_controller(controller: &str, root: &Path, parent: &Path) -> io::Result<()> {
    fs::create_dir_all(parent).map_err(|e| named(parent, e))?;
    // CPU time is accounted for without being asked to.
    if controller == "cpuacct" {
        return Ok(());
    }
    for dir in [root, parent] {
        let file = dir.join("cgroup.subtree_control");
        fs::write(&file, format!("+{controller}")).map_err(|e| match e.kind() {
            io::ErrorKind::ResourceBusy => io::Error::other(format!(
                "{}: {e}. Processes sit in the root of this cgroup namespace, as in a container: move them into a \
                 cgroup below it, or run bootrace on the host itself",
                file.display()
            )),
            _ => named(&file, e),
        })?;
    }
    Ok(())
}

/// The devices that a container gets, and no others: the host's own are none of the workload's business.
fn make_devices(dev: &Path) -> io::Result<()> {
    let nodes =
        [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];
    for (name, major, minor) in nodes {
        let node = dev.join(name);
        let mode = Mode::from_raw_mode(0o666);
        rustix::fs::mknodat(CWD, &node, FileType::CharacterDevice, mode, makedev(major, minor))?;
        // The umask has no say here.
        rustix::fs::chmod(&node, mode)?;
    }
    let links = [("fd", ""), ("stdin", "/0"), ("stdout", "/1"), ("stderr", "/2")];
    for (name, rest) in links {
        symlink(format!("/proc/self/fd{rest}"), dev.join(name))?;
    }
    symlink("pts/ptmx", dev.join("ptmx"))
}

/// A root file system of the instance's own: the image's tree below, its writes above.
struct Root {
    dir: PathBuf,
    merged: PathBuf,
    mounted: bool,
}

impl Root {
    fn new(dir: &Path) -> Self {
        Root { dir: dir.into(), merged: dir.join("root"), mounted: false }
    }

    /// Gives the instance the host's resolver configuration, as Docker does. It is written below what will be
    /// mounted and not into it, where the image's file may be a link to the host's own.
    fn write_resolver(&self, host: &Path) -> io::Result<()> {
        let failed = |at: &Path, e: io::Error| io::Error::new(e.kind(), format!("{}: {e}", at.display()));
        let content = match fs::read(host) {
            // The host has none, then the image's is as good.
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            result => result.map_err(|e| failed(host, e))?,
        };
        let etc = self.dir.join("upper/etc");
        let file = etc.join("resolv.conf");
        fs::create_dir_all(&etc)
            .and_then(|()| fs::write(&file, content))
            .and_then(|()| fs::set_permissions(&etc, fs::Permissions::from_mode(0o755)))
            .and_then(|()| fs::set_permissions(&file, fs::Permissions::from_mode(0o644)))
            .map_err(|e| failed(&file, e))
    }

    fn mount(&mut self, tree: &Path, socket: &Path) -> io::Result<()> {
        for name in ["root", "upper", "work"] {
            fs::create_dir_all(self.dir.join(name))?;
        }
        // The merged root's own mode and owner are those of the upper directory, whatever our umask is.
        let (like, upper) = (fs::metadata(tree)?, self.dir.join("upper"));
        fs::set_permissions(&upper, like.permissions())?;
        std::os::unix::fs::chown(&upper, Some(like.uid()), Some(like.gid()))?;
        let (upper, work) = (self.dir.join("upper"), self.dir.join("work"));
        let options =
            format!("lowerdir={},upperdir={},workdir={}", tree.display(), upper.display(), work.display());
        let options = std::ffi::CString::new(options)?;
        let merged = &self.merged;
        let failed = |at: &Path, e: rustix::io::Errno| {
            let e = io::Error::from(e);
            io::Error::new(e.kind(), format!("mounting {}: {e}", at.display()))
        };
        mount::mount("overlay", merged, "overlay", MountFlags::empty(), options.as_c_str())
            .map_err(|e| failed(merged, e))?;
        self.mounted = true;
        let special = MountFlags::NOSUID | MountFlags::NOEXEC;
        for (kind, name, flags) in [
            ("proc", "proc", special | MountFlags::NODEV),
            ("sysfs", "sys", special | MountFlags::NODEV | MountFlags::RDONLY),
            ("tmpfs", "dev", special),
            ("devpts", "dev/pts", special),
            ("tmpfs", "dev/shm", special | MountFlags::NODEV),
        ] {
            let at = merged.join(name);
            fs::create_dir_all(&at)?;
            let options = match name {
                "dev" => Some(c"mode=0755"),
                "dev/pts" => Some(c"newinstance,ptmxmode=0666,mode=0620,gid=5"),
                "dev/shm" => Some(c"mode=1777"),
                _ => None,
            };
            mount::mount(kind, &at, kind, flags, options).map_err(|e| failed(&at, e))?;
        }
        make_devices(&merged.join("dev"))?;
        let at = merged.join(SOCKET_PATH.trim_start_matches('/'));
        if let Some(parent) = at.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(&at, "")?;
        mount::mount_bind(socket, &at).map_err(|e| failed(&at, e))
    }

    /// Takes the root away with all that is mounted below it.
    fn unmount(&mut self) -> io::Result<()> {
        if self.mounted {
            mount::unmount(&self.merged, UnmountFlags::DETACH)?;
            self.mounted = false;
        }
        Ok(())
    }
}

/// Kills and removes every instance's cgroup; gives their names.
///
/// # Errors
/// When a cgroup can't be emptied or removed.
pub fn clean(keep: impl Fn(&str) -> bool) -> Result<Vec<String>, Error> {
    let hierarchy = cgroup::hierarchy().map_err(|e| Error::new("finding left-over cgroups", e))?;
    let mut removed = Vec::new();
    for (_, root) in controllers(&hierarchy) {
        let parent = root.join(CGROUP);
        for entry in fs::read_dir(&parent).into_iter().flatten().flatten() {
            let (dir, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
            if name.starts_with("bootrace-") && !keep(&name) && dir.is_dir() {
                kill_cgroup(&dir, None)
                    .and_then(|()| remove_cgroup(&dir))
                    .map_err(|e| Error::new(format!("removing cgroup {}", dir.display()), e))?;
                removed.push(format!("cgroup {}", dir.display()));
            }
        }
    }
    Ok(removed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hosts_resolver_configuration_lies_above_the_image_and_all_may_read_it() {
        let dir = tempfile::tempdir().unwrap();
        let (root, host) = (Root::new(dir.path()), dir.path().join("host"));
        root.write_resolver(&host).unwrap();
        assert!(!dir.path().join("upper").exists(), "the host has none");
        fs::write(&host, "nameserver 192.0.2.1\n").unwrap();
        root.write_resolver(&host).unwrap();
        for (path, mode) in [("upper/etc", 0o755), ("upper/etc/resolv.conf", 0o644)] {
            let meta = fs::metadata(dir.path().join(path)).unwrap();
            assert_eq!(meta.permissions().mode() & 0o777, mode, "{path}");
        }
        let content = fs::read_to_string(dir.path().join("upper/etc/resolv.conf")).unwrap();
        assert_eq!(content, "nameserver 192.0.2.1\n");
    }

    #[test]
    fn a_refusal_says_that_root_is_needed() {
        assert!(needs_root(io::Error::from(io::ErrorKind::PermissionDenied)).contains("sudo"));
        assert!(!needs_root(io::Error::from(io::ErrorKind::NotFound)).contains("sudo"));
    }
}
