//! Start-up in the order in which samples were taken, as multiples of the target's own median, to show
//! drift.

use super::{Anchor, Canvas, Chart, Plan, Role, SMALL, Source, make, text_width};
use crate::{
    Error,
    analysis::{Metric, TargetAnalysis, is_measured},
    sample::{Outcome, Sample},
    text,
};

/// The chart of start-up in sample order.
///
/// # Errors
/// When the drawing library fails.
pub fn chart(source: &Source<'_>) -> Result<Chart, Error> {
    make(
        source,
        Plan {
            name: "order",
            title: "Sample order: was the host steady?",
            caption: "Start-up of each sample as a multiple of its target's median, left to right in the order of the \
                      whole run. The host causes a slope or step that all targets share. All rows have the same \
                      logarithmic scale; values beyond it are at the edge, with their multiple. A square marks a \
                      sample with interference; the raw samples name its kind."
                .into(),
            description: describe(source),
            layout: &|canvas| layout(source, canvas),
        },
    )
}

fn describe(source: &Source<'_>) -> String {
    let each = source.targets().map(|(_, t)| {
        let drift = t.drift.map_or("too few samples".into(), |d| {
            format!("{:+.1} % over the run, Mann-Kendall p = {:.3}", d.share * 100.0, d.p)
        });
        format!("{} {drift}", text::name(&t.name))
    });
    format!("Drift of start-up: {}.", each.collect::<Vec<_>>().join("; "))
}

/// The largest multiple on the scale, up and down, from the good samples: warm-ups are often far
/// off and would flatten the others.
fn reach(source: &Source<'_>) -> f64 {
    let far = |t: &TargetAnalysis| {
        let f = t.figure(Metric::Startup).filter(|f| f.min > 0.0)?;
        Some((f.max / f.median).max(f.median / f.min))
    };
    let farthest = source.targets().filter_map(|(_, t)| far(t)).fold(1.0, f64::max);
    [1.1, 1.25, 1.5, 2.0, 3.0].into_iter().find(|m| *m >= farthest).unwrap_or(4.0)
}

fn layout(source: &Source<'_>, canvas: &mut Canvas) {
    legend(canvas, source.results.samples.iter().any(|s| source.has_interference(s)));
    let reach = reach(source);
    for (role, target) in source.targets() {
        strip(source, canvas, role, target, reach);
    }
    let left = left(canvas);
    canvas.text(left, canvas.y + 4.0, "first sample", SMALL, Role::Muted, Anchor::Start);
    canvas.text(canvas.width(), canvas.y + 4.0, "last", SMALL, Role::Muted, Anchor::End);
    canvas.y += 24.0;
}

fn left(canvas: &Canvas) -> f64 {
    if canvas.narrow() { 46.0 } else { 200.0 }
}

fn legend(canvas: &mut Canvas, interference: bool) {
    let mut y = canvas.y + 9.0;
    let mut next = 6.0;
    let words = ["sample", "warm-up", "outlier", "not ready", "interference"];
    for (i, words) in words.into_iter().enumerate().take(if interference { 5 } else { 4 }) {
        let room = text_width(words, SMALL) + 32.0;
        if next + room > canvas.width() + 20.0 {
            (next, y) = (6.0, y + 22.0);
        }
        // Ring and square are wider than the other symbols.
        let x = if matches!(i, 2 | 4) { next + 4.0 } else { next };
        match i {
            0 => canvas.dot((x, y), 3.5, Role::Ink, 1.0),
            1 => canvas.ring((x, y), 3.5, Role::Ink, 1.5),
            2 => {
                canvas.dot((x, y), 3.0, Role::Ink, 1.0);
                canvas.ring((x, y), 6.0, Role::Ink, 1.5);
            }
            3 => canvas.cross((x, y), 4.0, Role::Bad),
            _ => {
                canvas.dot((x, y), 3.0, Role::Ink, 1.0);
                canvas.square((x, y), 7.0, Role::Bad);
            }
        }
        canvas.text(x + 11.0, y, words, SMALL, Role::Muted, Anchor::Start);
        next += room;
    }
    canvas.y = y + 21.0;
}

