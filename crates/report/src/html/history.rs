//! The page of a history.

use maud::{DOCTYPE, Markup, html};

use super::{
    super::{
        chart::Chart,
        history::{self as shown, FILE, Group, NAMED, Shown},
        text,
    },
    SENTENCE, figure, head,
};
use crate::{
    analysis::{
        history::{Run, Series},
        steps::Kind,
    },
    sample::Source,
};

/// Rows of the newest runs of a series; all of them are in `history.json`.
const NEWEST: usize = 30;
/// The newest changes of a chart that have a row.
const CHANGES: usize = 200;

/// The whole page; the same runs give the same bytes.
pub fn page(shown: &Shown, (groups, more): &(Vec<Group<'_>>, usize), charts: &[Chart]) -> String {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            (head("history", env!("CARGO_PKG_VERSION"), 0))
            body {
                (header(shown))
                main {
                    (answer(shown))
                    @for (group, chart) in groups.iter().zip(charts) { (one(shown, group, chart)) }
                    @if *more > 0 { section { p.note { (more) " more scenarios and metrics are in " a href=(FILE) { (FILE) } " alone." } } }
                    (method(shown))
                }
                footer { p {
                    "Made by bootrace " (env!("CARGO_PKG_VERSION")) "; the same as " a href=(FILE) { (FILE) } ", for programs."
                } }
            }
        }
    };
    page.into_string()
}

fn header(shown: &Shown) -> Markup {
    let runs = &shown.history.runs;
    let hosts =
        shown.history.series.iter().map(|s| &s.key.host).collect::<std::collections::BTreeSet<_>>().len();
    html! {
        header {
            p.brand { "bootrace" }
            h1 { "history" }
            p.lead { "How figures went from run to run, and where they changed." }
            dl.facts {
                div { dt { "runs" } dd { (runs.len()) } }
                @if let (Some(first), Some(last)) = (runs.first(), runs.last()) {
                    div { dt { "first" } dd { time { (shown::minute(first)) " UTC" } } }
                    div { dt { "newest" } dd { time { (shown::minute(last)) " UTC" } } }
                }
                div { dt { "hosts" } dd { (hosts) } }
                div { dt { "seed" } dd { (shown.seed) } }
            }
        }
    }
}

