use super::*;

const NO_CHECK: &[Check] = &[];

fn verdict(counting: &'static [u8], checks: &'static [Check], patience: Duration) -> Verdict {
    Plan { patience, counting, checks, ..PLAN }.carry_out()
}

/// What is said of a loop that works and one check, whether this host's KVM is hardware or not.
fn failures(checks: &'static [Check]) -> String {
    match verdict(LOOP, checks, PATIENCE * 10) {
        Verdict::Emulated { failed, .. } => list(&failed),
        Verdict::Broken { why } => why,
        other => format!("{other:?}"),
    }
}

/// A report as a guest would leave it.
fn judged(rate: f64, outcomes: &[(u32, u32, u32)], end: &End) -> Verdict {
    let outcome = || Outcome { how: AtomicU32::new(0), reason: AtomicU32::new(0), detail: AtomicU32::new(0) };
    let report = Report {
        step: AtomicU32::new(CHECKING + outcomes.len() as u32),
        errno: AtomicI32::new(0),
        rate: AtomicU64::new(rate.to_bits()),
        counting: outcome(),
        checks: std::array::from_fn(|_| outcome()),
    };
    report.counting.set(RIGHT, 0, 0);
    outcomes.iter().zip(&report.checks).for_each(|((how, reason, detail), o)| o.set(*how, *reason, *detail));
    PLAN.judge(&report, end)
}

#[test]
fn a_fast_loop_is_hardware_only_if_all_else_is_right() {
    let good = [(RIGHT, 0, 0); 5];
    assert_eq!(judged(9e8, &good, &End::Done), Verdict::Hardware { rate: 9e8 });
    assert_eq!(judged(2e6, &good, &End::Done), Verdict::Emulated { rate: 2e6, failed: Vec::new() });

    let mut bad = good;
    bad[0] = (EXIT, KVM_EXIT_INTERNAL_ERROR, 1);
    bad[3] = (WRONG, 0, 0);
    let fault = |what, how: &str| Fault { what, how: how.into() };
    let failed =
        vec![fault("lock cmpxchg16b", "KVM internal error, suberror 1"), fault("invlpg", "wrong result")];
    assert_eq!(judged(2e6, &bad, &End::Done), Verdict::Emulated { rate: 2e6, failed });
    let why = "9e8 loop iterations/s, as hardware does, and yet it can't do \
               lock cmpxchg16b (KVM internal error, suberror 1), invlpg (wrong result)"
        .into();
    assert_eq!(judged(9e8, &bad, &End::Done), Verdict::Broken { why });
}

#[test]
fn a_guest_that_was_ended_is_named_by_where_it_was() {
    let late = End::Late { patience: PATIENCE, cpu: Some(Duration::from_millis(399)) };
    let failed =
        vec![Fault { what: "paddq (SSE2)", how: "not done after 400ms, 399ms of CPU time".to_owned() }];
    assert_eq!(judged(2e6, &[(RIGHT, 0, 0)], &late), Verdict::Emulated { rate: 2e6, failed });
    let why = "it can't do lock cmpxchg16b (its process died: signal 9 ended it)".to_owned();
    assert_eq!(judged(0.0, &[], &End::Died("signal 9 ended it".into())), Verdict::Broken { why });
}

#[test]
fn a_device_that_may_not_be_opened_and_one_that_is_not_there_have_their_own_mends() {
    let say = |code| missing(&io::Error::from_raw_os_error(code)).to_string();
    assert!(say(libc::ENOENT).contains("modprobe kvm_intel"));
    assert!(say(libc::EACCES).contains("group kvm"));
}

#[test]
#[ignore = "needs /dev/kvm: scripts/test runs it"]
fn a_guest_runs_its_loop_to_the_end_and_all_of_several_at_once_say_the_same() {
    let kinds: Vec<_> = std::thread::scope(|scope| {
        let all: Vec<_> = (0..4).map(|_| scope.spawn(probe)).collect();
        all.into_iter().map(|one| one.join().unwrap()).collect()
    });
    for verdict in &kinds {
        let (Verdict::Hardware { rate } | Verdict::Emulated { rate, .. }) = verdict else {
            panic!("{verdict:?}")
        };
        assert!(*rate > 1e3, "{rate} iterations/s");
        assert_eq!(std::mem::discriminant(verdict), std::mem::discriminant(&kinds[0]), "{kinds:?}");
    }
}

