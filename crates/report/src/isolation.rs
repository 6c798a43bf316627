//! The instances' isolation from their host, as rows of a table: observations without a verdict, the same in every
//! output.

use super::text::{self, NOTHING};
use crate::{
    analysis::{Fact, is_measured},
    sample::{Isolation, Results, Sample},
};

/// A row: a cell for each of the results' targets.
pub struct Row {
    pub label: &'static str,
    /// Explanation of the row.
    pub about: &'static str,
    pub cells: Vec<String>,
}

/// Longest cell, in characters.
const CELL: usize = 160;
/// A memory limit above this means none: version 1 of cgroups writes the largest number of pages.
const UNLIMITED: u64 = 1 << 60;

/// The rows with an observation; empty without any.
pub fn rows(results: &Results) -> Vec<Row> {
    let seen: Vec<Option<&Sample>> =
        results.targets.iter().map(|target| first(results, &target.name)).collect();
    if seen.iter().all(Option::is_none) {
        return Vec::new();
    }
    let mut rows = Vec::new();
    for (label, about, cell) in ROWS {
        let cells: Vec<String> = seen
            .iter()
            .map(|sample| {
                let shown = sample.and_then(|sample| cell(sample, sample.isolation.as_ref()?, results));
                shown.map_or_else(|| NOTHING.into(), |shown| text::clip(&shown, CELL))
            })
            .collect();
        if cells.iter().any(|cell| cell != NOTHING) {
            rows.push(Row { label, about, cells });
        }
    }
    rows
}

/// The first good sample of a target with observations.
fn first<'a>(results: &'a Results, target: &str) -> Option<&'a Sample> {
    results.samples.iter().find(|s| s.target == target && is_measured(s) && s.isolation.is_some())
}

type Cell = fn(&Sample, &Isolation, &Results) -> Option<String>;

