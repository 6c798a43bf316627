//! Tests without a file of results; tests/compare.rs has the others.

use super::*;
use crate::sample::Host;
use serde_json::json;

fn host(name: &str, boot: &str) -> Host {
    Host {
        hostname: Some(name.into()),
        boot_id: boot.into(),
        cpu_model: Some("a processor".into()),
        ..Host::default()
    }
}

#[test]
fn one_boot_is_one_host_whatever_a_container_calls_it() {
    assert!(differences::one_host(&host("a", "boot"), &host("b", "boot")));
    assert!(differences::one_host(&host("a", "boot"), &host("a", "another boot")));
    assert!(!differences::one_host(&host("a", "boot"), &host("b", "another boot")));
    assert!(!differences::one_host(&Host::default(), &Host::default()), "nothing is known of either");
}

#[test]
fn more_failures_than_chance_explains_fail_and_fewer_leave_it_unsettled() {
    let side = |ok, failed| Side { n: ok, ok, failed, median: None, interval: None };
    let with = |base, new, verdict| {
        let judged = Judged { verdict, why: "so".into(), samples_needed: None };
        with_failures(&base, &new, judged).verdict
    };
    use GateVerdict::{Failed, Inconclusive, Regressed, Unchanged};
    assert_eq!(with(side(20, 0), side(19, 1), Unchanged), Inconclusive);
    assert_eq!(with(side(20, 0), side(19, 1), Regressed), Regressed);
    assert_eq!(with(side(20, 0), side(15, 5), Regressed), Failed);
    assert_eq!(with(side(15, 5), side(20, 0), Unchanged), Unchanged);
    assert_eq!(with(side(18, 2), side(18, 2), Unchanged), Unchanged);
    assert_eq!(with(side(20, 0), side(0, 20), Inconclusive), Failed);
}

#[test]
fn the_worst_figure_is_the_gates() {
    use GateVerdict::{Failed, Improved, Inconclusive, Regressed, Unchanged};
    let all = |verdicts: &[GateVerdict]| overall(verdicts.iter().copied());
    assert_eq!(all(&[Unchanged, Regressed, Inconclusive]), Some(Regressed));
    assert_eq!(all(&[Failed, Regressed]), Some(Failed));
    assert_eq!(all(&[Improved, Unchanged, Inconclusive]), Some(Inconclusive));
    assert_eq!(all(&[Unchanged, Improved]), Some(Improved));
    assert_eq!(all(&[]), None);
}

#[test]
fn differing_keys_of_a_scenario_are_listed_except_meaningless_ones() {
    let base =
        json!({"name": "a", "workload": {"command": ["x"]}, "sampling": {"samples": 10, "settle": "1s"}});
    let mut new =
        json!({"name": "a", "workload": {"command": ["y"]}, "sampling": {"samples": 20, "settle": "2s"}});
    new["build"] = json!({"command": ["z"]});
    let mut found = Vec::new();
    differences::scenarios("", &base, &new, &mut found);
    let what: Vec<&str> = found.iter().map(|d| d.what.as_str()).collect();
    assert_eq!(what, ["sampling.settle", "workload.command"]);
    assert_eq!((found[1].base.as_str(), found[1].new.as_str()), ("[\"x\"]", "[\"y\"]"));
}
