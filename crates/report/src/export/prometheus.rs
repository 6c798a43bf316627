//! Prometheus' text format 0.0.4, for node_exporter's textfile collector: gauges in base units, without timestamps.
//! Names follow the rules of `promtool check metrics`.

use std::fmt::Write;

use super::{Run, Target, text};
use crate::analysis::{Figure, Metric, Unit};

/// A part of a figure: suffix of the name, help text and value.
type Part = (&'static str, &'static str, fn(&Figure) -> Option<f64>);

const PARTS: [Part; 3] = [
    ("", "median of the good samples", |f| Some(f.median)),
    ("_lower", "lower bound of the median's 99 % interval; less coverage below 8 samples", |f| {
        f.interval.map(|i| i.low)
    }),
    ("_upper", "upper bound of the median's 99 % interval; less coverage below 8 samples", |f| {
        f.interval.map(|i| i.high)
    }),
];

pub fn file(run: &Run<'_>) -> Vec<u8> {
    let mut out = String::new();
    about(&mut out, run);
    samples(&mut out, run);
    let labels: Vec<String> = run.targets.iter().map(|t| labels(run, t)).collect();
    for metric in Metric::of_instances() {
        let (unit, one) = match metric.unit() {
            Unit::Time => ("seconds", 1e9),
            Unit::Size => ("bytes", 1.0),
            Unit::Share => ("ratio", 1.0),
        };
        for (suffix, what, value) in PARTS {
            let of = |target: &Target<'_>| target.analysed.figure(metric).and_then(value);
            let rows: Vec<_> = labels
                .iter()
                .zip(&run.targets)
                .filter_map(|(l, t)| Some((l.as_str(), of(t)? / one)))
                .collect();
            let name = format!("bootrace_{}{suffix}_{unit}", metric.name().replace('.', "_"));
            let help = format!("{} ({}): {what}.", text::capital(metric.row().label), metric.name());
            family(&mut out, &name, &help, &rows);
        }
    }
    out.into_bytes()
}

/// Identification and start of the run.
fn about(out: &mut String, run: &Run<'_>) {
    let (results, scenario) = (run.results, &run.scenario);
    let info = labelled(&[
        ("scenario", scenario),
        ("run", &id(run)),
        ("version", &text::clip(&results.run.bootrace_version, 40)),
        ("image", &text::image(&results.image)),
        ("page_cache", text::PageCache::of(results).words()),
        ("interrupted", if results.run.interrupted { "true" } else { "false" }),
    ]);
    family(out, "bootrace_run_info", "The run that measured these figures.", &[(&info, 1.0)]);
    // A collector needs present values, so samples have no timestamps; the start shows their age.
    if let Ok(start) = results.run.started_at.parse::<jiff::Timestamp>() {
        let labels = labelled(&[("scenario", scenario), ("run", &id(run))]);
        let rows = [(labels.as_str(), start.as_second() as f64)];
        family(out, "bootrace_run_start_timestamp_seconds", "When the run began, in Unix time.", &rows);
    }
}

fn id(run: &Run<'_>) -> String {
    text::clip(&run.results.run.id, 128)
}

fn samples(out: &mut String, run: &Run<'_>) {
    let mut rows = Vec::new();
    for target in &run.targets {
        let c = target.analysed.counts;
        let counts = [("ok", c.ok), ("failed", c.failed), ("timed_out", c.timed_out), ("warmup", c.warmup)];
        for (outcome, n) in counts {
            let labels = format!("{},{}", labels(run, target), labelled(&[("outcome", outcome)]));
            rows.push((labels, n as f64));
        }
    }
    let rows: Vec<_> = rows.iter().map(|(labels, n)| (labels.as_str(), *n)).collect();
    let help = "Samples by outcome; warm-ups are separate, whatever their outcome.";
    family(out, "bootrace_samples", help, &rows);
}

/// All labels of a target's series. Its run is one: a collector refuses two files that have the same series.
fn labels(run: &Run<'_>, target: &Target<'_>) -> String {
    let id = id(run);
    let mut all = vec![
        ("scenario", run.scenario.as_str()),
        ("run", id.as_str()),
        ("target", target.name.as_str()),
        ("kind", target.record.kind.name()),
        ("accelerator", target.accelerator.unwrap_or("none")),
        ("fallback", if run.results.image.fallback { "true" } else { "false" }),
    ];
    let emulator = run.results.host.processor_emulator.as_deref().map(|emulator| text::clip(emulator, 40));
    all.extend(emulator.as_deref().map(|emulator| ("processor_emulator", emulator)));
    labelled(&all)
}

fn labelled(labels: &[(&str, &str)]) -> String {
    let label = |(name, value): &(&str, &str)| {
        let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        format!("{name}=\"{value}\"")
    };
    labels.iter().map(label).collect::<Vec<_>>().join(",")
}

/// Writes a metric; nothing without a value.
fn family(out: &mut String, name: &str, help: &str, rows: &[(&str, f64)]) {
    if rows.is_empty() {
        return;
    }
    let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} gauge");
    for (labels, value) in rows {
        let _ = writeln!(out, "{name}{{{labels}}} {value}");
    }
}
