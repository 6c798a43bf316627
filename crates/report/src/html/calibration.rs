//! The page of a calibration.

use maud::{DOCTYPE, Markup, html};

use super::{
    super::{calibration as shown, chart::Chart, text},
    SENTENCE, figure, head, host, started,
};
use crate::{
    analysis::calibration::{Calibration, Check, CheckVerdict, Row},
    sample::Accelerator,
};

/// What is known of each check's instances, and what that tells.
const MEANINGS: [(Check, &str); 7] = [
    (
        Check::Delay,
        "The workload says that it is ready a known time after its start, five times between 0 and 2 s. Launch must grow by as \
         much, and the phases before it must not move. Then it burns a known CPU time, by the clock of its own kernel. \
         A second stopwatch around the engine's start call shows a clock that starts late.",
    ),
    (
        Check::Memory,
        "It writes to every page of a known amount of anonymous memory, five amounts up to 400 MiB: the footprint must grow by as \
         much, page cache not at all.",
    ),
    (
        Check::File,
        "It writes a file, drops it from the page cache and reads it: that is page cache of the instance and no footprint. A VM's \
         guest keeps it in memory that the host can't tell from any other: there it must be the guest's page cache, and the \
         footprint may not grow by more than that.",
    ),
    (
        Check::Cpu,
        "It burns a known CPU time before it is ready. What an emulated VM costs its host for that is told, not judged: it is what \
         emulation costs.",
    ),
    (
        Check::Idle,
        "It does nothing: what it seems to use is the readers' own noise, or a VM's own cost. And all processes that came with it, \
         found without asking its engine, must be in its footprint.",
    ),
    (
        Check::Channel,
        "The agent is asked 500 times for an answer: so late, at most, does an event reach the host's clock.",
    ),
    (
        Check::Teardown,
        "Every instance is removed; a second stopwatch times that, and nothing may be left in the end.",
    ),
];

/// The whole page; the same calibration gives the same bytes.
pub fn page(calibration: &Calibration, chart: Option<&Chart>) -> String {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            (head("calibration", &calibration.bootrace_version, calibration.targets.len()))
            body {
                (header(calibration))
                main {
                    (answer(calibration))
                    (rows(calibration))
                    @if let Some(chart) = chart { section #charts { h2 { "The instances" } (figure(chart)) } }
                    section #known {
                        h2 { "What is known" }
                        dl.meanings { @for (check, meaning) in MEANINGS { div { dt { (check.name()) } dd { (meaning) } } } }
                    }
                    section #host {
                        h2 { "The host" }
                        (host::about(&calibration.host))
                    }
                }
                footer { p {
                    "Made by bootrace " (text::clip(&calibration.bootrace_version, 40)) " from "
                    a href=(shown::FILE) { (shown::FILE) } ", which has every instance."
                } }
            }
        }
    };
    page.into_string()
}

fn header(calibration: &Calibration) -> Markup {
    html! {
        header {
            p.brand { "bootrace" }
            h1 { "calibration" }
            p.lead { "Workloads whose cost is known, measured by the code that measures all others." }
            dl.facts {
                div { dt { "started" } dd { time { (started(&calibration.started_at)) } } }
                div { dt { "instances" } dd { (calibration.taken.len()) } }
                div { dt { "image" } dd { (text::image(&calibration.image)) } }
                div { dt { "seed" } dd { (calibration.seed) } }
            }
            p.badges {
                @for target in calibration.targets.iter().filter(|t| t.accelerator == Accelerator::Tcg) {
                    span.badge { (text::clip(&target.name, 40)) ": " (text::EMULATED) } " "
                }
                @if let Some(broken) = calibration.broken { span.badge { "broken on purpose: " (broken.name()) } " " }
                @if calibration.interrupted { span.badge { "cut short" } }
            }
        }
    }
}

fn answer(calibration: &Calibration) -> Markup {
    let shown::Counts { judged, noise, .. } = shown::Counts::of(calibration);
    let failed: Vec<&Row> = calibration.failed_rows().collect();
    html! {
        section #answer {
            h2 { "Can the figures be trusted?" }
            p.answer {
                @if calibration.passed() {
                    "Within their bounds, yes: all " strong { (judged) } " figures that have a truth to be held to are within them"
                    @if noise > 0 { ", but for " (noise) " that the host's noise keeps from being told" }
                    "."
                } @else if calibration.interrupted {
                    "Not known: the calibration was cut short. " strong { (failed.len()) " of " (judged) } " figures so far failed."
                } @else if failed.is_empty() {
                    "Not known: " (calibration.not_found().unwrap_or_else(|| "something went wrong beside the figures".into())) "."
                } @else {
                    "Not all: " strong { (failed.len()) " of " (judged) } " are beyond their bounds or could not be measured."
                }
            }
            @if !failed.is_empty() || !calibration.errors.is_empty() || !calibration.left_out.is_empty() || !calibration.warnings.is_empty() {
                ul.caveats {
                    @for row in failed { li {
                        (text::clip(&row.target, 40)) ", " code { (row.metric) } ": " (row.says) ". Error " (shown::error(row)) ", bound " (shown::bound(row)) "."
                        @if let Some(note) = &row.note { " " (text::clean(note, SENTENCE)) "." }
                    } }
                    @for warning in &calibration.warnings { li { (text::clean(warning, SENTENCE)) } }
                    @for error in &calibration.errors { li { (text::clean(error, SENTENCE)) } }
                    @for (target, why) in &calibration.left_out { li { (text::clip(target, 40)) " was left out: " (text::clean(why, SENTENCE)) } }
                }
            }
        }
    }
}

fn rows(calibration: &Calibration) -> Markup {
    html! {
        section #rows {
            h2 { "Truth, measured, error" }
            p.note {
                "Slopes are Theil and Sen's, with the interval of Sen 1968. Of a slope that must be zero and is beyond its bound, the "
                "99.9 % interval decides: where it leaves zero out it fails, else it is said to be noise."
            }
            div.scroll tabindex="0" role="region" aria-label="All rows" {
                table.plain.rows {
                    thead { tr { @for head in ["figure", "truth", "measured", "error", "bound", "verdict"] { th scope="col" { (head) } } } }
                    @for check in Check::ALL {
                        @let of_check: Vec<&Row> = calibration.rows.iter().filter(|row| row.check == check).collect();
                        @if !of_check.is_empty() {
                            tbody {
                                tr.group { th scope="rowgroup" colspan="6" { (check.name()) } }
                                @for row in of_check { (one(row)) }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn one(row: &Row) -> Markup {
    let class = match row.verdict {
        CheckVerdict::Pass => "supported",
        CheckVerdict::Fail => "refuted",
        CheckVerdict::Stated | CheckVerdict::Noise => "undecided",
    };
    html! {
        tr class=(class) {
            th scope="row" {
                (text::clip(&row.target, 40)) " " code { (row.metric) }
                small { (row.says) ", n = " (row.n) }
                @if let Some(note) = &row.note { small { (text::clean(note, SENTENCE)) } }
            }
            td { (shown::truth(row)) }
            td { (shown::measured(row)) @if let Some(interval) = shown::interval(row) { small { (interval) } } }
            td { (shown::error(row)) }
            td { (shown::bound(row)) }
            td { span.verdict { (shown::word(row.verdict)) } }
        }
    }
}
