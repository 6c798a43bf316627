//! On hand-made runs.

use super::*;

fn run(id: usize, figures: &[(f64, usize)]) -> Run {
    let target = |(i, (median, n)): (usize, &(f64, usize))| Measured {
        name: format!("t{i}"),
        kind: crate::kind::Kind::Native,
        accelerator: Accelerator::None,
        failed: 0,
        figures: vec![(*n > 0).then(|| Figure { n: *n, median: *median, interval: interval(*median, *n) })],
        conditions: vec![("image", if id < 12 { "old" } else { "new" }.into())],
    };
    Run {
        id: format!("run-{id:03}"),
        started_at: String::new(),
        time: jiff::Timestamp::from_second(id as i64 * 60).unwrap(),
        source: None,
        interrupted: false,
        of_an_ab: false,
        scenario: "s".into(),
        host: HostName { name: "h".into(), cpu_model: "c".into(), cpus: 2 },
        targets: figures.iter().enumerate().map(target).collect(),
    }
}

fn interval(median: f64, n: usize) -> Option<Interval> {
    (n >= 6).then_some(Interval { low: median * 0.98, high: median * 1.02, coverage: 0.99 })
}

/// A series of these medians, 10 samples each.
fn fitted(medians: &[f64]) -> Series {
    let runs: Vec<Run> = medians.iter().enumerate().map(|(i, m)| run(i, &[(*m, 10)])).collect();
    let all = series(&runs, &[Metric::Startup], |_, _| true);
    assert_eq!(all.len(), 1);
    all[0].fit(&runs, 1)
}

fn wobble(i: usize) -> f64 {
    1.0 + ((i * 37 % 11) as f64 - 5.0) / 500.0
}

#[test]
fn a_step_has_levels_in_the_metrics_unit_and_the_changes_beside_it() {
    let medians: Vec<f64> = (0..24).map(|i| wobble(i) * if i >= 12 { 240.0 } else { 200.0 }).collect();
    let series = fitted(&medians);
    assert!(series.log);
    assert_eq!(series.fit.changes.len(), 1);
    let change = &series.fit.changes[0];
    assert_eq!((change.before, change.after), (11, 12));
    let (before, after) = series.levels(0);
    assert!((before - 200.0).abs() < 2.0 && (after - 240.0).abs() < 2.0, "{before} {after}");
    let notes: Vec<_> = series.notes_at(0).map(|n| (n.what, n.from.as_str(), n.to.as_str())).collect();
    assert_eq!(notes, [("image", "old", "new")]);
}

#[test]
fn figures_at_zero_or_below_have_differences_and_no_ratios() {
    let medians: Vec<f64> = (0..24).map(|i| wobble(i) - 1.0 + if i >= 12 { 0.5 } else { 0.0 }).collect();
    let series = fitted(&medians);
    assert!(!series.log);
    assert_eq!(series.fit.changes.len(), 1);
    assert!((series.fit.changes[0].difference - 0.5).abs() < 0.01);
    assert_eq!(fitted(&[0.0; 20]).fit.changes, []);
}

#[test]
fn the_newest_run_is_held_against_the_others_of_its_level() {
    let mut medians: Vec<f64> = (0..20).map(wobble).collect();
    let series = fitted(&medians);
    assert_eq!((series.latest.others, series.latest.holds(medians[19])), (19, Some(true)));
    medians[19] = 1.5;
    let series = fitted(&medians);
    assert_eq!(series.fit.changes, [], "one run is no change");
    assert_eq!(series.latest.holds(1.5), Some(false));
    assert!((series.latest.level - 1.0).abs() < 0.01);
    let series = fitted(&[1.0, 1.1]);
    assert_eq!((series.latest.others, series.latest.holds(1.1)), (1, None));
}

#[test]
fn runs_without_a_figure_leave_a_gap_and_no_point() {
    let runs: Vec<Run> =
        (0..10).map(|i| run(i, &[(wobble(i), if i % 3 == 0 { 0 } else { 10 }), (0.0, 0)])).collect();
    let all = series(&runs, &[Metric::Startup], |_, _| true);
    // The second target has no figure in any run.
    assert_eq!(all.len(), 1);
    let series = all[0].fit(&runs, 1);
    assert_eq!(series.empty, [0, 3, 6, 9]);
    assert_eq!(series.points.iter().map(|p| p.run).collect::<Vec<_>>(), [1, 2, 4, 5, 7, 8]);
}

#[test]
fn a_run_with_few_samples_is_taken_to_be_as_exact_as_they_make_it() {
    let figures: Vec<Figure> = [(1.0, 16), (1.0, 4), (1.0, 1)]
        .map(|(median, n)| Figure { n, median, interval: interval(median, n) })
        .to_vec();
    let values = values(&figures, true);
    // Half the samples' root, so twice the deviation.
    assert!((values[1].variance / values[0].variance - 4.0).abs() < 1e-9, "{values:?}");
    assert!((values[2].variance / values[0].variance - 16.0).abs() < 1e-9, "{values:?}");
}

#[test]
fn copies_are_one_run_and_two_sides_of_one_id_are_two() {
    let (a, b) = (run(1, &[(1.0, 10)]), run(1, &[(2.0, 10)]));
    let (kept, copies) = ordered(vec![run(3, &[]), a.clone(), b.clone(), a.clone(), run(0, &[])]);
    assert_eq!(copies, 1);
    assert_eq!(
        kept.iter().map(|r| r.id.as_str()).collect::<Vec<_>>(),
        ["run-000", "run-001", "run-001", "run-003"]
    );
    assert_eq!(kept[1..3], [a.clone(), b.clone()]);
    // Whichever was found first.
    assert_eq!(ordered(vec![b.clone(), a.clone(), b.clone()]), ordered(vec![a, b.clone(), b]));
}

#[test]
fn a_trend_along_a_line_is_a_drift() {
    let medians: Vec<f64> = (0..40).map(|i| wobble(i) * (0.01 * i as f64).exp()).collect();
    let series = fitted(&medians);
    assert_eq!(series.fit.changes.iter().map(|c| c.kind).collect::<Vec<_>>(), [Kind::Drift]);
}

/// Medians of `n` runs that know themselves to within some 1 % and differ by 2 %.
fn simulated(n: usize, seed: u64, level: impl Fn(usize) -> f64) -> Vec<f64> {
    use rand::{RngExt, SeedableRng};
    let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
    let mut bell = || (0..12).map(|_| random.random::<f64>()).sum::<f64>() - 6.0;
    (0..n).map(|i| level(i) * (0.02 * bell()).exp()).collect()
}

#[test]
fn nearly_all_steps_of_five_deviations_are_found() {
    let steps = |seed| simulated(40, seed, |i| if i >= 25 { 1.1 } else { 1.0 });
    let found: usize = (0..100).map(|seed| fitted(&steps(seed)).fit.changes.len()).sum();
    println!("{found} changes of 100 found");
    assert!((99..=102).contains(&found), "{found}");
}
