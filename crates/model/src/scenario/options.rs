//! What a scenario may choose besides what runs: the state of the page cache, and how a VM's disk is opened.

use serde::{Deserialize, Serialize};

use super::{Kind, Sampling, ScenarioTarget};

/// What of the image is in the host's page cache when an instance is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PageCache {
    /// Nothing: dropped before each sample.
    Cold,
    /// All that warm-up rounds read.
    Warm,
}

impl Sampling {
    /// Warm where there are warm-up rounds, unless the scenario says otherwise; `None`: as it is found.
    pub fn page_cache_state(&self) -> Option<PageCache> {
        self.page_cache.or((self.warmup > 0).then_some(PageCache::Warm))
    }
}

/// How QEMU opens a VM's disk: `none` and `directsync` go past the host's page cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DiskCache {
    None,
    Writeback,
    Writethrough,
    Directsync,
    Unsafe,
}

impl DiskCache {
    /// As libvirt and QEMU call it.
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

impl ScenarioTarget {
    /// With every option left out.
    pub fn new(kind: Kind) -> Self {
        ScenarioTarget {
            name: String::new(),
            kind,
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
        }
    }
}
