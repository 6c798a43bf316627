//! Density in words, the same in every output, and its tables in the terminal and in Markdown.

use std::fmt::Write;

use super::{
    markdown::escape,
    terminal::{COLUMN, LABEL, columns, wrap},
    text::{self, NOTHING},
};
use crate::{
    analysis::{
        Unit,
        density::{BurstFigures, Density, Each},
    },
    sample::density::Limit,
};

/// A row of figures, with a cell for each target.
pub struct Row {
    pub label: String,
    pub cells: Vec<String>,
}

/// Label of the memory of one more instance, in every output.
pub const EACH: &str = "memory of one more";

/// The rows of all filled targets, without empty ones.
pub fn rows(all: &[Density]) -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::new();
    let mut row = |label: &str, cell: &dyn Fn(&Density) -> Option<String>| {
        let cells: Vec<String> = all.iter().map(|d| cell(d).unwrap_or(NOTHING.into())).collect();
        if cells.iter().any(|cell| cell != NOTHING) {
            rows.push(Row { label: label.into(), cells });
        }
    };
    row("at once", &|d| Some(d.reached.to_string()));
    row("ended by", &|d| Some(limit(d.limit).into()));
    row(EACH, &|d| Some(each(Unit::Size, &d.memory?)));
    row("  1st, 2nd half", &|d| {
        let halves = d.halves?;
        let bends = if halves.bends() { ", different" } else { "" };
        Some(format!(
            "{}, {}{bends}",
            text::value(Unit::Size, halves.first),
            text::value(Unit::Size, halves.second)
        ))
    });
    row("  by MemAvailable", &|d| Some(each(Unit::Size, &d.available?)));
    row("  daemons' growth", &|d| Some(each(Unit::Size, &d.daemons?)));
    row("idle CPU of one", &|d| Some(each(Unit::Share, &d.cpu?)));
    row("start-up, first", &|d| Some(text::value(Unit::Time, d.startup?.first)));
    row("  last", &|d| Some(text::value(Unit::Time, d.startup?.last.1)));
    row("  more with each", &|d| {
        let slope = d.startup?.slope?;
        Some(each(Unit::Time, &slope))
    });
    row("fit, extrapolated", &|d| fits(d, &d.memory?));
    row("  by MemAvailable", &|d| fits(d, &d.available?));
    let mut sizes: Vec<u32> = all.iter().flat_map(|d| d.bursts.iter().map(|burst| burst.n)).collect();
    sizes.sort_unstable();
    sizes.dedup();
    for n in sizes {
        let label = format!("burst of {n}");
        row(&label, &|d| d.bursts.iter().find(|burst| burst.n == n).map(burst));
        row("  all ready after", &|d| {
            let burst = d.bursts.iter().find(|burst| burst.n == n && burst.failed == 0)?;
            Some(text::value(Unit::Time, burst.all_ready?))
        });
    }
    rows
}

/// What ended the filling, in a few words.
pub fn limit(limit: Option<Limit>) -> &'static str {
    match limit {
        Some(Limit::Count) => "the requested count",
        Some(Limit::Memory) => "the host's memory",
        Some(Limit::Startup) => "start-up over the bound",
        Some(Limit::Failure) => "a failure",
        Some(Limit::Stopped) => "the user",
        None => "an interruption",
    }
}

fn each(unit: Unit, each: &Each) -> String {
    format!("{} {}", text::value(unit, each.value), text::interval(unit, each.value, each.interval.as_ref()))
}

fn fits(density: &Density, each: &Each) -> Option<String> {
    let (value, interval) = density.fits(each)?;
    let interval = match interval {
        Some((low, high)) => format!("[{}, {}]", count(low), count(high)),
        None if each.interval.is_some() => "[no upper end]".into(),
        None => text::interval(Unit::Size, each.value, None),
    };
    Some(format!("{} {interval}", count(value)))
}

/// A whole number, rounded to three digits.
fn count(value: f64) -> String {
    let step = 10_f64.powf((value.max(1.0).log10().floor() - 2.0).max(0.0));
    let rounded = (value / step).round() * step;
    if rounded < 100.0 { format!("{rounded:.0}") } else { text::digits(rounded) }
}

