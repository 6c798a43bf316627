//! BASE beside NEW: every sample of both, a panel for each figure that gates.

use std::collections::BTreeSet;

use super::{Anchor, Canvas, Chart, NORMAL, Plan, Role, SMALL, axis::Axis, make_with, processor_note};
use crate::{
    Error,
    analysis::{
        Interval, Metric, Unit,
        comparison::{Comparison, Pair, Row, Side},
        values,
    },
    comparison as shown,
    sample::{Accelerator, Results},
    text,
};

/// Largest number of panels; the table has all figures.
const MOST: usize = 24;
const BAND: f64 = 46.0;
/// Colours of BASE and NEW.
const ROLES: [Role; 2] = [Role::Target(0), Role::Target(1)];

struct Panel<'a> {
    scenario: &'a str,
    row: &'a Row,
    unit: Unit,
    values: [Vec<f64>; 2],
}

/// The chart; `None` when no figure gates.
///
/// # Errors
/// When the drawing library fails.
pub fn chart(comparison: &Comparison, runs: &[(&Results, &Results)]) -> Result<Option<Chart>, Error> {
    let all = comparison.pairs.iter().flat_map(|pair| panels(pair, runs));
    let panels: Vec<Panel> = all.take(MOST).collect();
    if panels.is_empty() {
        return Ok(None);
    }
    let rows = || comparison.pairs.iter().flat_map(|pair| &pair.rows);
    let mut emulated: Vec<&str> =
        rows().filter(|row| row.accelerator == Accelerator::Tcg).map(|row| row.target.as_str()).collect();
    emulated.sort_unstable();
    emulated.dedup();
    let processors: BTreeSet<String> = runs
        .iter()
        .flat_map(|(base, new)| [base, new])
        .filter_map(|r| text::emulated_processor(&r.host))
        .collect();
    let targets = emulated
        .into_iter()
        .map(|name| format!("{}: {}, no hardware virtualisation.", text::name(name), text::EMULATED));
    let mut notes: Vec<String> = processors.into_iter().map(processor_note).chain(targets).collect();
    let gating = rows().filter(|row| row.gates).count();
    if gating > MOST {
        notes.push(format!("This chart shows {MOST} of {gating} gating figures; the table has all."));
    }
    let each = panels.iter().map(|panel| {
        let row = panel.row;
        format!("{} of {}: {}, {}", row.metric, text::name(&row.target), shown::ratio(row), shown::word(row))
    });
    let description = format!("NEW / BASE. {}.", each.collect::<Vec<_>>().join("; "));
    let plan = Plan {
        name: "sides",
        title: "BASE and NEW",
        caption: "Each dot is an instance, in the order taken from top to bottom; the bar is the median, the band its \
                  interval. The axis does not start at zero."
            .into(),
        description,
        layout: &|canvas| layout(canvas, &panels),
    };
    make_with(&notes, "", plan).map(Some)
}

fn panels<'a>(pair: &'a Pair, runs: &[(&Results, &Results)]) -> Vec<Panel<'a>> {
    let is = |(base, new): &&(&Results, &Results)| base.run.id == pair.base.id && new.run.id == pair.new.id;
    let Some((base, new)) = runs.iter().find(is) else { return Vec::new() };
    let panel = |row: &'a Row| {
        let metric = Metric::from_name(&row.metric)?;
        let values = [*base, *new].map(|results| values(results, &row.target, metric));
        let some = values.iter().any(|side| !side.is_empty());
        some.then(|| Panel { scenario: &pair.scenario, row, unit: metric.unit(), values })
    };
    pair.rows.iter().filter(|row| row.gates).filter_map(panel).collect()
}

fn layout(canvas: &mut Canvas, panels: &[Panel<'_>]) {
    let several = panels.iter().any(|panel| panel.scenario != panels[0].scenario);
    for panel in panels {
        let top = canvas.y;
        let name = format!("{} {}", canvas.short(&panel.row.target, 24), panel.row.metric);
        let name = if several { format!("{} {name}", canvas.short(panel.scenario, 24)) } else { name };
        canvas.bold(0.0, top + 9.0, name, NORMAL, Role::Ink, Anchor::Start);
        let verdict = format!("{} {}", shown::ratio(panel.row), shown::word(panel.row));
        let (x, y, anchor) = match canvas.narrow() {
            true => (0.0, top + 28.0, Anchor::Start),
            false => (canvas.width(), top + 9.0, Anchor::End),
        };
        canvas.text(x, y, verdict, SMALL, Role::Muted, anchor);
        canvas.y = if canvas.narrow() { top + 42.0 } else { top + 26.0 };
        bands(canvas, panel);
        canvas.y += 36.0;
    }
}

fn bands(canvas: &mut Canvas, panel: &Panel<'_>) {
    let all = || panel.values.iter().flatten().copied();
    let (low, high) = (all().fold(f64::INFINITY, f64::min), all().fold(f64::NEG_INFINITY, f64::max));
    let axis = Axis::within(low, high, (56.0, canvas.width() - 8.0));
    let (top, bottom) = (canvas.y, canvas.y + 2.0 * BAND);
    for (value, label) in axis.ticks(panel.unit, if canvas.narrow() { 3 } else { 6 }) {
        let x = axis.x(value);
        canvas.line(&[(x, top), (x, bottom)], Role::Grid, 1.0, 1.0);
        canvas.text(x, bottom + 11.0, label.unwrap_or_default(), SMALL, Role::Muted, Anchor::Middle);
    }
    let sides = [("BASE", &panel.row.base), ("NEW", &panel.row.new)];
    for (i, (name, side)) in sides.into_iter().enumerate() {
        let top = top + i as f64 * BAND;
        canvas.text(0.0, top + BAND / 2.0, name, SMALL, ROLES[i], Anchor::Start);
        dots(canvas, &axis, ROLES[i], (top + 4.0, top + BAND - 4.0), side, &panel.values[i]);
    }
    canvas.y = bottom;
}

fn dots(
    canvas: &mut Canvas,
    axis: &Axis,
    role: Role,
    (top, bottom): (f64, f64),
    side: &Side,
    values: &[f64],
) {
    let Some(median) = side.median.map(|median| axis.x(median)) else { return };
    if let Some(Interval { low, high, .. }) = side.interval {
        canvas.rect(
            (axis.x(low).min(median - 2.0), axis.x(high).max(median + 2.0)),
            (top, bottom),
            role,
            0.2,
        );
    }
    canvas.rect((median - 1.25, median + 1.25), (top, bottom), role, 1.0);
    let step = (bottom - top - 6.0) / (values.len().max(2) - 1) as f64;
    for (place, value) in values.iter().enumerate() {
        canvas.dot((axis.x(*value), top + 3.0 + step * place as f64), 2.8, role, 0.75);
    }
}
