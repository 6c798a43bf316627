//! One root file system, built once, known by its digest, used by every target.
//!
//! ```text
//! definition -> base (base.tar) -> tree (+ agent) -> image in Docker, in podman
//!                                                 -> VM disk, overlay, kernel, initramfs -> bootable disk
//! ```
//! [`ensure`] finds or makes what a scenario needs; [`Cache`] keeps it. The base is cached by its
//! definition, everything after it by the image's digest.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::{
    kind::ImageForm,
    {sample, scenario},
};

mod base;
mod boot_disk;
mod bootable;
mod cache;
mod cloud;
mod cow_file;
mod definition;
mod docker;
mod engine;
mod ensure;
mod error;
mod initramfs;
mod job;
mod kernel;
mod lock;
mod manifest;
mod partitions;
mod prune;
mod reach;
mod registry;
mod rootfs;
pub mod rootless;
mod stored;
mod suite;
mod tool;
mod tree;
pub mod trial;
mod vm;

pub use base::forget_failure;
pub use cache::{Abandoned, Cache};
pub use docker::LABEL as DOCKER_LABEL;
pub use engine::{ContainerEngine, SNAPSHOTTER, has_containerd_store};
pub use ensure::ensure;
pub use error::{Error, FoundOut};
pub use lock::Lock;
pub use prune::{Prune, Pruned, prune};
pub use reach::{Reach, Unreachable, missing_for_cloud, missing_programs, reach};
pub use registry::LABEL as BUILD_LABEL;
pub use stored::{Stored, list, verify};

/// An image that is there, in every form that was asked for.
#[derive(Debug, Clone)]
pub struct Image {
    /// What goes into the results.
    pub info: sample::Image,
    /// sha256 of the agent's executable, lower-case hex.
    pub agent_digest: String,
    /// The unpacked tree; lower layer of a bare process's root. Read-only by agreement. Only root
    /// can enter its parent: its set-user-ID programs are not for this host's users.
    pub tree: Option<PathBuf>,
    /// Reference of the Docker image.
    pub docker: Option<String>,
    /// Reference of the image in podman's storage.
    pub podman: Option<String>,
    pub vm: Option<VmFiles>,
    pub stock: Option<StockFiles>,
    /// As long as a clone of it lives the image is not pruned.
    pub in_use: Option<Arc<Lock>>,
}

/// What a direct-boot VM needs.
#[derive(Debug, Clone)]
pub struct VmFiles {
    pub kernel: PathBuf,
    pub initramfs: PathBuf,
    /// The raw ext4 disk.
    pub disk: PathBuf,
    /// An empty qcow2 whose backing file is `disk`; an instance's disk is a copy of it.
    pub overlay: PathBuf,
    /// What it takes to boot the image's whole system; none if the image has no such system.
    pub system: Option<SystemFiles>,
}

impl VmFiles {
    /// The raw disk that is the backing file of an overlay of this image's, whatever boots it.
    pub fn disk_below(overlay: &Path) -> PathBuf {
        overlay.with_file_name("disk.raw")
    }
}

/// What a VM needs that boots the image's whole system.
#[derive(Debug, Clone)]
pub struct SystemFiles {
    /// The distribution's own.
    pub initrd: PathBuf,
    /// The kernel's, whoever loads it.
    pub command_line: String,
    /// Overlays on disks that firmware boots: a BIOS, a UEFI. Each only if it was asked for.
    pub bios: Option<PathBuf>,
    pub uefi: Option<PathBuf>,
}

/// What a VM needs that boots a cloud image as it is.
#[derive(Debug, Clone)]
pub struct StockFiles {
    /// An empty qcow2 whose backing file is the cloud image's own file.
    pub overlay: PathBuf,
    /// The disk that cloud-init sets the instance up by; for all instances the same.
    pub seed: PathBuf,
    /// Size of the cloud image's file.
    pub disk_bytes: u64,
}

impl StockFiles {
    /// The cloud image's own file, the backing file of an overlay of these.
    pub fn disk_below(overlay: &Path) -> PathBuf {
        overlay.with_file_name(cloud::DISK)
    }
}

/// The forms of an image that a scenario's targets need.
#[derive(Debug, Clone, Copy, Default)]
pub struct Forms {
    pub tree: bool,
    pub docker: bool,
    pub podman: bool,
    pub vm: bool,
    /// Its systemd is PID 1 somewhere.
    pub systemd: bool,
    /// A VM boots it as a whole system, by its own initrd.
    pub initrd: bool,
    /// Disks that firmware boots.
    pub bios: bool,
    pub uefi: bool,
    /// A cloud image's own disk, with its seed.
    pub stock: bool,
}

impl Forms {
    /// What `targets` need of this image.
    pub fn of_image(image: &scenario::Image, targets: &[scenario::ScenarioTarget]) -> Self {
        let forms = Forms::of(targets);
        if image.cloud.is_none() {
            return forms;
        }
        // Its own disk is what firmware boots; only other VMs need anything made of its files.
        let boots = |boot| targets.iter().any(|target| target.boot() == Some(boot));
        let (direct, systemd) = (boots(scenario::Boot::Direct), boots(scenario::Boot::Systemd));
        Forms {
            vm: direct || systemd,
            initrd: systemd,
            bios: false,
            uefi: false,
            stock: boots(scenario::Boot::Firmware),
            ..forms
        }
    }

    pub fn of(targets: &[scenario::ScenarioTarget]) -> Self {
        let any = |form| targets.iter().any(|target| target.kind().row().image == form);
        Forms {
            tree: any(ImageForm::Tree),
            docker: any(ImageForm::Docker),
            podman: any(ImageForm::Podman),
            vm: any(ImageForm::Vm),
            systemd: targets.iter().any(scenario::ScenarioTarget::runs_systemd),
            initrd: targets.iter().any(scenario::ScenarioTarget::boots_system),
            bios: targets.iter().any(|t| t.firmware() == Some(scenario::Firmware::Bios)),
            uefi: targets.iter().any(|t| t.firmware() == Some(scenario::Firmware::Uefi)),
            stock: false,
        }
    }

    /// The engines that are to have it.
    fn engines(self) -> impl Iterator<Item = ContainerEngine> {
        ContainerEngine::ALL.into_iter().filter(move |engine| match engine {
            ContainerEngine::Docker => self.docker,
            ContainerEngine::Podman => self.podman,
        })
    }
}