/// Shortest, median and longest start-up.
fn burst(burst: &BurstFigures) -> String {
    let failed = if burst.failed > 0 { format!(", {} failed", burst.failed) } else { String::new() };
    match burst.quantiles {
        None => format!("none ready{failed}"),
        Some([least, median, _, most]) => {
            let (unit, one) = text::scale(Unit::Time, median);
            let [least, median, most] = [least, median, most].map(|ns| text::digits(ns / one));
            format!("{least}, {median}, {most} {unit}{failed}")
        }
    }
}

/// Notes on the figures, as paragraphs.
pub fn notes(all: &[Density]) -> Vec<String> {
    let mut notes = vec![
        "The run added one instance at a time, and all of them stayed. Memory of one more: mean increase of the sum of all \
         footprints per instance [Student's interval, 99 %]. MemAvailable is the host's own estimate: it includes daemons \
         and other processes, and no page cache that the kernel can drop. The number that fits is extrapolated from these \
         and the available memory, not tried: CPU time, process numbers or an engine may be the limit before memory."
            .into(),
    ];
    if all.iter().any(|d| !d.bursts.is_empty()) {
        notes
            .push("Burst: instances requested together; shortest, median and longest start-up, each from its own request.".into());
    }
    notes.push(ksm(all));
    let swapped = all.iter().filter_map(|d| Some((d, d.swapped.filter(|bytes| *bytes > 0)?)));
    notes.extend(swapped.map(|(d, bytes)| {
        format!(
            "{}: {} went to swap while it was filled, and no footprint includes it: use fewer instances, or raise \
             density.memory_left.",
            text::name(&d.target),
            text::value(Unit::Size, bytes as f64)
        )
    }));
    notes
}

/// Whether KSM merged pages, which reduces the cost of one more instance.
fn ksm(all: &[Density]) -> String {
    let on: Vec<String> = all
        .iter()
        .filter_map(|d| Some((d, d.ksm_pages?)))
        .map(|(d, (first, last))| {
            format!("{} {first} pages saved before and {last} at the end", text::name(&d.target))
        })
        .collect();
    match on.as_slice() {
        [] if all.iter().all(|d| d.ksm == Some(false)) => "Same-page merging (KSM) was off.".into(),
        [] => "Whether same-page merging (KSM) was on could not be read.".into(),
        on => format!("Same-page merging (KSM) was on: {}.", on.join("; ")),
    }
}

/// Head of a column: the target's name and accelerator.
fn head(density: &Density) -> (String, Option<&'static str>) {
    (text::name(&density.target), text::accelerator(density.accelerator))
}

/// For a terminal with `width` columns.
pub fn table(all: &[Density], width: usize) -> String {
    let per_table = (width.saturating_sub(usize::from(LABEL) + 4) / usize::from(COLUMN + 1)).max(1);
    let mut out = String::from("density: one more instance at a time, all of them stay\n");
    for some in all.chunks(per_table) {
        let heads = some.iter().map(|density| {
            let (name, accelerator) = head(density);
            let mut lines = wrap(&name, usize::from(COLUMN) - 2);
            lines.extend(accelerator.map(str::to_owned));
            lines.join("\n")
        });
        let rows = rows(some).into_iter().map(|row| (row.label, row.cells));
        columns(heads, rows).lines().for_each(|line| {
            let _ = writeln!(out, "{}", line.trim_end());
        });
    }
    for line in notes(all).iter().flat_map(|note| wrap(note, width)) {
        let _ = writeln!(out, "{line}");
    }
    out
}

/// For `summary.md`.
pub fn markdown(out: &mut String, all: &[Density]) {
    let _ = writeln!(out, "\n## How many at once\n");
    let heads = all.iter().map(|density| match head(density) {
        (name, Some(accelerator)) => format!("{}, {accelerator}", escape(&name)),
        (name, None) => escape(&name),
    });
    let _ = writeln!(out, "| | {} |", heads.collect::<Vec<_>>().join(" | "));
    let _ = writeln!(out, "|:--|{}", "--:|".repeat(all.len()));
    for row in rows(all) {
        let cells: Vec<String> = row.cells.iter().map(|cell| escape(cell)).collect();
        let _ = writeln!(out, "| {} | {} |", escape(row.label.trim()), cells.join(" | "));
    }
    let _ = writeln!(out, "\n{}", escape(&notes(all).join(" ")));
}