const ROWS: [(&str, &str, Cell); 17] = [
    (
        "kernel",
        "By comparison of the boot id inside with the host's. A shared kernel is the only isolation of its instances.",
        |sample, _, results| {
            let shared = Fact::KernelShared.of(sample, results)?;
            let release = &sample.identity.as_ref()?.kernel_release;
            Some(format!("{}: {release}", if shared { "the host's" } else { "its own" }))
        },
    ),
    (
        "processes in sight",
        "Number in /proc inside and on the host, and whether bootrace's own host process is visible inside, by pid and start time.",
        |_, seen, _| {
            let all = seen.host_processes.map(|n| format!(" (host: {n})")).unwrap_or_default();
            let host = match seen.sees_host_process {
                Some(true) => ", including the host's",
                Some(false) => ", none of the host's",
                None => "",
            };
            Some(format!("{}{all}{host}", seen.processes?))
        },
    ),
    (
        "namespaces of its own",
        "Kinds in /proc/PID/ns with another number than those of the host's first process. An instance with its own kernel has \
         all kinds; a bare process has the mounts that bootrace makes for it.",
        |_, seen, _| kinds(seen, false),
    ),
    ("namespaces shared with the host", "The other kinds, whose resources are the host's.", |_, seen, _| {
        kinds(seen, true)
    }),
    (
        "page cache",
        "By a test: the host drops a page of the image and reads it again, then the agent checks whether the instance has it \
         cached. A shared cache has one copy for all instances, and shows each what others have read.",
        |sample, _, results| {
            // The kernel does not always drop the page: the first sample in which it did decides.
            let of_target = results.samples.iter().filter(|s| s.target == sample.target && is_measured(s));
            let shared = of_target.filter_map(|s| s.isolation.as_ref()?.page_cache_shared).next()?;
            Some(if shared { "the host's, shared" } else { "its own" }.into())
        },
    ),
    (
        "memory limit, seen inside",
        "From its cgroup's file, where that is visible inside. Absent does not mean unlimited: a VM's limit is its memory.",
        |_, seen, _| {
            let limit = seen.memory_limit.as_ref()?;
            Some(match limit.parse::<u64>() {
                Ok(bytes) if bytes < UNLIMITED => text::value(crate::analysis::Unit::Size, bytes as f64),
                Ok(_) => "none".into(),
                Err(_) => limit.clone(),
            })
        },
    ),
    ("CPU quota, seen inside", "Quota and period in µs, as cpu.max has it.", |_, seen, _| {
        seen.cpu_limit.clone()
    }),
    ("CPUs that it may use", "Numbered by its own kernel.", |_, seen, _| {
        seen.cpus_allowed.as_ref().map(|list| format!("CPU {list}"))
    }),
    ("devices", "Number of names in /dev, and the first of them.", |sample, seen, results| {
        list(seen.devices, latest(sample, results, |i| &i.device_names))
    }),
    (
        "block devices",
        "Names in /sys/block: disks that its kernel knows, whether or not it may open them.",
        |sample, seen, results| list(seen.block_devices, latest(sample, results, |i| &i.block_device_names)),
    ),
    (
        "capabilities",
        "Effective capabilities of the workload's process, as a bit set, and how many it could ever get.",
        |_, seen, _| {
            let bounding = seen.capabilities_bounding.map(|set| format!(", of at most {}", set.count_ones()));
            let set = seen.capabilities?;
            Some(format!("{} ({set:#x}){}", set.count_ones(), bounding.unwrap_or_default()))
        },
    ),
    (
        "system calls filtered",
        "Seccomp mode of the workload's process. A filter reduces the attack surface of the shared kernel.",
        |_, seen, _| {
            Some(match seen.seccomp? {
                0 => "no".into(),
                1 => "all but four".into(),
                2 => "by a filter".into(),
                other => format!("mode {other}"),
            })
        },
    ),
    ("no new privileges", "Whether set-user-ID programs have no effect for it.", |_, seen, _| {
        Some(yes_or_no(seen.no_new_privileges?))
    }),
    ("security label", "From AppArmor, SELinux or another security module.", |_, seen, _| {
        seen.security_label.clone()
    }),
    (
        "user",
        "Effective user id in its own user namespace. 0 in the host's user namespace is root on the host.",
        |_, seen, _| {
            Some(format!(
                "{}{}",
                seen.uid?,
                if seen.of_workload { "" } else { " (the agent's: the workload had ended)" }
            ))
        },
    ),
    ("root file system", "Its type, and whether the instance may write there.", |_, seen, _| {
        let kind = seen.root_type.as_deref().unwrap_or("unknown");
        Some(format!("{kind}, {}", if seen.root_writable { "writable" } else { "read-only" }))
    }),
    ("/sys writable", "If so, root inside can change the kernel's settings there.", |_, seen, _| {
        Some(yes_or_no(seen.sys_writable))
    }),
];

fn yes_or_no(is: bool) -> String {
    if is { "yes" } else { "no" }.into()
}

/// Names of the namespaces that are shared or not; "none" where it is known for some and true for none.
fn kinds(seen: &Isolation, shared: bool) -> Option<String> {
    let known = || seen.namespaces.iter().filter(|n| n.shared.is_some());
    known().next()?;
    let kinds: Vec<&str> = known().filter(|n| n.shared == Some(shared)).map(|n| n.kind.as_str()).collect();
    Some(if kinds.is_empty() { "none".into() } else { kinds.join(" ") })
}

/// Names from the sample, or from the latest earlier one of its target where it leaves them out.
fn latest<'a>(
    sample: &'a Sample,
    results: &'a Results,
    names: fn(&Isolation) -> &Option<Vec<String>>,
) -> &'a [String] {
    let until = results.samples.iter().position(|other| std::ptr::eq(other, sample)).map_or(0, |at| at + 1);
    let of_target = results.samples[..until].iter().rev().filter(|other| other.target == sample.target);
    let mut named = of_target.filter_map(|other| names(other.isolation.as_ref()?).as_deref());
    named.next().unwrap_or_default()
}

fn list(count: Option<u32>, names: &[String]) -> Option<String> {
    let count = count?;
    Some(if names.is_empty() { count.to_string() } else { format!("{count}: {}", names.join(" ")) })
}
