//! How far a run has come in its plan. Pure.

use super::trial::Trial;
use crate::sample::Sample;

/// The number of trials that a run with these samples has behind it, those included that it left out in between. `None`
/// where the samples don't follow the plan.
pub fn taken(trials: &[Trial], targets: &[&str], samples: &[Sample]) -> Option<usize> {
    let mut next = 0;
    for sample in samples {
        let planned = (sample.round, sample.position, sample.warmup);
        let is_it = |trial: &Trial| {
            planned == (trial.round, trial.position, trial.warmup)
                && targets.get(trial.target) == Some(&sample.target.as_str())
        };
        next += trials[next..].iter().position(is_it)? + 1;
    }
    Some(next)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{plan::plan, scenario::Sampling};

    const TARGETS: [&str; 2] = ["a", "b"];

    fn whole() -> (Vec<Trial>, Vec<Sample>) {
        let trials = plan(2, &Sampling { samples: 4, warmup: 1, ..Sampling::default() }, 7);
        let samples = trials.iter().map(|trial| Sample::blank(TARGETS[trial.target], trial)).collect();
        (trials, samples)
    }

    #[test]
    fn a_run_goes_on_after_its_last_sample() {
        let (trials, samples) = whole();
        for n in 0..=samples.len() {
            assert_eq!(taken(&trials, &TARGETS, &samples[..n]), Some(n));
        }
        // The runner left out the target a.
        let of_b: Vec<Sample> = samples.iter().filter(|s| s.target == "b").cloned().collect();
        let last = trials.iter().rposition(|trial| trial.target == 1).unwrap();
        assert_eq!(taken(&trials, &TARGETS, &of_b), Some(last + 1));
    }

    #[test]
    fn samples_of_another_plan_are_found_out() {
        let (trials, samples) = whole();
        let mut swapped = samples.clone();
        swapped.swap(2, 4);
        let twice = [&samples[..3], &samples[2..]].concat();
        let mut renamed = samples.clone();
        renamed[3].target = "c".into();
        let mut later = samples.clone();
        later[0].warmup = false;
        let more = [&samples[..], &samples[..1]].concat();
        for wrong in [swapped, twice, renamed, later, more] {
            assert_eq!(taken(&trials, &TARGETS, &wrong), None);
        }
    }
}
