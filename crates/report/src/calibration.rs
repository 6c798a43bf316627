//! Presents a calibration: the table in the terminal, `calibration.json`, the page.

use std::{fmt::Write, path::Path};

use anstyle::{AnsiColor, Style};
use comfy_table::{Cell, CellAlignment, Table};

use super::{Error, chart, html, put, terminal::RULES, text};
use crate::analysis::{
    calibration::{Calibration, CheckVerdict, SCHEMA},
    noise::{self, Floor, Record},
};

mod words;

pub(crate) use words::{Counts, bound, error, interval, measured, truth};
pub use words::{FILE, word};

/// Writes `calibration.json` and everything generated from it into `dir`, which it creates if necessary.
///
/// # Errors
/// When a file can't be written or the chart can't be drawn.
pub fn write(calibration: &Calibration, dir: &Path) -> Result<(), Error> {
    save(calibration, dir)?;
    render(calibration, dir)
}

/// Writes `charts/fits.svg` and `index.html`.
///
/// # Errors
/// When a file can't be written or the chart can't be drawn.
pub fn render(calibration: &Calibration, dir: &Path) -> Result<(), Error> {
    let chart = chart::fits::chart(calibration)?;
    if let Some(chart) = &chart {
        put(&dir.join("charts").join(format!("{}.svg", chart.name)), chart.alone().as_bytes())?;
    }
    put(&dir.join("index.html"), html::calibration::page(calibration, chart.as_ref()).as_bytes())
}

/// Reads a calibration: `path` is its directory or the file itself.
///
/// # Errors
/// When the file can't be read, is damaged, or has the schema of another version.
pub fn load(path: &Path) -> Result<Calibration, Error> {
    let path = if path.is_dir() { path.join(FILE) } else { path.to_owned() };
    crate::output::read(path, SCHEMA)
}

/// Writes `calibration.json` alone, atomically.
///
/// # Errors
/// When the file can't be written.
pub fn save(calibration: &Calibration, dir: &Path) -> Result<(), Error> {
    let mut json = serde_json::to_vec_pretty(calibration)
        .map_err(|e| Error::Write { path: dir.join(FILE), why: std::io::Error::other(e) })?;
    json.push(b'\n');
    put(&dir.join(FILE), &json)
}

/// Writes the sessions of a host's noise, atomically.
///
/// # Errors
/// When the file can't be written.
pub fn save_noise(record: &Record, path: &Path) -> Result<(), Error> {
    let failed = |e| Error::Write { path: path.to_owned(), why: std::io::Error::other(e) };
    let json = serde_json::to_vec_pretty(record).map_err(failed)?;
    put(path, &json)
}

/// The noise floors as tables, one for each set of conditions.
pub fn floors(record: &Record, floors: &[Floor]) -> String {
    let cpu = text::clip(record.cpu_model.as_deref().unwrap_or("unknown CPU"), 60);
    let mut out = format!(
        "noise floor of host {}, {} × {cpu}, Linux {}\n",
        text::clip(&record.host, 16),
        record.cpus,
        text::clip(&record.kernel_release, 60),
    );
    let same = |a: &Floor, b: &Floor| (&a.target, &a.conditions) == (&b.target, &b.conditions);
    let mut sorted: Vec<&Floor> = floors.iter().collect();
    sorted.sort_by(|a, b| (&a.target, &a.conditions).cmp(&(&b.target, &b.conditions)));
    for group in sorted.chunk_by(|a, b| same(a, b)) {
        let accelerator =
            text::accelerator(group[0].accelerator).map(|a| format!(" {a}")).unwrap_or_default();
        let target = text::clip(&group[0].target, 24);
        let _ = writeln!(out, "\n{target}{accelerator}: {}", text::clean(&group[0].conditions, 300));
        let _ = writeln!(out, "{}", floors_of_one(group));
        if group[0].between.is_none() {
            let _ = writeln!(
                out,
                "{} sessions give a first estimate only: the difference between sessions is unknown",
                group[0].sessions
            );
        }
    }
    out.push_str(
        "\nwithin: difference of two identical sides in one session; between: difference of sessions; floor: the\n\
         larger of both; margin: smallest change that a gate counts, max(5 %, 3 √2 × floor), larger with\n\
         fewer than ten sessions.",
    );
    out
}

