//! The plan of a run: rounds, each with every target once, in a random order that the seed alone decides. Pure.

use rand::{SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;

use crate::scenario::Sampling;

mod taken;
mod trial;
pub mod turns;

pub use taken::taken;
pub use trial::Trial;

/// Every trial in order. ChaCha8 is specified and portable: the same seed gives the same order on
/// every host and in every version of bootrace.
pub fn plan(targets: usize, sampling: &Sampling, seed: u64) -> Vec<Trial> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut order: Vec<usize> = (0..targets).collect();
    (0..sampling.warmup + sampling.samples)
        .flat_map(|round| {
            order.sort_unstable();
            order.shuffle(&mut rng);
            let warmup = round < sampling.warmup;
            let trial = |(position, &target)| Trial { target, round, position: position as u32, warmup };
            order.iter().enumerate().map(trial).collect::<Vec<_>>()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sampling() -> Sampling {
        Sampling { samples: 20, warmup: 2, ..Sampling::default() }
    }

    #[test]
    fn every_round_has_every_target_once_and_warmup_comes_first() {
        let trials = plan(3, &sampling(), 7);
        assert_eq!(trials.len(), 66);
        for (round, trials) in trials.chunks(3).enumerate() {
            let mut targets: Vec<_> = trials.iter().map(|t| t.target).collect();
            targets.sort_unstable();
            assert_eq!(targets, [0, 1, 2]);
            for (position, trial) in trials.iter().enumerate() {
                assert_eq!((trial.round, trial.position), (round as u32, position as u32));
                assert_eq!(trial.warmup, round < 2);
            }
        }
    }

    #[test]
    fn the_seed_alone_decides_the_order() {
        assert_eq!(plan(3, &sampling(), 7), plan(3, &sampling(), 7));
        assert_ne!(plan(3, &sampling(), 7), plan(3, &sampling(), 8));
    }

    #[test]
    fn the_order_varies_between_rounds() {
        let firsts: std::collections::BTreeSet<_> =
            plan(3, &sampling(), 7).iter().filter(|t| t.position == 0).map(|t| t.target).collect();
        assert_eq!(firsts.len(), 3);
    }
}
