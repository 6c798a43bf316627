//! Writes files, and reads those that a bootrace wrote.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
};

use crate::{Error, text};

/// Writes a temporary file and renames it, so that a reader or a crash never sees half a file.
pub(crate) fn put(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let failed = |why| Error::Write { path: path.to_owned(), why };
    let dir = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(dir).map_err(failed)?;
    let mut file = tempfile::Builder::new()
        .prefix(".bootrace-")
        .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))
        .tempfile_in(dir)
        .map_err(failed)?;
    file.write_all(bytes).and_then(|()| file.as_file().sync_all()).map_err(failed)?;
    file.persist(path).map_err(|e| failed(e.error))?;
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
