//! Second starts: what becomes of an instance before the start that is measured, where its target wants it to have
//! run before.

use std::{fs, path::Path};

use bootrace_agent::protocol::ToAgent;
use tokio::time::{Instant, timeout_at};

use super::{Ended, START_GRACE, Trial, workload};
use crate::{
    control::{Control, Moment},
    runner::{cold::drop_caches, heard::Heard},
    sample::Sample,
    scenario::{PageCache, Start},
    target::{self, Instance, Rest},
};

impl Trial<'_> {
    /// Starts it until it is ready, lets it settle, and sets it aside. Of all that only an error is in the sample.
    pub(super) async fn first_life(
        &mut self,
        begins: Start,
        instance: &mut dyn Instance,
        sample: &Sample,
        socket: &Path,
    ) -> Result<(), Ended> {
        self.live_once(begins, instance, sample, socket).await.map_err(|ended| match ended {
            Ended::Failed(why) => Ended::Failed(format!("in its first life, before a {}: {why}", begins.name())),
            Ended::TimedOut(why) => {
                Ended::TimedOut(format!("in its first life, before a {}: {why}", begins.name()))
            }
            Ended::Stopped => Ended::Stopped,
        })
    }

    async fn live_once(
        &mut self,
        begins: Start,
        instance: &mut dyn Instance,
        sample: &Sample,
        socket: &Path,
    ) -> Result<(), Ended> {
        let sampling = &self.scenario.sampling;
        let deadline = Instant::now() + sampling.timeout.0;
        let mut unmeasured = sample.clone();
        self.requested = Moment::now();
        self.start(instance, deadline).await?;
        self.until_ready(&mut unmeasured, deadline).await?;
        self.wait(sampling.settle.0).await?;
        if begins == Start::Restart {
            self.heard.control.send(&ToAgent::Stop)?;
        }
        let again = match begins {
            Start::Restore => ToAgent::Check,
            Start::Cold | Start::Restart => ToAgent::Start(workload(self.scenario)),
        };
        match self.rest(instance).await? {
            // Nobody reads it until it runs again.
            Rest::Frozen => self.heard.control.send(&again)?,
            Rest::Ended => {
                // The socket's name must be free for the next.
                let removed = fs::remove_file(socket);
                let control = removed.and_then(|()| Control::listen(socket, again));
                let failed = |e| Ended::Failed(format!("listening at {} again: {e}", socket.display()));
                self.heard = Heard::new(control.map_err(failed)?, instance.ended());
            }
        }
        if sampling.page_cache() == Some(PageCache::Cold) {
            // What the first life read and wrote is in it again.
            drop_caches().await.map_err(|e| Ended::Failed(format!("{e:#}")))?;
        }
        Ok(())
    }

    async fn rest(&self, instance: &mut dyn Instance) -> Result<Rest, Ended> {
        let rest = instance.rest();
        tokio::pin!(rest);
        let deadline = Instant::now() + self.scenario.sampling.timeout.0;
        tokio::select! {
            rested = &mut rest => Ok(rested?),
            _ = tokio::time::sleep_until(deadline) => {
                let limit = self.scenario.sampling.timeout;
                Err(Ended::TimedOut(format!("it was not set aside within {limit} (sampling.timeout)")))
            }
            _ = self.stop.cancelled() => {
                let _: Result<Result<Rest, target::Error>, _> =
                    timeout_at(deadline.min(Instant::now() + START_GRACE), rest).await;
                Err(Ended::Stopped)
            }
        }
    }
}
