//! The page of a comparison.

use maud::{DOCTYPE, Markup, html};

use super::{
    super::{chart::Chart, comparison as shown, text},
    SENTENCE, figure, head,
};
use crate::analysis::{
    comparison::{Comparison, Pair, Row},
    gate::GateVerdict,
};

/// The whole page; the same comparison gives the same bytes.
pub fn page(comparison: &Comparison, chart: Option<&Chart>) -> String {
    let version = comparison.pairs.first().map_or("", |pair| &pair.new.bootrace_version);
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            (head("comparison", version, 2))
            body {
                (header(comparison))
                main {
                    (answer(comparison))
                    @if let Some(chart) = chart { section #charts { h2 { "The samples" } (figure(chart)) } }
                    @for pair in &comparison.pairs { (of_pair(pair)) }
                    (method(comparison))
                }
                footer { p {
                    "Made by bootrace from the two sides' results; for programs as "
                    a href=(shown::FILE) { (shown::FILE) } ", to be pasted as " a href="summary.md" { "summary.md" } "."
                } }
            }
        }
    };
    page.into_string()
}

fn header(comparison: &Comparison) -> Markup {
    html! {
        header {
            p.brand { "bootrace" }
            h1 { "BASE and NEW" }
            dl.facts {
                @for pair in &comparison.pairs {
                    div { dt { "BASE of " (text::clip(&pair.scenario, 64)) } dd { (shown::run(&pair.base)) } }
                    div { dt { "NEW" } dd { (shown::run(&pair.new)) ", " (shown::how(pair)) } }
                }
            }
            @let emulated: std::collections::BTreeSet<String> = comparison.pairs.iter().flat_map(|pair| &pair.rows)
                .filter_map(|row| Some(format!("{}: {}", text::clip(&row.target, 40), shown::accelerator(row)?))).collect();
            @if !emulated.is_empty() { p.badges { @for badge in emulated { span.badge { (badge) } " " } } }
        }
    }
}

fn answer(comparison: &Comparison) -> Markup {
    let gating: Vec<(&Pair, &Row)> = comparison
        .pairs
        .iter()
        .flat_map(|pair| pair.rows.iter().filter(|row| row.gates).map(move |row| (pair, row)))
        .collect();
    html! {
        section #answer {
            h2 { "Is it worse?" }
            p.answer { strong { (comparison.verdict.map_or("No gate", GateVerdict::word)) }
                @if comparison.verdict.is_none() { ": the two ran on different hosts, where figures are a trend and no more" }
                "."
            }
            ul.claims {
                @for (pair, row) in gating {
                    li class=(class(row.judged.verdict)) {
                        span.verdict { (row.judged.verdict.word()) }
                        div {
                            p { code { (text::clip(&row.metric, 40)) } " of " (text::clip(&pair.scenario, 64)) " on " (text::clip(&row.target, 40))
                                ": " (shown::ratio(row)) " times BASE" }
                            p.sure {
                                (text::clean(&row.judged.why, SENTENCE)) ". Margin " (format!("{:.1} %", row.margin.share * 100.0))
                                ": " (text::clean(&row.margin.from, SENTENCE)) "."
                            }
                        }
                    }
                }
            }
        }
    }
}

fn class(verdict: GateVerdict) -> &'static str {
    match verdict {
        GateVerdict::Failed | GateVerdict::Regressed => "refuted",
        GateVerdict::Improved | GateVerdict::Unchanged => "supported",
        GateVerdict::Inconclusive => "undecided",
    }
}

fn of_pair(pair: &Pair) -> Markup {
    let remarks = shown::remarks(pair);
    html! {
        section {
            h2 { (text::clip(&pair.scenario, 64)) }
            div.scroll tabindex="0" role="region" aria-label="All figures" {
                table.plain.rows {
                    thead { tr { @for head in ["figure", "BASE", "NEW", "NEW / BASE", "p", "verdict"] { th scope="col" { (head) } } } }
                    tbody { @for row in &pair.rows { (one(row)) } }
                }
            }
            @if !remarks.is_empty() {
                h3 { "Caveats" }
                ul.caveats { @for remark in &remarks { li { (text::clean(remark, SENTENCE)) } } }
            }
        }
    }
}

fn one(row: &Row) -> Markup {
    html! {
        tr class=(class(row.judged.verdict)) {
            th scope="row" {
                (text::clip(&row.target, 40)) " " code { (text::clip(&row.metric, 40)) }
                small {
                    (shown::accelerator(row).map(|a| format!("{a}, ")).unwrap_or_default())
                    @if row.gates { "gates, margin " } @else { "does not gate, margin " }
                    (format!("{:.1} %", row.margin.share * 100.0))
                }
            }
            @for side in [&row.base, &row.new] { td { (in_two(&shown::side(row, side))) } }
            td { (in_two(&shown::ratio(row))) }
            td { (shown::p(row)) small { "P(NEW > BASE) " (shown::superiority(row)) } }
            td { span.verdict { (shown::word(row)) } }
        }
    }
}

/// A figure, and below it how sure it is.
fn in_two(figure: &str) -> Markup {
    let (value, sure) = figure.split_once(" [").unwrap_or((figure, ""));
    html! { (value) @if !sure.is_empty() { small { "[" (sure) } } }
}

fn method(comparison: &Comparison) -> Markup {
    html! {
        section #method {
            h2 { "How it is judged" }
            p {
                "NEW / BASE is the ratio of Hodges and Lehmann, with its exact " (format!("{:.0} %", comparison.level * 100.0))
                " interval: over the pairs of each round where both sides ran in one job, else over all pairs of samples. "
                "Of two runs apart, which differ although nothing was changed, REGRESSED takes a whole interval beyond the margin. Of two sides of "
                "one job, taken in turn, chance is all that has to be ruled out: REGRESSED takes a ratio beyond the margin, and an interval "
                "wholly above 1. IMPROVED is the same the other way round, UNCHANGED an interval within the margins, INCONCLUSIVE all else. Where several figures gate, Holm's procedure keeps the chance of any false alarm at that of "
                "one. p is two-sided (Wilcoxon's signed ranks for pairs, else Mann and Whitney's) and decides nothing: with enough samples every "
                "difference is significant. Outliers are in all figures; failed instances are counted, and more of them than BASE has fail the gate."
            }
        }
    }
}
