//! All that is shown of a history: the table in the terminal, `history.json`, the page with its charts.
//! The same runs give the same bytes, whatever the order of their files.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use super::{Error, chart, html, put, text};
use crate::{
    analysis::{
        Interval, LEVEL, Metric,
        history::{self, History, HostName, Run, Series},
        steps::{self, Change},
    },
    parallel,
    sample::Source,
};

mod json;
mod load;
mod table;

pub use json::json;
pub use load::{LeftOut, Loaded, load};
pub use table::{left_out, table};

/// The file that programs read.
pub const FILE: &str = "history.json";
/// So many of the files that were left out are named.
pub const NAMED: usize = 5;

/// What of the runs is looked at.
#[derive(Debug, Clone)]
pub struct Wanted {
    pub metrics: Vec<Metric>,
    /// Empty: all.
    pub targets: Vec<String>,
    /// Empty: all.
    pub scenarios: Vec<String>,
    /// Hosts are told by their hardware alone: where each job of a CI has a host with a name of its own.
    pub any_host_name: bool,
    /// Sides of A/Bs are runs as any other.
    pub with_ab: bool,
    pub seed: u64,
    pub threads: usize,
}

/// A history, and what it did not take in.
#[derive(Debug)]
pub struct Shown {
    /// Of the runs that have something of what was asked for.
    pub history: History,
    pub left_out: Vec<LeftOut>,
    /// Runs that were found more than once.
    pub copies: usize,
    /// Sides of A/Bs, which are no points of a trend unless that is asked for: a side may be anything.
    pub of_an_ab: usize,
    /// How many other runs there are, with none of the scenarios and targets that were asked for.
    pub others: usize,
    /// The scenarios and targets of all runs, as `scenario/target`, sorted.
    pub known: Vec<String>,
    pub seed: u64,
}

/// What is shown together: a chart, a table.
#[derive(Debug)]
pub(super) struct Group<'a> {
    /// One scenario and metric; of the hosts that have the most runs. Never empty.
    pub series: Vec<&'a Series>,
    /// How many more series there are: of other hosts, or more than anybody looks at.
    pub more: usize,
}

/// Hosts whose series are shown: those with the most runs. A CI may have a new one for each run.
const HOSTS: usize = 8;
/// Series of a group that are shown, and groups.
const SERIES: usize = 100;
const GROUPS: usize = 100;

impl Group<'_> {
    /// What is said of the rest; `None` where there is none.
    pub fn rest(&self) -> Option<String> {
        let (more, is) = (self.more, if self.more == 1 { "is" } else { "are" });
        (more > 0).then(|| {
            format!("{more} more series, of hosts with fewer runs, {is} in {FILE} alone: --any-host-name takes hosts of one kind together")
        })
    }
}

/// What is shown, in order, and how many groups are not.
pub(super) fn groups(history: &History) -> (Vec<Group<'_>>, usize) {
    let same = |a: &Series, b: &Series| a.key.scenario == b.key.scenario && a.key.metric == b.key.metric;
    let mut groups = history.series.chunk_by(same);
    let shown = groups.by_ref().take(GROUPS).map(|all| {
        let mut runs: BTreeMap<&HostName, usize> = BTreeMap::new();
        for one in all {
            *runs.entry(&one.key.host).or_default() += one.points.len();
        }
        let mut hosts: Vec<(usize, &HostName)> = runs.into_iter().map(|(host, n)| (n, host)).collect();
        hosts.sort_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(b.1)));
        hosts.truncate(HOSTS);
        let series = all.iter().filter(|one| hosts.iter().any(|(_, host)| **host == one.key.host));
        let series: Vec<&Series> = series.take(SERIES).collect();
        Group { more: all.len() - series.len(), series }
    });
    let shown = shown.collect();
    (shown, groups.count())
}

/// Reads the runs below `dirs` and looks for changes.
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

