//! Checks git revisions out below the cache, builds each by its scenario's `[build]`, and removes the checkouts when
//! the A/B ends. An entry of the cache is complete or absent:
//! ```text
//! builds/COMMIT-KEY/bootrace      a bootrace that a [build] made; KEY: hash of command, compiler and flags
//! builds/clones/KEY/base, new     the checkouts of the two sides; removed when the A/B ends
//! builds/clones/KEY.kept/         what a [build] keeps, so that the next build of the clone is faster
//! builds/clones/KEY.lock          one A/B of a clone at a time; has the clone's path
//! ```
//! The clone's owner may write only to `KEY/`. bootrace moves no file through a symbolic link that a build made.

use std::{
    ffi::OsString,
    fmt,
    fs::{self, File},
    io::Write,
    os::unix::{
        ffi::{OsStrExt, OsStringExt},
        fs::{PermissionsExt, chown},
    },
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, anyhow};
use sha2::{Digest, Sha256};

use super::{compiler, revision::Revision};
use crate::{
    cli::{
        Failure, build,
        progress::Progress,
        signals::Signals,
        sudo_user::{SudoUser, git, output_of},
    },
    digest::hex,
    image::Cache,
    sample::Side,
    scenario::Build,
};

/// The checkouts of one A/B. Dropping it removes them.
pub struct Checkouts {
    trees: Vec<Tree>,
    /// At least one checkout was built.
    built: bool,
    dir: PathBuf,
    cache: Cache,
    sudo_user: Option<SudoUser>,
    /// Held until the checkouts are gone.
    _lock: File,
}

/// A checked-out revision.
#[derive(Debug, Clone)]
pub struct Checkout {
    side: Side,
    pub revision: Revision,
    /// Absolute path of its scenario.
    pub scenario: PathBuf,
    /// Canonical path of its top folder.
    top: PathBuf,
}

/// A checkout on disk.
struct Tree {
    side: Side,
    clone: PathBuf,
    dir: PathBuf,
    /// The folder that its build keeps: its place in the checkout, and its place in the cache.
    keep: Option<(PathBuf, PathBuf)>,
}

impl Drop for Checkouts {
    fn drop(&mut self) {
        self.trees.clear();
        // A build may have made folders beside its checkout.
        for dir in children(&self.dir) {
            let _ = remove_any(&dir);
        }
    }
}

/// What a killed A/B left of its checkouts. Its clone stays locked until this is dropped.
pub struct LeftCheckout {
    clone: PathBuf,
    dir: PathBuf,
    _lock: Arc<File>,
}

impl fmt::Display for LeftCheckout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "checkout {} of {}", self.dir.display(), self.clone.display())
    }
}

impl LeftCheckout {
    /// Removes it, and its entry in the clone's list of worktrees.
    ///
    /// # Errors
    /// When it can't be removed.
    pub fn remove(&self) -> anyhow::Result<()> {
        remove_tree(&self.clone, &self.dir);
        remove_any(&self.dir).with_context(|| format!("removing {self}"))
    }
}

/// Finds what killed A/Bs left of their checkouts.
pub fn left(cache: &Cache) -> Vec<LeftCheckout> {
    let mut found = Vec::new();
    for path in children(&cache.clones_dir()).into_iter().filter(|path| is_lock(path)) {
        let dirs = children(&path.with_extension(""));
        let Ok(file) = File::open(&path) else { continue };
        // Its holder removes them.
        if dirs.is_empty() || file.try_lock().is_err() {
            continue;
        }
        let clone = PathBuf::from(OsString::from_vec(fs::read(&path).unwrap_or_default()));
        let lock = Arc::new(file);
        found.extend(dirs.into_iter().map(|dir| LeftCheckout {
            clone: clone.clone(),
            dir,
            _lock: lock.clone(),
        }));
    }
    found
}

/// Whether a path is a clone's lock, by the name that [`key`] gives it.
fn is_lock(path: &Path) -> bool {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let is_key = stem.len() == 16 && stem.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    is_key && path.extension().is_some_and(|extension| extension == "lock")
}

