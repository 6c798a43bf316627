//! The order of an interleaved A/B, from the plans of both sides and the seed. Pure.
//!
//! The two trials of a pair follow each other, so a drift of the host affects both. An independent coin toss decides
//! for each pair which side goes first: this makes the gate's test exact. A balanced order would not: a periodic load
//! of the host could keep step with it.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::sample::Side;

/// A trial of one side's plan, as that side's process reports it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Planned {
    /// Name of the target.
    pub target: String,
    /// From 0, warm-up rounds included.
    pub round: u32,
    /// Whether its round is a warm-up round.
    pub warmup: bool,
}

/// One trial of one side, in the common order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Turn {
    /// The side that runs it.
    pub side: Side,
    /// Index into that side's plan; ascending over the side's turns.
    pub trial: usize,
    /// Its place in its pair; `None` where the other side has no trial to pair it with.
    pub paired: Option<Place>,
}

/// Place of a trial in its pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// The trial runs before its partner.
    First,
    /// The trial runs right after its partner.
    Second,
}

/// Every trial of both plans, in order. The trials of one target in one round are a pair. Where the sides' targets
/// differ, the longest sequence that both plans have in the same order forms pairs; the other trials stay unpaired.
pub fn turns(base: &[Planned], new: &[Planned], seed: u64) -> Vec<Turn> {
    let mut coin = Coin::new(seed);
    let mut turns = Vec::with_capacity(base.len() + new.len());
    let (mut b, mut n) = (0, 0);
    while b < base.len() || n < new.len() {
        let next = |plan: &[Planned], at: usize| plan.get(at).map_or(u32::MAX, |trial| trial.round);
        let round = next(base, b).min(next(new, n));
        let here = |plan: &[Planned], from: usize| {
            let more = plan[from..].iter().take_while(|trial| trial.round == round).count();
            from..from + more
        };
        let (of_base, of_new) = (here(base, b), here(new, n));
        let pairs = common(&base[of_base.clone()], &new[of_new.clone()]);
        let alone = |side, trial| Turn { side, trial, paired: None };
        for (pair_b, pair_n) in pairs {
            turns.extend((b..of_base.start + pair_b).map(|trial| alone(Side::Base, trial)));
            turns.extend((n..of_new.start + pair_n).map(|trial| alone(Side::New, trial)));
            (b, n) = (of_base.start + pair_b, of_new.start + pair_n);
            let first = coin.first();
            for (side, place) in [(first, Place::First), (first.other(), Place::Second)] {
                let trial = if side == Side::Base { b } else { n };
                turns.push(Turn { side, trial, paired: Some(place) });
            }
            (b, n) = (b + 1, n + 1);
        }
        turns.extend((b..of_base.end).map(|trial| alone(Side::Base, trial)));
        turns.extend((n..of_new.end).map(|trial| alone(Side::New, trial)));
        (b, n) = (of_base.end, of_new.end);
    }
    turns
}

/// Decides which side goes first.
struct Coin(ChaCha8Rng);

impl Coin {
    /// Uses the seed's stream 1: stream 0 shuffles the plans.
    fn new(seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(1);
        Coin(rng)
    }

    fn first(&mut self) -> Side {
        if self.0.next_u32() & 1 == 0 { Side::Base } else { Side::New }
    }
}

