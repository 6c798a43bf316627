//! Control groups: the cgroups of a process, and their use of CPU time and memory.
//!
//! Version 1 has a hierarchy per controller, version 2 one for all; hybrid hosts have both, and an
//! engine may use either. A process's paths are in `/proc/PID/cgroup`, relative to the root of a
//! hierarchy; `/proc/self/mountinfo` says where that is mounted, and which part of it.

use std::{
    fs::{self, File},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use super::{Error, read};

use crate::sys::mounts::unescape;

pub mod v1;
pub mod v2;

/// Stands for version 2 among the controllers' names of version 1.
pub(super) const UNIFIED: &str = "";

/// Memory charged to a cgroup and those below it, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Memory {
    pub anon: u64,
    /// tmpfs files and shared memory: the host can't read them again from a file.
    pub shmem: u64,
    /// Page cache of files, without shmem.
    pub file: u64,
    /// None if the kernel does not account for it.
    pub kernel: Option<u64>,
}

/// A lack of memory below a cgroup's limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shortage {
    /// The kernel has killed a process for it.
    Killed,
    /// The kernel has reclaimed memory at the limit, and what it can't reclaim fills at least 95 % of it: the processes may
    /// only read the pages of their own programs again and again.
    Full,
}

impl Memory {
    fn shortage(&self, limit: u64) -> Option<Shortage> {
        let held = self.anon + self.shmem + self.kernel.unwrap_or(0);
        (held >= limit / 100 * 95).then_some(Shortage::Full)
    }
}

/// Where the controllers are mounted, for code that creates cgroups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hierarchy {
    /// 1 if any of the controllers below is of version 1 (also on hybrid hosts), else 2.
    pub version: u8,
    /// Directories for new cgroups, on version 2 all the same one. None if this kernel has no such controller.
    pub cpu: Option<PathBuf>,
    pub cpuacct: Option<PathBuf>,
    pub memory: Option<PathBuf>,
    pub pids: Option<PathBuf>,
}

/// Finds the directories for new cgroups.
///
/// On version 2 a new cgroup has a controller's files only if the parent's `cgroup.subtree_control` names it. CPU time
/// (`cpu.stat`) is always accounted for.
///
/// # Errors
/// When `/proc/self/mountinfo` can't be read or no cgroup hierarchy is mounted.
pub fn hierarchy() -> Result<Hierarchy, Error> {
    let path = Path::new("/proc/self/mountinfo");
    Mounts::parse(&read(path)?).hierarchy().ok_or_else(|| {
        Error::new(path, "no cgroup hierarchy is mounted: mount -t cgroup2 none /sys/fs/cgroup")
    })
}

/// The available controllers of either version, sorted. Version 2 always accounts for CPU time, as `cpuacct` does on
/// version 1.
///
/// # Errors
/// When `/proc/self/mountinfo` can't be read.
pub fn controllers() -> Result<Vec<String>, Error> {
    let mounts = Mounts::read()?;
    let named = |name: &&String| *name != UNIFIED && !name.contains('=');
    let legacy = mounts.0.iter().flat_map(|mount| mount.controllers.iter().filter(named).cloned());
    let unified = mounts.dir(UNIFIED, "/").or_else(|| mounts.point(UNIFIED));
    let offers = unified.as_ref().and_then(|dir| fs::read_to_string(dir.join("cgroup.controllers")).ok());
    let offers = offers.unwrap_or_default();
    let always = unified.is_some().then(|| "cpuacct".to_owned());
    let mut all: Vec<String> =
        legacy.chain(offers.split_whitespace().map(str::to_owned)).chain(always).collect();
    // The same list has the mount's options.
    all.retain(|name| !["rw", "ro", "xattr", "clone_children", "noprefix"].contains(&name.as_str()));
    all.sort_unstable();
    all.dedup();
    Ok(all)
}

/// One mounted cgroup hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Mount {
    /// [`UNIFIED`] alone for version 2; a named hierarchy has `name=...`.
    controllers: Vec<String>,
    /// The mounted part of the hierarchy.
    root: String,
    point: PathBuf,
}

/// All mounted cgroup hierarchies.
#[derive(Debug, Clone, Default)]
pub(crate) struct Mounts(Vec<Mount>);

impl Mounts {
    /// Reads the mounted hierarchies of this process.
    ///
    /// # Errors
    /// When /proc can't be read.
    pub fn read() -> Result<Self, Error> {
        Ok(Self::parse(&read(Path::new("/proc/self/mountinfo"))?))
    }

