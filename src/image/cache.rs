//! The cache directory.
//!
//! ```text
//! bases/KEY/           base.tar, by the key of its definition
//! images/DIGEST/       tree/ docker/ vm/: one folder per form, with a manifest.json
//! choices/KEY.json     why a first choice was unavailable
//! instances/           the files of a run's instances
//! builds/              bootrace's own revisions, by commit and compiler; clones/: their checkouts
//! tmp/                 unfinished entries; locked by their makers, swept when the lock is free
//! locks/               of keys and digests
//! ```
//! An entry is built in `tmp/` and renamed into place, so entries in place are complete.

use std::{
    fmt, fs, io,
    os::{
        fd::OwnedFd,
        unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt},
    },
    path::{Path, PathBuf},
    time::Duration,
};

use bootrace_model::foreign::tail;

use super::{
    error::Error,
    lock::{Kind, Lock},
};

use crate::sys::{self, mounts, processes};

/// Prefix of the names of temporary directories, and the length of the random rest.
const TEMP: &str = "new-";
const RANDOM: usize = 12;

/// Whether a name is a temporary directory's.
fn is_temp(name: &str) -> bool {
    name.strip_prefix(TEMP)
        .is_some_and(|rest| rest.len() == RANDOM && rest.bytes().all(|byte| byte.is_ascii_alphanumeric()))
}

/// The environment variable that names the cache directory.
pub const VARIABLE: &str = "BOOTRACE_CACHE";

/// The cache of images.
#[derive(Debug, Clone)]
pub struct Cache {
    dir: PathBuf,
}

