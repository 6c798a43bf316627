//! The kinds of target: one table of what each is, from which all the rest takes it.
//!
//! A new kind is a variant of [`Kind`], a row of [`TABLE`], and an entry of `target`'s engines; the compiler names
//! every other place.

use serde::{Deserialize, Serialize};

/// One way to run the workload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    Native,
    Docker,
    /// A VM.
    Libvirt,
    /// A container of podman's.
    Podman,
    /// A container of libvirt's.
    Lxc,
}

/// What kinds have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    Process,
    Container,
    Vm,
}

impl Family {
    /// As a sentence has it: "a container".
    pub fn noun(self) -> &'static str {
        match self {
            Family::Process => "a bare process",
            Family::Container => "a container",
            Family::Vm => "a VM",
        }
    }
}

/// The kernel that an instance runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kernel {
    /// The host's.
    Host,
    /// The host's with the runtimes of [`HOST_KERNEL_RUNTIMES`]; others may put one of their own below the container.
    ByRuntime,
    Own,
}

/// OCI runtimes whose containers run on the host's kernel.
pub const HOST_KERNEL_RUNTIMES: [&str; 3] = ["runc", "crun", "youki"];

/// The network that an instance is in where the scenario asks for one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Network {
    /// The host's, in any case.
    Host,
    /// The host's with `workload.network`, else loopback of its own.
    HostOnRequest,
    /// Of its own, unless its option `network` is `host`.
    Own,
}

/// The form of the image that an instance starts from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImageForm {
    /// An unpacked tree on the host.
    Tree,
    /// An image in Docker's store.
    Docker,
    /// An image in podman's store.
    Podman,
    /// A disk, with the kernel and initramfs that a direct boot needs.
    Vm,
}

/// A program whose version a kind's figures depend on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Program {
    Docker,
    Containerd,
    Runc,
    Libvirt,
    Qemu,
    Podman,
    Crun,
}

impl Program {
    pub const ALL: [Program; 7] = [
        Program::Docker,
        Program::Containerd,
        Program::Runc,
        Program::Libvirt,
        Program::Qemu,
        Program::Podman,
        Program::Crun,
    ];

    /// Its key in the results' `host.programs`.
    pub fn key(self) -> &'static str {
        match self {
            Program::Docker => "docker",
            Program::Containerd => "containerd",
            Program::Runc => "runc",
            Program::Libvirt => "libvirt",
            Program::Qemu => "qemu",
            Program::Podman => "podman",
            Program::Crun => "crun",
        }
    }

    /// As its users call it.
    pub fn title(self) -> &'static str {
        match self {
            Program::Docker => "Docker Engine",
            Program::Qemu => "QEMU",
            other => other.key(),
        }
    }
}

/// How an instance is started: from nothing, or from what is left of an initial start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Start {
    /// It is made.
    #[default]
    Create,
    /// It ran until it was ready, and was stopped: its disk is there, its memory is not.
    Restart,
    /// A container that ran until it was ready and was frozen with its memory is resumed.
    Unpause,
    /// A VM that ran until it was ready and was saved to a file is restored with its memory.
    Restore,
}

impl Start {
    pub const ALL: [Start; 4] = [Start::Create, Start::Restart, Start::Unpause, Start::Restore];

    /// As scenarios have it.
    pub fn name(self) -> &'static str {
        match self {
            Start::Create => "create",
            Start::Restart => "restart",
            Start::Unpause => "unpause",
            Start::Restore => "restore",
        }
    }

    /// Whether the instance's processes keep their memory from the initial start.
    pub fn keeps_memory(self) -> bool {
        match self {
            Start::Create | Start::Restart => false,
            Start::Unpause | Start::Restore => true,
        }
    }

    /// Whether it comes after an initial start.
    pub fn is_second(self) -> bool {
        self != Start::Create
    }
}

impl std::fmt::Display for Start {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}

/// All that a kind is.
#[derive(Debug)]
pub struct Row {
    pub kind: Kind,
    /// As scenarios and results have it.
    pub name: &'static str,
    pub family: Family,
    /// Whether a scenario that names no target has it.
    pub standard: bool,
    pub kernel: Kernel,
    pub network: Network,
    pub image: ImageForm,
    /// Keys of a `[[target]]` that are for it, besides `name`, `kind` and `start`.
    pub options: &'static [&'static str],
    /// How its instances can be started, and what each second start is, for a sentence.
    pub starts: &'static [(Start, &'static str)],
    /// Least `resources.memory` in bytes, and why.
    pub least_memory: (u64, &'static str),
    /// The programs whose versions its results need.
    pub programs: &'static [Program],
}