fn children(dir: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<_> =
        fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    paths.sort();
    paths
}

fn remove_any(path: &Path) -> std::io::Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(meta) if meta.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(e) => Err(e),
    };
    removed.or_else(|e| if e.kind() == std::io::ErrorKind::NotFound { Ok(()) } else { Err(e) })
}

impl Drop for Tree {
    fn drop(&mut self) {
        if let Some((folder, kept)) = self.keep.take() {
            give_back(&folder, &kept);
        }
        remove_tree(&self.clone, &self.dir);
    }
}

fn remove_tree(clone: &Path, dir: &Path) {
    let mut git = git(clone);
    git.args(["worktree", "remove", "--force", "--force"]).arg(dir);
    // Fails if there is no such checkout, as before the first build.
    if let Err(why) = output_of(git) {
        tracing::debug!(dir = %dir.display(), why, "git worktree remove");
    }
    let _ = fs::remove_dir_all(dir);
}

/// Moves the folder that a build keeps from its checkout to the cache, unless its path leads through a symbolic link.
fn give_back(folder: &Path, kept: &Path) {
    if folder.canonicalize().is_ok_and(|real| real == folder) && folder.is_dir() {
        move_folder(folder, kept);
    }
}

/// A kept folder only saves time, so a failure is logged and the build goes on without it.
fn move_folder(from: &Path, to: &Path) {
    let parent = to.parent().unwrap_or(to);
    if let Err(why) = fs::create_dir_all(parent).and_then(|()| fs::rename(from, to)) {
        tracing::debug!(from = %from.display(), to = %to.display(), %why, "moving the folder that a build keeps");
    }
}

impl Checkouts {
    /// Waits until no other A/B of the clone runs.
    ///
    /// # Errors
    /// [`Failure::Run`] when a folder can't be made; [`Failure::Stopped`] on a signal.
    pub async fn open(
        cache: &Cache,
        clone: &Path,
        progress: &Progress,
        signals: &Signals,
    ) -> Result<Self, Failure> {
        let sudo_user = SudoUser::of(clone);
        let (builds, clones) = (cache.builds_dir(), cache.clones_dir());
        let dir = clones.join(key(&format!("{} {:?}", clone.display(), sudo_user.as_ref().map(|c| c.uid))));
        let made = make_dirs([&builds, &clones, &dir], sudo_user.as_ref());
        made.map_err(Failure::Run)?;
        let mut lock = lock(&dir.with_extension("lock"), progress, signals).await?;
        let noted = lock.set_len(0).and_then(|()| lock.write_all(clone.as_os_str().as_bytes()));
        noted.context("noting the clone's path").map_err(Failure::Run)?;
        Ok(Checkouts { trees: Vec::new(), built: false, dir, cache: cache.clone(), sudo_user, _lock: lock })
    }

    /// Checks a revision out, and finds its scenario there.
    ///
    /// # Errors
    /// [`Failure::Usage`] when the revision has no such scenario, or it leads out of the checkout; [`Failure::Run`] with
    /// git's words.
    pub fn check_out(
        &mut self,
        side: Side,
        revision: &Revision,
        scenario: &str,
    ) -> Result<Checkout, Failure> {
        let dir = self.dir.join(side.name());
        // A killed A/B left it.
        if dir.exists() {
            remove_tree(&revision.clone, &dir);
        }
        self.trees.push(Tree { side, clone: revision.clone.clone(), dir: dir.clone(), keep: None });
        let top = add_tree(revision, &dir).map_err(Failure::Run)?;
        let file = inside(&top, scenario).map_err(|why| {
            Failure::Usage(anyhow!(
                "the {side} side, {revision}, has no scenario {scenario}: {why}\nfix: commit it there, or name a scenario that both revisions have"
            ))
        })?;
        Ok(Checkout { side, revision: revision.clone(), scenario: file, top })
    }

