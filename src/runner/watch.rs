//! The follower of a run.

use async_trait::async_trait;

use super::trial::Step;
use crate::{plan::Trial, sample::Results};

/// Follows a run and paces it. The runner calls these methods as it goes on.
#[async_trait]
pub trait Watch: Send {
    /// Waits until the `done`-th trial (from 0) may start. The default returns at once.
    async fn turn(&mut self, _done: usize) {}

    /// The runner skips the `done`-th trial, because it has given up its target.
    fn left_out(&mut self, _done: usize) {}

    /// The `done`-th trial (from 0) has reached this step.
    fn step(&mut self, done: usize, trial: &Trial, target: &str, step: Step);

    /// The last sample of `results` is new.
    ///
    /// # Errors
    /// When the results can't be saved. The error ends the run.
    fn sampled(&mut self, results: &Results) -> anyhow::Result<()>;

    /// Density fills a target: the `n`-th of at most `most` instances, or a burst of `n`, has reached this step.
    fn filling(&mut self, _target: &str, _n: u32, _most: u32, _step: Step) {}

    /// The last density record of the results has a new entry.
    ///
    /// # Errors
    /// When the results can't be saved. The error ends the run.
    fn filled(&mut self, _results: &Results) -> anyhow::Result<()> {
        Ok(())
    }
}