/// The longest common subsequence of two rounds' targets, as indices into both.
fn common(base: &[Planned], new: &[Planned]) -> Vec<(usize, usize)> {
    let same = |b: usize, n: usize| base[b].target == new[n].target;
    let mut longest = vec![vec![0; new.len() + 1]; base.len() + 1];
    for b in (0..base.len()).rev() {
        for n in (0..new.len()).rev() {
            longest[b][n] = match same(b, n) {
                true => longest[b + 1][n + 1] + 1,
                false => longest[b + 1][n].max(longest[b][n + 1]),
            };
        }
    }
    let (mut b, mut n, mut pairs) = (0, 0, Vec::new());
    while b < base.len() && n < new.len() {
        if same(b, n) {
            pairs.push((b, n));
            (b, n) = (b + 1, n + 1);
        } else if longest[b + 1][n] >= longest[b][n + 1] {
            b += 1;
        } else {
            n += 1;
        }
    }
    pairs
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{plan::plan, scenario::Sampling};

    fn planned(targets: &[&str], samples: u32, seed: u64) -> Vec<Planned> {
        let sampling = Sampling { samples, warmup: 1, ..Sampling::default() };
        let trials = plan(targets.len(), &sampling, seed).into_iter();
        let named = |t: crate::plan::Trial| (targets[t.target].to_owned(), t.round, t.warmup);
        trials.map(named).map(|(target, round, warmup)| Planned { target, round, warmup }).collect()
    }

    fn of(turns: &[Turn], side: Side) -> Vec<usize> {
        turns.iter().filter(|turn| turn.side == side).map(|turn| turn.trial).collect()
    }

    #[test]
    fn sides_with_the_same_targets_alternate_in_pairs_of_the_same_target_and_round() {
        let plan = planned(&["native", "docker", "libvirt"], 20, 7);
        let turns = turns(&plan, &plan, 7);
        assert_eq!(turns.len(), 2 * plan.len());
        for (n, pair) in turns.chunks(2).enumerate() {
            assert_eq!((pair[0].trial, pair[1].trial), (n, n));
            assert_eq!(pair[0].side.other(), pair[1].side);
            assert_eq!((pair[0].paired, pair[1].paired), (Some(Place::First), Some(Place::Second)));
        }
    }

    #[test]
    fn a_coin_from_the_seed_decides_the_order() {
        let plan = planned(&["native"], 200, 7);
        let firsts =
            |seed| -> Vec<Side> { turns(&plan, &plan, seed).chunks(2).map(|pair| pair[0].side).collect() };
        for seed in 0..20 {
            let firsts = firsts(seed);
            let bases = firsts.iter().filter(|first| **first == Side::Base).count();
            // Four deviations of a fair coin, and no order between one pair and the next.
            assert!((72..130).contains(&bases), "{bases}");
            let same = firsts.windows(2).filter(|two| two[0] == two[1]).count();
            assert!((72..130).contains(&same), "{same}");
        }
        assert_eq!(firsts(7), firsts(7));
        assert!((8..20).all(|seed| firsts(seed) != firsts(7)));
    }

    #[test]
    fn targets_that_one_side_lacks_have_turns_of_their_own_and_each_side_keeps_its_order() {
        let (base, new) =
            (planned(&["docker", "native"], 10, 3), planned(&["docker", "libvirt", "native"], 10, 3));
        let turns = turns(&base, &new, 3);
        assert_eq!(of(&turns, Side::Base), (0..base.len()).collect::<Vec<_>>());
        assert_eq!(of(&turns, Side::New), (0..new.len()).collect::<Vec<_>>());
        let named = |turn: &Turn| match turn.side {
            Side::Base => &base[turn.trial],
            Side::New => &new[turn.trial],
        };
        let mut pairs = 0;
        for (at, turn) in turns.iter().enumerate() {
            match turn.paired {
                Some(Place::First) => {
                    assert_eq!(named(turn), named(&turns[at + 1]));
                    assert_eq!(turns[at + 1].paired, Some(Place::Second));
                    pairs += 1;
                }
                Some(Place::Second) => assert_eq!(turns[at - 1].paired, Some(Place::First)),
                None => {}
            }
        }
        // At least one in each of 11 rounds; both where the order is the same.
        assert!((12..22).contains(&pairs), "{pairs}");
        assert!(turns.iter().filter(|t| named(t).target == "libvirt").all(|t| t.paired.is_none()));
        // Rounds stay together.
        let rounds: Vec<u32> = turns.iter().map(|turn| named(turn).round).collect();
        assert!(rounds.is_sorted());
    }

    #[test]
    fn a_side_without_trials_leaves_the_other_its_own() {
        let plan = planned(&["native"], 2, 1);
        assert!(turns(&plan, &[], 1).iter().all(|turn| turn.side == Side::Base && turn.paired.is_none()));
        assert_eq!(turns(&[], &plan, 1).len(), plan.len());
        assert_eq!(turns(&[], &[], 1), []);
    }
}
