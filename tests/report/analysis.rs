use bootrace::{
    analysis::{ClaimVerdict, Kernel, Metric, RelativeTo, analyse},
    sample::{Accelerator, Frequency, Noise, Outcome, Results, Sample, Setting},
};

use crate::example;

fn median(results: &Results, target: &str, metric: Metric) -> f64 {
    analyse(results).target(target).unwrap().median(metric).unwrap()
}

#[test]
fn warmups_and_failures_are_counted_but_in_no_figure() {
    let results = example::results();
    let analysis = analyse(&results);
    let libvirt = analysis.target("libvirt").unwrap();
    assert_eq!((libvirt.counts.ok, libvirt.counts.failed, libvirt.counts.timed_out), (9, 1, 0));
    assert_eq!((libvirt.counts.warmup, libvirt.counts.warmup_failed), (1, 0));
    let startup = libvirt.figure(Metric::Startup).unwrap();
    assert_eq!(startup.n, 9);
    let slowest = results.samples.iter().filter(|s| s.target == "libvirt" && !s.warmup);
    assert_eq!(startup.max, slowest.filter_map(|s| s.timeline_ns.ready).max().unwrap() as f64);
}

#[test]
fn the_order_of_samples_changes_no_figure() {
    let results = example::results();
    let mut turned = results.clone();
    turned.samples.reverse();
    turned.samples.swap(3, 20);
    let strip = |results: &Results| {
        let mut targets = analyse(results).targets;
        for target in &mut targets {
            target.drift = None;
            target.figures.iter_mut().for_each(|f| f.outliers.clear());
        }
        targets
    };
    assert_eq!(strip(&results), strip(&turned));
}

#[test]
fn an_outlier_is_flagged_and_still_in_the_figures() {
    let results = example::results();
    let analysis = analyse(&results);
    let startup = analysis.target("docker").unwrap().figure(Metric::Startup).unwrap();
    let [outlier] = startup.outliers[..] else { panic!("{:?}", startup.outliers) };
    assert_eq!((results.samples[outlier].round, results.samples[outlier].target.as_str()), (6, "docker"));
    assert_eq!(startup.max, results.samples[outlier].timeline_ns.ready.unwrap() as f64);
    assert_eq!(startup.n, 9);
}

#[test]
fn ratios_pair_the_rounds_that_both_have() {
    let analysis = analyse(&example::results());
    let native = analysis.target("native").unwrap();
    assert_eq!(native.figure(Metric::Startup).unwrap().against, RelativeTo::Baseline);
    let libvirt = analysis.target("libvirt").unwrap().figure(Metric::Startup).unwrap();
    let ratio = libvirt.against.ratio().unwrap();
    assert_eq!(ratio.pairs, 9);
    assert!((2500.0..3500.0).contains(&ratio.estimate), "{}", ratio.estimate);
    let interval = ratio.interval.unwrap();
    assert!(interval.low < ratio.estimate && ratio.estimate < interval.high && interval.coverage >= 0.99);
}

#[test]
fn overhead_is_taken_within_a_round_and_the_baseline_has_none() {
    let mut results = example::clean();
    // A host whose memory readings all shift by the same amount within a round.
    for sample in &mut results.samples {
        let shift = u64::from(sample.round) * (50 << 20);
        let base = if sample.target == "native" { 2 << 20 } else { 17 << 20 };
        sample.memory_bytes.footprint = Some(base + shift);
    }
    let analysis = analyse(&results);
    let docker = analysis.target("docker").unwrap().figure(Metric::Overhead).unwrap();
    assert_eq!((docker.min, docker.max), (f64::from(15 << 20), f64::from(15 << 20)));
    assert_eq!(analysis.target("native").unwrap().figure(Metric::Overhead), None);
}

#[test]
fn idle_cpu_is_a_share_of_one_core_and_a_zero_baseline_has_no_ratio() {
    let results = example::clean();
    assert_eq!(median(&results, "native", Metric::CpuIdle), 0.0);
    let idle = median(&results, "libvirt", Metric::CpuIdle);
    assert!((0.005..0.006).contains(&idle), "{idle}");
    let analysis = analyse(&results);
    let figure = analysis.target("docker").unwrap().figure(Metric::CpuIdle).unwrap();
    assert_eq!(figure.against, RelativeTo::None("a value is zero or below"));
}

#[test]
fn a_value_that_a_target_cannot_give_is_no_figure_rather_than_zero() {
    let analysis = analyse(&example::results());
    assert_eq!(analysis.target("native").unwrap().figure(Metric::EngineMemory), None);
}

