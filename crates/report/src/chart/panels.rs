//! Memory, CPU and disk: a small panel of bars for each metric, because metrics with different
//! definitions must not be added up or share a scale.

use super::{Anchor, Canvas, Chart, NORMAL, Plan, Role, SMALL, Source, axis::Axis, make};
use crate::{
    Error,
    analysis::{Figure, Metric, TargetAnalysis},
    metric::{self, Group},
    text,
};

/// A metric that a chart shows, and the line below its title.
#[derive(Clone, Copy)]
struct Panel {
    metric: Metric,
    about: &'static str,
}

impl Panel {
    fn title(&self) -> String {
        text::capital(self.metric.row().label)
    }
}

/// Panels of a group, in the table's order.
fn panels(group: Group) -> Vec<Panel> {
    let rows = metric::TABLE.iter().filter(|row| row.group == group);
    rows.filter_map(|row| Some(Panel { metric: row.metric, about: row.panel? })).collect()
}

/// The chart of memory metrics.
///
/// # Errors
/// When the drawing library fails.
pub fn memory(source: &Source<'_>) -> Result<Chart, Error> {
    chart(
        source,
        "memory",
        "Memory, by part",
        "Read after the settle time. The parts overlap and are never added up: the footprint includes the engine's \
         processes, except the files that they map.",
        &panels(Group::Memory),
    )
}

/// The chart of CPU metrics.
///
/// # Errors
/// When the drawing library fails.
pub fn cpu(source: &Source<'_>) -> Result<Chart, Error> {
    chart(
        source,
        "cpu",
        "CPU: to start, idle, and for the work",
        "CPU time is that of one core, measured on the host for the instance and its engine.",
        &panels(Group::Cpu),
    )
}

/// The chart of disk metrics; `None` where the run measured none.
///
/// # Errors
/// When the drawing library fails.
pub fn disk(source: &Source<'_>) -> Result<Option<Chart>, Error> {
    let measured = |panel: &&Panel| source.targets().any(|(_, target)| target.figure(panel.metric).is_some());
    let panels: Vec<Panel> = panels(Group::Disk).into_iter().filter(|panel| measured(&panel)).collect();
    if panels.is_empty() {
        return Ok(None);
    }
    chart(
        source,
        "disk",
        "Disk: the image, an instance, and what copy-on-write costs",
        "Sizes are those of allocated blocks on the host, read once the instance has settled.",
        &panels,
    )
    .map(Some)
}

fn chart(
    source: &Source<'_>,
    name: &'static str,
    title: &'static str,
    caption: &str,
    panels: &[Panel],
) -> Result<Chart, Error> {
    let words: Vec<String> = panels.iter().map(|p| describe(source, p)).collect();
    make(
        source,
        Plan {
            name,
            title,
            caption: format!(
                "{caption} Bars are medians, whiskers their intervals. Each panel has its own scale, from zero."
            ),
            description: words.join(" "),
            layout: &|canvas| layout(source, canvas, panels),
        },
    )
}

fn describe(source: &Source<'_>, panel: &Panel) -> String {
    let value = |t: &TargetAnalysis| {
        t.median(panel.metric).map_or("not given".into(), |m| text::value(panel.metric.unit(), m))
    };
    let each: Vec<String> =
        source.targets().map(|(_, t)| format!("{} {}", text::name(&t.name), value(t))).collect();
    format!("{}: {}.", panel.title(), each.join(", "))
}

fn layout(source: &Source<'_>, canvas: &mut Canvas, panels: &[Panel]) {
    let columns = if canvas.narrow() { 1 } else { 2 };
    let gap = 48.0;
    let width = (canvas.width() - gap * (columns - 1) as f64) / columns as f64;
    let height = 44.0 + source.analysis.targets.len() as f64 * 30.0 + 34.0;
    let top = canvas.y;
    for (i, panel) in panels.iter().enumerate() {
        let x = (i % columns) as f64 * (width + gap);
        let y = top + (i / columns) as f64 * (height + 12.0);
        draw(source, canvas, panel, (x, x + width), y);
    }
    canvas.y = top + panels.len().div_ceil(columns) as f64 * (height + 12.0) - 4.0;
}

fn draw(source: &Source<'_>, canvas: &mut Canvas, panel: &Panel, (left, right): (f64, f64), y: f64) {
    canvas.bold(left, y + 8.0, panel.title(), NORMAL + 1.0, Role::Ink, Anchor::Start);
    canvas.text(left, y + 26.0, panel.about, SMALL, Role::Muted, Anchor::Start);
    let figures: Vec<(Role, &TargetAnalysis, Option<&Figure>)> =
        source.targets().map(|(role, t)| (role, t, t.figure(panel.metric))).collect();
    let upper = |f: &Figure| f.interval.map_or(f.median, |i| i.high.max(f.median));
    let highest = figures.iter().filter_map(|(_, _, f)| f.map(upper)).fold(0.0, f64::max);
    let axis = Axis::linear(highest, (left + 92.0, right - 84.0));
    let (top, bottom) = (y + 44.0, y + 44.0 + figures.len() as f64 * 30.0);
    let unit = panel.metric.unit();
    if highest > 0.0 {
        for (value, label) in axis.ticks(unit, 3) {
            let x = axis.x(value);
            canvas.line(&[(x, top - 4.0), (x, bottom)], Role::Grid, 1.0, 1.0);
            canvas.text(x, bottom + 11.0, label.unwrap_or_default(), SMALL, Role::Muted, Anchor::Middle);
        }
    }
    for (i, (role, target, figure)) in figures.into_iter().enumerate() {
        let middle = top + i as f64 * 30.0 + 13.0;
        canvas.name(left, middle, &target.name, 88.0);
        let Some(figure) = figure else {
            canvas.text(right, middle, "not given", SMALL, Role::Muted, Anchor::End);
            continue;
        };
        canvas.bold(right, middle, text::value(unit, figure.median), NORMAL, Role::Ink, Anchor::End);
        let (zero, end) = (axis.x(0.0), axis.x(figure.median));
        canvas.rect((zero, end.max(zero + 1.5)), (middle - 9.0, middle + 9.0), role, 1.0);
        if let Some(interval) = figure.interval {
            let (low, high) = (axis.x(interval.low), axis.x(interval.high));
            if high - low >= 2.0 {
                canvas.line(&[(low, middle), (high, middle)], Role::Ink, 1.5, 1.0);
                for x in [low, high] {
                    canvas.line(&[(x, middle - 4.0), (x, middle + 4.0)], Role::Ink, 1.5, 1.0);
                }
            }
        }
    }
}
