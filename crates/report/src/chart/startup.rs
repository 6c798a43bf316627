//! Start-up of every sample, with median and interval.

use super::{Anchor, Canvas, Chart, NORMAL, Plan, Role, SMALL, Source, axis::Axis, make, text_width};
use crate::{
    Error,
    analysis::{Figure, Metric, TargetAnalysis, Unit, is_measured},
    text,
};

/// The chart of start-up.
///
/// # Errors
/// When the drawing library fails.
pub fn chart(source: &Source<'_>) -> Result<Chart, Error> {
    let values: Vec<f64> = source
        .targets()
        .filter_map(|(_, t)| t.figure(Metric::Startup))
        .flat_map(|f| [f.min, f.max])
        .collect();
    let low = values.iter().copied().fold(f64::INFINITY, f64::min);
    let high = values.iter().copied().fold(0.0, f64::max);
    let log = Axis::spanning(low, high, (0.0, 1.0)).is_log();
    let scale = if log {
        "The scale is logarithmic: equal steps are equal factors."
    } else {
        "The scale is linear and starts at zero."
    };
    make(
        source,
        Plan {
            name: "startup",
            title: "Start-up: requested to ready",
            caption: format!(
                "Every good sample is a dot, the first at the top of its row, the last at the bottom. The bar is the \
                 median, the band its interval; a ringed dot is an outlier, flagged and kept; a square \
                 marks a sample with interference, kept too. {scale} Multiples refer to \
                 the baseline's start-up."
            ),
            description: describe(source),
            layout: &|canvas| layout(source, canvas, low, high),
        },
    )
}

fn describe(source: &Source<'_>) -> String {
    let each = source.targets().map(|(_, t)| match t.figure(Metric::Startup) {
        Some(f) => format!("{} {}", text::name(&t.name), shown(f)),
        None => format!("{} no good sample", text::name(&t.name)),
    });
    let samples = || source.results.samples.iter().filter(|s| is_measured(s));
    let interference = match samples().filter(|s| source.has_interference(s)).count() {
        0 => String::new(),
        n => format!(" {n} of {} samples had interference.", samples().count()),
    };
    format!("Median start-up: {}.{interference}", each.collect::<Vec<_>>().join("; "))
}

fn shown(figure: &Figure) -> String {
    let interval = text::interval(Unit::Time, figure.median, figure.interval.as_ref());
    format!("{} {interval}", text::value(Unit::Time, figure.median))
}

/// The legend, where the chart has a square.
fn legend(source: &Source<'_>, canvas: &mut Canvas) {
    if source.results.samples.iter().any(|s| is_measured(s) && source.has_interference(s)) {
        let at = (10.0, canvas.y + 11.0);
        canvas.dot(at, 3.0, Role::Ink, 1.0);
        canvas.square(at, 5.5, Role::Bad);
        canvas.text(25.0, at.1, "sample with interference", SMALL, Role::Muted, Anchor::Start);
        canvas.y += 30.0;
    }
}

fn layout(source: &Source<'_>, canvas: &mut Canvas, low: f64, high: f64) {
    legend(source, canvas);
    let width = canvas.width();
    let pixels = if canvas.narrow() { (16.0, width - 10.0) } else { (150.0, width - 176.0) };
    let axis = Axis::spanning(low, high, pixels);
    let (head, body) = if canvas.narrow() { (26.0, 56.0) } else { (0.0, 68.0) };
    let top = canvas.y;
    let rows = source.analysis.targets.len() as f64;
    let bottom = top + rows * (head + body + 10.0);
    if high > 0.0 {
        grid(canvas, &axis, top, bottom);
    }
    for (i, (role, target)) in source.targets().enumerate() {
        let y = top + i as f64 * (head + body + 10.0) + 5.0;
        label(canvas, target, y, head, body);
        dots(source, canvas, (role, target), &axis, (y + head, y + head + body));
    }
    canvas.y = bottom + 30.0;
}

