//! KVM or emulation: as the scenario asks, and as the probe finds.

use tokio::task::spawn_blocking;

use super::Error;
use crate::{probe::kvm, sample::Accelerator, scenario::Accel};

/// The accelerator, why, and what makes its figures doubtful.
///
/// # Errors
/// When `accel = "kvm"` is asked for where there is no KVM.
pub async fn choose(asked: Accel) -> Result<(Accelerator, String, Option<String>), Error> {
    if asked == Accel::Tcg {
        return Ok((Accelerator::Tcg, "asked for by the scenario".into(), None));
    }
    let verdict = spawn_blocking(kvm::probe).await.map_err(|e| Error::new("probing KVM", e))?;
    decide(asked, &verdict)
}

fn decide(asked: Accel, verdict: &kvm::Verdict) -> Result<(Accelerator, String, Option<String>), Error> {
    match (asked, verdict) {
        (_, kvm::Verdict::Hardware { .. }) => Ok((Accelerator::Kvm, verdict.to_string(), None)),
        (Accel::Kvm, kvm::Verdict::Missing { .. }) => Err(Error::new(
            "using KVM as the scenario asks",
            format!("{verdict}. accel = \"auto\" would emulate"),
        )),
        (Accel::Kvm, _) => {
            let reason = format!("asked for by the scenario, in spite of the probe: {verdict}");
            let warning = format!(
                "uses KVM only because the scenario asks for it (accel = \"kvm\"): its VMs may die, and its figures \
                 say nothing about KVM on hardware. {verdict}"
            );
            Ok((Accelerator::Kvm, reason, Some(warning)))
        }
        _ => Ok((Accelerator::Tcg, verdict.to_string(), None)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kvm_that_is_asked_for_is_used_with_a_warning_unless_there_is_none() {
        let emulated = kvm::Verdict::Emulated { rate: 2e6, failed: Vec::new() };
        let broken = kvm::Verdict::Broken { why: "a loop: triple fault".into() };
        for verdict in [&emulated, &broken] {
            let (accelerator, reason, warning) = decide(Accel::Kvm, verdict).unwrap();
            assert_eq!(accelerator, Accelerator::Kvm);
            assert!(reason.contains(&verdict.to_string()) && warning.unwrap().contains(&verdict.to_string()));
            let (accelerator, reason, warning) = decide(Accel::Auto, verdict).unwrap();
            assert_eq!((accelerator, reason, warning), (Accelerator::Tcg, verdict.to_string(), None));
        }
        let missing = kvm::Verdict::Missing { why: "cannot open /dev/kvm: modprobe kvm_intel".into() };
        let error = decide(Accel::Kvm, &missing).unwrap_err().to_string();
        assert!(error.contains("modprobe kvm_intel") && error.contains("accel = \"auto\""), "{error}");
        assert_eq!(decide(Accel::Auto, &missing).unwrap().0, Accelerator::Tcg);
        let hardware = kvm::Verdict::Hardware { rate: 9e8 };
        let used = decide(Accel::Kvm, &hardware).unwrap();
        assert_eq!(used, (Accelerator::Kvm, hardware.to_string(), None));
    }
}