#[test]
#[ignore = "needs /dev/kvm: scripts/test runs it"]
fn a_guest_that_loops_for_ever_is_ended_and_named() {
    // 1: jmp 1b
    let Verdict::Broken { why } = verdict(&[0xeb, 0xfe], NO_CHECK, PATIENCE) else { panic!() };
    assert!(why.starts_with("it can't do a loop (not done after 400ms, "), "{why}");
    // Known only of a process that is dead and reaped.
    assert!(why.ends_with(" of CPU time)"), "{why}");
}

#[test]
#[ignore = "needs /dev/kvm: scripts/test runs it"]
fn faults_of_a_guest_are_named() {
    const CASES: [(&[Check], &str); 4] = [
        // ud2, and no handler for it
        (&[Check { name: "ud2", code: &[0x0f, 0x0b], right: |_| true }], "ud2 (triple fault)"),
        // mov rax, [rbp]
        (
            &[Check { name: "mov", code: &[0x48, 0x8b, 0x45, 0], right: |_| true }],
            "mov (stray access to memory (MMIO exit))",
        ),
        // out 0x80, al
        (
            &[Check { name: "out", code: &[0xe6, 0x80], right: |_| true }],
            "out (stray access to a port (I/O exit))",
        ),
        // xor eax, eax
        (&[Check { name: "xor", code: &[0x31, 0xc0], right: |r| r.rax == 1 }], "xor (wrong result)"),
    ];
    for (check, fault) in CASES {
        let seen = failures(check);
        assert!(seen.ends_with(fault), "{fault}: {seen}");
    }
}

#[test]
#[ignore = "needs /dev/kvm: scripts/test runs it"]
fn a_loop_that_leaves_iterations_out_is_broken() {
    // nop
    let Verdict::Broken { why } = verdict(&[0x90], NO_CHECK, PATIENCE * 10) else { panic!() };
    assert_eq!(why, "it can't do a loop (wrong result)");
}

#[test]
#[ignore = "needs /dev/kvm: scripts/test runs it"]
fn a_guest_has_the_cpuid_that_it_is_given_and_only_one_with_none_may_be_refused_long_mode() {
    // mov eax, 0x80000001; cpuid
    const LONG_MODE: Check = Check {
        name: "long mode in CPUID",
        code: &[0xb8, 0x01, 0x00, 0x00, 0x80, 0x0f, 0xa2],
        right: |r| r.rdx & 1 << 29 != 0,
    };
    // xor eax, eax; cpuid
    const VENDOR: Check =
        Check { name: "a vendor in CPUID", code: &[0x31, 0xc0, 0x0f, 0xa2], right: |r| r.rbx as u32 != 0 };
    for (cpuid, lacks) in [(Extent::Full, ""), (Extent::Reduced, VENDOR.name), (Extent::None, LONG_MODE.name)]
    {
        let plan = Plan { patience: PATIENCE * 10, counting: LOOP, checks: &[LONG_MODE, VENDOR], cpuid };
        match plan.carry_out() {
            // Kernels differ: 6.1 takes it, 6.8 does not.
            Verdict::Broken { why }
                if cpuid == Extent::None && why.starts_with("putting it into long mode") => {}
            Verdict::Hardware { .. } if cpuid == Extent::Full => {}
            Verdict::Emulated { failed, .. } => {
                assert_eq!(failed.first().map_or("", |fault| fault.what), lacks, "{cpuid:?}: {failed:?}");
            }
            Verdict::Broken { why } if cpuid != Extent::Full && why.contains(lacks) => {}
            other => panic!("{cpuid:?}: {other}"),
        }
    }
}
