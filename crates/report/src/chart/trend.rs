//! One metric of one scenario over many runs: a panel for each target, hosts beside each other in it.
//!
//! Where runs are too close to distinguish, columns of [`COLUMN`] pixels show their range; so a chart of thousands of
//! runs is no larger than one of some hundreds, and shows every extreme.

use std::collections::{BTreeMap, BTreeSet};

use super::{Anchor, Canvas, Chart, Plan, Role, SMALL, axis::Axis, make_with, text_width};
use crate::{
    Error,
    analysis::{
        Unit,
        history::{History, HostName, Point, Series},
        median::median,
        steps::Kind,
    },
    history::{Group, host_name},
    sample::Accelerator,
    text,
};

/// Smallest distance of single points, in pixels; closer ones become columns.
const NEAREST: f64 = 4.0;
/// Width of a column, in pixels.
const COLUMN: f64 = 3.0;
const HEIGHT: f64 = 150.0;

/// A chart for each group. Changes have numbers from 1, in the order of the group's series.
///
/// # Errors
/// When the drawing library fails.
pub fn all(history: &History, groups: &[Group<'_>]) -> Result<Vec<Chart>, Error> {
    let mut charts: Vec<Chart> = Vec::new();
    for group in groups {
        let key = &group.series[0].key;
        let mut chart = chart(history, &group.series)?;
        // An untrusted name becomes part of a file's name and of identifiers.
        let plain = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '_' };
        let name = format!("trend-{}-{}", text::name(&key.scenario), key.metric.name());
        let mut name: String = name.chars().map(plain).collect();
        if charts.iter().any(|other| other.name == name) {
            name.push_str(&format!("-{}", charts.len() + 1));
        }
        chart.name = name.into();
        charts.push(chart);
    }
    Ok(charts)
}

/// Context of all panels of a chart.
struct Frame<'a> {
    history: &'a History,
    series: &'a [&'a Series],
    /// Position from the left of each run, by index of the run.
    places: BTreeMap<usize, usize>,
    hosts: Vec<&'a HostName>,
}

fn chart(history: &History, series: &[&Series]) -> Result<Chart, Error> {
    let runs: BTreeSet<usize> =
        series.iter().flat_map(|s| s.points.iter().map(|p| p.run).chain(s.empty.iter().copied())).collect();
    let hosts: BTreeSet<&HostName> = series.iter().map(|s| &s.key.host).collect();
    let frame = Frame {
        history,
        series,
        places: runs.into_iter().zip(0..).collect(),
        hosts: hosts.into_iter().collect(),
    };
    let key = &series[0].key;
    let about = format!("{} · {} runs", text::name(&key.scenario), frame.places.len());
    let emulated: BTreeSet<&str> = series
        .iter()
        .filter(|s| s.key.accelerator == Accelerator::Tcg)
        .map(|s| s.key.target.as_str())
        .collect();
    let notes: Vec<String> = emulated
        .into_iter()
        .map(|target| format!("{}: {}, no hardware virtualisation.", text::name(target), text::EMULATED))
        .collect();
    let across = if frame.hosts.len() > 1 {
        " Each host has its own series: a distance between series is a difference of hosts, not a change."
    } else {
        ""
    };
    make_with(
        &notes,
        &about,
        Plan {
            name: "trend",
            title: key.metric.row().label,
            caption: format!(
                "Each dot is the median of a run, with its interval; runs are in the order of time, at equal distances. Where \
                 runs are too close to distinguish, columns show their range. Lines are the levels of the step fit; numbers \
                 refer to the changes below. A cross is a run without a good sample. The scale need not start at \
                 zero.{across}"
            ),
            description: describe(&frame),
            layout: &|canvas| layout(&frame, canvas),
        },
    )
}

fn describe(frame: &Frame<'_>) -> String {
    let each = frame.series.iter().take(20).map(|series| {
        let (unit, changes) = (series.key.metric.unit(), series.fit.changes.len());
        let now = series.fit.segments.last().map_or(0.0, |s| series.plain(s.end));
        format!(
            "{} on {}: {} now, {} runs, {changes} change{}",
            text::name(&series.key.target),
            host_name(&series.key.host),
            text::value(unit, now),
            series.points.len(),
            if changes == 1 { "" } else { "s" }
        )
    });
    format!("{}.", each.collect::<Vec<_>>().join("; "))
}

fn layout(frame: &Frame<'_>, canvas: &mut Canvas) {
    if frame.hosts.len() > 1 {
        legend(frame, canvas);
    }
    let of_one = |a: &&Series, b: &&Series| {
        (&a.key.target, &a.key.kind, a.key.accelerator) == (&b.key.target, &b.key.kind, b.key.accelerator)
    };
    let mut number = 0;
    for (place, group) in frame.series.chunk_by(of_one).enumerate() {
        panel(frame, canvas, group, place, &mut number);
    }
    dates(frame, canvas);
}

