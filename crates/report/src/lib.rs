//! Presents runs: the table in the terminal, `summary.md`, charts, `index.html` and exports; likewise for calibrations,
//! comparisons and histories. `results.json` is the only input of a run's files, and the same results give the same
//! bytes.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
};

use bootrace_analysis as analysis;
use bootrace_model::{kind, metric, sample};

use crate::{
    analysis::analyse,
    sample::{Results, SCHEMA},
};

pub mod calibration;
mod chart;
pub mod claims;
pub mod comparison;
mod density;
pub mod export;
pub mod history;
mod html;
mod isolation;
pub mod parallel;
mod restarts;
mod summary;
mod table;
mod text;

pub use table::{WIDTH, table, table_within};
pub use text::{clean, clean_lines};

/// Name of the file with the raw samples in a run's directory.
pub const RESULTS: &str = "results.json";

/// A failure to write a report or to read results.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file could not be written.
    #[error("writing {}: {why}", .path.display())]
    Write {
        /// File to write.
        path: PathBuf,
        /// Error of the operating system.
        why: std::io::Error,
    },
    /// A chart could not be drawn.
    #[error("drawing the chart {chart}: {why}")]
    Chart {
        /// Name of the chart.
        chart: &'static str,
        /// Error of the drawing library.
        why: String,
    },
    /// A file could not be read.
    #[error("reading {}: {why}", .path.display())]
    Read {
        /// File to read.
        path: PathBuf,
        /// Error of the operating system.
        why: std::io::Error,
    },
    /// A file is not valid JSON of its schema.
    #[error(
        "{} is damaged or not a results file of bootrace: {why}; fix: copy it from the run again",
        .path.display()
    )]
    Damaged {
        /// File that was read.
        path: PathBuf,
        /// The first error in it.
        why: String,
    },
    /// A file has the schema of another version.
    #[error(
        "{} has the schema {found:?}, this version reads {SCHEMA:?}; fix: use the bootrace that wrote it",
        .path.display()
    )]
    Foreign {
        /// File that was read.
        path: PathBuf,
        /// Its schema, at most 80 characters.
        found: String,
    },
}

/// Writes `results.json` and everything generated from it into `dir`, which it creates if necessary.
///
/// # Errors
/// When a file can't be written or a chart can't be drawn.
pub fn write(results: &Results, dir: &Path) -> Result<(), Error> {
    save_results(results, dir)?;
    render(results, dir)
}

/// Writes `results.json` alone: atomically, and synchronised to the disk.
///
/// # Errors
/// When the file can't be written.
pub fn save_results(results: &Results, dir: &Path) -> Result<(), Error> {
    let mut json = serde_json::to_vec_pretty(results)
        .map_err(|e| Error::Write { path: dir.join(RESULTS), why: std::io::Error::other(e) })?;
    json.push(b'\n');
    put(&dir.join(RESULTS), &json)
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

/// Reads a run's results: `path` is its directory or the file itself.
///
/// # Errors
/// When the file can't be read, is damaged, or has the schema of another version.
pub fn load(path: &Path) -> Result<Results, Error> {
    let path = if path.is_dir() { path.join(RESULTS) } else { path.to_owned() };
    let json = fs::read(&path).map_err(|why| Error::Read { path: path.clone(), why })?;
    let damaged = |why: serde_json::Error| Error::Damaged { path: path.clone(), why: why.to_string() };
    // The schema first: the error for a foreign file would otherwise name a missing field.
    let value: serde_json::Value = serde_json::from_slice(&json).map_err(damaged)?;
    match value.get("schema").and_then(|s| s.as_str()) {
        Some(SCHEMA) => serde_json::from_slice(&json).map_err(damaged),
        Some(other) => Err(Error::Foreign { found: text::clip(other, 80), path }),
        None => Err(Error::Damaged { path, why: "it has no \"schema\"".into() }),
    }
}

/// Writes a temporary file and renames it, so that a reader or a crash never sees half a file.
fn put(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let failed = |why| Error::Write { path: path.to_owned(), why };
    let dir = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(dir).map_err(failed)?;
    let mut file = tempfile::Builder::new()
        .prefix(".bootrace-")
        .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))
        .tempfile_in(dir)
        .map_err(failed)?;
    file.write_all(bytes).and_then(|()| file.as_file().sync_all()).map_err(failed)?;
    file.persist(path).map_err(|e| failed(e.error))?;
    Ok(())
}
