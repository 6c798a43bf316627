//! Builds one root file system, identified by its digest, for all targets.
//!
//! ```text
//! definition -> base (base.tar) -> tree (+ agent) -> image in Docker, in podman
//!                                                 -> VM disk, overlay, kernel, initramfs -> bootable disk
//! ```
//! [`ensure`] finds or builds what a scenario needs, and [`Cache`] stores it. The base is cached by its definition,
//! everything after it by the image's digest.

pub(crate) mod address;
mod base;
mod boot_disk;
mod bootable;
mod cache;
pub(crate) mod cloud;
mod cow_file;
pub(crate) mod definition;
pub(crate) mod docker;
pub(crate) mod docker_config;
pub(crate) mod engine;
mod ensure;
mod error;
mod forms;
mod initramfs;
mod job;
pub(crate) mod kernel;
mod lock;
pub(crate) mod login;
pub(crate) mod manifest;
mod partitions;
pub(crate) mod podman;
mod prune;
mod reach;
pub(crate) mod registry;
pub mod rootless;
mod stored;
pub(crate) mod suite;
pub(crate) mod tool;
pub(crate) mod tree;
pub mod trial;
mod vm;

pub use address::{Address, Unusable};
pub use base::forget_failure;
pub use cache::{Abandoned, Cache, Temp};
pub use docker::LABEL as DOCKER_LABEL;
pub use engine::{ContainerEngine, SNAPSHOTTER, cause, explain, has_containerd_store};
pub use ensure::ensure;
pub use error::{Error, ErrorOrigin, Refusal};
pub use forms::{Forms, Image, StockFiles, SystemFiles, VmFiles};
pub use lock::Lock;
pub use prune::{Prune, Pruned, prune};
pub use reach::{Reach, Unreachable, missing_for_cloud, missing_programs, reach};
pub use registry::{LABEL as BUILD_LABEL, orphans as build_orphans};
pub use stored::{Stored, list, verify};
pub use tree::names;
