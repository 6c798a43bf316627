//! Presents a history: the table in the terminal, `history.json`, the page with its charts.
//! The same runs give the same bytes, in any order of their files.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use super::{Error, chart, html, put};
use crate::{
    analysis::{
        Metric,
        history::{self, History, Run},
    },
    parallel,
};

mod json;
mod load;
mod shown;
mod table;

pub use json::json;
pub use load::{LeftOut, Loaded, load};
use shown::also_changed;
pub use shown::{FILE, NAMED, Shown};
pub(crate) use shown::{
    Group, commit_name, commit_page, groups, host_name, left_out_lines, minute, newest, size,
};
pub use table::{left_out, table};

/// Selection of runs and figures for a history.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Metrics to show, in this order.
    pub metrics: Vec<Metric>,
    /// Names of targets; empty for all.
    pub targets: Vec<String>,
    /// Names of scenarios; empty for all.
    pub scenarios: Vec<String>,
    /// Identify hosts by their hardware alone, for a CI whose jobs run on hosts with changing names.
    pub any_host_name: bool,
    /// Include sides of A/Bs like other runs.
    pub with_ab: bool,
    /// Seed of the permutation tests.
    pub seed: u64,
    /// Number of threads that read files and find changes.
    pub threads: usize,
}

/// Reads the runs below `dirs` and finds changes.
///
/// # Errors
/// When one of `dirs` can't be read.
pub fn gather(dirs: &[PathBuf], wanted: &Wanted) -> Result<Shown, LeftOut> {
    let Loaded { mut runs, left_out } = load(dirs, &wanted.metrics, wanted.threads)?;
    if wanted.any_host_name {
        runs.iter_mut().for_each(|run| run.host.name.clear());
    }
    let sides: Vec<Run> = runs.extract_if(.., |run| run.of_an_ab && !wanted.with_ab).collect();
    let of_an_ab = history::ordered(sides).0.len();
    let (mut runs, copies) = history::ordered(runs);
    let known = known(&runs);
    let all = runs.len();
    let among = |list: &[String], name: &str| list.is_empty() || list.iter().any(|one| one == name);
    let keep =
        |scenario: &str, target: &str| among(&wanted.scenarios, scenario) && among(&wanted.targets, target);
    runs.retain(|run| run.targets.iter().any(|target| keep(&run.scenario, &target.name)));
    let others = all - runs.len();
    let series = history::series(&runs, &wanted.metrics, keep);
    let series = parallel::each(&series, wanted.threads, || (), |(), one| one.fit(&runs, wanted.seed));
    let history = History { runs, metrics: wanted.metrics.clone(), series };
    Ok(Shown { history, left_out, copies, of_an_ab, others, known, seed: wanted.seed })
}

fn known(runs: &[Run]) -> Vec<String> {
    let names = runs
        .iter()
        .flat_map(|run| run.targets.iter().map(|target| format!("{}/{}", run.scenario, target.name)));
    names.collect::<BTreeSet<String>>().into_iter().collect()
}

/// Writes `history.json`, `charts/*.svg` and `index.html` into `dir`, which it creates if necessary.
///
/// # Errors
/// When a file can't be written or a chart can't be drawn.
pub fn write(shown: &Shown, dir: &Path) -> Result<(), Error> {
    let groups = groups(&shown.history);
    let charts = chart::trend::all(&shown.history, &groups.0)?;
    let json =
        json(shown).map_err(|e| Error::Write { path: dir.join(FILE), why: std::io::Error::other(e) })?;
    put(&dir.join(FILE), json.as_bytes())?;
    for chart in &charts {
        put(&dir.join("charts").join(format!("{}.svg", chart.name)), chart.alone().as_bytes())?;
    }
    put(&dir.join("index.html"), html::history::page(shown, &groups, &charts).as_bytes())
}
