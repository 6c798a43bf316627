//! Collects what a workload finds around it, once, after ready.

use std::{
    fs::{self, File},
    io::{ErrorKind, Read},
    net::TcpListener,
    os::unix::fs::MetadataExt,
    path::Path,
};

use bootrace_agent::surroundings::{FACTS, Surroundings, TEXT};
use sha2::{Digest, Sha256};

use crate::{introspect::read, sys};

/// Most bytes of a file or an environment that are digested.
const MOST: u64 = 256 * 1024;

/// Collects all. `workload`: its pid as long as it runs.
pub fn survey(workload: Option<u32>) -> Surroundings {
    let own = std::process::id();
    let proc = |name: &str| format!("/proc/{}/{name}", workload.unwrap_or(own));
    let status = read(proc("status")).unwrap_or_default();
    let limits = read(proc("limits")).unwrap_or_default();
    let mounts = read("/proc/self/mountinfo").unwrap_or_default();
    let of = |name: &str| {
        if let Some(limit) = name.strip_prefix("limit.") {
            return limit_of(&limits, limit);
        }
        if let Some(at) = name.strip_prefix("mount.") {
            return Some(mount(&mounts, at));
        }
        if name.starts_with('/') {
            return file(Path::new(name));
        }
        // The agent passes its own umask, users and limits on; the rest is the workload's alone.
        match name {
            "user" => user(&status),
            "umask" => field(&status, "Umask").map(str::to_owned),
            "hostname" => Some(read("/proc/sys/kernel/hostname")?.trim().to_owned()),
            "loopback" => Some(loopback()),
            _ => workload.and_then(|_| match name {
                "environment" => environment(&proc("environ")),
                "directory" => Some(fs::read_link(proc("cwd")).ok()?.to_string_lossy().into_owned()),
                "signals" => signals(&status),
                "streams" => streams(&proc("fd")),
                _ => None,
            }),
        }
    };
    let bounded = |mut text: String| {
        text.truncate(text.floor_char_boundary(TEXT));
        text
    };
    FACTS.into_iter().filter_map(|(name, _)| Some((name.to_owned(), bounded(of(name)?)))).collect()
}

fn field<'a>(status: &'a str, key: &str) -> Option<&'a str> {
    status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':')).map(str::trim)
}

/// Effective user and group, and the supplementary groups.
fn user(status: &str) -> Option<String> {
    let effective = |key| field(status, key)?.split_ascii_whitespace().nth(1);
    let groups: Vec<&str> = field(status, "Groups")?.split_ascii_whitespace().collect();
    Some(format!("{}:{} and groups {}", effective("Uid")?, effective("Gid")?, list(&groups)))
}

fn list(names: &[&str]) -> String {
    if names.is_empty() { "none".into() } else { names.join(" ") }
}

fn signals(status: &str) -> Option<String> {
    // 32 and 33 are the C library's own.
    let mask = |key| Some(u64::from_str_radix(field(status, key)?, 16).ok()? & !(0b11 << 31));
    Some(format!("blocked {:x}, ignored {:x}", mask("SigBlk")?, mask("SigIgn")?))
}

/// Soft and hard limit from `/proc/PID/limits`, as in `1024 of 4096`; the name has underscores for spaces.
fn limit_of(limits: &str, name: &str) -> Option<String> {
    let start = format!("Max {} ", name.replace('_', " "));
    let mut values = limits.lines().find_map(|line| line.strip_prefix(&start))?.split_ascii_whitespace();
    let (soft, hard) = (values.next()?, values.next()?);
    Some(if soft == hard { soft.to_owned() } else { format!("{soft} of {hard}") })
}

/// File system type, options, and the size of one in memory.
fn mount(mounts: &str, at: &str) -> String {
    let last = mounts.lines().rev().find_map(|line| {
        let (own, rest) = line.split_once(" - ")?;
        let mut own = own.split(' ').skip(4);
        (own.next()? == at).then_some((own.next()?, rest.split(' ').next()?))
    });
    let Some((options, kind)) = last else { return "none".into() };
    let options: Vec<&str> = options.split(',').filter(|option| !option.ends_with("atime")).collect();
    let size = sys::file_system_bytes(Path::new(at)).ok().filter(|_| kind == "tmpfs");
    let size = size.map(|bytes| format!(", {} KiB", bytes >> 10)).unwrap_or_default();
    format!("{kind} {}{size}", options.join(","))
}

/// The loopback addresses that a program can listen at.
fn loopback() -> String {
    let usable = |address: &&str| TcpListener::bind((*address, 0)).is_ok();
    list(&["127.0.0.1", "::1"].into_iter().filter(usable).collect::<Vec<_>>())
}

