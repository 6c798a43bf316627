//! Helpers for the system that several modules need. They know nothing of instances.

use std::{
    ffi::OsString,
    fs::{self, File},
    io::{BufRead, BufReader},
    path::Path,
    sync::OnceLock,
};

use sha2::{Digest, Sha256};

use crate::digest::hex;

pub mod load;
pub mod mounts;
pub mod namespaces;
pub mod processes;
pub mod rootfs;
pub mod signals;
pub mod sockets;
pub mod users;

/// Whether the kernel has IPv6.
pub fn has_ipv6() -> bool {
    Path::new("/proc/sys/net/ipv6").exists()
}

/// Whether this process runs as root.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// An environment variable. An empty one counts as unset, as for Docker and libvirt.
pub fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

/// The kernel's estimate of memory available without swapping (MemAvailable), in bytes; `None` if it has none.
pub fn available_memory() -> Option<u64> {
    let info = fs::read_to_string("/proc/meminfo").ok()?;
    let line = info.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// sha256 of this process's executable in lower-case hex, also after another one took its place in the file system;
/// `None` where it can't be read.
pub fn program_digest() -> Option<String> {
    static DIGEST: OnceLock<Option<String>> = OnceLock::new();
    let hash = || {
        let mut file = BufReader::with_capacity(1 << 20, File::open("/proc/self/exe").ok()?);
        let mut sum = Sha256::new();
        loop {
            let chunk = file.fill_buf().ok()?;
            if chunk.is_empty() {
                return Some(hex(sum.finalize()));
            }
            sum.update(chunk);
            let read = chunk.len();
            file.consume(read);
        }
    };
    DIGEST.get_or_init(hash).clone()
}

#[cfg(test)]
mod tests {
    #[test]
    fn this_hosts_memory_can_be_read() {
        assert!(super::available_memory().unwrap() > 1 << 20);
    }
}
