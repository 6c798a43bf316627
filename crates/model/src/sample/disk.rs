//! Disk space of an image and of one instance, and what copying costs it.

use serde::{Deserialize, Serialize};

/// What an instance has on the host's disk. Space is that of allocated blocks, holes not counted.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Disk {
    /// How the target keeps what an instance writes: `overlayfs` (also Docker's name for containerd's image store),
    /// `overlay2`, `qcow2`, ...; another storage driver of Docker's by its name, and then sizes are null.
    pub storage: Option<String>,
    /// The image in this target's form, which all its instances share.
    pub image_bytes: Option<u64>,
    /// What exists for this instance alone, once it is ready and has settled. A VM has written out what its kernel
    /// held back.
    pub instance_bytes: Option<u64>,
    /// Wall time of making the instance's own disk: part of start-up for a VM (the overlay's copy) and a container
    /// (the create call), before it for a bare process (the mount).
    pub provision_ns: Option<u64>,
    /// Null where the scenario has no `[cow]`.
    pub cow: Option<Cow>,
}

/// What writes to a file cost that is part of the image, by the host's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Cow {
    /// Size of the file.
    pub file_bytes: u64,
    /// Wall time of the first write of one page in its middle, from before the open until it was on the disk.
    pub first_write_ns: u64,
    /// The same by the clock inside.
    pub first_write_inside_ns: u64,
    /// Wall time of a second write, to another page.
    pub rewrite_ns: u64,
    pub rewrite_inside_ns: u64,
    /// Growth of `instance_bytes` by the first write; null where that is.
    pub grown_bytes: Option<i64>,
}
