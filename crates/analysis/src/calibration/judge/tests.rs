use std::collections::BTreeMap;

use bootrace_model::plan::Trial;

use super::*;
use crate::sample::{Accelerator, Outcome, TargetRecord};
use crate::{
    calibration::SCHEMA,
    kind::Kind,
    sample::{Host, Image, Sample},
};

fn target(name: &str, accelerator: Accelerator) -> TargetRecord {
    TargetRecord {
        name: name.into(),
        kind: Kind::ALL.into_iter().find(|kind| kind.name() == name).unwrap(),
        accelerator,
        accelerator_reason: None,
        kvm: None,
        options: serde_json::Value::Null,
    }
}

fn calibration(taken: Vec<ReferenceInstance>) -> Calibration {
    Calibration {
        schema: SCHEMA.into(),
        id: "calibration-1".into(),
        started_at: "2026-01-01T00:00:00Z".into(),
        seed: 1,
        bootrace_version: "0".into(),
        broken: None,
        interrupted: false,
        wall_ns: None,
        host: Host::default(),
        image: Image {
            digest: "0".repeat(64),
            distribution: "debian".into(),
            suite: "bookworm".into(),
            source: "made up".into(),
            ..Image::default()
        },
        targets: vec![target("docker", Accelerator::None), target("libvirt", Accelerator::Tcg)],
        left_out: BTreeMap::new(),
        warnings: Vec::new(),
        rows: Vec::new(),
        taken,
        left_over: None,
        errors: Vec::new(),
    }
}

/// Every amount of a check, twice, each sample as `measure` leaves it.
fn taken(
    check: Check,
    target: &str,
    measure: impl Fn(u64, &mut ReferenceInstance),
) -> Vec<ReferenceInstance> {
    let one = |(&amount, round): (&u64, u32)| {
        let trial = Trial { target: 0, round, position: 0, warmup: false };
        let mut taken = ReferenceInstance {
            check,
            amount,
            work_ns: check.work_ns(),
            start_call_ns: Some(100_000_000),
            remove_call_ns: Some(50_000_000),
            new_processes_bytes: Some(4 << 20),
            processes_left: 0,
            round_trips_ns: Vec::new(),
            sample: Sample::blank(target, &trial),
        };
        perfect(&mut taken.sample, check, amount);
        measure(amount, &mut taken);
        taken
    };
    [0, 1].into_iter().flat_map(|round| check.amounts().iter().map(move |a| (a, round))).map(one).collect()
}

/// An error-free measurement of an instance with a cost of its own besides the known amount.
fn perfect(sample: &mut Sample, check: Check, amount: u64) {
    let is = |one: Check| if check == one { amount } else { 0 };
    let time = &mut sample.timeline_ns;
    (time.started, time.agent) = (Some(100_000_000), Some(90_000_000));
    time.ready = Some(90_000_000 + 2_000_000 + is(Check::Delay));
    (time.stopping, time.gone) = (Some(5_000_000_000), Some(5_050_000_000));
    let memory = &mut sample.memory_bytes;
    memory.cgroup_kernel = Some(1 << 20);
    memory.footprint = Some((5 << 20) + is(Check::Memory));
    memory.workload_rss = Some((1 << 20) + is(Check::Memory));
    memory.cgroup_file = Some(300_000 + is(Check::File));
    if sample.target == "libvirt" {
        memory.guest_cache = Some(9_000_000 + is(Check::File));
        memory.footprint = memory.footprint.map(|held| held + is(Check::File));
    }
    let cpu = &mut sample.cpu_ns;
    cpu.startup = Some(40_000_000 + is(Check::Cpu));
    (cpu.idle, cpu.idle_window) = (Some(1_000_000), Some(4_000_000_000));
    (sample.work_ns.cpu, sample.work_ns.cpu_guest) = (check.work_ns(), check.work_ns());
}

fn verdicts(taken: Vec<ReferenceInstance>) -> Vec<(String, CheckVerdict)> {
    rows(&calibration(taken)).into_iter().map(|row| (row.metric, row.verdict)).collect()
}

fn failing(taken: Vec<ReferenceInstance>) -> Vec<String> {
    let failing = |(metric, verdict)| (verdict == CheckVerdict::Fail).then_some(metric);
    verdicts(taken).into_iter().filter_map(failing).collect()
}

fn time(taken: &mut ReferenceInstance) -> &mut crate::sample::Timeline {
    &mut taken.sample.timeline_ns
}

