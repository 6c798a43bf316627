use super::*;
use crate::{
    analyse,
    sample::{Frequency, Kvm, KvmDegree, Mitigation, Outcome, Resumption},
};

/// The committed sample report, whose samples are good.
fn results() -> Results {
    serde_json::from_str(include_str!("../../../../reports/sample/results.json")).unwrap()
}

/// Whether a caveat has a fix: a clause that begins with one of these verbs.
fn has_fix(caveat: &str) -> bool {
    const DO: [&str; 21] = [
        "add", "boot", "build", "check", "choose", "compare", "cool", "echo", "fix", "free", "let", "raise",
        "rebuild", "run", "set", "stop", "turn", "unmerge", "use", "wait", "write",
    ];
    let clauses = caveat.split([':', ';', ',', '.']).skip(1);
    clauses.filter_map(|clause| clause.split_whitespace().next()).any(|word| DO.contains(&word))
}

#[test]
fn caveats_without_a_fix_are_distinguished() {
    for without in [
        "could not be read: CPU governor, turbo",
        "--tune could not set turbo (there is no such file)",
        "there is no native target: ratios and overheads refer to docker",
        "run 3 failed: its remaining trials were left out",
    ] {
        assert!(!has_fix(without), "{without}");
    }
    assert!(has_fix("turbo is on: the clock rate varies; run with --tune"));
}

/// A host with every caveat; some apply to bare metal only, some to guests.
fn worst(virtualised: &str) -> Results {
    let mut results = results();
    results.targets.iter_mut().for_each(|t| t.accelerator = Accelerator::Kvm);
    results.run.scenario["resources"]["cpus"] = 1.into();
    let setting = crate::sample::Setting {
        name: "turbo".into(),
        found: None,
        set: None,
        why_not: Some("there is no such file".into()),
    };
    results.host = crate::sample::Host {
        virtualised: Some(virtualised.into()),
        processor_emulator: Some("Bochs".into()),
        other_vms: Some(2),
        governor: Some("powersave".into()),
        turbo: Some(true),
        frequencies: vec![Frequency::default(), Frequency::default()],
        smt: Some(true),
        numa_nodes: Some(2),
        swap_bytes: 1 << 30,
        ksm: Some(true),
        thp: Some("always".into()),
        clock_source: Some("hpet".into()),
        mitigations: vec![Mitigation { name: "mds".into(), state: "Vulnerable".into() }],
        tuned: Some(vec![setting]),
        ..results.host
    };
    results
}

#[test]
fn every_caveat_about_a_host_has_a_fix() {
    let mut pvm = worst("KVM");
    let kvm = Kvm { degree: KvmDegree::Paravirtual, loop_ratio: Some(0.9), exit_ns: None };
    pvm.targets.iter_mut().for_each(|t| t.kvm = Some(kvm));
    assert!(!host::facts(&pvm).iter().any(|caveat| caveat.contains("ran nested")));
    let hosts = [worst("none"), worst("KVM"), pvm];
    for (i, fact) in host::FACTS.iter().enumerate() {
        let reported: Vec<String> = hosts.iter().filter_map(fact).collect();
        assert!(!reported.is_empty(), "no host of this test has fact {i}");
        reported.iter().for_each(|caveat| assert!(has_fix(caveat), "no fix in {caveat:?}"));
    }
    let mut merged = results();
    (merged.host.ksm, merged.host.ksm_pages) = (Some(false), Some(9));
    let reported = host::facts(&merged).into_iter().find(|caveat| caveat.contains("9 pages")).unwrap();
    assert!(has_fix(&reported), "{reported}");
}

