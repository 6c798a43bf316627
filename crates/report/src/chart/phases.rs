//! Start-up divided into its phases, and boot into its parts where a target has them: first as shares of each target's
//! own start-up, because one linear scale can't show a millisecond beside seconds; then on one linear scale.

use super::{Anchor, Canvas, Chart, NORMAL, Plan, Role, SMALL, Source, axis::Axis, make, text_width};
use crate::{
    Error,
    analysis::{Metric, TargetAnalysis, Unit},
    text,
};

/// Phases and their opacity, which distinguishes them in every colour and in print.
const PHASES: [(Metric, f64); 3] = [(Metric::Engine, 1.0), (Metric::Boot, 0.55), (Metric::App, 0.25)];
/// Parts of boot.
const PARTS: [(Metric, f64); 5] = [
    (Metric::Firmware, 0.7),
    (Metric::Kernel, 0.45),
    (Metric::Initrd, 0.7),
    (Metric::Userspace, 0.45),
    (Metric::AgentUnit, 0.7),
];

/// A phase or a part of one: its metric, its median in ns, its opacity.
type Phase = (Metric, f64, f64);

/// The chart of phases.
///
/// # Errors
/// When the drawing library fails.
pub fn chart(source: &Source<'_>) -> Result<Chart, Error> {
    make(
        source,
        Plan {
            name: "phases",
            title: "Where start-up goes: engine, boot, app",
            caption: "Above, each bar is one target's whole start-up, divided by the medians of its phases; lengths \
                      are not comparable between targets. Below, the same bars on one linear scale. Engine: until the \
                      engine's start call returned or the agent said hello; boot: until the agent said hello, shown by \
                      its parts for a VM; app: until ready."
                .into(),
            description: describe(source),
            layout: &|canvas| layout(source, canvas),
        },
    )
}

/// The phases in order. Parts longer than boot, which begin before it, don't replace it.
fn phases(target: &TargetAnalysis) -> Option<Vec<Phase>> {
    let median = |(metric, opacity)| Some((metric, target.median(metric)?, opacity));
    let [engine, boot, app] = PHASES.map(median);
    let (engine, boot, app) = (engine?, boot?, app?);
    let parts: Vec<Phase> = PARTS.into_iter().filter_map(median).collect();
    let sum: f64 = parts.iter().map(|(_, value, _)| value).sum();
    // Medians of parts add up to about the median of the whole.
    let fits = parts.len() > 1 && (sum - boot.1).abs() <= boot.1 / 10.0;
    let boot = if fits { parts } else { vec![boot] };
    Some([engine].into_iter().chain(boot).chain([app]).collect())
}

fn describe(source: &Source<'_>) -> String {
    let each = source.targets().map(|(_, t)| {
        let name = text::name(&t.name);
        let Some(phases) = phases(t) else { return format!("{name} no good sample") };
        let words = phases.iter().map(|&(metric, value, _)| words(metric, value));
        format!("{name} {}", words.collect::<Vec<_>>().join(", "))
    });
    format!("Median phases: {}.", each.collect::<Vec<_>>().join("; "))
}

fn words(metric: Metric, value: f64) -> String {
    format!("{} {}", metric.row().label, text::value(Unit::Time, value))
}

fn layout(source: &Source<'_>, canvas: &mut Canvas) {
    for (role, target) in source.targets() {
        shares(canvas, role, target);
    }
    let longest = source.targets().filter_map(|(_, t)| t.median(Metric::Startup)).fold(0.0, f64::max);
    if longest <= 0.0 {
        return;
    }
    canvas.y += 6.0;
    canvas.bold(0.0, canvas.y + 8.0, "The same on one linear scale", SMALL, Role::Muted, Anchor::Start);
    canvas.y += 24.0;
    lengths(source, canvas, longest);
}

