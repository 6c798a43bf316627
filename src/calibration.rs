//! Calibrations on this host: [`drive`] runs the reference workloads, [`noise`] keeps the results of A/A runs.
//! `bootrace_analysis` defines the reference workloads and judges the results.

pub use bootrace_analysis::calibration::*;

use std::collections::BTreeSet;

use crate::{
    cause::Cause,
    daemon,
    kind::Kind,
    runner::left_over::{Found, Unseen},
    target::libvirt::Driver,
};

pub mod drive;
pub mod noise;
mod watched;

/// Records the left-overs of a calibration's instances and judges the calibration again.
pub fn record_left_overs(calibration: &mut Calibration, found: Found) {
    let measured: BTreeSet<Kind> = calibration.targets.iter().map(|target| target.kind).collect();
    let unseen = found.unseen.into_iter().filter(|unseen| matters(unseen, &measured));
    let left_over = found.left_overs.iter().map(ToString::to_string).collect();
    calibration.record_left_overs(left_over, unseen.map(|unseen| unseen.error.to_string()));
}

/// Whether an unread place counts. An engine that is absent, or of no use to bootrace, has no left-overs, unless this
/// calibration measured a kind of its daemon.
fn matters(unseen: &Unseen, measured: &BTreeSet<Kind>) -> bool {
    // Only this host's own libvirt is sure to have both VMs and containers.
    let one_daemon = |kind, other| {
        daemon::of(kind).is_some() && daemon::of(kind) == daemon::of(other) && Driver::Qemu.is_usual()
    };
    let was_measured = |kind| measured.iter().any(|other| kind == *other || one_daemon(kind, *other));
    let unused = matches!(unseen.error.cause, Cause::Unreachable | Cause::Unsupported);
    !unused || unseen.kind.is_none_or(was_measured)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::Error;

    #[test]
    fn an_engine_that_was_measured_and_is_gone_in_the_end_is_no_proof_that_nothing_is_left() {
        let matters_after = |measured, kind, cause| {
            let error = Error::new("connecting", "nobody listens").by(cause);
            matters(&Unseen { kind, error }, &BTreeSet::from([measured]))
        };
        let matters = |kind, cause| matters_after(Kind::Docker, kind, cause);
        assert!(
            matters(Some(Kind::Docker), Cause::Unreachable)
                && matters(None, Cause::Unreachable)
                && matters(Some(Kind::Libvirt), Cause::TimedOut)
        );
        for cause in [Cause::Unreachable, Cause::Unsupported] {
            assert!(!matters(Some(Kind::Libvirt), cause), "it was not measured");
        }
        assert!(
            matters_after(Kind::Lxc, Some(Kind::Libvirt), Cause::Unreachable),
            "one daemon has VMs and containers"
        );
    }
}
