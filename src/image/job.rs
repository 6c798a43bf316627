//! The context of every build step: the cache, the log and the cancellation.

use tokio_util::sync::CancellationToken;

use super::{
    cache::Cache,
    error::Error,
    lock::{Kind, Lock},
};

use crate::sys;

pub(super) struct Job<'a> {
    pub cache: &'a Cache,
    pub log: &'a dyn Fn(&str),
    /// Fires when the user stops the build.
    pub cancel: CancellationToken,
}

impl Job<'_> {
    pub fn say(&self, text: impl AsRef<str>) {
        (self.log)(text.as_ref());
    }

    /// Checks that this process runs as root.
    ///
    /// # Errors
    /// [`Error::NotRoot`] for any other user.
    pub fn require_root(&self) -> Result<(), Error> {
        if sys::is_root() { Ok(()) } else { Err(Error::NotRoot) }
    }

    /// The exclusive lock for building or removing an entry. Waits while another process holds it.
    ///
    /// # Errors
    /// When the lock's file can't be opened, or the job is cancelled.
    pub async fn build_lock(&self, key: &str, what: &str) -> Result<Lock, Error> {
        let say = || self.say(format!("another bootrace is making {what}: waiting for it"));
        self.lock(Lock::wait(&self.cache.build_lock(key), Kind::Exclusive, say)).await
    }

    /// The shared lock that keeps an entry from being removed.
    ///
    /// # Errors
    /// When the lock's file can't be opened, or the job is cancelled.
    pub async fn use_lock(&self, key: &str, what: &str) -> Result<Lock, Error> {
        let say = || self.say(format!("another bootrace is removing {what}: waiting for it"));
        self.lock(Lock::wait(&self.cache.use_lock(key), Kind::Shared, say)).await
    }

    async fn lock(&self, waiting: impl Future<Output = Result<Lock, Error>>) -> Result<Lock, Error> {
        tokio::select! {
            lock = waiting => lock,
            () = self.cancel.cancelled() => Err(Error::Interrupted),
        }
    }

    /// Runs work that blocks, such as hashing or walking a tree, off the async threads.
    ///
    /// # Errors
    /// The error of `work`, or [`Error::Interrupted`] when the runtime shuts down.
    pub async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        match tokio::task::spawn_blocking(work).await {
            Ok(result) => result,
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            // The runtime is being shut down.
            Err(_) => Err(Error::Interrupted),
        }
    }
}
