//! Every sample as a row, in the order taken: warm-ups and failed ones too, with their interference. RFC 4180: CRLF, quotes
//! where they are needed, one header. An empty cell is a value that there is not.

use std::collections::BTreeMap;

use super::{LONGEST_NAME, Run, Target, plain_name, text};
use crate::{
    analysis::{self, Metric, counts},
    sample::{Interference, Outcome, Sample},
};

/// Of an error's text.
const LONGEST_ERROR: usize = 1000;

/// A sample and what a cell may need beside it.
struct Row<'a> {
    run: &'a Run<'a>,
    sample: &'a Sample,
    /// `None` where a file made by hand has samples of a target that it has not.
    target: Option<&'a Target<'a>>,
    outlier: &'a str,
    overhead: Option<f64>,
}

type Column = (&'static str, fn(&Row<'_>) -> String);

/// A column for each.
const COLUMNS: [Column; 66] = [
    ("scenario", |r| r.run.scenario.clone()),
    ("run", |r| words(&r.run.results.run.id, 128)),
    ("target", |r| r.target.map_or_else(|| plain_name(&r.sample.target, LONGEST_NAME), |t| t.name.clone())),
    ("kind", |r| r.target.map_or_else(String::new, |t| words(&t.record.kind, 40))),
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
    ("counted", |r| counts(r.sample).to_string()),
    ("error", |r| r.sample.error.as_deref().map_or_else(String::new, |e| words(e, LONGEST_ERROR))),
    ("interference", kinds),
    ("outlier_in", |r| r.outlier.to_owned()),
    ("startup_ns", |r| metric(r, Metric::Startup)),
    ("startup_engine_ns", |r| metric(r, Metric::Engine)),
    ("startup_boot_ns", |r| metric(r, Metric::Boot)),
    ("startup_launch_ns", |r| metric(r, Metric::Launch)),
    ("teardown_ns", |r| metric(r, Metric::Teardown)),
    ("started_ns", |r| cell(r.sample.timeline_ns.started)),
    ("agent_ns", |r| cell(r.sample.timeline_ns.agent)),
    ("ready_ns", |r| cell(r.sample.timeline_ns.ready)),
    ("stopping_ns", |r| cell(r.sample.timeline_ns.stopping)),
    ("gone_ns", |r| cell(r.sample.timeline_ns.gone)),
    ("memory_footprint_bytes", |r| cell(r.sample.memory_bytes.footprint)),
    ("memory_overhead_bytes", |r| cell(r.overhead)),
    ("memory_workload_bytes", |r| cell(r.sample.memory_bytes.workload_rss)),
    ("memory_engine_bytes", |r| cell(r.sample.memory_bytes.engine_pss)),
    ("memory_cache_bytes", |r| cell(r.sample.memory_bytes.cgroup_file)),
    ("memory_guest_cache_bytes", |r| cell(r.sample.memory_bytes.guest_cache)),
    ("memory_daemons_bytes", |r| cell(r.sample.memory_bytes.daemons)),
    ("memory_cgroup_anon_bytes", |r| cell(r.sample.memory_bytes.cgroup_anon)),
    ("memory_cgroup_kernel_bytes", |r| cell(r.sample.memory_bytes.cgroup_kernel)),
    ("memory_pss_bytes", |r| cell(r.sample.memory_bytes.pss)),
    ("memory_pss_file_bytes", |r| cell(r.sample.memory_bytes.pss_file)),
    ("cpu_startup_ns", |r| cell(r.sample.cpu_ns.startup)),
    ("cpu_idle_ns", |r| cell(r.sample.cpu_ns.idle)),
    ("cpu_idle_window_ns", |r| cell(r.sample.cpu_ns.idle_window)),
    ("cpu_work_ns", |r| cell(r.sample.cpu_ns.work_wall)),
    ("cpu_work_host_ns", |r| cell(r.sample.cpu_ns.work_host)),
    ("cpu_work_guest_ns", |r| cell(r.sample.cpu_ns.work_guest)),
    ("noise_window_ns", |r| noise(r, |n| Some(n.window_ns))),
    ("noise_others_cpu_ns", |r| noise(r, |n| n.others_cpu_ns)),
    ("noise_steal_ns", |r| noise(r, |n| n.steal_ns)),
    ("noise_psi_cpu_ns", |r| noise(r, |n| n.psi_cpu_ns)),
    ("noise_psi_io_ns", |r| noise(r, |n| n.psi_io_ns)),
    ("noise_psi_memory_ns", |r| noise(r, |n| n.psi_memory_ns)),
    ("noise_thermal_throttles", |r| noise(r, |n| n.thermal_throttles)),
    ("noise_quota_throttled_ns", |r| noise(r, |n| n.quota_throttled_ns)),
    ("noise_swapped_in_pages", |r| noise(r, |n| n.swapped_in_pages)),
    ("noise_swapped_out_pages", |r| noise(r, |n| n.swapped_out_pages)),
    ("noise_major_faults", |r| noise(r, |n| n.major_faults)),
    ("noise_cpu_khz", |r| noise(r, |n| n.cpu_khz)),
    ("disk_image_bytes", |r| metric(r, Metric::DiskImage)),
    ("disk_instance_bytes", |r| metric(r, Metric::DiskInstance)),
    ("copy_make_ns", |r| metric(r, Metric::CopyMake)),
    ("copy_first_write_ns", |r| metric(r, Metric::CopyFirstWrite)),
    ("copy_rewrite_ns", |r| metric(r, Metric::CopyRewrite)),
    ("copy_bytes", |r| metric(r, Metric::CopyBytes)),
    ("startup_firmware_ns", |r| metric(r, Metric::Firmware)),
    ("startup_kernel_ns", |r| metric(r, Metric::Kernel)),
    ("startup_initrd_ns", |r| metric(r, Metric::Initrd)),
    ("startup_userspace_ns", |r| metric(r, Metric::Userspace)),
    ("startup_unit_ns", |r| metric(r, Metric::Unit)),
];

