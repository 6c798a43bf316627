//! Claims judged by the interval of the median: a claim is supported only when the whole interval
//! is on its side of the bound, refuted only when the whole interval is beyond it.

use super::{Metric, Target, Unit};
use crate::{
    sample::Results,
    scenario::{Bound, Claim},
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Supported,
    Refuted,
    Undecided,
}

impl Verdict {
    pub fn word(self) -> &'static str {
        match self {
            Verdict::Supported => "supported",
            Verdict::Refuted => "refuted",
            Verdict::Undecided => "undecided",
        }
    }
}

/// A claim of the scenario and what this run says to it.
#[derive(Debug, Clone, PartialEq)]
pub struct Judged {
    pub says: String,
    pub metric: String,
    pub target: String,
    /// As written, for example "at most 2s".
    pub bound: String,
    pub verdict: Verdict,
    pub why: String,
}

pub(super) fn judge(results: &Results, targets: &[Target]) -> Vec<Judged> {
    let claims = results.run.scenario.get("claim").and_then(|c| c.as_array());
    claims.into_iter().flatten().map(|claim| judge_one(claim, targets)).collect()
}

fn judge_one(json: &serde_json::Value, targets: &[Target]) -> Judged {
    let text = |key: &str| json.get(key).and_then(|v| v.as_str()).unwrap_or_default().to_owned();
    let bounds = [("at_most", "at most"), ("at_least", "at least")];
    let bound = bounds.iter().filter(|(key, _)| json.get(key).is_some());
    let bound: Vec<String> = bound.map(|(key, words)| format!("{words} {}", text(key))).collect();
    let verdict = serde_json::from_value::<Claim>(json.clone())
        .map_err(|e| format!("this version can't read the claim: {e}"))
        .and_then(|claim| decide(&claim, targets));
    let (verdict, why) = verdict.unwrap_or_else(|why| (Verdict::Undecided, why));
    Judged {
        says: text("says"),
        metric: text("metric"),
        target: text("target"),
        bound: bound.join(", "),
        verdict,
        why,
    }
}

/// `Err`: why it can't be decided.
fn decide(claim: &Claim, targets: &[Target]) -> Result<(Verdict, String), String> {
    let metric = Metric::from_name(&claim.metric)
        .ok_or_else(|| format!("this version has no metric {:?} for a target", claim.metric))?;
    let target = targets
        .iter()
        .find(|t| t.name == claim.target)
        .ok_or_else(|| format!("the run has no target {:?}", claim.target))?;
    let figure = target
        .figure(metric)
        .ok_or_else(|| format!("{} has no good sample with {}", claim.target, claim.metric))?;
    let interval = figure
        .interval
        .ok_or_else(|| format!("{} good samples are too few for an interval: need >= 6", figure.n))?;
    let at_most = claim.at_most.map(|b| in_unit(b, metric.unit())).transpose()?;
    let at_least = claim.at_least.map(|b| in_unit(b, metric.unit())).transpose()?;
    if at_most.is_none() && at_least.is_none() {
        return Err("the claim has no bound".into());
    }
    // Rounded down, as wherever a coverage is shown.
    let sure = format!("the {:.1} % interval of the median", (interval.coverage * 1000.0).floor() / 10.0);
    let (most, least) = (at_most.unwrap_or(f64::INFINITY), at_least.unwrap_or(f64::NEG_INFINITY));
    if interval.low >= least && interval.high <= most {
        return Ok((Verdict::Supported, format!("{sure} lies within the bound")));
    }
    if interval.low > most || interval.high < least {
        return Ok((Verdict::Refuted, format!("{sure} lies beyond the bound")));
    }
    Err(format!("{sure} straddles the bound: more samples may decide it"))
}

