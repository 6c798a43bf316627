//! `[cow]`: the cost of a write to a file of the image, which copy-on-write copies first.

use serde::{Deserialize, Serialize};

use super::{
    Bytes,
    path::at,
    rules::Wrong,
    text::{between, ensure},
};

const LEAST: Bytes = Bytes(1 << 20);
/// A VM's disk has 1 GiB of free space, and every form of the image has the file.
const MOST: Bytes = Bytes(1 << 30);

/// The file that the image gets for this measurement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct CowFile {
    /// Its size: a whole number of MiB.
    pub file: Bytes,
}

pub(super) fn check(cow: Option<&CowFile>, wrong: &mut Wrong<'_>) {
    let Some(CowFile { file }) = cow else { return };
    let path = at!["cow", "file"];
    wrong(path, between(*file, LEAST, MOST, "a VM's disk has 1 GiB of free space"));
    wrong(
        path,
        ensure(file.0.is_multiple_of(1 << 20), || {
            format!("{file} is not a whole number of MiB: write one, as in \"100MiB\"")
        }),
    );
}
