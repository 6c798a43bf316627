//! Where an instance is on the host.

/// Where the host can measure an instance.
#[derive(Debug, Clone, Default)]
pub struct Scope {
    /// Host pid of a process in the instance's cgroup: the agent, or QEMU.
    pub leader: u32,
    /// Host pids of the engine's processes for this instance alone (shim, QEMU).
    pub engine: Vec<u32>,
}
