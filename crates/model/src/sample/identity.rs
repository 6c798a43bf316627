//! The programs and the kernel of an instance.

use serde::{Deserialize, Serialize};

/// Which programs ran, on which kernel, as seen from inside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Identity {
    /// The digest that the image carries, to compare with `image.digest` of the run.
    pub image_digest: Option<String>,
    /// sha256 of the running agent's executable, lower-case hex.
    pub agent_digest: Option<String>,
    /// sha256 of the workload's executable, lower-case hex.
    pub workload_digest: Option<String>,
    /// The workload's arguments as its kernel has them.
    pub argv: Vec<String>,
    /// As `uname -r` prints it inside.
    pub kernel_release: String,
    /// The kernel's random boot id: equal to the host's where both share one kernel.
    pub boot_id: String,
}