    /// Ignores lines of other mounts, even broken ones.
    pub fn parse(mountinfo: &str) -> Self {
        Mounts(mountinfo.lines().filter_map(Mount::parse).collect())
    }

    /// The directory of a cgroup; None if it is outside of the mounted part or of this process's namespace.
    pub fn dir(&self, controller: &str, path: &str) -> Option<PathBuf> {
        if path.split('/').any(|name| name == "..") {
            return None;
        }
        self.0.iter().filter(|mount| mount.has(controller)).find_map(|mount| {
            match below(&mount.root, path)? {
                "" => Some(mount.point.clone()),
                rest => Some(mount.point.join(rest)),
            }
        })
    }

    pub(crate) fn hierarchy(&self) -> Option<Hierarchy> {
        let at = |controller: &str| self.dir(controller, "/").or_else(|| self.point(controller));
        let unified = at(UNIFIED);
        let offers = unified.as_ref().and_then(|dir| fs::read_to_string(dir.join("cgroup.controllers")).ok());
        let offers = offers.unwrap_or_default();
        let find = |name: &str| {
            at(name).or_else(|| unified.clone().filter(|_| offers.split_whitespace().any(|c| c == name)))
        };
        let legacy = ["cpu", "cpuacct", "memory", "pids"].iter().any(|name| at(name).is_some());
        if !legacy && unified.is_none() {
            return None;
        }
        Some(Hierarchy {
            version: if legacy { 1 } else { 2 },
            cpu: find("cpu"),
            cpuacct: at("cpuacct").or_else(|| unified.clone()),
            memory: find("memory"),
            pids: find("pids"),
        })
    }

    /// Where the controller is mounted, even if only a part of its hierarchy is (as in a container).
    fn point(&self, controller: &str) -> Option<PathBuf> {
        self.0.iter().find(|mount| mount.has(controller)).map(|mount| mount.point.clone())
    }
}

impl Mount {
    /// `31 23 0:28 ROOT POINT OPTIONS [TAGS...] - TYPE SOURCE OPTIONS`, as in proc(5).
    fn parse(line: &str) -> Option<Self> {
        let (left, right) = line.split_once(" - ")?;
        let mut left = left.split(' ').skip(3);
        let (root, point) = (unescape(left.next()?), unescape(left.next()?));
        let mut right = right.split(' ');
        let controllers = match right.next()? {
            "cgroup2" => vec![UNIFIED.to_owned()],
            // The options contain the controllers' names; no other option ("rw") is one.
            "cgroup" => right.nth(1)?.split(',').map(str::to_owned).collect(),
            _ => return None,
        };
        Some(Mount { controllers, root, point: point.into() })
    }

    fn has(&self, controller: &str) -> bool {
        self.controllers.iter().any(|name| name == controller)
    }
}

/// The cgroups of one process: one path for each hierarchy.
#[derive(Debug, Clone, Default)]
pub(crate) struct Places(Vec<(Vec<String>, String)>);

impl Places {
    /// Reads a process's cgroups.
    ///
    /// # Errors
    /// When the process has ended or its file can't be read.
    pub fn of(pid: u32) -> Result<Self, Error> {
        Ok(Self::parse(&read(Path::new(&format!("/proc/{pid}/cgroup")))?))
    }

    /// Lines of `ID:CONTROLLER,...:PATH`; version 2's line has no controllers, and a path may have colons.
    pub fn parse(text: &str) -> Self {
        let line = |line: &str| {
            let mut parts = line.splitn(3, ':').skip(1);
            let controllers = parts.next()?.split(',').map(str::to_owned).collect();
            Some((controllers, parts.next()?.to_owned()))
        };
        Places(text.lines().filter_map(line).collect())
    }

    pub fn path(&self, controller: &str) -> Option<&str> {
        self.0.iter().find(|(names, _)| names.iter().any(|name| name == controller)).map(|(_, path)| &**path)
    }

    /// The path of the cgroup of the process and its like; None if the process shares it with `harness`, since it then
    /// says nothing about the process.
    pub fn own(&self, controller: &str, harness: &Places) -> Option<&str> {
        let path = instance(self.path(controller)?);
        let shared = harness.path(controller).is_none_or(|ours| holds(path, ours));
        (path != "/" && !shared).then_some(path)
    }

    /// Whether the process is in the cgroup or one below it.
    pub fn within(&self, controller: &str, cgroup: &str) -> bool {
        self.path(controller).is_some_and(|path| holds(cgroup, path))
    }
}

