//! Density: a table with the cost of one more instance, charts, and what ended the filling.

use maud::{Markup, html};

use super::{SENTENCE, figure};
use crate::{
    analysis::{Analysis, Unit},
    chart::Chart,
    density as words,
    sample::{Results, density::Density},
    text,
};

/// The section; empty where no target was filled.
pub fn section(results: &Results, analysis: &Analysis, charts: &[Chart]) -> Markup {
    if results.density.is_empty() {
        return html! {};
    }
    html! {
        section #density {
            h2 { "How many at once" }
            div.scroll tabindex="0" role="region" aria-label="How many at once" {
                table.figures {
                    thead { tr {
                        th scope="col" { span.hidden { "figure" } }
                        @for density in &analysis.density {
                            th scope="col" class=[place(analysis, &density.target)] {
                                (text::name(&density.target))
                                @if let Some(accelerator) = text::accelerator(density.accelerator) { small { (accelerator) } }
                            }
                        }
                    } }
                    tbody {
                        @for row in words::rows(&analysis.density) {
                            tr {
                                th scope="row" { (row.label.trim()) }
                                @for cell in &row.cells { td { (cell) } }
                            }
                        }
                    }
                }
            }
            @for note in words::notes(&analysis.density) { p.note { (note) } }
            @if let Some(cpus) = super::method::bound(results) {
                p.note { "All instances are bound to the same CPU " (cpus) " of the host (resources.cpus): instances that start together share it." }
            }
            ul { @for density in &results.density { li { (ended(density)) } } }
            @for chart in charts.iter().filter(|chart| chart.name.starts_with("density")) { (figure(chart)) }
        }
    }
}

/// CSS class with the target's colour.
fn place(analysis: &Analysis, target: &str) -> Option<String> {
    Some(format!("t{}", analysis.targets.iter().position(|t| t.name == target)?))
}

/// What ended the filling, its duration, and failures.
fn ended(density: &Density) -> Markup {
    let time = |ns: Option<u64>| ns.map(|ns| text::value(Unit::Time, ns as f64));
    let why = density.limit_why.as_deref().unwrap_or("it was cut off");
    html! {
        strong { (text::name(&density.target)) } ": " (text::clean(why, SENTENCE)) "."
        @if density.died > 0 { " " (density.died) " ended by themselves." }
        @if let Some(wall) = time(density.wall_ns) { " The whole measurement took " (wall) "." }
        @if let Some(removal) = time(density.removal_ns) { " Removing the instances, several at a time, took " (removal) "." }
    }
}

/// Each failed density instance, and its error.
pub fn failures(results: &Results) -> Vec<(String, &str)> {
    let mut found = Vec::new();
    for density in &results.density {
        let target = text::name(&density.target);
        let steps = density.steps.iter().filter_map(|step| Some((step.n, step.error.as_deref()?)));
        found.extend(steps.map(|(n, error)| (format!("{target}, with {n} at once"), error)));
        let bursts =
            density.bursts.iter().flat_map(|burst| burst.errors.iter().map(move |error| (burst.n, error)));
        found.extend(bursts.map(|(n, error)| (format!("{target}, in a burst of {n}"), error.as_str())));
    }
    found
}