fn legend(frame: &Frame<'_>, canvas: &mut Canvas) {
    for (i, host) in frame.hosts.iter().enumerate() {
        canvas.dot((6.0, canvas.y + 9.0), 3.5, Role::Target(i), 1.0);
        canvas.text(16.0, canvas.y + 9.0, host_name(host), SMALL, Role::Muted, Anchor::Start);
        canvas.y += 19.0;
    }
    canvas.y += 8.0;
}

fn pixels(canvas: &Canvas) -> (f64, f64) {
    (if canvas.narrow() { 58.0 } else { 78.0 }, canvas.width() - 8.0)
}

/// Converts a run's position to pixels.
fn across(frame: &Frame<'_>, canvas: &Canvas) -> impl Fn(f64) -> f64 + use<> {
    let (left, right) = pixels(canvas);
    let (start, step) = match frame.places.len() {
        0 | 1 => (left + (right - left) / 2.0, 0.0),
        n => (left + 8.0, (right - left - 16.0) / (n - 1) as f64),
    };
    move |place| start + step * place
}

fn panel(frame: &Frame<'_>, canvas: &mut Canvas, group: &[&Series], place: usize, number: &mut usize) {
    let (left, right) = pixels(canvas);
    let key = &group[0].key;
    let accelerator = text::accelerator(key.accelerator);
    let named = text_width(&canvas.short(&key.target, 24), 14.0) * 1.13 + 8.0;
    canvas.name(0.0, canvas.y + 8.0, &key.target, 200.0);
    if let Some(accelerator) = accelerator {
        canvas.text(named.min(206.0), canvas.y + 8.0, accelerator, SMALL, Role::Muted, Anchor::Start);
    }
    let (top, bottom) = (canvas.y + 36.0, canvas.y + 36.0 + HEIGHT);
    let values: Vec<f64> = group.iter().flat_map(|s| s.points.iter().map(|p| p.figure.median)).collect();
    let low = values.iter().copied().fold(f64::INFINITY, f64::min);
    let high = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let axis = Axis::between(low, high, (bottom, top));
    scale(canvas, &axis, key.metric.unit(), (left, right));
    let x = across(frame, canvas);
    for series in group {
        let role = match frame.hosts.len() {
            1 => Role::Target(place),
            _ => Role::Target(frame.hosts.iter().position(|host| **host == series.key.host).unwrap_or(0)),
        };
        Drawn { frame, series, axis: &axis, role, x: &x, top, bottom }.draw(canvas, number);
    }
    canvas.y = bottom + 18.0;
}

fn scale(canvas: &mut Canvas, axis: &Axis, unit: Unit, (left, right): (f64, f64)) {
    let mut lowest = f64::INFINITY;
    for (value, label) in axis.ticks(unit, 4) {
        let y = axis.x(value);
        canvas.line(&[(left, y), (right, y)], Role::Grid, 1.0, if label.is_some() { 1.0 } else { 0.45 });
        if let Some(label) = label.filter(|_| lowest - y > 14.0) {
            canvas.text(left - 8.0, y, label, SMALL, Role::Muted, Anchor::End);
            lowest = y;
        }
    }
}

/// One series in its panel.
struct Drawn<'a, X> {
    frame: &'a Frame<'a>,
    series: &'a Series,
    axis: &'a Axis,
    role: Role,
    x: &'a X,
    top: f64,
    bottom: f64,
}

