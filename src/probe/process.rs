//! Processes: their memory, their CPU time, and their parents and children.

use std::{
    collections::{BTreeSet, HashMap},
    fs::{self, File},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use super::{Error, read};

/// Proportional set size in bytes: a page that n processes map counts as 1/n for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Pss {
    pub total: u64,
    pub anon: u64,
    pub file: u64,
    pub shmem: u64,
    /// Huge pages of the hugetlb pool: not in the fields above.
    pub hugetlb_private: u64,
    /// The same, also mapped by an unknown number of other processes.
    pub hugetlb_shared: u64,
    /// Swapped-out memory, with the process's share of shared pages: not in the fields above.
    pub swap: u64,
}

/// Reads `smaps_rollup` of a process, by its directory in /proc.
///
/// # Errors
/// When it is another user's process and this one is not root. A kernel before 5.3 does not separate anonymous from
/// file memory.
pub(crate) fn pss(dir: &Path) -> Result<Pss, Error> {
    let path = dir.join("smaps_rollup");
    let text = read(&path)?;
    let find = |key: &str| {
        text.lines().find_map(|line| {
            let kib: u64 =
                line.strip_prefix(key)?.strip_prefix(':')?.trim().strip_suffix(" kB")?.parse().ok()?;
            kib.checked_mul(1024)
        })
    };
    let get = |key: &str| {
        find(key).ok_or_else(|| Error::new(&path, format!("has no {key}: Linux 5.3 or later is needed")))
    };
    Ok(Pss {
        total: get("Pss")?,
        anon: get("Pss_Anon")?,
        file: get("Pss_File")?,
        shmem: get("Pss_Shmem")?,
        hugetlb_private: find("Private_Hugetlb").unwrap_or(0),
        hugetlb_shared: find("Shared_Hugetlb").unwrap_or(0),
        swap: find("SwapPss").unwrap_or(0),
    })
}

/// Checks on this process that the kernel separates anonymous from file memory.
///
/// # Errors
/// When the kernel is older than 5.3, or was built without it.
pub fn splits_memory() -> Result<(), Error> {
    pss(Path::new("/proc/self")).map(drop)
}

/// The used fields of `/proc/PID/stat`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stat {
    ppid: u32,
    /// CPU time of children that have ended and were waited for, in clock ticks.
    reaped_ticks: u64,
}

impl Stat {
    /// The second field is the program's name in parentheses, which may contain spaces and parentheses.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut fields = text.rsplit_once(')')?.1.split_ascii_whitespace();
        let ppid = fields.nth(1)?.parse().ok()?;
        let mut times = fields.skip(11).map(str::parse);
        let (cutime, cstime): (u64, u64) = (times.next()?.ok()?, times.next()?.ok()?);
        Some(Stat { ppid, reaped_ticks: cutime.saturating_add(cstime) })
    }
}

/// CPU time of one process and of its ended children. A reading takes two system calls.
#[derive(Debug)]
pub(super) struct CpuTime {
    clock: libc::clockid_t,
    stat: File,
    path: PathBuf,
    tick_ns: u64,
}

impl CpuTime {
    /// Opens the CPU time counters of a process.
    ///
    /// # Errors
    /// When the process has ended or its files can't be opened.
    pub fn open(pid: u32) -> Result<Self, Error> {
        let path = PathBuf::from(format!("/proc/{pid}/stat"));
        let stat = File::open(&path).map_err(|error| Error::io(&path, &error))?;
        Ok(CpuTime { clock: clock(pid, &path)?, stat, path, tick_ns: tick_ns() })
    }

    /// CPU time in ns: the process's own to the nanosecond, with its ended threads (which the sum of the threads'
    /// schedstat lacks), and its reaped children's to 10 ms.
    ///
    /// # Errors
    /// When the process has ended or a file can't be read.
    pub fn read_ns(&self) -> Result<u64, Error> {
        // A name has at most 64 bytes here, and the figure is among the next 15 numbers.
        let mut buffer = [0; 512];
        let length = self.stat.read_at(&mut buffer, 0).map_err(|error| Error::io(&self.path, &error))?;
        let stat = Stat::parse(&String::from_utf8_lossy(&buffer[..length]))
            .ok_or_else(|| Error::new(&self.path, "is not as proc(5) has it"))?;
        Ok(clock_ns(self.clock, &self.path)? + stat.reaped_ticks.saturating_mul(self.tick_ns))
    }
}