fn floors_of_one(floors: &[&Floor]) -> Table {
    let mut table = Table::new();
    table.load_style(RULES);
    table.set_header(["metric", "sessions", "within", "between", "floor", "margin"]);
    let percent = |v: f64| format!("{:.2} %", v * 100.0);
    for floor in floors {
        let between = floor.between.map_or(format!("need >= {}", noise::FEWEST), percent);
        let numbers = [
            floor.sessions.to_string(),
            percent(floor.within),
            between,
            percent(floor.floor),
            percent(floor.margin),
        ];
        let mut cells = vec![Cell::new(text::clip(&floor.metric, 24))];
        cells.extend(numbers.map(|n| Cell::new(n).set_alignment(CellAlignment::Right)));
        table.add_row(cells);
    }
    table
}

/// The table: truth, measured, error and bound of each row, then the verdict and notes.
pub fn table(calibration: &Calibration) -> String {
    let mut out = String::new();
    let cpu = text::clip(&calibration.host.processor().unwrap_or_else(|| "unknown CPU".into()), 100);
    let _ = writeln!(
        out,
        "calibration of {} instances, seed {}, {} × {cpu}, Linux {}",
        calibration.taken.len(),
        calibration.seed,
        calibration.host.cpus,
        text::clip(&calibration.host.kernel_release, 60)
    );
    for target in &calibration.targets {
        if let Some(accelerator) = text::on(target.accelerator, target.kvm.map(|kvm| kvm.degree)) {
            let _ = writeln!(out, "{}: {accelerator}", text::clip(&target.name, 24));
        }
    }
    let mut table = Table::new();
    table.load_style(RULES);
    table.set_header(["check", "target", "figure", "truth", "measured", "error", "bound", ""]);
    for row in &calibration.rows {
        let numbers = [truth(row), measured(row), error(row), bound(row)];
        let words = [row.check.name().to_owned(), text::clip(&row.target, 24), text::clip(&row.metric, 24)];
        let mut cells: Vec<Cell> = words.into_iter().map(Cell::new).collect();
        cells.extend(numbers.map(|number| Cell::new(number).set_alignment(CellAlignment::Right)));
        cells.push(Cell::new(word(row.verdict)));
        table.add_row(cells);
    }
    for line in table.to_string().lines() {
        let line = line.trim_end();
        let _ = match line.strip_suffix(word(CheckVerdict::Fail)) {
            Some(rest) => writeln!(out, "{rest}{BAD}{}{BAD:#}", word(CheckVerdict::Fail)),
            None => writeln!(out, "{line}"),
        };
    }
    let _ = write!(out, "{}", summary(calibration));
    out
}

const BAD: Style = AnsiColor::Red.on_default().bold();
const GOOD: Style = AnsiColor::Green.on_default().bold();

/// The verdict on the whole, and the reasons for failed rows.
fn summary(calibration: &Calibration) -> String {
    let Counts { judged, failed, noise } = Counts::of(calibration);
    let noisy = match noise {
        0 => String::new(),
        n => format!("; noise leaves {n} more undecided"),
    };
    let mut out = match calibration.passed() {
        true => format!(
            "{GOOD}pass{GOOD:#}: all {judged} figures with a known truth are within their bounds{noisy}\n"
        ),
        false if calibration.interrupted => {
            format!("{BAD}cut short{BAD:#}: {failed} of {judged} figures so far failed\n")
        }
        false if failed == 0 => match calibration.not_found() {
            Some(why) => format!("{BAD}FAIL{BAD:#}: {why}\n"),
            None => format!("{BAD}FAIL{BAD:#}: errors occurred outside of the figures\n"),
        },
        false => format!(
            "{BAD}FAIL{BAD:#}: {failed} of {judged} figures are beyond their bounds or could not be measured{noisy}\n"
        ),
    };
    for row in calibration.rows.iter().filter(|row| row.verdict == CheckVerdict::Noise) {
        let note = text::clean(row.note.as_deref().unwrap_or_default(), 400);
        let _ = writeln!(out, "  {} of {}: {}", row.metric, text::clip(&row.target, 24), note);
    }
    for row in calibration.failed_rows() {
        let note =
            row.note.as_deref().map(|note| format!(" ({})", text::clean(note, 400))).unwrap_or_default();
        let _ = writeln!(out, "  {} of {}: {}{note}", row.metric, text::clip(&row.target, 24), row.says);
    }
    for error in &calibration.errors {
        let _ = writeln!(out, "  {}", text::clean(error, 400));
    }
    for (target, why) in &calibration.left_out {
        let _ = writeln!(out, "{} was left out: {}", text::clip(target, 24), text::clean(why, 400));
    }
    for warning in &calibration.warnings {
        let _ = writeln!(out, "warning: {}", text::clean(warning, 400));
    }
    if let Some(broken) = calibration.broken {
        let _ = writeln!(out, "broken on purpose: {}", broken.name());
    }
    out
}
