//! An instance's report of its own isolation, seen from inside: facts without a judgement.

use serde::{Deserialize, Serialize};

/// Most names in a list: a VM's `/dev` has over a hundred.
pub const NAMES: usize = 48;
/// Longest name, in bytes.
pub const NAME: usize = 64;
/// Longest other text, in bytes.
pub const TEXT: usize = 256;

/// A process of the host that the agent looks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Introspect {
    /// Its pid on the host.
    pub pid: u32,
    /// Its start in clock ticks since boot (`/proc/PID/stat`): another process with that pid has another start.
    pub started_ticks: u64,
}

/// The view from inside. A value that can't be read is null.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Isolation {
    /// Processes in `/proc`.
    pub processes: Option<u32>,
    /// Whether the host's process of [`Introspect`] is among them.
    pub sees_process: bool,
    /// Kind, as in `/proc/self/ns`, and inode, which is unique within one kernel.
    pub namespaces: Vec<(String, u64)>,
    /// Memory limit of its cgroup: the text of `memory.max` or `memory.limit_in_bytes`.
    pub memory_limit: Option<String>,
    /// CPU quota and period in µs, as in `cpu.max`; version 1 in the same form.
    pub cpu_limit: Option<String>,
    /// Names in `/dev`.
    pub devices: Names,
    /// Names in `/sys/block`.
    pub block_devices: Names,
    /// The workload's; after its end, the agent's.
    pub process: Process,
    /// File system type of the root.
    pub root_type: Option<String>,
    /// Whether permissions and mount let the agent write to `/`.
    pub root_writable: bool,
    /// Whether permissions and mount let the agent write to `/sys`.
    pub sys_writable: bool,
}

/// The names in a directory, bounded.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Names {
    /// Number of all names; null where the directory can't be read.
    pub count: Option<u32>,
    /// The first names, sorted.
    pub names: Vec<String>,
}

/// A process's rights, from its `/proc/PID`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Process {
    /// False: the workload had ended, and this is the agent.
    pub is_workload: bool,
    /// Effective user id, in its own user namespace.
    pub uid: Option<u32>,
    /// CPUs that it may use, as the kernel writes them.
    pub cpus_allowed: Option<String>,
    /// Effective capabilities, a bit each.
    pub capabilities: Option<u64>,
    /// The capabilities that it could ever get.
    pub capabilities_bounding: Option<u64>,
    /// 0: none, 1: strict, 2: filter.
    pub seccomp: Option<u32>,
    pub no_new_privileges: Option<bool>,
    /// The LSM's label (AppArmor's profile, SELinux' context); null without one.
    pub security_label: Option<String>,
}
