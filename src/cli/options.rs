//! Options that subcommands share, to flatten into theirs.

use std::{path::PathBuf, time::Duration};

use crate::{
    doctor,
    scenario::{self, Span},
};

const OUT: &str = "reports";

/// Replacements for a scenario's rounds. `None` and empty: the scenario decides.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Rounds {
    /// Run only these targets of the scenario, by name.
    #[arg(long, value_delimiter = ',', value_name = "A,B")]
    pub targets: Vec<String>,
    /// Number of measured rounds, of each side in an A/B; 0 measures the density alone (run only).
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=i64::from(*scenario::SAMPLES.end())))]
    pub samples: Option<u32>,
    /// Number of warm-up rounds: recorded, excluded from all statistics.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(i64::from(*scenario::WARMUP.start())..=i64::from(*scenario::WARMUP.end())))]
    pub warmup: Option<u32>,
}

/// Options of every command that measures.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Session {
    /// Seed of the random order [default: a new one, recorded in the results].
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// Write results and reports below this directory.
    #[arg(long, default_value = OUT, value_name = "DIR")]
    pub out: PathBuf,
    /// Set CPU governor, turbo, KSM and swappiness for steady figures, drop the page cache once, and restore the settings
    /// afterwards.
    #[arg(long)]
    pub tune: bool,
    /// Show no progress bar and no table.
    #[arg(long, short)]
    pub quiet: bool,
}

impl Session {
    /// Where results go without `--out`.
    pub fn default_out() -> PathBuf {
        OUT.into()
    }
}

/// Options of every command that only asks the engines.
#[derive(Debug, Clone, clap::Args)]
pub struct EngineQuery {
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
    /// Wait this long for each engine to answer [default: 30s, and longer on a busy host].
    #[arg(long, value_name = "TIME")]
    patience: Option<Span>,
}

impl EngineQuery {
    pub fn patience(&self) -> Duration {
        self.patience.as_ref().map_or_else(doctor::patience, |patience| patience.0)
    }
}
