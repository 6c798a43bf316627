//! Who calls us by sudo: a clone of theirs is checked out and built as them, with their cargo and in their name, so
//! that nothing in it becomes root's and its build scripts run as they always do.

use std::{
    fs,
    os::unix::{
        fs::{MetadataExt, PermissionsExt},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::anyhow;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    pub uid: u32,
    pub gid: u32,
    /// `None` when nothing says where it is.
    home: Option<PathBuf>,
}

impl Caller {
    /// `None` where the clone isn't the caller's, or nobody called us by sudo: then it is built as who we are.
    pub fn of(clone: &Path) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            return None;
        }
        let number = |name| std::env::var(name).ok().and_then(|id| id.parse::<u32>().ok());
        let (uid, gid) = (number("SUDO_UID")?, number("SUDO_GID")?);
        let owner = fs::metadata(clone).ok()?.uid();
        (uid != 0 && owner == uid).then(|| Caller { uid, gid, home: home_of(uid) })
    }

    /// Has the command run as them.
    pub fn runs(&self, command: &mut Command) {
        command.uid(self.uid).gid(self.gid);
        if let Some(home) = &self.home {
            command.env("HOME", home);
        }
    }
}

/// By getent, which knows of users beyond /etc/passwd too.
fn home_of(uid: u32) -> Option<PathBuf> {
    let output = Command::new("getent").args(["passwd", &uid.to_string()]).output().ok()?;
    let line = String::from_utf8(output.stdout).ok()?;
    line.trim_end().split(':').nth(5).filter(|home| home.starts_with('/')).map(PathBuf::from)
}

/// Finds cargo in PATH, else where rustup puts it, which sudo's PATH leaves out.
///
/// # Errors
/// With the places that were looked at, and what to do.
pub fn cargo(caller: Option<&Caller>) -> anyhow::Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut places: Vec<PathBuf> = match caller {
        Some(caller) => caller.home.iter().map(|home| home.join(".cargo/bin")).collect(),
        None => Vec::new(),
    };
    places.extend(std::env::split_paths(&path));
    if caller.is_none() {
        places.extend(std::env::var_os("CARGO_HOME").map(|home| PathBuf::from(home).join("bin")));
        places.extend(std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cargo/bin")));
    }
    let runs = |file: &PathBuf| {
        fs::metadata(file).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
    };
    let found = places.iter().map(|place| place.join("cargo")).find(runs);
    found.ok_or_else(|| {
        let places: Vec<String> = places.iter().map(|place| place.display().to_string()).collect();
        anyhow!(
            "a revision is built by cargo, which is in none of {}: put it on PATH (sudo takes a PATH of its own: sudo env PATH=\"$PATH\" bootrace ab ...), or build both sides yourself and give --base and --new the executables",
            places.join(", ")
        )
    })
}
