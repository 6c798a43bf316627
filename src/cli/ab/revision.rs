//! Git revisions as sides: both are checked out beside the clone, built by their scenario's `[build]`, and removed when
//! the A/B has ended.
//!
//! Below the cache, whose entries are whole or not there:
//! ```text
//! builds/COMMIT-KEY/bootrace      a bootrace that a [build] made; KEY: of command, compiler and flags
//! builds/clones/KEY/base, new     the checkouts of the two sides; gone when the A/B is
//! builds/clones/KEY/kept/         what a [build] keeps, so that the next build of the clone is faster
//! builds/clones/KEY.lock          one A/B of a clone at a time; not where the clone's owner can put anything in its place
//! ```

use std::{
    fs::{self, File},
    os::unix::fs::{PermissionsExt, chown},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, anyhow};
use sha2::{Digest, Sha256};

use super::compiler;
use crate::{
    cli::{
        self, Failure, build,
        progress::Progress,
        signals::Signals,
        sudo_user::{SudoUser, git, said},
    },
    image::Cache,
    sample::{Side, Source},
    scenario::{self, Build},
};

/// A commit of the clone that holds the working directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revision {
    /// As the user called it.
    name: String,
    pub commit: String,
    /// The clone's top directory.
    pub clone: PathBuf,
    /// Where that can be read on the web.
    url: Option<String>,
}

impl Revision {
    /// Asks git.
    ///
    /// # Errors
    /// With git's words, or why it could not be asked.
    pub fn find(revision: &str) -> Result<Self, String> {
        if revision.is_empty() || revision.starts_with('-') {
            return Err("that can't be the name of one".into());
        }
        let here = std::env::current_dir().map_err(|e| e.to_string())?;
        let clone =
            cli::git::top(&here).ok_or_else(|| format!("{} is in no git repository", here.display()))?;
        let mut git = git(clone);
        git.args(["rev-parse", "--verify", "--quiet"]).arg(format!("{revision}^{{commit}}"));
        let commit = said(git).map_err(|why| match why.is_empty() {
            true => format!("{} has no such commit", clone.display()),
            false => why,
        })?;
        let mut git = self::git(clone);
        git.args(["remote", "get-url", "origin"]);
        let url = said(git).ok().as_deref().and_then(cli::source::web);
        Ok(Revision { name: revision.into(), commit: commit.trim().into(), clone: clone.into(), url })
    }

    /// As results have it.
    pub fn source(&self) -> Source {
        // It is checked out for the A/B alone.
        Source { commit: self.commit.clone(), branch: None, url: self.url.clone(), dirty: Some(false) }
    }

    /// The path of a scenario in the clone, from how the user calls it where they are.
    ///
    /// # Errors
    /// When that is outside of the clone.
    pub fn path_of(&self, scenario: &str) -> Result<String, String> {
        let path = match scenario.contains('/') || scenario.ends_with(".toml") {
            true => PathBuf::from(scenario),
            false => Path::new(scenario::FOLDER).join(format!("{scenario}.toml")),
        };
        let here = std::env::current_dir().map_err(|e| e.to_string())?;
        let mut absolute = PathBuf::new();
        for part in here.join(&path).components() {
            match part {
                std::path::Component::ParentDir => _ = absolute.pop(),
                part => absolute.push(part),
            }
        }
        // A path that the user gave by a symbolic link to the clone is the clone's too.
        let real = absolute.canonicalize().unwrap_or_default();
        let inside = [&absolute, &real].into_iter().find_map(|path| path.strip_prefix(&self.clone).ok());
        inside.and_then(Path::to_str).map(str::to_owned).ok_or_else(|| {
            format!(
                "the scenario {} is outside of the clone {}: a revision takes its own scenario, so name a file of the clone",
                path.display(),
                self.clone.display()
            )
        })
    }
}

impl std::fmt::Display for Revision {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let short = self.commit.get(..12).unwrap_or(&self.commit);
        match self.commit.starts_with(&self.name) {
            true => f.write_str(short),
            false => write!(f, "{} ({short})", self.name),
        }
    }
}

/// The checkouts of one A/B. All are removed when this is dropped.
pub struct Checkouts {
    trees: Vec<Tree>,
    dir: PathBuf,
    builds: PathBuf,
    sudo_user: Option<SudoUser>,
    /// Held until the checkouts are gone.
    _lock: File,
}

