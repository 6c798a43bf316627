//! The table of all figures, and the raw samples.

use maud::{Markup, html};

use super::super::text::{self, NOTHING};
use crate::{
    analysis::{Analysis, Figure, InterferenceKind, Metric, Target, Unit, interference, others_cpus},
    sample::{Outcome, Results, Sample},
};

/// Rows by subject, each a metric.
const GROUPS: [(&str, &[Metric]); 4] = [
    (
        "Time",
        &[
            Metric::Startup,
            Metric::Engine,
            Metric::Boot,
            Metric::Firmware,
            Metric::Kernel,
            Metric::Initrd,
            Metric::Userspace,
            Metric::Unit,
            Metric::Launch,
            Metric::Teardown,
        ],
    ),
    (
        "Memory",
        &[
            Metric::Footprint,
            Metric::Overhead,
            Metric::EngineMemory,
            Metric::Workload,
            Metric::PageCache,
            Metric::GuestCache,
            Metric::Daemons,
        ],
    ),
    (
        "CPU",
        &[Metric::CpuStartup, Metric::CpuIdle, Metric::CpuWork, Metric::CpuWorkHost, Metric::CpuWorkGuest],
    ),
    (
        "Disk and copies",
        &[
            Metric::DiskImage,
            Metric::DiskInstance,
            Metric::CopyMake,
            Metric::CopyFirstWrite,
            Metric::CopyRewrite,
            Metric::CopyBytes,
        ],
    ),
];

