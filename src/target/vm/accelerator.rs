//! Chooses KVM or emulation, from the scenario and the probe's verdict.

use tokio::task::spawn_blocking;

use super::Error;
use crate::{
    cause::Cause,
    probe::kvm::{self, KvmVerdict},
    sample::{Accelerator, Kvm, KvmDegree},
    scenario::Accel,
};

/// The accelerator of a target's VMs.
#[derive(Debug, Clone, PartialEq)]
pub struct Choice {
    pub accelerator: Accelerator,
    /// The reason, for the report.
    pub reason: String,
    /// A caveat about this accelerator's figures.
    pub warning: Option<String>,
    /// The probe's findings about KVM; `None` if it was not probed.
    pub kvm: Option<Kvm>,
}

/// # Errors
/// When the scenario has `accel = "kvm"` and there is no KVM, or `"auto"` can't be decided.
pub async fn choose(asked: Accel) -> Result<Choice, Error> {
    if asked == Accel::Tcg {
        let reason = "asked for by the scenario".into();
        return Ok(Choice { accelerator: Accelerator::Tcg, reason, warning: None, kvm: None });
    }
    let verdict = spawn_blocking(kvm::probe).await.map_err(|e| Error::new("probing KVM", e))?;
    decide(asked, &verdict)
}

fn decide(asked: Accel, verdict: &KvmVerdict) -> Result<Choice, Error> {
    let chosen =
        |accelerator, reason, warning| Ok(Choice { accelerator, reason, warning, kvm: verdict.record() });
    match (asked, verdict) {
        (Accel::Kvm, KvmVerdict::Missing { cause: Cause::Unreachable, .. }) => Err(Error::new(
            "using KVM as the scenario asks",
            format!("{verdict}. accel = \"auto\" would emulate"),
        )),
        (_, KvmVerdict::Runs { degree, .. }) => {
            let emulated = *degree == KvmDegree::Emulated;
            let warning = emulated.then(|| format!("runs on KVM, and {}. {verdict}", degree.explanation()));
            chosen(Accelerator::Kvm, verdict.to_string(), warning)
        }
        (Accel::Kvm, _) => {
            let reason = format!("asked for by the scenario, in spite of the probe: {verdict}");
            let explanation =
                verdict.record().map_or("its VMs may not start", |kvm| kvm.degree.explanation());
            let warning = format!(
                "uses KVM only because the scenario asks for it (accel = \"kvm\"): {explanation}. {verdict}"
            );
            chosen(Accelerator::Kvm, reason, Some(warning))
        }
        // Emulated VMs would give results, and nobody would know that KVM may have been available.
        (_, KvmVerdict::Unknown { .. }) => Err(Error::new("choosing between KVM and emulation", verdict)),
        _ => chosen(Accelerator::Tcg, verdict.to_string(), None),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::probe::kvm::{Findings, Processor};

    fn found(rate: f64) -> Findings {
        let processor = Processor { virtualises: true, is_guest: true, pvm: false };
        Findings { rate, host_rate: 1e9, exit: Some(Duration::from_micros(20)), processor }
    }

    #[test]
    fn kvm_is_taken_wherever_linux_runs_and_its_degree_is_in_the_results() {
        use KvmDegree::{Emulated, Hardware, Nested, Paravirtual};
        for (degree, rate) in [(Hardware, 9e8), (Nested, 9e8), (Paravirtual, 9e8), (Emulated, 9e5)] {
            let verdict = KvmVerdict::Runs { degree, found: found(rate) };
            for asked in [Accel::Auto, Accel::Kvm] {
                let choice = decide(asked, &verdict).unwrap();
                assert_eq!((choice.accelerator, choice.reason), (Accelerator::Kvm, verdict.to_string()));
                let kvm = choice.kvm.unwrap();
                assert_eq!((kvm.degree, kvm.exit_ns), (degree, (degree != Emulated).then_some(20_000)));
                assert_eq!(choice.warning.is_some(), degree == Emulated, "{degree:?}");
            }
        }
    }

    #[test]
    fn kvm_that_is_asked_for_is_tried_with_a_warning_unless_there_is_no_device() {
        let why = || "cannot open /dev/kvm: modprobe kvm_intel".to_owned();
        let emulated = KvmVerdict::Emulated { found: found(2e6), failed: Vec::new() };
        let broken = KvmVerdict::Broken { why: "a loop: triple fault".into() };
        let closed = KvmVerdict::Missing { cause: Cause::Denied, why: why() };
        for verdict in [&emulated, &broken, &closed] {
            let choice = decide(Accel::Kvm, verdict).unwrap();
            assert_eq!(choice.accelerator, Accelerator::Kvm);
            assert!(choice.reason.contains(&verdict.to_string()));
            assert!(choice.warning.unwrap().contains(&verdict.to_string()));
            let choice = decide(Accel::Auto, verdict).unwrap();
            assert_eq!((choice.accelerator, choice.reason), (Accelerator::Tcg, verdict.to_string()));
            assert_eq!((choice.warning, choice.kvm), (None, verdict.record()));
        }
        let missing = KvmVerdict::Missing { cause: Cause::Unreachable, why: why() };
        let error = decide(Accel::Kvm, &missing).unwrap_err().to_string();
        assert!(error.contains("modprobe kvm_intel") && error.contains("accel = \"auto\""), "{error}");
        assert_eq!(decide(Accel::Auto, &missing).unwrap().accelerator, Accelerator::Tcg);
    }

    #[test]
    fn a_host_that_is_too_busy_to_tell_is_neither_a_yes_nor_a_no() {
        let verdict = KvmVerdict::Unknown { why: "106ms of CPU time".into() };
        let error = decide(Accel::Auto, &verdict).unwrap_err().to_string();
        for part in ["106ms of CPU time", "when this host is less busy", "accel = \"kvm\" or \"tcg\""] {
            assert!(error.contains(part), "{error}");
        }
        let choice = decide(Accel::Kvm, &verdict).unwrap();
        assert_eq!((choice.accelerator, choice.kvm), (Accelerator::Kvm, None));
    }
}