/// The cgroup that contains the whole instance, from the leader's.
///
/// libvirt spreads QEMU's threads over `emulator`, `vcpuN` and `iothreadN` below the machine's
/// cgroup, under systemd with a `libvirt` in between. A systemd that is a container's PID 1 moves itself to an
/// `init.scope` below the container's cgroup.
fn instance(path: &str) -> &str {
    let numbered = |name: &str, prefix| {
        name.strip_prefix(prefix).is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
    };
    let mut path = path.strip_suffix("/init.scope").filter(|parent| !parent.is_empty()).unwrap_or(path);
    if let Some((parent, name)) = path.rsplit_once('/').filter(|(parent, _)| !parent.is_empty())
        && (name == "emulator" || numbered(name, "vcpu") || numbered(name, "iothread"))
    {
        path = parent;
    }
    path.strip_suffix("/libvirt").filter(|machine| machine.ends_with(".scope")).unwrap_or(path)
}

/// Whether the cgroup `outer` is `inner` or one above it.
fn holds(outer: &str, inner: &str) -> bool {
    below(outer, inner).is_some()
}

/// `inner` as seen from `outer`, without a slash in front.
fn below<'a>(outer: &str, inner: &'a str) -> Option<&'a str> {
    let rest = inner.strip_prefix(outer.trim_end_matches('/'))?;
    if rest.is_empty() { Some("") } else { rest.strip_prefix('/') }
}

/// Host pids of the processes in a cgroup and all below it.
///
/// # Errors
/// When the cgroup is gone or can't be read.
pub fn pids(dir: &Path) -> Result<Vec<u32>, Error> {
    let mut pids = Vec::new();
    collect_pids(dir, &mut pids)?;
    Ok(pids)
}

fn collect_pids(dir: &Path, pids: &mut Vec<u32>) -> Result<(), Error> {
    let path = dir.join("cgroup.procs");
    match fs::read_to_string(&path) {
        // 0 stands for a process outside of this pid namespace.
        Ok(text) => {
            pids.extend(text.lines().filter_map(|line| line.parse::<u32>().ok()).filter(|&pid| pid != 0))
        }
        // A threaded cgroup of version 2: the one above lists its processes.
        Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => {}
        Err(error) => return Err(Error::io(&path, &error)),
    }
    let entries = fs::read_dir(dir).map_err(|error| Error::io(dir, &error))?;
    for entry in entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
        match collect_pids(&entry.path(), pids) {
            Err(error) if !error.gone => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// CPU time of a cgroup and all below it. The file stays open, so that a reading is one system call.
#[derive(Debug)]
pub(crate) struct CpuTime {
    file: File,
    path: PathBuf,
    unified: bool,
}

impl CpuTime {
    /// `dir` is in version 1's cpuacct controller, or version 2's hierarchy if `unified`.
    ///
    /// # Errors
    /// When the file is missing or can't be opened.
    pub fn open(dir: &Path, unified: bool) -> Result<Self, Error> {
        let path = dir.join(if unified { "cpu.stat" } else { "cpuacct.usage" });
        let file = File::open(&path).map_err(|error| Error::io(&path, &error))?;
        Ok(CpuTime { file, path, unified })
    }

    /// CPU time in ns since the cgroup was made.
    ///
    /// # Errors
    /// When the file can't be read or its first line has no CPU time.
    pub fn read_ns(&self) -> Result<u64, Error> {
        // The first line has the figure.
        let mut buffer = [0; 128];
        let length = self.file.read_at(&mut buffer, 0).map_err(|error| Error::io(&self.path, &error))?;
        let text = String::from_utf8_lossy(&buffer[..length]);
        let first = text.lines().next().unwrap_or_default();
        let ns = if self.unified {
            first
                .strip_prefix("usage_usec ")
                .and_then(|usec| usec.parse::<u64>().ok())
                .map(|usec| usec.saturating_mul(1000))
        } else {
            first.parse().ok()
        };
        ns.ok_or_else(|| Error::new(&self.path, format!("no CPU time in its first line: {first:?}")))
    }
}

/// A file of `key value` lines.
pub(crate) struct Stat {
    path: PathBuf,
    text: String,
}

impl Stat {
    pub(crate) fn read(path: &Path) -> Result<Self, Error> {
        Ok(Stat { path: path.to_owned(), text: read(path)? })
    }

    pub(crate) fn find(&self, key: &str) -> Option<u64> {
        self.text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok())
    }

    fn get(&self, key: &str) -> Result<u64, Error> {
        self.find(key).ok_or_else(|| Error::new(&self.path, format!("has no {key:?} with a number")))
    }
}

#[cfg(test)]
mod tests;
