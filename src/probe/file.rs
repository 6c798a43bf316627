//! Reads files of the kernel.

use std::{fs, io, path::Path};

/// A kernel file could not be read or has an unexpected form.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{path}: {why}")]
pub struct Error {
    pub path: String,
    pub why: String,
    /// The file's subject is gone: a process that has ended, or a removed cgroup.
    pub(super) gone: bool,
}

impl Error {
    pub(super) fn new(path: &Path, why: impl Into<String>) -> Self {
        Error { path: path.display().to_string(), why: why.into(), gone: false }
    }

    pub(super) fn io(path: &Path, error: &io::Error) -> Self {
        let code = error.raw_os_error();
        let gone = matches!(code, Some(libc::ENOENT | libc::ESRCH | libc::ENODEV));
        let fix = match code {
            Some(libc::EACCES | libc::EPERM) => ": reading another user's processes takes root",
            Some(libc::ESRCH) => ": the process has ended",
            Some(libc::ENODEV) => ": the cgroup was removed",
            _ => "",
        };
        Error { gone, ..Error::new(path, format!("{error}{fix}")) }
    }
}

pub(super) fn read(path: &Path) -> Result<String, Error> {
    fs::read_to_string(path).map_err(|error| Error::io(path, &error))
}

/// Reads a file with only a number.
pub(super) fn read_number(path: &Path) -> Result<u64, Error> {
    let text = read(path)?;
    text.trim().parse().map_err(|_| Error::new(path, format!("no number: {:?}", text.trim())))
}
