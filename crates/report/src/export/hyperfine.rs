//! The JSON of hyperfine's `--export-json`, one result per target; times are start-ups in seconds. User time is
//! all CPU time until ready and system time is 0, since bootrace measures their sum. Exit codes are null: a workload
//! runs until bootrace stops it, and hyperfine writes null for a command that a signal ended.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{Run, Target, statistics, text};
use crate::analysis::{Metric, median};

#[derive(Serialize)]
struct Document {
    results: Vec<Summary>,
}

#[derive(Serialize)]
struct Summary {
    command: String,
    mean: f64,
    /// Null for a single sample, as in hyperfine.
    stddev: Option<f64>,
    median: f64,
    /// Null like `system` where no sample has its CPU time.
    user: Option<f64>,
    system: Option<f64>,
    min: f64,
    max: f64,
    times: Vec<f64>,
    /// Footprints, one for each of `times`; left out where a sample has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    memory_usage_byte: Option<Vec<u64>>,
    exit_codes: Vec<Option<i32>>,
    parameters: BTreeMap<&'static str, String>,
}

/// A result for each target with a good sample: a result needs a mean.
pub fn file(run: &Run<'_>) -> Vec<u8> {
    let results = run.targets.iter().filter_map(|target| summary(run, target)).collect();
    super::json(&Document { results })
}

fn summary(run: &Run<'_>, target: &Target<'_>) -> Option<Summary> {
    let timed: Vec<_> =
        target.good.iter().filter_map(|s| Some((Metric::Startup.of(s)?, s.memory_bytes.footprint))).collect();
    let times: Vec<f64> = timed.iter().map(|(ns, _)| ns / 1e9).collect();
    let sorted = median::sorted(&times);
    let user = statistics::mean(&target.values(Metric::CpuStartup)).map(|ns| ns / 1e9);
    Some(Summary {
        command: target.label.clone(),
        mean: statistics::mean(&times)?,
        stddev: statistics::std_dev(&times),
        median: median::of_sorted(&sorted)?,
        user,
        system: user.map(|_| 0.0),
        min: *sorted.first()?,
        max: *sorted.last()?,
        memory_usage_byte: timed.iter().map(|(_, footprint)| *footprint).collect(),
        exit_codes: vec![None; times.len()],
        times,
        parameters: BTreeMap::from([
            ("accelerator", target.accelerator.unwrap_or("none").to_owned()),
            ("image", text::image(&run.results.image)),
            ("kind", target.record.kind.to_string()),
            ("run", text::clip(&run.results.run.id, 128)),
            ("scenario", run.scenario.clone()),
            ("target", target.name.clone()),
        ]),
    })
}
