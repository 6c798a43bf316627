//! `[[target]]`: a way to run the workload, with the options of its kind.
//!
//! A file has the options of all kinds side by side; a target has those of its own kind alone.

use serde::{Deserialize, Serialize};

use super::{Accel, Boot, DiskCache, Firmware, Init};
use crate::kind::{Kind, Start};

/// One `[[target]]`: a way to run the workload, with the options of its kind.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(from = "Written", into = "Written")]
#[cfg_attr(test, schemars(with = "Written"))]
pub struct ScenarioTarget {
    /// Unique within the scenario.
    pub name: String,
    /// How its instances start.
    pub start: Start,
    /// Its kind, with the options that the kind has.
    pub options: TargetOptions,
}

/// A kind of target with its options. `None`: the default that the option's line states.
#[derive(Debug, Clone, PartialEq)]
pub enum TargetOptions {
    /// A bare process; it has none.
    Native,
    /// A container of Docker's.
    Docker(DockerOptions),
    /// A VM.
    Libvirt(LibvirtOptions),
    /// A container of podman's.
    Podman(ContainerOptions),
    /// A container of libvirt's.
    Lxc(LxcOptions),
}

/// Options of containers of an engine with Docker's API.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ContainerOptions {
    /// `none`, `bridge`, `host`, or a network of the engine; `None`: `workload.network` decides.
    pub network: Option<String>,
    /// The engine's log driver; `None`: `none`.
    pub log_driver: Option<String>,
}

/// Options of Docker's containers.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct DockerOptions {
    /// Those of any engine with Docker's API.
    pub container: ContainerOptions,
    /// The OCI runtime, as in `runc`; `None`: the Engine's default.
    pub runtime: Option<String>,
    /// The container's PID 1; `None`: the agent.
    pub init: Option<Init>,
}

/// Options of VMs.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct LibvirtOptions {
    /// The system that the VM boots.
    pub boot: Option<Boot>,
    /// With `boot = "firmware"` only; `None`: `bios` on x86_64, else `uefi`.
    pub firmware: Option<Firmware>,
    /// KVM or emulation.
    pub accel: Option<Accel>,
    /// `host-passthrough`, `host-model`, or a CPU model of QEMU; `None`: as the accelerator does best.
    pub cpu_model: Option<String>,
    /// Whether the VM's memory comes from the host's pool of huge pages.
    pub hugepages: Option<bool>,
    /// QEMU's cache mode for the disk; `None`: libvirt's default.
    pub disk_cache: Option<DiskCache>,
    /// The URI of a libvirt on this host; `None`: libvirt's default, else the system instance.
    pub uri: Option<String>,
}

/// Options of libvirt's containers.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct LxcOptions {
    /// The URI of a libvirt on this host; `None`: libvirt's default, else the driver's own.
    pub uri: Option<String>,
}

impl TargetOptions {
    /// Of this kind, every option left out.
    pub fn of(kind: Kind) -> Self {
        match kind {
            Kind::Native => TargetOptions::Native,
            Kind::Docker => TargetOptions::Docker(DockerOptions::default()),
            Kind::Libvirt => TargetOptions::Libvirt(LibvirtOptions::default()),
            Kind::Podman => TargetOptions::Podman(ContainerOptions::default()),
            Kind::Lxc => TargetOptions::Lxc(LxcOptions::default()),
        }
    }
}

impl ScenarioTarget {
    /// A target of this kind without a name and with every option left out.
    pub fn new(kind: Kind) -> Self {
        ScenarioTarget { name: String::new(), start: Start::Create, options: TargetOptions::of(kind) }
    }

    /// How it runs the workload.
    pub fn kind(&self) -> Kind {
        match self.options {
            TargetOptions::Native => Kind::Native,
            TargetOptions::Docker(_) => Kind::Docker,
            TargetOptions::Libvirt(_) => Kind::Libvirt,
            TargetOptions::Podman(_) => Kind::Podman,
            TargetOptions::Lxc(_) => Kind::Lxc,
        }
    }

    /// Its options where it is a VM.
    pub fn vm(&self) -> Option<&LibvirtOptions> {
        match &self.options {
            TargetOptions::Libvirt(options) => Some(options),
            TargetOptions::Native
            | TargetOptions::Docker(_)
            | TargetOptions::Podman(_)
            | TargetOptions::Lxc(_) => None,
        }
    }

    /// Its options where an engine with Docker's API has its containers.
    pub fn container(&self) -> Option<&ContainerOptions> {
        match &self.options {
            TargetOptions::Docker(options) => Some(&options.container),
            TargetOptions::Podman(options) => Some(options),
            TargetOptions::Native | TargetOptions::Libvirt(_) | TargetOptions::Lxc(_) => None,
        }
    }

    /// Its options where it is a container of Docker's.
    pub fn docker(&self) -> Option<&DockerOptions> {
        match &self.options {
            TargetOptions::Docker(options) => Some(options),
            TargetOptions::Native
            | TargetOptions::Libvirt(_)
            | TargetOptions::Podman(_)
            | TargetOptions::Lxc(_) => None,
        }
    }

