//! Density: memory and start-up over the number of instances, and start-ups of bursts.

use super::{Anchor, Canvas, Chart, Plan, Role, SMALL, Source, axis::Axis, make, text_width};
use crate::{
    Error,
    analysis::{Unit, density::Density},
    density as words,
    sample::{self, Outcome},
    text,
};

const HEIGHT: f64 = 150.0;

/// A filled target: its record, its figures and its colour.
struct Filled<'a> {
    record: &'a sample::density::Density,
    figures: &'a Density,
    role: Role,
}

/// The charts; empty where no target was filled.
///
/// # Errors
/// When the drawing library fails.
pub fn charts(source: &Source<'_>) -> Result<Vec<Chart>, Error> {
    let place = |name: &str| source.analysis.targets.iter().position(|t| t.name == name).unwrap_or(0);
    let both = source.results.density.iter().zip(&source.analysis.density);
    let all: Vec<Filled> = both
        .map(|(record, figures)| Filled { record, figures, role: Role::Target(place(&record.target)) })
        .filter(|filled| filled.record.steps.iter().any(good))
        .collect();
    if all.is_empty() {
        return Ok(Vec::new());
    }
    let mut charts = vec![memory(source, &all)?, startup(source, &all)?];
    if all.iter().any(|filled| !filled.record.bursts.is_empty()) {
        charts.push(bursts(source, &all)?);
    }
    Ok(charts)
}

fn good(step: &sample::density::Step) -> bool {
    step.outcome == Outcome::Ok && step.error.is_none()
}

/// A panel: points, a line through them if there is one, and the text of its head.
struct Panel<'a> {
    filled: &'a Filled<'a>,
    points: Vec<(f64, f64)>,
    /// Intercept and slope.
    line: Option<(f64, f64)>,
    said: String,
}

fn memory_of<'a>(filled: &'a Filled<'a>) -> Panel<'a> {
    let Filled { record, figures, .. } = filled;
    let point = |s: &sample::density::Step| Some((f64::from(s.n), s.footprint_sum_bytes? as f64));
    Panel {
        filled,
        points: record.steps.iter().filter(|s| good(s)).filter_map(point).collect(),
        line: figures.memory.map(|each| (0.0, each.value)),
        said: figures.memory.map_or("no reading".into(), |each| {
            let interval = text::interval(Unit::Size, each.value, each.interval.as_ref());
            format!("{} {interval} each", text::value(Unit::Size, each.value))
        }),
    }
}

fn memory(source: &Source<'_>, all: &[Filled<'_>]) -> Result<Chart, Error> {
    let panels: Vec<Panel> = all.iter().map(memory_of).collect();
    make(
        source,
        Plan {
            name: "density-memory",
            title: "Memory of all instances at once",
            caption: format!(
                "Each dot is the sum of the footprints of that many instances, read after the last one was ready and settled. \
                 The line has the slope above it, {}: dots off the line show that later instances cost more or less than \
                 earlier ones. Each panel has its own scale.",
                words::EACH
            ),
            description: describe(&panels),
            layout: &|canvas| panels.iter().for_each(|p| plot(canvas, p, Unit::Size)),
        },
    )
}

fn startup_of<'a>(filled: &'a Filled<'a>) -> Panel<'a> {
    let Filled { record, figures, .. } = filled;
    let point = |s: &sample::density::Step| Some((f64::from(s.n), s.timeline_ns.ready? as f64));
    let slope = figures.startup.and_then(|s| Some((s.intercept?, s.slope?)));
    Panel {
        filled,
        points: record.steps.iter().filter_map(point).collect(),
        line: slope.map(|(intercept, each)| (intercept, each.value)),
        said: match slope {
            Some((_, each)) => {
                let interval = text::interval(Unit::Time, each.value, each.interval.as_ref());
                format!("{} {interval} with each", text::signed(Unit::Time, each.value))
            }
            None => "too few instances for a slope".into(),
        },
    }
}

fn startup(source: &Source<'_>, all: &[Filled<'_>]) -> Result<Chart, Error> {
    let panels: Vec<Panel> = all.iter().map(startup_of).collect();
    make(
        source,
        Plan {
            name: "density-startup",
            title: "Start-up of the next instance",
            caption: "Each dot is the start-up of the n-th instance, requested after the others were ready. The line is Theil \
                      and Sen's; its slope is the growth of start-up with each instance that is already there. Each panel has \
                      its own scale."
                .into(),
            description: describe(&panels),
            layout: &|canvas| panels.iter().for_each(|p| plot(canvas, p, Unit::Time)),
        },
    )
}

