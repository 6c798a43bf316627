//! `index.html`: one self-contained page, readable without JavaScript (it has none) and without a
//! network. Text of scenarios, guests and engines is escaped by maud, bounded by [`text::clean`], and
//! the page's own content security policy forbids whatever would get past both.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::{
    chart::{self, Chart},
    claims, text,
};
use crate::{
    analysis::{Analysis, ClaimVerdict, Figure, Metric, RelativeTo, TargetAnalysis, Unit},
    kind::Kind,
    sample::{Accelerator, Results},
};

pub mod calibration;
pub mod comparison;
mod density;
mod figures;
pub mod history;
mod host;
mod isolation;
mod method;
mod origin;

/// Longest sentence of a stranger's that is shown, in characters.
const SENTENCE: usize = 600;

const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'";

/// The whole page; the same results give the same bytes.
pub fn page(results: &Results, analysis: &Analysis, charts: &[Chart]) -> String {
    let name = name(results);
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            (head(&name, &results.run.bootrace_version, results.targets.len()))
            body {
                (header(results, &name))
                main {
                    @let rounds = !text::is_density_alone(results);
                    @if rounds { (answer(results, analysis)) } @else { (density::section(results, analysis, charts)) }
                    (caveats(analysis))
                    (judged(analysis))
                    @if rounds {
                        (figures::table(analysis))
                        (isolation::section(results, analysis))
                        section #charts {
                            h2 { "The samples" }
                            @for chart in charts.iter().filter(|chart| !chart.name.starts_with("density")) { (figure(chart)) }
                        }
                        (density::section(results, analysis, charts))
                    }
                    (method::section(results, analysis))
                    (origin::identity(results, analysis))
                    (host::section(results))
                    (origin::failures(results))
                    (origin::scenario(results))
                    (figures::samples(results, analysis))
                }
                footer {
                    p {
                        "Made by bootrace " (text::clip(&results.run.bootrace_version, 40)) " from "
                        a href="results.json" { "results.json" } ", which has every raw sample; also as "
                        a href="summary.md" { "summary.md" } " and "
                        @for (i, chart) in charts.iter().enumerate() {
                            @if i > 0 { ", " }
                            a href={ "charts/" (chart.name) ".svg" } { (chart.name) ".svg" }
                        }
                        ". " code { "bootrace report" } " makes all of it again."
                    }
                }
            }
        }
    };
    page.into_string()
}

/// `targets`: how many have a colour of their own.
fn head(title: &str, version: &str, targets: usize) -> Markup {
    html! {
        head {
            meta charset="utf-8";
            meta http-equiv="Content-Security-Policy" content=(POLICY);
            meta name="viewport" content="width=device-width, initial-scale=1";
            meta name="color-scheme" content="light dark";
            meta name="generator" content={ "bootrace " (text::clip(version, 40)) };
            title { (title) " · bootrace" }
            style { (PreEscaped(include_str!("html/style.css"))) (PreEscaped(colors(targets))) (PreEscaped(chart::dark_style())) }
        }
    }
}

fn name(results: &Results) -> String {
    text::clip(results.run.scenario.get("name").and_then(|n| n.as_str()).unwrap_or("run"), 64)
}

/// A class with each target's colour, as in the charts.
fn colors(targets: usize) -> String {
    let each = |dark: bool| -> String {
        let color = |i| if dark { chart::target_colors(i).1 } else { chart::target_colors(i).0 };
        (0..targets).map(|i| format!(".t{i}{{--own:{}}}", color(i))).collect()
    };
    format!("{}@media screen and (prefers-color-scheme:dark){{{}}}", each(false), each(true))
}

