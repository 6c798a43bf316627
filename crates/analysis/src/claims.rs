//! Judges claims by the interval of a median, of the paired ratio of two targets, or of the cost of one more instance.
//!
//! A claim is supported only when the whole interval lies within the bound, and refuted only when the whole interval
//! lies beyond it.

use super::{Interval, Metric, RelativeTo, TargetAnalysis, Unit, facts};
use crate::{
    sample::Results,
    scenario::{Bound, Claim},
};

mod each;
mod judged;

pub(super) use each::Filled;
pub use judged::{ClaimVerdict, EstimateKind, Judged, Measured};

/// A claim that needs more samples than these is practically undecidable.
const TOO_MANY_SAMPLES: f64 = 10_000.0;

/// The ratio of the first target to the second.
pub(super) type Ratios<'a> = dyn FnMut(&str, &str, Metric) -> RelativeTo + 'a;

pub(super) fn judge(
    results: &Results,
    targets: &[TargetAnalysis],
    filled: &Filled,
    ratios: &mut Ratios<'_>,
) -> Vec<Judged> {
    let claims = results.run.scenario.get("claim").and_then(|c| c.as_array());
    let judged = |claim| {
        facts::judge(claim, results).unwrap_or_else(|| judge_one(claim, targets, filled, &mut *ratios))
    };
    claims.into_iter().flatten().map(judged).collect()
}

fn judge_one(
    json: &serde_json::Value,
    targets: &[TargetAnalysis],
    filled: &Filled,
    ratios: &mut Ratios<'_>,
) -> Judged {
    let field = |key: &str| json.get(key).and_then(|v| v.as_str()).map(str::to_owned);
    let text = |key: &str| field(key).unwrap_or_default();
    let bounds = [("at_most", "at most"), ("at_least", "at least")];
    let bound = bounds.iter().filter(|(key, _)| json.get(key).is_some());
    let bound: Vec<String> = bound.map(|(key, words)| format!("{words} {}", text(key))).collect();
    let claim = serde_json::from_value::<Claim>(json.clone());
    let claim = claim.map_err(|e| format!("this version can't read the claim: {e}"));
    let measured = claim.as_ref().map_err(String::clone).and_then(|c| match metric_of(c)? {
        metric if metric.is_of_density() => each::measure(c, metric, filled),
        metric => measure(c, metric, targets, ratios),
    });
    let decided = measured.as_ref().map_err(String::clone).and_then(|m| decide(claim.as_ref()?, m));
    let (verdict, why) = decided.unwrap_or_else(|why| (ClaimVerdict::Undecided, why));
    Judged {
        says: text("says"),
        metric: text("metric"),
        target: text("target"),
        relative_to: field("relative_to"),
        bound: bound.join(", "),
        measured: measured.ok(),
        verdict,
        why,
    }
}

fn metric_of(claim: &Claim) -> Result<Metric, String> {
    let unknown = || format!("this version has no metric {:?} for a target", claim.metric);
    Metric::from_name(&claim.metric).ok_or_else(unknown)
}

/// `Err`: why there is no such figure.
fn measure(
    claim: &Claim,
    metric: Metric,
    targets: &[TargetAnalysis],
    ratios: &mut Ratios<'_>,
) -> Result<Measured, String> {
    if let Some(missing) = claim.targets().find(|name| !targets.iter().any(|t| t.name == *name)) {
        return Err(format!("the run has no target {missing:?}"));
    }
    let Some(other) = &claim.relative_to else {
        let figure = targets.iter().find(|t| t.name == claim.target).and_then(|t| t.figure(metric));
        let figure =
            figure.ok_or_else(|| format!("{} has no good sample with {}", claim.target, claim.metric))?;
        let (value, interval, n) = (figure.median, figure.interval, figure.n);
        return Ok(Measured { value, unit: Some(metric.unit()), interval, n, of: EstimateKind::Median });
    };
    match ratios(&claim.target, other, metric) {
        RelativeTo::Ratio(ratio) => {
            let (value, interval, n) = (ratio.estimate, ratio.interval, ratio.pairs);
            Ok(Measured { value, unit: None, interval, n, of: EstimateKind::Ratio })
        }
        RelativeTo::None(why) => Err(format!("there is no ratio of {}: {why}", claim.metric)),
        RelativeTo::Baseline => Err("a target's ratio to itself is always 1".into()),
    }
}