#[test]
fn measurements_without_error_pass_every_check_on_every_target() {
    for target in ["docker", "libvirt"] {
        for check in [Check::Delay, Check::Memory, Check::File, Check::Cpu, Check::Idle] {
            let verdicts = verdicts(taken(check, target, |_, _| {}));
            assert!(verdicts.len() >= 2, "{check:?} on {target}");
            assert!(
                verdicts.iter().all(|(_, v)| *v != CheckVerdict::Fail),
                "{check:?} on {target}: {verdicts:?}"
            );
        }
    }
}

#[test]
fn a_delay_that_is_measured_too_long_by_more_than_its_bound_fails() {
    let by = |share: f64| {
        let stretched = move |amount: u64, taken: &mut ReferenceInstance| {
            let ready = &mut time(taken).ready;
            *ready = ready.map(|ready| ready + (amount as f64 * share) as u64);
        };
        failing(taken(Check::Delay, "docker", stretched))
    };
    assert_eq!(by(0.009), Vec::<String>::new());
    assert_eq!(by(0.011), ["startup.app"]);
}

#[test]
fn a_phase_before_the_launch_that_moves_with_the_delay_fails() {
    let failing = failing(taken(Check::Delay, "docker", |amount, taken| {
        let time = time(taken);
        for moment in [&mut time.started, &mut time.agent, &mut time.ready] {
            *moment = moment.map(|ns| ns + amount / 20);
        }
        taken.start_call_ns = taken.start_call_ns.map(|ns| ns + amount / 20);
    }));
    assert_eq!(failing, ["startup.engine"]);
}

#[test]
fn a_phase_that_is_only_noisy_passes_with_a_note_on_the_noise() {
    let noisy = taken(Check::Delay, "docker", |amount, taken| {
        // Up and down by a fifth of a second, more at the ends than in between.
        let off = [0, 200_000_000, 30_000_000, 180_000_000, 60_000_000][(amount / 500_000_000) as usize];
        let time = time(taken);
        for moment in [&mut time.started, &mut time.agent, &mut time.ready] {
            *moment = moment.map(|ns| ns + off);
        }
        taken.start_call_ns = taken.start_call_ns.map(|ns| ns + off);
    });
    let rows = rows(&calibration(noisy));
    let engine = rows.iter().find(|row| row.metric == "startup.engine").unwrap();
    assert!(engine.error.unwrap().abs() > 0.01, "{engine:?}");
    assert_eq!(engine.verdict, CheckVerdict::Noise);
    assert!(engine.note.as_deref().unwrap().contains("noise"), "{engine:?}");
}

#[test]
fn a_clock_that_starts_late_is_seen_by_the_stopwatch_and_a_single_interruption_is_none() {
    let late = |count: usize| {
        let mut all = taken(Check::Delay, "docker", |_, _| {});
        for taken in all.iter_mut().take(count) {
            let time = time(taken);
            for moment in [&mut time.started, &mut time.agent, &mut time.ready] {
                *moment = moment.map(|ns| ns - 2_000_000);
            }
        }
        failing(all)
    };
    assert_eq!(late(1), Vec::<String>::new());
    assert_eq!(late(10), ["started"]);
}

#[test]
fn page_cache_in_the_footprint_fails() {
    let counted = taken(Check::File, "docker", |_, taken| {
        let memory = &mut taken.sample.memory_bytes;
        memory.footprint = Some(memory.footprint.unwrap() + memory.cgroup_file.unwrap());
    });
    assert_eq!(failing(counted), ["memory.footprint"]);
}

#[test]
fn memory_of_which_a_part_is_missed_or_counted_twice_fails() {
    let of = |numerator: u64| {
        failing(taken(Check::Memory, "libvirt", move |amount, taken| {
            taken.sample.memory_bytes.footprint = Some((5 << 20) + amount / 100 * numerator);
        }))
    };
    assert_eq!(of(97), ["memory.footprint"]);
    assert_eq!(of(103), ["memory.footprint"]);
    assert_eq!(of(101), Vec::<String>::new());
}

/// Up and down by some 10 MiB from boot to boot.
#[test]
fn a_footprint_that_huge_pages_scatter_is_noise_of_a_vm_alone() {
    let scattered = |target: &str, part: u64| {
        let boots = std::cell::Cell::new(0);
        let taken = taken(Check::Memory, target, |amount, taken| {
            let off = [20_u64, 0, 12, 3, 0, 6, 14, 1, 9, 2][boots.get()] << 20;
            boots.set(boots.get() + 1);
            let footprint = &mut taken.sample.memory_bytes.footprint;
            *footprint = footprint.map(|bytes| bytes - amount / 100 * part + off);
        });
        let rows = rows(&calibration(taken));
        rows.iter().find(|row| row.metric == "memory.footprint").unwrap().verdict
    };
    assert_eq!((scattered("libvirt", 0), scattered("docker", 0)), (CheckVerdict::Noise, CheckVerdict::Fail));
    assert_eq!(scattered("libvirt", 50), CheckVerdict::Fail, "a half that is missed is no noise");
}