fn grid(canvas: &mut Canvas, axis: &Axis, top: f64, bottom: f64) {
    for (value, label) in axis.ticks(Unit::Time, 6) {
        let x = axis.x(value);
        let opacity = if label.is_some() { 1.0 } else { 0.45 };
        canvas.line(&[(x, top), (x, bottom)], Role::Grid, 1.0, opacity);
        if let Some(label) = label {
            canvas.text(x, bottom + 12.0, label, SMALL, Role::Muted, Anchor::Middle);
        }
    }
}

fn label(canvas: &mut Canvas, target: &TargetAnalysis, y: f64, head: f64, body: f64) {
    let name = canvas.short(&target.name, 24);
    let accelerator = text::accelerator_of(target);
    let figure = target.figure(Metric::Startup);
    if canvas.narrow() {
        let line = head / 2.0 - 2.0 + y;
        let value = figure.map_or("no good sample".into(), shown);
        let named = (text_width(&name, NORMAL + 3.0) + 6.0).min(158.0);
        let left = canvas.width() - named - text_width(&value, SMALL);
        canvas.name(0.0, line, &name, 150.0);
        // Without room, the note below the chart has it.
        if let Some(accelerator) = accelerator.filter(|a| text_width(a, SMALL) < left) {
            canvas.text(named, line, accelerator, SMALL, Role::Muted, Anchor::Start);
        }
        canvas.text(canvas.width(), line, value, SMALL, Role::Ink, Anchor::End);
        return;
    }
    let middle = y + body / 2.0;
    let shift = if accelerator.is_some() { 9.0 } else { 0.0 };
    canvas.name(0.0, middle - shift, &name, 140.0);
    if let Some(accelerator) = accelerator {
        canvas.text(0.0, middle + 10.0, accelerator, SMALL, Role::Muted, Anchor::Start);
    }
    let right = canvas.width();
    let Some(figure) = figure else {
        canvas.text(right, middle, "no good sample", SMALL, Role::Muted, Anchor::End);
        return;
    };
    let ratio = figure.against.ratio();
    let up = if ratio.is_some() { 19.0 } else { 9.0 };
    canvas.bold(right, middle - up, text::value(Unit::Time, figure.median), 16.0, Role::Ink, Anchor::End);
    let interval = text::interval(Unit::Time, figure.median, figure.interval.as_ref());
    canvas.text(right, middle - up + 20.0, interval, SMALL, Role::Muted, Anchor::End);
    if let Some(ratio) = ratio {
        let interval = text::times_interval(ratio.interval.as_ref());
        let words = format!("{} {interval}", text::times(ratio.estimate));
        canvas.text(right, middle - up + 38.0, words, SMALL, Role::Muted, Anchor::End);
    }
}

fn dots(
    source: &Source<'_>,
    canvas: &mut Canvas,
    (role, target): (Role, &TargetAnalysis),
    axis: &Axis,
    (top, bottom): (f64, f64),
) {
    let Some(figure) = target.figure(Metric::Startup) else { return };
    let median = axis.x(figure.median);
    if let Some(interval) = figure.interval {
        // A band narrower than its median's bar would be invisible.
        let (low, high) = (axis.x(interval.low).min(median - 2.0), axis.x(interval.high).max(median + 2.0));
        canvas.rect((low, high), (top, bottom), role, 0.2);
    }
    canvas.rect((median - 1.25, median + 1.25), (top, bottom), role, 1.0);
    let of_target = source.results.samples.iter().enumerate();
    let of_target =
        of_target.filter(|(_, s)| s.target == target.name && is_measured(s) && s.timeline_ns.ready.is_some());
    let of_target: Vec<_> = of_target.collect();
    let step = (bottom - top - 10.0) / (of_target.len().max(2) - 1) as f64;
    for (place, (index, sample)) in of_target.iter().enumerate() {
        let Some(ready) = sample.timeline_ns.ready else { continue };
        let at = (axis.x(ready as f64), top + 5.0 + step * place as f64);
        canvas.dot(at, 3.4, role, 0.75);
        if figure.outliers.contains(index) {
            canvas.ring(at, 6.5, Role::Ink, 1.5);
        }
        if source.has_interference(sample) {
            // Small, because a row may have a hundred of them.
            canvas.square(at, 5.5, Role::Bad);
        }
    }
}
