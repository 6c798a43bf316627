//! The rules of `[density]`, by the messages that users get.

use std::time::Duration;

use super::*;

const STAYS: &str = "name = \"x\"\n[workload]\ncommand = [\"x\"]\nready = { line = \"r\" }\n";

/// The problems of [`STAYS`] continued with `more`, from line 5 on.
fn wrong(more: &str) -> String {
    parse(&format!("{STAYS}{more}")).unwrap_err()
}

fn density(lines: &str) -> Density {
    parse(&format!("{STAYS}[density]\n{lines}")).unwrap().density.unwrap()
}

#[test]
fn absent_keys_have_defaults() {
    let least = density("instances = 50");
    let settle = Span(Duration::from_secs(2));
    let expected = Density {
        instances: 50,
        vms: None,
        memory_left: None,
        startup: None,
        settle,
        bursts: Vec::new(),
        targets: Vec::new(),
    };
    assert_eq!(least, expected);
    assert_eq!((least.most(true), least.most(false)), (50, 50));
    // A tenth of the host's memory, and no less than a GiB.
    assert_eq!(least.memory_left(64 << 30), Bytes((64 << 30) / 10));
    assert_eq!(least.memory_left(4 << 30), Bytes(1 << 30));
    let all = density(
        "instances = 50\nvms = 8\nmemory_left = '2GiB'\nstartup = '60s'\nbursts = [1, 8]\ntargets = ['docker']",
    );
    assert_eq!((all.most(true), all.most(false), all.memory_left(1)), (8, 50, Bytes(2 << 30)));
    assert!(all.has("docker") && !all.has("native"));
}

#[test]
fn rounds_may_be_left_out_beside_a_density_alone() {
    assert!(parse(&format!("{STAYS}[sampling]\nsamples = 0\n[density]\ninstances = 5")).is_ok());
    assert_eq!(
        wrong("[sampling]\nsamples = 0"),
        "x.toml:6:11: sampling.samples: 0 is out of range: write a whole number from 1 to 2000"
    );
}

#[test]
fn every_value_is_bounded_and_of_its_unit() {
    for (lines, message) in [
        ("", "5:1: density.instances: this key is missing: write a whole number from 1 to 1000"),
        ("instances = 0", "6:13: density.instances: 0 is out of range: write a whole number from 1 to 1000"),
        (
            "instances = '5'",
            r#"6:13: density.instances: '5' is a string: write a whole number from 1 to 1000"#,
        ),
        (
            "instances = 5\nvms = 1001",
            "7:7: density.vms: 1001 is out of range: write a whole number from 1 to 1000",
        ),
        (
            "instances = 5\nmemory_left = '2GB'",
            r#"7:15: density.memory_left: "2GB" is not a size: write a whole number and B, KiB, MiB or GiB, as in "512MiB""#,
        ),
        (
            "instances = 5\nmemory_left = '1MiB'",
            r#"7:15: density.memory_left: 1MiB is out of range: write "64MiB" to "16384GiB" (with less memory left, a host swaps or kills processes)"#,
        ),
        (
            "instances = 5\nstartup = 60",
            r#"7:11: density.startup: 60 is an integer: write a time as a string, as in "60s""#,
        ),
        (
            "instances = 5\nsettle = '11m'",
            r#"7:10: density.settle: 11m is out of range: write "0s" to "10m" (a longer wait adds nothing)"#,
        ),
        (
            "instances = 5\nbursts = [1, 8]",
            "7:14: density.bursts[1]: 8 at once are more than density.instances = 5: raise that, or write a smaller burst",
        ),
        (
            "instances = 5\nbursts = [2, 2]",
            "7:14: density.bursts[1]: 2 is in the list already: leave it out here",
        ),
        (
            "instances = 5\ntargets = ['podman']",
            r#"7:12: density.targets[0]: there is no target "podman": the targets are native, docker, libvirt"#,
        ),
        (
            "instances = 5\nmost = 7",
            "7:1: density.most: unknown key: expected one of instances, vms, memory_left, startup, settle, bursts, targets",
        ),
    ] {
        assert_eq!(wrong(&format!("[density]\n{lines}")), format!("x.toml:{message}"));
    }
}

#[test]
fn instances_must_be_able_to_stay_beside_each_other() {
    let ends = wrong_or_none("[density]\ninstances = 5").unwrap();
    assert!(ends.starts_with("x.toml:5:1: density: instances must keep running"), "{ends}");
    let tcp = STAYS.replace("{ line = \"r\" }", "{ tcp = 80 }");
    let of = |lines: &str| parse(&format!("{tcp}[density]\ninstances = 5\n{lines}"));
    let all = of("").unwrap_err();
    assert!(all.contains("\"native\" share the host's network, and only one can listen on port 80"), "{all}");
    assert!(of("targets = ['docker', 'libvirt']").is_ok());
    assert!(of("[[target]]\nkind = 'docker'\nnetwork = 'host'").is_err());
    let cold = wrong("[sampling]\npage_cache = 'cold'\n[density]\ninstances = 5");
    assert!(cold.contains("density: instances added one by one"), "{cold}");
}

#[test]
fn claims_may_be_about_it_where_it_is() {
    let claim = |density: &str, rest: &str| {
        parse(&format!(
            "{STAYS}{density}\n[[claim]]\nsays = 'x'\nmetric = 'density.memory'\ntarget = 'docker'\n{rest}"
        ))
    };
    let few = claim("[density]\ninstances = 5", "at_most = '5MiB'").unwrap_err();
    assert!(few.contains("fewer than 6 instances of \"docker\" have no interval to judge by"), "{few}");
    let with = "[density]\ninstances = 6";
    assert!(claim(with, "at_most = '5MiB'").is_ok());
    assert!(claim(with, "at_most = '2x'\nrelative_to = 'native'").is_ok());
    let none = claim("", "at_most = '5MiB'").unwrap_err();
    assert!(
        none.contains("claim[0].metric: this scenario measures no density: give it a [density]"),
        "{none}"
    );
    let other = claim(&format!("{with}\ntargets = ['native']"), "at_most = '5MiB'").unwrap_err();
    assert!(other.contains("density.targets lacks \"docker\""), "{other}");
    let unit = claim(with, "at_most = '5s'").unwrap_err();
    assert!(unit.contains("density.memory is a size"), "{unit}");
}

#[test]
fn selected_targets_are_the_densitys_too() {
    let text =
        format!("{STAYS}[sampling]\nsamples = 0\n[density]\ninstances = 5\ntargets = ['docker', 'libvirt']");
    let select = |names: &[&str]| {
        let mut scenario = parse(&text).unwrap();
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        scenario.select_targets(&names).map(|()| scenario.density)
    };
    assert_eq!(select(&["docker"]).unwrap().unwrap().targets, ["docker"]);
    let none = select(&["native"]).unwrap_err().to_string();
    assert!(none.contains("nothing to measure"), "{none}");
    let mut rounds = parse(&text.replace("samples = 0", "samples = 2")).unwrap();
    rounds.select_targets(&["native".into()]).unwrap();
    assert_eq!(rounds.density, None);
    assert!(rounds.set_samples(0).is_err());
}

#[test]
fn a_target_with_restarts_has_no_density() {
    let second = "[[target]]\nkind = 'docker'\nstart = 'restart'\n[[target]]\nkind = 'native'\n";
    let message = wrong(&format!("{second}[density]\ninstances = 2"));
    assert!(
        message.contains("\"docker\" has another start than \"create\", but density creates each instance"),
        "{message}"
    );
    parse(&format!("{STAYS}{second}[density]\ninstances = 2\ntargets = ['native']")).unwrap();
}
