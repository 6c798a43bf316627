//! Options besides the workload: the state of the page cache, a VM's accelerator, and the cache mode of its disk.

use serde::{Deserialize, Serialize};

/// The state of the host's page cache, for the image's files, when an instance is requested.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum PageCache {
    /// Empty: bootrace drops it before each sample.
    Cold,
    /// Filled by the reads of the warm-up rounds.
    Warm,
}

/// The choice of a VM's accelerator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Accel {
    /// KVM where a probe guest ran at hardware speed, else TCG.
    #[default]
    Auto,
    /// KVM; a host without it fails.
    Kvm,
    /// QEMU's emulation.
    Tcg,
}

/// QEMU's cache mode for a VM's disk: `none` and `directsync` bypass the host's page cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum DiskCache {
    /// No host page cache; flushes reach the disk.
    None,
    /// Host page cache; flushes reach the disk.
    Writeback,
    /// Host page cache; every write reaches the disk.
    Writethrough,
    /// No host page cache; every write reaches the disk.
    Directsync,
    /// Host page cache; flushes are ignored.
    Unsafe,
}

impl DiskCache {
    /// The name in scenarios, libvirt and QEMU.
    pub fn name(self) -> &'static str {
        match self {
            DiskCache::None => "none",
            DiskCache::Writeback => "writeback",
            DiskCache::Writethrough => "writethrough",
            DiskCache::Directsync => "directsync",
            DiskCache::Unsafe => "unsafe",
        }
    }
}