#[test]
fn a_missed_engine_process_fails() {
    let missed = taken(Check::Idle, "docker", |_, taken| taken.new_processes_bytes = Some(12 << 20));
    assert_eq!(failing(missed), ["memory.footprint"]);
}

#[test]
fn cpu_time_is_judged_on_the_host_and_only_shown_for_an_emulated_vm() {
    let twice = |target| {
        taken(Check::Delay, target, |_, taken| {
            taken.sample.work_ns.cpu = taken.sample.work_ns.cpu.map(|ns| 2 * ns);
        })
    };
    assert_eq!(failing(twice("docker")), ["work.cpu"]);
    assert_eq!(failing(twice("libvirt")), Vec::<String>::new());
    let stated = verdicts(twice("libvirt"));
    assert!(stated.contains(&("work.cpu".into(), CheckVerdict::Stated)), "{stated:?}");
}

#[test]
fn an_idle_instance_that_seems_to_work_fails() {
    let busy = taken(Check::Idle, "docker", |_, taken| taken.sample.cpu_ns.idle = Some(40_000_000));
    assert_eq!(failing(busy), ["cpu.idle"]);
}

#[test]
fn a_failed_instance_fails_its_rows_and_says_why() {
    let mut all = taken(Check::Memory, "docker", |_, _| {});
    all[0].sample.outcome = Outcome::Failed;
    all[0].sample.error = Some("it burnt down".into());
    let rows = rows(&calibration(all));
    let memory: Vec<&Row> = rows.iter().filter(|row| row.check == Check::Memory).collect();
    assert!(memory.iter().all(|row| row.verdict == CheckVerdict::Fail));
    assert!(
        memory[0].note.as_deref().unwrap().contains("1 of 10 instances failed, the first: it burnt down")
    );
}

#[test]
fn checks_that_an_interrupted_calibration_lacks_do_not_fail() {
    let mut all = taken(Check::Memory, "docker", |_, _| {});
    all.truncate(3);
    let mut calibration = calibration(all);
    let slope = |calibration: &Calibration| {
        rows(calibration)
            .into_iter()
            .find(|row| row.metric == "memory.footprint")
            .map(|row| (row.verdict, row.note))
    };
    let (verdict, note) = slope(&calibration).unwrap();
    assert_eq!(
        (verdict, note.as_deref()),
        (CheckVerdict::Fail, Some("3 instances are too few for this figure"))
    );
    calibration.interrupted = true;
    assert_eq!(slope(&calibration), None);
    assert!(!calibration.passed());
}

#[test]
fn figures_that_no_instance_gave_fail() {
    let none = taken(Check::File, "docker", |_, taken| taken.sample.memory_bytes.cgroup_file = None);
    assert_eq!(failing(none), ["memory.cache"]);
}

#[test]
fn whatever_is_left_behind_fails() {
    let mut calibration = calibration(taken(Check::Teardown, "docker", |_, _| {}));
    calibration.record_left_overs(vec!["container bootrace-1-2".into()], []);
    let row = calibration.rows.last().unwrap();
    assert_eq!((row.verdict, row.measured), (CheckVerdict::Fail, Some(1.0)));
    assert!(row.note.as_deref().unwrap().contains("bootrace-1-2"));
    assert!(!calibration.passed());
    calibration.record_left_overs(Vec::new(), []);
    assert!(calibration.passed());
    calibration.taken[0].processes_left = 1;
    calibration.judge();
    assert!(!calibration.passed(), "a process that outlived its instance");
}

#[test]
fn the_channel_is_described_by_median_and_99th_percentile() {
    let mut all = taken(Check::Channel, "docker", |_, _| {});
    all.truncate(1);
    all[0].round_trips_ns = (1..=200).rev().collect();
    let rows = rows(&calibration(all));
    let channel = rows.iter().filter(|row| row.check == Check::Channel);
    let measured: Vec<_> = channel.map(|row| (row.measured, row.verdict)).collect();
    assert_eq!(measured, [(Some(100.0), CheckVerdict::Stated), (Some(198.0), CheckVerdict::Stated)]);
}

#[test]
fn a_figure_that_some_instances_do_not_give_fails_however_good_the_others_are() {
    let some = taken(Check::Memory, "docker", |amount, taken| {
        taken.sample.memory_bytes.workload_rss.take_if(|_| amount > 300 << 20);
    });
    assert_eq!(failing(some), ["memory.workload"]);
}
