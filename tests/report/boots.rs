//! A boot that is divided, in all that is made of it.

use bootrace::sample::{Boot, Results};
use serde_json::Value;

use crate::{
    example,
    files::{read, written},
    schema::complaints,
};

/// The example, whose VMs boot as a whole system: a tenth of the boot phase each of the first four parts has, all that is
/// left the last.
fn booted() -> Results {
    let mut results = example::clean();
    for sample in results.samples.iter_mut().filter(|s| s.target == "libvirt") {
        let Some(phases) = sample.timeline_ns.phases() else { continue };
        let tenth = phases.boot / 10;
        sample.boot_ns = Some(Boot {
            firmware: Some(tenth),
            kernel: Some(tenth),
            initrd: Some(tenth),
            userspace: Some(tenth),
            agent_unit: Some(phases.boot - 4 * tenth),
            finished: Some(phases.boot),
            error: None,
        });
    }
    results
}

const PARTS: [&str; 5] = ["firmware", "kernel", "initrd", "userspace", "agent unit"];

#[test]
fn the_parts_of_a_boot_are_in_the_file_the_page_the_chart_and_the_table_and_nowhere_without_them() {
    let dir = written("boots", &booted());
    let json: Value = serde_json::from_str(&read(dir.join("results.json"))).unwrap();
    assert_eq!(complaints(&json), [] as [String; 0]);
    let (page, chart) = (read(dir.join("index.html")), read(dir.join("charts/phases.svg")));
    for part in PARTS {
        assert!(page.contains(&format!("<code>startup.{}</code>", part.replace(' ', "_"))), "{part}");
        // "firmware 361 ms": a number follows.
        let label =
            chart.split(&format!("\n{part} ")).nth(1).or_else(|| chart.split(&format!(" {part} ")).nth(1));
        assert!(label.is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit())), "{part}: {chart}");
    }

    let without = written("boots-without", &example::clean());
    let json = read(without.join("results.json"));
    assert!(!json.contains("boot_ns"));
    let (page, chart) = (read(without.join("index.html")), read(without.join("charts/phases.svg")));
    for part in PARTS {
        assert!(!page.contains(&format!("<code>startup.{}</code>", part.replace(' ', "_"))), "{part}");
        assert!(!chart.contains(&format!(" {part} ")), "{part}");
    }
}

#[test]
fn parts_that_do_not_make_up_the_boot_do_not_take_its_place_in_the_chart() {
    let mut results = booted();
    for boot in results.samples.iter_mut().filter_map(|s| s.boot_ns.as_mut()) {
        boot.agent_unit = boot.agent_unit.map(|ns| ns * 3);
    }
    let chart = read(written("boots-longer", &results).join("charts/phases.svg"));
    assert!(!chart.contains(" userspace ") && chart.contains(" boot "), "{chart}");
}

#[test]
fn the_schema_is_strict_on_the_parts_of_a_boot() {
    let good = serde_json::to_value(booted()).unwrap();
    let at = good["samples"].as_array().unwrap().iter().position(|s| s.get("boot_ns").is_some()).unwrap();
    for wrong in [Value::from(-1), Value::from("1"), Value::from(1.5)] {
        let mut json = good.clone();
        json["samples"][at]["boot_ns"]["kernel"] = wrong.clone();
        assert!(!complaints(&json).is_empty(), "{wrong}");
    }
    let mut json = good.clone();
    json["samples"][at]["boot_ns"].as_object_mut().unwrap().remove("userspace");
    assert!(!complaints(&json).is_empty());
}
