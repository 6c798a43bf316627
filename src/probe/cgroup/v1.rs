//! Readers of version 1 (legacy) cgroups.

use std::{fs, path::Path};

use super::{Memory, Shortage, Stat};
use crate::probe::{Error, read_number};

/// More than the kernel charges at once, in bytes: the limit may be met by this much less.
const CHARGED_AT_ONCE: u64 = 1 << 20;

/// Memory of a cgroup and all below it, from its directory in the memory controller.
///
/// `total_rss` is anonymous memory, huge pages included; `total_cache` is page cache and shmem.
///
/// # Errors
/// When a file can't be read or lacks a value.
pub fn memory(dir: &Path) -> Result<Memory, Error> {
    let stat = Stat::read(&dir.join("memory.stat"))?;
    let shmem = stat.get("total_shmem")?;
    Ok(Memory {
        anon: stat.get("total_rss")?,
        shmem,
        file: stat.get("total_cache")?.saturating_sub(shmem),
        kernel: kernel(dir)?,
    })
}

/// Swapped-out memory in bytes; `None` if the kernel does not account for it (`swapaccount=0`).
///
/// # Errors
/// When memory.stat can't be read.
pub fn swap(dir: &Path) -> Result<Option<u64>, Error> {
    Ok(Stat::read(&dir.join("memory.stat"))?.find("total_swap"))
}

/// Whether the cgroup's limit was met, and what that did to the processes in it or below. Version 1 counts a kill in the
/// process's own cgroup alone, and memory.failcnt stays 0 on newer kernels.
///
/// # Errors
/// When a file can't be read or lacks a value.
pub fn shortage(dir: &Path) -> Result<Option<Shortage>, Error> {
    let number = |name| read_number(&dir.join(name));
    let limit = number("memory.limit_in_bytes")?;
    if number("memory.max_usage_in_bytes")?.saturating_add(CHARGED_AT_ONCE) < limit {
        return Ok(None);
    }
    match oom_kills(dir)? {
        0 => Ok(memory(dir)?.shortage(limit)),
        _ => Ok(Some(Shortage::Killed)),
    }
}

fn oom_kills(dir: &Path) -> Result<u64, Error> {
    let mut kills = Stat::read(&dir.join("memory.oom_control"))?.get("oom_kill")?;
    for below in fs::read_dir(dir).into_iter().flatten().flatten() {
        if below.file_type().is_ok_and(|kind| kind.is_dir()) {
            // One that is gone meanwhile counts nothing.
            kills += oom_kills(&below.path()).unwrap_or(0);
        }
    }
    Ok(kills)
}

/// Kernel memory; `None` if the kernel lacks the file or reports 0, as with `cgroup.memory=nokmem`: every process needs
/// some.
fn kernel(dir: &Path) -> Result<Option<u64>, Error> {
    let optional = |name: &str| match read_number(&dir.join(name)) {
        Err(error) if error.gone => Ok(0),
        other => other,
    };
    let bytes = optional("memory.kmem.usage_in_bytes")? + optional("memory.kmem.tcp.usage_in_bytes")?;
    Ok((bytes > 0).then_some(bytes))
}