/// A checked-out revision.
#[derive(Debug, Clone)]
pub struct Checkout {
    side: Side,
    pub revision: Revision,
    /// Its scenario, absolute.
    pub scenario: PathBuf,
    /// Its top folder, canonical.
    top: PathBuf,
}

/// A checkout on disk.
struct Tree {
    side: Side,
    clone: PathBuf,
    dir: PathBuf,
    /// Where it is, and where it is kept.
    keep: Option<(PathBuf, PathBuf)>,
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
    // It fails where there is none, as before the first build.
    if let Err(why) = said(git) {
        tracing::debug!(dir = %dir.display(), why, "git worktree remove");
    }
    let _ = fs::remove_dir_all(dir);
}

/// Moves what a build keeps out of its checkout. A symbolic link is no folder of the checkout's own.
fn give_back(folder: &Path, kept: &Path) {
    if folder.canonicalize().is_ok_and(|real| real == folder) && folder.is_dir() {
        move_folder(folder, kept);
    }
}

/// What is kept only saves time: a build does without.
fn move_folder(from: &Path, to: &Path) {
    let parent = to.parent().unwrap_or(to);
    if let Err(why) = fs::create_dir_all(parent).and_then(|()| fs::rename(from, to)) {
        tracing::debug!(from = %from.display(), to = %to.display(), %why, "what a build keeps");
    }
}

impl Checkouts {
    /// Waits until no other A/B of the clone is going on.
    ///
    /// # Errors
    /// When the folders can't be made; [`Failure::Stopped`] on a signal.
    pub async fn open(
        cache: &Cache,
        clone: &Path,
        progress: &Progress,
        signals: &Signals,
    ) -> Result<Self, Failure> {
        let sudo_user = SudoUser::of(clone);
        let (builds, clones) = (cache.builds_dir(), cache.clones_dir());
        let key = Sha256::digest(format!("{} {:?}", clone.display(), sudo_user.as_ref().map(|c| c.uid)));
        let key: String = key.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        let dir = clones.join(&key);
        let made = make_dirs([&builds, &clones, &dir], sudo_user.as_ref());
        made.map_err(Failure::Run)?;
        let lock = lock(&dir.with_extension("lock"), progress, signals).await?;
        Ok(Checkouts { trees: Vec::new(), dir, builds, sudo_user, _lock: lock })
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
        // What a killed A/B left.
        if dir.exists() {
            remove_tree(&revision.clone, &dir);
        }
        self.trees.push(Tree { side, clone: revision.clone.clone(), dir: dir.clone(), keep: None });
        let mut git = git(&revision.clone);
        // By force: git may still have it in its list, as a checkout that is gone.
        git.args(["worktree", "add", "--force", "--detach"]).arg(&dir).arg(&revision.commit);
        let failed = |why| {
            Failure::Run(anyhow!(
                "checking out {revision} of {} in {}: {why}",
                revision.clone.display(),
                dir.display()
            ))
        };
        said(git).map_err(failed)?;
        let top = dir.canonicalize().map_err(|e| failed(e.to_string()))?;
        let file = inside(&top, scenario).map_err(|why| {
            Failure::Usage(anyhow!(
                "the {side} side, {revision}, has no scenario {scenario}: {why}\nfix: commit it there, or name a scenario that both revisions have"
            ))
        })?;
        Ok(Checkout { side, revision: revision.clone(), scenario: file, top })
    }