fn header(results: &Results, name: &str) -> Markup {
    let (run, host) = (&results.run, &results.host);
    let description = run.scenario.get("description").and_then(|d| d.as_str());
    let rounds = |warmup| {
        let rounds = results.samples.iter().filter(|s| s.warmup == warmup).map(|s| s.round);
        rounds.collect::<std::collections::BTreeSet<_>>().len()
    };
    html! {
        header {
            p.brand { "bootrace" }
            h1 { (name) }
            @if let Some(description) = description { p.lead { (text::clean(description, 300)) } }
            dl.facts {
                div { dt { "started" } dd { time { (started(&run.started_at)) } } }
                div { dt { "rounds" } dd { (rounds(false)) " measured, " (rounds(true)) " warm-up" } }
                div { dt { "image" } dd { (text::image(&results.image)) ", " (text::PageCache::of(results).words()) } }
                div { dt { "host" } dd {
                    (host.cpus) " × " (text::clip(&host.processor().unwrap_or_else(|| "unknown CPU".into()), 100))
                    ", " (text::value(Unit::Size, host.memory_bytes as f64))
                } }
                div { dt { "seed" } dd { (run.seed) } }
            }
            @let badges = badges(results);
            @if !badges.is_empty() { p.badges { @for badge in badges { span.badge { (badge) } " " } } }
        }
    }
}

/// "2025-01-02 03:04:05 UTC" of RFC 3339; what is none is shown as it is.
fn started(at: &str) -> String {
    let parts = at.strip_suffix('Z').and_then(|at| at.split_once('T'));
    match parts {
        Some((date, time)) => {
            format!("{} {} UTC", text::clip(date, 10), text::clip(time.split('.').next().unwrap_or(time), 8))
        }
        None => text::clip(at, 40),
    }
}

fn badges(results: &Results) -> Vec<String> {
    let emulated = results.targets.iter().filter(|t| t.accelerator == Accelerator::Tcg);
    let mut badges: Vec<String> = text::emulated_processor(&results.host).into_iter().collect();
    badges.extend(emulated.map(|t| format!("{}: {}", text::clip(&t.name, 40), text::EMULATED)));
    if results.image.fallback {
        badges.push(format!(
            "fallback image: {} {}",
            text::clip(&results.image.distribution, 40),
            text::clip(&results.image.suite, 40)
        ));
    }
    if results.run.interrupted {
        badges.push("run cut short".into());
    }
    badges
}

/// What it costs, in a sentence and a card per target.
fn answer(results: &Results, analysis: &Analysis) -> Markup {
    let baseline = analysis.targets.iter().find(|t| t.baseline);
    html! {
        section #answer {
            h2 { "What it costs" }
            @if let Some(sentence) = sentence(analysis, baseline) { p.answer { (sentence) } }
            div.cards {
                @for (i, target) in analysis.targets.iter().enumerate() {
                    (card(i, target, analysis.baseline.as_deref(), results.targets[i].kind))
                }
            }
        }
    }
}

fn sentence(analysis: &Analysis, baseline: Option<&TargetAnalysis>) -> Option<Markup> {
    let base = baseline.and_then(|b| Some((b, b.median(Metric::Startup)?)))?;
    let time = |v| text::value(Unit::Time, v);
    let others = analysis.targets.iter().filter(|t| !t.baseline);
    let others: Vec<_> = others.filter_map(|t| Some((t, t.figure(Metric::Startup)?))).collect();
    Some(html! {
        "The workload is ready " strong { (time(base.1)) } " after it was asked for with "
        (text::clip(&base.0.name, 40))
        @for (target, figure) in &others {
            ", " strong { (time(figure.median)) } " with " (text::clip(&target.name, 40))
            @if let Some(accelerator) = text::accelerator_of(target) { ", " (accelerator) }
            @if let RelativeTo::Ratio(ratio) = &figure.against { " (" (text::times(ratio.estimate)) ")" }
        }
        "."
    })
}

