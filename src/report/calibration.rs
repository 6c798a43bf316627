//! All that is shown of a calibration: the table in the terminal, `calibration.json`, the page.

use std::path::Path;

use comfy_table::{Cell, CellAlignment, LineStyle, Table, TableStyle};

use super::{Error, put, text};
use crate::{
    analysis::Unit,
    calibration::{
        Calibration, Quantity, Row, Verdict,
        noise::{self, Floor, Record},
    },
};

/// The file that everything else can be made from.
pub const FILE: &str = "calibration.json";

/// Writes `calibration.json` and `index.html` into `dir`, which is made if it isn't there.
pub fn write(calibration: &Calibration, dir: &Path) -> Result<(), Error> {
    save(calibration, dir)
}

/// Writes `calibration.json` alone: whole or not at all.
pub fn save(calibration: &Calibration, dir: &Path) -> Result<(), Error> {
    let mut json = serde_json::to_vec_pretty(calibration)
        .map_err(|e| Error::Write { path: dir.join(FILE), why: std::io::Error::other(e) })?;
    json.push(b'\n');
    put(&dir.join(FILE), &json)
}

/// Writes what is known of a host's noise: whole or not at all.
pub fn save_noise(record: &Record, path: &Path) -> Result<(), Error> {
    let failed = |e| Error::Write { path: path.to_owned(), why: std::io::Error::other(e) };
    let json = serde_json::to_vec_pretty(record).map_err(failed)?;
    put(path, &json)
}

/// The noise floors as a table.
pub fn floors(record: &Record, floors: &[Floor]) -> String {
    let mut table = Table::new();
    table.load_style(RULES);
    table.set_header(["target", "metric", "sessions", "within", "between", "floor", "margin"]);
    let percent = |v: f64| format!("{:.2} %", v * 100.0);
    for floor in floors {
        let between = floor.between.map_or(format!("need >= {}", noise::FEWEST), percent);
        let numbers = [floor.sessions.to_string(), percent(floor.within), between, percent(floor.floor), percent(floor.margin)];
        let accelerator = text::accelerator(floor.accelerator).map(|a| format!(" {a}")).unwrap_or_default();
        let mut cells = vec![Cell::new(format!("{}{accelerator}", text::clip(&floor.target, 24))), Cell::new(text::clip(&floor.metric, 24))];
        cells.extend(numbers.map(|n| Cell::new(n).set_alignment(CellAlignment::Right)));
        table.add_row(cells);
    }
    let cpu = text::clip(record.cpu_model.as_deref().unwrap_or("unknown CPU"), 60);
    format!(
        "noise floor of host {}, {} × {cpu}, Linux {}\n{table}\n\
         within: what two sides that are the same differ by in one session; between: what sessions differ by; floor:\n\
         the larger; margin: what a gate may not take for a change, max(5 %, 3 √2 × floor).",
        text::clip(&record.host, 16),
        record.cpus,
        text::clip(&record.kernel_release, 60),
    )
}

const RULE: LineStyle = LineStyle::new('─', '─', '─', '─');
const RULES: TableStyle = TableStyle::new().top_border(RULE).header_separator(RULE).bottom_border(RULE);

/// Truth, measured, error and bound of each row.
pub fn table(calibration: &Calibration) -> String {
    let mut table = Table::new();
    table.load_style(RULES);
    table.set_header(["check", "target", "figure", "truth", "measured", "error", "bound", ""]);
    for row in &calibration.rows {
        let numbers = [truth(row), measured(row), error(row), bound(row)].map(|n| Cell::new(n).set_alignment(CellAlignment::Right));
        let mut cells = vec![Cell::new(row.check.name()), Cell::new(text::clip(&row.target, 24)), Cell::new(text::clip(&row.metric, 24))];
        cells.extend(numbers);
        cells.push(Cell::new(word(row.verdict)));
        table.add_row(cells);
    }
    table.to_string()
}

/// A row's verdict in a word.
pub fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Pass => "pass",
        Verdict::Fail => "FAIL",
        Verdict::Stated => "stated",
    }
}

fn truth(row: &Row) -> String {
    row.truth.map_or(text::NOTHING.into(), |v| value(row.quantity, v))
}

fn measured(row: &Row) -> String {
    row.measured.map_or(text::NOTHING.into(), |v| value(row.quantity, v))
}

fn error(row: &Row) -> String {
    match (row.error, row.relative) {
        (None, _) => text::NOTHING.into(),
        (Some(e), true) => format!("{:+.2} %", e * 100.0),
        (Some(e), false) => signed(row.quantity, e),
    }
}

fn bound(row: &Row) -> String {
    match (row.bound, row.relative) {
        (None, _) => text::NOTHING.into(),
        (Some(b), true) => format!("{:.1} %", b * 100.0),
        (Some(b), false) => match row.quantity {
            Quantity::Slope => format!("{:.1} %", b * 100.0),
            quantity => value(quantity, b),
        },
    }
}

fn signed(quantity: Quantity, v: f64) -> String {
    match quantity {
        Quantity::Slope => format!("{:+.2} %", v * 100.0),
        Quantity::Time => text::signed(Unit::Time, v),
        Quantity::Size => text::signed(Unit::Size, v),
        Quantity::Share => format!("{:+.2} %", v * 100.0),
        Quantity::Count => format!("{v:+.0}"),
    }
}

fn value(quantity: Quantity, v: f64) -> String {
    match quantity {
        Quantity::Slope => format!("{v:.4}"),
        Quantity::Time => text::value(Unit::Time, v),
        Quantity::Size => text::value(Unit::Size, v),
        Quantity::Share => format!("{:.2} %", v * 100.0),
        Quantity::Count => format!("{v:.0}"),
    }
}
