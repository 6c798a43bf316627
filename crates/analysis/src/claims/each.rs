//! Claims about density, judged by the cost of one more instance on a target that the run filled.

use super::{EstimateKind, Measured};
use crate::{
    Metric,
    density::{self, Density},
    scenario::Claim,
};

/// Density figures at two levels.
#[derive(Debug, Default)]
pub struct Filled {
    /// At the requested level.
    pub one: Vec<Density>,
    /// At the higher level at which two intervals jointly have the requested level.
    pub both: Vec<Density>,
}

/// `Err`: why there is no such figure.
pub(super) fn measure(claim: &Claim, metric: Metric, filled: &Filled) -> Result<Measured, String> {
    let find = |all: &[Density], target: &str| {
        let density = all.iter().find(|density| density.target == target);
        let density = density.ok_or_else(|| format!("the run has no density of {target:?}"))?;
        let figure = density.figure(metric);
        figure.ok_or_else(|| format!("the density of {target} has too few instances for {}", claim.metric))
    };
    let (each, unit) = match &claim.relative_to {
        None => (find(&filled.one, &claim.target)?, Some(metric.unit())),
        Some(other) => {
            let (of, to) = (find(&filled.both, &claim.target)?, find(&filled.both, other)?);
            let ratio = density::ratio(&of, &to);
            (ratio.map_err(|why| format!("there is no ratio of {}: {why}", claim.metric))?, None)
        }
    };
    Ok(Measured { value: each.value, unit, interval: each.interval, n: each.n, of: EstimateKind::Each })
}

#[cfg(test)]
mod tests {
    use super::{
        super::{ClaimVerdict, judge_one},
        *,
    };
    use crate::sample::Accelerator;
    use crate::{Interval, Metric, RelativeTo, TargetAnalysis, density::Each};
    use serde_json::json;

    fn density(target: &str, value: f64, far: f64, n: usize) -> Density {
        let interval = (n >= 6).then_some(Interval { low: value - far, high: value + far, coverage: 0.995 });
        Density {
            target: target.into(),
            accelerator: Accelerator::None,
            reached: n as u32,
            limit: None,
            memory: Some(Each { value, interval, n }),
            available: None,
            daemons: None,
            halves: None,
            cpu: None,
            startup: None,
            bursts: Vec::new(),
            room: None,
            ksm: None,
            ksm_pages: None,
            swapped: None,
        }
    }

    fn target(name: &str) -> TargetAnalysis {
        TargetAnalysis {
            name: name.into(),
            kind: crate::kind::Kind::Docker,
            accelerator: Accelerator::None,
            kvm: None,
            baseline: false,
            counts: Default::default(),
            figures: Vec::new(),
            drift: None,
        }
    }

    fn judge(more: serde_json::Value, n: usize) -> super::super::Judged {
        const MIB: f64 = 1_048_576.0;
        let all =
            || vec![density("docker", 4.0 * MIB, MIB, n), density("libvirt", 200.0 * MIB, 20.0 * MIB, n)];
        let filled = Filled { one: all(), both: all() };
        let mut claim = json!({"says": "it is so", "metric": "density.memory", "target": "docker"});
        claim.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let mut ratios =
            |_: &str, _: &str, _: Metric| -> RelativeTo { panic!("no ratio of rounds was asked for") };
        judge_one(&claim, &[target("docker"), target("libvirt")], &filled, &mut ratios)
    }

    #[test]
    fn the_cost_of_one_more_instance_is_judged_by_its_interval() {
        let verdict = |bound: &str| judge(json!({ "at_most": bound }), 20).verdict;
        assert_eq!(verdict("5MiB"), ClaimVerdict::Supported);
        assert_eq!(verdict("2MiB"), ClaimVerdict::Refuted);
        assert_eq!(verdict("4MiB"), ClaimVerdict::Undecided);
        let why = judge(json!({ "at_most": "4500KiB" }), 20).why;
        assert!(
            why.contains("deciding it takes about 130 instances at once, if the estimate stays the same"),
            "{why}"
        );
    }

    #[test]
    fn a_ratio_of_two_targets_is_judged_by_the_ends_of_both_intervals() {
        let times =
            |bound: &str| judge(json!({"target": "libvirt", "relative_to": "docker", "at_least": bound}), 20);
        let judged = times("36x");
        assert_eq!(judged.verdict, ClaimVerdict::Supported, "180 MiB over 5 MiB: {}", judged.why);
        assert_eq!(judged.why, "the 99.0 % interval of the estimate lies within the bound");
        assert_eq!(times("80x").verdict, ClaimVerdict::Refuted);
        assert_eq!(times("50x").verdict, ClaimVerdict::Undecided);
    }

    #[test]
    fn a_missing_figure_decides_nothing_with_a_reason() {
        let few = judge(json!({ "at_most": "5MiB" }), 5);
        assert_eq!(few.why, "5 instances at once are too few for an interval: need >= 6");
        let none = judge(json!({"metric": "density.cpu", "at_most": "1%"}), 20);
        assert_eq!(none.why, "the density of docker has too few instances for density.cpu");
        assert_eq!(none.verdict, ClaimVerdict::Undecided);
    }
}
