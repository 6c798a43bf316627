//! The kinds of target: one table, which describes each kind for all the rest.
//!
//! A new kind is a variant of [`Kind`] and a row of [`TABLE`]; the compiler then demands its engine, its doctor's checks
//! and what else names kinds, and a test that the table has it. docs/contribute/add-a-target.md has the steps.

use serde::{Deserialize, Serialize};

/// One way to run the workload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A bare process on the host, in a cgroup of its own.
    Native,
    /// A container of Docker Engine.
    Docker,
    /// A QEMU VM, defined by libvirt.
    Libvirt,
    /// A container of podman.
    Podman,
    /// A container of libvirt's LXC driver.
    Lxc,
}

/// The family of a kind: how far its instances are separated from the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// A process directly on the host, bound by a cgroup.
    Process,
    /// Processes in namespaces and a cgroup.
    Container,
    /// A virtual machine with a kernel of its own.
    Vm,
}

impl Family {
    /// With its article, for a sentence: "a container".
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
    /// The host's with the runtimes of [`HOST_KERNEL_RUNTIMES`]; other runtimes may bring a kernel of their own.
    ByRuntime,
    /// A kernel of its own, from the image.
    Own,
}

/// OCI runtimes whose containers run on the host's kernel.
pub const HOST_KERNEL_RUNTIMES: [&str; 3] = ["runc", "crun", "youki"];

/// The network that an instance gets where the scenario asks for one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Network {
    /// The host's, in any case.
    Host,
    /// The host's with `workload.network`, else a loopback interface of its own.
    HostOnRequest,
    /// A network of its own, unless its option `network` is `host`.
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
    /// The Docker Engine.
    Docker,
    /// The container manager below Docker.
    Containerd,
    /// An OCI runtime, written in Go.
    Runc,
    /// The libvirt daemon that manages the VM or LXC container.
    Libvirt,
    /// The emulator that runs a VM, with or without KVM.
    Qemu,
    /// The podman service.
    Podman,
    /// An OCI runtime, written in C.
    Crun,
}

impl Program {
    /// Every program.
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

    /// The name that its users know it by.
    pub fn title(self) -> &'static str {
        match self {
            Program::Docker => "Docker Engine",
            Program::Qemu => "QEMU",
            other => other.key(),
        }
    }
}

/// How an instance is started: created, or from the state that an initial start left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Start {
    /// The engine creates it from the image.
    #[default]
    Create,
    /// It ran until ready and was stopped: it starts again with its disk and without its memory.
    Restart,
    /// A container that ran until ready and was frozen with its memory resumes.
    Unpause,
    /// A VM that ran until ready and was saved to a file is restored with its memory.
    Restore,
}

impl Start {
    /// Every way to start.
    pub const ALL: [Start; 4] = [Start::Create, Start::Restart, Start::Unpause, Start::Restore];

    /// The value of `start` in scenarios.
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

    /// Whether it needs an initial start before it.
    pub fn needs_initial_start(self) -> bool {
        self != Start::Create
    }
}

impl std::fmt::Display for Start {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}

/// The description of one kind.
#[derive(Debug)]
pub struct Row {
    /// The kind that this row describes.
    pub kind: Kind,
    /// The value of `kind` in scenarios and results.
    pub name: &'static str,
    /// Process, container or VM.
    pub family: Family,
    /// Whether a scenario without `[[target]]` includes it.
    pub standard: bool,
    /// The kernel that its instances run on.
    pub kernel: Kernel,
    /// The network that its instances get.
    pub network: Network,
    /// The form of the image that its instances start from.
    pub image: ImageForm,
    /// Keys of a `[[target]]` that it accepts, besides `name`, `kind` and `start`.
    pub options: &'static [&'static str],
    /// The ways to start its instances, each with the resulting instance as words for a sentence.
    pub starts: &'static [(Start, &'static str)],
    /// Least `resources.memory` in bytes, and the reason.
    pub least_memory: (u64, &'static str),
    /// The programs whose versions its results record.
    pub programs: &'static [Program],
}

const CREATE: (Start, &str) = (Start::Create, "an instance made from the image");
/// Docker refuses limits below 6 MiB, and every target gets the same limit.
const MEMORY_PROCESS: (u64, &str) = (6 << 20, "Docker refuses lower limits");
/// Debian's stock kernel boots in 80 MB; with 64 MB it runs out of memory before init.
const MEMORY_VM: (u64, &str) = (80 << 20, "a VM's kernel does not boot with less");

static NATIVE: Row = Row {
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
};

static DOCKER: Row = Row {
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
    programs: &[Program::Docker, Program::Containerd, Program::Runc],
};

static LIBVIRT: Row = Row {
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
};

static PODMAN: Row = Row {
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
    programs: &[Program::Podman, Program::Crun],
};

static LXC: Row = Row {
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
};

/// The row of each kind, in the order in which outputs show them.
pub static TABLE: [&Row; 5] = [&NATIVE, &DOCKER, &LIBVIRT, &PODMAN, &LXC];

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

    /// The kind whose targets are the default baseline of ratios and overheads.
    pub const BASELINE: Kind = Kind::Native;

    /// Its row of [`TABLE`].
    pub fn row(self) -> &'static Row {
        match self {
            Kind::Native => &NATIVE,
            Kind::Docker => &DOCKER,
            Kind::Libvirt => &LIBVIRT,
            Kind::Podman => &PODMAN,
            Kind::Lxc => &LXC,
        }
    }

    /// The value of `kind` in scenarios and results.
    pub fn name(self) -> &'static str {
        self.row().name
    }

    /// Process, container or VM.
    pub fn family(self) -> Family {
        self.row().family
    }

    /// Whether its family is [`Family::Vm`].
    pub fn is_vm(self) -> bool {
        self.family() == Family::Vm
    }

    /// The kinds of a scenario without `[[target]]`; bootrace expects their engines on every host.
    pub fn standard() -> impl Iterator<Item = Kind> {
        Kind::ALL.into_iter().filter(|kind| kind.row().standard)
    }

    /// Whether a scenario without `[[target]]` includes it.
    pub fn is_standard(self) -> bool {
        self.row().standard
    }

    /// The kinds that accept this key of a `[[target]]`.
    pub fn with_option(key: &str) -> impl Iterator<Item = Kind> {
        Kind::ALL.into_iter().filter(move |kind| kind.row().options.contains(&key))
    }

    /// An instance that is started this way, in words for a sentence; `None` where the kind has no such start.
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
    fn every_kind_is_in_the_table_and_is_called_as_in_files() {
        for kind in Kind::ALL {
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.row().name);
            assert_eq!(kind.row().kind, kind);
            assert!(kind.started(Start::Create).is_some());
        }
        // The schema has every variant, also one that the table lacks.
        let schema = schemars::schema_for!(Kind).to_value().to_string();
        assert_eq!(variants_of(&schema), Kind::ALL.len(), "a kind is not in the table: {schema}");
    }

    /// Each variant is a `const` where it has a description, else an element of an `enum`.
    fn variants_of(schema: &str) -> usize {
        let value: serde_json::Value = serde_json::from_str(schema).unwrap();
        let one_of = value["oneOf"].as_array().into_iter().flatten();
        let listed = |value: &serde_json::Value| value["enum"].as_array().map_or(0, Vec::len);
        let consts = one_of.clone().filter(|one| one.get("const").is_some()).count();
        consts + one_of.map(listed).sum::<usize>() + listed(&value)
    }

    #[test]
    fn a_start_is_called_as_in_files() {
        for start in Start::ALL {
            assert_eq!(serde_json::to_value(start).unwrap(), start.name());
        }
    }
}
