//! The options of `bootrace ab`.

use crate::cli::{
    compare,
    options::{Rounds, Session},
};

pub const EXAMPLES: &str = "\
Examples:
  bootrace ab --base base/bench.toml --new head/bench.toml    two scenarios, measured by this bootrace
  bootrace ab --base main --new HEAD bench/startup.toml       two commits of your project, built first
  bootrace ab --base main --new rev:redis bench/startup.toml  a branch that has a scenario's name: rev:
  bootrace ab --base HEAD --new bench/startup.toml            the last commit and what you have built of your clone
  bootrace ab --base old/bootrace --new new/bootrace redis    two builds of bootrace, one scenario
  bootrace ab --base main --new HEAD benches/bootrace.toml    two commits of bootrace, in a clone of it

A revision is a commit of the clone that you are in. bootrace checks it out below its cache, takes the scenario at the
same path there, and runs the command of its [build] in the top folder, as the clone's owner where you use sudo:
  [build]
  command = [\"make\", \"image\"]             never given to a shell; its output is shown where it fails
  keep = \"target\"                         a folder that the clone's next build starts with
  program = \"target/release/bootrace\"     it makes a bootrace, which measures the revision; built once a commit
The checkouts are removed when the A/B has ended. Changes that you have not committed are in no revision.

The two samples of a pair follow each other directly, so that drift of the host affects both sides.
The result is in reports/ab-TIME-SEED: index.html, summary.md and comparison.json, and base and new, each a run with its
report; reports/latest is the newest. bootrace compare --help explains the verdicts.";

/// Options as on the command line; `None` and empty: the scenario decides.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// Present state: a scenario, an executable of bootrace, or a git revision of your clone.
    #[arg(long, value_name = "SCENARIO|BINARY|REV")]
    pub base: String,
    /// Its replacement, in the same forms.
    #[arg(long, value_name = "SCENARIO|BINARY|REV")]
    pub new: String,
    /// Scenario of sides that are an executable or a revision; for a revision, a file of the clone [default: the other
    /// side's; else quickstart for executables, and an error for revisions].
    #[arg(value_name = "SCENARIO")]
    pub scenario: Option<String>,
    #[command(flatten)]
    pub rounds: Rounds,
    #[command(flatten)]
    pub session: Session,
    #[command(flatten)]
    pub gate: compare::Gate,
    /// Print comparison.json instead of the table.
    #[arg(long)]
    pub json: bool,
}