fn in_unit(bound: Bound, unit: Unit) -> Result<f64, String> {
    match (bound, unit) {
        (Bound::Time(span), Unit::Time) => Ok(span.0.as_nanos() as f64),
        (Bound::Size(bytes), Unit::Size) => Ok(bytes.0 as f64),
        _ => Err(format!("the bound {bound} has not the metric's unit")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        analysis::{Against, Counts, Figure, Interval},
        sample::Accelerator,
    };
    use serde_json::json;

    fn docker(interval: Option<Interval>) -> Target {
        let figure = Figure {
            metric: Metric::Startup,
            n: 10,
            median: 2e9,
            interval,
            min: 1e9,
            max: 3e9,
            outliers: vec![],
            against: Against::Baseline,
        };
        Target {
            name: "docker".into(),
            kind: "docker".into(),
            accelerator: Accelerator::None,
            baseline: false,
            counts: Counts::default(),
            figures: vec![figure],
            drift: None,
        }
    }

    fn verdict(bound: serde_json::Value, low: f64, high: f64) -> (Verdict, String) {
        let mut claim = json!({"says": "it is so", "metric": "startup", "target": "docker"});
        claim.as_object_mut().unwrap().extend(bound.as_object().unwrap().clone());
        let judged = judge_one(&claim, &[docker(Some(Interval { low, high, coverage: 0.998 }))]);
        (judged.verdict, judged.why)
    }

    #[test]
    fn only_a_whole_interval_within_the_bound_supports_a_claim() {
        assert_eq!(verdict(json!({"at_most": "2s"}), 1.0e9, 1.9e9).0, Verdict::Supported);
        assert_eq!(verdict(json!({"at_most": "2s"}), 2.1e9, 2.9e9).0, Verdict::Refuted);
        assert_eq!(verdict(json!({"at_most": "2s"}), 1.9e9, 2.1e9).0, Verdict::Undecided);
        assert_eq!(verdict(json!({"at_least": "2s"}), 1.0e9, 1.9e9).0, Verdict::Refuted);
        assert_eq!(verdict(json!({"at_least": "1s", "at_most": "2s"}), 1.1e9, 1.9e9).0, Verdict::Supported);
    }

    #[test]
    fn a_run_can_decide_every_claim_that_a_scenario_may_make() {
        let scenario = |metric: &str, bound: &str| {
            let text = format!(
                "name = 'x'\n[workload]\ncommand = ['true']\nready = {{ exit = 0 }}\nwork = {{ command = ['true'] }}\n\
                 [[claim]]\nsays = 'x'\nmetric = '{metric}'\ntarget = 'docker'\nat_most = '{bound}'\n"
            );
            crate::scenario::Scenario::parse(&text, "x.toml").ok()
        };
        let mut undecidable = Vec::new();
        for metric in Metric::ALL {
            let Some(scenario) = ["1s", "1MiB"].iter().find_map(|bound| scenario(metric.name(), bound))
            else {
                undecidable.push(metric.name());
                continue;
            };
            let mut target = docker(Some(Interval { low: 1.0, high: 2.0, coverage: 0.998 }));
            target.figures[0].metric = metric;
            let judged = judge_one(&scenario.to_json()["claim"][0], &[target]);
            assert_eq!(judged.verdict, Verdict::Supported, "{}: {}", metric.name(), judged.why);
        }
        assert_eq!(undecidable, ["cpu.idle"]);
    }

    #[test]
    fn what_cannot_be_judged_is_undecided_and_says_why() {
        let (v, why) = verdict(json!({"at_most": "2MiB"}), 1.0, 2.0);
        assert_eq!((v, why.as_str()), (Verdict::Undecided, "the bound 2MiB has not the metric's unit"));
        let (v, why) = verdict(json!({"at_most": "soon"}), 1.0, 2.0);
        assert!(v == Verdict::Undecided && why.contains("can't read the claim"), "{why}");
        assert_eq!(verdict(json!({}), 1.0, 2.0).1, "the claim has no bound");
        let claim = json!({"says": "", "metric": "startup", "target": "docker", "at_most": "2s"});
        assert!(judge_one(&claim, &[docker(None)]).why.contains("need >= 6"));
        assert!(judge_one(&claim, &[]).why.contains("no target"));
    }
}
