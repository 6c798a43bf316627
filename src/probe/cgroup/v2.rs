//! Readers of version 2 (unified) cgroups.

use std::path::Path;

use super::{Memory, Shortage, Stat};
use crate::probe::{Error, read_number};

/// Memory of a cgroup and all below it, from its directory.
///
/// # Errors
/// When a file can't be read or lacks a value.
pub fn memory(dir: &Path) -> Result<Memory, Error> {
    let stat = Stat::read(&dir.join("memory.stat"))?;
    let shmem = stat.get("shmem")?;
    Ok(Memory {
        anon: stat.get("anon")?,
        shmem,
        file: stat.get("file")?.saturating_sub(shmem),
        kernel: kernel(&stat),
    })
}

/// Swapped-out memory in bytes; `None` if the kernel does not account for it (`swapaccount=0`).
///
/// # Errors
/// When a file can't be read.
pub fn swap(dir: &Path) -> Result<Option<u64>, Error> {
    match read_number(&dir.join("memory.swap.current")) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.gone && dir.exists() => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether the cgroup's limit was met, and what that did to the processes in it or below: `oom` is not counted where the
/// host itself ran out of memory.
///
/// # Errors
/// When a file can't be read or lacks a value.
pub fn shortage(dir: &Path) -> Result<Option<Shortage>, Error> {
    let events = Stat::read(&dir.join("memory.events"))?;
    if events.get("oom")? > 0 && events.get("oom_kill")? > 0 {
        return Ok(Some(Shortage::Killed));
    }
    // The limit of a cgroup above this one is not known here; memory.max then has a word.
    match (events.get("max")?, read_number(&dir.join("memory.max"))) {
        (1.., Ok(limit)) => Ok(memory(dir)?.shortage(limit)),
        _ => Ok(None),
    }
}

/// `kernel` is the sum since Linux 5.18; older kernels report only its parts. Socket buffers are separate.
fn kernel(stat: &Stat) -> Option<u64> {
    const PARTS: [&str; 4] = ["kernel_stack", "pagetables", "percpu", "slab"];
    let sum = stat.find("kernel").unwrap_or_else(|| PARTS.iter().filter_map(|key| stat.find(key)).sum());
    let bytes = sum + stat.find("sock").unwrap_or(0);
    // 0 means that accounting is off (`cgroup.memory=nokmem`): every process has a kernel stack.
    (bytes > 0).then_some(bytes)
}
