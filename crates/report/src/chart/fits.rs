//! Measured figures over known amounts: a small panel with a fitted line for each slope that must be 1.

use super::{Anchor, Canvas, Chart, NORMAL, Plan, Role, SMALL, axis::Axis, make_with, processor_note};
use crate::{
    Error,
    analysis::calibration::{Calibration, Check, Row},
    analysis::{Unit, median::median},
    sample::Accelerator,
    text,
};

const HEIGHT: f64 = 150.0;

/// The chart; `None` without a fitted figure.
///
/// # Errors
/// When the drawing library fails.
pub fn chart(calibration: &Calibration) -> Result<Option<Chart>, Error> {
    let rows: Vec<(usize, &Row)> = calibration
        .rows
        .iter()
        .filter(|row| !row.points.is_empty() && row.truth != Some(0.0))
        .map(|row| (calibration.targets.iter().position(|t| t.name == row.target).unwrap_or(0), row))
        .collect();
    if rows.is_empty() {
        return Ok(None);
    }
    let notes: Vec<String> = calibration
        .targets
        .iter()
        .filter(|target| target.accelerator == Accelerator::Tcg)
        .map(|target| {
            format!("{}: {}, no hardware virtualisation.", text::clip(&target.name, 24), text::EMULATED)
        })
        .chain(text::emulated_processor(&calibration.host).map(processor_note))
        .chain([text::PageCache::AsFound.sentence().to_owned()])
        .chain(calibration.broken.map(|broken| format!("Broken on purpose: {}.", broken.name())))
        .collect();
    let about = format!("{} · seed {}", text::clip(&calibration.started_at, 30), calibration.seed);
    let each =
        rows.iter().map(|(_, row)| format!("{} of {}: {}", row.metric, text::name(&row.target), slope(row)));
    let description = format!("Slopes. {}.", each.collect::<Vec<_>>().join("; "));
    make_with(
        &notes,
        &about,
        Plan {
            name: "fits",
            title: "Measured and known amounts",
            caption: "Each dot is an instance: its known amount on the horizontal axis, its measured figure on the vertical \
                      axis, both from zero. The line is Theil and Sen's; the verdict is about its slope, and its intercept is \
                      the cost of an instance without the known amount."
                .into(),
            description,
            layout: &|canvas| layout(canvas, &rows),
        },
    )
    .map(Some)
}

fn slope(row: &Row) -> String {
    row.measured.map_or(text::NOTHING.into(), |slope| format!("slope {slope:.4}"))
}

fn layout(canvas: &mut Canvas, rows: &[(usize, &Row)]) {
    let columns = if canvas.narrow() { 1 } else { 3 };
    let gap = 36.0;
    let width = (canvas.width() - gap * (columns - 1) as f64) / columns as f64;
    for line in rows.chunks(columns) {
        let top = canvas.y;
        for (column, (target, row)) in line.iter().enumerate() {
            panel(canvas, (column as f64 * (width + gap), top), width, Role::Target(*target), row);
        }
        canvas.y = top + HEIGHT + 80.0;
    }
}

fn panel(canvas: &mut Canvas, (left, top): (f64, f64), width: f64, role: Role, row: &Row) {
    let unit = match row.check {
        Check::Memory | Check::File => Unit::Size,
        _ => Unit::Time,
    };
    canvas.bold(
        left,
        top + 9.0,
        format!("{} {}", text::clip(&row.target, 16), row.metric),
        NORMAL,
        Role::Ink,
        Anchor::Start,
    );
    canvas.text(left, top + 28.0, slope(row), SMALL, Role::Muted, Anchor::Start);
    let highest = |i: usize| row.points.iter().map(|p| p[i]).fold(0.0, f64::max);
    let (ceiling, floor) = (top + 44.0, top + 44.0 + HEIGHT);
    let (start, end) = (left + 58.0, left + width);
    let (x, y) = (Axis::linear(highest(0), (start, end)), Axis::linear(highest(1), (floor, ceiling)));
    for (value, label) in x.ticks(unit, 3) {
        canvas.line(&[(x.x(value), ceiling), (x.x(value), floor)], Role::Grid, 1.0, 1.0);
        canvas.text(x.x(value), floor + 11.0, label.unwrap_or_default(), SMALL, Role::Muted, Anchor::Middle);
    }
    for (value, label) in y.ticks(unit, 3) {
        canvas.line(&[(start, y.x(value)), (end, y.x(value))], Role::Grid, 1.0, 1.0);
        canvas.text(start - 6.0, y.x(value), label.unwrap_or_default(), SMALL, Role::Muted, Anchor::End);
    }
    if let Some(slope) = row.measured {
        let rest: Vec<f64> = row.points.iter().map(|[known, is]| is - slope * known).collect();
        let base = median(&rest).unwrap_or(0.0);
        let end = highest(0);
        canvas.line(&[(x.x(0.0), y.x(base)), (x.x(end), y.x(base + slope * end))], role, 1.5, 0.6);
    }
    for [known, is] in &row.points {
        canvas.dot((x.x(*known), y.x(*is)), 3.4, role, 0.75);
    }
}
