//! That what filled a host is what the run is about.

use bootrace_agent::protocol::{FromAgent, ToAgent};

use super::{Filling, Limit, Stop};
use crate::{agent, runner::trial::as_seen_inside};

impl Filling<'_> {
    /// Has all that are there say from inside what they are, once nothing more is read: an answer leaves its agent larger.
    /// One of another image or agent makes the figures void.
    pub(super) async fn prove_all(&mut self) -> Result<(), Stop> {
        for i in 0..self.there.len() {
            let answer = |m: &FromAgent| matches!(m, FromAgent::Identity(_));
            let identity = match self.there[i].ask(&ToAgent::Identify, answer).await {
                Ok(FromAgent::Identity(identity)) => as_seen_inside(identity),
                Ok(_) => continue,
                Err(ended) => return self.died(vec![(i, ended)]).await,
            };
            let image = identity.image_digest.as_deref() == Some(&*self.results.image.digest);
            let same = image && identity.agent_digest.as_deref() == Some(&*agent::digest());
            // Instances are in the order of the record's steps.
            if let Some(step) = self.record().steps.get_mut(i) {
                step.identity = Some(identity);
            }
            if !same {
                let why = "by what it says from inside it is of another image, or has another agent, than this run: bootrace \
                           image prune, then run again";
                return Err((Limit::Failure, format!("number {}: {why}", i + 1)));
            }
        }
        Ok(())
    }
}