    /// Runs the command of a checkout's `[build]`. Returns the path of the bootrace that it makes, which is built once
    /// for each commit, command and compiler; `None` if it makes no bootrace.
    ///
    /// # Errors
    /// As [`build::run`]; [`Failure::Run`] when the command makes no such program.
    pub async fn build(
        &mut self,
        checkout: &Checkout,
        build: &Build,
        progress: &Progress,
        signals: &Signals,
    ) -> Result<Option<PathBuf>, Failure> {
        let Checkout { side, revision, top, .. } = checkout;
        let program = build.program.as_ref().map(|program| {
            let key = compiler::key(build, self.sudo_user.as_ref(), top);
            (program, self.cache.builds_dir().join(format!("{}-{key}", revision.commit)).join("bootrace"))
        });
        if let Some((_, built)) = program.as_ref().filter(|(_, built)| built.exists()) {
            return Ok(Some(built.clone()));
        }
        progress.say(&format!("building {revision}: the first build of a clone may take minutes"));
        let begin = Instant::now();
        if self.built && build.keep.is_some() {
            // Compilers compare times: they would skip sources that are older than the other side's build.
            remove_tree(&revision.clone, top);
            add_tree(revision, top).map_err(Failure::Run)?;
        }
        self.built = true;
        self.lend(*side, top, build);
        if let Some((program, _)) = &program {
            // A kept program was built from another revision.
            let _ = inside(top, program).and_then(|old| fs::remove_file(old).map_err(|e| e.to_string()));
        }
        build::run(build, &revision.to_string(), top, self.sudo_user.as_ref(), signals).await?;
        progress.say(&format!("built {revision} in {} s", begin.elapsed().as_secs()));
        let Some((program, built)) = program else { return Ok(None) };
        let made = inside(top, program).map_err(|why| {
            Failure::Run(anyhow!(
                "the build of {revision} made no {program}: {why}\nfix: correct program or command in its [build]"
            ))
        })?;
        keep_program(&self.cache, &made, &built).map_err(Failure::Run)?;
        // Now, so that the other side's build can start with it.
        if let Some((folder, kept)) = self.tree(*side).and_then(|tree| tree.keep.take()) {
            give_back(&folder, &kept);
        }
        Ok(Some(built))
    }

    /// Moves the folder that earlier builds of the clone kept into a checkout. It stays there until the checkout is
    /// removed, since a scenario may name files in it.
    fn lend(&mut self, side: Side, top: &Path, build: &Build) {
        let Some(keep) = &build.keep else { return };
        let (folder, kept) = (top.join(keep), self.dir.with_extension("kept").join(key(keep)));
        let parent = folder.parent().unwrap_or(top);
        if kept.is_dir() && parent.canonicalize().is_ok_and(|real| real == parent) {
            move_folder(&kept, &folder);
        }
        if let Some(tree) = self.tree(side) {
            tree.keep = Some((folder, kept));
        }
    }

    fn tree(&mut self, side: Side) -> Option<&mut Tree> {
        self.trees.iter_mut().find(|tree| tree.side == side)
    }
}

/// Checks the revision out and returns the checkout's canonical path.
fn add_tree(revision: &Revision, dir: &Path) -> anyhow::Result<PathBuf> {
    let mut git = git(&revision.clone);
    // By force: git may still list a removed checkout at this path.
    git.args(["worktree", "add", "--force", "--detach"]).arg(dir).arg(&revision.commit);
    let top = output_of(git).and_then(|_| dir.canonicalize().map_err(|e| e.to_string()));
    top.map_err(|why| {
        anyhow!("checking out {revision} of {} in {}: {why}", revision.clone.display(), dir.display())
    })
}

/// Canonical path of the file at a relative path below `top`.
fn inside(top: &Path, path: &str) -> Result<PathBuf, String> {
    let file = top.join(path).canonicalize().map_err(|e| e.to_string())?;
    match file.starts_with(top) {
        true if file.is_file() => Ok(file),
        true => Err("it is not a file".into()),
        false => Err("a symbolic link leads out of the checkout".into()),
    }
}

