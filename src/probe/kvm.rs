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
    /// Guests run at hardware speed.
    Hardware { rate: f64 },
    /// Guests run, but each instruction is emulated.
    Emulated { rate: f64 },
    /// There is no KVM for us to use.
    Missing { why: String },
    /// KVM is there and does not run a guest as it should.
    Broken { why: String },
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Verdict::Hardware { rate } => {
                write!(f, "KVM runs guests in hardware: {rate:.0e} loop iterations/s in a probe guest")
            }
            Verdict::Emulated { rate } => write!(
                f,
                "KVM is here but emulates each instruction: {rate:.0e} loop iterations/s in a probe guest, \
                 hardware does {HARDWARE_RATE:.0e} or more; use accel = \"tcg\", or a host with hardware \
                 or nested virtualisation"
            ),
            Verdict::Missing { why } => write!(f, "no KVM: {why}"),
            Verdict::Broken { why } => {
                write!(f, "KVM does not run a probe guest: {why}; use accel = \"tcg\"")
            }
        }
    }
}

impl Verdict {
    fn from_rate(rate: f64) -> Self {
        if rate >= HARDWARE_RATE { Verdict::Hardware { rate } } else { Verdict::Emulated { rate } }
    }
}

/// Runs a tiny guest and judges KVM by it. Takes well under a second, and 4 s if KVM hangs.
pub fn probe() -> Verdict {
    guest::probe()
}

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
    fn the_verdict_follows_the_rate() {
        assert_eq!(Verdict::from_rate(6e5), Verdict::Emulated { rate: 6e5 });
        assert_eq!(Verdict::from_rate(9e8), Verdict::Hardware { rate: 9e8 });
    }

    #[test]
    fn each_verdict_says_what_to_do() {
        let say = |verdict: Verdict| verdict.to_string();
        assert!(say(Verdict::Hardware { rate: 9.1e8 }).contains("9e8 loop iterations/s"));
        assert!(say(Verdict::Emulated { rate: 6.2e5 }).contains("6e5"));
        assert!(say(Verdict::Emulated { rate: 6.2e5 }).contains("use accel = \"tcg\""));
        assert!(say(Verdict::Broken { why: "exit: Shutdown".into() }).contains("exit: Shutdown; use accel"));
    }
}
