//! Differences between what the targets' workloads found around them.

use std::collections::BTreeMap;

use bootrace_agent::surroundings::FACTS;
use bootrace_model::foreign::clean;

use crate::{
    kind::Kind,
    sample::{Results, TargetRecord},
};

/// Differences with a caveat each; the others share one.
const EACH: usize = 4;
/// The longest value that a caveat shows, in characters.
const SHOWN: usize = 60;

pub(super) fn all(results: &Results) -> Vec<String> {
    let seen: Vec<(&TargetRecord, &BTreeMap<String, String>)> = results
        .targets
        .iter()
        .filter_map(|target| {
            let mut own = results.samples.iter().filter(|sample| sample.target == target.name);
            Some((target, own.find_map(|sample| sample.surroundings.as_ref())?))
        })
        .collect();
    let network = results.run.scenario["workload"]["network"] == true;
    let differing = |(fact, label): &(&'static str, &'static str)| {
        let compared = seen.iter().filter(|(target, _)| !differs_on_purpose(fact, target, network));
        let values: Vec<(&str, &str)> = compared
            .filter_map(|(target, found)| Some((target.name.as_str(), found.get(*fact)?.as_str())))
            .collect();
        let differ = values.iter().any(|(_, value)| *value != values[0].1);
        differ.then_some((*label, values))
    };
    let differing: Vec<_> = FACTS.iter().filter_map(differing).collect();
    let (each, rest) = differing.split_at(differing.len().min(EACH));
    let mut found: Vec<String> = each.iter().map(|(label, values)| sentence(label, values)).collect();
    if !rest.is_empty() {
        let labels: Vec<&str> = rest.iter().map(|(label, _)| *label).collect();
        found.push(format!(
            "targets differ in {} too: {FIX}; results.json has the values (surroundings)",
            joined(&labels)
        ));
    }
    found
}

const FIX: &str = "their workloads did not run in the same surroundings: set the same in the engines' settings or the \
                   command, or leave a target out";

fn sentence(label: &str, values: &[(&str, &str)]) -> String {
    let names: Vec<&str> = values.iter().map(|(name, _)| *name).collect();
    let values: Vec<String> = values.iter().map(|(_, value)| clean(value, SHOWN)).collect();
    let values: Vec<&str> = values.iter().map(String::as_str).collect();
    format!("{} differ in {label} ({}): {FIX}", joined(&names), joined(&values))
}

fn joined(texts: &[&str]) -> String {
    match texts {
        [] => String::new(),
        [one] => (*one).to_owned(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

/// The list of docs/same.md.
fn differs_on_purpose(fact: &str, target: &TargetRecord, network: bool) -> bool {
    let of_the_system = ["/etc/", "hostname", "mount."].iter().any(|start| fact.starts_with(start));
    match fact {
        // A bare process has the host's.
        "hostname" if target.kind == Kind::Native => true,
        // Each network has its own resolver.
        "/etc/resolv.conf" if network => true,
        // A stock image keeps its own system.
        _ => of_the_system && target.options.get("seed").is_some(),
    }
}

#[cfg(test)]
mod tests {
    use bootrace_model::plan::Trial;
    use serde_json::json;

    use super::*;
    use crate::sample::Sample;

    type Found<'a> = &'a [(&'a str, &'a str)];

    fn run(targets: &[(&str, Found<'_>)]) -> Results {
        let sample = include_str!("../../../../reports/sample/results.json");
        let mut results: Results = serde_json::from_str(sample).unwrap();
        results.samples.clear();
        results.targets.clear();
        for (name, found) in targets {
            let kind = Kind::ALL.into_iter().find(|kind| kind.name() == *name).unwrap();
            results.targets.push(TargetRecord::without_vm((*name).into(), kind, json!({})));
            let trial = Trial { target: 0, round: 0, position: 0, warmup: true };
            let found = found.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
            // The first one failed; later ones have the same as an earlier one.
            results.samples.push(Sample::blank(name, &trial));
            results
                .samples
                .push(Sample { surroundings: Some(found.collect()), ..Sample::blank(name, &trial) });
            results.samples.push(Sample::blank(name, &trial));
        }
        results
    }

    #[test]
    fn a_difference_is_named_with_the_targets_and_their_values() {
        let same = ("umask", "0022");
        let found = all(&run(&[
            ("docker", &[same, ("limit.open_files", "1048576")]),
            ("libvirt", &[same, ("limit.open_files", "524288")]),
        ]));
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(
            found[0]
                .starts_with("docker and libvirt differ in the limit of open files (1048576 and 524288): "),
            "{found:?}"
        );
        let three = all(&run(&[("native", &[same]), ("docker", &[same]), ("lxc", &[("umask", "0077")])]));
        assert!(
            three[0].starts_with("native, docker and lxc differ in the umask (0022, 0022 and 0077): "),
            "{three:?}"
        );
    }

    #[test]
    fn what_is_the_same_or_unknown_or_differs_on_purpose_has_no_caveat() {
        let quiet = |results: &Results| assert_eq!(all(results), Vec::<String>::new());
        quiet(&run(&[("native", &[("umask", "0022")]), ("docker", &[("umask", "0022")])]));
        quiet(&run(&[("native", &[("environment", "1 PATH")]), ("docker", &[])]));
        quiet(&run(&[("native", &[("nonsense", "1")]), ("docker", &[("nonsense", "2")])]));
        let hostnames = [
            ("native", [("hostname", "host")]),
            ("docker", [("hostname", "b")]),
            ("lxc", [("hostname", "b")]),
        ];
        let hostnames = hostnames.each_ref().map(|(name, found)| (*name, found.as_slice()));
        quiet(&run(&hostnames));
        assert_eq!(all(&run(&hostnames[..1])), Vec::<String>::new());
        let resolvers: [(&str, Found<'_>); 2] =
            [("native", &[("/etc/resolv.conf", "a")]), ("docker", &[("/etc/resolv.conf", "b")])];
        let mut networked = run(&resolvers);
        networked.run.scenario["workload"]["network"] = true.into();
        quiet(&networked);
        networked.run.scenario["workload"]["network"] = false.into();
        assert_eq!(all(&networked).len(), 1);
        let mut stock = run(&[("native", &[("/etc/hosts", "a")]), ("libvirt", &[("/etc/hosts", "b")])]);
        assert_eq!(all(&stock).len(), 1);
        stock.targets[1].options = json!({"seed": "NoCloud"});
        quiet(&stock);
    }

    #[test]
    fn many_differences_and_hostile_values_stay_short() {
        let long = "x\u{1b}[2J".repeat(1 << 10);
        let values = |value: &'static str| FACTS.map(|(name, _)| (name, value));
        let (own, other) = (values("a"), FACTS.map(|(name, _)| (name, long.as_str())));
        let found = all(&run(&[("docker", &own), ("libvirt", &other)]));
        assert_eq!(found.len(), EACH + 1, "{found:?}");
        assert!(
            found[EACH].starts_with("targets differ in ") && found[EACH].contains("/etc/resolv.conf too: ")
        );
        assert!(found.iter().all(|text| text.len() < 1200 && !text.contains('\u{1b}')), "{found:?}");
    }
}
