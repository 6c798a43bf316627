//! Advisory locks on entries, for builders and users. The kernel releases them when their process ends, for whatever
//! reason.

use std::{fs::File, os::fd::OwnedFd, path::Path, time::Duration};

use rustix::{
    fs::{FlockOperation, flock},
    io::Errno,
};

use super::error::Error;

/// A held lock. Dropping it releases it.
#[derive(Debug)]
pub struct Lock {
    file: File,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    Shared,
    Exclusive,
}

/// Interval between attempts to get a lock that another process holds.
const RETRY_INTERVAL: Duration = Duration::from_millis(50);

impl Lock {
    /// A descriptor that keeps the lock as long as any process has it open.
    pub(super) fn hold(&self) -> std::io::Result<OwnedFd> {
        self.file.try_clone().map(Into::into)
    }

    /// Tries to get the lock; `None` if another process has it.
    pub(super) fn attempt(path: &Path, kind: Kind) -> Result<Option<Lock>, Error> {
        let mut options = File::options();
        options.read(true).write(true).create(true).truncate(false);
        let file = options.open(path).map_err(Error::io("opening the lock", path))?;
        Lock::on(file, kind).map_err(Error::io("locking", path))
    }

    /// Tries to lock an open file or directory.
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

    /// Waits for the lock. Calls `say` first if another process has it.
    pub(super) async fn wait(path: &Path, kind: Kind, say: impl FnOnce()) -> Result<Lock, Error> {
        let mut say = Some(say);
        loop {
            if let Some(lock) = Lock::attempt(path, kind)? {
                return Ok(lock);
            }
            if let Some(say) = say.take() {
                say();
            }
            tokio::time::sleep(RETRY_INTERVAL).await;
        }
    }
}
