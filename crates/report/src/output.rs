//! Writes files, and reads those that a bootrace wrote.

use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
};

use crate::{Error, sudo_user::as_sudo_user, text};

/// How the name of a temporary file begins, which a process that was killed while it wrote leaves behind.
pub const UNFINISHED: &str = ".bootrace-";

/// Writes a temporary file and renames it, so that a reader or a crash never sees half a file. Makes the directories
/// that are missing. All of them belong to the sudo user, where this user may make them.
///
/// # Errors
/// When a directory can't be made, or the file can't be written.
pub fn put(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    as_sudo_user(|| put_as_this_user(path, bytes)).map_err(|why| Error::Write { path: path.to_owned(), why })
}

fn put_as_this_user(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let dir = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(dir)?;
    let mut file = tempfile::Builder::new()
        .prefix(UNFINISHED)
        .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))
        .tempfile_in(dir)?;
    file.write_all(bytes).and_then(|()| file.as_file().sync_all())?;
    file.persist(path)?;
    Ok(())
}

/// Reads a JSON file that a bootrace wrote. Checks the schema first: the error for another version would otherwise name a
/// field.
///
/// # Errors
/// When the file can't be read, is damaged, or has another schema.
pub(crate) fn read<T: serde::de::DeserializeOwned>(path: PathBuf, schema: &'static str) -> Result<T, Error> {
    let json = fs::read(&path).map_err(|why| Error::Read { path: path.clone(), why })?;
    let damaged = |why: serde_json::Error| Error::Damaged { path: path.clone(), why: why.to_string() };
    let value: serde_json::Value = serde_json::from_slice(&json).map_err(damaged)?;
    match value.get("schema").and_then(|schema| schema.as_str()) {
        Some(found) if found == schema => serde_json::from_slice(&json).map_err(damaged),
        Some(found) => Err(Error::Foreign { found: text::clip(found, 80), path, reads: schema }),
        None => Err(Error::Damaged { path, why: "it has no \"schema\"".into() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_another_version_is_named_with_its_own_schema() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("comparison.json");
        fs::write(&path, r#"{"schema": "bootrace.comparison/1"}"#).unwrap();
        let error = read::<serde_json::Value>(path, "bootrace.comparison/2").unwrap_err().to_string();
        let schemas = r#"the schema "bootrace.comparison/1", this version reads "bootrace.comparison/2""#;
        assert!(error.contains(schemas), "{error}");
    }
}
