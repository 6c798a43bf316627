//! Collects the view from inside, once, after ready. A value that can't be read is left out.

use std::{
    fs::{self, File},
    io::Read,
    path::Path,
};

use bootrace_agent::{
    isolation::{Introspect, Isolation, NAME, NAMES, Names, Process, TEXT},
    protocol::IMAGE_DIGEST_PATH,
};

use crate::sys;

/// Most bytes to read of a file: those of /proc and /sys are far smaller, but a guest can put any file there.
const MOST: u64 = 256 * 1024;
const CGROUPS: &str = "/sys/fs/cgroup";

/// Collects all. `workload`: its pid as long as it runs.
pub fn introspect(wanted: &Introspect, workload: Option<u32>) -> Isolation {
    let pid = workload.unwrap_or_else(std::process::id);
    let cgroups = read(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    let mounts = read("/proc/self/mountinfo").unwrap_or_default();
    Isolation {
        processes: processes(),
        sees_process: sees(wanted),
        namespaces: namespaces(pid),
        memory_limit: memory_limit(&cgroups),
        cpu_limit: cpu_limit(&cgroups),
        devices: names("/dev"),
        block_devices: names("/sys/block"),
        process: Process {
            is_workload: workload.is_some(),
            security_label: read(format!("/proc/{pid}/attr/current")).and_then(|text| label(&text)),
            ..status(&read(format!("/proc/{pid}/status")).unwrap_or_default())
        },
        root_type: root_type(&mounts).map(bounded),
        root_writable: sys::may_write(Path::new("/")),
        sys_writable: sys::may_write(Path::new("/sys")) && !mounted_read_only(&mounts, "/sys"),
    }
}

/// Whether the first page of the image's digest is in the page cache of this kernel, without reading it.
pub fn is_cached() -> Option<bool> {
    sys::first_page_is_cached(&File::open(IMAGE_DIGEST_PATH).ok()?).ok()
}

pub fn read(path: impl AsRef<Path>) -> Option<String> {
    let mut bytes = Vec::new();
    File::open(path).ok()?.take(MOST).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

fn bounded(text: impl Into<String>) -> String {
    let mut text = text.into();
    text.truncate(text.floor_char_boundary(TEXT));
    text
}

fn processes() -> Option<u32> {
    let numbers = fs::read_dir("/proc").ok()?.flatten();
    let numbers = numbers.filter(|e| e.file_name().to_str().is_some_and(|name| name.parse::<u32>().is_ok()));
    u32::try_from(numbers.count()).ok()
}

fn sees(wanted: &Introspect) -> bool {
    let stat = read(format!("/proc/{}/stat", wanted.pid));
    stat.and_then(|stat| started_ticks(&stat)) == Some(wanted.started_ticks)
}

/// Field 22 of proc(5); the name before it is in parentheses and may hold anything.
fn started_ticks(stat: &str) -> Option<u64> {
    stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(22 - 3)?.parse().ok()
}

fn namespaces(pid: u32) -> Vec<(String, u64)> {
    let kinds = ["cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"];
    let of = |kind: &str| {
        let link = fs::read_link(format!("/proc/{pid}/ns/{kind}")).ok()?;
        Some((kind.to_owned(), namespace(link.to_str()?)?))
    };
    kinds.into_iter().filter_map(of).collect()
}

/// The number in `pid:[4026531836]`.
fn namespace(link: &str) -> Option<u64> {
    link.split_once(":[")?.1.strip_suffix(']')?.parse().ok()
}

fn names(dir: &str) -> Names {
    let Ok(entries) = fs::read_dir(dir) else { return Names::default() };
    let mut names: Vec<String> =
        entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    let count = u32::try_from(names.len()).ok();
    names.truncate(NAMES);
    for name in &mut names {
        name.truncate(name.floor_char_boundary(NAME));
    }
    Names { count, names }
}

/// The text of a file of the process's cgroup: from its own directory where the whole hierarchy is mounted, from the
/// mount's root where a container sees its own subtree alone.
fn first_of(controllers: &[&str], path: &str, file: &str) -> Option<String> {
    let roots = controllers.iter().map(|controller| format!("{CGROUPS}/{controller}"));
    let dirs = roots.flat_map(|root| [format!("{root}{path}"), root]);
    let text = dirs.into_iter().find_map(|dir| read(format!("{dir}/{file}")))?;
    Some(bounded(text.trim()))
}

/// The path of a process's cgroup by `/proc/PID/cgroup`; an empty controller is version 2's.
fn cgroup_path<'a>(cgroups: &'a str, controller: &str) -> Option<&'a str> {
    let line = cgroups.lines().find_map(|line| {
        let (_, rest) = line.split_once(':')?;
        let (controllers, path) = rest.split_once(':')?;
        controllers.split(',').any(|one| one == controller).then_some(path)
    })?;
    Some(line.trim_end_matches('/'))
}

fn memory_limit(cgroups: &str) -> Option<String> {
    let old = || first_of(&["memory"], cgroup_path(cgroups, "memory")?, "memory.limit_in_bytes");
    let new = || first_of(&["."], cgroup_path(cgroups, "")?, "memory.max");
    old().or_else(new)
}

