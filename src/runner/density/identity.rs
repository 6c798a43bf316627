//! Checks that every density instance ran this run's image and agent.

use bootrace_agent::protocol::{FromAgent, ToAgent};

use super::{Filling, Limit, Stop};
use crate::{agent, runner::trial::identity_record};

impl Filling<'_> {
    /// Asks each running instance for its identity, after the last reading, since an answer makes its agent larger. An
    /// instance of another image or agent voids the figures.
    pub(super) async fn check_identities(&mut self) -> Result<(), Stop> {
        for i in 0..self.running.len() {
            let answer = |m: &FromAgent| matches!(m, FromAgent::Identity(_));
            let identity = match self.running[i].ask(&ToAgent::Identify, answer).await {
                Ok(FromAgent::Identity(identity)) => identity_record(identity),
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
