//! What a workload finds around it, as far as it should be the same on every target: facts without a judgement.

use std::collections::BTreeMap;

/// Each fact's name in messages and results, and its label in sentences.
pub const FACTS: [(&str, &str); 32] = [
    ("environment", "the environment"),
    ("directory", "the working directory"),
    ("user", "user and groups"),
    ("umask", "the umask"),
    ("signals", "the blocked and ignored signals"),
    ("streams", "the standard streams"),
    ("limit.cpu_time", "the limit of CPU time"),
    ("limit.file_size", "the limit of file size"),
    ("limit.data_size", "the limit of data size"),
    ("limit.stack_size", "the limit of stack size"),
    ("limit.core_file_size", "the limit of core files"),
    ("limit.resident_set", "the limit of resident memory"),
    ("limit.open_files", "the limit of open files"),
    ("limit.address_space", "the limit of address space"),
    ("limit.file_locks", "the limit of file locks"),
    ("limit.msgqueue_size", "the limit of message queues"),
    ("limit.nice_priority", "the limit of niceness"),
    ("limit.realtime_priority", "the limit of realtime priority"),
    ("limit.realtime_timeout", "the limit of realtime CPU time"),
    ("hostname", "the hostname"),
    ("loopback", "the addresses of the loopback interface"),
    ("mount./dev/shm", "the mount of /dev/shm"),
    ("mount./proc", "the mount of /proc"),
    ("mount./run", "the mount of /run"),
    ("mount./tmp", "the mount of /tmp"),
    ("/etc/group", "/etc/group"),
    ("/etc/hostname", "/etc/hostname"),
    ("/etc/hosts", "/etc/hosts"),
    ("/etc/localtime", "the time zone (/etc/localtime)"),
    ("/etc/nsswitch.conf", "/etc/nsswitch.conf"),
    ("/etc/passwd", "/etc/passwd"),
    ("/etc/resolv.conf", "/etc/resolv.conf"),
];

/// Longest value, in bytes.
pub const TEXT: usize = 200;

/// Size of `/dev/shm` on every target, in bytes: Docker's and podman's default.
pub const SHM_BYTES: u64 = 64 << 20;
/// The options of a mount of `/dev/shm`.
pub const SHM_OPTIONS: &std::ffi::CStr = c"mode=1777,size=64m";

/// Value by name. A fact that can't be read is left out, as are those of a workload that has ended.
pub type Surroundings = BTreeMap<String, String>;
