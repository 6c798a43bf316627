//! An instance's isolation from its host: the view from inside, compared with the host's.

use serde::{Deserialize, Serialize};

/// Read once, after ready, off the measured path. Null where it can't be read.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Isolation {
    /// Processes that the instance sees.
    pub processes: Option<u32>,
    /// Processes on the host at that time.
    pub host_processes: Option<u32>,
    /// Whether it sees a certain process of the host, bootrace itself, by its pid and start time.
    pub sees_host_process: Option<bool>,
    /// One for each kind of namespace.
    pub namespaces: Vec<Namespace>,
    /// Whether a page of the image that the host reads appears in the instance's page cache, by trial.
    pub page_cache_shared: Option<bool>,
    /// Memory limit in bytes or `max`: the text of its cgroup's file, where the instance can read it.
    pub memory_limit: Option<String>,
    /// CPU quota and period in µs, as in `max 100000`.
    pub cpu_limit: Option<String>,
    /// Entries in `/dev`.
    pub devices: Option<u32>,
    /// The first names in `/dev`, sorted; left out where an earlier sample of the target has the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_names: Option<Vec<String>>,
    /// Entries in `/sys/block`.
    pub block_devices: Option<u32>,
    /// The first names in `/sys/block`, sorted; left out where an earlier sample of the target has the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub block_device_names: Option<Vec<String>>,
    /// Whether the fields from here on describe the workload; false: it had ended, and they describe the agent.
    pub of_workload: bool,
    /// Effective user id in its own user namespace.
    pub uid: Option<u32>,
    /// CPUs that the workload may use, as the kernel writes them: `0-1`.
    pub cpus_allowed: Option<String>,
    /// Effective capabilities, a bit each.
    pub capabilities: Option<u64>,
    /// Capabilities that it could ever get, a bit each.
    pub capabilities_bounding: Option<u64>,
    /// Seccomp mode: 0 none, 1 strict, 2 filter.
    pub seccomp: Option<u32>,
    /// Whether executing a setuid program gives no new privileges.
    pub no_new_privileges: Option<bool>,
    /// AppArmor's profile or SELinux' context; null without either.
    pub security_label: Option<String>,
    /// File system type of `/`.
    pub root_type: Option<String>,
    /// Whether the agent may write to `/`.
    pub root_writable: bool,
    /// Whether the agent may write to `/sys`.
    pub sys_writable: bool,
}

/// One namespace of the instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Namespace {
    /// `pid`, `net`, ...
    pub kind: String,
    /// Unique within one kernel.
    pub id: u64,
    /// Whether the host's PID 1 is in it; where PID 1's namespaces can't be read, whether bootrace is (for mounts:
    /// bootrace's parent). Always false for an instance with its own kernel.
    pub shared: Option<bool>,
}