impl Cache {
    /// Opens `dir`, else the directory that the environment names, else the default one. Creates it if it is missing.
    ///
    /// # Errors
    /// When no directory is known, its path is unsuitable, or it can't be created.
    pub fn open(dir: Option<PathBuf>) -> Result<Cache, Error> {
        let dir = dir.map_or_else(default_dir, Ok)?;
        sound(&dir)?;
        make_dir(&dir)?;
        let dir = dir.canonicalize().map_err(Error::io("finding", &dir))?;
        sound(&dir)?;
        let cache = Cache { dir };
        for part in ["bases", "images", "choices", "instances", "tmp", "locks"] {
            make_dir(&cache.dir.join(part))?;
        }
        Ok(cache)
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The directory of running instances' files (their disks). It is beside the images, so that a user who can read
    /// one can read the other.
    pub fn instances_dir(&self) -> PathBuf {
        self.dir.join("instances")
    }

    /// The directory of the bootrace revisions that `bootrace ab` builds: `COMMIT-KEY/bootrace`. The build creates it.
    pub fn builds_dir(&self) -> PathBuf {
        self.dir.join("builds")
    }

    /// The directory of checkouts, for each clone with its lock and its builds' kept files: `KEY/`, `KEY.lock`,
    /// `KEY.kept/`.
    pub fn clones_dir(&self) -> PathBuf {
        self.builds_dir().join("clones")
    }

    pub(super) fn bases(&self) -> PathBuf {
        self.dir.join("bases")
    }

    pub(super) fn base(&self, key: &str) -> PathBuf {
        self.bases().join(key)
    }

    pub(super) fn images(&self) -> PathBuf {
        self.dir.join("images")
    }

    pub(super) fn image(&self, digest: &str) -> PathBuf {
        self.images().join(digest)
    }

    pub(super) fn choice(&self, key: &str) -> PathBuf {
        self.dir.join("choices").join(format!("{key}.json"))
    }

    /// The lock that a process holds while it builds or removes the entry.
    pub(super) fn build_lock(&self, key: &str) -> PathBuf {
        self.dir.join("locks").join(format!("{key}.build"))
    }

    /// The lock that users of the entry share. Removing the entry takes it exclusively.
    pub(super) fn use_lock(&self, key: &str) -> PathBuf {
        self.dir.join("locks").join(format!("{key}.use"))
    }

    /// A new temporary directory, for an entry or a trial.
    ///
    /// # Errors
    /// When it or its lock can't be made.
    pub fn temp(&self) -> Result<Temp, Error> {
        let tmp = self.dir.join("tmp");
        // Makers share it and a sweeper takes it exclusively, so that a sweeper never meets a new directory before its
        // maker has locked it.
        let gate = self.dir.join("locks/sweep");
        let _gate = loop {
            match Lock::attempt(&gate, Kind::Shared)? {
                Some(lock) => break lock,
                None => std::thread::sleep(std::time::Duration::from_millis(5)),
            }
        };
        let mut builder = tempfile::Builder::new();
        builder.prefix(TEMP).rand_bytes(RANDOM).permissions(fs::Permissions::from_mode(0o755));
        let dir = builder.tempdir_in(&tmp).map_err(Error::io("making a directory in", &tmp))?.keep();
        open_up(&dir)?;
        let lock = fs::File::open(&dir).and_then(|file| Lock::on(file, Kind::Exclusive));
        let lock = lock.map_err(Error::io("locking", &dir))?;
        Ok(Temp { dir, lock })
    }

    /// Ends processes that interrupted makers have left, removes their directories, and returns both.
    ///
    /// # Errors
    /// When a directory can't be read, locked or removed.
    pub fn sweep(&self) -> Result<Vec<Abandoned>, Error> {
        // Its holder sweeps already, or is about to create a directory.
        let Some(_gate) = self.gate()? else { return Ok(Vec::new()) };
        self.each_abandoned(|abandoned| {
            processes::end_all_in(&abandoned.dir)
                .map_err(Error::io("ending what works in", &abandoned.dir))?;
            remove_tree(&abandoned.dir)
        })
    }

    /// Lists what [`Cache::sweep`] would remove.
    ///
    /// # Errors
    /// As for [`Cache::sweep`], and when other processes hold the lock for a second.
    pub fn abandoned(&self) -> Result<Vec<Abandoned>, Error> {
        for _ in 0..20 {
            if let Some(_gate) = self.gate()? {
                return self.each_abandoned(|_| Ok(()));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        let why = "another bootrace makes or removes images in it: look again later".into();
        Err(Error::Cache { dir: self.dir.clone(), why })
    }

    fn gate(&self) -> Result<Option<Lock>, Error> {
        Lock::attempt(&self.dir.join("locks/sweep"), Kind::Exclusive)
    }

    fn each_abandoned(
        &self,
        then: impl Fn(&Abandoned) -> Result<(), Error>,
    ) -> Result<Vec<Abandoned>, Error> {
        let mut found = Vec::new();
        // A directory with another name is a user's.
        let ours = |dir: &PathBuf| dir.file_name().is_some_and(|name| is_temp(&name.to_string_lossy()));
        for dir in children(&self.dir.join("tmp"))?.into_iter().filter(ours) {
            let lock = match fs::File::open(&dir).and_then(|file| Lock::on(file, Kind::Exclusive)) {
                Ok(Some(lock)) => lock,
                _ => continue,
            };
            let abandoned = Abandoned { processes: processes::working_in(&dir), dir };
            then(&abandoned)?;
            drop(lock);
            found.push(abandoned);
        }
        Ok(found)
    }

    /// The first directory of the cache's path that other users, such as QEMU's, can't enter.
    pub fn barrier(&self) -> Option<PathBuf> {
        let closed = |dir: &&Path| fs::metadata(dir).is_ok_and(|meta| meta.mode() & 0o001 == 0);
        let mut closed: Vec<&Path> = self.dir.ancestors().filter(closed).collect();
        closed.pop().map(Path::to_path_buf)
    }
}

/// Refuses paths with characters that are separators in the options of overlay mounts and of containers' bind mounts.
fn sound(dir: &Path) -> Result<(), Error> {
    use std::os::unix::ffi::OsStrExt;
    let bytes = dir.as_os_str().as_bytes();
    if !bytes.iter().any(|byte| b":,\\\"".contains(byte) || byte.is_ascii_control()) {
        return Ok(());
    }
    Err(Error::Cache {
        dir: tail(&dir.to_string_lossy(), 300).into(),
        why: format!(
            "mounts and containers can't have ':', ',', '\"', '\\' or control characters in a path; name another \
             directory with {VARIABLE}"
        ),
    })
}

/// What a killed maker has left.
#[derive(Debug, PartialEq, Eq)]
pub struct Abandoned {
    pub dir: PathBuf,
    /// Ids of the processes that work in it.
    pub processes: Vec<i32>,
}

impl fmt::Display for Abandoned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "unfinished build {}", self.dir.display())?;
        match self.processes.len() {
            0 => Ok(()),
            1 => write!(f, " with 1 process"),
            n => write!(f, " with {n} processes"),
        }
    }
}

/// A temporary directory that is removed when it is dropped, unless it was put into place.
#[derive(Debug)]
pub struct Temp {
    dir: PathBuf,
    lock: Option<Lock>,
}

impl Temp {
    pub fn path(&self) -> &Path {
        &self.dir
    }

