//! Facts of isolation: each is true or false for a sample, by observations from inside the instance and on the host. A
//! claim about a fact is supported when every good sample with an observation agrees, and refuted when one disagrees.

use super::{ClaimVerdict, Judged, is_measured};
use crate::{
    sample::{Results, Sample},
    scenario::{Claim, FACTS},
};

/// A fact that a claim can be about instead of a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fact {
    /// The boot id inside is the host's.
    KernelShared,
    /// The instance sees a given process of the host.
    ProcessesVisible,
    /// A page that the host reads becomes cached in the instance.
    PageCacheShared,
}

impl Fact {
    /// Every fact, in the order of the scenario's documentation.
    pub const ALL: [Fact; 3] = [Fact::KernelShared, Fact::ProcessesVisible, Fact::PageCacheShared];

    /// Its name in claims.
    pub fn name(self) -> &'static str {
        FACTS[self as usize].0
    }

    fn from_name(name: &str) -> Option<Fact> {
        Fact::ALL.into_iter().find(|fact| fact.name() == name)
    }

    /// Whether the fact holds for a sample; `None` without an observation.
    pub fn of(self, sample: &Sample, results: &Results) -> Option<bool> {
        let isolation = sample.isolation.as_ref();
        match self {
            Fact::KernelShared => {
                let host = Some(&results.host.boot_id).filter(|id| !id.is_empty())?;
                sample.identity.as_ref().map(|identity| identity.boot_id == *host)
            }
            Fact::ProcessesVisible => isolation?.sees_host_process,
            Fact::PageCacheShared => isolation?.page_cache_shared,
        }
    }
}

/// `None` for a claim that is about no fact.
pub(super) fn judge(json: &serde_json::Value, results: &Results) -> Option<Judged> {
    let field = |key: &str| json.get(key).and_then(|v| v.as_str()).map(str::to_owned);
    let fact = json.get("fact")?;
    let is = json.get("is").and_then(|is| is.as_bool());
    let decided = serde_json::from_value::<Claim>(json.clone())
        .map_err(|e| format!("this version can't read the claim: {e}"))
        .and_then(|claim| decide(&claim, results));
    let (verdict, why) = decided.unwrap_or_else(|why| (ClaimVerdict::Undecided, why));
    Some(Judged {
        says: field("says").unwrap_or_default(),
        metric: fact.as_str().unwrap_or_default().to_owned(),
        target: field("target").unwrap_or_default(),
        relative_to: None,
        bound: is.map_or_else(String::new, |is| format!("is {is}")),
        measured: None,
        verdict,
        why,
    })
}

