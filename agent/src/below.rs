//! The processes below the agent: all that the workload has started, orphans included, since the
//! agent adopts them. It finds them by their parents in /proc, the same way on every target.

use std::{collections::HashMap, fs, io, time::Duration};

use bootrace_agent::protocol::Readings;

use crate::sys;

/// A process's fields of `/proc/PID/stat`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stat {
    parent: u32,
    /// User and system time, with that of its reaped children, in ticks.
    ticks: u64,
    resident_pages: u64,
}

/// The fields after the name, which is in parentheses and may itself contain any byte.
fn parse(stat: &str) -> Option<Stat> {
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_ascii_whitespace().collect();
    // Field 3 of proc(5) is the first here.
    let field = |number: usize| fields.get(number - 3)?.parse::<i64>().ok();
    let ticks = (14..=17).map(field).sum::<Option<i64>>()?;
    Some(Stat {
        parent: u32::try_from(field(4)?).ok()?,
        ticks: ticks.max(0) as u64,
        resident_pages: field(24)?.max(0) as u64,
    })
}

fn all() -> io::Result<HashMap<u32, Stat>> {
    let pids = fs::read_dir("/proc")?.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    // A process may end between the listing and the reading.
    let stat = |pid: u32| {
        let text = fs::read(format!("/proc/{pid}/stat")).ok()?;
        Some((pid, parse(&String::from_utf8_lossy(&text))?))
    };
    Ok(pids.filter_map(stat).collect())
}

fn below(root: u32, all: &HashMap<u32, Stat>) -> Vec<u32> {
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    for (pid, stat) in all {
        children.entry(stat.parent).or_default().push(*pid);
    }
    let mut found = Vec::new();
    let mut next = vec![root];
    while let Some(parent) = next.pop() {
        // Taking each list out of the map ends even a walk over a snapshot that has a circle.
        let new = children.remove(&parent).unwrap_or_default();
        found.extend(&new);
        next.extend(new);
    }
    found
}

/// Processes that this kernel has killed for lack of memory since its start; 0 before Linux 4.13, which counts none.
pub fn oom_kills() -> u64 {
    let counters = fs::read_to_string("/proc/vmstat").unwrap_or_default();
    counters.lines().find_map(|line| line.strip_prefix("oom_kill ")?.parse().ok()).unwrap_or(0)
}

/// Memory and CPU of everything below the agent.
///
/// # Errors
/// When /proc can't be read.
pub fn readings() -> io::Result<Readings> {
    let all = all()?;
    let pids = below(std::process::id(), &all);
    let stats = || pids.iter().filter_map(|pid| all.get(pid));
    let resident: u64 = stats().map(|s| s.resident_pages).sum::<u64>() * sys::page_size();
    let ticks: u64 = stats().map(|s| s.ticks).sum();
    let cpu = Duration::from_nanos(ticks * (1_000_000_000 / sys::ticks_per_second())) + sys::reaped_cpu()?;
    Ok(Readings {
        workload_rss: (!pids.is_empty()).then_some(resident),
        workload_cpu_ns: Some(cpu.as_nanos() as u64),
        page_cache: fs::read_to_string("/proc/meminfo").ok().and_then(|text| page_cache(&text)),
    })
}

/// Cached files and block devices in bytes, from `/proc/meminfo`. Its `Cached` includes shared memory.
fn page_cache(meminfo: &str) -> Option<u64> {
    let find = |key: &str| {
        let value = meminfo.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
        value.trim().strip_suffix(" kB")?.parse::<u64>().ok()
    };
    Some((find("Cached")? + find("Buffers")?).saturating_sub(find("Shmem")?) * 1024)
}

/// Kills all processes below the agent and returns when none is left. `groups` are the process groups of its children:
/// it kills them first, before it walks /proc.
pub fn kill_all(groups: &[u32]) {
    for &group in groups {
        sys::kill(-(group as i32));
    }
    // Each turn kills all processes and waits for the end of one child; the children of a killed process become
    // the agent's.
    loop {
        let pids = all().map(|all| below(std::process::id(), &all)).unwrap_or_default();
        for &pid in &pids {
            sys::kill(pid as i32);
        }
        if sys::reap(true).is_none() {
            return;
        }
        while sys::reap(false).is_some() {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_name_with_parentheses_and_blanks_does_not_shift_the_fields() {
        let line = "7 (a) b (c)) S 3 7 7 0 -1 4194560 100 200 0 0 5 6 7 8 20 0 1 0 99 1000000 42 18446744073709551615 1";
        assert_eq!(parse(line), Some(Stat { parent: 3, ticks: 26, resident_pages: 42 }));
    }

    #[test]
    fn a_cut_line_is_no_process() {
        assert_eq!(parse("7 (sh) S 3 7 7"), None);
        assert_eq!(parse(""), None);
    }

    #[test]
    fn descendants_are_found_at_every_depth_and_a_circle_ends() {
        let tree = [(2, 1), (3, 2), (4, 3), (5, 1), (9, 8), (8, 9)];
        let all = tree
            .map(|(pid, parent)| (pid, Stat { parent, ticks: 0, resident_pages: 0 }))
            .into_iter()
            .collect();
        let mut found = below(2, &all);
        found.sort_unstable();
        assert_eq!(found, [3, 4]);
        assert_eq!(below(8, &all).len(), 2);
    }

    #[test]
    fn page_cache_is_files_and_block_devices_without_shared_memory() {
        let meminfo =
            "MemTotal:  99 kB\nBuffers:   8 kB\nCached:  100 kB\nSwapCached:  7 kB\nShmem:  30 kB\n";
        assert_eq!(page_cache(meminfo), Some(78 * 1024));
        assert_eq!(page_cache("Cached: 100 kB\n"), None);
    }
}
