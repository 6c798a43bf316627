//! An instance's isolation from its host, as it was seen from inside and held against the host.

use serde::{Deserialize, Serialize};

/// Read once, after ready, off the measured path. Null where it could not be seen.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Isolation {
    /// Processes that the instance sees.
    pub processes: Option<u32>,
    /// Processes on the host at that time.
    pub host_processes: Option<u32>,
    /// Whether it sees a certain process of the host, bootrace itself: looked for by pid and time of start.
    pub sees_host_process: Option<bool>,
    pub namespaces: Vec<Namespace>,
    /// Whether a page of the image that the host reads is in the instance's page cache by that, tried.
    pub page_cache_shared: Option<bool>,
    /// In the words of its cgroup's file, as far as that is visible inside.
    pub memory_limit: Option<String>,
    /// Quota and period in µs.
    pub cpu_limit: Option<String>,
    pub devices: Option<u32>,
    /// The first ones, sorted; left out where an earlier sample of the target has the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_names: Option<Vec<String>>,
    pub block_devices: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub block_device_names: Option<Vec<String>>,
    /// What follows is of the workload; false: it had ended, and it is of the agent.
    pub of_workload: bool,
    /// Effective user id in its own user namespace.
    pub uid: Option<u32>,
    pub cpus_allowed: Option<String>,
    /// Effective capabilities, a bit each.
    pub capabilities: Option<u64>,
    pub capabilities_bounding: Option<u64>,
    /// 0: none, 1: strict, 2: filter.
    pub seccomp: Option<u32>,
    pub no_new_privileges: Option<bool>,
    /// AppArmor's profile, SELinux' context.
    pub security_label: Option<String>,
    pub root_type: Option<String>,
    pub root_writable: bool,
    pub sys_writable: bool,
}

/// One of the kinds that the kernel keeps apart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Namespace {
    /// `pid`, `net`, ...
    pub kind: String,
    /// Unique within one kernel.
    pub id: u64,
    /// Whether it is the host's first process's, or, where that can't be looked at, bootrace's with its parent's
    /// mounts; never for what has a kernel
    /// of its own.
    pub shared: Option<bool>,
}
