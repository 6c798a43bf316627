//! One root file system, built once, known by its digest, used by every target.

use std::path::PathBuf;

use crate::{sample, scenario};

/// An image that is there, in every form that was asked for.
#[derive(Debug, Clone)]
pub struct Image {
    /// What goes into the results.
    pub info: sample::Image,
    /// sha256 of the agent's executable, lower-case hex.
    pub agent_digest: String,
    /// The unpacked tree; lower layer of a bare process's root. Read-only by agreement.
    pub tree: Option<PathBuf>,
    /// Reference of the Docker image.
    pub docker: Option<String>,
    pub vm: Option<VmFiles>,
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
}

/// The forms of an image that a scenario's targets need.
#[derive(Debug, Clone, Copy, Default)]
pub struct Forms {
    pub tree: bool,
    pub docker: bool,
    pub vm: bool,
}

impl Forms {
    pub fn of(targets: &[scenario::Target]) -> Self {
        let any = |kind| targets.iter().any(|t| t.kind == kind);
        Forms {
            tree: any(scenario::Kind::Native),
            docker: any(scenario::Kind::Docker),
            vm: any(scenario::Kind::Libvirt),
        }
    }
}