pub fn file(run: &Run<'_>) -> Vec<u8> {
    let outliers = outliers(run);
    let baseline = footprints_of_the_baseline(run);
    let mut csv = ::csv::WriterBuilder::new().terminator(::csv::Terminator::CRLF).from_writer(Vec::new());
    let in_memory = "writing to memory doesn't fail, and every row is as long as the header";
    csv.write_record(COLUMNS.map(|(name, _)| name)).expect(in_memory);
    for (i, sample) in run.results.samples.iter().enumerate() {
        let target = run.targets.iter().find(|t| t.record.name == sample.target);
        let is_baseline = run.analysis.baseline.as_deref() == Some(&sample.target);
        let under = baseline.get(&sample.round).filter(|_| !is_baseline && counts(sample));
        let over = |(own, under): (u64, &u64)| own as f64 - *under as f64;
        let row = Row {
            run,
            sample,
            target,
            outlier: outliers.get(&i).map_or("", String::as_str),
            overhead: sample.memory_bytes.footprint.zip(under).map(over),
        };
        csv.write_record(COLUMNS.map(|(_, of)| of(&row))).expect(in_memory);
    }
    csv.into_inner().expect(in_memory)
}

/// By index into the samples: in which metrics each is an outlier.
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

/// By round.
fn footprints_of_the_baseline(run: &Run<'_>) -> BTreeMap<u32, u64> {
    let baseline = run.targets.iter().find(|t| t.analysed.baseline);
    let samples = baseline.into_iter().flat_map(|t| &t.good);
    samples.filter_map(|s| Some((s.round, s.memory_bytes.footprint?))).collect()
}

fn metric(row: &Row<'_>, metric: Metric) -> String {
    cell(metric.of(row.sample))
}

fn noise(row: &Row<'_>, of: fn(&Interference) -> Option<u64>) -> String {
    cell(row.sample.noise.as_ref().and_then(of))
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

/// Text from outside: on one line, and never a formula to a spreadsheet, which takes a cell for one by its first
/// character (OWASP, *CSV Injection*). Numbers are left alone: a negative one computes nothing.
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
        let names: std::collections::BTreeSet<_> = COLUMNS.iter().map(|(name, _)| name).collect();
        assert_eq!(names.len(), COLUMNS.len());
    }
}
