//! The probe guest: a few pages of memory and one virtual processor in long mode, in which VMs run and hardware needs
//! no help of KVM. First it measures the rate of a loop. Then it checks instructions that a kernel needs but KVM's
//! own emulator lacks or gets wrong.
//!
//! All that touches KVM runs in a [sandboxed child](super::sandbox). The child writes a [`Report`] before each step and
//! after each result, as JSON, a line each; the last line counts. So the parent knows what the child found, and where
//! it was, however it ends.

use std::{
    arch::x86_64::__cpuid,
    io::{self, Write},
    path::Path,
    process::Command,
    time::Duration,
};

use kvm_bindings::kvm_regs;
use rustix::process::{Pid, getpid};
use serde::{Deserialize, Serialize};

use super::{
    Fault, Findings, KvmVerdict, Processor,
    program::{CHILD, PROGRAM},
    sandbox::{self, End, Patience},
    verdict::list,
};

mod machine;
mod outcome;

use machine::{Extent, Guest, Memory, ONE, TWO};
use outcome::Outcome;

use crate::cause::Cause;

/// A hundred times the CPU time that the probe takes if each instruction is emulated, also on a processor that is
/// itself emulated, and enough wall time to get it on a busy host.
const PATIENCE: Patience = Patience { cpu: Duration::from_secs(2), wall: Duration::from_secs(15) };

/// The loop's first size. The next ones take [`LONG`] at the observed rate, so that expensive entries, as in nested
/// guests, don't count for the loop.
const ITERATIONS: u64 = 10_000;
const LONG: Duration = Duration::from_millis(3);
const TRIES: u32 = 3;
/// Number of exits per attempt.
const EXITS: u64 = 50;

/// `1: dec rcx; jnz 1b`
const LOOP: &[u8] = &[0x48, 0xff, 0xc9, 0x75, 0xfb];

/// The same loop on the host.
#[expect(unsafe_code, reason = "the guest's instructions, on the host")]
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

/// A few instructions that start with rbx = [`ONE`], rcx = [`TWO`] and the registers that [`Guest::run`] sets, and the
/// registers that must result.
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

/// The programs to run; tests use guests that misbehave.
struct Plan {
    patience: Patience,
    counting: &'static [u8],
    checks: &'static [Check],
    cpuid: Extent,
    processor: Processor,
}

impl Plan {
    /// The probe's own programs.
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

pub fn probe() -> KvmVerdict {
    let Some(program) = PROGRAM.get() else {
        let why = "this program can't start a sandboxed child: its main must call probe::kvm::child";
        return KvmVerdict::Unknown { why: why.into() };
    };
    let mut command = Command::new(program);
    command.arg(CHILD).arg(getpid().to_string());
    Plan::new().carry_out(command)
}

/// The sandboxed child of [`probe`] in `parent`.
///
/// # Errors
/// When the sandbox can't be set up or the answer can't be written.
pub fn run(parent: Pid) -> io::Result<()> {
    sandbox::confine(parent)?;
    Plan::new().examine(io::stdout().lock())
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
const LOOPING: usize = SETUP.len();
const LEAVING: usize = LOOPING + 1;
const CHECKING: usize = LEAVING + 1;

/// The findings of the sandboxed child.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Report {
    /// Below [`LOOPING`]: an index of [`SETUP`]; from [`CHECKING`]: of the checks, and beyond them when done.
    step: usize,
    /// The errno of a failed set-up step.
    errno: Option<i32>,
    /// The best of the loops' rates, in iterations per second.
    rate: f64,
    host_rate: f64,
    /// The shortest exit, in nanoseconds.
    exit_ns: Option<u64>,
    counting: Outcome,
    exiting: Outcome,
    checks: Vec<Outcome>,
}

/// Writes the report whenever it changes.
struct Journal<W> {
    report: Report,
    out: W,
    /// Why the report could not be written.
    failed: Option<io::Error>,
}

impl<W: Write> Journal<W> {
    fn note(&mut self, change: impl FnOnce(&mut Report)) {
        change(&mut self.report);
        let line = serde_json::to_string(&self.report).map_err(io::Error::from);
        let wrote = line.and_then(|line| self.out.write_all(format!("{line}\n").as_bytes()));
        if let Err(error) = wrote.and_then(|()| self.out.flush()) {
            self.failed.get_or_insert(error);
        }
    }
}

/// The best rate of several loops, each sized by the rate of the earlier ones.
struct Rate {
    best: f64,
    iterations: u64,
}

impl Rate {
    fn new() -> Self {
        Rate { best: 0.0, iterations: ITERATIONS }
    }

