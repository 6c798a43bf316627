//! `bootrace report`: renders runs again from their results.json.

use std::path::PathBuf;

use super::{Failure, print};
use crate::{analysis::analyse, report};

#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// Directories of runs, each with its results.json.
    #[arg(value_name = "RUN_DIR", required = true)]
    pub runs: Vec<PathBuf>,
    /// Write the files, print no table.
    #[arg(long, short)]
    pub quiet: bool,
}

/// Renders each run in its own directory; results.json stays as it is. All are read before any is
/// written, so that one that can't be read stops the command with nothing done.
pub fn run(options: &Options) -> Result<(), Failure> {
    let usage = |e: report::Error| Failure::Usage(e.into());
    let runs = options.runs.iter().map(|dir| Ok((dir, report::load(dir).map_err(usage)?)));
    for (dir, results) in runs.collect::<Result<Vec<_>, Failure>>()? {
        // A results.json may be named itself.
        let dir = if dir.is_dir() { dir.as_path() } else { dir.parent().unwrap_or(dir) };
        report::render(&results, dir).map_err(|e| Failure::Run(e.into()))?;
        if !options.quiet {
            // anstream takes the colours out where the terminal or NO_COLOR wants none.
            print(&(report::table(&results, &analyse(&results), true) + "\n"))?;
            print(&format!("report: {}\n", dir.join("index.html").display()))?;
        }
    }
    Ok(())
}