pub fn table(analysis: &Analysis) -> Markup {
    html! {
        section #figures {
            h2 { "All figures" }
            p.note {
                "Medians with their exact interval; below them, the ratio to the baseline with its own. "
                "Warm-ups and failures are in none of it, outliers in all of it."
            }
            div.scroll tabindex="0" role="region" aria-label="All figures" {
                table.figures {
                    thead { tr {
                        th scope="col" { span.hidden { "figure" } }
                        @for (i, target) in analysis.targets.iter().enumerate() {
                            th scope="col" class={ "t" (i) } {
                                (text::clip(&target.name, 40))
                                @if let Some(accelerator) = text::accelerator_of(target) { small { (accelerator) } }
                                @if target.baseline { small { "baseline" } }
                            }
                        }
                    } }
                    tbody {
                        tr {
                            th scope="row" { "samples" }
                            @for target in &analysis.targets { td.counts { (counts(target)) } }
                        }
                    }
                    @for (name, metrics) in GROUPS {
                        @let rows: Vec<Metric> = metrics.iter().copied()
                            .filter(|m| analysis.targets.iter().any(|t| t.figure(*m).is_some())).collect();
                        @if !rows.is_empty() {
                            tbody {
                                tr.group { th scope="rowgroup" colspan=(analysis.targets.len() + 1) { (name) } }
                                @for metric in rows { (row(analysis, metric)) }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn counts(target: &Target) -> Markup {
    let c = target.counts;
    let startup = target.figure(Metric::Startup);
    let interval = startup.and_then(|f| f.interval);
    let ratio = startup.and_then(|f| f.against.ratio()?.interval);
    html! {
        strong { (c.ok) " ok" }
        @if c.failed > 0 { small.bad { (c.failed) " failed" } }
        @if c.timed_out > 0 { small.bad { (c.timed_out) " timed out" } }
        small {
            (c.warmup) " warm-up"
            @if c.warmup_failed > 0 { " (" (c.warmup_failed) " not ok)" }
        }
        @if let Some(interval) = interval { small { "intervals cover " (text::coverage(interval.coverage)) } }
        @if let Some(ratio) = ratio { small { "of ratios " (text::coverage(ratio.coverage)) } }
    }
}

fn row(analysis: &Analysis, metric: Metric) -> Markup {
    html! {
        tr {
            th scope="row" { (text::label(metric)) small { code { (metric.name()) } } }
            @for target in &analysis.targets {
                td {
                    @match target.figure(metric) {
                        Some(figure) => (cell(target, figure)),
                        None => (NOTHING),
                    }
                }
            }
        }
    }
}

fn cell(target: &Target, figure: &Figure) -> Markup {
    let unit = figure.metric.unit();
    let shown = match figure.metric {
        Metric::Overhead | Metric::Daemons => text::signed(unit, figure.median),
        _ => text::value(unit, figure.median),
    };
    let ratio = figure.against.ratio().filter(|_| has_ratio(figure.metric));
    let few = figure.n != target.counts.ok;
    let outliers = figure.outliers.len();
    html! {
        strong { (shown) } " "
        span.interval { (text::interval(unit, figure.median, figure.interval.as_ref())) }
        @if let Some(ratio) = ratio {
            small { b { (text::times(ratio.estimate)) } " " (text::times_interval(ratio.interval.as_ref())) }
        }
        @if few || outliers > 0 {
            small {
                @if few {
                    "n = " (figure.n)
                    @if let Some(interval) = figure.interval { ", " (text::coverage(interval.coverage)) }
                }
                @if few && outliers > 0 { ", " }
                @if outliers > 0 { (outliers) @if outliers == 1 { " outlier" } @else { " outliers" } }
            }
        }
    }
}

/// A phase of one target has no counterpart in another's: a process boots nothing.
fn has_ratio(metric: Metric) -> bool {
    !matches!(
        metric,
        Metric::Engine
            | Metric::Boot
            | Metric::Firmware
            | Metric::Kernel
            | Metric::Initrd
            | Metric::Userspace
            | Metric::Unit
            | Metric::Launch
            | Metric::PageCache
            | Metric::GuestCache
            | Metric::Daemons
    )
}

/// Every sample in the order in which it was taken.
pub fn samples(results: &Results, analysis: &Analysis) -> Markup {
    let outlier = |index: usize, sample: &Sample| {
        let figure = analysis.target(&sample.target).and_then(|t| t.figure(Metric::Startup));
        figure.is_some_and(|f| f.outliers.contains(&index))
    };
    html! {
        section #raw {
            h2 { "Raw samples" }
            details {
                summary { "All " (results.samples.len()) " samples, in the order in which they were taken" }
                p.note {
                    "Others: how many CPUs all but the instance, its engine and bootrace kept busy, from request to stop. "
                    "Interference (" (InterferenceKind::ALL.map(InterferenceKind::word).join(", ")) "): what the host did beside a sample; none is dropped."
                }
                div.scroll tabindex="0" role="region" aria-label="Raw samples" {
                    table.raw {
                        thead { tr {
                            @for head in ["#", "round", "target", "outcome", "start-up", "engine", "boot", "launch",
                                "teardown", "footprint", "workload", "engine's", "cache", "CPU start", "idle", "work", "others"] {
                                th scope="col" { (head) }
                            }
                        } }
                        tbody {
                            @for (index, sample) in results.samples.iter().enumerate() {
                                (raw(index, sample, outlier(index, sample), &interference(sample, results.host.cpus)))
                            }
                        }
                    }
                }
            }
        }
    }
}

fn raw(index: usize, sample: &Sample, outlier: bool, kinds: &[InterferenceKind]) -> Markup {
    const SHOWN: [Metric; 12] = [
        Metric::Startup,
        Metric::Engine,
        Metric::Boot,
        Metric::Launch,
        Metric::Teardown,
        Metric::Footprint,
        Metric::Workload,
        Metric::EngineMemory,
        Metric::PageCache,
        Metric::CpuStartup,
        Metric::CpuIdle,
        Metric::CpuWork,
    ];
    let outcome = match sample.outcome {
        Outcome::Ok => "ok",
        Outcome::Failed => "failed",
        Outcome::TimedOut => "timed out",
    };
    html! {
        tr.warmup[sample.warmup].bad[sample.outcome != Outcome::Ok] {
            td { (index + 1) }
            td { (sample.round) "." (sample.position) }
            td.word { (text::clip(&sample.target, 40)) }
            td.word {
                (outcome)
                @if sample.warmup { ", warm-up" }
                @if outlier { ", outlier" }
                @for kind in kinds { ", " (kind.word()) }
            }
            @for metric in SHOWN {
                td { (metric.of(sample).map_or(NOTHING.into(), |v| exact(metric.unit(), v))) }
            }
            td { (others_cpus(sample).map_or(NOTHING.into(), |cpus| format!("{cpus:.2} CPUs"))) }
        }
    }
}

/// More digits than a median is shown with: the sample is what it is.
fn exact(unit: Unit, value: f64) -> String {
    match unit {
        Unit::Time if value < 1e6 => format!("{:.1} µs", value / 1e3),
        Unit::Time => format!("{:.3} ms", value / 1e6),
        Unit::Size => format!("{:.3} MiB", value / 1_048_576.0),
        Unit::Share => format!("{:.3} %", value * 100.0),
    }
}