    pub fn join(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Another handle of its lock. Nobody else removes the directory while a process holds the handle.
    ///
    /// # Errors
    /// When it has no lock, or the descriptor can't be duplicated.
    pub fn hold(&self) -> Result<OwnedFd, Error> {
        self.lock
            .as_ref()
            .map_or_else(|| Err(io::Error::other("it is not locked")), Lock::hold)
            .map_err(Error::io("holding the lock of", &self.dir))
    }

    /// Renames it to `place`. Removes what is there already: the holder of the build lock has found that it is no
    /// whole entry.
    ///
    /// # Errors
    /// When the old entry can't be removed or the directory can't be renamed.
    pub fn put(self, place: &Path, cache: &Cache) -> Result<(), Error> {
        if place.symlink_metadata().is_ok() {
            discard(place, cache)?;
        }
        if let Some(parent) = place.parent() {
            make_dir(parent)?;
        }
        fs::rename(&self.dir, place).map_err(Error::io("moving into place", place))
    }
}

impl Drop for Temp {
    fn drop(&mut self) {
        // After `put` it no longer exists. If it can't be removed now, it is swept later.
        let _ = remove_tree(&self.dir);
    }
}

/// Moves an entry away atomically, then removes it.
pub(super) fn discard(entry: &Path, cache: &Cache) -> Result<(), Error> {
    let temp = cache.temp()?;
    fs::rename(entry, temp.join("discarded")).map_err(Error::io("moving away", entry))
}

/// Creates a directory that all users can enter; leaves an existing one unchanged.
pub(super) fn make_dir(dir: &Path) -> Result<(), Error> {
    if dir.is_dir() {
        return Ok(());
    }
    let made = fs::DirBuilder::new().recursive(true).mode(0o755).create(dir);
    made.map_err(|error| Error::Cache {
        dir: dir.into(),
        why: format!("can't be made: {error}; name another with {VARIABLE}"),
    })?;
    open_up(dir)
}

/// Makes a file readable for all users whatever the umask is: QEMU runs as another user.
pub(super) fn open_up(path: &Path) -> Result<(), Error> {
    let change = || {
        let meta = fs::metadata(path)?;
        let mode = if meta.is_dir() { 0o755 } else { 0o644 };
        fs::set_permissions(path, fs::Permissions::from_mode(mode))
    };
    change().map_err(Error::io("making readable", path))
}

/// A directory's entries, sorted; empty if it does not exist.
pub(super) fn children(dir: &Path) -> Result<Vec<PathBuf>, Error> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Error::io("listing", dir)(error)),
    };
    let paths: io::Result<Vec<PathBuf>> = entries.map(|entry| Ok(entry?.path())).collect();
    let mut paths = paths.map_err(Error::io("listing", dir))?;
    paths.sort();
    Ok(paths)
}

/// The entries of a part of the cache, which bootrace names by digests; a directory with another name is a user's.
pub(super) fn entries(dir: &Path) -> Result<Vec<PathBuf>, Error> {
    let mut paths = children(dir)?;
    paths.retain(|path| path.file_name().is_some_and(|name| is_hex(&name.to_string_lossy(), 64)));
    Ok(paths)
}

/// Whether a name is of so many hexadecimal digits.
pub(super) fn is_hex(name: &str, digits: usize) -> bool {
    name.len() == digits && name.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Removes a directory, but never through a mount: a mount below may be the host's own /dev.
fn remove_tree(dir: &Path) -> Result<(), Error> {
    unmount_below(dir)?;
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::io("removing", dir)(error)),
        _ => Ok(()),
    }
}

fn unmount_below(dir: &Path) -> Result<(), Error> {
    use rustix::mount::{UnmountFlags, unmount};
    let below = mounts::below(dir).map_err(Error::io("reading the mounts below", dir))?;
    for point in below {
        let unmounted = unmount(&point, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW);
        unmounted
            .map_err(|error| Error::io("unmounting what a killed build left at", &point)(error.into()))?;
    }
    Ok(())
}

