//! The only readers of /proc, /sys/fs/cgroup and host facts.
//!
//! A [`Meter`] belongs to one instance. The runner creates it just before the request, attaches it with a [`Scope`]
//! after the start, and reads CPU time and memory from it. [`host`] has facts about the host, [`disk`] an instance's
//! disk space, [`overlay`] its layers, [`host_isolation`] the host's side of its isolation, [`kvm`] the check of KVM,
//! [`clock`] the quality of the clock, and [`cgroup::hierarchy`] the directories for new cgroups.

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
pub mod overlay;
pub mod process;

pub use meter::Meter;

/// Where the host can measure an instance.
#[derive(Debug, Clone, Default)]
pub struct Scope {
    /// Host pid of a process in the instance's cgroup: the agent, or QEMU.
    pub leader: u32,
    /// Host pids of the engine's processes for this instance alone (shim, QEMU).
    pub engine: Vec<u32>,
}

/// A kernel file could not be read or has an unexpected form.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{path}: {why}")]
pub struct Error {
    pub path: String,
    pub why: String,
    /// The file's subject is gone: a process that has ended, or a removed cgroup.
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

/// Reads a file with only a number.
fn read_number(path: &Path) -> Result<u64, Error> {
    let text = read(path)?;
    text.trim().parse().map_err(|_| Error::new(path, format!("no number: {:?}", text.trim())))
}