/// Copies a built program into the cache, by a rename, so that it is complete or absent.
fn keep_program(cache: &Cache, program: &Path, built: &Path) -> anyhow::Result<()> {
    let home = built.parent().unwrap_or(built);
    let kept = || -> std::io::Result<()> {
        // Where `bootrace clean` finds it after a kill.
        let new = cache.temp().map_err(std::io::Error::other)?;
        fs::copy(program, new.join("bootrace"))?;
        fs::set_permissions(new.join("bootrace"), fs::Permissions::from_mode(0o755))?;
        File::open(new.join("bootrace"))?.sync_all()?;
        match fs::rename(new.path(), home) {
            // An A/B of another clone has built the same commit meanwhile.
            Err(_) if built.exists() => Ok(()),
            renamed => renamed,
        }
    };
    kept().with_context(|| format!("keeping {} in {}", program.display(), home.display()))
}

/// A short hash as the name of a folder.
fn key(text: &str) -> String {
    hex(&Sha256::digest(text)[..8])
}

/// Makes the folders. The last one belongs to the sudo user.
fn make_dirs(dirs: [&Path; 3], sudo_user: Option<&SudoUser>) -> anyhow::Result<()> {
    fs::create_dir_all(dirs[2]).with_context(|| format!("making {}", dirs[2].display()))?;
    // The sudo user must be able to enter them, whatever root's umask is.
    for dir in dirs {
        fs::set_permissions(dir, fs::Permissions::from_mode(0o755))
            .with_context(|| format!("setting the mode of {}", dir.display()))?;
    }
    if let Some(user) = sudo_user {
        chown(dirs[2], Some(user.uid), Some(user.gid))
            .with_context(|| format!("giving {} to user {}", dirs[2].display(), user.uid))?;
    }
    Ok(())
}

async fn lock(path: &Path, progress: &Progress, signals: &Signals) -> Result<File, Failure> {
    // Its text is its holder's until the lock is taken.
    let file = File::options().write(true).create(true).truncate(false).open(path);
    let file = file.with_context(|| format!("making {}", path.display()));
    let file = file.map_err(Failure::Run)?;
    let mut output_of = false;
    while file.try_lock().is_err() {
        if !output_of {
            progress.say("waiting for another A/B of this clone");
        }
        output_of = true;
        tokio::select! {
            () = tokio::time::sleep(Duration::from_millis(200)) => {}
            () = signals.stop.cancelled() => return Err(Failure::Stopped { signal: signals.signal() }),
        }
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_directory_with_a_clones_key_is_a_left_checkout() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::open(Some(dir.path().join("cache"))).unwrap();
        let ours = key("/a/clone None");
        for name in [&*ours, "mine", "0123", "0123456789abcdef-mine"] {
            fs::create_dir_all(cache.clones_dir().join(name).join("base")).unwrap();
            fs::write(cache.clones_dir().join(format!("{name}.lock")), "/a/clone").unwrap();
        }
        let left: Vec<PathBuf> = left(&cache).iter().map(|left| left.dir.clone()).collect();
        assert_eq!(left, [cache.clones_dir().join(ours).join("base")]);
    }

    #[test]
    fn a_symbolic_link_leads_to_nothing_outside_of_a_checkout() {
        let dir = tempfile::tempdir().unwrap();
        let top = dir.path().canonicalize().unwrap();
        fs::write(top.join("file"), "").unwrap();
        for (link, to) in [("near", "file"), ("far", "/etc/passwd"), ("folder", "/etc")] {
            std::os::unix::fs::symlink(to, top.join(link)).unwrap();
        }
        assert_eq!(inside(&top, "near").unwrap(), top.join("file"));
        for path in ["far", "folder/passwd", "../../etc/passwd"] {
            assert!(inside(&top, path).unwrap_err().contains("out of the checkout"), "{path}");
        }
        assert!(inside(&top, "none").unwrap_err().starts_with("No such file"));
        // A link as the folder that a build keeps is not moved.
        give_back(&top.join("folder"), &top.join("kept/folder"));
        assert!(fs::symlink_metadata(top.join("kept")).is_err());
    }
}
