//! Keeps a host's noise in one file per host, so that the noise floor covers days and not minutes.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

pub use bootrace_analysis::noise::*;

use crate::{report::sudo_user::as_sudo_user, sample::Host, sys};

/// Names another directory for the hosts' records.
pub const VARIABLE: &str = "BOOTRACE_STATE";
const STATE: &str = "/var/lib/bootrace";

/// The key of this host's noise record: [`bootrace_analysis::noise::key`].
pub fn key(host: &Host) -> String {
    let machine = fs::read_to_string("/etc/machine-id").unwrap_or_default();
    bootrace_analysis::noise::key(machine.trim(), host)
}

/// The path of a host's record.
pub fn file(key: &str) -> PathBuf {
    let state = sys::variable(VARIABLE).map_or_else(|| STATE.into(), PathBuf::from);
    state.join("noise").join(format!("{key}.json"))
}

/// Adds sessions to this host's record and returns the whole record. Concurrent writers wait.
///
/// # Errors
/// When the record can't be read, or `save` can't write it.
pub fn keep<E: From<io::Error>>(
    host: &Host,
    sessions: Vec<Session>,
    save: impl FnOnce(&Record, &Path) -> Result<(), E>,
) -> Result<Record, E> {
    let path = file(&key(host));
    let dir = path.parent().unwrap_or(Path::new("."));
    // The lock is a separate file, since the record itself is replaced. The kernel releases it with the file.
    let lock = as_sudo_user(|| {
        fs::create_dir_all(dir)?;
        fs::File::create(path.with_extension("lock"))
    })?;
    lock.lock()?;
    let mut record = load_from(&path, host)?;
    record.add(sessions);
    save(&record, &path)?;
    Ok(record)
}

/// The record of this host; a new one if there is none.
///
/// # Errors
/// When it can't be read, or is no record of this version.
pub fn load(host: &Host) -> io::Result<Record> {
    load_from(&file(&key(host)), host)
}

pub(crate) fn load_from(path: &Path, host: &Host) -> io::Result<Record> {
    let text = match fs::read(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Record::new(key(host), host)),
        result => result?,
    };
    let record: Record = serde_json::from_slice(&text)?;
    if record.schema != SCHEMA {
        return Err(io::Error::other(format!(
            "its schema is {:?}, this version reads {SCHEMA:?}",
            record.schema
        )));
    }
    Ok(record)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_read_as_written_and_a_foreign_one_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.json");
        let host = Host::default();
        assert_eq!(load_from(&path, &host).unwrap(), Record::new(key(&host), &host));
        let mut record = Record::new(key(&host), &host);
        fs::write(&path, serde_json::to_vec(&record).unwrap()).unwrap();
        assert_eq!(load_from(&path, &host).unwrap(), record);
        record.schema = "bootrace.noise/99".into();
        fs::write(&path, serde_json::to_vec(&record).unwrap()).unwrap();
        assert!(load_from(&path, &host).unwrap_err().to_string().contains("noise/2"));
    }
}