    /// The URI of its libvirt, where it names one.
    pub fn uri(&self) -> Option<&str> {
        match &self.options {
            TargetOptions::Libvirt(options) => options.uri.as_deref(),
            TargetOptions::Lxc(options) => options.uri.as_deref(),
            TargetOptions::Native | TargetOptions::Docker(_) | TargetOptions::Podman(_) => None,
        }
    }
}

impl ScenarioTarget {
    /// The system that it boots; `None` except for a VM.
    pub fn boot(&self) -> Option<Boot> {
        self.vm().map(|options| options.boot.unwrap_or_default())
    }

    /// The firmware that it boots from; `None` without one.
    pub fn firmware(&self) -> Option<Firmware> {
        let options = self.vm().filter(|_| self.boot() == Some(Boot::Firmware))?;
        Some(options.firmware.unwrap_or_else(Firmware::usual))
    }

    /// Whether it is a VM that boots the image's whole system.
    pub fn boots_system(&self) -> bool {
        matches!(self.boot(), Some(Boot::Systemd | Boot::Firmware))
    }

    /// Whether the image's systemd is its PID 1.
    pub fn runs_systemd(&self) -> bool {
        self.boots_system() || self.docker().is_some_and(|options| options.init == Some(Init::Systemd))
    }
}

/// As files and results have it: the options of all kinds side by side. `scenario::rules` refuses those of others.
#[derive(Debug, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
struct Written {
    /// Unique within the scenario; none given: the kind.
    #[serde(default)]
    name: String,
    /// How it runs the workload.
    kind: Kind,
    /// How its instances start; none given: `create`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    start: Option<Start>,
    /// The system that the VM boots; none given: `direct`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    boot: Option<Boot>,
    /// With `boot = "firmware"` only; none given: `bios` on x86_64, else `uefi`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    firmware: Option<Firmware>,
    /// KVM or emulation; none given: `auto`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    accel: Option<Accel>,
    /// `host-passthrough`, `host-model`, or a CPU model of QEMU.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cpu_model: Option<String>,
    /// The VM's memory comes from the host's pool of huge pages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    hugepages: Option<bool>,
    /// QEMU's cache mode for the disk; none given: libvirt's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    disk_cache: Option<DiskCache>,
    /// The URI of a libvirt on this host; none given: LIBVIRT_DEFAULT_URI, else libvirt.conf's uri_default, else the system
    /// instance of the kind's driver.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    uri: Option<String>,
    /// `none`, `bridge`, `host`, or a network of the engine; none given: `workload.network`
    /// decides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    network: Option<String>,
    /// The engine's log driver; none given: `none`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    log_driver: Option<String>,
    /// The OCI runtime, as in `runc`; none given: the Engine's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    runtime: Option<String>,
    /// The container's PID 1; none given: the agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    init: Option<Init>,
}

impl From<Written> for ScenarioTarget {
    fn from(written: Written) -> Self {
        let Written { network, log_driver, uri, .. } = written;
        let container = ContainerOptions { network, log_driver };
        let options = match written.kind {
            Kind::Native => TargetOptions::Native,
            Kind::Docker => TargetOptions::Docker(DockerOptions {
                container,
                runtime: written.runtime,
                init: written.init,
            }),
            Kind::Libvirt => TargetOptions::Libvirt(LibvirtOptions {
                boot: written.boot,
                firmware: written.firmware,
                accel: written.accel,
                cpu_model: written.cpu_model,
                hugepages: written.hugepages,
                disk_cache: written.disk_cache,
                uri,
            }),
            Kind::Podman => TargetOptions::Podman(container),
            Kind::Lxc => TargetOptions::Lxc(LxcOptions { uri }),
        };
        ScenarioTarget { name: written.name, start: written.start.unwrap_or_default(), options }
    }
}

impl From<ScenarioTarget> for Written {
    fn from(target: ScenarioTarget) -> Self {
        Written {
            start: Some(target.start).filter(|start| start.needs_initial_start()),
            name: target.name,
            ..Written::of(target.options)
        }
    }
}

impl Written {
    fn of(options: TargetOptions) -> Self {
        let rest = |kind| Written {
            kind,
            name: String::new(),
            start: None,
            boot: None,
            firmware: None,
            accel: None,
            cpu_model: None,
            hugepages: None,
            disk_cache: None,
            uri: None,
            network: None,
            log_driver: None,
            runtime: None,
            init: None,
        };
        match options {
            TargetOptions::Native => rest(Kind::Native),
            TargetOptions::Docker(DockerOptions { container, runtime, init }) => {
                let ContainerOptions { network, log_driver } = container;
                Written { network, log_driver, runtime, init, ..rest(Kind::Docker) }
            }
            TargetOptions::Libvirt(LibvirtOptions {
                boot,
                firmware,
                accel,
                cpu_model,
                hugepages,
                disk_cache,
                uri,
            }) => Written {
                boot,
                firmware,
                accel,
                cpu_model,
                hugepages,
                disk_cache,
                uri,
                ..rest(Kind::Libvirt)
            },
            TargetOptions::Podman(ContainerOptions { network, log_driver }) => {
                Written { network, log_driver, ..rest(Kind::Podman) }
            }
            TargetOptions::Lxc(LxcOptions { uri }) => Written { uri, ..rest(Kind::Lxc) },
        }
    }
}