#[test]
fn claims_are_judged_by_the_interval() {
    let claims = analyse(&example::results()).claims;
    let verdicts: Vec<ClaimVerdict> = claims.iter().map(|c| c.verdict).collect();
    use ClaimVerdict::{Refuted, Supported, Undecided};
    assert_eq!(verdicts, [Supported, Refuted, Undecided, Supported]);
    assert!(claims[2].why.contains("straddles"), "{}", claims[2].why);
    assert_eq!(claims[0].bound, "at most 2s");
}

#[test]
fn a_claim_about_two_targets_pairs_their_good_samples_by_round() {
    let mut results = example::results();
    let measured = |results: &Results| analyse(results).claims[3].measured.unwrap();
    // A round of docker's and one of libvirt's are bad: eight are left that have both.
    assert_eq!(measured(&results).n, 8);
    let ratio = measured(&results);
    assert!((14.0..15.5).contains(&ratio.value), "{ratio:?}");
    let interval = ratio.interval.unwrap();
    assert!(interval.low < ratio.value && ratio.value < interval.high, "{ratio:?}");
    // What slows a whole round down is in both and leaves the ratio alone.
    for sample in results.samples.iter_mut().filter(|s| s.round % 2 == 0) {
        let time = &mut sample.timeline_ns;
        for moment in [&mut time.started, &mut time.agent, &mut time.ready] {
            *moment = moment.map(|m| m * 2);
        }
    }
    assert!((measured(&results).value / ratio.value - 1.0).abs() < 1e-6);
}

#[test]
fn a_clean_run_raises_no_caveat() {
    assert_eq!(analyse(&example::clean()).caveats, [] as [String; 0]);
}

#[test]
fn each_fault_raises_its_caveat() {
    type Change = fn(&mut Results);
    let cases: [(Change, &str); 39] = [
        (|r| r.targets[2].accelerator = Accelerator::Tcg, "TCG (emulated)"),
        (|r| r.image.fallback = true, "the image is a fallback"),
        (|r| r.run.interrupted = true, "cut short"),
        (|r| r.samples.truncate(30), "only 30 of 33 planned samples"),
        (|r| r.samples.truncate(24), "native: 7 good samples can't give a 99 % interval"),
        (|r| r.samples.truncate(15), "docker: 4 good samples are too few for any interval"),
        (|r| r.samples[5].outcome = Outcome::TimedOut, "1 timed out of 10 samples"),
        (
            |r| r.samples[5].identity.as_mut().unwrap().agent_digest = Some("ee".into()),
            "agent digest differs",
        ),
        (|r| r.samples[5].identity = None, "have no identity"),
        (
            |r| {
                let host = r.host.boot_id.clone();
                let vms = r.samples.iter_mut().filter(|s| s.target == "libvirt");
                vms.for_each(|s| s.identity.as_mut().unwrap().boot_id = host.clone());
            },
            "libvirt is a VM, but its kernel's boot id is the host's",
        ),
        (|r| r.host.virtualised = Some("kvm".into()), "nested virtualisation"),
        (|r| r.host.noise_before.load_1m = Some(2.5), "the load was 2.5 on 2 CPUs before the run"),
        (|r| r.host.noise_before.psi_io_some_avg10 = Some(33.0), "waited for disk 33 %"),
        (|r| r.host.noise_after.as_mut().unwrap().steal_ns = Some(99_000_000_000), "(steal)"),
        (|r| r.host.governor = Some("powersave".into()), "governor is powersave"),
        (|r| r.host.turbo = Some(true), "turbo is on"),
        (|r| r.host.swap_bytes = 3 << 30, "3072 MiB of swap"),
        (|r| r.host.governor = None, "could not be read: CPU governor"),
        (|r| r.host.noise_before = Noise::default(), "read: load, steal; a VM or container may hide it"),
        (
            |r| r.host.noise_before = Noise::default(),
            "read: CPU pressure (PSI), disk pressure, memory pressure; boot",
        ),
        (|r| r.host.noise_after.as_mut().unwrap().psi_cpu_some_avg10 = None, "read: CPU pressure (PSI)"),
        (|r| r.host.noise_after = None, "could not be read: load and pressure after the run"),
        (|r| (r.host.virtualised, r.host.turbo) = (None, None), "whether the host is virtual, turbo"),
        (|r| r.host.governor = Some("powersave".into()), "run with --tune, or cpupower"),
        (|r| r.host.smt = Some(true), "SMT is on"),
        (|r| r.host.thp = Some("always".into()), "huge pages are always on"),
        (|r| r.host.ksm = Some(true), "(KSM) is on"),
        (|r| r.host.ksm_pages = Some(512), "512 pages are still merged"),
        (|r| r.host.numa_nodes = Some(2), "2 NUMA nodes"),
        (|r| r.host.clock_source = Some("hpet".into()), "clock source is hpet"),
        (|r| r.host.frequencies.push(Frequency::default()), "2 different ranges of clock rate"),
        (|r| r.host.mitigations[0].state = "Vulnerable".into(), "vulnerabilities are off (meltdown)"),
        (
            |r| (r.host.other_containers, r.host.other_vms) = (Some(1), Some(3)),
            "1 other container and 3 other VMs",
        ),
        (
            |r| (r.host.swap_bytes, r.host.swap_used_bytes) = (1 << 30, Some(5 << 20)),
            "1024 MiB of swap, 5 of them in use",
        ),
        (|r| r.host.virtualised = Some("KVM".into()), "libvirt ran nested, a VM within a VM of KVM"),
        (
            |r| {
                let why_not = Some("there is no such file".into());
                r.host.tuned = Some(vec![Setting { name: "turbo".into(), found: None, set: None, why_not }]);
            },
            "--tune could not set turbo: set it by hand",
        ),
        (
            |r| {
                for i in [5, 6, 8, 9] {
                    let noise = r.samples[i].interference.as_mut().unwrap();
                    noise.others_cpu_ns = Some(noise.window_ns);
                }
            },
            "were taken while other processes used the CPUs, up to 1.0 of 2: stop other processes",
        ),
        (
            |r| r.samples[5].interference = None,
            "could not be read: CPU time of other processes during samples",
        ),
        (
            |r| {
                for s in r.samples.iter_mut().filter(|s| s.target == "docker") {
                    s.timeline_ns.ready = s.timeline_ns.ready.map(|t| t + u64::from(s.round) * 30_000_000);
                }
            },
            "docker: start-up rose by",
        ),
    ];
    for (change, words) in cases {
        let mut results = example::clean();
        change(&mut results);
        let caveats = analyse(&results).caveats;
        assert!(caveats.iter().any(|d| d.contains(words)), "no {words:?} in {caveats:#?}");
    }
}