fn cpu_limit(cgroups: &str) -> Option<String> {
    let old = |file: &str| first_of(&["cpu", "cpu,cpuacct"], cgroup_path(cgroups, "cpu")?, file);
    match (old("cpu.cfs_quota_us"), old("cpu.cfs_period_us")) {
        (Some(quota), Some(period)) => {
            let quota = if quota == "-1" { "max" } else { &quota };
            Some(format!("{quota} {period}"))
        }
        _ => first_of(&["."], cgroup_path(cgroups, "")?, "cpu.max"),
    }
}

fn status(text: &str) -> Process {
    let find =
        |key: &str| text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':')).map(str::trim);
    let hex = |key| u64::from_str_radix(find(key)?, 16).ok();
    Process {
        is_workload: false,
        // Real, effective, saved, of file accesses.
        uid: find("Uid").and_then(|ids| ids.split_ascii_whitespace().nth(1)?.parse().ok()),
        cpus_allowed: find("Cpus_allowed_list").map(bounded),
        capabilities: hex("CapEff"),
        capabilities_bounding: hex("CapBnd"),
        seccomp: find("Seccomp").and_then(|mode| mode.parse().ok()),
        no_new_privileges: find("NoNewPrivs").and_then(|set| Some(set.parse::<u32>().ok()? != 0)),
        security_label: None,
    }
}

fn label(text: &str) -> Option<String> {
    let text = text.trim_matches(['\0', '\n', ' ']);
    (!text.is_empty()).then(|| bounded(text))
}

/// Three fields of a line of mountinfo: mount point, options, and file system type.
fn mount(line: &str) -> Option<(&str, &str, &str)> {
    let (own, rest) = line.split_once(" - ")?;
    let mut own = own.split(' ').skip(4);
    Some((own.next()?, own.next()?, rest.split(' ').next()?))
}

/// The last mount on `/` is the visible one.
fn root_type(mounts: &str) -> Option<&str> {
    mounts.lines().filter_map(mount).rfind(|(at, ..)| *at == "/").map(|(.., kind)| kind)
}

fn mounted_read_only(mounts: &str, at: &str) -> bool {
    let last = mounts.lines().filter_map(mount).rfind(|(point, ..)| *point == at);
    last.is_some_and(|(_, options, _)| options.split(',').any(|option| option == "ro"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_identified_by_number_and_start_whatever_its_name_is() {
        let rest = "S 3 7 7 0 -1 4194560 100 200 0 0 5 6 7 8 20 0 1 0 991 1000000 42";
        assert_eq!(started_ticks(&format!("7 (a) b (c)) {rest}")), Some(991));
        assert_eq!(started_ticks("7 (sh) S 3"), None);
        let pid = std::process::id();
        let started_ticks = started_ticks(&read("/proc/self/stat").unwrap()).unwrap();
        assert!(sees(&Introspect { pid, started_ticks }));
        assert!(!sees(&Introspect { pid, started_ticks: started_ticks + 1 }));
    }

    #[test]
    fn a_processs_privileges_are_read_from_its_status() {
        let text = "Name:\tsh\nUid:\t1000\t0\t0\t0\nCapInh:\t0\nCapEff:\t00000000a80425fb\nCapBnd:\t000001ffffffffff\n\
                    NoNewPrivs:\t1\nSeccomp:\t2\nSeccomp_filters:\t1\nCpus_allowed:\t3\nCpus_allowed_list:\t0-1\n";
        let expected = Process {
            is_workload: false,
            uid: Some(0),
            cpus_allowed: Some("0-1".into()),
            capabilities: Some(0xa804_25fb),
            capabilities_bounding: Some(0x1ff_ffff_ffff),
            seccomp: Some(2),
            no_new_privileges: Some(true),
            security_label: None,
        };
        assert_eq!(status(text), expected);
        assert_eq!(status("Uid:\tx\nCapEff:\tzz\n"), Process::default());
    }

    #[test]
    fn a_cgroups_path_is_its_controllers_and_version_2_has_none() {
        let text = "12:cpu,cpuacct:/docker/1\n5:memory:/\n0::/user.slice\n";
        assert_eq!(cgroup_path(text, "cpu"), Some("/docker/1"));
        assert_eq!(cgroup_path(text, "memory"), Some(""));
        assert_eq!(cgroup_path(text, ""), Some("/user.slice"));
        assert_eq!(cgroup_path(text, "pids"), None);
        assert_eq!(cgroup_path("noise", ""), None);
    }

    #[test]
    fn the_root_in_sight_is_the_one_mounted_last() {
        let mounts = "1 1 0:2 / / rw - rootfs rootfs rw\n27 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw\n\
                      23 27 0:22 / /sys ro,nosuid - sysfs sysfs rw\n24 27 0:6 / /dev rw - devtmpfs d rw\n";
        assert_eq!(root_type(mounts), Some("ext4"));
        assert!(mounted_read_only(mounts, "/sys") && !mounted_read_only(mounts, "/dev"));
        assert!(!mounted_read_only(mounts, "/proc"));
        assert_eq!(root_type("noise\n"), None);
    }

    #[test]
    fn namespaces_are_numbers_and_labels_are_tame() {
        assert_eq!(namespace("pid:[4026531836]"), Some(4_026_531_836));
        assert_eq!(namespace("pid:[x]"), None);
        assert_eq!(label("docker-default (enforce)\n\0").as_deref(), Some("docker-default (enforce)"));
        assert_eq!(label("\n"), None);
        assert_eq!(bounded("é".repeat(TEXT)).len(), TEXT);
    }
}
