//! Processes: what they hold of memory, what they used of CPU time, who is whose child.

use std::{
    collections::{BTreeSet, HashMap},
    fs::{self, File},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use super::{Error, read};

/// Proportional set size in bytes: a page that n processes map counts as 1/n for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Pss {
    pub total: u64,
    pub anon: u64,
    pub file: u64,
    pub shmem: u64,
    /// Huge pages of the hugetlb pool: in none of the above.
    pub hugetlb_private: u64,
    /// The same, mapped by another process too; how many is not known.
    pub hugetlb_shared: u64,
}

/// Reads `smaps_rollup` of a process, given its directory in /proc.
///
/// # Errors
/// Another user's process takes root; a kernel before 5.3 does not tell anonymous from file memory.
pub(super) fn pss(dir: &Path) -> Result<Pss, Error> {
    let path = dir.join("smaps_rollup");
    let text = read(&path)?;
    let find = |key: &str| {
        text.lines().find_map(|line| {
            let kib: u64 =
                line.strip_prefix(key)?.strip_prefix(':')?.trim().strip_suffix(" kB")?.parse().ok()?;
            Some(kib * 1024)
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
    })
}

/// Whether this kernel tells anonymous from file memory, tried on this process.
///
/// # Errors
/// When it does not: before Linux 5.3, or built without it.
pub fn splits_memory() -> Result<(), Error> {
    pss(Path::new("/proc/self")).map(drop)
}

/// What is used of `/proc/PID/stat`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stat {
    ppid: u32,
    /// CPU time of children that ended and were waited for, in clock ticks.
    reaped_ticks: u64,
}

impl Stat {
    /// The second field is the program's name in parentheses, and may hold spaces and parentheses.
    fn parse(text: &str) -> Option<Self> {
        let mut fields = text.rsplit_once(')')?.1.split_ascii_whitespace();
        let ppid = fields.nth(1)?.parse().ok()?;
        let mut times = fields.skip(11).map(str::parse);
        let (cutime, cstime): (u64, u64) = (times.next()?.ok()?, times.next()?.ok()?);
        Some(Stat { ppid, reaped_ticks: cutime + cstime })
    }
}

/// CPU time of one process and of its children that have ended; readings are two system calls.
#[derive(Debug)]
pub(super) struct CpuTime {
    clock: libc::clockid_t,
    stat: File,
    path: PathBuf,
    tick_ns: u64,
}

impl CpuTime {
    pub fn open(pid: u32) -> Result<Self, Error> {
        let path = PathBuf::from(format!("/proc/{pid}/stat"));
        let stat = File::open(&path).map_err(|error| Error::io(&path, &error))?;
        Ok(CpuTime { clock: clock(pid, &path)?, stat, path, tick_ns: tick_ns() })
    }

    /// CPU time in ns: the process's own to the nanosecond, its ended threads included (the sum of
    /// its threads' schedstat would lose them), and its reaped children's to 10 ms.
    pub fn read_ns(&self) -> Result<u64, Error> {
        // A name has at most 64 bytes here, and what is looked for stands among the next 15 numbers.
        let mut buffer = [0; 512];
        let length = self.stat.read_at(&mut buffer, 0).map_err(|error| Error::io(&self.path, &error))?;
        let stat = Stat::parse(&String::from_utf8_lossy(&buffer[..length]))
            .ok_or_else(|| Error::new(&self.path, "is not as proc(5) has it"))?;
        Ok(clock_ns(self.clock, &self.path)? + stat.reaped_ticks * self.tick_ns)
    }
}

/// The clock that counts a process's CPU time.
fn clock(pid: u32, path: &Path) -> Result<libc::clockid_t, Error> {
    let mut clock = 0;
    // SAFETY: the pointer is to a live clockid_t.
    match unsafe { libc::clock_getcpuclockid(pid as libc::pid_t, &mut clock) } {
        0 => Ok(clock),
        code => Err(Error::io(path, &std::io::Error::from_raw_os_error(code))),
    }
}

