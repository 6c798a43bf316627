//! The host's side of an instance's isolation: the facts that an instance's view is compared with.

use std::{fs, path::Path};

use super::{Error, read};

/// The host's facts at one time.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Host {
    pub boot_id: Option<String>,
    /// Number of processes in this host's `/proc`.
    pub processes: Option<u32>,
    /// The namespaces of its first process, by kind. If they can't be read, this process's own, with its parent's mount
    /// namespace.
    pub namespaces: Vec<(String, u64)>,
}

/// This process's pid in the host's /proc, and its start in clock ticks since boot.
///
/// # Errors
/// When /proc can't be read or has an unknown form.
pub fn this_process() -> Result<(u32, u64), Error> {
    let path = Path::new("/proc/self/stat");
    let text = read(path)?;
    started(&text).ok_or_else(|| Error::new(path, "its form is not known"))
}

/// Fields 1 and 22 of proc(5). The name between them is in parentheses and may contain anything.
fn started(stat: &str) -> Option<(u32, u64)> {
    let (own, rest) = stat.rsplit_once(')')?;
    let pid = own.split_once(' ')?.0.parse().ok()?;
    Some((pid, rest.split_ascii_whitespace().nth(22 - 3)?.parse().ok()?))
}

/// Reads the facts; those that can't be read are left out.
pub fn host() -> Host {
    Host {
        boot_id: read(Path::new("/proc/sys/kernel/random/boot_id")).ok().map(|id| id.trim().to_owned()),
        processes: processes(),
        namespaces: namespaces(),
    }
}

fn processes() -> Option<u32> {
    let entries = fs::read_dir("/proc").ok()?.flatten();
    let numbers = entries.filter(|e| e.file_name().to_str().is_some_and(|name| name.parse::<u32>().is_ok()));
    u32::try_from(numbers.count()).ok()
}

/// Prefers the first process's namespaces: bootrace has its own mount namespace for the native target. The first
/// process may be in an outer user namespace, in which case even root can't read them.
fn namespaces() -> Vec<(String, u64)> {
    let of_first = namespaces_of("/proc/1/ns");
    if !of_first.is_empty() {
        return of_first;
    }
    let mut own = namespaces_of("/proc/self/ns");
    own.retain(|(kind, _)| kind != "mnt");
    let parent = rustix::process::getppid().map_or(0, |pid| pid.as_raw_pid());
    own.extend(namespaces_of(&format!("/proc/{parent}/ns")).into_iter().filter(|(kind, _)| kind == "mnt"));
    own
}

fn namespaces_of(dir: &str) -> Vec<(String, u64)> {
    let number = |link: &str| link.split_once(":[")?.1.strip_suffix(']')?.parse().ok();
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let of = |entry: fs::DirEntry| {
        let link = fs::read_link(entry.path()).ok()?;
        Some((entry.file_name().to_str()?.to_owned(), number(link.to_str()?)?))
    };
    entries.filter_map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_identified_by_pid_and_start() {
        let (pid, ticks) = this_process().unwrap();
        assert_eq!(pid, std::process::id());
        assert!(ticks > 0);
        let stat = "7 (a) b (c)) S 3 7 7 0 -1 4194560 100 200 0 0 5 6 7 8 20 0 1 0 991 1000000 42";
        assert_eq!(started(stat), Some((7, 991)));
        assert_eq!(started("7 (sh) S 3"), None);
    }

    #[test]
    fn the_host_sees_its_processes_this_one_among_them() {
        let host = host();
        assert!(host.processes.unwrap() > 0);
        assert_eq!(host.boot_id.unwrap().len(), 36);
        let pid = fs::read_link("/proc/self/ns/pid").unwrap().display().to_string();
        let number = host.namespaces.iter().find(|(kind, _)| kind == "pid").unwrap().1;
        assert_eq!(pid, format!("pid:[{number}]"));
    }
}
