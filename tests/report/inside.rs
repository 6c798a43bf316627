//! Disk, copies and isolation: in the schema, in every output, and inert whatever a guest says.

use bootrace::{
    analysis::{ClaimVerdict, analyse},
    report,
    sample::{Cow, Disk, Isolation, Namespace, Results},
};
use serde_json::{Value, json};

use crate::{
    example,
    files::{read, written},
    schema::{complaints, unlisted},
};

pub fn disk(target: &str) -> Disk {
    let (storage, image, instance, copied, first) = match target {
        "native" => ("overlayfs", 400 << 20, 48 << 10, 100 << 20, 310_000_000),
        "docker" => ("overlay2", 410 << 20, 72 << 10, 100 << 20, 320_000_000),
        _ => ("qcow2", 520 << 20, 900 << 10, 320 << 10, 9_000_000),
    };
    Disk {
        storage: Some(storage.into()),
        image_bytes: Some(image),
        instance_bytes: Some(instance),
        provision_ns: Some(1_000_000),
        cow: Some(Cow {
            file_bytes: 100 << 20,
            first_write_ns: first,
            first_write_inside_ns: first - 1_000_000,
            rewrite_ns: 3_000_000,
            rewrite_inside_ns: 2_000_000,
            grown_bytes: Some(copied),
        }),
    }
}

fn isolation(target: &str) -> Isolation {
    let own = |shared: bool| {
        ["pid", "user"].map(|kind| Namespace {
            kind: kind.into(),
            id: 4_026_531_836,
            shared: Some(shared && kind == "user"),
        })
    };
    Isolation {
        processes: Some(if target == "native" { 90 } else { 3 }),
        host_processes: Some(90),
        sees_host_process: Some(target == "native"),
        namespaces: own(target != "libvirt").into(),
        page_cache_shared: Some(target != "libvirt"),
        memory_limit: Some("268435456".into()),
        cpu_limit: Some("max 100000".into()),
        devices: Some(14),
        device_names: Some(vec!["console".into(), "full".into()]),
        block_devices: Some(1),
        block_device_names: Some(vec!["vda".into()]),
        of_workload: true,
        uid: Some(0),
        cpus_allowed: Some("1".into()),
        capabilities: Some(0xa804_25fb),
        capabilities_bounding: Some(0x1ff_ffff_ffff),
        seccomp: Some(2),
        no_new_privileges: Some(false),
        security_label: Some("docker-default (enforce)".into()),
        root_type: Some("overlay".into()),
        root_writable: true,
        sys_writable: false,
    }
}

fn results() -> Results {
    let mut results = example::clean();
    for sample in &mut results.samples {
        sample.disk = Some(disk(&sample.target));
        sample.isolation = Some(isolation(&sample.target));
    }
    let claim = |fact: &str, target: &str, is: bool| json!({"says": "it is so", "target": target, "fact": fact, "is": is});
    results.run.scenario["claim"] = json!([
        claim("kernel.shared", "docker", true),
        claim("kernel.shared", "libvirt", true),
        claim("pagecache.shared", "libvirt", false),
    ]);
    results
}

#[test]
fn disk_and_isolation_are_in_the_schema_and_read_back_the_same() {
    let results = results();
    let dir = written("inside-schema", &results);
    let json: Value = serde_json::from_str(&read(dir.join("results.json"))).unwrap();
    assert_eq!(complaints(&json), [] as [String; 0]);
    assert_eq!(report::load(&dir).unwrap(), results);
    let schema: Value = serde_json::from_str(include_str!("../../reports/results.schema.json")).unwrap();
    let mut found = Vec::new();
    unlisted(&json["samples"][3], &schema["$defs"]["Sample"], "/samples", &mut found);
    assert_eq!(found, [] as [String; 0]);
    for (change, what) in [
        (json!({"disk": {"image_bytes": -1}}), "image_bytes"),
        (json!({"isolation": {"seccomp": "on"}}), "seccomp"),
        (json!({"isolation": {"namespaces": [{"kind": "pid"}]}}), "id"),
    ] {
        let mut json = json.clone();
        let (record, fields) = change.as_object().unwrap().iter().next().unwrap();
        for (key, value) in fields.as_object().unwrap() {
            json["samples"][0][record][key] = value.clone();
        }
        assert!(complaints(&json).iter().any(|c| c.contains(record)), "{what}: {:?}", complaints(&json));
    }
}

