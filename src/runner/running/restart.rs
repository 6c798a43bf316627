//! The initial start of an instance that the target then restarts, unpauses or restores. Only the latter is measured.

use std::fs;

use bootrace_agent::protocol::ToAgent;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::{InstanceEnd, RunningInstance, START_GRACE};
use crate::{
    control::{Control, Greeting, Timestamp},
    runner::{cold::drop_caches, events::EventStream},
    sample::Timeline,
    scenario::{PageCache, Sampling, Start},
    target::Rest,
};

impl RunningInstance {
    /// Starts it until it is ready, lets it settle, and stops, pauses or saves it. No figure includes any of this.
    pub(in crate::runner) async fn initial_start(
        &mut self,
        begins: Start,
        sampling: &Sampling,
    ) -> Result<(), InstanceEnd> {
        let before = |why| format!("in its initial start, before a {}: {why}", begins.name());
        self.start_once(begins, sampling).await.map_err(|ended| match ended {
            InstanceEnd::Failed(why) => InstanceEnd::Failed(before(why)),
            InstanceEnd::TimedOut(why) => InstanceEnd::TimedOut(before(why)),
            InstanceEnd::Stopped => InstanceEnd::Stopped,
        })
    }

    async fn start_once(&mut self, begins: Start, sampling: &Sampling) -> Result<(), InstanceEnd> {
        self.request(&mut Timeline::default()).await?;
        self.wait(sampling.settle.0).await?;
        if begins == Start::Restart {
            self.send(&ToAgent::Stop)?;
        }
        let rest = self.rest().await?;
        self.uptime_ns = None;
        if sampling.page_cache_state() == Some(PageCache::Cold) {
            // The initial start has filled the page cache again.
            drop_caches().await.map_err(|e| InstanceEnd::Failed(format!("{e:#}")))?;
        }
        let again = match begins {
            Start::Unpause | Start::Restore => ToAgent::Check,
            Start::Create | Start::Restart => ToAgent::Start(self.launch_spec.workload.clone()),
        };
        match rest {
            // The agent reads it when it runs again.
            Rest::Frozen => self.send(&again),
            Rest::Ended => self.listen_again(again, begins),
        }
    }

    async fn rest(&mut self) -> Result<Rest, InstanceEnd> {
        let deadline = Instant::now() + self.launch_spec.limit.0;
        let rest = self.instance.rest();
        tokio::pin!(rest);
        tokio::select! {
            rested = &mut rest => Ok(rested?),
            _ = sleep_until(deadline) => Err(self.launch_spec.timed_out("it was not stopped, paused or saved")),
            _ = self.stop.cancelled() => {
                let _ = timeout_at(deadline.min(Instant::now() + START_GRACE), rest).await;
                Err(InstanceEnd::Stopped)
            }
        }
    }

    fn listen_again(&mut self, first: ToAgent, begins: Start) -> Result<(), InstanceEnd> {
        let greeting = match begins {
            // It wakes up with its agent, which waits for this message: no firmware runs before.
            Start::Unpause | Start::Restore => Greeting::AtOnce,
            Start::Create | Start::Restart => self.greeting,
        };
        let socket = self.instance_id.socket();
        // The next listener needs the socket's name.
        let control = fs::remove_file(&socket)
            .and_then(|()| Control::listen(&socket, self.instance_id.nonce.clone(), &first, greeting));
        let failed = |e| InstanceEnd::Failed(format!("listening at {} again: {e}", socket.display()));
        self.events = EventStream::new(control.map_err(failed)?, self.instance.ended());
        self.requested = Timestamp::now();
        Ok(())
    }
}
