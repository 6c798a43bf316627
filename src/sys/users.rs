//! Users of this host.

use std::{path::PathBuf, process::Command};

/// A user's home by getent, which finds users outside of /etc/passwd too; `None` when the user database has none.
pub fn home_of(uid: u32) -> Option<PathBuf> {
    let output = Command::new("getent").args(["passwd", &uid.to_string()]).output().ok()?;
    let line = String::from_utf8(output.stdout).ok()?;
    line.trim_end().split(':').nth(5).filter(|home| home.starts_with('/')).map(PathBuf::from)
}

/// The home of this process's user.
pub fn home() -> Option<PathBuf> {
    let own = || home_of(rustix::process::geteuid().as_raw());
    super::variable("HOME").map(PathBuf::from).or_else(own)
}
