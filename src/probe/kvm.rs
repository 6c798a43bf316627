//! Checks KVM with a small guest. The existence of `/dev/kvm` is not enough: some hosts offer it and then emulate each
//! instruction, a thousand times slower than hardware.

use std::{
    env,
    io::{self, Write},
    process::ExitCode,
};

use rustix::process::Pid;

/// How often the probe is tried on a host that is too busy.
const ATTEMPTS: usize = 3;

/// Runs a tiny guest and judges KVM by it. Takes some 30 ms, seconds of CPU time if KVM loops, and three quarters of
/// a minute at most if KVM hangs or this host is too busy. The guest runs in a sandboxed child, so it can't harm this
/// process. The child is this program, started again, whose `main` calls [`child`], or the one of [`use_program`].
pub fn probe() -> KvmVerdict {
    retry_unknown(guest::probe)
}

/// Lets this program be started again as the sandboxed child of [`probe`]. A `main` calls it before it reads its
/// arguments. In the child it runs the probe guest, writes what it found to standard output as JSON lines, and returns
/// the exit code to end with. In any other process it returns `None`.
pub fn child() -> Option<ExitCode> {
    // This is the same program even where its file has been deleted or replaced.
    use_program("/proc/self/exe");
    let mut arguments = env::args_os().skip(1);
    if arguments.next()? != CHILD {
        return None;
    }
    let parent = arguments.next().and_then(|pid| pid.to_str()?.parse().ok()).filter(|pid| *pid > 0);
    let ran = match parent.and_then(Pid::from_raw) {
        Some(parent) => guest::run(parent),
        None => Err(io::Error::other("only the KVM probe starts this, with its own pid as the argument")),
    };
    Some(match ran {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Not eprintln, which panics when standard error is gone.
            let _ = writeln!(io::stderr(), "{CHILD}: {error}");
            ExitCode::from(2)
        }
    })
}

fn retry_unknown(mut probe: impl FnMut() -> KvmVerdict) -> KvmVerdict {
    let reported = |verdict: &KvmVerdict| !matches!(verdict, KvmVerdict::Unknown { .. });
    (1..ATTEMPTS).map(|_| probe()).find(reported).unwrap_or_else(probe)
}

pub(crate) mod access;
mod program;
#[cfg(target_arch = "x86_64")]
mod sandbox;
mod verdict;

pub use access::{closed_to_qemu, qemu_users};
use program::CHILD;
pub use program::use_program;
pub use verdict::{Fault, Findings, KvmVerdict, Processor};

#[cfg(not(target_arch = "x86_64"))]
mod guest {
    use std::{env::consts::ARCH, io};

    use super::{KvmVerdict, Pid};
    use crate::cause::Cause;

    pub fn probe() -> KvmVerdict {
        let why = format!("the probe guest is for x86-64, this is {ARCH}");
        KvmVerdict::Missing { cause: Cause::Unsupported, why }
    }

    /// The sandboxed child on an architecture without a probe guest.
    ///
    /// # Errors
    /// Always: the probe guest is for x86-64.
    pub fn run(_parent: Pid) -> io::Result<()> {
        Err(io::Error::other(format!("the probe guest is for x86-64, this is {ARCH}")))
    }
}

#[cfg(target_arch = "x86_64")]
mod guest;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_busy_host_is_probed_again_and_the_last_verdict_counts() {
        let unknown = || KvmVerdict::Unknown { why: "busy".into() };
        let broken = || KvmVerdict::Broken { why: "a loop".into() };
        let mut answers = vec![broken(), unknown()];
        assert_eq!(retry_unknown(|| answers.pop().unwrap()), broken());
        let mut answers = vec![unknown(), broken()];
        assert_eq!(retry_unknown(|| answers.pop().unwrap()), broken());
        assert_eq!(answers.len(), 1, "a decided verdict is not probed again");
        let mut asked = 0;
        assert_eq!(retry_unknown(|| (asked += 1, unknown()).1), unknown());
        assert_eq!(asked, ATTEMPTS);
    }
}
