//! What is heard of an instance while it is waited for: by its own words over the control channel, and of its
//! end by its engine's.

use std::time::Duration;

use tokio::time::timeout;

use crate::{
    control::{ChannelEvent, Control, Event},
    target,
};

/// How long an instance that its engine calls dead is still listened to: what it said before that may be on
/// its way, and tells more.
const LAST_WORDS: Duration = Duration::from_millis(200);
/// How long the engine has to say why an instance's channel closed: libvirt tells when all of QEMU is gone.
const OBITUARY: Duration = Duration::from_secs(3);

pub struct EventStream {
    pub control: Control,
    /// Until it has come.
    ended: Option<target::Ended>,
    dead: Option<String>,
}

impl EventStream {
    pub fn new(control: Control, ended: Option<target::Ended>) -> Self {
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
                // A closed channel is so for good: if this is dropped, it is heard of again.
                Ok(event) if matches!(event.what, ChannelEvent::Closed) => {
                    let Ok(how) = timeout(OBITUARY, ended).await else { return Ok(event) };
                    (self.dead, self.ended) = (Some(how), None);
                }
                Ok(event) => return Ok(event),
                Err(how) => (self.dead, self.ended) = (Some(how), None),
            }
        }
        let Some(how) = &self.dead else { return Ok(self.control.next().await) };
        match timeout(LAST_WORDS, self.control.next()).await {
            Ok(event) if matches!(event.what, ChannelEvent::Said(_)) => Ok(event),
            _ => Err(how.clone()),
        }
    }
}
