//! A git revision as a side: a commit of the user's clone.

use std::path::{Component, Path, PathBuf};

use crate::{
    cli::{
        self,
        sudo_user::{git, output_of},
    },
    sample::Source,
    scenario,
};

/// A commit of the clone that holds the working directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revision {
    /// As on the command line.
    name: String,
    pub commit: String,
    /// The clone's top directory.
    pub clone: PathBuf,
    /// The clone's web address.
    url: Option<String>,
}

impl Revision {
    /// Asks git for the commit.
    ///
    /// # Errors
    /// With git's message, or the reason why git can't run.
    pub fn find(revision: &str) -> Result<Self, String> {
        if revision.is_empty() || revision.starts_with('-') {
            return Err("a revision's name is not empty and does not begin with '-'".into());
        }
        let here = std::env::current_dir().map_err(|e| e.to_string())?;
        let clone =
            cli::git::top(&here).ok_or_else(|| format!("{} is in no git repository", here.display()))?;
        let mut git = git(clone);
        git.args(["rev-parse", "--verify", "--quiet"]).arg(format!("{revision}^{{commit}}"));
        let commit = output_of(git).map_err(|why| match why.is_empty() {
            true => format!("{} has no such commit", clone.display()),
            false => why,
        })?;
        let mut git = self::git(clone);
        git.args(["remote", "get-url", "origin"]);
        let url = output_of(git).ok().as_deref().and_then(cli::source::web);
        Ok(Revision { name: revision.into(), commit: commit.trim().into(), clone: clone.into(), url })
    }

    /// Its record in results.
    pub fn source(&self) -> Source {
        // A fresh checkout has no changes.
        Source { commit: self.commit.clone(), branch: None, url: self.url.clone(), dirty: Some(false) }
    }

    /// The path in the clone of a scenario that the command line names relative to the working directory.
    ///
    /// # Errors
    /// When the scenario is outside of the clone.
    pub fn path_of(&self, scenario: &str) -> Result<String, String> {
        let path = match scenario.contains('/') || scenario.ends_with(".toml") {
            true => PathBuf::from(scenario),
            false => Path::new(scenario::FOLDER).join(format!("{scenario}.toml")),
        };
        let here = std::env::current_dir().map_err(|e| e.to_string())?;
        let mut absolute = PathBuf::new();
        for part in here.join(&path).components() {
            match part {
                Component::ParentDir => _ = absolute.pop(),
                part => absolute.push(part),
            }
        }
        // The path may lead to the clone by a symbolic link.
        let real = absolute.canonicalize().unwrap_or_default();
        let inside = [&absolute, &real].into_iter().find_map(|path| path.strip_prefix(&self.clone).ok());
        inside.and_then(Path::to_str).map(str::to_owned).ok_or_else(|| {
            format!(
                "the scenario {} is outside of the clone {}, and a revision takes its own scenario\nfix: name a file of the clone",
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
}