/// `Err`: why it can't be decided.
fn decide(claim: &Claim, measured: &Measured) -> Result<(ClaimVerdict, String), String> {
    let at_most = claim.at_most.map(|b| in_unit(b, measured.unit)).transpose()?;
    let at_least = claim.at_least.map(|b| in_unit(b, measured.unit)).transpose()?;
    if at_most.is_none() && at_least.is_none() {
        return Err("the claim has no bound".into());
    }
    let (figure, samples) = measured.of.words();
    let interval = measured
        .interval
        .ok_or_else(|| format!("{} {samples} are too few for an interval: need >= 6", measured.n))?;
    // Rounded down, as wherever a coverage is shown.
    let sure = format!("the {:.1} % interval of the {figure}", (interval.coverage * 1000.0).floor() / 10.0);
    let (most, least) = (at_most.unwrap_or(f64::INFINITY), at_least.unwrap_or(f64::NEG_INFINITY));
    if interval.low >= least && interval.high <= most {
        return Ok((ClaimVerdict::Supported, format!("{sure} lies within the bound")));
    }
    if interval.low > most || interval.high < least {
        return Ok((ClaimVerdict::Refuted, format!("{sure} lies beyond the bound")));
    }
    let enough = in_words(enough(measured, &interval, least, most));
    Err(format!(
        "{sure} straddles the bound: deciding it takes {enough} {samples}, if the {figure} stays the same"
    ))
}

/// In the measured figure's unit; a ratio has none.
fn in_unit(bound: Bound, unit: Option<Unit>) -> Result<f64, String> {
    match (bound, unit) {
        (Bound::Time(span), Some(Unit::Time)) => Ok(span.0.as_nanos() as f64),
        (Bound::Size(bytes), Some(Unit::Size)) => Ok(bytes.0 as f64),
        (Bound::Share(share), Some(Unit::Share)) => Ok(share.0),
        (Bound::Times(times), None) => Ok(times),
        (_, Some(_)) => Err(format!("the bound {bound} does not have the metric's unit")),
        (_, None) => Err(format!("the bound {bound} is not a ratio")),
    }
}

/// Number of samples that narrows a straddling interval enough: its sides shrink with the square root of the number of
/// samples, for a ratio on the scale of its logarithm.
fn enough(measured: &Measured, interval: &Interval, least: f64, most: f64) -> f64 {
    let scale = |v: f64| if measured.unit.is_none() { v.max(0.0).ln() } else { v };
    let value = scale(measured.value);
    let (low, high) = (scale(interval.low), scale(interval.high));
    let (least, most) = (scale(least), scale(most));
    let needed =
        |side: f64, room: f64| (measured.n as f64 * (side / room).powi(2)).max(measured.n as f64 + 1.0);
    if value > most {
        return needed(value - low, value - most);
    }
    if value < least {
        return needed(high - value, least - value);
    }
    let above = if high > most { needed(high - value, most - value) } else { 0.0 };
    let below = if low < least { needed(value - low, value - least) } else { 0.0 };
    above.max(below)
}

