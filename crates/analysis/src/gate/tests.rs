use super::*;

const LEVEL: f64 = 0.99;

fn at(low: f64, high: f64, paired: bool) -> Shift {
    Shift {
        ratio: Some((low * high).sqrt()),
        interval: Some(Interval { low, high, coverage: 0.9905 }),
        p: 0.5,
        superiority: 0.5,
        p_no_worse: Some(0.001),
        n: 20,
        paired,
    }
}

fn apart(low: f64, high: f64) -> GateVerdict {
    judge(Some(&at(low, high, false)), LEVEL, 0.05).verdict
}

fn in_one_job(low: f64, high: f64) -> GateVerdict {
    judge(Some(&at(low, high, true)), LEVEL, 0.05).verdict
}

#[test]
fn of_runs_apart_only_a_whole_interval_on_one_side_of_the_margin_is_a_verdict() {
    assert_eq!(apart(1.051, 1.4), GateVerdict::Regressed);
    assert_eq!(apart(1.049, 1.4), GateVerdict::Inconclusive);
    assert_eq!(apart(0.96, 1.049), GateVerdict::Unchanged);
    assert_eq!(apart(0.94, 1.02), GateVerdict::Inconclusive);
    assert_eq!(apart(0.7, 0.95), GateVerdict::Improved);
    assert_eq!(apart(0.7, 1.2), GateVerdict::Inconclusive);
}

#[test]
fn in_one_job_an_interval_that_leaves_1_out_is_enough_if_the_ratio_is_beyond_the_margin() {
    assert_eq!(in_one_job(1.01, 1.2), GateVerdict::Regressed);
    assert_eq!(in_one_job(0.99, 1.3), GateVerdict::Inconclusive);
    // The middle is within the margin, whatever chance is ruled out.
    assert_eq!(in_one_job(1.01, 1.06), GateVerdict::Inconclusive);
    assert_eq!(in_one_job(0.8, 0.99), GateVerdict::Improved);
    assert_eq!(in_one_job(0.96, 1.049), GateVerdict::Unchanged);
}

#[test]
fn a_significant_difference_within_the_margin_is_no_regression() {
    assert_eq!(apart(1.01, 1.02), GateVerdict::Unchanged);
    assert_eq!(in_one_job(1.01, 1.02), GateVerdict::Unchanged);
}

/// ln 1.1025 = 2 ln 1.05: the middle is as far beyond the edge as the interval reaches below it at four times n.
#[test]
fn the_forecast_shrinks_the_interval_by_the_root_of_n() {
    let edge = 1.05_f64.ln();
    let judged = |low: f64, high: f64, paired| judge(Some(&at(low, high, paired)), LEVEL, 0.05);
    let reported = judged(1.0, (4.0 * edge).exp(), false);
    assert_eq!(reported.verdict, GateVerdict::Inconclusive);
    assert!(matches!(reported.samples_needed, Some(136 | 137)), "{reported:?}");
    // Of pairs it is 1 that the interval has to leave, by two thirds of its lower half: 2.25 times n.
    let reported = judged((-edge).exp(), (5.0 * edge).exp(), true);
    assert!(matches!(reported.samples_needed, Some(76 | 77)), "{reported:?}");
    assert!(reported.why.contains("includes 1"), "{}", reported.why);
    assert_eq!(judged(1.05 / 1.2, 1.05 * 1.2, false).samples_needed, None);
}

#[test]
fn too_few_samples_say_how_many_it_takes() {
    let pairs = |n: usize| Values::Paired(vec![(1.0, 2.0); n]);
    let judged = |n| judge(shift(&pairs(n), LEVEL, 0.05).as_ref(), LEVEL, 0.05);
    assert_eq!(judged(0).why, "there is nothing to compare");
    for n in [1, 5] {
        assert_eq!(judged(n).verdict, GateVerdict::Inconclusive);
        assert!(judged(n).why.ends_with("too few: need >= 6"), "{}", judged(n).why);
    }
    assert!(judged(7).why.ends_with("need >= 8"), "{}", judged(7).why);
    assert_eq!(judged(8).verdict, GateVerdict::Regressed);
}

/// 2^-8 = 0.0039 <= 0.005; 2^-9 = 0.00195 > 0.005 / 3.
/// Hypergeometric sums, counted in Python: 1 of 40 choose 1; 5 of 20 against none of 20.
#[test]
fn failures_are_held_to_fishers_exact_test() {
    assert!((more_failures(0, 20, 1, 20) - 0.5).abs() < 1e-12);
    assert!((more_failures(0, 20, 5, 20) - 0.02356202356202356).abs() < 1e-12);
    assert!((more_failures(2, 20, 2, 20) - 0.6975051975051975).abs() < 1e-12);
    assert!((more_failures(0, 0, 5, 5) - 1.0).abs() < 1e-12);
}

#[test]
fn more_figures_take_more_pairs() {
    assert_eq!([1, 2, 3].map(|figures| fewest_pairs(figures, LEVEL)), [8, 9, 10]);
}

#[test]
fn pairs_and_sets_agree_on_clear_cases() {
    let base: Vec<f64> = (0..20).map(|i| 100.0 + f64::from(i * 7 % 11)).collect();
    let new: Vec<f64> = base.iter().map(|b| b * 1.3).collect();
    let pairs = Values::Paired(base.iter().copied().zip(new.iter().copied()).collect());
    for values in [pairs, Values::Unpaired { base, new }] {
        let shift = shift(&values, LEVEL, 0.05).unwrap();
        assert!((shift.ratio.unwrap() - 1.3).abs() < 0.02);
        assert!(shift.p < 1e-5 && shift.p_no_worse.unwrap() < 0.005 && shift.superiority > 0.99);
        assert_eq!(judge(Some(&shift), LEVEL, 0.05).verdict, GateVerdict::Regressed);
    }
}

#[test]
fn values_without_logarithms_have_no_verdict() {
    let shift = shift(&Values::Paired(vec![(0.0, 1.0); 10]), LEVEL, 0.05).unwrap();
    assert_eq!((shift.ratio, shift.superiority), (None, 1.0));
    assert_eq!(judge(Some(&shift), LEVEL, 0.05).verdict, GateVerdict::Inconclusive);
}

#[test]
fn of_several_figures_holm_asks_more_of_the_smallest_p() {
    let reported = |ps: &[f64]| -> Vec<GateVerdict> {
        let mut judged: Vec<Judged> = ps
            .iter()
            .map(|p| judge(Some(&at(if *p <= 0.005 { 1.06 } else { 0.9 }, 1.4, true)), LEVEL, 0.05))
            .collect();
        let mut gated: Vec<_> = ps.iter().map(|p| Some(*p)).zip(judged.iter_mut()).collect();
        holm(&mut gated, LEVEL);
        judged.iter().map(|j| j.verdict).collect()
    };
    use GateVerdict::{Inconclusive, Regressed};
    assert_eq!(reported(&[0.004]), [Regressed]);
    assert_eq!(reported(&[0.004, 0.5]), [Inconclusive, Inconclusive]);
    assert_eq!(reported(&[0.5, 0.0024]), [Inconclusive, Regressed]);
    // The first passes a third, the second a half, the last all of it.
    assert_eq!(reported(&[0.0049, 0.0016, 0.0024]), [Regressed; 3]);
    assert_eq!(reported(&[0.0049, 0.0018, 0.0024]), [Inconclusive; 3]);
}
