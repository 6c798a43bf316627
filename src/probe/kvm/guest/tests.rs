use kvm_bindings::KVM_EXIT_INTERNAL_ERROR;
use rustix::process::getppid;

use super::{
    Outcome::{Exit, Right, Wrong},
    *,
};
use crate::{
    probe::kvm::sandbox::tests::{again, job},
    sample::KvmDegree,
};

const NO_CHECK: &[Check] = &[];
const BARE: Processor = Processor { virtualises: true, is_guest: false, pvm: false };

/// Carries out each plan with a sandboxed child that is `test` once more: there this call examines the plan, and ends
/// the process.
fn carry_out<T: Fn()>(test: &T, plans: &[Plan]) -> Vec<KvmVerdict> {
    if let Some(job) = job() {
        sandbox::confine(getppid().unwrap()).unwrap();
        plans[job].examine(io::stdout()).unwrap();
        std::process::exit(0);
    }
    plans.iter().enumerate().map(|(job, plan)| plan.carry_out(again(test, job))).collect()
}

/// The failures of a working loop and one check, whether this host's KVM is hardware or not.
fn failures(verdict: &KvmVerdict) -> String {
    match verdict {
        KvmVerdict::Emulated { failed, .. } => list(failed),
        KvmVerdict::Broken { why } => why.clone(),
        other => format!("{other:?}"),
    }
}

/// A report as a guest would leave it, on a host that does 1e9 loops.
fn judged(rate: f64, outcomes: &[Outcome], end: &End) -> KvmVerdict {
    let report = Report {
        step: CHECKING + outcomes.len(),
        errno: None,
        rate,
        host_rate: 1e9,
        exit_ns: Some(1_500),
        counting: Right,
        exiting: Right,
        checks: outcomes.into(),
    };
    Plan { processor: BARE, ..Plan::new() }.judge(&report, end, "")
}

fn found(rate: f64) -> Findings {
    Findings { rate, host_rate: 1e9, exit: Some(Duration::from_nanos(1_500)), processor: BARE }
}

const GOOD: [Outcome; 5] = [Right; 5];

#[test]
fn linux_runs_where_all_is_right_however_fast_and_nowhere_else() {
    let runs = |degree, rate| KvmVerdict::Runs { degree, found: found(rate) };
    assert_eq!(judged(9e8, &GOOD, &End::Done), runs(KvmDegree::Hardware, 9e8));
    assert_eq!(judged(2e6, &GOOD, &End::Done), runs(KvmDegree::Emulated, 2e6));

    let mut bad = GOOD;
    bad[0] = Exit { reason: KVM_EXIT_INTERNAL_ERROR, detail: 1 };
    bad[3] = Wrong;
    let fault = |what, how: &str| Fault { what, how: how.into() };
    let failed =
        vec![fault("lock cmpxchg16b", "KVM internal error, suberror 1"), fault("invlpg", "wrong result")];
    assert_eq!(judged(2e6, &bad, &End::Done), KvmVerdict::Emulated { found: found(2e6), failed });
    let why = "9e8 loop iterations/s in a probe guest, 0.90 times the host's; an exit to KVM takes 1.5µs, and yet it \
               can't do lock cmpxchg16b (KVM internal error, suberror 1), invlpg (wrong result)"
        .into();
    assert_eq!(judged(9e8, &bad, &End::Done), KvmVerdict::Broken { why });
}

#[test]
fn a_guest_that_was_ended_is_named_by_where_it_was() {
    let spent = End::Spent { cpu: Duration::from_millis(2_001) };
    let failed = vec![Fault { what: "paddq (SSE2)", how: "not done after 2s of CPU time".to_owned() }];
    assert_eq!(judged(2e6, &GOOD[..1], &spent), KvmVerdict::Emulated { found: found(2e6), failed });
    let why = "it can't do lock cmpxchg16b (its process died: signal 7 ended it)".to_owned();
    assert_eq!(judged(0.0, &[], &End::Died("signal 7 ended it".into())), KvmVerdict::Broken { why });
}