#[test]
fn sizes_and_copies_are_figures_and_isolation_is_a_table_in_every_report() {
    let dir = written("inside-report", &results());
    let (page, summary) = (read(dir.join("index.html")), read(dir.join("summary.md")));
    for text in [&page, &summary] {
        for shown in [
            "Isolation",
            "processes in sight",
            "3 (host: 90), none of the host",
            "90 (host: 90), including the host",
            "namespaces of its own",
            "256 MiB",
            "14 (0xa80425fb), of at most 41",
            "by a filter",
            "docker-default (enforce)",
            "disk.instance",
            "cow.first_write",
        ] {
            assert!(text.contains(shown), "{shown}");
        }
    }
    assert!(page.contains("100 MiB") && page.contains("0.31 MiB"), "copied by overlays, and by qcow2");
    let table = report::table(&results(), &analyse(&results()), false);
    assert!(table.contains("first write") && table.contains("instance on disk"), "{table}");
}

#[test]
fn names_of_devices_are_those_of_an_earlier_sample_where_they_were_left_out() {
    let mut results = results();
    let mut first = true;
    for sample in results.samples.iter_mut().filter(|s| s.target == "docker") {
        let names = if first { Some(vec!["only-once".to_owned()]) } else { None };
        sample.isolation.as_mut().unwrap().device_names = names;
        first = false;
    }
    let warmup = results.samples.iter().find(|s| s.target == "docker").unwrap();
    assert!(warmup.warmup, "the sample that has them is not the one that is shown");
    let summary = read(written("inside-names", &results).join("summary.md"));
    assert!(summary.contains("14: only-once"), "{summary}");
}

#[test]
fn a_run_without_them_shows_nothing_of_them() {
    let dir = written("inside-without", &example::clean());
    let (page, summary) = (read(dir.join("index.html")), read(dir.join("summary.md")));
    for text in [&page, &summary] {
        assert!(!text.contains("Isolation") && !text.contains("disk.instance"));
    }
}

#[test]
fn claims_about_facts_are_judged_and_shown() {
    let results = results();
    let analysis = analyse(&results);
    let verdicts: Vec<ClaimVerdict> = analysis.claims.iter().map(|claim| claim.verdict).collect();
    assert_eq!(verdicts, [ClaimVerdict::Supported, ClaimVerdict::Refuted, ClaimVerdict::Supported]);
    let summary = read(written("inside-claims", &results).join("summary.md"));
    assert!(summary.contains("kernel.shared of docker, is true"), "{summary}");
    assert!(summary.contains("good samples disagree"), "{summary}");
}

#[test]
fn a_guests_text_about_itself_stays_text() {
    let mut results = results();
    let hostile = "<script>alert(1)</script> | `x` @someone \u{1b}[31m".to_owned() + &"y".repeat(5000);
    for sample in &mut results.samples {
        let isolation = sample.isolation.as_mut().unwrap();
        isolation.device_names = Some(vec![hostile.clone(); 48]);
        isolation.security_label = Some(hostile.clone());
        isolation.memory_limit = Some(hostile.clone());
        isolation.namespaces[0].kind = hostile.clone();
    }
    let dir = written("inside-hostile", &results);
    let (page, summary) = (read(dir.join("index.html")), read(dir.join("summary.md")));
    assert!(!page.contains("<script>") && !summary.contains("<script>"));
    assert!(!page.contains('\u{1b}') && !summary.contains('\u{1b}') && !summary.contains(" @someone"));
    assert!(!page.contains(&"y".repeat(200)) && !summary.contains(&"y".repeat(200)), "bounded");
}
