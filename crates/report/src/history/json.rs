//! `history.json`, schema `bootrace.history/2`: values in the metrics' units (ns, bytes, shares), null where there is
//! none.

use serde::Serialize;

use super::Shown;
use crate::{
    analysis::{
        Interval,
        history::{Run, Series},
        steps::Kind,
    },
    sample::{Accelerator, Source},
};

const SCHEMA: &str = "bootrace.history/2";

#[derive(Serialize)]
struct Document<'a> {
    schema: &'static str,
    bootrace_version: &'static str,
    seed: u64,
    /// Runs with a requested scenario and target, in the order of time; points refer to them by index.
    runs: Vec<OneRun<'a>>,
    /// Number of duplicate runs.
    copies: usize,
    /// Number of left-out sides of A/Bs.
    sides_of_ab_left_out: usize,
    /// Number of runs without a requested scenario and target.
    other_runs: usize,
    left_out: Vec<LeftOut>,
    series: Vec<OneSeries<'a>>,
}

#[derive(Serialize)]
struct OneRun<'a> {
    id: &'a str,
    started_at: &'a str,
    interrupted: bool,
    source: Option<&'a Source>,
}

#[derive(Serialize)]
struct LeftOut {
    path: String,
    why: String,
}

#[derive(Serialize)]
struct OneSeries<'a> {
    scenario: &'a str,
    target: &'a str,
    kind: &'a str,
    accelerator: Accelerator,
    host: Host<'a>,
    metric: &'static str,
    points: Vec<Point>,
    /// Runs with the target and without a good sample.
    runs_without_value: &'a [usize],
    /// Deviation between runs in addition to the one within runs; a share where changes are ratios.
    between_runs: f64,
    changes: Vec<Change<'a>>,
    segments: Vec<Segment>,
    notes: Vec<Note<'a>>,
    latest: Latest,
}

#[derive(Serialize)]
struct Host<'a> {
    name: Option<&'a str>,
    cpu_model: &'a str,
    cpus: u32,
}

#[derive(Serialize)]
struct Point {
    run: usize,
    n: usize,
    failed: usize,
    median: f64,
    low: Option<f64>,
    high: Option<f64>,
    coverage: Option<f64>,
    outlier: bool,
}

/// A change; indices refer to `runs`.
#[derive(Serialize)]
struct Change<'a> {
    kind: &'static str,
    last_before: usize,
    first_after: usize,
    /// Earliest index of the first run after, with 99 % confidence; null for a drift, which has no place.
    earliest: Option<usize>,
    latest: Option<usize>,
    before: f64,
    after: f64,
    /// Null where a value is zero or below.
    ratio: Option<f64>,
    ratio_low: Option<f64>,
    ratio_high: Option<f64>,
    p: f64,
    from_commit: Option<&'a str>,
    to_commit: Option<&'a str>,
    url: Option<String>,
    also_changed: Vec<&'static str>,
}

#[derive(Serialize)]
struct Segment {
    first: usize,
    last: usize,
    runs: usize,
    start: f64,
    end: f64,
}

#[derive(Serialize)]
struct Note<'a> {
    run: usize,
    what: &'static str,
    from: &'a str,
    to: &'a str,
}

#[derive(Serialize)]
struct Latest {
    run: usize,
    value: f64,
    /// Level of the other runs of its segment.
    level: f64,
    others: usize,
    expected_low: Option<f64>,
    expected_high: Option<f64>,
    as_expected: Option<bool>,
}

/// The whole document, with a line break at its end.
///
/// # Errors
/// When serialisation fails, which these types rule out.
pub fn json(shown: &Shown) -> serde_json::Result<String> {
    let history = &shown.history;
    let document = Document {
        schema: SCHEMA,
        bootrace_version: env!("CARGO_PKG_VERSION"),
        seed: shown.seed,
        runs: history.runs.iter().map(run).collect(),
        copies: shown.copies,
        sides_of_ab_left_out: shown.of_an_ab,
        other_runs: shown.others,
        left_out: shown
            .left_out
            .iter()
            .map(|file| LeftOut { path: file.path.display().to_string(), why: file.why.clone() })
            .collect(),
        series: history.series.iter().map(|one| series(one, &history.runs)).collect(),
    };
    Ok(serde_json::to_string_pretty(&document)? + "\n")
}

