//! Writes files.

use std::{fs, io::Write, path::Path};

use crate::Error;

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