const CREATE: (Start, &str) = (Start::Create, "an instance made from the image");
/// Docker refuses limits below 6 MiB, and every target has the same.
const MEMORY_PROCESS: (u64, &str) = (6 << 20, "Docker refuses lower limits");
/// Debian's stock kernel boots in 80 MB; with 64 MB it runs out of memory before init.
const MEMORY_VM: (u64, &str) = (80 << 20, "a VM's kernel does not boot with less");

/// A row for each kind, in the order in which outputs show them.
pub static TABLE: [Row; 5] = [
    Row {
        kind: Kind::Native,
        name: "native",
        family: Family::Process,
        standard: true,
        kernel: Kernel::Host,
        network: Network::Host,
        image: ImageForm::Tree,
        options: &[],
        starts: &[CREATE],
        least_memory: MEMORY_PROCESS,
        programs: &[],
    },
    Row {
        kind: Kind::Docker,
        name: "docker",
        family: Family::Container,
        standard: true,
        kernel: Kernel::ByRuntime,
        network: Network::Own,
        image: ImageForm::Docker,
        options: &["network", "log_driver", "runtime", "init"],
        starts: &[
            CREATE,
            (
                Start::Restart,
                "a container that ran until ready and ended, started again with its own file system",
            ),
            (Start::Unpause, "a container that ran until ready and was frozen with its memory, resumed"),
        ],
        least_memory: MEMORY_PROCESS,
        programs: &[Program::Docker, Program::Containerd, Program::Runc, Program::Crun],
    },
    Row {
        kind: Kind::Libvirt,
        name: "libvirt",
        family: Family::Vm,
        standard: true,
        kernel: Kernel::Own,
        network: Network::Own,
        image: ImageForm::Vm,
        options: &["boot", "firmware", "accel", "cpu_model", "hugepages", "disk_cache", "uri"],
        starts: &[
            CREATE,
            (Start::Restart, "a VM that ran until ready and was powered off, booted again from its own disk"),
            (Start::Restore, "a VM that ran until ready and was saved to a file, restored with its memory"),
        ],
        least_memory: MEMORY_VM,
        programs: &[Program::Libvirt, Program::Qemu],
    },
    Row {
        kind: Kind::Podman,
        name: "podman",
        family: Family::Container,
        standard: false,
        kernel: Kernel::ByRuntime,
        network: Network::Own,
        image: ImageForm::Podman,
        options: &["network", "log_driver"],
        starts: &[CREATE],
        least_memory: MEMORY_PROCESS,
        programs: &[Program::Podman, Program::Crun, Program::Runc],
    },
    Row {
        kind: Kind::Lxc,
        name: "lxc",
        family: Family::Container,
        standard: false,
        kernel: Kernel::Host,
        network: Network::HostOnRequest,
        image: ImageForm::Tree,
        options: &["uri"],
        starts: &[CREATE],
        least_memory: MEMORY_PROCESS,
        programs: &[Program::Libvirt],
    },
];

impl Kind {
    /// Every kind, in the table's order.
    pub const ALL: [Kind; TABLE.len()] = {
        let mut all = [Kind::Native; TABLE.len()];
        let mut i = 0;
        while i < all.len() {
            all[i] = TABLE[i].kind;
            i += 1;
        }
        all
    };

    pub fn row(self) -> &'static Row {
        TABLE.iter().find(|row| row.kind == self).expect("every kind has a row: a test tries each")
    }

    /// As scenarios and results have it.
    pub fn name(self) -> &'static str {
        self.row().name
    }

    pub fn family(self) -> Family {
        self.row().family
    }

    pub fn is_vm(self) -> bool {
        self.family() == Family::Vm
    }

    /// Those of a scenario that names no target, which every host is expected to have.
    pub fn standard() -> impl Iterator<Item = Kind> {
        Kind::ALL.into_iter().filter(|kind| kind.row().standard)
    }

    pub fn is_standard(self) -> bool {
        self.row().standard
    }

    /// The kinds that have this option.
    pub fn with_option(key: &str) -> impl Iterator<Item = Kind> {
        Kind::ALL.into_iter().filter(move |kind| kind.row().options.contains(&key))
    }

    /// What an instance is that is started so; `None` where it can't be.
    pub fn started(self, start: Start) -> Option<&'static str> {
        self.row().starts.iter().find(|(other, _)| *other == start).map(|(_, words)| *words)
    }
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_a_row_and_is_called_as_in_files() {
        for kind in [Kind::Native, Kind::Docker, Kind::Libvirt, Kind::Podman, Kind::Lxc] {
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.row().name);
            assert!(kind.started(Start::Create).is_some());
        }
    }

    #[test]
    fn a_start_is_called_as_in_files() {
        for start in Start::ALL {
            assert_eq!(serde_json::to_value(start).unwrap(), start.name());
        }
    }
}