fn strip(source: &Source<'_>, canvas: &mut Canvas, role: Role, target: &TargetAnalysis, reach: f64) {
    let narrow = canvas.narrow();
    let head = if narrow { 22.0 } else { 0.0 };
    let (left, right) = (left(canvas), canvas.width());
    let (top, bottom) = (canvas.y + head, canvas.y + head + 88.0);
    let middle = (top + bottom) / 2.0;
    let line = if narrow { canvas.y + 8.0 } else { middle };
    canvas.name(0.0, line, &target.name, 145.0);
    if let (Some(accelerator), false) = (text::accelerator_of(target), narrow) {
        canvas.text(0.0, line + 19.0, accelerator, SMALL, Role::Muted, Anchor::Start);
    }
    let below = format!("{:.2}", 1.0 / reach);
    let below = format!("{}×", below.trim_end_matches('0'));
    let half = (bottom - top) / 2.0 - 6.0;
    let y = |multiple: f64| middle - (multiple.ln() / reach.ln()).clamp(-1.1, 1.1) * half;
    for (multiple, label) in [(1.0 / reach, below), (1.0, "1×".into()), (reach, format!("{reach}×"))] {
        let weight = if multiple == 1.0 { 1.5 } else { 1.0 };
        canvas.line(&[(left, y(multiple)), (right, y(multiple))], Role::Grid, weight, 1.0);
        canvas.text(left - 8.0, y(multiple), label, SMALL, Role::Muted, Anchor::End);
    }
    canvas.y = bottom + 18.0;
    let samples = &source.results.samples;
    let step = (right - left - 16.0) / (samples.len().max(2) - 1) as f64;
    let place = |index: usize| left + 8.0 + step * index as f64;
    let of_target: Vec<(usize, &Sample)> =
        samples.iter().enumerate().filter(|(_, s)| s.target == target.name).collect();
    let median = target.median(Metric::Startup).filter(|m| *m > 0.0);
    let multiple = |s: &Sample| Some(s.timeline_ns.ready? as f64 / median?).filter(|m| *m > 0.0);
    let path: Vec<(f64, f64)> = of_target
        .iter()
        .filter(|(_, s)| is_measured(s))
        .filter_map(|(i, s)| Some((place(*i), y(multiple(s)?))))
        .collect();
    if path.len() > 1 {
        canvas.line(&path, role, 1.0, 0.5);
    }
    for (index, sample) in of_target {
        let x = place(index);
        let height = multiple(sample).filter(|_| sample.outcome == Outcome::Ok).map_or(bottom - 8.0, y);
        if source.has_interference(sample) {
            // Apart from an outlier's ring.
            canvas.square((x, height), 8.5, Role::Bad);
        }
        match multiple(sample).filter(|_| sample.outcome == Outcome::Ok) {
            Some(m) => mark(canvas, (x, y(m)), sample, m.max(1.0 / m) > reach, m, role),
            None => canvas.cross((x, bottom - 8.0), 4.0, Role::Bad),
        }
        if target.figure(Metric::Startup).is_some_and(|f| f.outliers.contains(&index)) {
            canvas.ring((x, y(multiple(sample).unwrap_or(1.0))), 6.5, Role::Ink, 1.5);
        }
    }
}

fn mark(canvas: &mut Canvas, at: (f64, f64), sample: &Sample, beyond: bool, multiple: f64, role: Role) {
    if sample.warmup {
        canvas.dot(at, 4.0, Role::Paper, 1.0);
        canvas.ring(at, 3.5, role, 1.5);
    } else {
        canvas.dot(at, 3.5, role, 1.0);
    }
    if beyond {
        // Apart from the scale's last line, which lies just inside.
        let y = if multiple > 1.0 { at.1 - 5.0 } else { at.1 + 5.0 };
        canvas.text(at.0 + 9.0, y, text::times(multiple), SMALL, Role::Muted, Anchor::Start);
    }
}
