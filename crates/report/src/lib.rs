//! Presents runs: the table in the terminal, `summary.md`, charts, `index.html` and exports; likewise for calibrations,
//! comparisons and histories. `results.json` is the only input of a run's files, and the same results give the same
//! bytes.

use std::path::Path;

use bootrace_analysis as analysis;
use bootrace_model::{kind, metric, sample};

use crate::{analysis::analyse, sample::Results};

pub mod calibration;
mod chart;
pub mod claims;
pub mod comparison;
mod density;
mod error;
pub mod export;
mod growing;
pub mod history;
mod html;
mod isolation;
mod markdown;
mod output;
pub mod parallel;
mod restarts;
pub mod sudo_user;
mod summary;
mod table;
mod terminal;
mod text;

pub use error::Error;
pub use growing::{Growing, JOURNAL, RESULTS, load, save_results};
pub use output::{UNFINISHED, put};
pub use table::{table, table_within};
pub use terminal::WIDTH;
pub use text::{clean, clean_lines};

/// Writes `results.json` and everything generated from it into `dir`, which it creates if necessary.
///
/// # Errors
/// When a file can't be written or a chart can't be drawn.
pub fn write(results: &Results, dir: &Path) -> Result<(), Error> {
    save_results(results, dir)?;
    render(results, dir)
}

/// Writes `summary.md`, `charts/*.svg` and `index.html`, and leaves `results.json` alone.
///
/// # Errors
/// When a file can't be written or a chart can't be drawn.
pub fn render(results: &Results, dir: &Path) -> Result<(), Error> {
    let analysis = analyse(results);
    let charts = chart::all(results, &analysis)?;
    for chart in &charts {
        put(&dir.join("charts").join(format!("{}.svg", chart.name)), chart.alone().as_bytes())?;
    }
    put(&dir.join("summary.md"), summary::summary(results, &analysis).as_bytes())?;
    put(&dir.join("index.html"), html::page(results, &analysis, &charts).as_bytes())
}
