//! A history in the terminal: a row per series, then its changes.

use std::fmt::Write;

use anstyle::Style;
use comfy_table::{Cell, CellAlignment, Table};

use super::{NAMED, Shown, also_changed, commit_name, groups, host_name, left_out_lines, minute, size};
use crate::{
    analysis::{
        history::{History, Series},
        steps::{self, Kind},
    },
    terminal::{RULES, WIDTH, wrap},
    text,
};

/// Number of shown changes of a series, the newest; the page and the JSON have all.
const CHANGES: usize = 10;
/// Widest target with its accelerator, and widest host, in columns.
const NAME: usize = 31;
const HOST: usize = 24;
const BOLD: Style = Style::new().bold();
const DIM: Style = Style::new().dimmed();

/// The table of all series; colours are ANSI sequences.
pub fn table(shown: &Shown) -> String {
    let history = &shown.history;
    let mut out = String::new();
    let first_and_last = match (history.runs.first(), history.runs.last()) {
        (Some(first), Some(last)) => format!(", {} to {} UTC", minute(first), minute(last)),
        _ => String::new(),
    };
    let (n, s) = (history.runs.len(), if history.runs.len() == 1 { "" } else { "s" });
    let _ = writeln!(out, "history of {n} run{s}{first_and_last}");
    for line in left_out_lines(shown) {
        let _ = writeln!(out, "{DIM}{line}{DIM:#}");
    }
    let (groups, more) = groups(history);
    for group in &groups {
        let (series, key) = (&group.series, &group.series[0].key);
        let heading = text::name(&key.scenario);
        let _ = writeln!(out, "\n{BOLD}{heading}{BOLD:#}  {}", key.metric.row().label);
        if series.iter().all(|one| one.key.host == key.host) {
            let _ = writeln!(out, "{DIM}{}{DIM:#}", host_name(&key.host));
        }
        for line in rows(series).to_string().lines() {
            let _ = writeln!(out, "{}", line.trim_end());
        }
        for one in series {
            changes(history, one, &mut out);
        }
        for line in group.rest().iter().flat_map(|rest| wrap(rest, WIDTH - 2)) {
            let _ = writeln!(out, "  {line}");
        }
    }
    if more > 0 {
        let _ =
            writeln!(out, "{more} more scenarios and metrics: choose with --scenario, or use --json for all");
    }
    let note = "Now: the level since the last change. Change: p < 0.01 by a permutation test of a step fit, weighted by the \
                precision of each run; ratio with its 99 % interval.";
    for line in wrap(note, WIDTH) {
        let _ = writeln!(out, "{DIM}{line}{DIM:#}");
    }
    out
}

fn rows(group: &[&Series]) -> Table {
    let mut table = Table::new();
    table.load_style(RULES);
    let one_host = group.iter().all(|series| series.key.host == group[0].key.host);
    let heads = ["target", "host", "runs", "now", "changes", "newest run"];
    table.set_header(heads.into_iter().filter(|head| *head != "host" || !one_host));
    for series in group {
        let key = &series.key;
        let accelerator = text::accelerator(key.accelerator).map(|a| format!(" {a}")).unwrap_or_default();
        let last = series.fit.segments.last().map_or(0.0, |segment| series.plain(segment.end));
        let runs = match series.empty.len() {
            0 => series.points.len().to_string(),
            empty => format!("{} + {empty} without", series.points.len()),
        };
        let right = |text: String| Cell::new(text).set_alignment(CellAlignment::Right);
        let mut cells =
            vec![Cell::new(wrap(&format!("{}{accelerator}", text::name(&key.target)), NAME).join("\n"))];
        if !one_host {
            cells.push(Cell::new(wrap(&host_name(&key.host), HOST).join("\n")));
        }
        cells.push(right(runs));
        cells.push(right(text::value(key.metric.unit(), last)));
        cells.push(right(series.fit.changes.len().to_string()));
        cells.push(Cell::new(newest_in_short(series)));
        table.add_row(cells);
    }
    table
}

/// "1.02×, as expected".
fn newest_in_short(series: &Series) -> String {
    let (value, latest) = (series.newest().figure.median, &series.latest);
    let beside = match series.log {
        true => text::times(value / latest.level),
        false => text::signed(series.key.metric.unit(), value - latest.level),
    };
    match latest.holds(value) {
        Some(true) => format!("{beside}, as expected"),
        Some(false) => format!("{beside}, unusual"),
        None => format!("need >= {} before", steps::SHORTEST),
    }
}

fn changes(history: &History, series: &Series, out: &mut String) {
    let all = series.fit.changes.len();
    let unit = series.key.metric.unit();
    for (i, change) in series.fit.changes.iter().enumerate().skip(all.saturating_sub(CHANGES)) {
        let at = |point: usize| {
            let run = &history.runs[series.points[point].run];
            let commit =
                run.source.as_ref().map(|source| format!(" {}", commit_name(source))).unwrap_or_default();
            format!("{}{commit}", minute(run))
        };
        let (before, after) = series.levels(i);
        let (how, and) = match change.kind {
            Kind::Step => ("between", "and"),
            Kind::Drift => ("gradually from", "to"),
        };
        let also = also_changed(series, i);
        let also = if also.is_empty() { String::new() } else { format!("; also changed: {also}") };
        let line = format!(
            "{}: {} -> {}, {}, {how} {} {and} {}; p = {:.3}{also}",
            text::name(&series.key.target),
            text::value(unit, before),
            text::value(unit, after),
            size(series, change),
            at(change.before),
            at(change.after),
            change.p,
        );
        let _ = writeln!(out, "  {}", wrap(&line, WIDTH - 4).join("\n    "));
    }
    if all > CHANGES {
        let _ = writeln!(out, "  {}: {} earlier changes", text::name(&series.key.target), all - CHANGES);
    }
}

/// Lines about left-out files: their number, then the first ones with the reasons.
pub fn left_out(shown: &Shown) -> Vec<String> {
    let mut lines = Vec::new();
    let all = shown.left_out.len();
    if all > 0 {
        let s = if all == 1 { "" } else { "s" };
        lines.push(format!(
            "{all} file{s} could not be read and {} left out:",
            if all == 1 { "is" } else { "are" }
        ));
    }
    for file in shown.left_out.iter().take(NAMED) {
        let path = text::clean(&file.path.display().to_string(), 300);
        lines.push(format!("{path}: {}", text::clean(&file.why, 300)));
    }
    if all > NAMED {
        lines.push(format!("... and {} more", all - NAMED));
    }
    lines
}
