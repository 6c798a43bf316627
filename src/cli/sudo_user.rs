//! The sudo user: bootrace checks out and builds a clone as its owner, with the owner's compilers, so that no file in
//! it becomes root's and its build scripts run as usual.

use std::{
    ffi::{OsStr, OsString},
    fs,
    os::unix::{ffi::OsStrExt, fs::MetadataExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use crate::{cli, report::sudo_user::ids, supervisor, sys::users};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SudoUser {
    pub uid: u32,
    pub gid: u32,
    /// `None` when the user database has none.
    home: Option<PathBuf>,
}

impl SudoUser {
    /// `None` without sudo, or for a clone of another user: then bootrace builds as the current user.
    pub fn of(clone: &Path) -> Option<Self> {
        let (uid, gid) = ids()?;
        let owner = fs::metadata(clone).ok()?.uid();
        (owner == uid).then(|| SudoUser { uid, gid, home: users::home_of(uid) })
    }

    /// Makes the command run as this user.
    pub fn runs(&self, command: &mut Command) {
        command.uid(self.uid).gid(self.gid);
        if let Some(home) = &self.home {
            command.env("HOME", home);
        }
    }
}

/// PATH for a build, with the user's own folders of compilers (as rustup's), which sudo leaves out.
pub fn path(sudo_user: Option<&SudoUser>) -> OsString {
    let own = |home: &Path| [home.join(".cargo/bin"), home.join(".local/bin")];
    let mut places: Vec<PathBuf> =
        sudo_user.and_then(|user| user.home.as_deref()).into_iter().flat_map(own).collect();
    places.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()));
    if sudo_user.is_none() {
        places.extend(std::env::var_os("CARGO_HOME").map(|home| PathBuf::from(home).join("bin")));
        places.extend(std::env::var_os("HOME").into_iter().flat_map(|home| own(Path::new(&home))));
    }
    // PATH can't contain a folder with a colon in its name.
    places.retain(|place| !place.as_os_str().as_bytes().contains(&b':'));
    std::env::join_paths(places).unwrap_or_default()
}

/// git in this clone, whoever owns it; as the sudo user if the clone is theirs.
pub fn git(clone: &Path) -> Command {
    let mut git = as_sudo_user("git", SudoUser::of(clone).as_ref());
    cli::git::alone(&mut git);
    let mut safe = OsString::from("safe.directory=");
    safe.push(clone);
    // Keep Ctrl-C from git: an interrupted checkout is harder to remove.
    git.process_group(0);
    // The clone's hooks are for its user's own checkouts.
    git.arg("-C")
        .arg(clone)
        .arg("-c")
        .arg(safe)
        .args(["-c", "core.hooksPath=/dev/null"])
        .stdin(Stdio::null());
    git
}

/// The program, as the sudo user if there is one.
pub fn as_sudo_user(program: impl AsRef<OsStr>, sudo_user: Option<&SudoUser>) -> Command {
    let mut command = Command::new(program);
    if let Some(sudo_user) = sudo_user {
        sudo_user.runs(&mut command);
    }
    command
}

/// Runs the command and returns its trimmed standard output.
///
/// # Errors
/// With its standard error when it fails, or the reason why it can't run.
pub fn output_of(mut command: Command) -> Result<String, String> {
    let output = supervisor::supervise(&mut command, None).and_then(|lifeline| {
        let output = command.output();
        drop(lifeline);
        output
    });
    let failed = |e: std::io::Error| format!("running {}: {e}", command.get_program().display());
    let Output { status, stdout, stderr } = output.map_err(failed)?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    if status.success() { Ok(text(&stdout)) } else { Err(text(&stderr)) }
}