/// What is said of the sides of A/Bs and of runs that were not asked for, a sentence each.
pub(super) fn not_taken(shown: &Shown) -> Vec<String> {
    let are =
        |n: usize, one: &str, many: &str| if n == 1 { format!("1 {one}") } else { format!("{n} {many}") };
    let mut said = Vec::new();
    if shown.of_an_ab > 0 {
        let sides = are(shown.of_an_ab, "side of an A/B is", "sides of A/Bs are");
        said.push(format!("{sides} left out: --with-ab takes them for runs as any other."));
    }
    if shown.others > 0 {
        let runs = are(shown.others, "other run has", "other runs have");
        said.push(format!("{runs} none of the scenarios and targets that were asked for."));
    }
    said
}

/// Writes `history.json`, `charts/*.svg` and `index.html` into `dir`, which is made if it isn't there.
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

/// The page of a commit; `None` where the run does not say where its sources can be read on the web.
pub(super) fn commit_page(source: &Source) -> Option<String> {
    let url = source.url.as_deref()?.trim_end_matches('/');
    let sound = |c: char| c.is_ascii_alphanumeric() || "-._~/%:+[]".contains(c);
    let of_the_web = url.starts_with("https://") || url.starts_with("http://");
    let is_hash = source.commit.len() >= 7 && source.commit.bytes().all(|b| b.is_ascii_hexdigit());
    let sound =
        of_the_web && is_hash && url.len() <= 300 && source.commit.len() <= 64 && url.chars().all(sound);
    sound.then(|| format!("{url}/commit/{}", source.commit))
}

/// As people write commits: the first ten digits; what is no hash is shown as what it is.
pub(super) fn commit_name(source: &Source) -> String {
    let changed = if source.dirty == Some(true) { "+" } else { "" };
    let commit = text::clip(&source.commit, 40);
    format!("{}{changed}", commit.get(..10).filter(|_| commit.is_ascii()).unwrap_or(&commit))
}

/// "2026-01-02 03:04".
pub(super) fn minute(run: &Run) -> String {
    run.time.strftime("%Y-%m-%d %H:%M").to_string()
}

/// "bench-1, 2 × Intel(R) Xeon(R)".
pub(super) fn host_name(host: &HostName) -> String {
    let model = if host.cpu_model.is_empty() { "unknown CPU" } else { &host.cpu_model };
    let hardware = format!("{} × {}", host.cpus, text::clip(model, 48));
    if host.name.is_empty() { hardware } else { format!("{}, {hardware}", text::clip(&host.name, 32)) }
}

/// A change's ratio, or its difference where there is none.
pub(super) fn size(series: &Series, change: &Change) -> String {
    if series.log {
        let interval = Interval { low: change.low.exp(), high: change.high.exp(), coverage: LEVEL };
        return format!("{} {}", text::times(change.difference.exp()), text::times_interval(Some(&interval)));
    }
    text::signed(series.key.metric.unit(), change.difference)
}

/// What else was no longer the same, in words: "image, kernel"; empty for nothing.
pub(super) fn also_changed(series: &Series, change: usize) -> String {
    let mut what: Vec<&str> = series.notes_at(change).map(|note| note.what).collect();
    what.sort_unstable();
    what.dedup();
    what.join(", ")
}

/// How the newest run is beside the others of its segment.
pub(super) fn newest(series: &Series) -> String {
    let (value, latest) = (series.newest().figure.median, &series.latest);
    let beside = if series.log {
        format!("{} of", text::times(value / latest.level))
    } else {
        format!("{} beside", text::signed(series.key.metric.unit(), value - latest.level))
    };
    let (others, s) = (latest.others, if latest.others == 1 { "" } else { "s" });
    match latest.holds(value) {
        Some(true) => format!("{beside} the {others} before, as expected"),
        Some(false) => format!("{beside} the {others} before: more than runs differ by"),
        None => format!("{others} other run{s} of its level, need >= {}", steps::SHORTEST),
    }
}
