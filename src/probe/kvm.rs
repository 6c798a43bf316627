//! Is KVM really there? Asked of a guest, not of a file's existence: some hosts offer `/dev/kvm` and
//! then emulate each instruction, a thousand times slower than hardware.

use std::fmt;

/// Above this many loop iterations a second a guest runs on hardware.
///
/// One iteration is two instructions. The slowest processor with virtualisation does 5e8/s or more,
/// and a nested guest the same, since the loop never leaves the guest; whatever has to step in for
/// each instruction takes 100 ns or more for it: 5e6/s at the very best. This is ten times away from both.
const HARDWARE_RATE: f64 = 5e7;

/// What came of running a guest. Rates are loop iterations per second.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// Guests run at hardware speed, and do all that hardware does.
    Hardware { rate: f64 },
    /// Guests run, but each instruction is emulated; `failed`: those that were not even that, and how.
    Emulated { rate: f64, failed: Vec<Fault> },
    /// There is no KVM for us to use.
    Missing { why: String },
    /// KVM is there and does not run a guest as it should.
    Broken { why: String },
}

/// Something that a guest could not do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    pub what: &'static str,
    /// How it ended.
    pub how: String,
}

/// Faults in words, those that ended alike together.
fn list(faults: &[Fault]) -> String {
    let alike = faults.chunk_by(|a, b| a.how == b.how).map(|alike| {
        let names: Vec<_> = alike.iter().map(|fault| fault.what).collect();
        format!("{} ({})", names.join(", "), alike[0].how)
    });
    alike.collect::<Vec<_>>().join(", ")
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Verdict::Hardware { rate } => {
                write!(f, "KVM runs guests in hardware: {rate:.0e} loop iterations/s in a probe guest")
            }
            Verdict::Emulated { rate, failed } => {
                write!(
                    f,
                    "KVM is here but emulates each instruction: {rate:.0e} loop iterations/s in a probe guest, \
                     hardware does {HARDWARE_RATE:.0e} or more; "
                )?;
                if !failed.is_empty() {
                    write!(f, "it can't do {}; ", list(failed))?;
                }
                write!(f, "use accel = \"tcg\", or a host with hardware or nested virtualisation")
            }
            Verdict::Missing { why } => write!(f, "no KVM: {why}"),
            Verdict::Broken { why } => {
                write!(f, "KVM does not run a probe guest: {why}; use accel = \"tcg\"")
            }
        }
    }
}

/// Runs a tiny guest and judges KVM by it. Takes some 20 ms, and half a second if KVM hangs; the guest lives in
/// a process of its own, so neither can it harm the caller.
pub fn probe() -> Verdict {
    guest::probe()
}

mod access;
#[cfg(target_arch = "x86_64")]
mod cage;

pub use access::{closed_to_qemu, qemu_users};

#[cfg(not(target_arch = "x86_64"))]
mod guest {
    use super::Verdict;

    pub fn probe() -> Verdict {
        Verdict::Missing { why: format!("the probe guest is for x86-64, this is {}", std::env::consts::ARCH) }
    }
}

#[cfg(target_arch = "x86_64")]
mod guest;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_verdict_says_what_was_seen_and_what_to_do() {
        let say = |verdict: Verdict| verdict.to_string();
        assert!(say(Verdict::Hardware { rate: 9.1e8 }).contains("9e8 loop iterations/s"));
        let fault = |what, how: &str| Fault { what, how: how.into() };
        let emulated = |failed: &[Fault]| say(Verdict::Emulated { rate: 6.2e5, failed: failed.to_vec() });
        let failed = [fault("a", "triple fault"), fault("b", "triple fault"), fault("c", "wrong result")];
        for part in ["6e5", "it can't do a, b (triple fault), c (wrong result); ", "use accel = \"tcg\""] {
            assert!(emulated(&failed).contains(part), "{}", emulated(&failed));
        }
        assert!(emulated(&[]).contains("or more; use accel"));
        assert!(say(Verdict::Broken { why: "exit: Shutdown".into() }).contains("exit: Shutdown; use accel"));
    }
}