/// On the host where this first occurred, the probe of a working KVM got 106 of 400 ms.
#[test]
fn a_busy_hosts_effect_on_a_guest_is_no_verdict_on_its_kvm() {
    let starved = End::Starved { wall: Duration::from_secs(15), cpu: Duration::from_millis(106) };
    for end in [&starved, &End::Killed, &End::NotStarted(io::Error::from_raw_os_error(libc::EAGAIN))] {
        for rate in [0.0, 2e6, 9e8] {
            let verdict = judged(rate, &GOOD[..1], end);
            assert!(matches!(verdict, KvmVerdict::Unknown { .. }), "{end:?}: {verdict:?}");
        }
    }
    let said = judged(9e8, &GOOD[..1], &starved).to_string();
    for part in ["not done with paddq (SSE2) in 15s", "106ms of CPU time", "too busy, or KVM hangs"] {
        assert!(said.contains(part), "{said}");
    }
    // Earlier failures still count.
    let verdict = judged(2e6, &[Wrong], &starved);
    assert!(matches!(verdict, KvmVerdict::Emulated { .. }), "{verdict:?}");
}

#[test]
fn a_hosts_temporary_shortage_is_no_verdict_on_its_kvm() {
    let of = |step, errno| {
        let report = Report { step, errno: Some(errno), ..Report::default() };
        Plan::new().judge(&report, &End::Done, "")
    };
    for errno in [libc::ENOMEM, libc::EAGAIN, libc::EMFILE, libc::ENFILE] {
        assert!(
            matches!(of(0, errno), KvmVerdict::Unknown { .. })
                && matches!(of(1, errno), KvmVerdict::Unknown { .. })
        );
    }
    assert!(matches!(of(1, libc::EBUSY), KvmVerdict::Broken { .. }));
    assert!(matches!(of(0, libc::ENOENT), KvmVerdict::Missing { cause: Cause::Unreachable, .. }));
    assert!(matches!(of(0, libc::EACCES), KvmVerdict::Missing { cause: Cause::Denied, .. }));
}

#[test]
fn a_child_that_is_no_probe_says_nothing_on_kvm() {
    for (script, why) in [
        ("exit 0", "the process of a probe guest ended at its start"),
        ("echo no library; exit 3", "at its start: it ended with exit code 3 (no library)"),
        ("echo '{\"step\":'; kill -KILL $$", "was killed at its start"),
    ] {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        let verdict = Plan::new().carry_out(command);
        assert!(matches!(&verdict, KvmVerdict::Unknown { why: said } if said.contains(why)), "{verdict:?}");
    }
}

#[test]
fn a_probe_that_stops_half_way_is_no_proof_that_kvm_works() {
    let report = Report { step: LEAVING, rate: 9e8, host_rate: 1e9, counting: Right, ..Report::default() };
    let verdict = Plan::new().judge(&report, &End::Done, "");
    let early = "can't do cpuid (its process ended early)";
    assert!(matches!(&verdict, KvmVerdict::Broken { why } if why.ends_with(early)), "{verdict:?}");
    let died = End::Died("it ended with exit code 101".into());
    let verdict = Plan::new().judge(&report, &died, "{}\npanicked at\n");
    let last = "(its process died: it ended with exit code 101 (panicked at))";
    assert!(matches!(&verdict, KvmVerdict::Broken { why } if why.ends_with(last)), "{verdict:?}");
}

#[test]
fn a_device_that_may_not_be_opened_and_one_that_is_not_there_have_their_own_fixes() {
    let say = |code| missing(&io::Error::from_raw_os_error(code)).to_string();
    assert!(say(libc::ENOENT).contains("modprobe kvm_intel"));
    assert!(say(libc::EACCES).contains("group kvm"));
}

