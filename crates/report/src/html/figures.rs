//! The table of all figures, and the raw samples.

use maud::{Markup, html};

use super::super::text::{self, NOTHING};
use crate::{
    analysis::{Analysis, Figure, InterferenceKind, Metric, TargetAnalysis, Unit, interference, others_cpus},
    metric::{self, Group, Ratio},
    sample::{Outcome, Results, Sample},
};

pub fn table(analysis: &Analysis) -> Markup {
    html! {
        section #figures {
            h2 { "All figures" }
            p.note {
                "Medians with their exact interval; below them, the ratio to the baseline with its interval. "
                "Figures exclude warm-ups and failures and include outliers."
            }
            div.scroll tabindex="0" role="region" aria-label="All figures" {
                table.figures {
                    thead { tr {
                        th scope="col" { span.hidden { "figure" } }
                        @for (i, target) in analysis.targets.iter().enumerate() {
                            th scope="col" class={ "t" (i) } {
                                (text::name(&target.name))
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
                    @for group in Group::ALL {
                        @let rows: Vec<Metric> = metric::TABLE.iter().filter(|row| row.group == group).map(|row| row.metric)
                            .filter(|m| analysis.targets.iter().any(|t| t.figure(*m).is_some())).collect();
                        @if !rows.is_empty() {
                            tbody {
                                tr.group { th scope="rowgroup" colspan=(analysis.targets.len() + 1) { (group.title()) } }
                                @for metric in rows { (row(analysis, metric)) }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn counts(target: &TargetAnalysis) -> Markup {
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
            th scope="row" { (metric.row().label) small { code { (metric.name()) } } }
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

fn cell(target: &TargetAnalysis, figure: &Figure) -> Markup {
    let unit = figure.metric.unit();
    let shown = text::of(figure.metric, figure.median);
    let ratio = figure.against.ratio().filter(|_| figure.metric.row().ratio != Ratio::Nowhere);
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
                    "Others: number of CPUs that processes other than the instance, its engine and bootrace kept busy, from request to stop. "
                    "Interference (" (InterferenceKind::ALL.map(InterferenceKind::word).join(", ")) ") flags samples and drops none."
                }
                div.scroll tabindex="0" role="region" aria-label="Raw samples" {
                    table.raw {
                        thead { tr {
                            @for head in ["#", "round", "target", "outcome"] { th scope="col" { (head) } }
                            @for row in raw_columns() { th scope="col" { (row.label) } }
                            th scope="col" { "others" }
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

/// The metrics that the table of raw samples shows.
fn raw_columns() -> impl Iterator<Item = &'static metric::Row> {
    metric::TABLE.iter().filter(|row| row.in_raw_table)
}

fn raw(index: usize, sample: &Sample, outlier: bool, kinds: &[InterferenceKind]) -> Markup {
    let outcome = match sample.outcome {
        Outcome::Ok => "ok",
        Outcome::Failed => "failed",
        Outcome::TimedOut => "timed out",
    };
    html! {
        tr.warmup[sample.warmup].bad[sample.outcome != Outcome::Ok] {
            td { (index + 1) }
            td { (sample.round) "." (sample.position) }
            td.word { (text::name(&sample.target)) }
            td.word {
                (outcome)
                @if sample.warmup { ", warm-up" }
                @if outlier { ", outlier" }
                @for kind in kinds { ", " (kind.word()) }
            }
            @for row in raw_columns() {
                td { (row.metric.of(sample).map_or(NOTHING.into(), |v| exact(row.unit, v))) }
            }
            td { (others_cpus(sample).map_or(NOTHING.into(), |cpus| format!("{cpus:.2} CPUs"))) }
        }
    }
}

/// A raw sample, with more digits than a median.
fn exact(unit: Unit, value: f64) -> String {
    match unit {
        Unit::Time if value < 1e6 => format!("{:.1} µs", value / 1e3),
        Unit::Time => format!("{:.3} ms", value / 1e6),
        Unit::Size => format!("{:.3} MiB", value / 1_048_576.0),
        Unit::Share => format!("{:.3} %", value * 100.0),
    }
}
