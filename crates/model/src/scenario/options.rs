//! Options besides the workload: the state of the page cache, and the cache mode of a VM's disk.

use serde::{Deserialize, Serialize};

use super::Sampling;

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

impl Sampling {
    /// The effective state: the scenario's, else warm with warm-up rounds; `None`: whatever the host has.
    pub fn page_cache_state(&self) -> Option<PageCache> {
        self.page_cache.or((self.warmup > 0).then_some(PageCache::Warm))
    }
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