/// Two digits, rounded up: it is an estimate.
fn in_words(samples: f64) -> String {
    if samples.is_nan() || samples > TOO_MANY_SAMPLES {
        return "more than 10,000".into();
    }
    let step = 10_f64.powf((samples.max(1.0).log10().floor() - 1.0).max(0.0));
    let about = ((samples / step).ceil() * step) as u64;
    match about {
        0..1000 => format!("about {about}"),
        _ => format!("about {},{:03}", about / 1000, about % 1000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Counts, Figure, Ratio, sample::Accelerator};
    use serde_json::json;

    fn docker(interval: Option<Interval>) -> TargetAnalysis {
        let figure = Figure {
            metric: Metric::Startup,
            n: 10,
            median: 2e9,
            interval,
            min: 1e9,
            max: 3e9,
            outliers: vec![],
            against: RelativeTo::Baseline,
        };
        TargetAnalysis {
            name: "docker".into(),
            kind: crate::kind::Kind::Docker,
            accelerator: Accelerator::None,
            kvm: None,
            baseline: false,
            counts: Counts::default(),
            figures: vec![figure],
            drift: None,
        }
    }

    /// No target was filled.
    const NONE: Filled = Filled { one: Vec::new(), both: Vec::new() };

    fn no_ratio(_: &str, _: &str, _: Metric) -> RelativeTo {
        panic!("nothing asked for a ratio")
    }

    fn claim(more: serde_json::Value) -> serde_json::Value {
        let mut claim = json!({"says": "it is so", "metric": "startup", "target": "docker"});
        claim.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        claim
    }

    fn verdict(bound: serde_json::Value, low: f64, high: f64) -> (ClaimVerdict, String) {
        let interval = Interval { low, high, coverage: 0.998 };
        let judged = judge_one(&claim(bound), &[docker(Some(interval))], &NONE, &mut no_ratio);
        (judged.verdict, judged.why)
    }

    /// A ratio of docker to podman over 20 rounds.
    fn times(bound: serde_json::Value, against: RelativeTo) -> Judged {
        let mut podman = docker(None);
        podman.name = "podman".into();
        let mut claim = claim(json!({"relative_to": "podman"}));
        claim.as_object_mut().unwrap().extend(bound.as_object().unwrap().clone());
        judge_one(&claim, &[docker(None), podman], &NONE, &mut |target, other, metric| {
            assert_eq!((target, other, metric), ("docker", "podman", Metric::Startup));
            against.clone()
        })
    }

    fn ratio(low: f64, estimate: f64, high: f64) -> RelativeTo {
        let interval = Some(Interval { low, high, coverage: 0.99 });
        RelativeTo::Ratio(Ratio { estimate, interval, pairs: 20 })
    }

    #[test]
    fn only_a_whole_interval_within_the_bound_supports_a_claim() {
        assert_eq!(verdict(json!({"at_most": "2s"}), 1.0e9, 1.9e9).0, ClaimVerdict::Supported);
        assert_eq!(verdict(json!({"at_most": "2s"}), 2.1e9, 2.9e9).0, ClaimVerdict::Refuted);
        assert_eq!(verdict(json!({"at_most": "2s"}), 1.9e9, 2.1e9).0, ClaimVerdict::Undecided);
        assert_eq!(verdict(json!({"at_least": "2s"}), 1.0e9, 1.9e9).0, ClaimVerdict::Refuted);
        assert_eq!(
            verdict(json!({"at_least": "1s", "at_most": "2s"}), 1.1e9, 1.9e9).0,
            ClaimVerdict::Supported
        );
    }

    #[test]
    fn a_run_can_decide_every_claim_that_a_scenario_may_make() {
        let scenario = |metric: &str, bound: &str| {
            let text = format!(
                "name = 'x'\n[workload]\ncommand = ['true']\nready = {{ exit = 0 }}\nwork = {{ command = ['true'] }}\n\
                 [cow]\nfile = '1MiB'\n[[claim]]\nsays = 'x'\nmetric = '{metric}'\ntarget = 'docker'\nat_most = '{bound}'\n"
            );
            crate::scenario::Scenario::parse(&text, "x.toml").ok()
        };
        for metric in Metric::of_instances() {
            let written = ["1s", "1MiB", "1%"].iter().filter_map(|bound| scenario(metric.name(), bound));
            let [scenario] = written.collect::<Vec<_>>().try_into().expect("one kind of bound fits");
            let mut target = docker(Some(Interval { low: 0.001, high: 0.002, coverage: 0.998 }));
            target.figures[0].metric = metric;
            let judged = judge_one(&scenario.to_json()["claim"][0], &[target], &NONE, &mut no_ratio);
            assert_eq!(judged.verdict, ClaimVerdict::Supported, "{}: {}", metric.name(), judged.why);
        }
    }

    #[test]
    fn a_claim_that_cannot_be_judged_is_undecided_with_a_reason() {
        let (v, why) = verdict(json!({"at_most": "2MiB"}), 1.0, 2.0);
        assert_eq!(
            (v, why.as_str()),
            (ClaimVerdict::Undecided, "the bound 2MiB does not have the metric's unit")
        );
        let (v, why) = verdict(json!({"at_most": "soon"}), 1.0, 2.0);
        assert!(v == ClaimVerdict::Undecided && why.contains("can't read the claim"), "{why}");
        assert_eq!(verdict(json!({}), 1.0, 2.0).1, "the claim has no bound");
        let claim = claim(json!({"at_most": "2s"}));
        let why = |targets: &[TargetAnalysis]| judge_one(&claim, targets, &NONE, &mut no_ratio).why;
        assert_eq!(why(&[docker(None)]), "10 good samples are too few for an interval: need >= 6");
        assert_eq!(why(&[]), "the run has no target \"docker\"");
    }

    #[test]
    fn a_ratio_is_judged_by_the_interval_of_the_pairs() {
        let judge = |bound| times(bound, ratio(2.9, 3.1, 3.4));
        let at_most = |bound: &str| judge(json!({"at_most": bound}));
        assert_eq!(at_most("3.4x").verdict, ClaimVerdict::Supported);
        assert_eq!(at_most("3.4x").why, "the 99.0 % interval of the ratio lies within the bound");
        assert_eq!(at_most("2.5x").verdict, ClaimVerdict::Refuted);
        assert_eq!(at_most("3x").verdict, ClaimVerdict::Undecided);
        assert_eq!(judge(json!({"at_least": "2x"})).verdict, ClaimVerdict::Supported);
        assert_eq!(judge(json!({"at_least": "2x", "at_most": "3.2x"})).verdict, ClaimVerdict::Undecided);
        let judged = at_most("4x");
        assert_eq!((judged.relative_to.as_deref(), judged.bound.as_str()), (Some("podman"), "at most 4x"));
        let interval = Some(Interval { low: 2.9, high: 3.4, coverage: 0.99 });
        let of = EstimateKind::Ratio;
        assert_eq!(judged.measured, Some(Measured { value: 3.1, unit: None, interval, n: 20, of }));
    }

    #[test]
    fn a_ratio_that_is_none_or_of_few_rounds_decides_nothing() {
        let why = |bound: &str, against: RelativeTo| {
            let judged = times(json!({ "at_most": bound }), against);
            assert_eq!(judged.verdict, ClaimVerdict::Undecided);
            judged.why
        };
        assert_eq!(
            why("4x", RelativeTo::None("no round has both")),
            "there is no ratio of startup: no round has both"
        );
        let few = RelativeTo::Ratio(Ratio { estimate: 3.0, interval: None, pairs: 5 });
        assert_eq!(why("4x", few), "5 rounds with both are too few for an interval: need >= 6");
        assert_eq!(why("2s", ratio(2.9, 3.1, 3.4)), "the bound 2s is not a ratio");
        let other = claim(json!({"relative_to": "podman", "at_most": "4x"}));
        assert_eq!(
            judge_one(&other, &[docker(None)], &NONE, &mut no_ratio).why,
            "the run has no target \"podman\""
        );
        let times = claim(json!({"at_most": "4x"}));
        assert_eq!(
            judge_one(&times, &[docker(None)], &NONE, &mut no_ratio).why,
            "the bound 4x does not have the metric's unit"
        );
    }

    #[test]
    fn an_undecided_claim_says_how_many_samples_would_decide_it() {
        let needed = |bound: serde_json::Value, low: f64, high: f64| {
            let (verdict, why) = verdict(bound, low, high);
            assert_eq!(verdict, ClaimVerdict::Undecided, "{why}");
            let (_, rest) = why.split_once("deciding it takes ").unwrap();
            let (needed, rest) = rest.split_once(" good samples").unwrap();
            assert_eq!(rest, ", if the median stays the same");
            needed.to_string()
        };
        // The median is 2 s, of 10 samples. Half of the width: four times the samples.
        assert_eq!(needed(json!({"at_most": "2100ms"}), 1.9e9, 2.2e9), "about 40");
        assert_eq!(needed(json!({"at_least": "1900ms"}), 1.8e9, 2.1e9), "about 40");
        // Refuted in the end, then.
        assert_eq!(needed(json!({"at_most": "1900ms"}), 1.7e9, 2.1e9), "about 90");
        assert_eq!(needed(json!({"at_least": "2100ms"}), 1.9e9, 2.3e9), "about 90");
        // Both bounds must hold, and the farther side takes more.
        assert_eq!(needed(json!({"at_least": "1900ms", "at_most": "2100ms"}), 1.7e9, 2.2e9), "about 90");
        // Beyond one, it is that one which has to be cleared.
        assert_eq!(needed(json!({"at_least": "1s", "at_most": "1900ms"}), 1.7e9, 2.1e9), "about 90");
        assert_eq!(needed(json!({"at_most": "2010ms"}), 1.9e9, 2.134e9), "about 1,800");
        assert_eq!(needed(json!({"at_most": "2001ms"}), 1.9e9, 2.1e9), "more than 10,000");
        assert_eq!(needed(json!({"at_most": "2s"}), 1.9e9, 2.1e9), "more than 10,000");
    }

    #[test]
    fn for_a_ratio_they_are_counted_on_the_scale_of_its_logarithm() {
        let why = times(json!({"at_most": "2x"}), ratio(0.25, 1.0, 4.0)).why;
        assert!(
            why.ends_with("deciding it takes about 80 rounds with both, if the ratio stays the same"),
            "{why}"
        );
        let why = times(json!({"at_least": "0.5x"}), ratio(0.25, 1.0, 4.0)).why;
        assert!(why.contains("about 80 rounds"), "{why}");
    }
}