/// The clock that counts a process's CPU time.
#[expect(unsafe_code, reason = "rustix has no clock of another process")]
fn clock(pid: u32, path: &Path) -> Result<libc::clockid_t, Error> {
    let mut clock = 0;
    // SAFETY: the pointer is to a live clockid_t.
    match unsafe { libc::clock_getcpuclockid(pid as libc::pid_t, &mut clock) } {
        0 => Ok(clock),
        code => Err(Error::io(path, &std::io::Error::from_raw_os_error(code))),
    }
}

#[expect(unsafe_code, reason = "rustix has no clock of another process")]
fn clock_ns(clock: libc::clockid_t, path: &Path) -> Result<u64, Error> {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a live timespec.
    if unsafe { libc::clock_gettime(clock, &mut time) } != 0 {
        return Err(match std::io::Error::last_os_error() {
            // The kernel's error for a process that has ended.
            error if error.raw_os_error() == Some(libc::EINVAL) => {
                Error::io(path, &std::io::Error::from_raw_os_error(libc::ESRCH))
            }
            error => Error::io(path, &error),
        });
    }
    Ok(time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64)
}

/// Length of a clock tick, the unit of times in /proc.
pub(super) fn tick_ns() -> u64 {
    1_000_000_000 / rustix::param::clock_ticks_per_second().max(1)
}

/// Host pids of the programs that run under one of these names (`comm`), lowest first. One that has ended is none, though
/// it has its name until its parent reaps it; nor is a thread of the kernel.
pub fn named(names: &[&str]) -> Vec<u32> {
    let is_one = |pid: &u32| {
        let comm = fs::read_to_string(format!("/proc/{pid}/comm"));
        comm.is_ok_and(|comm| names.contains(&comm.trim_end_matches('\n'))) && !arguments(*pid).is_empty()
    };
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let mut pids: Vec<u32> =
        entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter(is_one).collect();
    pids.sort_unstable();
    pids
}

/// The processes of [`named`] that belong to this process's user and have all of these words as arguments.
pub fn named_with(name: &str, words: &[&str]) -> Vec<u32> {
    use std::os::unix::fs::MetadataExt;
    let ours = rustix::process::geteuid().as_raw();
    let mut pids = named(&[name]);
    pids.retain(|pid| {
        let owner = fs::metadata(format!("/proc/{pid}")).map(|about| about.uid());
        let arguments = arguments(*pid);
        owner.is_ok_and(|owner| owner == ours) && words.iter().all(|word| arguments.iter().any(|a| a == word))
    });
    pids
}

/// A process's program and arguments; empty if it has ended.
pub fn arguments(pid: u32) -> Vec<String> {
    let text = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    text.split('\0').filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

/// A process's cgroups, a line for each hierarchy, by its host pid.
///
/// # Errors
/// When it has ended.
pub fn cgroups(pid: u32) -> Result<String, Error> {
    read(Path::new(&format!("/proc/{pid}/cgroup")))
}

/// A process's open file with a path that ends with `end`; `None` if it has none or is another user's.
pub fn open_file(pid: u32, end: &str) -> Option<PathBuf> {
    let open = fs::read_dir(format!("/proc/{pid}/fd")).ok()?.flatten();
    open.filter_map(|fd| fs::read_link(fd.path()).ok()).find(|path| path.ends_with(end))
}

/// Host pids of all processes.
pub fn all() -> BTreeSet<u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// Host pids of the processes that are not in `before` and descend from one of `roots`, or are orphans; without
/// zombies. It finds an instance's processes by their being new, independently of the engine.
pub fn new_since(before: &BTreeSet<u32>, roots: &[u32]) -> Vec<u32> {
    let new = all().into_iter().filter(|pid| !before.contains(pid));
    new.filter(|pid| descends(*pid, before, roots) && !ended(*pid)).collect()
}

/// Whether a process has ended, reaped or not.
fn ended(pid: u32) -> bool {
    let stat = fs::read(format!("/proc/{pid}/stat")).unwrap_or_default();
    let stat = String::from_utf8_lossy(&stat);
    stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with(['Z', 'X']))
}

