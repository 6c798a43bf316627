//! A cache of images of a test's own.

use std::{fs, os::unix::fs::PermissionsExt, path::PathBuf, sync::Mutex};

use bootrace::{
    image::{self, Cache, Error, Forms, Image},
    scenario,
};

/// A cache in a directory of its own.
pub struct OwnCache {
    pub dir: tempfile::TempDir,
    pub cache: Cache,
    pub log: Mutex<Vec<String>>,
}

impl OwnCache {
    pub fn new() -> OwnCache {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let cache = Cache::open(Some(dir.path().join("cache"))).unwrap();
        OwnCache { dir, cache, log: Mutex::default() }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub async fn ensure(&self, spec: &scenario::Image, forms: Forms) -> Result<Image, Error> {
        let log = |line: &str| self.log.lock().unwrap().push(line.to_string());
        image::ensure(spec, self.dir.path(), forms, &self.cache, &log).await
    }

    /// The messages since the last call.
    pub fn said(&self) -> Vec<String> {
        std::mem::take(&mut self.log.lock().unwrap())
    }
}
