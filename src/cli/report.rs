//! `bootrace report`: regenerates the reports of runs, A/Bs and calibrations from their JSON.

use std::path::{Path, PathBuf};

use super::{
    Failure,
    claims::{self, FailOn},
    print,
};
use crate::{
    analysis::{analyse, comparison::Comparison},
    calibration::Calibration,
    report,
    sample::{Results, Side},
};

#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// Directories of runs, each with its results.json, of A/Bs, or of calibrations.
    #[arg(value_name = "RUN_DIR", required = true)]
    pub runs: Vec<PathBuf>,
    /// Judge claims again and fail on them: exit code 3 for a refuted one, 4 for an undecided one.
    #[arg(long, value_enum, default_value_t = FailOn::Never, value_name = "WHEN")]
    pub fail_on: FailOn,
    /// Write the files and print no table.
    #[arg(long, short)]
    pub quiet: bool,
}

/// Renders each run, A/B or calibration in its own directory and leaves its JSON unchanged. It reads all before it
/// writes any, so that an unreadable one stops the command before any change.
///
/// # Errors
/// [`Failure::Usage`] for a directory that it can't read; [`Failure::Run`] when a file can't be written; else by claims.
pub fn run(options: &Options) -> Result<(), Failure> {
    let read = options.runs.iter().map(|path| Ok((path, Saved::load(path)?)));
    let read = read.collect::<Result<Vec<_>, report::Error>>().map_err(|e| Failure::Usage(e.into()))?;
    for (path, saved) in &read {
        // The path may name the JSON file itself.
        let dir = if path.is_dir() { path.as_path() } else { path.parent().unwrap_or(path) };
        let table = saved.render(dir).map_err(|e| Failure::Run(e.into()))?;
        if !options.quiet {
            // anstream removes colours that the terminal or NO_COLOR does not want.
            print(&(table + "\n"))?;
            print(&format!("report: {}\n", dir.join("index.html").display()))?;
        }
    }
    let runs = read.iter().filter_map(|(_, saved)| match saved {
        Saved::Run(results) => Some(results.as_ref()),
        Saved::Ab(_) | Saved::Calibration(_) => None,
    });
    claims::hold(runs, options.fail_on)
}

/// The content of a report directory.
enum Saved {
    Run(Box<Results>),
    Calibration(Box<Calibration>),
    Ab(Box<Ab>),
}

/// Both sides and their comparison.
struct Ab {
    sides: [Results; 2],
    comparison: Comparison,
}

impl Saved {
    fn load(path: &Path) -> Result<Self, report::Error> {
        if path.is_dir() && path.join(report::comparison::FILE).exists() {
            let side = |side: Side| report::load(&path.join(side.name()));
            let comparison = report::comparison::load(path)?;
            let sides = [side(Side::Base)?, side(Side::New)?];
            return Ok(Saved::Ab(Box::new(Ab { sides, comparison })));
        }
        let is_calibration = match path.is_dir() {
            true => path.join(report::calibration::FILE).exists(),
            false => path.ends_with(report::calibration::FILE),
        };
        match is_calibration {
            true => {
                let mut calibration = report::calibration::load(path)?;
                calibration.judge();
                Ok(Saved::Calibration(calibration.into()))
            }
            false => Ok(Saved::Run(report::load(path)?.into())),
        }
    }

    /// Writes the report and returns the terminal's table.
    fn render(&self, dir: &Path) -> Result<String, report::Error> {
        match self {
            Saved::Run(results) => {
                report::render(results, dir)?;
                Ok(report::table(results, &analyse(results), true))
            }
            Saved::Ab(ab) => {
                let [base, new] = &ab.sides;
                for (side, results) in [(Side::Base, base), (Side::New, new)] {
                    report::render(results, &dir.join(side.name()))?;
                }
                report::comparison::render(&ab.comparison, &[(base, new)], dir)?;
                Ok(report::comparison::table(&ab.comparison, false).trim_end().to_owned())
            }
            Saved::Calibration(calibration) => {
                report::calibration::render(calibration, dir)?;
                Ok(report::calibration::table(calibration))
            }
        }
    }
}
