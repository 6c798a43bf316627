//! All that is shown of a run: the table in the terminal, `summary.md`, charts and `index.html`, and exports.
//! Everything here can be made again from `results.json`, and the same results give the same bytes.

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
mod second;
mod summary;
mod table;
mod text;

pub use table::{WIDTH, table, table_within};
pub use text::{clean, clean_lines};

/// The raw samples' file in a run's directory.
pub const RESULTS: &str = "results.json";

/// A report could not be written, or a run's results could not be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("writing {}: {why}", .path.display())]
    Write { path: PathBuf, why: std::io::Error },
    #[error("drawing the chart {chart}: {why}")]
    Chart { chart: &'static str, why: String },
    #[error("reading {}: {why}", .path.display())]
    Read { path: PathBuf, why: std::io::Error },
    #[error(
        "{} is damaged or no results of bootrace: {why}; a run writes it whole, so take it from the run again",
        .path.display()
    )]
    Damaged { path: PathBuf, why: String },
    #[error(
        "{} has the schema {found:?}, this version reads {SCHEMA:?}: use the bootrace that wrote it",
        .path.display()
    )]
    Foreign { path: PathBuf, found: String },
}

/// Writes `results.json`, then all that is made from it, into `dir`, which is made if it isn't there.
pub fn write(results: &Results, dir: &Path) -> Result<(), Error> {
    save_results(results, dir)?;
    render(results, dir)
}

/// Writes `results.json` alone: whole or not at all, and on the disk when this returns.
pub fn save_results(results: &Results, dir: &Path) -> Result<(), Error> {
    let mut json = serde_json::to_vec_pretty(results)
        .map_err(|e| Error::Write { path: dir.join(RESULTS), why: std::io::Error::other(e) })?;
    json.push(b'\n');
    put(&dir.join(RESULTS), &json)
}

/// Writes `summary.md`, `charts/*.svg` and `index.html`; `results.json` is left as it is.
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
pub fn load(path: &Path) -> Result<Results, Error> {
    let path = if path.is_dir() { path.join(RESULTS) } else { path.to_owned() };
    let json = fs::read(&path).map_err(|why| Error::Read { path: path.clone(), why })?;
    let damaged = |why: serde_json::Error| Error::Damaged { path: path.clone(), why: why.to_string() };
    // The schema first: a foreign file would only be said to miss some field.
    let value: serde_json::Value = serde_json::from_slice(&json).map_err(damaged)?;
    match value.get("schema").and_then(|s| s.as_str()) {
        Some(SCHEMA) => serde_json::from_slice(&json).map_err(damaged),
        Some(other) => Err(Error::Foreign { found: text::clip(other, 80), path }),
        None => Err(Error::Damaged { path, why: "it has no \"schema\"".into() }),
    }
}

/// Written beside and renamed, so that a reader or a crash never sees half a file.
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
