//! A locked file per run, by which `clean` recognises a run that is still going on.
//!
//! Containers, domains and cgroups belong to the whole host, so the locks are in one place for the whole host too,
//! whatever cache a run uses.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use anyhow::Context;

/// The locks disappear at the host's next boot, like the instances that they stand for.
const LOCKS: &str = "/run/bootrace";

/// How often to try a lock, a millisecond apart. A process that only checks the lock holds it for microseconds.
const LOCK_ATTEMPTS: u32 = 50;

/// False, after a millisecond.
fn sleep_1ms() -> bool {
    std::thread::sleep(std::time::Duration::from_millis(1));
    false
}

/// A run's lock. The kernel releases it however the harness ends.
pub struct Lock {
    path: PathBuf,
    _file: File,
}

impl Lock {
    /// # Errors
    /// When the file can't be made, or is locked because the run's id is not unique.
    pub fn take(run: &str) -> anyhow::Result<Self> {
        Lock::take_in(Path::new(LOCKS), run)
    }

    fn take_in(locks: &Path, run: &str) -> anyhow::Result<Self> {
        fs::create_dir_all(locks).with_context(|| format!("making {}", locks.display()))?;
        let path = locks.join(super::tag(run));
        loop {
            let file = File::create(&path).with_context(|| format!("making {}", path.display()))?;
            // Another process may be checking the lock at this time.
            let locked = (0..LOCK_ATTEMPTS).any(|_| file.try_lock().is_ok() || sleep_1ms());
            anyhow::ensure!(
                locked,
                "locking {}: a run with the id {run} is going on\nfix: start this one again, a second later",
                path.display()
            );
            // The previous holder may have removed the file in between.
            let same = |named: fs::Metadata, held: fs::Metadata| named.ino() == held.ino();
            if fs::metadata(&path).and_then(|named| Ok(same(named, file.metadata()?))).unwrap_or(false) {
                return Ok(Lock { path, _file: file });
            }
        }
    }

    /// The caveat about other runs at the same time, which use the same CPUs. A `partner` does not count: it measures
    /// while this run waits.
    pub fn others(partner: Option<&str>) -> Option<String> {
        let runs = match Lock::others_in(Path::new(LOCKS), partner) {
            0 => return None,
            1 => "another bootrace run was".into(),
            n => format!("{n} other bootrace runs were"),
        };
        Some(format!(
            "{runs} going on, on the same CPUs: they spoil each other's figures; run again when no other is going on"
        ))
    }

    fn others_in(locks: &Path, partner: Option<&str>) -> usize {
        let partner = partner.map(super::tag);
        let names = fs::read_dir(locks).into_iter().flatten().flatten().map(|entry| entry.file_name());
        let others = names.filter(|name| partner.as_deref().is_none_or(|partner| name != partner));
        others.filter(|name| Lock::is_held_in(locks, &format!("{}-", name.display()))).count()
    }

    /// Whether the run of the instance (container, domain, cgroup) with this name is still going on.
    pub fn is_held_for(instance: &str) -> bool {
        Lock::is_held_in(Path::new(LOCKS), instance)
    }

    fn is_held_in(locks: &Path, instance: &str) -> bool {
        let tag = instance.rsplit_once('-').map_or(instance, |(tag, _)| tag);
        // Shared, so that two checks at the same time don't take each other for a run.
        File::open(locks.join(tag)).is_ok_and(|file| file.try_lock_shared().is_err())
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// The locks of runs that have ended.
pub(super) fn dead() -> Vec<PathBuf> {
    let entries = fs::read_dir(LOCKS).into_iter().flatten().flatten();
    let dead = entries
        .map(|entry| entry.path())
        .filter(|path| path.is_file() && File::open(path).is_ok_and(|file| file.try_lock_shared().is_ok()));
    dead.collect()
}

/// Removes a lock unless a run holds it.
pub(super) fn discard(path: &Path) -> io::Result<()> {
    match File::open(path) {
        Ok(file) if file.try_lock().is_ok() => fs::remove_file(path),
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_belongs_to_a_run_that_goes_on_as_long_as_its_lock_is_held() {
        let dir = tempfile::tempdir().unwrap();
        let instance = format!("{}-17", super::super::tag("run"));
        assert!(!Lock::is_held_in(dir.path(), &instance));
        let lock = Lock::take_in(dir.path(), "run").unwrap();
        assert!(Lock::is_held_in(dir.path(), &instance));
        assert!(!Lock::is_held_in(dir.path(), "bootrace-00000000-17"));
        assert!(Lock::take_in(dir.path(), "run").is_err());
        assert_eq!(Lock::others_in(dir.path(), None), 1);
        assert_eq!(Lock::others_in(dir.path(), Some("another")), 1);
        assert_eq!(Lock::others_in(dir.path(), Some("run")), 0);
        drop(lock);
        assert!(!Lock::is_held_in(dir.path(), &instance));
        Lock::take_in(dir.path(), "run").unwrap();
    }
}
