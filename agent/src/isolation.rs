//! What an instance says of its own isolation, seen from inside: facts, no judgement.

use serde::{Deserialize, Serialize};

/// Longest list of names that is sent, and longest name in it, in bytes: a VM's `/dev` has over a hundred.
pub const NAMES: usize = 48;
pub const NAME: usize = 64;
/// Longest of any other text, in bytes.
pub const TEXT: usize = 256;

/// A process of the host's, which the agent is to look for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Introspect {
    /// Its pid as the host has it.
    pub pid: u32,
    /// When it was started, in clock ticks since boot (`/proc/PID/stat`): another process of that number has not this.
    pub started_ticks: u64,
}

/// What can be seen. A value that can't be had is null.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Isolation {
    /// Processes in `/proc`.
    pub processes: Option<u32>,
    /// Whether the host's process of [`Introspect`] is among them.
    pub sees_process: bool,
    /// By kind, as `/proc/self/ns` names them: the number is the inode, unique within one kernel.
    pub namespaces: Vec<(String, u64)>,
    /// Memory limit of its cgroup in the words of the file that it can read (`memory.max` or `memory.limit_in_bytes`).
    pub memory_limit: Option<String>,
    /// CPU quota and period in µs, as `cpu.max` has it; version 1 in the same form.
    pub cpu_limit: Option<String>,
    /// Names in `/dev`.
    pub devices: Names,
    /// Names in `/sys/block`.
    pub block_devices: Names,
    /// Of the workload; once that has ended, of the agent that started it.
    pub process: Process,
    /// File system type of the root.
    pub root_type: Option<String>,
    /// Whether this process may write there: neither permissions nor a read-only mount forbid it.
    pub root_writable: bool,
    pub sys_writable: bool,
}

/// Names, bounded.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Names {
    /// All that there are; null where the directory can't be read.
    pub count: Option<u32>,
    /// The first ones, sorted.
    pub names: Vec<String>,
}

/// What a process may do, by its `/proc/PID`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Process {
    /// False: it had ended, and this is the agent.
    pub is_workload: bool,
    /// Effective user id, in its own user namespace.
    pub uid: Option<u32>,
    /// CPUs that it may use, as the kernel writes them.
    pub cpus_allowed: Option<String>,
    /// Effective capabilities, a bit each.
    pub capabilities: Option<u64>,
    /// Those that it could ever get.
    pub capabilities_bounding: Option<u64>,
    /// 0: none, 1: strict, 2: filter.
    pub seccomp: Option<u32>,
    pub no_new_privileges: Option<bool>,
    /// Of the LSM (AppArmor's profile, SELinux' context); null where there is none.
    pub security_label: Option<String>,
}