/// The variables' names, and a digest of all.
fn environment(path: &str) -> Option<String> {
    let mut bytes = Vec::new();
    File::open(path).ok()?.take(MOST).read_to_end(&mut bytes).ok()?;
    let mut variables: Vec<&[u8]> = bytes.split(|byte| *byte == 0).filter(|text| !text.is_empty()).collect();
    variables.sort_unstable();
    let names = variables.iter().map(|text| text.split(|byte| *byte == b'=').next().unwrap_or_default());
    let names: Vec<_> = names.map(|name| String::from_utf8_lossy(name).into_owned()).collect();
    Some(format!("{} {}", digest(&variables.join(&0)), names.join(" ")))
}

/// What each standard stream is, whatever its number.
fn streams(dir: &str) -> Option<String> {
    let kind = |number: &str| {
        let link = fs::read_link(format!("{dir}/{number}"));
        match link {
            Ok(link) => {
                let link = link.to_string_lossy();
                Some(link.split(":[").next().unwrap_or_default().to_owned())
            }
            Err(error) if error.kind() == ErrorKind::NotFound => Some("closed".into()),
            Err(_) => None,
        }
    };
    Some([kind("0")?, kind("1")?, kind("2")?].join(" "))
}

/// Mode, owner and a digest of a file, in the place that its link leads to.
fn file(path: &Path) -> Option<String> {
    let file = match fs::metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Some("absent".into()),
        // Must not block on a fifo.
        Ok(about) if about.is_file() => File::open(path).ok()?,
        _ => return None,
    };
    let about = file.metadata().ok()?;
    let mut content = Vec::new();
    file.take(MOST).read_to_end(&mut content).ok()?;
    Some(format!("{:o} {}:{} {}", about.mode() & 0o7777, about.uid(), about.gid(), digest(&content)))
}

/// The first half of a sha256, in hex.
fn digest(content: &[u8]) -> String {
    Sha256::digest(content).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_every_fact_within_its_bounds() {
        let found = survey(Some(std::process::id()));
        let missing: Vec<&str> =
            FACTS.iter().map(|(name, _)| *name).filter(|name| !found.contains_key(*name)).collect();
        assert_eq!(missing, Vec::<&str>::new());
        assert!(found.values().all(|text| !text.is_empty() && text.len() <= TEXT), "{found:#?}");
        assert_eq!(found["directory"], std::env::current_dir().unwrap().to_string_lossy());
        assert!(found["loopback"].contains("127.0.0.1"), "{found:#?}");
        let of_agent = survey(None);
        assert!(!of_agent.contains_key("environment") && of_agent["umask"] == found["umask"]);
    }

    #[test]
    fn a_limit_has_its_soft_and_its_hard_value() {
        let limits = "Limit                     Soft Limit           Hard Limit           Units     \n\
                      Max cpu time              unlimited            unlimited            seconds   \n\
                      Max open files            1024                 16384                files     \n";
        assert_eq!(limit_of(limits, "open_files").as_deref(), Some("1024 of 16384"));
        assert_eq!(limit_of(limits, "cpu_time").as_deref(), Some("unlimited"));
        assert_eq!(limit_of(limits, "file_locks"), None);
    }

    #[test]
    fn users_and_signals_are_read_from_the_status() {
        let status = "Umask:\t0022\nUid:\t1000\t5\t5\t5\nGid:\t1000\t60\t60\t60\nGroups:\t60 4 \n\
                      SigBlk:\t0000000000010000\nSigIgn:\t0000000180001000\n";
        assert_eq!(user(status).as_deref(), Some("5:60 and groups 60 4"));
        assert_eq!(signals(status).as_deref(), Some("blocked 10000, ignored 1000"));
        assert_eq!(user(&status.replace("60 4 ", " ")).as_deref(), Some("5:60 and groups none"));
    }

    #[test]
    fn the_mount_that_counts_is_the_last_one_there() {
        let mounts = "1 1 0:2 / /run rw - ext4 /dev/vda rw\n2 1 0:3 / /runner rw - ext4 /dev/vda rw\n\
                      3 1 0:4 / /run rw,nosuid,relatime shared:1 - ext4 /dev/vdb rw\n";
        assert_eq!(mount(mounts, "/run"), "ext4 rw,nosuid");
        assert_eq!(mount(mounts, "/tmp"), "none");
    }

    #[test]
    fn a_file_is_its_mode_owner_and_content() {
        let dir = std::env::temp_dir().join(format!("bootrace-survey-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let path = dir.join("file");
        fs::write(&path, "abc").unwrap();
        // sha256sum's.
        assert!(file(&path).unwrap().ends_with(" ba7816bf8f01cfea"), "{:?}", file(&path));
        assert_eq!(file(&dir.join("none")).as_deref(), Some("absent"));
        assert_eq!(file(&dir), None);
        fs::remove_dir_all(dir).unwrap();
    }
}
