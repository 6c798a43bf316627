//! A history as every output shows it: its groups, and its parts in words.

use std::collections::BTreeMap;

use super::load::LeftOut;
use crate::{
    analysis::{
        Interval, LEVEL,
        history::{History, HostName, Run, Series},
        steps::{self, Change},
    },
    sample::Source,
    text,
};

/// Name of the file for programs.
pub const FILE: &str = "history.json";

/// Number of left-out files that are named.
pub const NAMED: usize = 5;

/// A history, and the runs that it leaves out.
#[derive(Debug)]
pub struct Shown {
    /// Runs with a requested scenario and target, and their series.
    pub history: History,
    /// Files that could not be read, with the reasons.
    pub left_out: Vec<LeftOut>,
    /// Number of duplicate runs.
    pub copies: usize,
    /// Number of left-out sides of A/Bs, which need not belong to the trend.
    pub of_an_ab: usize,
    /// Number of runs without a requested scenario and target.
    pub others: usize,
    /// The scenarios and targets of all runs, as `scenario/target`, sorted.
    pub known: Vec<String>,
    /// Seed of the permutation tests.
    pub seed: u64,
}

/// Series of one chart and table.
#[derive(Debug)]
pub struct Group<'a> {
    /// Series of one scenario and metric, of the hosts with the most runs; never empty.
    pub series: Vec<&'a Series>,
    /// Number of further series, which only the JSON has.
    pub more: usize,
}

/// Number of hosts with shown series, the ones with the most runs: a CI may have a new host for each run.
const HOSTS: usize = 8;

/// Largest number of shown series in a group.
const SERIES: usize = 100;

/// Largest number of shown groups.
const GROUPS: usize = 100;

impl Group<'_> {
    /// A sentence about further series; `None` without any.
    pub fn rest(&self) -> Option<String> {
        let more = self.more;
        (more > 0).then(|| {
            format!("{FILE} has {more} more series, of hosts with fewer runs: --any-host-name combines hosts with the same hardware")
        })
    }
}

/// The shown groups in order, and the number of further ones.
pub fn groups(history: &History) -> (Vec<Group<'_>>, usize) {
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

/// Sentences about left-out sides of A/Bs and other runs.
pub fn left_out_lines(shown: &Shown) -> Vec<String> {
    let are =
        |n: usize, one: &str, many: &str| if n == 1 { format!("1 {one}") } else { format!("{n} {many}") };
    let mut said = Vec::new();
    if shown.of_an_ab > 0 {
        let sides = are(shown.of_an_ab, "side of an A/B is", "sides of A/Bs are");
        said.push(format!("{sides} left out: --with-ab includes them."));
    }
    if shown.others > 0 {
        let runs = are(shown.others, "other run has", "other runs have");
        said.push(format!("{runs} none of the requested scenarios and targets."));
    }
    said
}

/// URL of a commit; `None` where the run has no valid web address of its sources.
pub fn commit_page(source: &Source) -> Option<String> {
    let url = source.url.as_deref()?.trim_end_matches('/');
    let sound = |c: char| c.is_ascii_alphanumeric() || "-._~/%:+[]".contains(c);
    let of_the_web = url.starts_with("https://") || url.starts_with("http://");
    let is_hash = source.commit.len() >= 7 && source.commit.bytes().all(|b| b.is_ascii_hexdigit());
    let sound =
        of_the_web && is_hash && url.len() <= 300 && source.commit.len() <= 64 && url.chars().all(sound);
    sound.then(|| format!("{url}/commit/{}", source.commit))
}

/// The first ten digits of a commit's hash, with "+" for uncommitted changes; other names in full.
pub fn commit_name(source: &Source) -> String {
    let changed = if source.dirty == Some(true) { "+" } else { "" };
    let commit = text::clip(&source.commit, 40);
    format!("{}{changed}", commit.get(..10).filter(|_| commit.is_ascii()).unwrap_or(&commit))
}

/// "2026-01-02 03:04".
pub fn minute(run: &Run) -> String {
    run.time.strftime("%Y-%m-%d %H:%M").to_string()
}

/// "bench-1, 2 × Intel(R) Xeon(R)".
pub fn host_name(host: &HostName) -> String {
    let model = if host.cpu_model.is_empty() { "unknown CPU" } else { &host.cpu_model };
    let hardware = format!("{} × {}", host.cpus, text::clip(model, 48));
    if host.name.is_empty() { hardware } else { format!("{}, {hardware}", text::clip(&host.name, 32)) }
}

/// A change's ratio, or its difference without one.
pub fn size(series: &Series, change: &Change) -> String {
    if series.log {
        let interval = Interval { low: change.low.exp(), high: change.high.exp(), coverage: LEVEL };
        return format!("{} {}", text::times(change.difference.exp()), text::times_interval(Some(&interval)));
    }
    text::signed(series.key.metric.unit(), change.difference)
}

/// Other conditions that changed: "image, kernel"; empty without any.
pub fn also_changed(series: &Series, change: usize) -> String {
    let mut what: Vec<&str> = series.notes_at(change).map(|note| note.what).collect();
    what.sort_unstable();
    what.dedup();
    what.join(", ")
}

/// The newest run relative to the others of its segment.
pub fn newest(series: &Series) -> String {
    let (value, latest) = (series.newest().figure.median, &series.latest);
    let beside = if series.log {
        format!("{} the level of", text::times(value / latest.level))
    } else {
        format!("{} from the level of", text::signed(series.key.metric.unit(), value - latest.level))
    };
    let (others, s) = (latest.others, if latest.others == 1 { "" } else { "s" });
    match latest.holds(value) {
        Some(true) => format!("{beside} the {others} runs before, as expected"),
        Some(false) => format!("{beside} the {others} runs before: beyond the noise between runs"),
        None => format!("{others} other run{s} at its level: need >= {}", steps::SHORTEST),
    }
}
