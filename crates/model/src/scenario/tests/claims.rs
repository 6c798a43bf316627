//! The rules of `[[claim]]`.

use super::*;

#[test]
fn a_claim_is_about_a_target_and_a_metric_that_are_measured() {
    let metrics = crate::metric::Metric::ALL.map(|metric| metric.name()).join(", ");
    let claim = |metric: &str, target: &str, bound: &str| {
        format!("[[claim]]\nsays = 'x'\nmetric = '{metric}'\ntarget = '{target}'\n{bound}\n")
    };
    let docker_only = "[[target]]\nkind = 'docker'\n";
    for (more, message) in [
        (claim("start-up", "docker", "at_most = '2s'"), format!(r#"7:10: claim[0].metric: there is no metric "start-up" (did you mean startup?): expected one of {metrics}"#)),
        (claim("startup", "podman", "at_most = '2s'"), r#"8:10: claim[0].target: there is no target "podman": the targets are native, docker, libvirt"#.into()),
        (claim("startup", "docker", ""), "5:1: claim[0]: a claim needs a bound: write at_most, at_least or both".into()),
        (claim("startup", "docker", "at_most = '2MiB'"), r#"9:11: claim[0].at_most: startup is a time, but 2MiB is a size: write a time, as in "2s""#.into()),
        (claim("memory.footprint", "docker", "at_least = '2s'"), r#"9:12: claim[0].at_least: memory.footprint is a size, but 2s is a time: write a size, as in "64MiB""#.into()),
        (claim("startup", "docker", "at_most = 'soon'"), r#"9:11: claim[0].at_most: "soon" is not a bound: write a time, as in "2s", a size, as in "512MiB", a percentage, as in "0.5%", or, with relative_to, a number of times, as in "1.5x""#.into()),
        (claim("startup", "docker", "at_most = true"), r#"9:11: claim[0].at_most: true is a boolean: write a time, a size or a percentage as a string, as in "2s", "512MiB" or "0.5%", or, with relative_to, a number of times, as in 100 or "1.5x""#.into()),
        (claim("startup", "docker", "at_most = 2"), r#"9:11: claim[0].at_most: 2x is a number of times, which needs another target: write relative_to = "TARGET" too, or a time, as in "2s""#.into()),
        (claim("startup", "docker", "at_most = '5%'"), r#"9:11: claim[0].at_most: startup is a time, but 5% is a percentage: write a time, as in "2s""#.into()),
        (claim("startup", "docker", "at_most = '1s'\nat_least = '2s'"), "10:12: claim[0].at_least: this is above at_most: no value satisfies both".into()),
        (claim("work.time", "docker", "at_most = '2s'"), "7:10: claim[0].metric: this scenario measures no work: give [workload] a work = { command = [...] }".into()),
        (claim("work.cpu", "docker", "at_most = '2s'"), "7:10: claim[0].metric: this scenario measures no work: give [workload] a work = { command = [...] }".into()),
        (claim("cpu.idle", "docker", "at_most = '2s'"), r#"9:11: claim[0].at_most: cpu.idle is a share of a core, but 2s is a time: write a share of a core, as in "0.5%""#.into()),
        (claim("cpu.idle", "docker", "at_most = '0.5'"), r#"9:11: claim[0].at_most: "0.5" is not a bound: write a time, as in "2s", a size, as in "512MiB", a percentage, as in "0.5%", or, with relative_to, a number of times, as in "1.5x""#.into()),
        (claim("memory.overhead", "native", "at_most = '2MiB'"), "7:10: claim[0].metric: overhead is the difference to this claim's own target: make the claim about another target".into()),
        (format!("{docker_only}{}", claim("memory.overhead", "docker", "at_most = '2MiB'")), r#"9:10: claim[0].metric: overhead is the difference to a bare process: add a target with kind = "native""#.into()),
        (claim("startup", "docker", "at_most = '2s'").replace("'x'", r#""\u001b[2J""#), r#"6:8: claim[0].says: "\u{1b}[2J" is not a sentence: write one line of up to 200 characters"#.into()),
    ] {
        assert_eq!(wrong(&more), format!("x.toml:{message}"));
    }
    let both = claim("startup", "docker", "at_least = '1s'\nat_most = '2s'");
    assert!(parse(&format!("{LEAST}{both}")).is_ok());
}

/// One about docker's start-up relative to another target, from line 5 on.
fn relative(other: &str, bounds: &str) -> String {
    format!(
        "[[claim]]\nsays = 'x'\nmetric = 'startup'\ntarget = 'docker'\nrelative_to = '{other}'\n{bounds}\n"
    )
}

#[test]
fn a_claim_about_a_ratio_is_bounded_by_a_number_of_times_another_target() {
    for (more, message) in [
        (
            relative("podman", "at_most = 2"),
            r#"9:15: claim[0].relative_to: there is no target "podman": the targets are native, docker, libvirt"#,
        ),
        (
            relative("docker", "at_most = 2"),
            "9:15: claim[0].relative_to: the ratio of a target to itself is always 1: name another target, or leave this out",
        ),
        (
            relative("native", "at_most = '2s'"),
            r#"10:11: claim[0].at_most: a claim with relative_to is about a ratio, but 2s is a time: write a number of times, as in "1.5x", or leave relative_to out"#,
        ),
        (
            relative("native", "at_most = '50%'"),
            r#"10:11: claim[0].at_most: a claim with relative_to is about a ratio, but 50% is a percentage: write a number of times, as in "1.5x", or leave relative_to out"#,
        ),
        (
            relative("native", "at_most = 0"),
            "10:11: claim[0].at_most: 0x is out of range: write more than 0 and up to 1000000 times",
        ),
        (
            relative("native", "at_most = -2"),
            r#"10:11: claim[0].at_most: "-2" is not a number of times: write one above 0 of up to 6 digits before and after the point"#,
        ),
        (
            relative("native", "at_most = nan"),
            r#"10:11: claim[0].at_most: "NaN" is not a number of times: write one above 0 of up to 6 digits before and after the point"#,
        ),
        (
            relative("native", "at_most = 1e-7"),
            r#"10:11: claim[0].at_most: "0.0000001" is not a number of times: write one above 0 of up to 6 digits before and after the point"#,
        ),
        (
            relative("native", "at_most = 1.5\nat_least = '2x'"),
            "11:12: claim[0].at_least: this is above at_most: no value satisfies both",
        ),
        (relative("native", ""), "5:1: claim[0]: a claim needs a bound: write at_most, at_least or both"),
        (
            relative("native", "at_most = 2").replace("startup", "memory.overhead"),
            "7:10: claim[0].metric: overhead is the difference to this claim's own target: make the claim about another target",
        ),
    ] {
        assert_eq!(wrong(&more), format!("x.toml:{message}"));
    }
    let overhead = relative("libvirt", "at_most = 1").replace("startup", "memory.overhead");
    assert!(parse(&format!("{LEAST}{overhead}")).is_ok());
}

#[test]
fn bounds_are_written_in_the_results_as_they_are_in_scenarios() {
    for (written, shown) in [
        ("100", "100x"),
        ("1.5", "1.5x"),
        ("0.000001", "0.000001x"),
        ("'100x'", "100x"),
        ("'1.25 x'", "1.25x"),
    ] {
        let scenario = parse(&format!("{LEAST}{}", relative("native", &format!("at_least = {written}"))));
        let json = scenario.clone().unwrap().to_json();
        assert_eq!(json["claim"][0]["at_least"], shown);
        assert_eq!(json["claim"][0]["relative_to"], "native");
        assert_eq!(serde_json::from_value::<Scenario>(json).unwrap().claims, scenario.unwrap().claims);
    }
    for text in ["2s", "512MiB", "0.5%", "3x", "0.333333x", "7%"] {
        assert_eq!(text.parse::<Bound>().unwrap().to_string(), text);
    }
    for text in ["", "x", "3", "-3x", "1e3x", "3 times", "3X", "infx"] {
        assert!(text.parse::<Bound>().is_err(), "{text}");
    }
}

#[test]
fn a_claim_is_kept_where_both_of_its_targets_are() {
    let claims = |names: &[&str]| {
        let mut scenario = parse(&format!("{LEAST}{}", relative("native", "at_most = 2"))).unwrap();
        scenario.select_targets(&names.iter().map(ToString::to_string).collect::<Vec<_>>()).unwrap();
        scenario.claims.len()
    };
    assert_eq!(claims(&[]), 1);
    assert_eq!(claims(&["native", "docker"]), 1);
    assert_eq!(claims(&["docker", "libvirt"]), 0);
    assert_eq!(claims(&["native", "libvirt"]), 0);
}

#[test]
fn a_claim_about_a_fact_says_which_way_it_is_and_has_no_figure() {
    let fact = |rest: &str| format!("[[claim]]\nsays = 'x'\ntarget = 'docker'\n{rest}\n");
    for (more, message) in [
        (
            fact("fact = 'kernel.shred'\nis = true"),
            r#"8:8: claim[0].fact: there is no fact "kernel.shred" (did you mean kernel.shared?): expected one of kernel.shared, processes.visible, pagecache.shared"#,
        ),
        (
            fact("fact = 'kernel.shared'"),
            "5:1: claim[0]: a claim about a fact says which way it is: write is = true or is = false",
        ),
        (fact("fact = 'kernel.shared'\nis = 'true'"), r#"9:6: claim[0].is: "#),
        (
            fact("fact = 'kernel.shared'\nis = true\nmetric = 'startup'"),
            "10:10: claim[0].metric: a fact is true or false and has no figure: leave this out, or write a metric in place of fact",
        ),
        (
            fact("fact = 'kernel.shared'\nis = true\nat_most = '2s'"),
            "10:11: claim[0].at_most: a fact is true or false and has no figure: leave this out, or write a metric in place of fact",
        ),
        (
            fact("is = true\nmetric = 'startup'\nat_most = '2s'"),
            r#"8:6: claim[0].is: this goes with a fact: write fact = "kernel.shared", say, or leave it out"#,
        ),
        (
            fact(""),
            r#"5:1: claim[0]: a claim is about a metric or a fact: write metric = "startup", say, or fact = "kernel.shared""#,
        ),
        (
            fact("fact = 'kernel.shared'\nis = true").replace("docker", "podman"),
            r#"7:10: claim[0].target: there is no target "podman": the targets are native, docker, libvirt"#,
        ),
    ] {
        let said = wrong(&more);
        assert!(said.starts_with(&format!("x.toml:{message}")), "{said}\n{message}");
    }
    let scenario = parse(&format!("{LEAST}{}", fact("fact = 'pagecache.shared'\nis = false"))).unwrap();
    let json = scenario.to_json();
    assert_eq!(
        (&json["claim"][0]["fact"], &json["claim"][0]["is"]),
        (&"pagecache.shared".into(), &false.into())
    );
    assert!(json["claim"][0].get("metric").is_none());
    assert_eq!(serde_json::from_value::<Scenario>(json).unwrap().claims, scenario.claims);
}
