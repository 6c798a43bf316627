//! A git revision of bootrace as a side: checked out beside the clone, built by cargo, kept by its commit
//! and what compiles it.
//!
//! Below the cache, whose entries are whole or not there:
//! ```text
//! builds/COMMIT-KEY/bootrace      what was built; KEY: of compiler and flags
//! builds/clones/KEY/tree/         the revision that is being built; gone when it is
//! builds/clones/KEY/target/       cargo's, so that the next revision of the clone is built faster
//! builds/clones/KEY.lock          one build at a time; not where the clone's owner can put anything in its place
//! ```

use std::{
    collections::VecDeque,
    fs::{self, File},
    os::unix::fs::{PermissionsExt, chown},
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context, anyhow};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};

use super::{
    compiler,
    sudo_user::{SudoUser, as_sudo_user, cargo, git, said},
};
use crate::{
    cli::{self, Failure, progress::Progress, signals::Signals},
    image::Cache,
    sample::Source,
    supervisor,
};

/// How much of cargo's output an error shows, in lines.
const TAIL: usize = 30;

/// A commit of the clone that holds the working directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revision {
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
        let clone = here
            .ancestors()
            .find(|dir| dir.join(".git").exists())
            .ok_or_else(|| format!("{} is in no git repository", here.display()))?;
        let mut git = git(clone);
        git.args(["rev-parse", "--verify", "--quiet"]).arg(format!("{revision}^{{commit}}"));
        let commit = said(git).map_err(|why| match why.is_empty() {
            true => format!("{} has no such commit", clone.display()),
            false => why,
        })?;
        let mut git = self::git(clone);
        git.args(["remote", "get-url", "origin"]);
        let url = said(git).ok().as_deref().and_then(cli::source::web);
        Ok(Revision { commit: commit.trim().into(), clone: clone.into(), url })
    }

    /// As results have it.
    pub fn source(&self) -> Source {
        // It is checked out for the build alone.
        Source { commit: self.commit.clone(), branch: None, url: self.url.clone(), dirty: Some(false) }
    }

    /// The commit as people say it.
    pub fn short(&self) -> &str {
        self.commit.get(..12).unwrap_or(&self.commit)
    }

    /// Gives its bootrace, which is built unless it was before.
    ///
    /// # Errors
    /// With the end of cargo's output; [`Failure::Stopped`] on a signal. The checkout is removed in any case.
    pub async fn build(
        &self,
        cache: &Cache,
        progress: &Progress,
        signals: &Signals,
    ) -> Result<PathBuf, Failure> {
        let sudo_user = SudoUser::of(&self.clone);
        let cargo = cargo(sudo_user.as_ref());
        let key = compiler::key(cargo.as_deref().ok(), sudo_user.as_ref(), &self.clone);
        let place = Place::new(cache, self, sudo_user, &key).map_err(Failure::Run)?;
        let Some(_lock) = place.lock(progress, signals).await? else {
            return Err(Failure::Stopped { signal: signals.signal() });
        };
        if place.built.exists() {
            return Ok(place.built);
        }
        let cargo = cargo.map_err(Failure::Run)?;
        progress.say(&format!(
            "building {} of {}: the first build of a clone takes minutes",
            self.short(),
            self.clone.display()
        ));
        let begin = Instant::now();
        let tree = place.check_out(self).map_err(Failure::Run)?;
        let Some(executable) = place.compile(self, &cargo, signals).await? else {
            return Err(Failure::Stopped { signal: signals.signal() });
        };
        place.keep(&executable).map_err(Failure::Run)?;
        drop(tree);
        progress.say(&format!("built {} in {} s", self.short(), begin.elapsed().as_secs()));
        Ok(place.built)
    }
}

/// Where a clone is built.
struct Place {
    dir: PathBuf,
    lock: PathBuf,
    built: PathBuf,
    sudo_user: Option<SudoUser>,
}

/// A checkout; removed when dropped.
struct Tree<'a> {
    clone: &'a Path,
    dir: PathBuf,
}

