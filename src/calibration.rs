//! Calibrations on this host: [`drive`] runs the reference workloads, [`noise`] keeps the results of A/A runs.
//! `bootrace_analysis` defines the reference workloads and judges the results.

pub use bootrace_analysis::calibration::*;

use std::collections::BTreeSet;

use crate::{
    kind::Kind,
    runner::left_over::{Found, Unseen},
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

/// Whether an unread place counts. An absent engine has no left-overs, unless this calibration measured it.
fn matters(unseen: &Unseen, measured: &BTreeSet<Kind>) -> bool {
    !unseen.error.is_unreachable() || unseen.kind.is_none_or(|kind| measured.contains(&kind))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{cause::Cause, target::Error};

    #[test]
    fn an_engine_that_was_measured_and_is_gone_in_the_end_is_no_proof_that_nothing_is_left() {
        let measured = BTreeSet::from([Kind::Docker]);
        let matters = |kind, cause| {
            let error = Error::new("connecting", "nobody listens").by(cause);
            matters(&Unseen { kind, error }, &measured)
        };
        assert!(
            matters(Some(Kind::Docker), Cause::Unreachable)
                && matters(None, Cause::Unreachable)
                && matters(Some(Kind::Libvirt), Cause::TimedOut)
        );
        assert!(!matters(Some(Kind::Libvirt), Cause::Unreachable), "it was not measured");
    }
}
