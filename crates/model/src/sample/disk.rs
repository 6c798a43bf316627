//! Disk space of an image and of one instance, and the cost of copy-on-write.

use serde::{Deserialize, Serialize};

/// An instance's use of the host's disk. Sizes are allocated blocks, holes not counted.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Disk {
    /// How the target keeps what an instance writes: `overlayfs` (also Docker's name for containerd's image store),
    /// `overlay2`, `qcow2`, ...; another storage driver of Docker's has its own name here, and null sizes.
    pub storage: Option<String>,
    /// The image in this target's form, which all its instances share.
    pub image_bytes: Option<u64>,
    /// What exists for this instance alone, after the settle time. A VM's kernel has written its dirty pages out by
    /// then.
    pub instance_bytes: Option<u64>,
    /// Wall time to make the instance's own disk: part of start-up for a VM (the overlay's copy) and a container (the
    /// create call), before start-up for a bare process (the mount).
    pub provision_ns: Option<u64>,
    /// Cost of copy-on-write; null where the scenario has no `[cow]`.
    pub cow: Option<Cow>,
}

/// Cost of writes to a file of the image, by the host's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Cow {
    /// Size of the file.
    pub file_bytes: u64,
    /// Wall time of the first write of one page in its middle, from before the open until the sync returns.
    pub first_write_ns: u64,
    /// The same by the instance's own clock.
    pub first_write_inside_ns: u64,
    /// Wall time of a second write, to another page.
    pub rewrite_ns: u64,
    /// The same by the instance's own clock.
    pub rewrite_inside_ns: u64,
    /// Growth of `instance_bytes` by the first write; null where `instance_bytes` is.
    pub grown_bytes: Option<i64>,
}