    fn took(&mut self, time: Duration) {
        self.best = self.best.max(self.iterations as f64 / time.as_secs_f64().max(1e-9));
        self.iterations = ((self.best * LONG.as_secs_f64()) as u64).max(ITERATIONS);
    }
}

/// The shortest time of leaving the guest and coming back.
fn exit(guest: &mut Guest, journal: &mut Journal<impl Write>) -> Result<(), Outcome> {
    let mut best = u64::MAX;
    for _ in 0..TRIES {
        let took = guest.run(EXITING, EXITS, |r| r.r10 == 0)?;
        best = best.min((took.as_nanos() as u64 / EXITS).max(1));
        journal.note(|report| report.exit_ns = Some(best));
    }
    Ok(())
}

impl Plan {
    /// Runs the plan in the sandboxed child that `command` starts.
    fn carry_out(&self, command: Command) -> KvmVerdict {
        let (said, end) = sandbox::run(command, self.patience);
        let mut reports = said.lines().filter_map(|line| serde_json::from_str(line).ok());
        match reports.next_back() {
            Some(report) => self.judge(&report, &end, &said),
            // It says nothing about KVM.
            None => unknown(&end, "its start", &said),
        }
    }

    /// Runs the plan, in the sandboxed child.
    ///
    /// # Errors
    /// When the report can't be written.
    fn examine(&self, out: impl Write) -> io::Result<()> {
        let mut journal = Journal { report: Report::default(), out, failed: None };
        let mut memory = Box::new(Memory::new());
        match Guest::new(&mut memory, self.cpuid, |step| journal.note(|report| report.step = step)) {
            Ok(mut guest) => self.try_out(&mut guest, &mut journal),
            Err(error) => journal.note(|report| report.errno = Some(error.errno())),
        }
        journal.failed.map_or(Ok(()), Err)
    }

    fn try_out(&self, guest: &mut Guest, journal: &mut Journal<impl Write>) {
        journal.note(|report| report.step = LOOPING);
        let counted = self.count(guest, journal);
        journal.note(|report| report.counting = Outcome::of(&counted));
        if counted.is_err() {
            return;
        }
        journal.note(|report| report.step = LEAVING);
        let exited = Outcome::of(&exit(guest, journal));
        journal.note(|report| report.exiting = exited);
        if exited.is_final() {
            return;
        }
        for (at, check) in self.checks.iter().enumerate() {
            journal.note(|report| report.step = CHECKING + at);
            let outcome = Outcome::of(&guest.run(check.code, TWO, check.right));
            journal.note(|report| report.checks.push(outcome));
            if outcome.is_final() {
                return;
            }
        }
        journal.note(|report| report.step = CHECKING + self.checks.len());
    }

    /// The best rate of a few loops, alternately on the host and in the guest.
    fn count(&self, guest: &mut Guest, journal: &mut Journal<impl Write>) -> Result<(), Outcome> {
        let done = |r: &kvm_regs| r.rcx == 0;
        guest.run(self.counting, 1, done)?; // Excludes the cost of the first entry.
        let (mut here, mut there) = (Rate::new(), Rate::new());
        for _ in 0..TRIES {
            let start = machine::thread_time();
            host_loop(here.iterations);
            here.took(machine::thread_time().saturating_sub(start));
            there.took(guest.run(self.counting, there.iterations, done)?);
            journal.note(|report| (report.host_rate, report.rate) = (here.best, there.best));
        }
        Ok(())
    }

