//! That what fills a host is what the run is about.

use bootrace_agent::protocol::{FromAgent, ToAgent};

use super::{Filling, Limit, Stop};
use crate::{agent, runner::trial::as_seen_inside};

impl Filling<'_> {
    /// Has the newest say from inside what it is; one of another image or agent would make the figures void.
    pub(super) async fn prove(&mut self, n: u32) -> Result<(), Stop> {
        let Some(live) = self.there.last_mut() else { return Ok(()) };
        let answer = |m: &FromAgent| matches!(m, FromAgent::Identity(_));
        let identity = match live.ask(&ToAgent::Identify, answer).await {
            Ok(FromAgent::Identity(identity)) => as_seen_inside(identity),
            Ok(_) => return Ok(()),
            Err(ended) => {
                let newest = self.there.len() - 1;
                return self.died(vec![(newest, ended)]).await;
            }
        };
        let image = identity.image_digest.as_deref() == Some(&*self.results.image.digest);
        let same = image && identity.agent_digest.as_deref() == Some(&*agent::digest());
        self.last().identity = Some(identity);
        if same {
            return Ok(());
        }
        let why = "by what it says from inside it is of another image, or has another agent, than this run: bootrace image \
                   prune, then run again";
        let why = format!("number {n}: {why}");
        self.last().error = Some(why.clone());
        Err((Limit::Failure, why))
    }
}
