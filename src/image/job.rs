//! What every step of making an image needs: where to, whom to tell, and when to stop.

use tokio_util::sync::CancellationToken;

use super::{
    cache::Cache,
    error::Error,
    lock::{Kind, Lock},
};

pub(super) struct Job<'a> {
    pub cache: &'a Cache,
    pub log: &'a dyn Fn(&str),
    /// Fires when the user wants out.
    pub cancel: CancellationToken,
}

impl Job<'_> {
    pub fn say(&self, text: impl AsRef<str>) {
        (self.log)(text.as_ref());
    }

    /// The right to make or remove an entry; waits while another process has it.
    pub async fn build_lock(&self, key: &str, what: &str) -> Result<Lock, Error> {
        let say = || self.say(format!("another bootrace is making {what}: waiting for it"));
        self.lock(Lock::wait(&self.cache.build_lock(key), Kind::Exclusive, say)).await
    }

    /// The assurance that an entry is not removed.
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

    /// For work that blocks: hashing, walking a tree.
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
