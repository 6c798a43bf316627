//! Every sample as a row, in the order taken: warm-ups and failed ones too, with their interference. RFC 4180: CRLF,
//! quotes where necessary, one header. A cell without a value is empty.

use std::collections::BTreeMap;

use super::{LONGEST_NAME, Run, Target, plain_name, text};
use crate::{
    analysis::{self, is_measured},
    metric::{self, Source},
    sample::{Interference, Outcome, Sample},
};

/// Longest text of an error, in characters.
const LONGEST_ERROR: usize = 1000;

/// A sample and the context of its cells.
struct Row<'a> {
    run: &'a Run<'a>,
    sample: &'a Sample,
    /// `None` where a file edited by hand has samples of an unlisted target.
    target: Option<&'a Target<'a>>,
    outlier: &'a str,
    overhead: Option<f64>,
}

type Column = (&'static str, fn(&Row<'_>) -> String);

/// Columns about the sample; the metrics follow, each under its name and unit.
const ABOUT: [Column; 16] = [
    ("scenario", |r| r.run.scenario.clone()),
    ("run", |r| words(&r.run.results.run.id, 128)),
    ("target", |r| r.target.map_or_else(|| plain_name(&r.sample.target, LONGEST_NAME), |t| t.name.clone())),
    ("kind", |r| r.target.map_or_else(String::new, |t| t.record.kind.to_string())),
    ("accelerator", |r| r.target.map_or_else(String::new, |t| t.accelerator.unwrap_or("none").into())),
    ("image", |r| words(&text::image(&r.run.results.image), 100)),
    ("fallback", |r| r.run.results.image.fallback.to_string()),
    ("processor_emulator", |r| {
        r.run.results.host.processor_emulator.as_deref().map_or_else(String::new, |e| words(e, 40))
    }),
    ("round", |r| r.sample.round.to_string()),
    ("position", |r| r.sample.position.to_string()),
    ("warmup", |r| r.sample.warmup.to_string()),
    ("outcome", |r| outcome(r.sample.outcome).into()),
    ("counted", |r| is_measured(r.sample).to_string()),
    ("error", |r| r.sample.error.as_deref().map_or_else(String::new, |e| words(e, LONGEST_ERROR))),
    ("interference", kinds),
    ("outlier_in", |r| r.outlier.to_owned()),
];

/// Columns with the readings behind the metrics, and the interference.
const PARTS: [Column; 23] = [
    ("started_ns", |r| cell(r.sample.timeline_ns.started)),
    ("agent_ns", |r| cell(r.sample.timeline_ns.agent)),
    ("ready_ns", |r| cell(r.sample.timeline_ns.ready)),
    ("stopping_ns", |r| cell(r.sample.timeline_ns.stopping)),
    ("gone_ns", |r| cell(r.sample.timeline_ns.gone)),
    ("memory_cgroup_anon_bytes", |r| cell(r.sample.memory_bytes.cgroup_anon)),
    ("memory_cgroup_kernel_bytes", |r| cell(r.sample.memory_bytes.cgroup_kernel)),
    ("memory_pss_bytes", |r| cell(r.sample.memory_bytes.pss)),
    ("memory_pss_file_bytes", |r| cell(r.sample.memory_bytes.pss_file)),
    ("cpu_idle_ns", |r| cell(r.sample.cpu_ns.idle)),
    ("cpu_idle_window_ns", |r| cell(r.sample.cpu_ns.idle_window)),
    ("interference_window_ns", |r| interference(r, |n| Some(n.window_ns))),
    ("interference_others_cpu_ns", |r| interference(r, |n| n.others_cpu_ns)),
    ("interference_steal_ns", |r| interference(r, |n| n.steal_ns)),
    ("interference_psi_cpu_ns", |r| interference(r, |n| n.psi_cpu_ns)),
    ("interference_psi_io_ns", |r| interference(r, |n| n.psi_io_ns)),
    ("interference_psi_memory_ns", |r| interference(r, |n| n.psi_memory_ns)),
    ("interference_thermal_throttles", |r| interference(r, |n| n.thermal_throttles)),
    ("interference_quota_throttled_ns", |r| interference(r, |n| n.quota_throttled_ns)),
    ("interference_swapped_in_pages", |r| interference(r, |n| n.swapped_in_pages)),
    ("interference_swapped_out_pages", |r| interference(r, |n| n.swapped_out_pages)),
    ("interference_major_faults", |r| interference(r, |n| n.major_faults)),
    ("interference_cpu_khz", |r| interference(r, |n| n.cpu_khz)),
];

/// `memory_footprint_bytes`.
fn column(row: &metric::Row) -> String {
    let (name, unit) = (row.name.replace('.', "_"), row.unit.suffix());
    if name.ends_with(unit) { name } else { format!("{name}_{unit}") }
}