#[test]
fn every_other_caveat_has_a_fix_too() {
    type Change = fn(&mut Results);
    let cases: [(Change, &str); 23] = [
        (|r| r.samples.iter_mut().for_each(|s| s.identity = None), "identity: "),
        (|r| r.run.interrupted = true, "cut short"),
        (|r| r.run.planned += 1, "the results have only"),
        (
            |r| {
                let at = "2026-01-01T00:00:00Z".into();
                r.run.resumptions = vec![Resumption { at, samples: 7, pause_ns: 720_500_000_000 }];
            },
            "the run was interrupted after 7 samples and resumed after 12 min",
        ),
        (|r| r.samples.iter_mut().for_each(|s| s.outcome = Outcome::Failed), " failed of "),
        (|r| r.samples.iter_mut().for_each(|s| s.outcome = Outcome::TimedOut), " timed out of "),
        (|r| r.samples.truncate(9), "are too few for any interval"),
        (|r| r.samples.truncate(3 * 8), "can't give a 99 % interval"),
        (|r| r.samples[0].target = "x".into(), "belong to targets that the results don't list"),
        (|r| r.targets[0].accelerator = Accelerator::Tcg, "under TCG (emulated)"),
        (|r| r.image.fallback = true, "the image is a fallback"),
        (|r| r.targets.retain(|t| t.kind != Kind::Native), "there is no native target"),
        (
            |r| {
                for s in &mut r.samples {
                    s.timeline_ns.ready = s.timeline_ns.ready.map(|t| t + u64::from(s.round) * 900_000_000);
                }
            },
            "start-up rose by",
        ),
        (|r| r.host.noise_before.load_1m = Some(900.0), "the load was"),
        (|r| r.host.noise_before.psi_cpu_some_avg10 = Some(90.0), "waited for CPU"),
        (|r| r.host.noise_before.psi_io_some_avg10 = Some(90.0), "waited for disk"),
        (|r| r.host.noise_before.psi_memory_some_avg10 = Some(90.0), "waited for memory"),
        (
            |r| {
                r.host.noise_before.steal_ns = Some(0);
                r.host.noise_after = Some(Noise { steal_ns: Some(u64::MAX), ..Noise::default() });
            },
            "(steal)",
        ),
        (|r| r.host.turbo = None, "could not be read: CPU governor, turbo; "),
        (|r| r.host.noise_before = Noise::default(), "could not be read: CPU pressure (PSI), "),
        (|r| r.host.noise_after = None, "could not be read: load and pressure after the run"),
        (
            |r| r.samples.iter_mut().for_each(|s| s.interference = None),
            "could not be read: CPU time of other processes",
        ),
        (interference, "were taken while"),
    ];
    for (change, words) in cases {
        let mut results = results();
        results.run.warnings.clear();
        results.host.governor = None;
        change(&mut results);
        let caveats = analyse(&results).caveats;
        assert!(caveats.iter().any(|d| d.contains(words)), "no {words:?} in {caveats:#?}");
        caveats.iter().for_each(|caveat| assert!(has_fix(caveat), "no fix in {caveat:?}"));
    }
}

/// Every kind of interference there is.
fn interference(results: &mut Results) {
    results.samples.iter_mut().for_each(|s| {
        s.interference = Some(crate::sample::Interference {
            window_ns: 1_000_000_000,
            others_cpu_ns: Some(u64::MAX),
            steal_ns: Some(u64::MAX),
            psi_io_ns: Some(u64::MAX),
            psi_memory_ns: Some(u64::MAX),
            thermal_throttles: Some(9),
            swapped_in_pages: Some(u64::MAX),
            ..Default::default()
        })
    });
}

#[test]
fn a_scenario_that_lists_cpus_has_no_caveat_on_them() {
    let reported = |results: &Results| {
        let caveats = host::facts(results);
        caveats.iter().filter(|caveat| caveat.contains("in [resources], for example cpus = \"")).count()
    };
    let mut results = worst("none");
    assert_eq!(reported(&results), 2, "clock rates and NUMA");
    results.run.scenario["resources"]["cpus"] = "0-3".into();
    assert_eq!(reported(&results), 0);
}

#[test]
fn a_chosen_emulation_has_the_scenarios_key_as_its_fix() {
    let mut results = results();
    results.targets.retain(|t| t.kind == Kind::Libvirt);
    let name = results.targets[0].name.clone();
    for (accel, reported) in [("tcg", true), ("auto", false)] {
        results.run.scenario["target"] = serde_json::json!([{ "name": name, "accel": accel }]);
        assert_eq!(emulated(&results, &results.targets[0]).contains("set accel = \"auto\""), reported);
    }
}