fn run(run: &Run) -> OneRun<'_> {
    OneRun {
        id: &run.id,
        started_at: &run.started_at,
        interrupted: run.interrupted,
        source: run.source.as_ref(),
    }
}

fn series<'a>(series: &'a Series, runs: &'a [Run]) -> OneSeries<'a> {
    let (key, fit) = (&series.key, &series.fit);
    let at = |point: usize| series.points[point].run;
    let mut outliers = vec![false; series.points.len()];
    fit.outliers.iter().for_each(|point| outliers[*point] = true);
    let newest = series.newest();
    OneSeries {
        scenario: &key.scenario,
        target: &key.target,
        kind: key.kind.name(),
        accelerator: key.accelerator,
        host: Host {
            name: Some(key.host.name.as_str()).filter(|name| !name.is_empty()),
            cpu_model: &key.host.cpu_model,
            cpus: key.host.cpus,
        },
        metric: key.metric.name(),
        points: series
            .points
            .iter()
            .zip(outliers)
            .map(|(point, outlier)| one_point(point, outlier))
            .collect(),
        runs_without_value: &series.empty,
        between_runs: fit.between,
        changes: (0..fit.changes.len()).map(|i| change(series, runs, i)).collect(),
        segments: fit
            .segments
            .iter()
            .map(|segment| Segment {
                first: at(segment.range.start),
                last: at(segment.range.end - 1),
                runs: segment.range.len(),
                start: series.plain(segment.start),
                end: series.plain(segment.end),
            })
            .collect(),
        notes: series
            .notes
            .iter()
            .map(|note| Note { run: at(note.point), what: note.what, from: &note.from, to: &note.to })
            .collect(),
        latest: Latest {
            run: newest.run,
            value: newest.figure.median,
            level: series.latest.level,
            others: series.latest.others,
            expected_low: series.latest.expected.map(|e| e.low),
            expected_high: series.latest.expected.map(|e| e.high),
            as_expected: series.latest.holds(newest.figure.median),
        },
    }
}

fn one_point(point: &crate::analysis::history::Point, outlier: bool) -> Point {
    let figure = &point.figure;
    let bound = |of: fn(&Interval) -> f64| figure.interval.as_ref().map(of);
    Point {
        run: point.run,
        n: figure.n,
        failed: point.failed,
        median: figure.median,
        low: bound(|i| i.low),
        high: bound(|i| i.high),
        coverage: bound(|i| i.coverage),
        outlier,
    }
}

fn change<'a>(series: &Series, runs: &'a [Run], index: usize) -> Change<'a> {
    let change = &series.fit.changes[index];
    let at = |point: usize| series.points[point].run;
    let (before, after) = series.levels(index);
    let place = |point: usize| (change.kind == Kind::Step).then(|| at(point));
    let ratio = |difference: f64| series.log.then(|| difference.exp());
    let commit = |point: usize| runs[at(point)].source.as_ref();
    let mut also_changed: Vec<&'static str> = series.notes_at(index).map(|note| note.what).collect();
    also_changed.sort_unstable();
    also_changed.dedup();
    Change {
        kind: match change.kind {
            Kind::Step => "step",
            Kind::Drift => "drift",
        },
        last_before: at(change.before),
        first_after: at(change.after),
        earliest: place(change.earliest),
        latest: place(change.latest),
        before,
        after,
        ratio: ratio(change.difference),
        ratio_low: ratio(change.low),
        ratio_high: ratio(change.high),
        p: change.p,
        from_commit: commit(change.before).map(|source| source.commit.as_str()),
        to_commit: commit(change.after).map(|source| source.commit.as_str()),
        url: commit(change.after).and_then(super::commit_page),
        also_changed,
    }
}