#[test]
#[ignore = "needs /dev/kvm: scripts/test runs it"]
fn a_guest_runs_its_loop_to_the_end_and_all_of_several_at_once_say_the_same() {
    let probe = || {
        carry_out(&a_guest_runs_its_loop_to_the_end_and_all_of_several_at_once_say_the_same, &[Plan::new()])
    };
    if job().is_some() {
        probe();
    }
    let kinds: Vec<_> = std::thread::scope(|scope| {
        let all: Vec<_> = (0..4).map(|_| scope.spawn(probe)).collect();
        all.into_iter().flat_map(|one| one.join().unwrap()).collect()
    });
    for verdict in &kinds {
        let (KvmVerdict::Runs { found, .. } | KvmVerdict::Emulated { found, .. }) = verdict else {
            panic!("{verdict:?}")
        };
        assert!(found.rate > 1e3 && found.exit.is_some(), "{found:?}");
        assert!(found.host_rate > 1e5, "{found:?}");
        let degree = |verdict: &KvmVerdict| verdict.record().map(|kvm| kvm.degree);
        assert_eq!(degree(verdict), degree(&kinds[0]), "{kinds:?}");
    }
}

#[test]
#[ignore = "needs /dev/kvm: scripts/test runs it"]
fn a_guest_that_loops_for_ever_is_ended_and_named() {
    // 1: jmp 1b
    let patience = Patience { cpu: Duration::from_millis(200), ..PATIENCE };
    let plan = Plan { patience, counting: &[0xeb, 0xfe], checks: NO_CHECK, ..Plan::new() };
    let verdicts = carry_out(&a_guest_that_loops_for_ever_is_ended_and_named, &[plan]);
    let [KvmVerdict::Broken { why }] = &verdicts[..] else { panic!("{verdicts:?}") };
    assert!(why.starts_with("it can't do a loop (not done after 2"), "{why}");
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
    let plans = CASES.map(|(checks, _)| Plan { checks, ..Plan::new() });
    for (verdict, (_, fault)) in carry_out(&faults_of_a_guest_are_named, &plans).iter().zip(CASES) {
        let seen = failures(verdict);
        assert!(seen.ends_with(fault), "{fault}: {seen}");
    }
}

#[test]
#[ignore = "needs /dev/kvm: scripts/test runs it"]
fn a_loop_that_leaves_iterations_out_is_broken() {
    // nop
    let plan = Plan { counting: &[0x90], checks: NO_CHECK, ..Plan::new() };
    let why = "it can't do a loop (wrong result)".into();
    assert_eq!(
        carry_out(&a_loop_that_leaves_iterations_out_is_broken, &[plan]),
        [KvmVerdict::Broken { why }]
    );
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
    const CASES: [(Extent, &str); 3] =
        [(Extent::Full, ""), (Extent::Reduced, VENDOR.name), (Extent::None, LONG_MODE.name)];
    let plans = CASES.map(|(cpuid, _)| Plan { checks: &[LONG_MODE, VENDOR], cpuid, ..Plan::new() });
    let this = &a_guest_has_the_cpuid_that_it_is_given_and_only_one_with_none_may_be_refused_long_mode;
    for (verdict, (cpuid, lacks)) in carry_out(this, &plans).into_iter().zip(CASES) {
        match verdict {
            // Kernels differ: 6.1 takes it, 6.8 does not.
            KvmVerdict::Broken { why }
                if cpuid == Extent::None && why.starts_with("putting it into long mode") => {}
            KvmVerdict::Runs { .. } if cpuid == Extent::Full => {}
            KvmVerdict::Emulated { failed, .. } => {
                assert_eq!(failed.first().map_or("", |fault| fault.what), lacks, "{cpuid:?}: {failed:?}");
            }
            KvmVerdict::Broken { why } if cpuid != Extent::Full && why.contains(lacks) => {}
            other => panic!("{cpuid:?}: {other}"),
        }
    }
}
