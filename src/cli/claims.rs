//! The exit code for judged claims.

use super::Failure;
use crate::{
    analysis::{self, ClaimVerdict},
    report,
    sample::Results,
};

/// Which claims decide the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum FailOn {
    /// A refuted claim: 3.
    #[default]
    Refuted,
    /// A refuted claim: 3; else an undecided one: 4.
    Undecided,
    /// No claim.
    Never,
}

/// # Errors
/// As `fail_on` says: [`Failure::Refuted`] when any run has a refuted claim, else [`Failure::Undecided`] when any has
/// an undecided one.
pub(super) fn hold<'a>(runs: impl Iterator<Item = &'a Results>, fail_on: FailOn) -> Result<(), Failure> {
    if fail_on == FailOn::Never {
        return Ok(());
    }
    let (mut refuted, mut undecided) = (Vec::new(), Vec::new());
    for results in runs {
        let analysis = analysis::analyse(results);
        for claim in &analysis.claims {
            let list = match claim.verdict {
                ClaimVerdict::Supported => continue,
                ClaimVerdict::Refuted => &mut refuted,
                ClaimVerdict::Undecided => &mut undecided,
            };
            let (about, finding) =
                (report::claims::about(claim, &analysis), report::claims::finding(claim, &analysis));
            list.push(format!("{}: {} ({about}: {finding})", claim.verdict.word(), claim.says));
        }
    }
    if !refuted.is_empty() {
        return Err(Failure::Refuted(refuted.join("\n")));
    }
    match fail_on {
        FailOn::Undecided if !undecided.is_empty() => Err(Failure::Undecided(undecided.join("\n"))),
        _ => Ok(()),
    }
}
