//! `bootrace doctor`: checks what a run needs on this host, and names fixes.

use std::fmt::Write;

use anstyle::Style;
use anyhow::Context;

use super::{BAD, Failure, GOOD, HEADING, WARNING, options::EngineQuery, print};
use crate::{
    doctor::{self, Ability, Check, Report, Status},
    report::clean,
    target::native,
};

pub const AFTER_HELP: &str = "\
Each check uses what it checks: it asks engines and starts an instance on each, mounts a root, runs a probe
guest on KVM, and opens files as QEMU's user. It changes no setting and removes what it makes.
It takes some seconds.

Examples:
  bootrace doctor
  bootrace doctor --json | jq '.checks[] | select(.status == \"failed\")'

Only scenarios that name them need podman and libvirt's LXC driver: the exit code does not depend on them.";

/// The longest finding that is shown, in characters.
const LONGEST_FINDING: usize = 1000;

#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    #[command(flatten)]
    pub asking: EngineQuery,
}

/// Makes all checks and prints them.
///
/// # Errors
/// [`Failure::Unfit`] when a target can't run.
pub fn run(options: &Options) -> Result<(), Failure> {
    // Before the runtime starts threads, so that all of them share the mount namespace of the trials.
    let isolated = native::isolate_mounts().map_err(|error| error.to_string());
    let runtime =
        tokio::runtime::Runtime::new().context("starting the async runtime").map_err(Failure::Run)?;
    let report = runtime.block_on(doctor::examine(isolated, options.asking.patience()));
    // Without waiting for a blocking call that hangs.
    runtime.shutdown_background();
    print(&if options.asking.json { json(&report) } else { text(&report) })?;
    if report.all_can_run() { Ok(()) } else { Err(Failure::Unfit) }
}

fn json(report: &Report) -> String {
    let json = serde_json::to_string_pretty(report).expect("all keys are strings");
    format!("{json}\n")
}

fn text(report: &Report) -> String {
    let mut text = String::new();
    let width = report.checks.iter().map(|check| check.title.chars().count()).max().unwrap_or(0);
    for Check { title, status, found, .. } in &report.checks {
        let (word, style) = word(*status);
        let found = clean(found, LONGEST_FINDING);
        let _ = writeln!(text, "{style}{word:9}{style:#}  {title:width$}  {found}");
    }
    let fixes = report.checks.iter().filter_map(|check| Some((check, check.fix.as_deref()?)));
    let fixes: Vec<_> = fixes.collect();
    if !fixes.is_empty() {
        let _ = writeln!(text, "\n{HEADING}Fixes{HEADING:#}");
        for (check, fix) in fixes {
            let style = word(check.status).1;
            let _ = writeln!(text, "  {style}{}{style:#}: {}", check.title, clean(fix, LONGEST_FINDING));
        }
    }
    text + "\n" + &abilities(&report.targets)
}

fn word(status: Status) -> (&'static str, Style) {
    match status {
        Status::Ok => ("ok", GOOD),
        Status::Warning => ("warning", WARNING),
        Status::Failed => ("failed", BAD),
        Status::NotChecked => ("unchecked", WARNING),
    }
}

/// Each kind of target: whether it can run, and how.
pub fn abilities(targets: &[Ability]) -> String {
    let mut text = format!("{HEADING}Targets{HEADING:#}\n");
    for Ability { kind, how, reason, .. } in targets {
        let reason = clean(reason, LONGEST_FINDING);
        let _ = match how {
            Some(how) => writeln!(text, "  {kind:7}  {GOOD}can run{GOOD:#} {how}: {reason}"),
            None => writeln!(text, "  {kind:7}  {BAD}can't run{BAD:#}: {reason}"),
        };
    }
    text
}
