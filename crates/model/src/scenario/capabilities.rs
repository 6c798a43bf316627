//! The capabilities that a workload is granted.

use serde::{Deserialize, Serialize};

/// A capability by its name in capabilities(7), without `CAP_`. In the order of the kernel's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[expect(missing_docs, reason = "capabilities(7) describes them")]
#[repr(u8)]
pub enum Capability {
    Chown,
    DacOverride,
    DacReadSearch,
    Fowner,
    Fsetid,
    Kill,
    Setgid,
    Setuid,
    Setpcap,
    LinuxImmutable,
    NetBindService,
    NetBroadcast,
    NetAdmin,
    NetRaw,
    IpcLock,
    IpcOwner,
    SysModule,
    SysRawio,
    SysChroot,
    SysPtrace,
    SysPacct,
    SysAdmin,
    SysBoot,
    SysNice,
    SysResource,
    SysTime,
    SysTtyConfig,
    Mknod,
    Lease,
    AuditWrite,
    AuditControl,
    Setfcap,
    MacOverride,
    MacAdmin,
    Syslog,
    WakeAlarm,
    BlockSuspend,
    AuditRead,
    Perfmon,
    Bpf,
    CheckpointRestore,
}

impl Capability {
    /// Its bit in the kernel's sets.
    pub fn bit(self) -> u64 {
        1 << self as u8
    }

    /// Its name in scenarios, Docker and podman.
    pub fn name(self) -> String {
        // The names of variants hold nothing that has to be escaped.
        serde_json::to_string(&self).unwrap_or_default().trim_matches('"').to_owned()
    }
}

/// A set of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Capabilities(pub Vec<Capability>);

impl Capabilities {
    /// The set in the kernel's form.
    pub fn bits(&self) -> u64 {
        self.0.iter().fold(0, |bits, capability| bits | capability.bit())
    }
}

impl Default for Capabilities {
    /// What a service needs that starts as root, makes its directories, binds its port, drops to its own user and stops
    /// its children.
    fn default() -> Self {
        use Capability::{Chown, DacOverride, Fowner, Fsetid, Kill, NetBindService, Setgid, Setpcap, Setuid};
        Capabilities(vec![Chown, DacOverride, Fowner, Fsetid, Kill, NetBindService, Setgid, Setpcap, Setuid])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_are_the_kernels_and_the_names_are_dockers() {
        // From linux/capability.h.
        for (capability, number, name) in [
            (Capability::Chown, 0, "CHOWN"),
            (Capability::Setpcap, 8, "SETPCAP"),
            (Capability::NetBindService, 10, "NET_BIND_SERVICE"),
            (Capability::SysPtrace, 19, "SYS_PTRACE"),
            (Capability::SysTtyConfig, 26, "SYS_TTY_CONFIG"),
            (Capability::Setfcap, 31, "SETFCAP"),
            (Capability::CheckpointRestore, 40, "CHECKPOINT_RESTORE"),
        ] {
            assert_eq!((capability.bit(), capability.name().as_str()), (1 << number, name));
        }
        assert_eq!(Capabilities::default().bits(), 0x5fb);
    }
}
