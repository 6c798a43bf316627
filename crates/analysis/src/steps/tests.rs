//! On given and on simulated series; none of them is random from one run of the tests to the next.

use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;

/// A standard normal deviate, by Box and Muller.
fn normal(random: &mut impl Rng) -> f64 {
    let (a, b): (f64, f64) = (random.random(), random.random());
    (-2.0 * (1.0 - a).ln()).sqrt() * (std::f64::consts::TAU * b).cos()
}

/// Noise of 2 % between runs, and what a run of `own` knows of itself.
fn series(n: usize, seed: u64, level: impl Fn(usize) -> f64, own: f64) -> Vec<Value> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut value = |i| {
        let at = level(i) + 0.02 * normal(&mut random) + own * normal(&mut random);
        Value { at, variance: own * own }
    };
    (0..n).map(&mut value).collect()
}

fn places(fit: &Fit) -> Vec<usize> {
    fit.changes.iter().map(|c| c.after).collect()
}

fn step(at: usize, by: f64) -> impl Fn(usize) -> f64 {
    move |i| if i >= at { by } else { 0.0 }
}

#[test]
fn a_step_is_found_with_its_size_its_place_and_an_interval() {
    let fit = fit(&series(40, 1, step(25, 0.15), 0.01), 1e-4, 1).unwrap();
    assert_eq!(places(&fit), [25]);
    let change = &fit.changes[0];
    assert_eq!((change.kind, change.before), (Kind::Step, 24));
    assert!(change.low < 0.15 && 0.15 < change.high && change.low > 0.1, "{change:?}");
    assert!(
        change.earliest <= 25 && 25 <= change.latest && change.latest - change.earliest <= 4,
        "{change:?}"
    );
    assert_eq!(change.p, 0.001);
    assert!((0.01..0.035).contains(&fit.between), "{}", fit.between);
    assert_eq!(fit.segments.iter().map(|s| s.range.clone()).collect::<Vec<_>>(), [0..25, 25..40]);
}

#[test]
fn two_steps_are_found_in_either_direction_and_a_bump() {
    let stairs = |i: usize| {
        if i < 20 {
            0.0
        } else if i < 40 {
            0.2
        } else {
            0.1
        }
    };
    assert_eq!(places(&fit(&series(60, 2, stairs, 0.01), 1e-4, 1).unwrap()), [20, 40]);
    let bump = |i: usize| if (30..36).contains(&i) { 0.2 } else { 0.0 };
    assert_eq!(places(&fit(&series(60, 3, bump, 0.01), 1e-4, 1).unwrap()), [30, 36]);
}

#[test]
fn a_drift_is_one_and_no_staircase() {
    let mut covered = 0;
    for seed in 0..100 {
        let fit = fit(&series(60, seed, |i| i as f64 * 0.005, 0.01), 1e-4, 1).unwrap();
        let kinds: Vec<Kind> = fit.changes.iter().map(|c| c.kind).collect();
        assert_eq!(kinds, [Kind::Drift], "seed {seed}");
        let change = &fit.changes[0];
        assert_eq!((change.before, change.after), (0, 59));
        covered += usize::from(change.low < 0.295 && 0.295 < change.high);
    }
    assert!(covered >= 95, "{covered} of 100 intervals hold what it really was");
}

#[test]
fn a_drift_that_begins_after_a_level_is_one_change_and_no_step_besides() {
    for seed in 0..20 {
        let bend = |i: usize| if i < 40 { 0.0 } else { -0.01 * (i - 40) as f64 };
        let fit = fit(&series(80, seed, bend, 0.005), 1e-4, 1).unwrap();
        let drifts = fit.changes.iter().filter(|c| c.kind == Kind::Drift).count();
        assert!(drifts >= 1, "seed {seed}: {:?}", fit.changes);
        for change in &fit.changes {
            assert!(change.low * change.high > 0.0 && change.difference < 0.0, "seed {seed}: {change:?}");
        }
    }
}

#[test]
fn outliers_are_flagged_and_make_no_change() {
    let mut values = series(50, 4, |_| 0.0, 0.01);
    for (i, by) in [(10, 0.8), (11, 0.6), (30, -0.5), (49, 2.0)] {
        values[i].at += by;
    }
    let fit = fit(&values, 1e-4, 1).unwrap();
    assert_eq!(places(&fit), [] as [usize; 0]);
    for i in [10, 11, 30, 49] {
        assert!(fit.outliers.contains(&i), "{i} is not in {:?}", fit.outliers);
    }
    assert!(fit.outliers.len() <= 6, "{:?}", fit.outliers);
}

#[test]
fn a_step_is_found_beside_an_outlier() {
    let mut values = series(50, 5, step(30, 0.2), 0.01);
    values[15].at += 1.0;
    assert_eq!(places(&fit(&values, 1e-4, 1).unwrap()), [30]);
}

