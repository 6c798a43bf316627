//! Builds one root file system, identified by its digest, for all targets.
//!
//! ```text
//! definition -> base (base.tar) -> tree (+ agent) -> image in Docker, in podman
//!                                                 -> VM disk, overlay, kernel, initramfs -> bootable disk
//! ```
//! [`ensure`] finds or builds what a scenario needs, and [`Cache`] stores it. The base is cached by its definition,
//! everything after it by the image's digest.

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
pub use error::{Error, ErrorOrigin};
pub use lock::Lock;
pub use prune::{Prune, Pruned, prune};
pub use reach::{Reach, Unreachable, missing_for_cloud, missing_programs, reach};
pub use registry::LABEL as BUILD_LABEL;
pub use stored::{Stored, list, verify};

/// A complete image in all requested forms.
#[derive(Debug, Clone)]
pub struct Image {
    /// The image's record in the results.
    pub info: sample::Image,
    /// sha256 of the agent's executable, lower-case hex.
    pub agent_digest: String,
    /// The unpacked tree, the lower layer of a bare process's root. Nobody may write to it. Only root can enter its
    /// parent directory, so that this host's users can't run its set-user-ID programs.
    pub tree: Option<PathBuf>,
    /// Reference of the image in Docker.
    pub docker: Option<String>,
    /// Reference of the image in podman's storage.
    pub podman: Option<String>,
    pub vm: Option<VmFiles>,
    pub stock: Option<StockFiles>,
    /// Keeps the image from being pruned while a clone of it exists.
    pub in_use: Option<Arc<Lock>>,
}

/// The files of a direct-boot VM.
#[derive(Debug, Clone)]
pub struct VmFiles {
    pub kernel: PathBuf,
    pub initramfs: PathBuf,
    /// The raw ext4 disk.
    pub disk: PathBuf,
    /// An empty qcow2 with `disk` as its backing file. An instance's disk is a copy of it.
    pub overlay: PathBuf,
    /// The files for a boot of the image's whole system; `None` if the image has no such system.
    pub system: Option<SystemFiles>,
}

impl VmFiles {
    /// The raw disk that is the backing file of one of this image's overlays.
    pub fn disk_below(overlay: &Path) -> PathBuf {
        overlay.with_file_name("disk.raw")
    }
}

/// The files of a VM that boots the image's whole system.
#[derive(Debug, Clone)]
pub struct SystemFiles {
    /// The distribution's initrd.
    pub initrd: PathBuf,
    /// The kernel's command line, for QEMU and for GRUB.
    pub command_line: String,
    /// Overlays on disks that a BIOS or a UEFI boots. Each only if it was requested.
    pub bios: Option<PathBuf>,
    pub uefi: Option<PathBuf>,
}

/// The files of a VM that boots an unchanged cloud image.
#[derive(Debug, Clone)]
pub struct StockFiles {
    /// An empty qcow2 with the cloud image's own file as its backing file.
    pub overlay: PathBuf,
    /// The seed disk for cloud-init, the same for all instances.
    pub seed: PathBuf,
    /// Size of the cloud image's file in bytes.
    pub disk_bytes: u64,
}

impl StockFiles {
    /// The cloud image's own file, the backing file of the overlay.
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
    /// A target starts its systemd as PID 1.
    pub systemd: bool,
    /// A VM boots its whole system with its own initrd.
    pub initrd: bool,
    /// Disks that a BIOS or a UEFI boots.
    pub bios: bool,
    pub uefi: bool,
    /// A cloud image's own disk, with its seed.
    pub stock: bool,
}

impl Forms {
    /// The forms of this image that `targets` need.
    pub fn of_image(image: &scenario::Image, targets: &[scenario::ScenarioTarget]) -> Self {
        let forms = Forms::of(targets);
        if image.cloud.is_none() {
            return forms;
        }
        // Firmware boots the cloud image's own disk; only other VMs need files built from it.
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

    /// The engines that need the image.
    fn engines(self) -> impl Iterator<Item = ContainerEngine> {
        ContainerEngine::ALL.into_iter().filter(move |engine| match engine {
            ContainerEngine::Docker => self.docker,
            ContainerEngine::Podman => self.podman,
        })
    }
}