/// One target: name and total, bar of shares, phases in words.
fn shares(canvas: &mut Canvas, role: Role, target: &TargetAnalysis) {
    let (width, y) = (canvas.width(), canvas.y);
    let wide = !canvas.narrow();
    let (left, right) = if wide { (150.0, width - 110.0) } else { (0.0, width) };
    let bar = if wide { y } else { y + 24.0 };
    let middle = if wide { bar + 13.0 } else { y + 10.0 };
    canvas.name(0.0, middle, &target.name, 140.0);
    if let Some(accelerator) = text::accelerator_of(target) {
        let name = text_width(&target.name, NORMAL + 3.0).min(142.0);
        let (x, line) = if wide { (0.0, middle + 19.0) } else { (name + 6.0, middle) };
        canvas.text(x, line, accelerator, SMALL, Role::Muted, Anchor::Start);
    }
    canvas.y = bar + 62.0;
    let (Some(phases), Some(total)) = (phases(target), target.median(Metric::Startup)) else {
        canvas.text(width, middle, "no good sample", SMALL, Role::Muted, Anchor::End);
        return;
    };
    canvas.bold(width, middle, text::value(Unit::Time, total), 15.0, Role::Ink, Anchor::End);
    let sum: f64 = phases.iter().map(|(_, value, _)| value).sum::<f64>().max(1.0);
    let mut x = left;
    for &(_, value, opacity) in &phases {
        let end = x + value / sum * (right - left);
        segment(canvas, (x, end), (bar, bar + 26.0), role, opacity);
        let share = format!("{:.0} %", value / sum * 100.0);
        if end - x > text_width(&share, SMALL) + 12.0 {
            let ink = if opacity > 0.9 { Role::Paper } else { Role::Ink };
            canvas.text((x + end) / 2.0, bar + 13.0, share, SMALL, ink, Anchor::Middle);
        }
        x = end;
    }
    let in_a_line = match phases.len() {
        3 => 3,
        _ if wide => 4,
        _ => 2,
    };
    let column = (right - left) / in_a_line as f64;
    for (i, &(metric, value, opacity)) in phases.iter().enumerate() {
        let (x, line) = (left + column * (i % in_a_line) as f64, 18.0 * (i / in_a_line) as f64);
        canvas.rect((x, x + 10.0), (bar + line + 34.0, bar + line + 44.0), role, opacity);
        canvas.text(x + 15.0, bar + line + 39.0, words(metric, value), SMALL, Role::Ink, Anchor::Start);
    }
    canvas.y += 18.0 * ((phases.len() - 1) / in_a_line) as f64;
}

/// A part of a bar with a gap of paper before the next.
fn segment(canvas: &mut Canvas, (from, to): (f64, f64), y: (f64, f64), role: Role, opacity: f64) {
    let gap = if to - from > 3.0 { 1.0 } else { 0.0 };
    if to > from {
        // Opaque, to hide the lines behind.
        canvas.rect((from, to - gap), y, Role::Paper, 1.0);
        canvas.rect((from, to - gap), y, role, opacity);
    }
}

fn lengths(source: &Source<'_>, canvas: &mut Canvas, longest: f64) {
    let width = canvas.width();
    let (left, right) = if canvas.narrow() { (84.0, width - 8.0) } else { (150.0, width - 110.0) };
    let axis = Axis::linear(longest, (left, right));
    let (top, rows) = (canvas.y, source.analysis.targets.len() as f64);
    let bottom = top + rows * 24.0;
    for (value, label) in axis.ticks(Unit::Time, if canvas.narrow() { 3 } else { 6 }) {
        let x = axis.x(value);
        canvas.line(&[(x, top - 4.0), (x, bottom)], Role::Grid, 1.0, 1.0);
        canvas.text(x, bottom + 11.0, label.unwrap_or_default(), SMALL, Role::Muted, Anchor::Middle);
    }
    for (i, (role, target)) in source.targets().enumerate() {
        let y = top + i as f64 * 24.0;
        canvas.name(0.0, y + 9.0, &target.name, left - 8.0);
        let Some(phases) = phases(target) else { continue };
        let mut at = 0.0;
        for (_, value, opacity) in phases {
            segment(canvas, (axis.x(at), axis.x(at + value)), (y + 1.0, y + 17.0), role, opacity);
            at += value;
        }
        // Even the shortest bar must be visible.
        canvas.rect((left, (left + 1.5).max(axis.x(0.0))), (y + 1.0, y + 17.0), role, 1.0);
    }
    canvas.y = bottom + 30.0;
}
