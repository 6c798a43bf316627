//! The only readers of /proc, /sys/fs/cgroup and host facts.
//!
//! A [`Meter`] belongs to one instance: made just before it is requested, told by a [`Scope`] where
//! to look once it is started, then asked for CPU and memory. [`host`] says what the host is,
//! [`disk`] what an instance has on the disk, [`overlay`] its layers, [`host_isolation`] what it may see of the host, [`kvm`] whether its KVM is worth the name, [`clock`] how fine its clock is, and [`cgroup::hierarchy`] where a cgroup can be made.

use std::{fs, io, path::Path};

pub mod cgroup;
pub mod clock;
pub mod disk;
pub mod host;
pub mod host_isolation;
pub mod huge;
pub mod kvm;
pub mod limits;
mod meter;
pub mod mounts;
pub mod overlay;
pub mod process;

pub use meter::Meter;

/// Where an instance can be seen from the host.
#[derive(Debug, Clone, Default)]
pub struct Scope {
    /// Host pid of a process inside the instance's cgroup: the agent, or QEMU. Its cgroup is the
    /// instance's.
    pub leader: u32,
    /// Host pids of the engine's processes that exist for this instance alone (shim, QEMU).
    pub engine: Vec<u32>,
}

/// A kernel file could not be read or did not say what it should.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{path}: {why}")]
pub struct Error {
    pub path: String,
    pub why: String,
    /// What the file spoke of is no more: a process that ended, a cgroup that was removed.
    gone: bool,
}

impl Error {
    fn new(path: &Path, why: impl Into<String>) -> Self {
        Error { path: path.display().to_string(), why: why.into(), gone: false }
    }

    fn io(path: &Path, error: &io::Error) -> Self {
        let code = error.raw_os_error();
        let gone = matches!(code, Some(libc::ENOENT | libc::ESRCH | libc::ENODEV));
        let fix = match code {
            Some(libc::EACCES | libc::EPERM) => ": reading another user's processes takes root",
            Some(libc::ESRCH) => ": the process has ended",
            Some(libc::ENODEV) => ": the cgroup was removed",
            _ => "",
        };
        Error { gone, ..Error::new(path, format!("{error}{fix}")) }
    }
}

fn read(path: &Path) -> Result<String, Error> {
    fs::read_to_string(path).map_err(|error| Error::io(path, &error))
}

/// One number and nothing else.
fn read_number(path: &Path) -> Result<u64, Error> {
    let text = read(path)?;
    text.trim().parse().map_err(|_| Error::new(path, format!("no number: {:?}", text.trim())))
}
