//! The rules of `[gate]`.

use super::*;

fn gate(lines: &str) -> Gate {
    parse(&format!("{LEAST}[gate]\n{lines}")).unwrap().gate
}

#[test]
fn a_gate_goes_by_start_up_unless_it_names_other_metrics_and_a_margin() {
    assert_eq!(gate(""), Gate::default());
    assert_eq!(gate("margin = '7%'"), Gate { metrics: vec!["startup".into()], margin: Some(0.07) });
    assert_eq!(
        gate("metrics = ['memory.footprint', 'cpu.idle']\nmargin = '0.5%'"),
        Gate { metrics: vec!["memory.footprint".into(), "cpu.idle".into()], margin: Some(0.005) }
    );
}

#[test]
fn results_have_the_gate_as_resolved_and_read_back_the_same() {
    let scenario = parse(LEAST).unwrap();
    assert_eq!(scenario.to_json()["gate"], serde_json::json!({ "metrics": ["startup"] }));
    for margin in ["5%", "7%", "0.1%", "12.345678%", "99.999999%"] {
        let scenario = parse(&format!("{LEAST}[gate]\nmargin = '{margin}'")).unwrap();
        assert_eq!(scenario.to_json()["gate"]["margin"], margin);
        assert_eq!(serde_json::from_value::<Scenario>(scenario.to_json()).unwrap().gate, scenario.gate);
    }
}

#[test]
fn a_scenario_in_the_results_of_an_earlier_version_has_the_default_gate() {
    let mut json = parse(LEAST).unwrap().to_json();
    json.as_object_mut().unwrap().remove("gate").unwrap();
    assert_eq!(serde_json::from_value::<Scenario>(json).unwrap().gate, Gate::default());
}

#[test]
fn a_gate_needs_metrics_that_are_measured_and_a_margin_that_can_be_kept() {
    let metrics =
        crate::metric::Metric::of_instances().map(|metric| metric.name()).collect::<Vec<_>>().join(", ");
    for (lines, message) in [
        (
            "metrics = []",
            r#"11: gate.metrics: a gate needs at least one metric: write one, as in ["startup"], or leave this out"#.into(),
        ),
        (
            "metrics = 'startup'",
            r#"11: gate.metrics: 'startup' is a string: write a list of metrics, as in ["startup", "memory.footprint"]"#.into(),
        ),
        (
            "metrics = ['startup', 5]",
            r#"23: gate.metrics[1]: 5 is an integer: write a list of metrics, as in ["startup", "memory.footprint"]"#.into(),
        ),
        (
            "metrics = ['teardwon']",
            format!(r#"12: gate.metrics[0]: there is no metric "teardwon" (did you mean teardown?): expected one of {metrics}"#),
        ),
        (
            "metrics = ['startup', 'startup']",
            r#"23: gate.metrics[1]: "startup" is in the list already: leave it out here"#.into(),
        ),
        (
            "metrics = ['work.time']",
            "12: gate.metrics[0]: this scenario measures no work: give [workload] a work = { command = [...] }".into(),
        ),
        ("margin = '0%'", r#"10: gate.margin: 0% is out of range: write more than "0%" and less than "100%""#.into()),
        ("margin = '100%'", r#"10: gate.margin: 100% is out of range: write more than "0%" and less than "100%""#.into()),
        (
            "margin = '5'",
            r#"10: gate.margin: "5" is not a percentage: write a number of up to 6 digits before and after the point, and %, as in "5%" or "0.5%""#.into(),
        ),
        (
            "margin = 0.05",
            r#"10: gate.margin: 0.05 is a float: write a percentage as a string, as in "5%""#.into(),
        ),
        ("metric = ['startup']", "1: gate.metric: unknown key (did you mean metrics?): expected one of metrics, margin".into()),
    ] {
        assert_eq!(wrong(&format!("[gate]\n{lines}")), format!("x.toml:6:{message}"));
    }
    assert_eq!(
        wrong("[[target]]\nkind = 'docker'\n[gate]\nmetrics = ['memory.overhead']"),
        r#"x.toml:8:12: gate.metrics[0]: overhead is the difference to a bare process: add a target with kind = "native""#
    );
}
