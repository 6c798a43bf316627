//! Presents a comparison: the table in the terminal, `comparison.json`, `summary.md`, the page.

use std::{fmt::Write, path::Path};

use anstyle::{AnsiColor, Style};
use comfy_table::{Cell, CellAlignment, Table};

use super::{
    Error, chart, html,
    markdown::{escape, fit},
    put,
    terminal::{RULES, WIDTH, wrap},
    text,
};
use crate::{
    analysis::{
        comparison::{Comparison, Pair, Row, SCHEMA},
        gate::GateVerdict,
    },
    sample::Results,
};

mod words;

/// Widest target and metric in a row of the terminal's table, in columns.
const NAME: usize = 40;

/// The order in which verdicts are shown.
const GRAVEST_FIRST: [GateVerdict; 5] = [
    GateVerdict::Failed,
    GateVerdict::Regressed,
    GateVerdict::Inconclusive,
    GateVerdict::Improved,
    GateVerdict::Unchanged,
];

pub use words::FILE;
use words::{SENTENCE, median};
pub(crate) use words::{accelerator, how, p, ratio, remarks, run, side, superiority, word};

/// Writes `comparison.json` and the files of [`render`] into `dir`, which it creates if necessary. `runs` are the
/// (BASE, NEW) results that were compared.
///
/// # Errors
/// When a file can't be written or a chart can't be drawn.
pub fn write(comparison: &Comparison, runs: &[(&Results, &Results)], dir: &Path) -> Result<(), Error> {
    put(&dir.join(FILE), json(comparison)?.as_bytes())?;
    render(comparison, runs, dir)
}

/// Writes `summary.md`, charts and `index.html`.
///
/// # Errors
/// When a file can't be written or the chart can't be drawn.
pub fn render(comparison: &Comparison, runs: &[(&Results, &Results)], dir: &Path) -> Result<(), Error> {
    put(&dir.join("summary.md"), markdown(comparison).as_bytes())?;
    let chart = chart::sides::chart(comparison, runs)?;
    if let Some(chart) = &chart {
        put(&dir.join("charts").join(format!("{}.svg", chart.name)), chart.alone().as_bytes())?;
    }
    put(&dir.join("index.html"), html::comparison::page(comparison, chart.as_ref()).as_bytes())
}

/// Reads the comparison in the directory `dir`.
///
/// # Errors
/// When the file can't be read, is damaged, or has the schema of another version.
pub fn load(dir: &Path) -> Result<Comparison, Error> {
    crate::output::read(dir.join(FILE), SCHEMA)
}

/// `comparison.json`.
///
/// # Errors
/// When serialisation fails, which these types rule out.
pub fn json(comparison: &Comparison) -> Result<String, Error> {
    let json = serde_json::to_string_pretty(comparison)
        .map_err(|e| Error::Write { path: FILE.into(), why: std::io::Error::other(e) })?;
    Ok(json + "\n")
}

/// The table in the terminal, with ANSI colours, which the printing code strips where necessary. With `all` it includes
/// the figures that don't gate; otherwise a line below names only those that changed.
pub fn table(comparison: &Comparison, all: bool) -> String {
    let mut out = String::new();
    for pair in &comparison.pairs {
        let bold = Style::new().bold();
        let _ = writeln!(out, "{bold}{}{bold:#}  {}", text::name(&pair.scenario), how(pair));
        let _ = writeln!(out, "BASE {}\nNEW  {}", run(&pair.base), run(&pair.new));
        let gating = pair.rows.iter().any(|row| row.gates);
        let shown: Vec<&Row> = pair.rows.iter().filter(|row| all || row.gates || !gating).collect();
        let _ = writeln!(out, "{}", colored(&rows(&shown).to_string(), &shown));
        for row in pair.rows.iter().filter(|row| row.gates) {
            paragraph(&mut out, &sentence(row));
        }
        margins(pair).iter().for_each(|margin| paragraph(&mut out, margin));
        if shown.len() < pair.rows.len() {
            paragraph(&mut out, &moved(pair));
        }
        let warn = AnsiColor::Yellow.on_default();
        let (of_both, others): (Vec<String>, Vec<String>) = remarks(pair).into_iter().partition(|remark| {
            !all && pair.caveats_of_both.iter().any(|d| text::clean(d, SENTENCE) == *remark)
        });
        if !of_both.is_empty() {
            paragraph(
                &mut out,
                &format!(
                    "{} caveat{} of both sides (bootrace compare --all shows them).",
                    of_both.len(),
                    if of_both.len() == 1 { "" } else { "s" }
                ),
            );
        }
        for line in others {
            let lines = wrap(&line, WIDTH - 9).join("\n         ");
            let _ = writeln!(out, "{warn}warning:{warn:#} {lines}");
        }
    }
    let _ = writeln!(out, "{}", answer(comparison));
    out
}

