//! `bootrace run`: from scenario to report.

use std::path::PathBuf;

use super::Failure;
use crate::sample::Results;

/// As given on the command line; `None` and empty: as the scenario says.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// Scenario files, or names of shipped scenarios.
    #[arg(value_name = "SCENARIO|NAME", default_value = "quickstart")]
    pub scenarios: Vec<String>,
    /// Only these targets of the scenario, by name.
    #[arg(long, value_delimiter = ',')]
    pub targets: Vec<String>,
    /// Measured rounds.
    #[arg(long)]
    pub samples: Option<u32>,
    /// Warm-up rounds before them, kept and marked.
    #[arg(long)]
    pub warmup: Option<u32>,
    /// Seed of the random order; none: a fresh one, recorded in the results.
    #[arg(long)]
    pub seed: Option<u64>,
    /// Where runs are written.
    #[arg(long, default_value = "reports")]
    pub out: PathBuf,
    /// No progress bar, no table.
    #[arg(long, short)]
    pub quiet: bool,
    /// Print results.json to standard output in place of the table.
    #[arg(long)]
    pub json: bool,
}

/// A run that came to its end, and where it was written.
#[derive(Debug)]
pub struct Finished {
    pub results: Results,
    pub dir: PathBuf,
}

/// Runs every scenario in turn and writes its results and report.
pub fn run(_options: &Options) -> Result<Vec<Finished>, Failure> {
    Err(Failure::Run(anyhow::anyhow!("not written yet")))
}