impl<X: Fn(f64) -> f64> Drawn<'_, X> {
    fn at(&self, point: usize) -> f64 {
        (self.x)(self.place(self.series.points[point].run))
    }

    fn place(&self, run: usize) -> f64 {
        self.frame.places.get(&run).copied().unwrap_or(0) as f64
    }

    fn draw(&self, canvas: &mut Canvas, number: &mut usize) {
        let n = self.series.points.len();
        let room = self.at(n - 1) - self.at(0);
        if n > 1 && room / ((n - 1) as f64) < NEAREST {
            self.columns(canvas)
        } else {
            self.dots(canvas)
        }
        self.crosses(canvas);
        for segment in &self.series.fit.segments {
            let (start, end) = (segment.range.start, segment.range.end - 1);
            let (left, right) =
                (self.at(start).min(self.at(end) - 2.0), self.at(end).max(self.at(start) + 2.0));
            let y = |value: f64| self.axis.x(self.series.plain(value));
            canvas.line(&[(left, y(segment.start)), (right, y(segment.end))], self.role, 2.5, 1.0);
        }
        self.changes(canvas, number);
    }

    fn dots(&self, canvas: &mut Canvas) {
        let n = self.series.points.len();
        let radius = if n > 80 { 2.0 } else { 3.0 };
        for (i, point) in self.series.points.iter().enumerate() {
            let at = (self.at(i), self.axis.x(point.figure.median));
            if let Some(interval) = point.figure.interval {
                let ends = [interval.low, interval.high].map(|v| (at.0, self.axis.x(v)));
                canvas.line(&ends, self.role, 1.5, 0.3);
            }
            canvas.dot(at, radius, self.role, 0.7);
        }
        for outlier in &self.series.fit.outliers {
            let point = &self.series.points[*outlier];
            canvas.ring((self.at(*outlier), self.axis.x(point.figure.median)), radius + 3.0, Role::Ink, 1.25);
        }
    }

    /// For each column: a faint band of the median interval, the range of the medians, and their median.
    fn columns(&self, canvas: &mut Canvas) {
        let column = |i: usize| (self.at(i) / COLUMN).floor();
        let mut start = 0;
        while start < self.series.points.len() {
            let end = (start..self.series.points.len())
                .find(|i| column(*i) != column(start))
                .unwrap_or(self.series.points.len());
            let points = &self.series.points[start..end];
            let x = (column(start) + 0.5) * COLUMN;
            let middle =
                |of: fn(&Point) -> f64| median(&points.iter().map(of).collect::<Vec<_>>()).unwrap_or(0.0);
            let band = (
                middle(|p| p.figure.interval.map_or(p.figure.median, |i| i.low)),
                middle(|p| p.figure.interval.map_or(p.figure.median, |i| i.high)),
            );
            let medians = || points.iter().map(|p| p.figure.median);
            let (low, high) =
                (medians().fold(f64::INFINITY, f64::min), medians().fold(f64::NEG_INFINITY, f64::max));
            let sides = (x - COLUMN / 2.0, x + COLUMN / 2.0);
            canvas.rect(sides, (self.axis.x(band.1), self.axis.x(band.0)), self.role, 0.15);
            canvas.line(&[(x, self.axis.x(low)), (x, self.axis.x(high))], self.role, 1.25, 0.45);
            canvas.dot((x, self.axis.x(middle(|p| p.figure.median))), 1.25, self.role, 0.8);
            start = end;
        }
    }

    /// Runs without a value, at the bottom; overlapping ones are merged.
    fn crosses(&self, canvas: &mut Canvas) {
        let mut last = f64::NEG_INFINITY;
        for run in &self.series.empty {
            let x = (self.x)(self.place(*run));
            if x - last >= 7.0 {
                canvas.cross((x, self.bottom - 6.0), 3.5, Role::Bad);
                last = x;
            }
        }
    }

    fn changes(&self, canvas: &mut Canvas, number: &mut usize) {
        let mut last = f64::NEG_INFINITY;
        for change in &self.series.fit.changes {
            *number += 1;
            let (before, after) = (self.at(change.before), self.at(change.after));
            let x = before.midpoint(after);
            if change.kind == Kind::Step {
                canvas.line(&[(x, self.top - 6.0), (x, self.bottom)], Role::Ink, 1.0, 0.55);
            }
            let label = number.to_string();
            if x - last >= text_width(&label, SMALL) + 4.0 {
                canvas.bold(x, self.top - 13.0, label, SMALL, Role::Ink, Anchor::Middle);
                last = x;
            }
        }
    }
}

/// Days below the last panel; minutes where all runs are of one day.
fn dates(frame: &Frame<'_>, canvas: &mut Canvas) {
    let runs: Vec<usize> = frame.places.keys().copied().collect();
    let (Some(first), Some(last)) = (runs.first(), runs.last()) else { return };
    let day = |run: usize| frame.history.runs[run].time.strftime("%Y-%m-%d").to_string();
    let one_day = day(*first) == day(*last);
    let label = |run: usize| match one_day {
        true => frame.history.runs[run].time.strftime("%H:%M").to_string(),
        false => day(run),
    };
    let x = across(frame, canvas);
    let most = if canvas.narrow() { 3 } else { 7 };
    let count = runs.len().min(most);
    let mut next = f64::NEG_INFINITY;
    for i in 0..count {
        let place = if count == 1 { 0 } else { i * (runs.len() - 1) / (count - 1) };
        let (label, at) = (label(runs[place]), x(place as f64));
        let half = text_width(&label, SMALL) / 2.0;
        let centre = at.clamp(half, canvas.width() - half);
        if centre - half > next {
            canvas.text(centre, canvas.y - 6.0, label, SMALL, Role::Muted, Anchor::Middle);
            next = centre + half + 10.0;
        }
    }
    if one_day {
        canvas.text(0.0, canvas.y + 14.0, format!("{}, UTC", day(*first)), SMALL, Role::Muted, Anchor::Start);
        canvas.y += 18.0;
    }
    canvas.y += 18.0;
}
