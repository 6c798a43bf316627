//! Start-up cut into its phases: shares of each target's own start-up, since one linear scale can't
//! show a millisecond beside seconds; then, below, just that one linear scale.

use super::{Anchor, Canvas, Chart, NORMAL, Plan, Role, SMALL, Source, axis::Axis, make, text_width};
use crate::{
    analysis::{Metric, Target, Unit},
    report::{Error, text},
};

/// The opacity tells the phases apart in every colour, also in print.
const PHASES: [(Metric, f64); 3] = [(Metric::Engine, 1.0), (Metric::Boot, 0.55), (Metric::Launch, 0.25)];

pub fn chart(source: &Source<'_>) -> Result<Chart, Error> {
    make(
        source,
        Plan {
            name: "phases",
            title: "Where start-up goes: engine, boot, launch",
            caption: "Above, each bar is one target's start-up as a whole, cut by the medians of its phases; lengths \
                      are not comparable between targets. Below, the same bars to one linear scale. Engine: until the \
                      engine's start call returned or the agent spoke; boot: until the agent spoke; launch: until ready."
                .into(),
            description: describe(source),
            layout: &|canvas| layout(source, canvas),
        },
    )
}

fn phases(target: &Target) -> Option<[f64; 3]> {
    let [engine, boot, launch] = PHASES.map(|(metric, _)| target.median(metric));
    Some([engine?, boot?, launch?])
}

fn describe(source: &Source<'_>) -> String {
    let each = source.targets().map(|(_, t)| {
        let name = text::clip(&t.name, 40);
        let Some(phases) = phases(t) else { return format!("{name} no good sample") };
        let [engine, boot, launch] = phases.map(|v| text::value(Unit::Time, v));
        format!("{name} engine {engine}, boot {boot}, launch {launch}")
    });
    format!("Median phases: {}.", each.collect::<Vec<_>>().join("; "))
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
    canvas.bold(0.0, canvas.y + 8.0, "The same to one linear scale", SMALL, Role::Muted, Anchor::Start);
    canvas.y += 24.0;
    lengths(source, canvas, longest);
}

/// One target: its name and total, its bar of shares, its phases in words.
fn shares(canvas: &mut Canvas, role: Role, target: &Target) {
    let (width, y) = (canvas.width(), canvas.y);
    let wide = !canvas.narrow();
    let (left, right) = if wide { (150.0, width - 110.0) } else { (0.0, width) };
    let bar = if wide { y } else { y + 24.0 };
    let middle = if wide { bar + 13.0 } else { y + 10.0 };
    canvas.name(0.0, middle, &target.name, 140.0);
    if let Some(accelerator) = text::accelerator(target.accelerator) {
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
    let sum: f64 = phases.iter().sum::<f64>().max(1.0);
    let mut x = left;
    for (value, (_, opacity)) in phases.iter().zip(PHASES) {
        let end = x + value / sum * (right - left);
        segment(canvas, (x, end), (bar, bar + 26.0), role, opacity);
        let share = format!("{:.0} %", value / sum * 100.0);
        if end - x > text_width(&share, SMALL) + 12.0 {
            let ink = if opacity > 0.9 { Role::Paper } else { Role::Ink };
            canvas.text((x + end) / 2.0, bar + 13.0, share, SMALL, ink, Anchor::Middle);
        }
        x = end;
    }
    let column = (right - left) / 3.0;
    for (i, (value, (metric, opacity))) in phases.iter().zip(PHASES).enumerate() {
        let x = left + column * i as f64;
        canvas.rect((x, x + 10.0), (bar + 34.0, bar + 44.0), role, opacity);
        let words = format!("{} {}", text::label(metric), text::value(Unit::Time, *value));
        canvas.text(x + 15.0, bar + 39.0, words, SMALL, Role::Ink, Anchor::Start);
    }
}

/// A part of a bar with a gap of paper before the next.
fn segment(canvas: &mut Canvas, (from, to): (f64, f64), y: (f64, f64), role: Role, opacity: f64) {
    let gap = if to - from > 3.0 { 1.0 } else { 0.0 };
    if to > from {
        // The lines behind must not shine through.
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
        for (value, (_, opacity)) in phases.iter().zip(PHASES) {
            segment(canvas, (axis.x(at), axis.x(at + value)), (y + 1.0, y + 17.0), role, opacity);
            at += value;
        }
        // However short, it must be seen that there is a bar.
        canvas.rect((left, (left + 1.5).max(axis.x(0.0))), (y + 1.0, y + 17.0), role, 1.0);
    }
    canvas.y = bottom + 30.0;
}
