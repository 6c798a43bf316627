//! Mounts in the host's mount namespace. bootrace's own namespace may be private
//! ([`super::native::isolate_mounts`]), so mounts that an engine must see are made in the host's.

use std::{fs::File, io, os::fd::AsFd, panic, path::Path, sync::OnceLock, thread};

use rustix::{
    mount::{UnmountFlags, unmount},
    thread::{LinkNameSpaceType, move_into_link_name_space},
};

use crate::sys::namespaces;

/// The mount namespace that this process was started in; set once it has another one.
static HOST: OnceLock<File> = OnceLock::new();

/// Call this before this process gets its own mount namespace.
pub(super) fn remember() {
    if let Ok(host) = File::open("/proc/thread-self/ns/mnt") {
        // The first call has the host's.
        let _ = HOST.set(host);
    }
}

/// Runs `work` in the host's mount namespace: in a separate thread if this process has another one.
///
/// # Errors
/// When `work` fails, or this process may not enter the namespace, which takes root.
pub fn in_host_namespace<T: Send>(work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    let Some(host) = HOST.get() else { return work() };
    let enter_and_work = || {
        // As the kernel demands for setns.
        namespaces::own_root()?;
        move_into_link_name_space(host.as_fd(), Some(LinkNameSpaceType::Mount))?;
        work()
    };
    thread::scope(|scope| {
        let thread = thread::Builder::new().name("host-mounts".into()).spawn_scoped(scope, enter_and_work)?;
        thread.join().unwrap_or_else(|panicked| panic::resume_unwind(panicked))
    })
}

/// Unmounts `at` and all mounts below it. Succeeds if nothing is mounted there.
///
/// # Errors
/// When the kernel refuses.
pub fn discard(at: &Path) -> io::Result<()> {
    in_host_namespace(|| match unmount(at, UnmountFlags::DETACH) {
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOENT) => Ok(()),
        result => Ok(result?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_mounts_of_ones_own_the_work_is_done_here() {
        let here = thread::current().id();
        assert_eq!(in_host_namespace(|| Ok(thread::current().id())).unwrap(), here);
    }

    #[test]
    #[ignore = "needs root (mounts): scripts/test runs it"]
    fn an_unmounted_path_is_success() {
        let dir = tempfile::tempdir().unwrap();
        discard(dir.path()).unwrap();
        discard(&dir.path().join("none")).unwrap();
    }
}