#[test]
fn interference_with_a_warm_up_is_no_caveat_and_each_target_counts_its_own() {
    let mut results = example::clean();
    let interfere = |s: &mut Sample| s.interference.as_mut().unwrap().swapped_in_pages = Some(5000);
    results.samples.iter_mut().filter(|s| s.warmup).for_each(interfere);
    assert_eq!(analyse(&results).caveats, [] as [String; 0]);
    results.samples.iter_mut().filter(|s| s.target != "native" && s.round == 3).for_each(interfere);
    let caveats = analyse(&results).caveats;
    let caveat = "1 of 10 samples of docker, 1 of 10 samples of libvirt were taken while the host swapped: ";
    assert!(caveats.len() == 1 && caveats[0].starts_with(caveat), "{caveats:#?}");
}

#[test]
fn a_targets_kernel_is_identified_by_its_boot_id() {
    let identities = analyse(&example::clean()).identities;
    let kernels: Vec<Kernel> = identities.targets.iter().map(|t| t.kernel).collect();
    assert_eq!(kernels, [Kernel::SharedWithHost, Kernel::SharedWithHost, Kernel::Own]);
    assert_eq!(identities.disagreements, [] as [String; 0]);
}

#[test]
fn without_a_native_target_the_first_one_is_the_baseline_and_that_is_said() {
    let mut results = example::clean();
    results.targets.remove(0);
    results.samples.retain(|s| s.target != "native");
    results.run.planned = results.samples.len() as u32;
    let analysis = analyse(&results);
    assert_eq!(analysis.baseline.as_deref(), Some("docker"));
    assert!(analysis.caveats[0].contains("there is no native target"), "{:?}", analysis.caveats);
    results.targets.remove(0);
    assert_eq!(analyse(&results).baseline, None);
}

#[test]
fn empty_results_are_analysed_without_a_panic() {
    let mut results = example::clean();
    results.samples.clear();
    let analysis = analyse(&results);
    assert!(analysis.targets.iter().all(|t| t.figures.is_empty()));
    results.targets.clear();
    assert!(analyse(&results).targets.is_empty());
}
