//! The only readers of /proc, /sys/fs/cgroup and host facts.

use crate::sample;

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
#[derive(Debug, thiserror::Error)]
#[error("{path}: {why}")]
pub struct Error {
    pub path: String,
    pub why: String,
}

/// Reads what one instance costs its host. Made just before the instance is requested.
#[derive(Debug)]
pub struct Meter {}

impl Meter {
    /// Takes note of what the engine's daemons have used so far.
    pub fn before(_daemons: &[u32]) -> Result<Self, Error> {
        Ok(Meter {})
    }

    /// Finds the started instance's cgroup and processes.
    pub fn attach(&mut self, _scope: &Scope) -> Result<(), Error> {
        Ok(())
    }

    /// Host CPU time in ns that the instance, its engine processes and the daemons used since `before`.
    pub fn cpu_ns(&self) -> Result<u64, Error> {
        Ok(0)
    }

    /// All of the memory record but the workload's own reading.
    pub fn memory(&self) -> Result<sample::Memory, Error> {
        Ok(sample::Memory::default())
    }
}