pub fn file(run: &Run<'_>) -> Vec<u8> {
    let outliers = outliers(run);
    let baseline = footprints_of_the_baseline(run);
    let mut csv = ::csv::WriterBuilder::new().terminator(::csv::Terminator::CRLF).from_writer(Vec::new());
    let in_memory = "writing to memory doesn't fail, and every row is as long as the header";
    let metrics = || metric::TABLE.iter().filter(|row| !row.metric.is_of_density());
    let fixed = |columns: &[Column]| columns.iter().map(|(name, _)| (*name).to_owned()).collect::<Vec<_>>();
    let header = fixed(&ABOUT).into_iter().chain(metrics().map(column)).chain(fixed(&PARTS));
    csv.write_record(header).expect(in_memory);
    for (i, sample) in run.results.samples.iter().enumerate() {
        let target = run.targets.iter().find(|t| t.record.name == sample.target);
        let is_baseline = run.analysis.baseline.as_deref() == Some(&sample.target);
        let under = baseline.get(&sample.round).filter(|_| !is_baseline && is_measured(sample));
        let over = |(own, under): (u64, &u64)| own as f64 - *under as f64;
        let row = Row {
            run,
            sample,
            target,
            outlier: outliers.get(&i).map_or("", String::as_str),
            overhead: sample.memory_bytes.footprint.zip(under).map(over),
        };
        let about = ABOUT.iter().map(|(_, of)| of(&row));
        let values = metrics().map(|metric| value(&row, metric));
        csv.write_record(about.chain(values).chain(PARTS.iter().map(|(_, of)| of(&row)))).expect(in_memory);
    }
    csv.into_inner().expect(in_memory)
}

/// Metrics in which a sample is an outlier, by index of the sample.
fn outliers(run: &Run<'_>) -> BTreeMap<usize, String> {
    let mut outliers: BTreeMap<usize, String> = BTreeMap::new();
    for figure in run.targets.iter().flat_map(|t| &t.analysed.figures) {
        for i in &figure.outliers {
            let names = outliers.entry(*i).or_default();
            let between = if names.is_empty() { "" } else { "; " };
            *names = format!("{names}{between}{}", figure.metric.name());
        }
    }
    outliers
}

/// Footprints of the baseline by round.
fn footprints_of_the_baseline(run: &Run<'_>) -> BTreeMap<u32, u64> {
    let baseline = run.targets.iter().find(|t| t.analysed.baseline);
    let samples = baseline.into_iter().flat_map(|t| &t.good);
    samples.filter_map(|s| Some((s.round, s.memory_bytes.footprint?))).collect()
}

fn value(row: &Row<'_>, metric: &metric::Row) -> String {
    match metric.source {
        Source::Sample(read) => cell(read(row.sample)),
        Source::PairedFootprint => cell(row.overhead),
        Source::Density(_) => String::new(),
    }
}

fn interference(row: &Row<'_>, of: fn(&Interference) -> Option<u64>) -> String {
    cell(row.sample.interference.as_ref().and_then(of))
}

fn kinds(row: &Row<'_>) -> String {
    let kinds = analysis::interference(row.sample, row.run.results.host.cpus);
    kinds.into_iter().map(analysis::InterferenceKind::word).collect::<Vec<_>>().join("; ")
}

fn outcome(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Ok => "ok",
        Outcome::Failed => "failed",
        Outcome::TimedOut => "timed_out",
    }
}

fn cell(value: Option<impl std::fmt::Display>) -> String {
    value.map_or_else(String::new, |v| v.to_string())
}

/// Untrusted text on one line that no spreadsheet reads as a formula, which the first character of a cell decides
/// (OWASP, *CSV Injection*). Numbers don't pass through here: a negative one is harmless.
fn words(text: &str, longest: usize) -> String {
    let text = text::clean(text, longest);
    match text.starts_with(['=', '+', '-', '@', '\u{ff1d}', '\u{ff0b}', '\u{ff0d}', '\u{ff20}']) {
        true => format!("'{text}"),
        false => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_is_a_formula_or_a_second_line() {
        let known = [
            ("=cmd|' /C calc'!A0", "'=cmd|' /C calc'!A0"),
            ("+1", "'+1"),
            ("-2+3", "'-2+3"),
            ("@SUM(A1)", "'@SUM(A1)"),
            ("\t=1", "'=1"),
            ("\r\n=1\r\nx", "'=1 x"),
            ("\u{200b}=1", "'=1"),
            ("starting x: exit code 1", "starting x: exit code 1"),
        ];
        for (text, shown) in known {
            assert_eq!(words(text, 99), shown, "{text:?}");
        }
    }

    #[test]
    fn no_column_is_there_twice() {
        let fixed = ABOUT.iter().chain(&PARTS).map(|(name, _)| (*name).to_owned());
        let names: Vec<_> = fixed.chain(metric::TABLE.iter().map(column)).collect();
        assert_eq!(names.iter().collect::<std::collections::BTreeSet<_>>().len(), names.len());
    }
}
