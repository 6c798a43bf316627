//! A calibration's rows in words, the same in every output.

use crate::{
    analysis::{
        Unit,
        calibration::{Calibration, CheckVerdict, Quantity, Row},
    },
    text,
};

/// Name of the file that all other files are generated from.
pub const FILE: &str = "calibration.json";

/// Number of rows by verdict.
pub struct Counts {
    /// Rows with the verdict pass or fail.
    pub judged: usize,
    pub failed: usize,
    /// Rows that noise leaves undecided.
    pub noise: usize,
}

impl Counts {
    pub fn of(calibration: &Calibration) -> Self {
        let count = |verdict| calibration.rows.iter().filter(|row| row.verdict == verdict).count();
        let failed = count(CheckVerdict::Fail);
        Counts { judged: count(CheckVerdict::Pass) + failed, failed, noise: count(CheckVerdict::Noise) }
    }
}

/// A row's verdict as tables show it.
pub fn word(verdict: CheckVerdict) -> &'static str {
    match verdict {
        CheckVerdict::Pass => "pass",
        CheckVerdict::Fail => "FAIL",
        CheckVerdict::Noise => "noise",
        CheckVerdict::Stated => "stated",
    }
}

pub fn truth(row: &Row) -> String {
    row.truth.map_or(text::NOTHING.into(), |v| value(row.quantity, v))
}

pub fn measured(row: &Row) -> String {
    row.measured.map_or(text::NOTHING.into(), |v| value(row.quantity, v))
}

pub fn error(row: &Row) -> String {
    match (row.error, row.relative) {
        (None, _) => text::NOTHING.into(),
        (Some(e), true) => percent(e),
        (Some(e), false) => signed(row.quantity, e),
    }
}

pub fn bound(row: &Row) -> String {
    match (row.bound, row.relative) {
        (None, _) => text::NOTHING.into(),
        (Some(b), true) => format!("{:.1} %", b * 100.0),
        (Some(b), false) => match row.quantity {
            Quantity::Slope => format!("{:.1} %", b * 100.0),
            quantity => value(quantity, b),
        },
    }
}

/// "[0.9990, 1.0011]"; `None` without an interval.
pub fn interval(row: &Row) -> Option<String> {
    let [low, high] = row.interval?;
    let level = row.level.map_or(String::new(), |level| format!(", {:.1} %", level * 100.0));
    Some(format!("[{}, {}]{level}", value(row.quantity, low), value(row.quantity, high)))
}

fn signed(quantity: Quantity, v: f64) -> String {
    match quantity {
        Quantity::Slope | Quantity::Share => percent(v),
        Quantity::Time => text::signed(Unit::Time, v),
        Quantity::Size => text::signed(Unit::Size, v),
        Quantity::Count => format!("{v:+.0}"),
    }
}

fn value(quantity: Quantity, v: f64) -> String {
    match quantity {
        // Not "-0.0000".
        Quantity::Slope => format!("{:.4}", (v * 1e4).round() / 1e4 + 0.0).replace('-', "−"),
        Quantity::Time => text::value(Unit::Time, v),
        Quantity::Size => text::value(Unit::Size, v),
        Quantity::Share => format!("{:.2} %", v * 100.0),
        Quantity::Count => format!("{v:.0}"),
    }
}

/// "+0.20 %".
fn percent(share: f64) -> String {
    format!("{:+.2} %", (share * 1e4).round() / 1e2 + 0.0).replace('-', "−")
}
