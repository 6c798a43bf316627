//! Advisory locks: who builds an entry, who uses one. The kernel lets go of them when their
//! process ends, however it ends.

use std::{fs::File, os::fd::OwnedFd, path::Path, time::Duration};

use rustix::{
    fs::{FlockOperation, flock},
    io::Errno,
};

use super::error::Error;

/// A held lock; dropping it lets go.
#[derive(Debug)]
pub struct Lock {
    file: File,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    Shared,
    Exclusive,
}

/// How often a lock that another process holds is tried again.
const AGAIN: Duration = Duration::from_millis(50);

impl Lock {
    /// Held as long as this is open, whoever has it.
    pub(super) fn hold(&self) -> std::io::Result<OwnedFd> {
        self.file.try_clone().map(Into::into)
    }

    /// `None` when another has it.
    pub(super) fn attempt(path: &Path, kind: Kind) -> Result<Option<Lock>, Error> {
        let mut options = File::options();
        options.read(true).write(true).create(true).truncate(false);
        let file = options.open(path).map_err(Error::io("opening the lock", path))?;
        Lock::on(file, kind).map_err(Error::io("locking", path))
    }

    /// On an open file or directory.
    pub(super) fn on(file: File, kind: Kind) -> std::io::Result<Option<Lock>> {
        let operation = match kind {
            Kind::Shared => FlockOperation::NonBlockingLockShared,
            Kind::Exclusive => FlockOperation::NonBlockingLockExclusive,
        };
        match flock(&file, operation) {
            Ok(()) => Ok(Some(Lock { file })),
            Err(Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Waits for it; says so first if another has it.
    pub(super) async fn wait(path: &Path, kind: Kind, say: impl FnOnce()) -> Result<Lock, Error> {
        let mut say = Some(say);
        loop {
            if let Some(lock) = Lock::attempt(path, kind)? {
                return Ok(lock);
            }
            if let Some(say) = say.take() {
                say();
            }
            tokio::time::sleep(AGAIN).await;
        }
    }
}