fn describe(panels: &[Panel<'_>]) -> String {
    let each = panels.iter().map(|panel| {
        let record = panel.filled.record;
        format!("{} up to {}: {}", text::name(&record.target), record.reached(), panel.said)
    });
    format!("{}.", each.collect::<Vec<_>>().join("; "))
}

/// A target's name at the left, the panel's text at the right or below it.
fn heading(canvas: &mut Canvas, filled: &Filled<'_>, said: &str) {
    let y = canvas.y + 9.0;
    canvas.name(0.0, y, &filled.record.target, 150.0);
    if let Some(accelerator) = text::accelerator(filled.figures.accelerator).filter(|_| !canvas.narrow()) {
        canvas.text(160.0, y, accelerator, SMALL, Role::Muted, Anchor::Start);
    }
    match canvas.narrow() {
        true => canvas.text(0.0, y + 19.0, said, SMALL, Role::Ink, Anchor::Start),
        false => canvas.text(canvas.width(), y, said, SMALL, Role::Ink, Anchor::End),
    }
    canvas.y += if canvas.narrow() { 42.0 } else { 26.0 };
}

fn plot(canvas: &mut Canvas, panel: &Panel<'_>, unit: Unit) {
    let role = panel.filled.role;
    heading(canvas, panel.filled, &panel.said);
    let (left, right) = (78.0, canvas.width() - 10.0);
    let (top, bottom) = (canvas.y, canvas.y + HEIGHT);
    let most = panel.points.iter().map(|p| p.0).fold(1.0, f64::max);
    let high = panel.points.iter().map(|p| p.1).fold(0.0, f64::max);
    let (across, up) = (Axis::linear(most, (left, right)), Axis::linear(high, (bottom, top)));
    for (value, label) in up.ticks(unit, 4) {
        let y = up.x(value);
        canvas.line(&[(left, y), (right, y)], Role::Grid, 1.0, 1.0);
        canvas.text(left - 8.0, y, label.unwrap_or_default(), SMALL, Role::Muted, Anchor::End);
    }
    let numbers = numbers(most, right - left);
    for number in numbers {
        canvas.text(across.x(number), bottom + 12.0, number.to_string(), SMALL, Role::Muted, Anchor::Middle);
    }
    if let Some((intercept, slope)) = panel.line {
        let ends = [0.0, most].map(|n| (across.x(n), up.x(intercept + slope * n)));
        canvas.line(&ends, role, 1.5, 0.6);
    }
    for (n, value) in &panel.points {
        canvas.dot((across.x(*n), up.x(*value)), 3.2, role, 0.85);
    }
    canvas.y = bottom + 32.0;
}

/// Whole numbers for the axis below, as many as fit.
fn numbers(most: f64, room: f64) -> Vec<f64> {
    let about = (room / 60.0).clamp(2.0, 10.0);
    let fits = |step: &f64| most / step <= about;
    let steps = (0..6).flat_map(|power| [1.0, 2.0, 5.0].map(|step| step * 10_f64.powi(power)));
    let step = steps.into_iter().find(fits).unwrap_or(most);
    (0..=(most / step) as u32).map(|i| f64::from(i) * step).collect()
}

fn bursts(source: &Source<'_>, all: &[Filled<'_>]) -> Result<Chart, Error> {
    let each = all.iter().flat_map(|filled| {
        filled.figures.bursts.iter().filter_map(|burst| {
            let [_, median, _, most] = burst.quantiles?;
            let time = |ns| text::value(Unit::Time, ns);
            let name = text::name(&filled.record.target);
            Some(format!("{} of {name}: median {}, longest {}", burst.n, time(median), time(most)))
        })
    });
    let description = format!("{}.", each.collect::<Vec<_>>().join("; "));
    make(
        source,
        Plan {
            name: "density-bursts",
            title: "Start-up of instances requested at once",
            caption: "Each dot is the start-up of one instance, from its own request until it was ready; the bar is their \
                      median. A row shows the instances of one burst. Each target has its own scale, from zero."
                .into(),
            description,
            layout: &|canvas| all.iter().for_each(|filled| rows(canvas, filled)),
        },
    )
}

fn rows(canvas: &mut Canvas, filled: &Filled<'_>) {
    const ROW: f64 = 34.0;
    let all = || filled.record.bursts.iter().zip(&filled.figures.bursts);
    if all().next().is_none() {
        return;
    }
    heading(canvas, filled, "");
    let high = all().flat_map(|(burst, _)| burst.ready_ns.last()).copied().max().unwrap_or(0);
    let label = |n: u32| format!("{n} at once");
    let left = all().map(|(burst, _)| text_width(&label(burst.n), SMALL)).fold(60.0, f64::max) + 12.0;
    let axis = Axis::linear(high as f64, (left, canvas.width() - 14.0));
    let (top, bottom) = (canvas.y, canvas.y + ROW * all().count() as f64);
    for (value, label) in axis.ticks(Unit::Time, if canvas.narrow() { 3 } else { 6 }) {
        let x = axis.x(value);
        canvas.line(&[(x, top), (x, bottom)], Role::Grid, 1.0, 1.0);
        canvas.text(x, bottom + 12.0, label.unwrap_or_default(), SMALL, Role::Muted, Anchor::Middle);
    }
    for (i, (burst, figures)) in all().enumerate() {
        let middle = top + ROW * (i as f64 + 0.5);
        canvas.text(0.0, middle, label(burst.n), SMALL, Role::Muted, Anchor::Start);
        if let Some([_, median, ..]) = figures.quantiles {
            let x = axis.x(median);
            canvas.rect((x - 1.25, x + 1.25), (middle - 12.0, middle + 12.0), filled.role, 1.0);
        }
        for ns in &burst.ready_ns {
            canvas.dot((axis.x(*ns as f64), middle), 3.2, filled.role, 0.75);
        }
        if burst.failed > 0 {
            let said = format!("{} failed", burst.failed);
            canvas.text(canvas.width(), middle, said, SMALL, Role::Bad, Anchor::End);
        }
    }
    canvas.y = bottom + 34.0;
}