/// Anonymous and shared PSS in bytes of all processes that [`new_since`] finds.
///
/// # Errors
/// When a process can't be read, unless it ends meanwhile.
pub fn pss_of_new(before: &BTreeSet<u32>, roots: &[u32]) -> Result<u64, Error> {
    let mut sum = 0;
    for pid in new_since(before, roots) {
        match pss(&PathBuf::from(format!("/proc/{pid}"))) {
            Ok(pss) => sum += pss.anon + pss.shmem,
            // A process that is about to end has released its memory, and may end only now.
            Err(error) if error.gone || !has_memory(pid) || ended(pid) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(sum)
}

/// False if the kernel has released the process's memory already, shortly before its end.
fn has_memory(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/statm")).is_ok_and(|statm| !statm.starts_with("0 "))
}

/// Whether the first ancestor that is not new is one of `roots`, or adopts orphans.
fn descends(pid: u32, before: &BTreeSet<u32>, roots: &[u32]) -> bool {
    let (mut ancestor, mut top) = (pid, pid);
    while !before.contains(&ancestor) {
        match parent(ancestor) {
            Some(above) if above != ancestor => (ancestor, top) = (above, ancestor),
            _ => return false,
        }
    }
    match ancestor {
        // PID 1 adopts all orphans, whether it is a daemon's parent or not.
        1 => !is_of_others(top, roots),
        _ => roots.contains(&ancestor),
    }
}

/// Whether its cgroups show that another program started it.
fn is_of_others(pid: u32, roots: &[u32]) -> bool {
    let groups = |pid: u32| fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    let own = groups(std::process::id());
    let of_roots: Vec<String> = roots.iter().filter(|root| **root != 1).map(|root| groups(*root)).collect();
    let its = groups(pid);
    if of_roots.contains(&its)
        || service_of(&its).is_some_and(|its| of_roots.iter().any(|root| service_of(root) == Some(its)))
    {
        return false;
    }
    is_of_another_service(&its, &of_roots) || is_beside(&its, &own)
}

/// Whether it belongs to a systemd service that none of `roots` is in, such as a timer's job.
fn is_of_another_service(its: &str, roots: &[String]) -> bool {
    service_of(its).is_some_and(|service| roots.iter().all(|root| service_of(root) != Some(service)))
}

/// Whether its cgroup is a sibling of this process's, not directly below the root, such as another login's session:
/// then the program that started bootrace started it too.
fn is_beside(its: &str, own: &str) -> bool {
    its.lines().zip(own.lines()).any(|(its, own)| {
        let above = |line: &str| line.rsplit_once('/').map(|(above, _)| above.to_owned());
        its != own && above(its) == above(own) && above(its).is_some_and(|above| above.contains('/'))
    })
}

/// The innermost systemd service in a process's cgroup paths.
fn service_of(groups: &str) -> Option<&str> {
    groups.lines().filter_map(|line| line.rsplit_once(':')).find_map(|(_, path)| {
        let last = path.rsplit('/').find(|name| name.ends_with(".service") || name.ends_with(".scope"))?;
        last.ends_with(".service").then_some(last)
    })
}

/// Host pid of a process's parent; `None` if it has ended.
pub fn parent(pid: u32) -> Option<u32> {
    let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
    Some(Stat::parse(&String::from_utf8_lossy(&stat))?.ppid)
}

/// A process and all its descendants, from a scan of /proc.
pub(super) fn tree(leader: u32) -> Result<Vec<u32>, Error> {
    tree_in(Path::new("/proc"), leader)
}

fn tree_in(proc: &Path, leader: u32) -> Result<Vec<u32>, Error> {
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    let entries = fs::read_dir(proc).map_err(|error| Error::io(proc, &error))?;
    for entry in entries.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        // A process that ends during the scan has nothing to count any more.
        let stat = fs::read(entry.path().join("stat")).ok();
        if let Some(stat) = stat.and_then(|text| Stat::parse(&String::from_utf8_lossy(&text))) {
            children.entry(stat.ppid).or_default().push(pid);
        }
    }
    let mut tree = vec![leader];
    let mut next = 0;
    while let Some(&pid) = tree.get(next) {
        tree.extend(children.remove(&pid).unwrap_or_default());
        next += 1;
    }
    Ok(tree)
}

#[cfg(test)]
mod tests;