/// `Err`: why it can't be decided.
fn decide(claim: &Claim, results: &Results) -> Result<(ClaimVerdict, String), String> {
    let name = claim.fact.as_deref().unwrap_or_default();
    let fact = Fact::from_name(name).ok_or_else(|| format!("this version has no fact {name:?}"))?;
    let is = claim.is.ok_or("the claim has no \"is\"")?;
    if !results.targets.iter().any(|target| target.name == claim.target) {
        return Err(format!("the run has no target {:?}", claim.target));
    }
    let good: Vec<&Sample> =
        results.samples.iter().filter(|s| s.target == claim.target && is_measured(s)).collect();
    let reported: Vec<bool> = good.iter().filter_map(|sample| fact.of(sample, results)).collect();
    let agree = reported.iter().filter(|reported| **reported == is).count();
    let silent = match good.len() - reported.len() {
        0 => String::new(),
        n => format!(", {n} more without an observation"),
    };
    match reported.len() {
        0 => Err(format!("none of {} good samples has an observation", good.len())),
        n if agree == n => Ok((ClaimVerdict::Supported, format!("{n} of {n} good samples agree{silent}"))),
        n => Ok((ClaimVerdict::Refuted, format!("{} of {n} good samples disagree{silent}", n - agree))),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// Results of a docker target with a good sample for each answer: whether its boot id is the host's.
    fn results(answers: &[Option<bool>]) -> Results {
        let sample = |answer: &Option<bool>| {
            let isolation = json!({
                "sees_host_process": answer, "page_cache_shared": answer, "namespaces": [],
                "of_workload": true, "root_writable": true, "sys_writable": false,
            });
            let identity = answer.map(|shared| {
                json!({"argv": [], "kernel_release": "6", "boot_id": if shared { "host" } else { "own" }})
            });
            json!({
                "target": "docker", "round": 0, "position": 0, "warmup": false, "outcome": "ok", "timeline_ns": {"requested": 0},
                "memory_bytes": {}, "cpu_ns": {}, "work_ns": {}, "identity": identity, "isolation": isolation,
            })
        };
        let json = json!({
            "schema": crate::sample::SCHEMA,
            "run": {"id": "x", "started_at": "", "seed": 1, "bootrace_version": "0", "scenario": {}, "planned": 1,
                "interrupted": false, "warnings": []},
            "host": {"kernel_release": "6", "boot_id": "host", "cpus": 2, "memory_bytes": 1, "swap_bytes": 0,
                "cgroup_version": 1, "programs": {}, "noise_before": {}},
            "image": {"digest": "", "distribution": "", "suite": "", "source": "", "fallback": false, "packages": []},
            "targets": [{"name": "docker", "kind": "docker", "accelerator": "none", "options": {}}],
            "samples": answers.iter().map(sample).collect::<Vec<Value>>(),
        });
        serde_json::from_value(json).unwrap()
    }

    fn judged(fact: &str, is: bool, answers: &[Option<bool>]) -> (ClaimVerdict, String) {
        let claim = json!({"says": "it is so", "target": "docker", "fact": fact, "is": is});
        let judged = judge(&claim, &results(answers)).unwrap();
        assert_eq!((judged.metric.as_str(), judged.bound), (fact, format!("is {is}")));
        (judged.verdict, judged.why)
    }

    #[test]
    fn facts_are_those_that_scenarios_know() {
        assert_eq!(Fact::ALL.map(Fact::name), ["kernel.shared", "processes.visible", "pagecache.shared"]);
        assert_eq!(Fact::ALL.len(), FACTS.len());
    }

    #[test]
    fn a_fact_is_supported_by_all_that_tell_and_refuted_by_one() {
        for (fact, _) in FACTS {
            let all = [Some(true), Some(true)];
            assert_eq!(
                judged(fact, true, &all),
                (ClaimVerdict::Supported, "2 of 2 good samples agree".into())
            );
            assert_eq!(judged(fact, false, &all).0, ClaimVerdict::Refuted);
            let one = [Some(true), Some(false), None];
            let why = "1 of 2 good samples disagree, 1 more without an observation";
            assert_eq!(judged(fact, true, &one), (ClaimVerdict::Refuted, why.into()));
            assert_eq!(judged(fact, false, &[Some(false)]).0, ClaimVerdict::Supported);
        }
    }

    #[test]
    fn where_no_sample_tells_a_fact_is_undecided() {
        let none = judged("pagecache.shared", true, &[None, None]);
        assert_eq!(none, (ClaimVerdict::Undecided, "none of 2 good samples has an observation".into()));
        assert_eq!(judged("kernel.shared", true, &[]).0, ClaimVerdict::Undecided);
        assert_eq!(judged("kernel.own", true, &[Some(true)]).1, "this version has no fact \"kernel.own\"");
        let mut results = results(&[Some(true)]);
        results.samples[0].warmup = true;
        let claim = json!({"says": "x", "target": "docker", "fact": "kernel.shared", "is": true});
        assert_eq!(judge(&claim, &results).unwrap().verdict, ClaimVerdict::Undecided);
        assert_eq!(judge(&json!({"says": "x", "metric": "startup", "target": "docker"}), &results), None);
    }
}
