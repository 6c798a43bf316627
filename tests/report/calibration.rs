//! What is made of a calibration: table and files. On hand-made instances.

use std::{collections::BTreeMap, fs};

use bootrace::{
    calibration::{Break, Calibration, Check, ReferenceInstance, SCHEMA},
    report::calibration as report,
    sample::{Accelerator, Outcome, Results},
};

use crate::example;

/// Every amount of two checks on docker and libvirt, measured without error.
fn calibration() -> Calibration {
    let Results { host, image, mut targets, samples, .. } = example::clean();
    targets[2].accelerator = Accelerator::Tcg;
    let mut taken = Vec::new();
    for target in &targets[1..] {
        let like = samples.iter().find(|s| s.target == target.name && !s.warmup).unwrap();
        for check in [Check::Delay, Check::Memory] {
            for (round, &amount) in (0..2).flat_map(|round| check.amounts().iter().map(move |a| (round, a))) {
                let mut sample = like.clone();
                (sample.round, sample.interference) = (round, None);
                let (time, memory) = (&mut sample.timeline_ns, &mut sample.memory_bytes);
                match check {
                    Check::Delay => time.ready = Some(time.agent.unwrap() + amount),
                    _ => {
                        memory.footprint = Some((9 << 20) + amount);
                        memory.workload_rss = Some((1 << 20) + amount);
                    }
                }
                (sample.work_ns.cpu, sample.work_ns.cpu_guest) = (check.work_ns(), check.work_ns());
                taken.push(ReferenceInstance {
                    check,
                    amount,
                    work_ns: check.work_ns(),
                    start_call_ns: time.started,
                    remove_call_ns: time.teardown(),
                    new_processes_bytes: None,
                    processes_left: 0,
                    round_trips_ns: Vec::new(),
                    sample,
                });
            }
        }
    }
    let mut calibration = Calibration {
        schema: SCHEMA.into(),
        id: "calibration-1".into(),
        started_at: "2026-01-02T03:04:05Z".into(),
        seed: 7,
        bootrace_version: "0.1.0".into(),
        broken: None,
        interrupted: false,
        wall_ns: Some(1),
        host,
        image,
        targets: targets[1..].to_vec(),
        left_out: BTreeMap::from([("native".into(), "it is disabled".into())]),
        warnings: Vec::new(),
        rows: Vec::new(),
        taken,
        left_over: Some(Vec::new()),
        errors: Vec::new(),
    };
    calibration.judge();
    calibration
}

/// Everything that is written, by its name.
fn files(calibration: &Calibration) -> BTreeMap<String, String> {
    let dir = tempfile::tempdir().unwrap();
    report::write(calibration, dir.path()).unwrap();
    let read = |name: &str| (name.to_owned(), fs::read_to_string(dir.path().join(name)).unwrap());
    BTreeMap::from([report::FILE, "index.html", "charts/fits.svg"].map(read))
}

#[test]
fn the_table_of_a_calibration() {
    let plain = anstream::adapter::strip_str(&report::table(&calibration())).to_string();
    insta::assert_snapshot!(plain);
}

#[test]
fn an_emulated_vm_and_a_reader_that_was_broken_are_named_wherever_figures_are() {
    let mut calibration = calibration();
    calibration.broken = Some(Break::PageCache);
    let files = files(&calibration);
    for text in [&report::table(&calibration), &files["index.html"], &files["charts/fits.svg"]] {
        for said in ["TCG (emulated)", "page-cache"] {
            assert!(text.contains(said), "no {said:?} in {text}");
        }
    }
}

#[test]
fn a_saved_calibration_is_read_again_and_gives_the_same_bytes() {
    let calibration = calibration();
    let dir = tempfile::tempdir().unwrap();
    report::write(&calibration, dir.path()).unwrap();
    let again = report::load(dir.path()).unwrap();
    assert_eq!(again, calibration);
    assert_eq!(files(&again), files(&calibration));
}

#[test]
fn text_of_engines_and_guests_is_inert_on_the_page() {
    let hostile = "</svg><script>alert(1)</script>\u{1b}[2J\u{202e}";
    let mut calibration = calibration();
    calibration.taken[0].sample.outcome = Outcome::Failed;
    calibration.taken[0].sample.error = Some(hostile.repeat(1000));
    calibration.errors.push(hostile.into());
    calibration.left_out.insert(hostile.into(), hostile.into());
    calibration.host.cpu_model = Some(hostile.into());
    calibration.judge();
    let files = files(&calibration);
    for (name, text) in files.iter().filter(|(name, _)| *name != report::FILE) {
        assert!(
            !text.contains("<script") && !text.contains('\u{1b}') && !text.contains('\u{202e}'),
            "{name}"
        );
    }
    let shown = anstream::adapter::strip_str(&report::table(&calibration)).to_string();
    assert!(!shown.contains("[2J\u{202e}") && !shown.contains('\u{202e}'));
    assert!(shown.len() < 20_000, "{} bytes", shown.len());
}