#[test]
fn few_values_have_a_level_and_no_change() {
    assert_eq!(fit(&[], 1e-4, 1), None);
    for n in [1, 2, 5] {
        let fit = fit(&series(n, 6, |i| i as f64, 0.01), 1e-4, 1).unwrap();
        assert_eq!((fit.segments.len(), fit.changes.len()), (1, 0), "{n}");
        assert!(fit.segments[0].end.is_finite() && fit.segments[0].error.is_finite());
    }
}

#[test]
fn equal_values_have_no_change_and_a_step_between_equal_values_is_one() {
    let values = |level: &dyn Fn(usize) -> f64| -> Vec<Value> {
        (0..30).map(|i| Value { at: level(i), variance: 0.0 }).collect()
    };
    assert_eq!(places(&fit(&values(&|_| 3.0), 1e-4, 1).unwrap()), [] as [usize; 0]);
    assert_eq!(places(&fit(&values(&step(12, 0.01)), 1e-4, 1).unwrap()), [12]);
}

#[test]
fn values_that_are_little_known_weigh_little() {
    // Five runs of two samples each, far up, in the middle of well-known ones.
    let mut values = series(40, 7, |_| 0.0, 0.005);
    for value in &mut values[20..25] {
        *value = Value { at: value.at + 0.15, variance: 0.15 * 0.15 };
    }
    assert_eq!(places(&fit(&values, 1e-4, 1).unwrap()), [] as [usize; 0]);
    for value in &mut values[20..25] {
        value.variance = 0.005 * 0.005;
    }
    assert_eq!(places(&fit(&values, 1e-4, 1).unwrap()), [20, 25]);
}

#[test]
fn the_same_seed_gives_the_same_and_another_hardly_another() {
    let values = series(40, 8, step(25, 0.08), 0.02);
    let first = fit(&values, 1e-4, 1);
    assert_eq!(first, fit(&values, 1e-4, 1));
    let other = fit(&values, 1e-4, 2).unwrap();
    assert_eq!(places(&first.unwrap()), places(&other));
}

/// Shapes of noise without any change: how many series of each seem to have one.
#[test]
fn false_alarms_are_rare_whatever_the_shape_of_the_noise() {
    type Noise = fn(&mut ChaCha8Rng) -> f64;
    let shapes: [(&str, Noise); 4] = [
        ("normal", |r| normal(r)),
        ("skewed", |r| (0.8 * normal(r)).exp()),
        ("heavy-tailed", |r| {
            normal(r) / ((normal(r).powi(2) + normal(r).powi(2) + normal(r).powi(2)) / 3.0).sqrt()
        }),
        ("bimodal", |r| normal(r) * 0.3 + if r.random_bool(0.4) { 2.0 } else { 0.0 }),
    ];
    for (name, noise) in shapes {
        let (mut alarms, mut all) = (0, 0);
        for n in [8, 12, 20, 40, 100] {
            let before = alarms;
            for seed in 0..200 {
                let mut random = ChaCha8Rng::seed_from_u64(seed * 1000 + n);
                let mut value = |_| {
                    // Runs know themselves to within 0.5 to 3 %.
                    let own = 0.005 + 0.025 * random.random::<f64>();
                    let at = 0.02 * noise(&mut random) + own * normal(&mut random);
                    Value { at, variance: own * own }
                };
                let values: Vec<Value> = (0..n).map(&mut value).collect();
                alarms += usize::from(!fit(&values, 1e-4, 1).unwrap().changes.is_empty());
                all += 1;
            }
            println!("{name}, n = {n}: {} of 200", alarms - before);
        }
        println!("{name}: {alarms} of {all}");
        assert!(alarms * 100 <= all, "{name}: {alarms} of {all} series without a change have one");
    }
}

#[test]
fn most_steps_of_five_deviations_are_found_even_when_only_five_runs_are_new() {
    let found = |n: usize, by: f64| {
        let hit = |seed: &u64| {
            let fit = fit(&series(n, *seed, step(n - 5, by), 0.01), 1e-4, 1).unwrap();
            fit.changes.iter().any(|c| c.earliest <= n - 5 && n - 5 <= c.latest)
        };
        (0..100).filter(hit).count()
    };
    let (large, small) = (found(30, 0.11), found(30, 0.05));
    println!("0.11: {large} of 100, 0.05: {small} of 100");
    assert!(large >= 95, "{large} of 100");
}

#[test]
fn students_quantiles_are_those_of_the_tables() {
    for (freedom, t) in [(4, 4.604), (6, 3.707), (10, 3.169), (30, 2.750), (120, 2.617)] {
        assert!((student(freedom) - t).abs() / t < 0.02, "{freedom}: {}", student(freedom));
    }
}
