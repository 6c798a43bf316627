//! The JUnit export, read by a JUnit parser.

use bootrace::{report::export::Format, sample::Outcome};
use junit_parser::{TestCase, TestStatus, TestSuites};
use serde_json::json;

use crate::{example, hostile, one};

fn parsed(results: &bootrace::sample::Results) -> TestSuites {
    let xml = one(results, Format::Junit);
    junit_parser::from_reader(xml.as_bytes()).unwrap_or_else(|e| panic!("{e}: {xml}"))
}

fn cases(suites: &TestSuites) -> &[TestCase] {
    let [suite] = suites.suites.as_slice() else { panic!("{suites:?}") };
    &suite.cases
}

#[test]
fn each_claim_and_each_figure_of_the_gate_is_a_test_case() {
    let mut results = example::clean();
    let claim = |at_most: &str| json!({"says": "it is quick", "metric": "startup", "target": "docker", "at_most": at_most});
    results.run.scenario["claim"] = json!([claim("10s"), claim("1ms")]);
    results.run.scenario["gate"] = json!({"metrics": ["startup", "memory.footprint"]});
    let suites = parsed(&results);
    let cases = cases(&suites);
    assert_eq!(cases.len(), 2 + 2 * results.targets.len());
    assert!(cases[0].status.is_success() && cases[0].original_name == "claim: it is quick");
    let TestStatus::Failure(failure) = &cases[1].status else { panic!("{:?}", cases[1]) };
    assert!(failure.message.contains("lies beyond the bound"), "{failure:?}");
    assert_eq!(suites.suites[0].failures, 1);
    let gate = cases.iter().find(|case| case.original_name == "gate: startup of quickstart/docker").unwrap();
    let median = bootrace::analysis::analyse(&results).target("docker").unwrap().figures[0].median;
    assert!((gate.time - median / 1e9).abs() < 1e-9 && gate.status.is_success(), "{gate:?}");
}

#[test]
fn a_case_without_a_figure_fails_and_an_undecided_one_is_skipped() {
    let mut results = example::clean();
    results.run.scenario["gate"] = json!({"metrics": ["startup"]});
    results.run.scenario["claim"] =
        json!([{"says": "x", "metric": "startup", "target": "libvirt", "at_most": "1h"}]);
    results.samples.iter_mut().filter(|s| s.target == "libvirt").for_each(|s| s.outcome = Outcome::Failed);
    let suites = parsed(&results);
    assert!(cases(&suites)[0].status.is_skipped());
    let gate = cases(&suites).iter().find(|case| case.original_name.contains("libvirt")).unwrap();
    assert!(gate.status.is_failure(), "{gate:?}");
}

#[test]
fn a_figure_that_a_kind_cannot_have_is_skipped() {
    let mut results = example::clean();
    results.run.scenario["gate"] = json!({"metrics": ["memory.overhead"]});
    let suites = parsed(&results);
    for case in cases(&suites) {
        assert_eq!(case.status.is_skipped(), case.original_name.ends_with("/native"), "{case:?}");
        assert!(!case.status.is_failure(), "{case:?}");
    }
}

#[test]
fn hostile_names_and_errors_are_text() {
    let mut results = hostile();
    results.run.scenario["claim"] =
        json!([{"says": "]]><x a='\u{1b}[31m'>", "metric": "startup", "target": "=", "at_most": "1s"}]);
    results.run.scenario["gate"] = json!({"metrics": ["startup", "no.such"]});
    let suites = parsed(&results);
    assert_eq!(cases(&suites).len(), 1 + results.targets.len());
    assert_eq!(cases(&suites)[0].original_name, "claim: ]]><x a='[31m'>");
}
