//! The probe guest: a few pages of memory and one virtual processor in long mode, where every VM spends its
//! life and where no processor needs KVM's help. First a loop, for its rate; then what an emulator of
//! instructions that KVM falls back on doesn't know or gets wrong, though a kernel can't do without it.
//!
//! All that touches KVM runs in a [`sandbox`](super::sandbox), so it makes system calls only, and leaves its findings
//! in a [`Report`].

use std::{
    arch::x86_64::__cpuid,
    io,
    path::Path,
    sync::atomic::{AtomicI32, AtomicU32, AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use kvm_bindings::{
    KVM_EXIT_FAIL_ENTRY, KVM_EXIT_INTERNAL_ERROR, KVM_EXIT_IO, KVM_EXIT_MMIO, KVM_EXIT_SHUTDOWN, kvm_regs,
};

use super::{
    Fault, Findings, Processor, Verdict, list,
    sandbox::{self, End, Patience, Slate},
};

mod machine;

use machine::{Cpuid, Extent, Guest, Memory, ONE, TWO};

/// A hundred times what it takes where each instruction is emulated, and so for a processor that is itself emulated;
/// and time enough to get that beside others.
const PATIENCE: Patience = Patience { cpu: Duration::from_secs(2), wall: Duration::from_secs(15) };

/// The loop's first size; the next are what the rate seen does in [`LONG`], so that where entering a guest is
/// dear, as in nested ones, that is not the loop's.
const ITERATIONS: u64 = 10_000;
const LONG: Duration = Duration::from_millis(3);
const TRIES: u32 = 3;
/// How many exits a try has.
const EXITS: u64 = 50;

/// `1: dec rcx; jnz 1b`
const LOOP: &[u8] = &[0x48, 0xff, 0xc9, 0x75, 0xfb];

/// The same, here.
fn host_loop(iterations: u64) {
    // SAFETY: touches one register, which it owns.
    unsafe {
        std::arch::asm!(
            ".p2align 6", "2: dec {0}", "jnz 2b", inout(reg) iterations => _, options(nomem, nostack)
        );
    }
}

/// `mov r10, rcx; 1: xor eax, eax; cpuid; dec r10; jnz 1b`
const EXITING: &[u8] = &[0x49, 0x89, 0xca, 0x31, 0xc0, 0x0f, 0xa2, 0x49, 0xff, 0xca, 0x75, 0xf7];

/// A few instructions that start with rbx = [`ONE`], rcx = [`TWO`] and the registers that
/// [`Guest::run`] sets; and what the registers must then be.
struct Check {
    name: &'static str,
    code: &'static [u8],
    right: fn(&kvm_regs) -> bool,
}

const CHECKS: &[Check] = &[
    // xor eax, eax; xor edx, edx; lock cmpxchg16b [rsi]; mov rax, [rsi]; mov rdx, [rsi + 8]
    Check {
        name: "lock cmpxchg16b",
        code: &[
            0x31, 0xc0, 0x31, 0xd2, 0xf0, 0x48, 0x0f, 0xc7, 0x0e, 0x48, 0x8b, 0x06, 0x48, 0x8b, 0x56, 0x08,
        ],
        right: |r| (r.rax, r.rdx) == (ONE, TWO),
    },
    // movq xmm0, rbx; paddq xmm0, xmm0; movq rax, xmm0
    Check {
        name: "paddq (SSE2)",
        code: &[0x66, 0x48, 0x0f, 0x6e, 0xc3, 0x66, 0x0f, 0xd4, 0xc0, 0x66, 0x48, 0x0f, 0x7e, 0xc0],
        right: |r| r.rax == ONE.wrapping_add(ONE),
    },
    // fninit; fld1; fld1; faddp; fistp qword [rsi + 16]; mov rax, [rsi + 16]
    Check {
        name: "faddp (x87)",
        code: &[0xdb, 0xe3, 0xd9, 0xe8, 0xd9, 0xe8, 0xde, 0xc1, 0xdf, 0x7e, 0x10, 0x48, 0x8b, 0x46, 0x10],
        right: |r| r.rax == 2,
    },
    // mov rax, [rdi]; mov [r8], r9; invlpg [rdi]; mov rdx, [rdi]
    Check {
        name: "invlpg",
        code: &[0x48, 0x8b, 0x07, 0x4d, 0x89, 0x08, 0x0f, 0x01, 0x3f, 0x48, 0x8b, 0x17],
        right: |r| (r.rax, r.rdx) == (ONE, TWO),
    },
    // rdtsc; shl rdx, 32; lea rbx, [rax + rdx]; rdtsc; shl rdx, 32; add rax, rdx
    Check {
        name: "rdtsc",
        code: &[
            0x0f, 0x31, 0x48, 0xc1, 0xe2, 0x20, 0x48, 0x8d, 0x1c, 0x10, 0x0f, 0x31, 0x48, 0xc1, 0xe2, 0x20,
            0x48, 0x01, 0xd0,
        ],
        right: |r| r.rax >= r.rbx && r.rax > 0,
    },
];

/// What is run, so that tests can have guests that misbehave.
struct Plan {
    patience: Patience,
    counting: &'static [u8],
    checks: &'static [Check],
    cpuid: Extent,
    processor: Processor,
}

impl Plan {
    /// What the probe runs.
    fn new() -> Self {
        Plan {
            patience: PATIENCE,
            counting: LOOP,
            checks: CHECKS,
            cpuid: Extent::Full,
            processor: Processor::read(),
        }
    }
}

pub fn probe() -> Verdict {
    Plan::new().carry_out()
}

impl Processor {
    fn read() -> Self {
        let (basic, extended) = (__cpuid(1), __cpuid(0x8000_0001));
        let has = |register: u32, bit: u32| register & 1 << bit != 0;
        let loaded = |module: &str| Path::new("/sys/module").join(module).is_dir();
        Processor {
            virtualises: has(basic.ecx, 5) || has(extended.ecx, 2),
            is_guest: has(basic.ecx, 31),
            pvm: loaded("kvm_pvm") && !loaded("kvm_intel") && !loaded("kvm_amd"),
        }
    }
}

/// How far the probe has come: [`Report::step`].
const SETUP: [&str; 6] = [
    "opening /dev/kvm",
    "creating a VM",
    "giving it memory",
    "creating its vCPU",
    "giving it a CPUID",
    "putting it into long mode",
];
const LOOPING: u32 = SETUP.len() as u32;
const LEAVING: u32 = LOOPING + 1;
const CHECKING: u32 = LEAVING + 1;

const MOST_CHECKS: usize = 8;
const _: () = assert!(CHECKS.len() <= MOST_CHECKS);

/// What the sandboxed process has found.
struct Report {
    /// Below [`LOOPING`]: an index of [`SETUP`]; from [`CHECKING`]: of the checks, and beyond them when done.
    step: AtomicU32,
    /// Set when a step of the set-up failed.
    errno: AtomicI32,
    /// Best of the loops' rates, the bits of an f64: 0 until there is one.
    rate: AtomicU64,
    host_rate: AtomicU64,
    /// The shortest, in nanoseconds: 0 until there is one.
    exit: AtomicU64,
    counting: Outcome,
    exiting: Outcome,
    checks: [Outcome; MOST_CHECKS],
}

// SAFETY: atomics alone, for which zero is a value.
unsafe impl Slate for Report {}

/// How a guest's program ended, as numbers.
struct Outcome {
    /// [`UNTRIED`], [`RIGHT`], [`WRONG`], [`EXIT`] with KVM's reason and sub-reason, or [`ERROR`] with errno.
    how: AtomicU32,
    reason: AtomicU32,
    detail: AtomicU32,
}

const UNTRIED: u32 = 0;
const RIGHT: u32 = 1;
const WRONG: u32 = 2;
const EXIT: u32 = 3;
const ERROR: u32 = 4;

impl Outcome {
    fn set(&self, how: u32, reason: u32, detail: u32) {
        self.reason.store(reason, Relaxed);
        self.detail.store(detail, Relaxed);
        self.how.store(how, Relaxed);
    }

    /// What went wrong, if it was tried and anything did.
    fn fault(&self) -> Option<String> {
        let (reason, detail) = (self.reason.load(Relaxed), self.detail.load(Relaxed));
        match self.how.load(Relaxed) {
            UNTRIED | RIGHT => None,
            WRONG => Some("wrong result".into()),
            EXIT => Some(match reason {
                KVM_EXIT_INTERNAL_ERROR => format!("KVM internal error, suberror {detail}"),
                KVM_EXIT_SHUTDOWN => "triple fault".into(),
                KVM_EXIT_MMIO => "stray access to memory (MMIO exit)".into(),
                KVM_EXIT_IO => "stray access to a port (I/O exit)".into(),
                KVM_EXIT_FAIL_ENTRY => "the processor refused to enter the guest".into(),
                other => format!("KVM exit {other}"),
            }),
            _ => Some(format!("KVM_RUN: {}", io::Error::from_raw_os_error(reason as i32))),
        }
    }
}

/// The best rate of some loops, each as long as the ones before have shown to fit.
struct Rate<'a> {
    best: f64,
    iterations: u64,
    report: &'a AtomicU64,
}

impl<'a> Rate<'a> {
    fn new(report: &'a AtomicU64) -> Self {
        Rate { best: 0.0, iterations: ITERATIONS, report }
    }

    fn took(&mut self, time: Duration) {
        self.best = self.best.max(self.iterations as f64 / time.as_secs_f64().max(1e-9));
        self.report.store(self.best.to_bits(), Relaxed);
        self.iterations = ((self.best * LONG.as_secs_f64()) as u64).max(ITERATIONS);
    }
}

/// What leaving the guest and coming back takes, at best; none when the guest doesn't come to its end.
fn exit(guest: &mut Guest, report: &Report) -> Option<()> {
    let mut best = u64::MAX;
    for _ in 0..TRIES {
        let took = guest.run(EXITING, EXITS, &report.exiting, |r| r.r10 == 0)?;
        best = best.min((took.as_nanos() as u64 / EXITS).max(1));
        report.exit.store(best, Relaxed);
    }
    Some(())
}

impl Plan {
    fn carry_out(&self) -> Verdict {
        let (mut memory, mut cpuid) = (Box::new(Memory::new()), Cpuid::new());
        match sandbox::run(self.patience, |report: &Report| self.examine(&mut memory, &mut cpuid, report)) {
            Ok((report, end)) => self.judge(&report, &end),
            Err(error) => Verdict::Untold { why: format!("there is no memory for a probe guest: {error}") },
        }
    }

    /// In the sandboxed child.
    fn examine(&self, memory: &mut Memory, cpuid: &mut Cpuid, report: &Report) {
        let guest = Guest::new(memory, (cpuid, self.cpuid), |step| report.step.store(step, Relaxed));
        let mut guest = match guest {
            Ok(guest) => guest,
            Err(error) => return report.errno.store(error.errno(), Relaxed),
        };
        report.step.store(LOOPING, Relaxed);
        if self.count(&mut guest, report).is_none() {
            return;
        }
        report.step.store(LEAVING, Relaxed);
        if exit(&mut guest, report).is_none() && report.exiting.is_final() {
            return;
        }
        for (at, check) in self.checks.iter().enumerate() {
            report.step.store(CHECKING + at as u32, Relaxed);
            let outcome = &report.checks[at];
            if guest.run(check.code, TWO, outcome, check.right).is_none() && outcome.is_final() {
                return;
            }
        }
        report.step.store(CHECKING + self.checks.len() as u32, Relaxed);
    }

    /// The best rate of a few loops, here and in the guest in turn; none when the guest doesn't come to the loop's end.
    fn count(&self, guest: &mut Guest, report: &Report) -> Option<()> {
        let done = |r: &kvm_regs| r.rcx == 0;
        guest.run(self.counting, 1, &report.counting, done)?; // What a first entry costs is not the loop's.
        let (mut here, mut there) = (Rate::new(&report.host_rate), Rate::new(&report.rate));
        for _ in 0..TRIES {
            let start = machine::thread_time();
            host_loop(here.iterations);
            here.took(machine::thread_time().saturating_sub(start));
            there.took(guest.run(self.counting, there.iterations, &report.counting, done)?);
        }
        Some(())
    }

    fn judge(&self, report: &Report, end: &End) -> Verdict {
        let step = report.step.load(Relaxed);
        if let Some(errno) = Some(report.errno.load(Relaxed)).filter(|e| *e != 0) {
            let error = io::Error::from_raw_os_error(errno);
            let why = || format!("{}: {error}", SETUP[step as usize]);
            return match errno {
                // What this host lacks at the moment says nothing about its KVM.
                libc::ENOMEM | libc::EAGAIN | libc::EINTR | libc::EMFILE | libc::ENFILE => {
                    Verdict::Untold { why: why() }
                }
                _ if step == 0 => missing(&error),
                _ => Verdict::Broken { why: why() },
            };
        }
        let fault = |step, how| Fault { what: self.name_of(step), how };
        let outcomes = [&report.counting, &report.exiting].into_iter().chain(&report.checks).zip(LOOPING..);
        let mut failed: Vec<Fault> =
            outcomes.filter_map(|(outcome, step)| Some(fault(step, outcome.fault()?))).collect();
        match end {
            End::Done => {}
            // What has failed by then has failed.
            End::Starved { .. } | End::Killed if !failed.is_empty() => {}
            End::Starved { wall, cpu } => {
                let step = self.name_of(step);
                return Verdict::Untold {
                    why: format!(
                        "a probe guest was not done with {step} in {wall:?}, of which it had {cpu:.0?} of CPU time: this \
                         host is too busy, or KVM hangs"
                    ),
                };
            }
            End::Killed => {
                let why = format!(
                    "the process of a probe guest was killed at {}, as a host does that has no \
                                   memory left",
                    self.name_of(step)
                );
                return Verdict::Untold { why };
            }
            End::Spent { cpu } => failed.push(fault(step, format!("not done after {cpu:.0?} of CPU time"))),
            End::Died(how) => failed.push(fault(step, format!("its process died: {how}"))),
            End::NotStarted(error) => {
                return Verdict::Untold { why: format!("cannot make a process for a probe guest: {error}") };
            }
        }
        let rate = |bits: &AtomicU64| f64::from_bits(bits.load(Relaxed));
        let found = Findings {
            rate: rate(&report.rate),
            host_rate: rate(&report.host_rate),
            exit: Some(report.exit.load(Relaxed)).filter(|ns| *ns > 0).map(Duration::from_nanos),
            processor: self.processor,
        };
        match failed.is_empty() {
            true => Verdict::Runs { degree: found.degree(), found },
            false if found.rate > 0.0 && found.is_emulated() => Verdict::Emulated { found, failed },
            false if found.rate > 0.0 => {
                Verdict::Broken { why: format!("{found}, and yet it can't do {}", list(&failed)) }
            }
            false => Verdict::Broken { why: format!("it can't do {}", list(&failed)) },
        }
    }

    fn name_of(&self, step: u32) -> &'static str {
        match step {
            LOOPING => "a loop",
            LEAVING => "cpuid",
            _ if step < LOOPING => SETUP[step as usize],
            _ => self.checks.get((step - CHECKING) as usize).map_or("its end", |check| check.name),
        }
    }
}

impl Outcome {
    /// After an internal error the same vCPU runs something else; after other ends its state is unknown.
    fn is_final(&self) -> bool {
        let ended = (self.how.load(Relaxed), self.reason.load(Relaxed));
        !matches!(ended, (RIGHT | WRONG, _) | (EXIT, KVM_EXIT_INTERNAL_ERROR))
    }
}

fn missing(error: &io::Error) -> Verdict {
    let fix = match error.raw_os_error() {
        Some(libc::ENOENT) => {
            "modprobe kvm_intel or kvm_amd; switch on virtualisation in the firmware, or nested virtualisation in the hypervisor"
        }
        Some(libc::EACCES | libc::EPERM) => {
            "a run needs root: sudo bootrace run; for KVM alone, without bootrace, be in the group kvm, with /dev/kvm of \
             that group and mode 0660"
        }
        Some(libc::ENODEV | libc::ENXIO) => {
            "the device is there but its module is not: modprobe kvm_intel or kvm_amd"
        }
        _ => "see whether another hypervisor holds the processor",
    };
    let absent = error.raw_os_error() == Some(libc::ENOENT);
    Verdict::Missing { absent, why: format!("cannot open /dev/kvm: {error}: {fix}") }
}

#[cfg(test)]
mod tests;
