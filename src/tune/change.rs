//! One file of a setting.

use std::{
    fs::{self, OpenOptions},
    io::Write,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

/// A file below the root that is set, and its original content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Change {
    pub(super) file: PathBuf,
    pub(super) found: String,
    pub(super) set: String,
}

pub(super) fn read(path: &Path) -> Option<String> {
    fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}

/// Writes a value and checks that the kernel accepted it.
pub(super) fn write(path: &Path, value: &str) -> Result<(), String> {
    let mut file = OpenOptions::new().write(true).truncate(true).open(path).map_err(|e| e.to_string())?;
    file.write_all(value.as_bytes()).map_err(|e| e.to_string())?;
    match read(path) {
        Some(now) if now == value => Ok(()),
        now => Err(format!("the kernel has {} in place of {value}", now.unwrap_or_default())),
    }
}
