//! Who is alive: a locked file per run, so that `clean` leaves a run alone that goes on.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
};

use anyhow::Context;

use crate::target;

const SUFFIX: &str = ".lock";

/// Held while a run goes on; the kernel lets go of it however the harness ends.
pub struct Lock {
    path: PathBuf,
    _file: File,
}

impl Lock {
    /// # Errors
    /// When the file can't be made or is locked: the run's id is not unique then.
    pub fn take(instances: &Path, run: &str) -> anyhow::Result<Self> {
        let path = instances.join(super::tag(run) + SUFFIX);
        let file = File::create(&path).with_context(|| format!("making {}", path.display()))?;
        file.try_lock().with_context(|| format!("locking {}: is the same run going on?", path.display()))?;
        Ok(Lock { path, _file: file })
    }

    /// The tags of the runs that go on.
    ///
    /// # Errors
    /// When the directory can't be read.
    pub fn held(instances: &Path) -> anyhow::Result<Vec<String>> {
        let mut tags = Vec::new();
        for name in names(instances)? {
            let Some(tag) = name.strip_suffix(SUFFIX) else { continue };
            if File::open(instances.join(&name)).is_ok_and(|f| f.try_lock().is_err()) {
                tags.push(tag.to_owned());
            }
        }
        Ok(tags)
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

fn names(dir: &Path) -> anyhow::Result<Vec<String>> {
    let entries = fs::read_dir(dir).with_context(|| format!("reading {}", dir.display()))?;
    Ok(entries.flatten().filter_map(|e| e.file_name().into_string().ok()).collect())
}

/// Removes the files of instances and the locks of runs that are no more; gives their names.
///
/// # Errors
/// When one can't be removed.
pub fn clean(instances: &Path, keep: impl Fn(&str) -> bool) -> Result<Vec<String>, target::Error> {
    let failed = |what: &Path, e: &dyn std::fmt::Display| {
        target::Error::new(format!("removing {}", what.display()), e)
    };
    let mut removed = Vec::new();
    for name in names(instances).map_err(|e| failed(instances, &e))? {
        let path = instances.join(&name);
        let tag = name.strip_suffix(SUFFIX);
        // A lock is kept as its run's instances are.
        if !name.starts_with("bootrace-") || keep(&tag.map_or(name.clone(), |tag| format!("{tag}-"))) {
            continue;
        }
        let result = if tag.is_some() { fs::remove_file(&path) } else { fs::remove_dir_all(&path) };
        result.map_err(|e| failed(&path, &e))?;
        removed.push(format!("files {}", path.display()));
    }
    Ok(removed)
}