    fn judge(&self, report: &Report, end: &End, said: &str) -> KvmVerdict {
        let step = report.step;
        if let Some(errno) = report.errno {
            let error = io::Error::from_raw_os_error(errno);
            let why = || format!("{}: {error}", self.name_of(step));
            return match errno {
                // A temporary shortage on this host says nothing about its KVM.
                libc::ENOMEM | libc::EAGAIN | libc::EINTR | libc::EMFILE | libc::ENFILE => {
                    KvmVerdict::Unknown { why: why() }
                }
                _ if step == 0 => missing(&error),
                _ => KvmVerdict::Broken { why: why() },
            };
        }
        let fault = |step, how| Fault { what: self.name_of(step), how };
        let outcomes = [report.counting, report.exiting].into_iter().chain(report.checks.iter().copied());
        let mut failed: Vec<Fault> = outcomes
            .zip(LOOPING..)
            .filter_map(|(outcome, step)| Some(fault(step, outcome.fault()?)))
            .collect();
        match end {
            End::Done if failed.is_empty() && step < CHECKING + self.checks.len() => {
                failed.push(fault(step, "its process ended early".into()));
            }
            End::Done => {}
            // The earlier failures still count.
            End::Starved { .. } | End::Killed if !failed.is_empty() => {}
            End::Spent { cpu } => failed.push(fault(step, format!("not done after {cpu:.0?} of CPU time"))),
            End::Died(how) => {
                failed.push(fault(step, format!("its process died: {how}{}", last_words(said))));
            }
            End::Starved { .. } | End::Killed | End::NotStarted(_) => {
                return unknown(end, self.name_of(step), said);
            }
        }
        let found = Findings {
            rate: report.rate,
            host_rate: report.host_rate,
            exit: report.exit_ns.map(Duration::from_nanos),
            processor: self.processor,
        };
        match failed.is_empty() {
            true => KvmVerdict::Runs { degree: found.degree(), found },
            false if found.rate > 0.0 && found.is_emulated() => KvmVerdict::Emulated { found, failed },
            false if found.rate > 0.0 => {
                KvmVerdict::Broken { why: format!("{found}, and yet it can't do {}", list(&failed)) }
            }
            false => KvmVerdict::Broken { why: format!("it can't do {}", list(&failed)) },
        }
    }

    fn name_of(&self, step: usize) -> &'static str {
        match step {
            LOOPING => "a loop",
            LEAVING => "cpuid",
            _ if step < LOOPING => SETUP[step],
            _ => self.checks.get(step - CHECKING).map_or("its end", |check| check.name),
        }
    }
}

/// The verdict on a child that ended at `step` without a finding about KVM.
fn unknown(end: &End, step: &str, said: &str) -> KvmVerdict {
    let said = last_words(said);
    let why = match end {
        End::Starved { wall, cpu } => format!(
            "a probe guest was not done with {step} in {wall:?}, of which it had {cpu:.0?} of CPU time: this host is too \
             busy, or KVM hangs"
        ),
        End::Killed => {
            format!(
                "the process of a probe guest was killed at {step}, as a host does that has no memory left"
            )
        }
        End::NotStarted(error) => format!("cannot start a process for a probe guest: {error}"),
        End::Died(how) => format!("the process of a probe guest died at {step}: {how}{said}"),
        End::Spent { cpu } => {
            format!("a probe guest was not done with {step} after {cpu:.0?} of CPU time{said}")
        }
        End::Done => format!("the process of a probe guest ended at {step}{said}"),
    };
    KvmVerdict::Unknown { why }
}

/// The last line of a child's output that is no report, such as a panic's or the dynamic linker's.
fn last_words(said: &str) -> String {
    const LONGEST: usize = 200;
    let words = said.lines().rfind(|line| !line.trim().is_empty() && !line.starts_with('{'));
    words.map_or_else(String::new, |line| format!(" ({})", line.chars().take(LONGEST).collect::<String>()))
}

fn missing(error: &io::Error) -> KvmVerdict {
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
    let cause = Cause::of_reaching(error);
    KvmVerdict::Missing { cause, why: format!("cannot open /dev/kvm: {error}: {fix}") }
}

#[cfg(test)]
mod tests;