fn card(place: usize, target: &TargetAnalysis, baseline: Option<&str>, kind: Kind) -> Markup {
    let against = |metric| target.figure(metric).and_then(|f| f.against.ratio());
    let base = text::clip(baseline.unwrap_or("baseline"), 24);
    let shown = |metric: Metric| target.median(metric).map(|m| text::value(metric.unit(), m));
    let nothing = || text::NOTHING.to_owned();
    html! {
        article class={ "card t" (place) } {
            h3 {
                (text::clip(&target.name, 40))
                @if kind.name() != target.name { " " span.kind { (kind) } }
                @if let Some(accelerator) = text::accelerator_of(target) { " " span.badge { (accelerator) } }
            }
            @match target.figure(Metric::Startup) {
                Some(figure) => (headline(target, figure, &base)),
                None => p.big { "no good sample" },
            }
            dl {
                dt { "memory" }
                dd {
                    (shown(Metric::Footprint).unwrap_or_else(nothing))
                    @if let Some(over) = target.median(Metric::Overhead) {
                        small { (text::signed(Unit::Size, over)) " over " (base) }
                    }
                }
                @for metric in [Metric::CpuStartup, Metric::CpuIdle, Metric::WorkTime] {
                    dt { (metric.row().label) }
                    dd {
                        (shown(metric).unwrap_or_else(nothing))
                        @if metric == Metric::CpuIdle { small { "of one core" } }
                        @if let Some(ratio) = against(metric).filter(|_| metric != Metric::CpuIdle) {
                            small { (text::times(ratio.estimate)) " " (text::times_interval(ratio.interval.as_ref())) }
                        }
                    }
                }
            }
        }
    }
}

fn headline(target: &TargetAnalysis, figure: &Figure, base: &str) -> Markup {
    let interval = figure.interval.as_ref();
    html! {
        p.big { (text::value(Unit::Time, figure.median)) span.unit { " start-up" } }
        p.sure {
            (text::interval(Unit::Time, figure.median, interval))
            @if let Some(interval) = interval { ", " (text::coverage(interval.coverage)) " interval" }
            ", n = " (figure.n)
        }
        @if let Some(ratio) = figure.against.ratio() {
            p.times {
                strong { (text::times(ratio.estimate)) } " " (base) " "
                span.sure {
                    (text::times_interval(ratio.interval.as_ref()))
                    @if let Some(interval) = ratio.interval { ", " (text::coverage(interval.coverage)) }
                }
            }
        } @else if target.baseline {
            p.times { "the baseline" }
        }
    }
}

fn caveats(analysis: &Analysis) -> Markup {
    html! {
        section #caveats {
            h2 { "Caveats" }
            @if analysis.caveats.is_empty() {
                p { "None of those that bootrace looks for, and all that it looks at could be read: the targets ran the same image, "
                    "agent and workload, all samples came, none had interference, start-up did not drift, and load and pressure (PSI) on the host were low." }
            } @else {
                ul.caveats { @for caveat in &analysis.caveats { li { (text::clean(caveat, SENTENCE)) } } }
            }
        }
    }
}

fn judged(analysis: &Analysis) -> Markup {
    if analysis.claims.is_empty() {
        return html! {};
    }
    html! {
        section #claims {
            h2 { "Claims" }
            ul.claims {
                @for claim in &analysis.claims {
                    @let class = match claim.verdict {
                        ClaimVerdict::Supported => "supported",
                        ClaimVerdict::Refuted => "refuted",
                        ClaimVerdict::Undecided => "undecided",
                    };
                    li class=(class) {
                        span.verdict { (claim.verdict.word()) }
                        div {
                            p { "“" (text::clean(&claim.says, 300)) "”" }
                            p.sure { (claims::about(claim, analysis)) ": " (claims::finding(claim, analysis)) "." }
                        }
                    }
                }
            }
        }
    }
}

fn figure(chart: &Chart) -> Markup {
    html! {
        figure id={ "chart-" (chart.name) } {
            h3 { (chart.title) }
            (PreEscaped(chart.inline()))
            figcaption { (chart.caption) }
        }
    }
}
