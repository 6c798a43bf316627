//! Runs git for one folder, without prompts and without the variables of a surrounding hook.

use std::{path::Path, process::Command};

/// Variables that git sets for its hooks. Inside a hook they would redirect git to the hook's repository.
const OF_HOOKS: [&str; 9] = [
    "GIT_DIR",
    "GIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_OBJECT_DIRECTORY",
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_COMMON_DIR",
    "GIT_NAMESPACE",
    "GIT_PREFIX",
    "GIT_SHALLOW_FILE",
];

/// Removes them from the command's environment, and turns prompts off.
pub fn alone(git: &mut Command) {
    for name in OF_HOOKS {
        git.env_remove(name);
    }
    git.env("GIT_TERMINAL_PROMPT", "0");
}

/// The top folder of the clone that holds an absolute path.
pub fn top(path: &Path) -> Option<&Path> {
    path.ancestors().find(|dir| dir.join(".git").exists())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hooks_repository_is_not_the_one_that_is_asked_for() {
        let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let git = |dir: &Path, arguments: &[&str]| {
            let mut git = Command::new("git");
            git.arg("-C").arg(dir).args(arguments);
            git
        };
        for dir in &dirs {
            assert!(git(dir.path(), &["init", "--quiet"]).status().unwrap().success());
        }
        let asked = |with_it: bool| {
            let mut git = git(dirs[0].path(), &["rev-parse", "--absolute-git-dir"]);
            git.env("GIT_DIR", dirs[1].path().join(".git"));
            if !with_it {
                alone(&mut git);
            }
            String::from_utf8(git.output().unwrap().stdout).unwrap()
        };
        let of = |dir: &tempfile::TempDir| format!("{}/.git\n", dir.path().canonicalize().unwrap().display());
        assert_eq!([asked(true), asked(false)], [of(&dirs[1]), of(&dirs[0])]);
    }
}