    /// Runs the command of a checkout's `[build]`. Gives the bootrace that it makes, which is built once for each commit,
    /// command and compiler; `None` where it makes none.
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
            (program, self.builds.join(format!("{}-{key}", revision.commit)).join("bootrace"))
        });
        if let Some((_, built)) = program.as_ref().filter(|(_, built)| built.exists()) {
            return Ok(Some(built.clone()));
        }
        progress.say(&format!("building {revision}: the first build of a clone may take minutes"));
        let begin = Instant::now();
        self.lend(*side, top, build);
        if let Some((program, _)) = &program {
            // One that is kept is of another revision.
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
        keep_program(&made, &built).map_err(Failure::Run)?;
        // The other side's build may start with it.
        if let Some((folder, kept)) = self.tree(*side).and_then(|tree| tree.keep.take()) {
            give_back(&folder, &kept);
        }
        Ok(Some(built))
    }

    /// Moves what earlier builds of the clone kept into a checkout. It goes back when the checkout is removed, since a
    /// scenario may name files in it.
    fn lend(&mut self, side: Side, top: &Path, build: &Build) {
        let Some(keep) = &build.keep else { return };
        let (folder, kept) = (top.join(keep), self.dir.join("kept").join(keep));
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

/// The file at a relative path below `top`, canonical.
fn inside(top: &Path, path: &str) -> Result<PathBuf, String> {
    let file = top.join(path).canonicalize().map_err(|e| e.to_string())?;
    match file.starts_with(top) {
        true if file.is_file() => Ok(file),
        true => Err("it is not a file".into()),
        false => Err("a symbolic link leads out of the checkout".into()),
    }
}

/// Copies what was built to where it is looked for, whole or not at all.
fn keep_program(program: &Path, built: &Path) -> anyhow::Result<()> {
    let home = built.parent().unwrap_or(built);
    let builds = home.parent().unwrap_or(home);
    let kept = || -> std::io::Result<()> {
        let new = tempfile::Builder::new().prefix(".new-").tempdir_in(builds)?;
        fs::copy(program, new.path().join("bootrace"))?;
        fs::set_permissions(new.path().join("bootrace"), fs::Permissions::from_mode(0o755))?;
        fs::set_permissions(new.path(), fs::Permissions::from_mode(0o755))?;
        File::open(new.path().join("bootrace"))?.sync_all()?;
        match fs::rename(new.path(), home) {
            // Another clone has the same commit, and was faster.
            Err(_) if built.exists() => Ok(()),
            renamed => renamed.map(|()| drop(new.keep())),
        }
    };
    kept().with_context(|| format!("keeping {} in {}", program.display(), home.display()))
}

/// The last one is the builder's own.
fn make_dirs(dirs: [&Path; 3], sudo_user: Option<&SudoUser>) -> anyhow::Result<()> {
    fs::create_dir_all(dirs[2]).with_context(|| format!("making {}", dirs[2].display()))?;
    // Who builds must be able to enter them, whatever our umask is.
    for dir in dirs {
        fs::set_permissions(dir, fs::Permissions::from_mode(0o755))
            .with_context(|| format!("opening {} to those who build", dir.display()))?;
    }
    if let Some(user) = sudo_user {
        chown(dirs[2], Some(user.uid), Some(user.gid))
            .with_context(|| format!("giving {} to user {}", dirs[2].display(), user.uid))?;
    }
    Ok(())
}

async fn lock(path: &Path, progress: &Progress, signals: &Signals) -> Result<File, Failure> {
    let file = File::create(path).with_context(|| format!("making {}", path.display()));
    let file = file.map_err(Failure::Run)?;
    let mut said = false;
    while file.try_lock().is_err() {
        if !said {
            progress.say("waiting for another A/B of this clone");
        }
        said = true;
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
    fn a_name_that_would_be_an_option_of_git_is_none() {
        assert!(Revision::find("--upload-pack=x").is_err() && Revision::find("").is_err());
    }

    #[test]
    fn a_scenario_is_the_file_at_the_same_path_of_the_clone() {
        let here = std::env::current_dir().unwrap();
        let clone = |top: &Path| Revision {
            name: "main".into(),
            commit: "0123456789abcdef".into(),
            clone: top.into(),
            url: None,
        };
        let this = clone(&here);
        assert_eq!(this.to_string(), "main (0123456789ab)");
        let path = |revision: &Revision, name: &str| revision.path_of(name).map_err(|e| e.to_string());
        assert_eq!(path(&this, "redis").unwrap(), "scenarios/redis.toml");
        assert_eq!(path(&this, "./no/../such.toml").unwrap(), "such.toml");
        assert_eq!(path(&this, &here.join("x.toml").display().to_string()).unwrap(), "x.toml");
        let link = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(&here, link.path().join("clone")).unwrap();
        let by_link = link.path().join("clone/scenarios/redis.toml");
        assert_eq!(path(&this, &by_link.display().to_string()).unwrap(), "scenarios/redis.toml");
        for outside in ["../x.toml", "/etc/x.toml"] {
            let why = path(&this, outside).unwrap_err();
            assert!(why.contains("is outside of the clone"), "{why}");
        }
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
        // Nor is one taken for what a build keeps.
        give_back(&top.join("folder"), &top.join("kept/folder"));
        assert!(fs::symlink_metadata(top.join("kept")).is_err());
    }
}
