//! The user who started bootrace with sudo. Reports are theirs: they read, move and remove them without sudo.

use std::{io, panic::resume_unwind, thread};

use rustix::{
    process::{Gid, Uid, geteuid},
    thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid},
};

/// User and group ids of the sudo user; `None` without sudo, or if root called it.
pub fn ids() -> Option<(u32, u32)> {
    let number = |name| std::env::var(name).ok().and_then(|id| id.parse::<u32>().ok());
    let (uid, gid) = (number("SUDO_UID")?, number("SUDO_GID")?);
    // The last one means "unchanged" to the kernel.
    (geteuid().is_root() && uid != 0 && uid != u32::MAX && gid != u32::MAX).then_some((uid, gid))
}

/// Makes files or directories as the sudo user, so that they own them. Where this user may not make them, and without
/// sudo, it makes them as the current user: no results are lost, and root's directories get no files of others. The
/// kernel checks each step of a path with the user's own rights, so no link leads further than the user could go.
///
/// # Errors
/// When the current user can't make them either.
pub fn as_sudo_user<T: Send>(make: impl Fn() -> io::Result<T> + Sync) -> io::Result<T> {
    as_user(ids(), make)
}

fn as_user<T: Send>(ids: Option<(u32, u32)>, make: impl Fn() -> io::Result<T> + Sync) -> io::Result<T> {
    let Some((uid, gid)) = ids else { return make() };
    // Credentials belong to a thread. This one ends, so none have to be restored.
    let made = thread::scope(|scope| {
        let user = || {
            become_user(uid, gid)?;
            make()
        };
        scope.spawn(user).join().unwrap_or_else(|panic| resume_unwind(panic))
    });
    made.or_else(|_| make())
}

fn become_user(uid: u32, gid: u32) -> io::Result<()> {
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
    set_thread_groups(&[gid])?;
    set_thread_res_gid(gid, gid, gid)?;
    Ok(set_thread_res_uid(uid, uid, uid)?)
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        os::unix::fs::{MetadataExt, chown, symlink},
        path::Path,
    };

    use super::*;

    const USER: u32 = 65534;

    fn owner(path: &Path) -> u32 {
        fs::symlink_metadata(path).unwrap().uid()
    }

    #[test]
    #[ignore = "needs root: scripts/test runs it"]
    fn files_are_the_users_in_the_users_directories_and_roots_elsewhere() {
        let dir = tempfile::tempdir().unwrap();
        // For the user's own way to their directory.
        fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let (home, roots) = (dir.path().join("home"), dir.path().join("roots"));
        for dir in [&home, &roots] {
            fs::create_dir(dir).unwrap();
        }
        chown(&home, Some(USER), Some(USER)).unwrap();
        symlink(&roots, home.join("link")).unwrap();
        let write = |dir: &Path| {
            let make =
                || fs::create_dir_all(dir.join("a/b")).and_then(|()| fs::write(dir.join("a/b/c"), "x"));
            as_user(Some((USER, USER)), make).unwrap();
            ["a", "a/b", "a/b/c"].map(|path| owner(&dir.join(path)))
        };
        assert_eq!(write(&home), [USER; 3]);
        assert_eq!(write(&roots), [0; 3]);
        fs::remove_dir_all(roots.join("a")).unwrap();
        assert_eq!(write(&home.join("link")), [0; 3], "a link of the user leads to root's directory");
        assert_eq!([&home, &roots].map(|dir| owner(dir)), [USER, 0]);
        assert!(geteuid().is_root(), "this thread is root still");
        let none = as_user(Some((USER, USER)), || fs::write(dir.path().join("none/x"), ""));
        assert_eq!(none.unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
