//! The rules of `[[claim]]`.

use super::{bounds::Wrong, density, needs};
use crate::{
    foreign::quoted,
    metric::{Metric, Unit},
    scenario::{
        Bound, Claim, Kind, Scenario,
        fact::{FACTS, is_fact},
        path::{Step, at},
        text::{fail, sentence},
    },
};

/// Largest bound of a ratio.
const TIMES_MOST: f64 = 1e6;

pub(super) fn check(scenario: &Scenario, wrong: &mut Wrong<'_>) {
    for (index, claim) in scenario.claims.iter().enumerate() {
        let mut wrong = |key: &str, result: Result<(), String>| wrong(&of(index, key), result);
        wrong("says", sentence(&claim.says));
        wrong("target", target(scenario, &claim.target));
        if let Some(name) = &claim.fact {
            about_a_fact(claim, name, &mut wrong);
            if scenario.sampling.samples == 0 {
                wrong(
                    "fact",
                    fail("this needs rounds of single instances: write samples = 20, say, in [sampling]"),
                );
            }
            continue;
        }
        if claim.is.is_some() {
            wrong("is", fail("this goes with a fact: write fact = \"kernel.shared\", say, or leave it out"));
        }
        if claim.metric.is_empty() {
            wrong(
                "",
                fail(
                    "a claim is about a metric or a fact: write metric = \"startup\", say, or fact = \"kernel.shared\"",
                ),
            );
            continue;
        }
        wrong("metric", metric(scenario, claim));
        if let Some(other) = &claim.relative_to {
            wrong("relative_to", target(scenario, other));
            if *other == claim.target {
                wrong(
                    "relative_to",
                    fail(
                        "the ratio of a target to itself is always 1: name another target, or leave this out",
                    ),
                );
            }
        }
        for (key, bound) in [("at_most", claim.at_most), ("at_least", claim.at_least)] {
            let (Some(unit), Some(bound)) = (Metric::from_name(&claim.metric).map(Metric::unit), bound)
            else {
                continue;
            };
            wrong(key, fits(claim, unit, bound));
        }
        match (claim.at_least, claim.at_most) {
            (None, None) => wrong("", fail("a claim needs a bound: write at_most, at_least or both")),
            (Some(low), Some(high)) if low.is_above(high) => {
                wrong("at_least", fail("this is above at_most: no value satisfies both"));
            }
            _ => {}
        }
    }
}

/// Checks that the fact exists, that `is` is given, and that no key of a figure is.
fn about_a_fact(claim: &Claim, name: &str, wrong: &mut dyn FnMut(&str, Result<(), String>)) {
    if !is_fact(name) {
        let known = FACTS.map(|(fact, _)| fact);
        let near = crate::foreign::did_you_mean(name, &known);
        let text = format!("there is no fact {}{near}: expected one of {}", quoted(name), known.join(", "));
        wrong("fact", Err(text));
    }
    if claim.is.is_none() {
        wrong("", fail("a claim about a fact says which way it is: write is = true or is = false"));
    }
    let of_figures = [
        ("metric", !claim.metric.is_empty()),
        ("relative_to", claim.relative_to.is_some()),
        ("at_most", claim.at_most.is_some()),
        ("at_least", claim.at_least.is_some()),
    ];
    for (key, _) in of_figures.iter().filter(|(_, written)| *written) {
        wrong(
            key,
            fail(
                "a fact is true or false and has no figure: leave this out, or write a metric in place of fact",
            ),
        );
    }
}

/// The path of a key; of the whole claim where the key is empty.
fn of(index: usize, key: &str) -> Vec<Step> {
    let mut path = at!["claim", index].to_vec();
    path.extend((!key.is_empty()).then(|| Step::from(key)));
    path
}

fn target(scenario: &Scenario, name: &str) -> Result<(), String> {
    if scenario.targets.iter().any(|target| target.name == name) {
        return Ok(());
    }
    Err(format!("there is no target {}: the targets are {}", quoted(name), scenario.target_names()))
}

/// The metric exists, and this scenario measures it on the claim's targets.
fn metric(scenario: &Scenario, claim: &Claim) -> Result<(), String> {
    let metric = needs::claimed(scenario, &claim.metric)?;
    if metric.is_of_density() {
        return density::claimed(scenario, claim.targets());
    }
    if scenario.sampling.samples == 0 {
        return fail("this needs rounds of single instances: write samples = 20, say, in [sampling]");
    }
    // The analysis chooses the baseline of overhead in the same way.
    let natives = || scenario.targets.iter().filter(|target| target.kind() == Kind::BASELINE);
    let native = natives().find(|target| target.name == Kind::BASELINE.name()).or_else(|| natives().next());
    match native {
        Some(native) if metric == Metric::Overhead && claim.targets().any(|t| t == native.name) => {
            fail("overhead is the difference to this claim's own target: make the claim about another target")
        }
        _ => Ok(()),
    }
}

fn fits(claim: &Claim, unit: Unit, bound: Bound) -> Result<(), String> {
    let (what, example) = match unit {
        Unit::Time => ("a time", "2s"),
        Unit::Size => ("a size", "64MiB"),
        Unit::Share => ("a share of a core", "0.5%"),
    };
    let is = match bound {
        Bound::Time(_) => "a time",
        Bound::Size(_) => "a size",
        Bound::Share(_) => "a percentage",
        Bound::Times(_) => "a number of times",
    };
    let metric = &claim.metric;
    match (bound, unit) {
        (Bound::Times(_), _) if claim.relative_to.is_none() => Err(format!(
            "{bound} is {is}, which needs another target: write relative_to = \"TARGET\" too, or {what}, as in \"{example}\""
        )),
        (Bound::Times(times), _) if times <= 0.0 || times > TIMES_MOST => {
            Err(format!("{bound} is out of range: write more than 0 and up to {TIMES_MOST} times"))
        }
        (Bound::Times(_), _) => Ok(()),
        _ if claim.relative_to.is_some() => Err(format!(
            "a claim with relative_to is about a ratio, but {bound} is {is}: write a number of times, as in \"1.5x\", or leave relative_to out"
        )),
        (Bound::Time(_), Unit::Time) | (Bound::Size(_), Unit::Size) | (Bound::Share(_), Unit::Share) => {
            Ok(())
        }
        _ => Err(format!("{metric} is {what}, but {bound} is {is}: write {what}, as in \"{example}\"")),
    }
}
