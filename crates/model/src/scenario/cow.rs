//! `[cow]`: the cost of a write to a file of the image, which copy-on-write copies first.

use serde::{Deserialize, Serialize};

use super::Bytes;

/// The file that the image gets for this measurement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct CowFile {
    /// Its size: a whole number of MiB.
    pub file: Bytes,
}
