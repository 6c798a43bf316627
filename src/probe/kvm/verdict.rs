//! The verdict on this host's KVM, and the measurements that it comes from.

use std::{fmt, time::Duration};

use crate::{
    cause::Cause,
    sample::{self, KvmDegree},
};

/// A guest's loop that is slower than this fraction of the host's own speed is emulated.
///
/// On hardware, nested or not, the same loop runs on the same processor and never leaves the guest: the ratio is near
/// one. An emulator takes hundreds of instructions for each one: 1/100 at best. It is a ratio, since a processor that
/// is itself emulated slows both down.
const AS_ON_THE_HOST: f64 = 0.1;

/// The result of running a guest.
#[derive(Debug, Clone, PartialEq)]
pub enum KvmVerdict {
    /// The guest did everything that a Linux kernel needs.
    Runs { degree: KvmDegree, found: Findings },
    /// Each instruction is emulated; `failed`: the instructions that fail even so, and how.
    Emulated { found: Findings, failed: Vec<Fault> },
    /// KVM is there but does not run a guest correctly.
    Broken { why: String },
    /// KVM can't be used; `Cause::Unreachable`: its device is missing.
    Missing { cause: Cause, why: String },
    /// Undecided: this host is too busy, or KVM hangs.
    Unknown { why: String },
}

/// Measurements of a guest.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Findings {
    /// Loop iterations per second, of the guest and of the host for the same loop.
    pub rate: f64,
    pub host_rate: f64,
    /// Duration of an exit: from the guest to KVM, for an instruction that only KVM can handle, and back.
    pub exit: Option<Duration>,
    pub processor: Processor,
}

impl Findings {
    pub(super) fn ratio(&self) -> f64 {
        self.rate / self.host_rate
    }

    pub(super) fn is_emulated(&self) -> bool {
        self.ratio() < AS_ON_THE_HOST
    }

    /// Duration of an exit; `None` if everything is emulated, since the guest then never runs on the processor.
    pub(super) fn leaving(&self) -> Option<Duration> {
        self.exit.filter(|_| !self.is_emulated())
    }

    /// The degree of a KVM that passed all checks.
    #[cfg(any(test, target_arch = "x86_64"))]
    pub(super) fn degree(&self) -> KvmDegree {
        match self.processor {
            _ if self.is_emulated() => KvmDegree::Emulated,
            Processor { virtualises: false, .. } | Processor { pvm: true, .. } => KvmDegree::Paravirtual,
            Processor { is_guest: true, .. } => KvmDegree::Nested,
            _ => KvmDegree::Hardware,
        }
    }
}

/// Properties of this host's processor that matter to KVM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Processor {
    /// It has VMX or SVM.
    pub virtualises: bool,
    /// The host is itself a hypervisor's guest.
    pub is_guest: bool,
    /// KVM's module for processors without VMX and SVM is loaded, and no module for those with them.
    pub pvm: bool,
}

impl KvmVerdict {
    /// Whether a Linux guest would run.
    pub fn runs_linux(&self) -> bool {
        matches!(self, KvmVerdict::Runs { .. })
    }

    /// The record for the results; `None` if there is no KVM or the probe is undecided.
    pub fn record(&self) -> Option<sample::Kvm> {
        let (degree, found) = match self {
            KvmVerdict::Runs { degree, found } => (*degree, Some(found)),
            KvmVerdict::Emulated { found, .. } => (KvmDegree::Emulated, Some(found)),
            KvmVerdict::Broken { .. } => (KvmDegree::Broken, None),
            KvmVerdict::Missing { .. } | KvmVerdict::Unknown { .. } => return None,
        };
        Some(sample::Kvm {
            degree,
            loop_ratio: found.map(Findings::ratio),
            exit_ns: found.and_then(Findings::leaving).map(|exit| exit.as_nanos() as u64),
        })
    }
}

/// An instruction that the guest could not execute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    pub what: &'static str,
    /// How it ended.
    pub how: String,
}

/// Formats faults, grouped by how they ended.
pub(super) fn list(faults: &[Fault]) -> String {
    let alike = faults.chunk_by(|a, b| a.how == b.how).map(|alike| {
        let names: Vec<_> = alike.iter().map(|fault| fault.what).collect();
        format!("{} ({})", names.join(", "), alike[0].how)
    });
    alike.collect::<Vec<_>>().join(", ")
}

