//! Events of an instance while the runner waits for it: its own messages over the control channel, and its end as the
//! engine reports it.

use std::time::Duration;

use tokio::time::timeout;

use crate::{
    control::{ChannelEvent, Control, Event},
    target,
};

/// How long to wait for messages of an instance after its engine has reported its end: they may still be on their
/// way, and explain more.
const MESSAGE_GRACE: Duration = Duration::from_millis(200);
/// How long to wait for the engine's reason after an instance's channel has closed. libvirt reports it when all of
/// QEMU is gone.
const REASON_TIMEOUT: Duration = Duration::from_secs(3);

pub struct EventStream {
    pub control: Control,
    /// `None` after the engine has reported the end.
    ended: Option<target::EndNotice>,
    dead: Option<String>,
}

impl EventStream {
    pub fn new(control: Control, ended: Option<target::EndNotice>) -> Self {
        EventStream { control, ended, dead: None }
    }

    /// Waits for the next event. Cancel-safe: the future may be dropped and requested again.
    ///
    /// # Errors
    /// When the engine says that the instance has ended, after its last events; the text is the engine's reason.
    pub async fn next(&mut self) -> Result<Event, String> {
        if let Some(ended) = &mut self.ended {
            let first = tokio::select! {
                biased;
                event = self.control.next() => Ok(event),
                how = &mut *ended => Err(how),
            };
            match first {
                // A closed channel stays closed: if this future is dropped, the next call reports it again.
                Ok(event) if matches!(event.what, ChannelEvent::Closed) => {
                    let Ok(how) = timeout(REASON_TIMEOUT, ended).await else { return Ok(event) };
                    (self.dead, self.ended) = (Some(how), None);
                }
                Ok(event) => return Ok(event),
                Err(how) => (self.dead, self.ended) = (Some(how), None),
            }
        }
        let Some(how) = &self.dead else { return Ok(self.control.next().await) };
        match timeout(MESSAGE_GRACE, self.control.next()).await {
            Ok(event) if matches!(event.what, ChannelEvent::Said(_)) => Ok(event),
            _ => Err(how.clone()),
        }
    }
}