/// The verdict, and the figures that it comes from.
fn answer(comparison: &Comparison) -> String {
    let Some(verdict) = comparison.verdict else {
        return "no gate: the runs are from different hosts, which only gives a trend".into();
    };
    let style = style(verdict);
    let gating = || comparison.pairs.iter().flat_map(|pair| &pair.rows).filter(|row| row.gates);
    let of = |verdict| gating().filter(move |row| row.judged.verdict == verdict);
    let named: Vec<String> = of(verdict)
        .take(4)
        .map(|row| format!("{} on {} {}", row.metric, text::name(&row.target), ratio(row)))
        .collect();
    let rest = GRAVEST_FIRST
        .into_iter()
        .filter(|other| *other != verdict)
        .map(|other| (of(other).count(), other.word().to_lowercase()))
        .filter(|(count, _)| *count > 0)
        .map(|(count, word)| format!("; {count} {word}"));
    let passes =
        if verdict == GateVerdict::Inconclusive { " (passes, unless --fail-on inconclusive)" } else { "" };
    format!("{style}{}{style:#}{passes}: {}{}", verdict.word(), named.join(", "), rest.collect::<String>())
}

fn paragraph(out: &mut String, words: &str) {
    for (i, line) in wrap(words, WIDTH - 2).into_iter().enumerate() {
        let _ = writeln!(out, "{}{line}", if i == 0 { "" } else { "  " });
    }
}

/// Figures that don't gate and are beyond their margin.
fn moved(pair: &Pair) -> String {
    let rest = || pair.rows.iter().filter(|row| !row.gates);
    let moved: Vec<String> = rest()
        .filter(|row| matches!(row.judged.verdict, GateVerdict::Regressed | GateVerdict::Improved))
        .map(|row| format!("{} on {} {} {}", row.metric, text::name(&row.target), word(row), ratio(row)))
        .collect();
    let undecided = rest().filter(|row| row.judged.verdict == GateVerdict::Inconclusive).count();
    let mut reported = if moved.is_empty() { "none is shown to change".to_owned() } else { moved.join("; ") };
    if undecided > 0 {
        reported.push_str(&format!("; {undecided} inconclusive"));
    }
    format!("Of {} figures that don't gate (bootrace compare --all shows them): {reported}.", rest().count())
}

/// Sources of the gating rows' margins, each once.
pub(super) fn margins(pair: &Pair) -> Vec<String> {
    let mut reported: Vec<String> = Vec::new();
    for row in pair.rows.iter().filter(|row| row.gates) {
        let margin =
            format!("Margin {:.1} %: {}.", row.margin.share * 100.0, text::clean(&row.margin.from, 200));
        if !reported.contains(&margin) {
            reported.push(margin);
        }
    }
    reported
}

fn style(verdict: GateVerdict) -> Style {
    match verdict {
        GateVerdict::Failed | GateVerdict::Regressed => AnsiColor::Red.on_default().bold(),
        GateVerdict::Improved | GateVerdict::Unchanged => AnsiColor::Green.on_default().bold(),
        GateVerdict::Inconclusive => AnsiColor::Yellow.on_default().bold(),
    }
}

fn rows(rows: &[&Row]) -> Table {
    let mut table = Table::new();
    table.load_style(RULES);
    table.set_header(["", "BASE", "NEW", "NEW / BASE", "p", "P(N>B)", ""]);
    for row in rows {
        let numbers = [median(row, &row.base), median(row, &row.new), ratio(row), p(row), superiority(row)];
        let accelerator = accelerator(row).map(|a| format!("\n{a}")).unwrap_or_default();
        let name = format!("{} {}", text::name(&row.target), text::clip(&row.metric, 40));
        let name = wrap(&name, NAME).join("\n") + &accelerator;
        let mut cells = vec![Cell::new(name)];
        cells.extend(numbers.map(|n| Cell::new(n.replace(" [", "\n[")).set_alignment(CellAlignment::Right)));
        cells.push(Cell::new(format!("{}\nn = {}, {}", word(row), row.base.n, row.new.n)));
        table.add_row(cells);
    }
    table
}