fn answer(shown: &Shown) -> Markup {
    let series = &shown.history.series;
    let changes: usize = series.iter().map(|s| s.fit.changes.len()).sum();
    let odd = |s: &&Series| s.latest.holds(s.newest().figure.median) == Some(false);
    let odd: Vec<&Series> = series.iter().filter(odd).collect();
    let all = shown.left_out.len();
    html! {
        section #answer {
            h2 { "What changed" }
            p.answer {
                @match changes {
                    0 => "Nothing that can be told from noise",
                    1 => { strong { "1" } " change" },
                    n => { strong { (n) } " changes" },
                }
                " in " (series.len()) " series of " (shown.history.runs.len()) " runs."
            }
            @let not_taken = shown::not_taken(shown);
            @if !odd.is_empty() || all > 0 || shown.copies > 0 || !not_taken.is_empty() {
                ul.caveats {
                    @for series in odd.iter().take(20) {
                        li {
                            "The newest run of " (text::clip(&series.key.target, 40)) " on " (shown::host_name(&series.key.host)) ", "
                            (text::clip(&series.key.scenario, 64)) " " (series.key.metric.row().label) ", is "
                            (shown::newest(series)) ". One run can't tell a change from an outlier: run it again."
                        }
                    }
                    @if odd.len() > 20 { li { "So are " (odd.len() - 20) " other series' newest runs." } }
                    @for line in &not_taken { li { (line) } }
                    @if shown.copies > 0 { li { (shown.copies) " copies of runs were found, and count once." } }
                    @if all > 0 {
                        li {
                            (all) " files could not be read and are left out, the first of them:"
                            ul {
                                @for file in shown.left_out.iter().take(NAMED) {
                                    li { code { (text::clean(&file.path.display().to_string(), 300)) } ": " (text::clean(&file.why, SENTENCE)) }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn one(shown: &Shown, group: &Group<'_>, chart: &Chart) -> Markup {
    let runs = &shown.history.runs;
    let (series, key) = (&group.series, &group.series[0].key);
    html! {
        section {
            h2 { (text::clip(&key.scenario, 64)) ": " (key.metric.row().label) }
            (figure(chart))
            @if let Some(rest) = group.rest() { p.note { (rest) "." } }
            (levels(series))
            (changes(series, runs))
            details {
                summary { "The newest runs" }
                @for one in series { (newest_runs(one, runs)) }
            }
        }
    }
}

fn name(series: &Series) -> Markup {
    html! {
        (text::clip(&series.key.target, 40))
        @if let Some(accelerator) = text::accelerator(series.key.accelerator) { " " span.badge { (accelerator) } }
    }
}

fn levels(series: &[&Series]) -> Markup {
    html! {
        h3 { "Where it stands" }
        div.scroll tabindex="0" role="region" aria-label="Levels" {
            table.plain {
                thead { tr { @for head in ["target", "host", "runs", "now", "newest run", "noise between runs"] { th scope="col" { (head) } } } }
                tbody { @for one in series {
                    @let unit = one.key.metric.unit();
                    @let last = one.fit.segments.last().map_or(0.0, |s| one.plain(s.end));
                    @let newest = &one.newest().figure;
                    tr {
                        th scope="row" { (name(one)) }
                        td { (shown::host_name(&one.key.host)) }
                        td {
                            (one.points.len() + one.empty.len())
                            @if !one.empty.is_empty() { small.bad { (one.empty.len()) " without a good sample" } }
                        }
                        td { (text::value(unit, last)) }
                        td.words {
                            (text::value(unit, newest.median)) " " (text::interval(unit, newest.median, newest.interval.as_ref()))
                            small { (shown::newest(one)) }
                        }
                        td { (between(one)) }
                    }
                } }
            }
        }
    }
}

/// What runs differ by beside what one run's samples show.
fn between(series: &Series) -> String {
    let between = series.fit.between;
    match series.log {
        true if between < 5e-4 => "none beyond the intervals".into(),
        true => format!("{:.1} %", between.exp_m1() * 100.0),
        false => text::value(series.key.metric.unit(), between),
    }
}

fn changes(series: &[&Series], runs: &[Run]) -> Markup {
    let all: Vec<(&Series, usize)> =
        series.iter().flat_map(|one| (0..one.fit.changes.len()).map(move |i| (*one, i))).collect();
    html! {
        h3 { "Changes" }
        @if all.is_empty() {
            p.note { "None that can be told from noise." }
        } @else {
            div.scroll tabindex="0" role="region" aria-label="Changes" {
                table.plain {
                    thead { tr { @for head in ["", "target", "level", "change", "between these runs", "how sure"] { th scope="col" { (head) } } } }
                    tbody { @for (number, (one, i)) in all.iter().enumerate().skip(all.len().saturating_sub(CHANGES)) {
                        (change(one, *i, number + 1, runs))
                    } }
                }
            }
            @if all.len() > CHANGES { p.note { "Those before are in " a href=(FILE) { (FILE) } "." } }
        }
    }
}

fn change(series: &Series, index: usize, number: usize, runs: &[Run]) -> Markup {
    let change = &series.fit.changes[index];
    let unit = series.key.metric.unit();
    let (before, after) = series.levels(index);
    let run = |point: usize| &runs[series.points[point].run];
    let possible = change.latest - change.earliest;
    html! {
        tr {
            th scope="row" { (number) }
            td { (name(series)) small { (shown::host_name(&series.key.host)) } }
            td { (text::value(unit, before)) " → " (text::value(unit, after)) }
            td { (shown::size(series, change)) @if change.kind == Kind::Drift { small { "bit by bit" } } }
            td.words {
                (place(run(change.before))) @if change.kind == Kind::Step { " and " } @else { " to " } (place(run(change.after)))
                @if change.kind == Kind::Step && possible > 0 {
                    small { "or up to " (change.after - change.earliest) " runs earlier, " (change.latest - change.after) " later (99 %)" }
                }
                @for note in series.notes_at(index).take(8) {
                    small { "also changed: " (note.what) ", " (text::clip(&note.from, 60)) " → " (text::clip(&note.to, 60)) }
                }
            }
            td.words { "p = " (format!("{:.3}", change.p)) }
        }
    }
}

/// When a run was, and its commit with a link.
fn place(run: &Run) -> Markup {
    html! {
        time { (shown::minute(run)) }
        @if let Some(source) = &run.source { " " (commit(source)) }
    }
}

fn commit(source: &Source) -> Markup {
    html! {
        @match shown::commit_page(source) {
            Some(page) => a href=(page) rel="noreferrer" { code { (shown::commit_name(source)) } },
            None => code { (shown::commit_name(source)) },
        }
    }
}

fn newest_runs(series: &Series, runs: &[Run]) -> Markup {
    let unit = series.key.metric.unit();
    let points = &series.points[series.points.len().saturating_sub(NEWEST)..];
    let first = series.points.len() - points.len();
    html! {
        h3 { (name(series)) " on " (shown::host_name(&series.key.host)) }
        div.scroll tabindex="0" role="region" aria-label="Newest runs" {
            table.plain {
                thead { tr { @for head in ["run", "commit", "median", "interval", "samples", ""] { th scope="col" { (head) } } } }
                tbody { @for (i, point) in points.iter().enumerate().rev() {
                    @let run = &runs[point.run];
                    tr {
                        th scope="row" { (text::clip(&run.id, 80)) small { (shown::minute(run)) } }
                        td { @if let Some(source) = &run.source { (commit(source)) @if let Some(branch) = &source.branch { small { (text::clip(branch, 40)) } } } }
                        td { (text::value(unit, point.figure.median)) }
                        td { (text::interval(unit, point.figure.median, point.figure.interval.as_ref())) }
                        td { (point.figure.n) @if point.failed > 0 { small.bad { (point.failed) " failed" } } }
                        td.words {
                            @if series.fit.outliers.contains(&(first + i)) { small { "outlier" } }
                            @if run.interrupted { small { "cut short" } }
                            @for note in series.notes.iter().filter(|note| note.point == first + i) {
                                small { (note.what) ": " (text::clip(&note.from, 60)) " → " (text::clip(&note.to, 60)) }
                            }
                        }
                    }
                } }
            }
        }
    }
}

fn method(shown: &Shown) -> Markup {
    html! {
        section #method {
            h2 { "How changes are found" }
            p.note {
                "A series has one scenario, target, accelerator and host; other hosts have series of their own, and what one is above "
                "another says nothing of a change. A run weighs by its interval and by what runs differ by although nothing "
                "changed, which is told from neighbours. Steps are placed where they explain most, for a price of 4 ln n each; each has to "
                "pass a permutation test (p < 0.01, 999 orders), and needs three runs on either side. A series without any change has one in "
                "under one of a hundred cases. What a line explains as well is a drift. "
                "Changes are placed between runs: what "
                "else changed there, in the scenario, the image or the versions, is named and need not be the cause. Seed " (shown.seed) "."
            }
            p.note { "This is a trend and no gate: to decide on a change, compare two sides in one job on one host." }
        }
    }
}