fn default_dir() -> Result<PathBuf, Error> {
    let set = |name| sys::variable(name).map(PathBuf::from);
    if let Some(dir) = set(VARIABLE) {
        return Ok(dir);
    }
    if sys::is_root() {
        return Ok("/var/cache/bootrace".into());
    }
    let home = || set("HOME").map(|home| home.join(".cache"));
    let base = set("XDG_CACHE_HOME").or_else(home).ok_or_else(|| Error::Cache {
        dir: "~/.cache".into(),
        why: format!("HOME is not set; name a directory with {VARIABLE}"),
    })?;
    Ok(base.join("bootrace"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache() -> (tempfile::TempDir, Cache) {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::open(Some(dir.path().join("cache"))).unwrap();
        (dir, cache)
    }

    /// Waits: a process that another test forks has this test's locks briefly, until its exec.
    fn until_seen(look: impl Fn() -> Result<Vec<Abandoned>, Error>) -> Vec<Abandoned> {
        loop {
            let found = look().unwrap();
            if !found.is_empty() {
                return found;
            }
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }

    #[test]
    fn the_sweep_removes_parts_of_an_interrupted_build_and_spares_a_running_one() {
        let (_dir, cache) = cache();
        let living = cache.temp().unwrap();
        let stale = cache.dir().join("tmp/new-0123456789aB");
        fs::create_dir_all(stale.join("half")).unwrap();
        let of_a_user = ["mine", "new-", "new-0123456789", "0123456789aB", "new-0123456789aB.old"];
        for name in of_a_user {
            fs::create_dir(cache.dir().join("tmp").join(name)).unwrap();
        }
        let working = |variable: &str, dir: &Path| {
            std::process::Command::new("sleep").arg("1000").env(variable, dir).spawn().unwrap()
        };
        let mut of_it = [0, 1].map(|_| working("TMPDIR", &stale));
        let mut others = [working("TMPDIR", living.path()), working("OLDPWD", &stale)];
        let mut pids = of_it.each_ref().map(|child| child.id().cast_signed());
        pids.sort_unstable();
        let mut found = until_seen(|| cache.abandoned());
        found[0].processes.sort_unstable();
        assert_eq!(found, [Abandoned { dir: stale.clone(), processes: pids.to_vec() }]);
        assert_eq!(found[0].to_string(), format!("unfinished build {} with 2 processes", stale.display()));
        assert!(stale.exists() && of_it.iter_mut().all(|child| child.try_wait().unwrap().is_none()));
        assert_eq!(until_seen(|| cache.sweep()).len(), 1);
        for child in &mut of_it {
            assert!(!child.wait().unwrap().success());
        }
        for child in &mut others {
            assert!(child.try_wait().unwrap().is_none());
            child.kill().unwrap();
            child.wait().unwrap();
        }
        assert_eq!(cache.abandoned().unwrap(), []);
        assert!(living.path().is_dir());
        assert!(of_a_user.iter().all(|name| cache.dir().join("tmp").join(name).is_dir()));
        assert!(!stale.exists());
    }

    #[test]
    fn a_path_that_would_change_a_mounts_meaning_is_refused_and_nothing_is_made() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["a:ro", "a,upperdir=b", "a\\b", "a\"b", "a\nb"] {
            let error = Cache::open(Some(dir.path().join(name))).unwrap_err().to_string();
            assert!(error.contains("name another directory with BOOTRACE_CACHE"), "{error}");
        }
        assert_eq!(children(dir.path()).unwrap(), [] as [PathBuf; 0]);
        fs::create_dir(dir.path().join("a:b")).unwrap();
        std::os::unix::fs::symlink("a:b", dir.path().join("link")).unwrap();
        assert!(Cache::open(Some(dir.path().join("link"))).is_err());
        assert!(Cache::open(Some(dir.path().join("with space"))).is_ok());
    }

    #[test]
    fn a_dropped_temp_leaves_nothing_and_a_placed_one_replaces_a_broken_entry() {
        let (_dir, cache) = cache();
        let dropped = cache.temp().unwrap();
        fs::write(dropped.join("x"), "x").unwrap();
        drop(dropped);
        let place = cache.image("d").join("tree");
        fs::create_dir_all(&place).unwrap();
        fs::write(place.join("broken"), "").unwrap();
        let temp = cache.temp().unwrap();
        fs::write(temp.join("whole"), "").unwrap();
        temp.put(&place, &cache).unwrap();
        assert_eq!(children(&place).unwrap(), [place.join("whole")]);
        assert_eq!(children(&cache.dir().join("tmp")).unwrap(), [] as [PathBuf; 0]);
    }

    #[test]
    fn another_users_way_is_open_whatever_the_umask_or_else_the_barrier_is_named() {
        let (dir, cache) = cache();
        for part in [cache.dir().to_path_buf(), cache.images(), cache.instances_dir()] {
            assert_eq!(fs::metadata(part).unwrap().mode() & 0o777, 0o755);
        }
        let mode = |mode| fs::set_permissions(dir.path(), fs::Permissions::from_mode(mode)).unwrap();
        mode(0o700);
        assert_eq!(cache.barrier(), Some(dir.path().canonicalize().unwrap()));
        mode(0o755);
        assert_eq!(cache.barrier(), None);
    }
}