/// Colours the verdicts at the ends of lines; the colours must not count as width.
fn colored(table: &str, rows: &[&Row]) -> String {
    let verdicts: Vec<GateVerdict> = rows.iter().map(|row| row.judged.verdict).collect();
    let paint = |line: &str| {
        let line = line.trim_end();
        let of = verdicts.iter().find(|verdict| line.ends_with(verdict.word()));
        match of {
            Some(verdict) => {
                let (rest, style) = (&line[..line.len() - verdict.word().len()], style(*verdict));
                format!("{rest}{style}{}{style:#}", verdict.word())
            }
            None => line.to_owned(),
        }
    };
    table.lines().map(paint).collect::<Vec<_>>().join("\n")
}

/// GitHub's Markdown for a comment or a step's summary: the verdicts first, the gravest before the others; details
/// folded. A comment's length is its limit.
pub fn markdown(comparison: &Comparison) -> String {
    let mut out = String::new();
    let word = comparison.verdict.map_or("no gate: the runs are from different hosts", GateVerdict::word);
    let _ = writeln!(out, "### bootrace: {word}\n");
    for verdict in GRAVEST_FIRST {
        for pair in &comparison.pairs {
            let scenario = match comparison.pairs.len() {
                1 => String::new(),
                _ => format!("{}, ", text::name(&pair.scenario)),
            };
            for row in pair.rows.iter().filter(|row| row.gates && row.judged.verdict == verdict) {
                let _ = writeln!(out, "- {}", escape(&format!("{scenario}{}", sentence(row))));
            }
        }
    }
    for pair in &comparison.pairs {
        let name = escape(&text::name(&pair.scenario));
        let _ = writeln!(out, "\n**{name}**, {}\n", escape(&how(pair)));
        let gating = pair.rows.iter().any(|row| row.gates);
        let first: Vec<&Row> = pair.rows.iter().filter(|row| row.gates || !gating).collect();
        lines(&mut out, &first);
        let _ = writeln!(out);
        margins(pair).iter().for_each(|margin| {
            let _ = writeln!(out, "- {}", escape(margin));
        });
        let rest: Vec<&Row> = pair.rows.iter().filter(|row| !row.gates && gating).collect();
        if !rest.is_empty() {
            let _ = writeln!(out, "\n<details><summary>Metrics that don't gate</summary>\n");
            lines(&mut out, &rest);
            let _ = writeln!(out, "</details>");
        }
        let remarks = remarks(pair);
        if !remarks.is_empty() {
            let _ = writeln!(out, "\n<details><summary>Caveats ({})</summary>\n", remarks.len());
            remarks.iter().for_each(|remark| {
                let _ = writeln!(out, "- {}", escape(remark));
            });
            let _ = writeln!(out, "\n</details>");
        }
        let runs = format!("BASE {}; NEW {}.", run(&pair.base), run(&pair.new));
        let _ = writeln!(out, "\n{}\n", escape(&runs));
    }
    let _ = writeln!(
        out,
        "Medians with their exact interval; NEW / BASE is Hodges and Lehmann's ratio with its {:.0} % interval. REGRESSED: for \
         an interleaved A/B, a ratio beyond the margin with its whole interval above 1; for separate runs, the whole interval \
         beyond the margin.",
        comparison.level * 100.0
    );
    fit(out, "`bootrace compare --json` (comparison.json)")
}

fn lines(out: &mut String, rows: &[&Row]) {
    let _ = writeln!(out, "| target | metric | BASE | NEW | NEW / BASE | p | P(NEW > BASE) | |");
    let _ = writeln!(out, "|:--|:--|--:|--:|--:|--:|--:|:--|");
    for row in rows {
        let cells = [
            target(row).replace('\n', ", "),
            side(row, &row.base),
            side(row, &row.new),
            ratio(row),
            p(row),
            superiority(row),
        ]
        .map(|cell| escape(&cell));
        let [target, base, new, ratio, p, superiority] = cells;
        let metric = text::clip(&row.metric, 40).replace('`', "");
        let verdict = if row.gates { format!("**{}**", word(row)) } else { word(row).to_owned() };
        let _ = writeln!(
            out,
            "| {target} | `{metric}` | {base} | {new} | {ratio} | {p} | {superiority} | {verdict} |"
        );
    }
}

/// "docker", with a VM's accelerator in a second line.
fn target(row: &Row) -> String {
    let name = text::name(&row.target);
    accelerator(row).map_or(name.clone(), |accelerator| format!("{name}\n{accelerator}"))
}

/// "startup on docker: REGRESSED, the 99.1 % interval of ...".
fn sentence(row: &Row) -> String {
    let (metric, target) = (text::clip(&row.metric, 40), text::name(&row.target));
    format!("{metric} on {target}: {}, {}.", word(row), text::clean(&row.judged.why, SENTENCE))
}