impl Drop for Tree<'_> {
    fn drop(&mut self) {
        remove_tree(self.clone, &self.dir);
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

impl Place {
    fn new(
        cache: &Cache,
        revision: &Revision,
        sudo_user: Option<SudoUser>,
        compiler: &str,
    ) -> anyhow::Result<Self> {
        let (builds, clones) = (cache.builds_dir(), cache.clones_dir());
        let key =
            Sha256::digest(format!("{} {:?}", revision.clone.display(), sudo_user.as_ref().map(|c| c.uid)));
        let key: String = key.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        let dir = clones.join(&key);
        let make = |dir: &Path| fs::create_dir_all(dir).with_context(|| format!("making {}", dir.display()));
        make(&dir)?;
        // Who builds must be able to enter them, whatever our umask is.
        for dir in [&builds, &clones, &dir] {
            fs::set_permissions(dir, fs::Permissions::from_mode(0o755))
                .with_context(|| format!("opening {} to those who build", dir.display()))?;
        }
        if let Some(sudo_user) = &sudo_user {
            chown(&dir, Some(sudo_user.uid), Some(sudo_user.gid))
                .with_context(|| format!("giving {} to user {}", dir.display(), sudo_user.uid))?;
        }
        let built = builds.join(format!("{}-{compiler}", revision.commit)).join("bootrace");
        Ok(Place { built, lock: dir.with_extension("lock"), dir, sudo_user })
    }

    /// `None` when a signal came first.
    async fn lock(&self, progress: &Progress, signals: &Signals) -> Result<Option<File>, Failure> {
        let file = File::create(&self.lock).with_context(|| format!("making {}", self.lock.display()));
        let file = file.map_err(Failure::Run)?;
        let mut said = false;
        while file.try_lock().is_err() {
            if !said {
                progress.say("waiting for another build of this clone");
            }
            said = true;
            tokio::select! {
                () = tokio::time::sleep(Duration::from_millis(200)) => {}
                () = signals.stop.cancelled() => return Ok(None),
            }
        }
        Ok(Some(file))
    }

    fn check_out<'a>(&self, revision: &'a Revision) -> anyhow::Result<Tree<'a>> {
        let dir = self.dir.join("tree");
        // What a killed build left.
        if dir.exists() {
            remove_tree(&revision.clone, &dir);
        }
        let tree = Tree { clone: &revision.clone, dir };
        let mut git = git(&revision.clone);
        // By force: git may still have it in its list, as a checkout that is gone.
        git.args(["worktree", "add", "--force", "--detach"]).arg(&tree.dir).arg(&revision.commit);
        said(git).map_err(|why| {
            anyhow!(
                "checking out {} of {} in {}: {why}",
                revision.commit,
                revision.clone.display(),
                tree.dir.display()
            )
        })?;
        Ok(tree)
    }

    /// The executable that cargo says it has made; `None` when a signal came first.
    async fn compile(
        &self,
        revision: &Revision,
        cargo: &Path,
        signals: &Signals,
    ) -> Result<Option<PathBuf>, Failure> {
        let mut command = as_sudo_user("cargo", self.sudo_user.as_ref());
        let path = compiler::path_with(cargo).map_err(Failure::Run)?;
        command.env("PATH", path).env("CARGO_TARGET_DIR", self.dir.join("target"));
        command.args([
            "build",
            "--release",
            "--locked",
            "--bin",
            "bootrace",
            "--message-format",
            "json-render-diagnostics",
        ]);
        command
            .current_dir(self.dir.join("tree"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        // We may end without asking it to: by a second Ctrl-C, or killed.
        let lifeline = supervisor::supervise(&mut command, None)
            .context("making a pipe to cargo's supervisor")
            .map_err(Failure::Run)?;
        let mut command = tokio::process::Command::from(command);
        let mut child =
            command.spawn().with_context(|| format!("running {}", cargo.display())).map_err(Failure::Run)?;
        let (out, err) = (child.stdout.take(), child.stderr.take());
        let listening = async {
            let (executable, tail) = tokio::join!(find_executable(out), tail(err));
            (executable, tail, child.wait().await)
        };
        let (executable, tail, status) = tokio::select! {
            done = listening => done,
            () = signals.stop.cancelled() => {
                drop(lifeline);
                // Its supervisor sees to it that this ends.
                let _ = child.wait().await;
                return Ok(None);
            }
        };
        let status = status.context("waiting for cargo").map_err(Failure::Run)?;
        match executable.filter(|_| status.success()) {
            Some(executable) => Ok(Some(executable)),
            None => Err(Failure::Run(anyhow!(
                "building {} of {} by {} build --release --locked --bin bootrace: {status}; the end of its output:\n{tail}",
                revision.commit,
                revision.clone.display(),
                cargo.display()
            ))),
        }
    }

    /// Copies what was built to where it is looked for, whole or not at all.
    fn keep(&self, executable: &Path) -> anyhow::Result<()> {
        let home = self.built.parent().unwrap_or(&self.dir);
        let builds = home.parent().unwrap_or(&self.dir);
        let kept = || -> std::io::Result<()> {
            let new = tempfile::Builder::new().prefix(".new-").tempdir_in(builds)?;
            fs::copy(executable, new.path().join("bootrace"))?;
            fs::set_permissions(new.path().join("bootrace"), fs::Permissions::from_mode(0o755))?;
            fs::set_permissions(new.path(), fs::Permissions::from_mode(0o755))?;
            File::open(new.path().join("bootrace"))?.sync_all()?;
            match fs::rename(new.path(), home) {
                // Another clone has the same commit, and was faster.
                Err(_) if self.built.exists() => Ok(()),
                renamed => renamed.map(|()| drop(new.keep())),
            }
        };
        kept().with_context(|| format!("keeping {} in {}", executable.display(), home.display()))
    }
}

async fn find_executable(out: Option<impl AsyncRead + Unpin>) -> Option<PathBuf> {
    let mut lines = BufReader::new(out?).lines();
    let mut found = None;
    while let Ok(Some(line)) = lines.next_line().await {
        let Ok(message) = serde_json::from_str::<serde_json::Value>(&line) else { continue };
        if message["target"]["name"] == "bootrace" && message["executable"].is_string() {
            found = message["executable"].as_str().map(PathBuf::from);
        }
    }
    found
}

async fn tail(err: Option<impl AsyncRead + Unpin>) -> String {
    let Some(err) = err else { return String::new() };
    let mut lines = BufReader::new(err).lines();
    let mut tail = VecDeque::new();
    while let Ok(Some(line)) = lines.next_line().await {
        tracing::debug!(line, "cargo");
        tail.push_back(line);
        if tail.len() > TAIL {
            tail.pop_front();
        }
    }
    Vec::from(tail).join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_executable_is_the_one_that_cargo_says_and_noise_is_none() {
        let said = r#"{"reason":"compiler-artifact","target":{"name":"bootrace","kind":["lib"]},"executable":null}
noise
{"reason":"compiler-artifact","target":{"name":"bootrace-agent"},"executable":"/x/agent"}
{"reason":"compiler-artifact","target":{"name":"bootrace","kind":["bin"]},"executable":"/x/bootrace"}
{"reason":"build-finished","success":true}
"#;
        assert_eq!(find_executable(Some(said.as_bytes())).await, Some("/x/bootrace".into()));
        assert_eq!(find_executable(Some(&b"noise"[..])).await, None);
    }

    #[tokio::test]
    async fn only_the_end_of_what_cargo_says_is_kept() {
        let said: String = (0..100).map(|n| format!("line {n}\n")).collect();
        let tail = tail(Some(said.as_bytes())).await;
        assert!(tail.starts_with("line 70\n") && tail.ends_with("line 99"), "{tail}");
    }

    #[test]
    fn a_name_that_would_be_an_option_of_git_is_none() {
        assert!(Revision::find("--upload-pack=x").is_err() && Revision::find("").is_err());
    }
}
