//! The host's own mounts. bootrace may have mounts that nobody else sees ([`super::native::isolate_mounts`]); what an
//! engine is to see has to be mounted beside it.

use std::{fs::File, io, os::fd::AsFd, panic, path::Path, sync::OnceLock, thread};

use rustix::{
    mount::{UnmountFlags, unmount},
    thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe},
};

/// The mounts that this process was started with, once it has others.
static HOST: OnceLock<File> = OnceLock::new();

/// To be called before this process gets mounts of its own.
pub(super) fn remember() {
    if let Ok(host) = File::open("/proc/thread-self/ns/mnt") {
        // The first ones are the host's.
        let _ = HOST.set(host);
    }
}

/// Does what is to be seen by the host, in a thread of its own where this process has other mounts.
///
/// # Errors
/// What `work` fails with, and when the kernel does not let us in, which takes root.
pub fn there<T: Send>(work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    let Some(host) = HOST.get() else { return work() };
    let enter_and_work = || {
        // SAFETY: this thread stops sharing its working directory and umask; the kernel lets nobody else in.
        unsafe { unshare_unsafe(UnshareFlags::FS) }?;
        move_into_link_name_space(host.as_fd(), Some(LinkNameSpaceType::Mount))?;
        work()
    };
    thread::scope(|scope| {
        let thread = thread::Builder::new().name("host-mounts".into()).spawn_scoped(scope, enter_and_work)?;
        thread.join().unwrap_or_else(|panicked| panic::resume_unwind(panicked))
    })
}

/// Takes away what is mounted there, with all below it; what is not mounted any more is fine.
///
/// # Errors
/// When the kernel refuses.
pub fn discard(at: &Path) -> io::Result<()> {
    there(|| match unmount(at, UnmountFlags::DETACH) {
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
        assert_eq!(there(|| Ok(thread::current().id())).unwrap(), here);
    }

    #[test]
    #[ignore = "needs root (mounts): scripts/test runs it"]
    fn what_is_not_mounted_is_gone_already() {
        let dir = tempfile::tempdir().unwrap();
        discard(dir.path()).unwrap();
        discard(&dir.path().join("none")).unwrap();
    }
}
