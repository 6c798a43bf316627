//! criterion's directories, as critcmp reads them and criterion 0.8 writes and loads them:
//! `<scenario>/<metric>/<target>/<run>/` with four files each. Benchmarks have the ids of `cargo bench`; the run is the
//! baseline's name, so that many runs fit into one directory and none is written over another.
//!
//! Point estimates equal criterion's for the same samples. Intervals use the same bootstrap, with the run's seed.

use std::path::PathBuf;

use serde::Serialize;

use super::{Run, Target, plain_name, statistics, text};
use crate::{
    analysis::{Metric, median},
    metric,
};

/// criterion's own default.
const LEVEL: f64 = 0.95;
const DRAWS: usize = 10_000;
/// Largest number of values over all draws, so that an export takes a few seconds at most.
const MOST_DRAWN: usize = 20_000_000;
/// Longest run id; bootrace's own are shorter.
const LONGEST_ID: usize = 128;
/// Directories that criterion itself writes beside baselines.
const RESERVED: [&str; 4] = ["new", "base", "change", "report"];

#[derive(Serialize)]
struct Benchmark<'a> {
    group_id: &'a str,
    function_id: &'a str,
    value_str: &'a str,
    throughput: Option<()>,
    full_id: &'a str,
    directory_name: &'a str,
    title: String,
}

#[derive(Serialize)]
struct Samples<'a> {
    sampling_mode: &'static str,
    iters: Vec<f64>,
    times: &'a [f64],
}

#[derive(Serialize)]
struct Estimates {
    mean: Estimate,
    median: Estimate,
    median_abs_dev: Estimate,
    /// Null: a slope needs a varying number of iterations.
    slope: Option<()>,
    std_dev: Estimate,
}

#[derive(Serialize)]
struct Estimate {
    confidence_interval: ConfidenceInterval,
    point_estimate: f64,
    standard_error: f64,
}

#[derive(Serialize)]
struct ConfidenceInterval {
    confidence_level: f64,
    lower_bound: f64,
    upper_bound: f64,
}

/// Four files for each metric and target with two samples or more, and notes about the others.
pub fn files(run: &Run<'_>, notes: &mut Vec<String>) -> Vec<(PathBuf, Vec<u8>)> {
    let mut baseline = plain_name(&run.results.run.id, LONGEST_ID);
    if RESERVED.contains(&baseline.as_str()) {
        baseline.push('_');
    }
    let mut files = Vec::new();
    for target in &run.targets {
        for metric in metric::TABLE.iter().filter(|row| row.rate.is_some()).map(|row| row.metric) {
            // criterion rejects a time of 0, which no measurement gives.
            let times: Vec<f64> = target.values(metric).into_iter().filter(|ns| *ns > 0.0).collect();
            if times.len() == 1 {
                notes.push(format!(
                    "{} of {} is left out: it has a single sample, and criterion's format needs a standard deviation",
                    metric.name(),
                    target.name
                ));
            }
            files.extend(benchmark(run, target, metric, &times, &baseline));
        }
        if target.accelerator == Some(text::EMULATED) {
            notes.push(format!(
                "{} ran under {}: its title says so, which criterion shows and critcmp does not",
                target.name,
                text::EMULATED
            ));
        }
    }
    files
}

/// Empty below two samples.
fn benchmark(
    run: &Run<'_>,
    target: &Target<'_>,
    metric: Metric,
    times: &[f64],
    baseline: &str,
) -> Vec<(PathBuf, Vec<u8>)> {
    let Some(estimates) = estimates(times, run.results.run.seed) else { return Vec::new() };
    let id = format!("{}/{}/{}", run.scenario, metric.name(), target.name);
    let beside = target.label.strip_prefix(&format!("{}/{}", run.scenario, target.name)).unwrap_or_default();
    let benchmark = Benchmark {
        group_id: &run.scenario,
        function_id: metric.name(),
        value_str: &target.name,
        throughput: None,
        full_id: &id,
        directory_name: &id,
        title: format!("{id}{beside}"),
    };
    let samples = Samples { sampling_mode: "Flat", iters: vec![1.0; times.len()], times };
    let dir = PathBuf::from(&id).join(baseline);
    vec![
        (dir.join("benchmark.json"), super::json(&benchmark)),
        (dir.join("estimates.json"), super::json(&estimates)),
        (dir.join("sample.json"), super::json(&samples)),
        (dir.join("tukey.json"), super::json(&fences(times))),
    ]
}

fn estimates(times: &[f64], seed: u64) -> Option<Estimates> {
    let points = statistics::Points::of(times)?;
    let draws = DRAWS.min(MOST_DRAWN / times.len()).max(100);
    let drawn = statistics::bootstrap(times, draws, seed);
    let estimate = |of: fn(&statistics::Points) -> f64| {
        let drawn: Vec<f64> = drawn.iter().map(of).collect();
        let sorted = median::sorted(&drawn);
        Some(Estimate {
            confidence_interval: ConfidenceInterval {
                confidence_level: LEVEL,
                lower_bound: statistics::percentile(&sorted, (1.0 - LEVEL) / 2.0)?,
                upper_bound: statistics::percentile(&sorted, (1.0 + LEVEL) / 2.0)?,
            },
            point_estimate: of(&points),
            standard_error: statistics::std_dev(&drawn)?,
        })
    };
    Some(Estimates {
        mean: estimate(|p| p.mean)?,
        median: estimate(|p| p.median)?,
        median_abs_dev: estimate(|p| p.median_abs_dev)?,
        slope: None,
        std_dev: estimate(|p| p.std_dev)?,
    })
}

/// Tukey's fences: 3 and 1.5 interquartile ranges below and above the quartiles.
fn fences(times: &[f64]) -> Option<[f64; 4]> {
    let sorted = median::sorted(times);
    let (q1, q3) = (statistics::percentile(&sorted, 0.25)?, statistics::percentile(&sorted, 0.75)?);
    let range = q3 - q1;
    Some([q1 - 3.0 * range, q1 - 1.5 * range, q3 + 1.5 * range, q3 + 3.0 * range])
}