fn clock_ns(clock: libc::clockid_t, path: &Path) -> Result<u64, Error> {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a live timespec.
    if unsafe { libc::clock_gettime(clock, &mut time) } != 0 {
        return Err(match std::io::Error::last_os_error() {
            // How the kernel says that the clock's process is no more.
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
    // SAFETY: no preconditions.
    let per_second = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    1_000_000_000 / u64::try_from(per_second).unwrap_or(100).max(1)
}

/// Host pids of the processes that run under one of these names (`comm`), lowest first.
pub fn named(names: &[&str]) -> Vec<u32> {
    let is_one = |pid: &u32| {
        let comm = fs::read_to_string(format!("/proc/{pid}/comm"));
        comm.is_ok_and(|comm| names.contains(&comm.trim_end_matches('\n')))
    };
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let mut pids: Vec<u32> =
        entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter(is_one).collect();
    pids.sort_unstable();
    pids
}

/// Those of [`named`] that are of our own user and have all of these words among their arguments.
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

/// A process's program and arguments; none of one that is gone.
pub fn arguments(pid: u32) -> Vec<String> {
    let text = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    text.split('\0').filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

/// Host pids of all processes.
pub fn all() -> BTreeSet<u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// Host pids of the processes that came after `before` and descend from one of `roots`, or from nobody any more; those
/// that have ended and are only not reaped yet are none. Nobody is asked where an instance's processes are: they are
/// found by what is new.
pub fn new_since(before: &BTreeSet<u32>, roots: &[u32]) -> Vec<u32> {
    let new = all().into_iter().filter(|pid| !before.contains(pid));
    new.filter(|pid| descends(*pid, before, roots) && !ended(*pid)).collect()
}

/// Whether a process is gone, or only waits for its parent to ask what became of it.
fn ended(pid: u32) -> bool {
    let stat = fs::read(format!("/proc/{pid}/stat")).unwrap_or_default();
    let stat = String::from_utf8_lossy(&stat);
    stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with(['Z', 'X']))
}

/// Anonymous and shared PSS in bytes of all that [`new_since`] finds.
///
/// # Errors
/// When a process can't be read, but for those that end meanwhile.
pub fn held_by_new(before: &BTreeSet<u32>, roots: &[u32]) -> Result<u64, Error> {
    let mut sum = 0;
    for pid in new_since(before, roots) {
        match pss(&PathBuf::from(format!("/proc/{pid}"))) {
            Ok(pss) => sum += pss.anon + pss.shmem,
            // One that is about to end has no memory left to tell of, and may end only now.
            Err(error) if error.gone || !has_memory(pid) || ended(pid) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(sum)
}

/// False for what has let go of its memory, as the kernel does before a process ends.
fn has_memory(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/statm")).is_ok_and(|statm| !statm.starts_with("0 "))
}

/// Whether the first ancestor that is not new is one of `roots`, or the one that takes orphans.
fn descends(pid: u32, before: &BTreeSet<u32>, roots: &[u32]) -> bool {
    let (mut ancestor, mut top) = (pid, pid);
    while !before.contains(&ancestor) {
        match parent(ancestor) {
            Some(above) if above != ancestor => (ancestor, top) = (above, ancestor),
            _ => return false,
        }
    }
    match ancestor {
        // Everybody's orphans come to it, a daemon's parent or not.
        1 => !is_of_others(top, roots),
        _ => roots.contains(&ancestor),
    }
}

/// Whether its cgroups say that somebody else started it.
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

/// Whether systemd started it as a part of a service that none of `roots` is in: a timer's job, say.
fn is_of_another_service(its: &str, roots: &[String]) -> bool {
    service_of(its).is_some_and(|service| roots.iter().all(|root| service_of(root) != Some(service)))
}

/// Whether it has a cgroup beside our own below one that is not the root: who started us started it too, as another
/// login's session.
fn is_beside(its: &str, own: &str) -> bool {
    its.lines().zip(own.lines()).any(|(its, own)| {
        let above = |line: &str| line.rsplit_once('/').map(|(above, _)| above.to_owned());
        its != own && above(its) == above(own) && above(its).is_some_and(|above| above.contains('/'))
    })
}

/// The innermost unit of systemd's in a process's cgroup paths that is a service.
fn service_of(groups: &str) -> Option<&str> {
    groups.lines().filter_map(|line| line.rsplit_once(':')).find_map(|(_, path)| {
        let last = path.rsplit('/').find(|name| name.ends_with(".service") || name.ends_with(".scope"))?;
        last.ends_with(".service").then_some(last)
    })
}

/// Host pid of a process's parent; `None` when it is gone.
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
        // Whoever ends while we look has nothing to count any more.
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
mod tests {
    use super::*;

    #[test]
    fn a_program_name_with_spaces_and_parentheses_does_not_shift_the_fields() {
        let stat = "25514 (a) S 1 (b) (x) S 3940 25513 25513 0 -1 138412416 18436 0 17 0 476 57 30 12 20 0 4 0 \
                    117260 1661751296 54594 18446744073709551615";
        assert_eq!(Stat::parse(stat), Some(Stat { ppid: 3940, reaped_ticks: 42 }));
    }

    #[test]
    fn a_cut_off_stat_is_not_believed() {
        assert_eq!(Stat::parse("25514 (qemu-system-x86) S 3940 25513 25513 0 -1 13841"), None);
        assert_eq!(Stat::parse("25514 (qemu-system-x86"), None);
    }

    #[test]
    fn proportional_sizes_come_apart_and_hugetlb_pages_are_seen() {
        let dir = tempfile::tempdir().unwrap();
        let rollup = "55a860c9f000-7ffe7c9ab000 ---p 00000000 00:00 0                          [rollup]\n\
            Rss:              218360 kB\nPss:              213535 kB\nPss_Dirty:        195672 kB\n\
            Pss_Anon:         195668 kB\nPss_File:          17862 kB\nPss_Shmem:             5 kB\n\
            Shared_Hugetlb:        4 kB\nPrivate_Hugetlb:    2048 kB\nSwap:                  0 kB\n";
        fs::write(dir.path().join("smaps_rollup"), rollup).unwrap();
        let expected = Pss {
            total: 213_535 << 10,
            anon: 195_668 << 10,
            file: 17_862 << 10,
            shmem: 5 << 10,
            hugetlb_private: 2 << 20,
            hugetlb_shared: 4 << 10,
        };
        assert_eq!(pss(dir.path()).unwrap(), expected);
    }

    #[test]
    fn a_kernel_that_does_not_split_the_size_is_named_as_the_reason() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("smaps_rollup"), "Rss: 8 kB\nPss:  8 kB\n").unwrap();
        let error = pss(dir.path()).unwrap_err();
        assert!(!error.gone);
        assert!(error.to_string().contains("smaps_rollup: has no Pss_Anon: Linux 5.3"), "{error}");
    }

    #[test]
    fn a_process_without_a_directory_is_gone_and_its_file_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let error = pss(&dir.path().join("4711")).unwrap_err();
        assert!(error.gone);
        assert!(error.path.ends_with("4711/smaps_rollup"), "{error}");
    }

    #[test]
    fn the_tree_has_all_descendants_and_nobody_else() {
        let proc = tempfile::tempdir().unwrap();
        for (pid, ppid) in [(1, 0), (7, 1), (20, 7), (21, 20), (22, 20), (30, 1)] {
            let dir = proc.path().join(pid.to_string());
            fs::create_dir(&dir).unwrap();
            let stat = format!("{pid} (x) S {ppid} 1 1 0 -1 4 1 0 1 0 4 5 0 0 20 0 4 0 1 1 1");
            fs::write(dir.join("stat"), stat).unwrap();
        }
        fs::create_dir(proc.path().join("sys")).unwrap();
        let mut tree = tree_in(proc.path(), 7).unwrap();
        tree.sort_unstable();
        assert_eq!(tree, [7, 20, 21, 22]);
    }

    #[test]
    fn cpu_time_of_a_process_includes_threads_that_have_ended() {
        let me = CpuTime::open(std::process::id()).unwrap();
        let before = me.read_ns().unwrap();
        let burnt = std::thread::spawn(|| {
            let mut own = 0;
            while own < 50_000_000 {
                own = clock_ns(libc::CLOCK_THREAD_CPUTIME_ID, Path::new("thread")).unwrap();
            }
            own
        });
        let burnt = burnt.join().unwrap();
        assert!(me.read_ns().unwrap() - before >= burnt);
    }

    #[test]
    fn a_process_that_has_ended_has_no_cpu_time() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let cpu = CpuTime::open(child.id()).unwrap();
        child.wait().unwrap();
        assert!(cpu.read_ns().unwrap_err().gone);
    }

    #[test]
    fn a_scope_is_no_service_and_the_innermost_unit_counts() {
        assert_eq!(service_of("0::/system.slice/cron.service\n"), Some("cron.service"));
        assert_eq!(service_of("0::/system.slice/docker-0a1b.scope\n"), None);
        assert_eq!(service_of("0::/user.slice/user@0.service/app.slice/run-1.scope\n"), None);
        assert_eq!(service_of("5:cpu:/docker/0a1b\n1:name=systemd:/init.scope\n"), None);
    }

    #[test]
    fn what_our_own_starter_started_beside_us_is_somebody_elses() {
        let own = "4:memory:/sessions/a\n0::/\n";
        assert!(is_beside("4:memory:/sessions/b\n0::/\n", own));
        assert!(!is_beside(own, own));
        assert!(!is_beside("4:memory:/docker/b\n0::/\n", own));
        // What lies below the root has nothing in common.
        assert!(!is_beside("0::/docker.service\n", "0::/login\n"));
    }

    #[test]
    fn new_are_our_own_children_and_theirs_until_they_end() {
        let before = all();
        let mut child = std::process::Command::new("sh").args(["-c", "sleep 60 & wait"]).spawn().unwrap();
        let roots = [std::process::id()];
        let mut new = Vec::new();
        while new.len() < 2 {
            new = new_since(&before, &roots);
        }
        assert!(new.contains(&child.id()) && held_by_new(&before, &roots).unwrap() > 0);
        assert_eq!(new_since(&before, &[u32::MAX]), [] as [u32; 0], "of nobody else");
        for pid in new {
            let pid = rustix::process::Pid::from_raw(pid as i32).unwrap();
            rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        }
        while child.try_wait().unwrap().is_none() {}
    }
}
