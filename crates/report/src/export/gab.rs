//! github-action-benchmark's `customSmallerIsBetter` and `customBiggerIsBetter`: one file for each direction. Its
//! alerts use the quotient of two commits' values under one name. Therefore an emulated VM has another name, and
//! figures of zero or below are left out.

use std::path::PathBuf;

use serde::Serialize;

use super::{Run, Target, text};
use crate::{
    analysis::{Figure, Interval, Unit},
    metric,
};

#[derive(Serialize)]
struct Entry {
    name: String,
    unit: &'static str,
    value: f64,
    /// Only "± x": the action parses the text after the sign as a number in `unit`.
    #[serde(skip_serializing_if = "Option::is_none")]
    range: Option<String>,
    extra: String,
}

/// The files of both directions.
pub fn files(run: &Run<'_>, _: &mut Vec<String>) -> Vec<(PathBuf, Vec<u8>)> {
    let (mut smaller, mut bigger) = (Vec::new(), Vec::new());
    for target in &run.targets {
        smaller.extend(target.analysed.figures.iter().filter_map(|figure| cost(run, target, figure)));
        bigger.extend(metric::TABLE.iter().filter_map(|row| {
            let (name, unit) = row.rate?;
            rate(run, target, target.analysed.figure(row.metric)?, name, unit)
        }));
    }
    let file = |name: &str, entries: &Vec<Entry>| (PathBuf::from(name), super::json(entries));
    vec![file("smaller-is-better.json", &smaller), file("bigger-is-better.json", &bigger)]
}

fn cost(run: &Run<'_>, target: &Target<'_>, figure: &Figure) -> Option<Entry> {
    // The action converts times between commits, but not sizes: one unit for each kind.
    let (unit, one) = match figure.metric.unit() {
        Unit::Time => ("ms", 1e6),
        Unit::Size => ("MiB", 1_048_576.0),
        Unit::Share => ("% of a core", 0.01),
    };
    let name = format!("{}: {}", target.label, figure.metric.name());
    let interval = figure.interval.map(|i| Interval { low: i.low / one, high: i.high / one, ..i });
    entry(run, target, figure, name, unit, figure.median / one, interval)
}

fn rate(
    run: &Run<'_>,
    target: &Target<'_>,
    figure: &Figure,
    name: &str,
    unit: &'static str,
) -> Option<Entry> {
    let per_second = |ns: f64| 1e9 / ns;
    let name = format!("{}: {name}", target.label);
    let interval = figure.interval.filter(|i| i.low > 0.0);
    let interval = interval.map(|i| Interval { low: per_second(i.high), high: per_second(i.low), ..i });
    entry(run, target, figure, name, unit, per_second(figure.median), interval)
}

fn entry(
    run: &Run<'_>,
    target: &Target<'_>,
    figure: &Figure,
    name: String,
    unit: &'static str,
    value: f64,
    interval: Option<Interval>,
) -> Option<Entry> {
    (value.is_finite() && value > 0.0).then(|| Entry {
        name,
        unit,
        value,
        // The format has one number for both sides: the longer one covers the interval.
        range: interval.map(|i| format!("± {}", (i.high - value).max(value - i.low))),
        extra: extra(run, target, figure, interval, unit),
    })
}

/// Tooltip of a value.
fn extra(
    run: &Run<'_>,
    target: &Target<'_>,
    figure: &Figure,
    interval: Option<Interval>,
    unit: &str,
) -> String {
    let mut lines = vec![format!("median of {} samples", figure.n)];
    lines.push(match interval {
        Some(i) => {
            let (low, high) = (text::digits(i.low), text::digits(i.high));
            format!("{} interval {low} to {high} {unit}", text::coverage(i.coverage))
        }
        None => format!("no interval: {} samples", text::TOO_FEW),
    });
    if let Some(accelerator) = target.accelerator {
        lines.push(format!("accelerator: {accelerator}"));
    }
    lines.push(format!("image: {}", text::image(&run.results.image)));
    lines.push(format!("run: {}", text::clip(&run.results.run.id, 128)));
    lines.join("\n")
}
