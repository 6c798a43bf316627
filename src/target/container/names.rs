//! The files of `/etc` that an engine would otherwise lay over the image's own, each in its own way.

use std::{fs, io, path::Path};

use crate::image::names::{RESOLVER, files};

/// Writes the files into the instance's directory, and returns how the engine binds them. With a network the engine's
/// own resolver stays.
///
/// # Errors
/// When a file can't be written.
pub(super) fn binds(dir: &Path, network: bool) -> io::Result<Vec<String>> {
    let mut binds = Vec::new();
    for (path, content) in files().into_iter().filter(|(path, _)| !(network && *path == RESOLVER)) {
        let file = dir.join(path.rsplit('/').next().unwrap_or(path));
        fs::write(&file, content)
            .and_then(|()| fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o644)))
            .map_err(|e| io::Error::new(e.kind(), format!("writing {}: {e}", file.display())))?;
        binds.push(format!("{}:{path}", file.display()));
    }
    Ok(binds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_engine_keeps_only_its_resolver_and_only_with_a_network() {
        let dir = tempfile::tempdir().unwrap();
        let bound = |network| -> Vec<String> {
            let binds = binds(dir.path(), network).unwrap();
            binds.iter().map(|bind| bind.rsplit(':').next().unwrap().to_owned()).collect()
        };
        assert_eq!(bound(true), ["/etc/hosts", "/etc/hostname"]);
        assert_eq!(bound(false), ["/etc/hosts", "/etc/hostname", "/etc/resolv.conf"]);
    }
}
