//! A comparison's rows in words, the same in every output.

use crate::{
    analysis::{
        Metric, Unit,
        comparison::{Pair, Row, Side},
    },
    text,
};

/// Name of the file with a comparison, for programs.
pub const FILE: &str = "comparison.json";

/// Longest untrusted text in a sentence, in characters.
pub const SENTENCE: usize = 1200;

/// Accelerator of a VM, of both sides where they differ.
pub fn accelerator(row: &Row) -> Option<String> {
    let name = |accelerator| text::accelerator(accelerator).unwrap_or("no VM");
    match row.new_accelerator {
        Some(new) => Some(format!("{} → {}", name(row.accelerator), name(new))),
        None => text::accelerator(row.accelerator).map(str::to_owned),
    }
}

/// The verdict, in lower case for rows that don't gate.
pub fn word(row: &Row) -> String {
    let word = row.judged.verdict.word();
    if row.gates { word.to_owned() } else { word.to_lowercase() }
}

/// Whether the comparison pairs rounds.
pub fn how(pair: &Pair) -> String {
    match pair.paired {
        true => "interleaved A/B, paired by round".into(),
        false => "separate runs, not paired".into(),
    }
}

pub fn run(run: &crate::analysis::comparison::Run) -> String {
    format!(
        "{}, {}, bootrace {}",
        text::clip(&run.id, 100),
        text::clip(&run.started_at, 30),
        text::clip(&run.bootrace_version, 40)
    )
}

/// "160 ms [155, 166], n = 20, 2 failed".
pub fn side(row: &Row, side: &Side) -> String {
    let failed = match side.failed {
        0 => String::new(),
        n => format!(", {n} failed"),
    };
    format!("{}, n = {}{failed}", median(row, side), side.n)
}

/// "1.21 [1.15, 1.28]".
pub fn ratio(row: &Row) -> String {
    let of = |shift: &crate::analysis::gate::Shift| {
        let interval = match shift.interval {
            Some(i) => format!("[{:.3}, {:.3}]", i.low, i.high),
            None => format!("[{}]", text::TOO_FEW),
        };
        Some(format!("{:.3} {interval}", shift.ratio?))
    };
    row.shift.as_ref().and_then(of).unwrap_or_else(|| text::NOTHING.into())
}

pub fn p(row: &Row) -> String {
    match row.shift.map(|shift| shift.p) {
        None => text::NOTHING.into(),
        Some(p) if p < 0.001 => "< 0.001".into(),
        Some(p) => format!("{p:.3}"),
    }
}

pub fn superiority(row: &Row) -> String {
    row.shift.map_or(text::NOTHING.into(), |shift| format!("{:.2}", shift.superiority))
}

/// Differences of the runs, and the caveats of the comparison.
pub fn remarks(pair: &Pair) -> Vec<String> {
    let differences = pair.differences.iter().map(|d| {
        let [what, base, new] = [&d.what, &d.base, &d.new].map(|text| text::clean(text, 160));
        format!("{what} differs: {base} in BASE, {new} in NEW")
    });
    differences.chain(pair.caveats.iter().map(|caveat| text::clean(caveat, SENTENCE))).collect()
}

/// "160 ms [155, 166]".
pub fn median(row: &Row, side: &Side) -> String {
    let of = |median| {
        let interval = text::interval(unit(row), median, side.interval.as_ref());
        format!("{} {interval}", text::value(unit(row), median))
    };
    side.median.map_or(text::NOTHING.into(), of)
}

fn unit(row: &Row) -> Unit {
    Metric::from_name(&row.metric).map_or(Unit::Time, Metric::unit)
}