impl fmt::Display for Findings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (rate, ratio) = (self.rate, self.ratio());
        write!(f, "{rate:.0e} loop iterations/s in a probe guest, ")?;
        match self.is_emulated() {
            true => write!(f, "1/{:.0} of the host's", 1.0 / ratio)?,
            false => write!(f, "{ratio:.2} times the host's")?,
        }
        match self.leaving() {
            Some(exit) => write!(f, "; an exit to KVM takes {exit:.1?}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for KvmVerdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KvmVerdict::Runs { degree, found } => {
                let how = match degree {
                    KvmDegree::Hardware => "runs guests in hardware",
                    KvmDegree::Nested => "runs guests in hardware, nested in a hypervisor's guest",
                    KvmDegree::Paravirtual => "runs guests para-virtualised, without VMX or SVM",
                    _ => "emulates each instruction, and runs a probe guest all the same",
                };
                write!(f, "KVM {how}: {found}")
            }
            KvmVerdict::Emulated { found, failed } => {
                write!(f, "KVM is here but emulates each instruction: {found}; ")?;
                if !failed.is_empty() {
                    write!(f, "it can't do {}; ", list(failed))?;
                }
                if !found.processor.virtualises {
                    write!(f, "the processor has neither VMX nor SVM; ")?;
                }
                if found.processor.pvm {
                    write!(f, "the module kvm_pvm runs kernels that are made for it; ")?;
                }
                write!(f, "use accel = \"tcg\", or a host with hardware or nested virtualisation")
            }
            KvmVerdict::Missing { why, .. } => write!(f, "no KVM: {why}"),
            KvmVerdict::Broken { why } => {
                write!(f, "KVM does not run a probe guest: {why}; use accel = \"tcg\"")
            }
            KvmVerdict::Unknown { why } => write!(
                f,
                "whether KVM works is unknown: {why}; try again when this host is less busy, or choose \
                 accel = \"kvm\" or \"tcg\""
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BARE: Processor = Processor { virtualises: true, is_guest: false, pvm: false };

    fn found(rate: f64, processor: Processor) -> Findings {
        Findings { rate, host_rate: 1e9, exit: Some(Duration::from_nanos(1_234)), processor }
    }

    #[test]
    fn each_verdict_has_its_finding_and_a_fix() {
        let say = |verdict: KvmVerdict| verdict.to_string();
        let hardware = say(KvmVerdict::Runs { degree: KvmDegree::Hardware, found: found(9.1e8, BARE) });
        let seen =
            "9e8 loop iterations/s in a probe guest, 0.91 times the host's; an exit to KVM takes 1.2µs";
        assert!(hardware.ends_with(seen), "{hardware}");
        let fault = |what, how: &str| Fault { what, how: how.into() };
        let emulated = |failed: &[Fault], processor| {
            say(KvmVerdict::Emulated { found: found(6.2e5, processor), failed: failed.to_vec() })
        };
        let failed = [fault("a", "triple fault"), fault("b", "triple fault"), fault("c", "wrong result")];
        let said = emulated(&failed, BARE);
        for part in ["6e5", "it can't do a, b (triple fault), c (wrong result); use accel = \"tcg\""] {
            assert!(said.contains(part), "{said}");
        }
        let pvm = emulated(&failed, Processor { virtualises: false, is_guest: true, pvm: true });
        assert!(pvm.contains("neither VMX nor SVM; the module kvm_pvm") && !pvm.contains("exit"), "{pvm}");
        assert!(
            say(KvmVerdict::Broken { why: "exit: Shutdown".into() }).contains("exit: Shutdown; use accel")
        );
    }

    #[test]
    fn the_degree_follows_from_the_ratio_to_the_host_and_the_processors_features() {
        let guest = Processor { is_guest: true, ..BARE };
        for (rate, processor, degree) in [
            (9e8, BARE, KvmDegree::Hardware),
            (9e8, guest, KvmDegree::Nested),
            (9e8, Processor { virtualises: false, ..guest }, KvmDegree::Paravirtual),
            (9e8, Processor { pvm: true, ..BARE }, KvmDegree::Paravirtual),
            (9e6, BARE, KvmDegree::Emulated),
            (9e6, guest, KvmDegree::Emulated),
        ] {
            assert_eq!(found(rate, processor).degree(), degree, "{rate:e} {processor:?}");
        }
        // A processor that is itself emulated is slow at both loops.
        let slow = Findings { rate: 1.9e6, host_rate: 2e6, ..found(0.0, BARE) };
        assert_eq!(slow.degree(), KvmDegree::Hardware);
    }
}
