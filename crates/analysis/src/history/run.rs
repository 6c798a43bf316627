//! The extract of one run that a history needs.

use sha2::{Digest, Sha256};

use crate::{
    LEVEL, Metric, baseline,
    kind::Kind,
    median::{self, Interval},
    sample::{Accelerator, Outcome, Results, Source, TargetRecord},
    series, short,
};

/// Extract of one run.
#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    /// Unique name of the run.
    pub id: String,
    /// As in the run's `results.json`.
    pub started_at: String,
    /// `started_at`, parsed.
    pub time: jiff::Timestamp,
    /// Commit that the run measured; `None` where it is unknown.
    pub source: Option<Source>,
    /// Whether the run was cut short.
    pub interrupted: bool,
    /// Whether the run is a side of an A/B.
    pub of_an_ab: bool,
    /// Name of the scenario.
    pub scenario: String,
    /// Host of the run.
    pub host: HostName,
    /// In the order of the results' targets.
    pub targets: Vec<Measured>,
}

/// Identification of a host.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostName {
    /// Host name; empty where the hardware alone identifies hosts.
    pub name: String,
    /// Empty where it is unknown.
    pub cpu_model: String,
    /// Number of logical CPUs.
    pub cpus: u32,
}

/// One target of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct Measured {
    /// As in the scenario.
    pub name: String,
    /// Engine of the target.
    pub kind: Kind,
    /// How a VM executed its code.
    pub accelerator: Accelerator,
    /// Number of measured samples that failed or timed out.
    pub failed: usize,
    /// Figures of the requested metrics, in their order; `None` where no sample has a value.
    pub figures: Vec<Option<Figure>>,
    /// Conditions that affect figures: name and value.
    pub conditions: Vec<(&'static str, String)>,
}

/// Median of one metric in one run, in the metric's unit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Figure {
    /// Number of samples with a value.
    pub n: usize,
    /// Point estimate.
    pub median: f64,
    /// `None`: need >= 6 samples.
    pub interval: Option<Interval>,
}

/// The start time of a run is invalid.
#[derive(Debug, thiserror::Error)]
#[error("its started_at, {0:?}, is not a time")]
pub struct InvalidStartTime(String);

impl Run {
    /// Extracts the figures of `metrics` from a run.
    ///
    /// # Errors
    /// When its `started_at` is not a time.
    pub fn of(results: &Results, metrics: &[Metric]) -> Result<Self, InvalidStartTime> {
        let run = &results.run;
        let time = run
            .started_at
            .parse()
            .map_err(|_| InvalidStartTime(run.started_at.chars().take(40).collect()))?;
        let scenario = run.scenario.get("name").and_then(|name| name.as_str()).unwrap_or("run");
        let host = &results.host;
        Ok(Run {
            id: run.id.clone(),
            started_at: run.started_at.clone(),
            time,
            source: run.source.clone(),
            interrupted: run.interrupted,
            of_an_ab: run.ab.is_some(),
            scenario: scenario.to_owned(),
            host: HostName {
                name: host.hostname.clone().unwrap_or_default(),
                cpu_model: host.processor().unwrap_or_default(),
                cpus: host.cpus,
            },
            targets: results.targets.iter().map(|target| measured(results, target, metrics)).collect(),
        })
    }
}

fn measured(results: &Results, target: &TargetRecord, metrics: &[Metric]) -> Measured {
    let failed =
        |s: &&crate::sample::Sample| s.target == target.name && !s.warmup && s.outcome != Outcome::Ok;
    Measured {
        name: target.name.clone(),
        kind: target.kind,
        accelerator: target.accelerator,
        failed: results.samples.iter().filter(failed).count(),
        figures: metrics.iter().map(|metric| figure(results, target, *metric)).collect(),
        conditions: conditions(results, target),
    }
}

fn figure(results: &Results, target: &TargetRecord, metric: Metric) -> Option<Figure> {
    let baseline = baseline(results);
    let series = series(results, &target.name, metric, baseline.as_deref());
    let values: Vec<f64> = series.into_iter().map(|(_, _, value)| value).collect();
    let sorted = median::sorted(&values);
    let interval = median::interval(&sorted, LEVEL);
    Some(Figure { n: sorted.len(), median: median::of_sorted(&sorted)?, interval })
}

/// Conditions other than the host that affect a target's figures.
fn conditions(results: &Results, target: &TargetRecord) -> Vec<(&'static str, String)> {
    let (run, host) = (&results.run, &results.host);
    let mut scenario = run.scenario.clone();
    if let Some(scenario) = scenario.as_object_mut() {
        // These keys affect no figure; each target's own options follow below.
        for key in ["description", "build", "claim", "gate", "density", "target"] {
            scenario.remove(key);
        }
    }
    let mut all = vec![
        ("scenario", digest(&scenario)),
        ("target's options", digest(&target.options)),
        ("image", short(&results.image.digest).to_owned()),
        ("bootrace", run.bootrace_version.clone()),
        ("kernel", host.kernel_release.clone()),
        ("tuning", if host.tuned.is_some() { "tuned" } else { "not tuned" }.into()),
    ];
    let programs = target.kind.row().programs;
    all.extend(programs.iter().filter_map(|p| Some((p.key(), host.version(*p)?.to_owned()))));
    all
}

fn digest(value: &serde_json::Value) -> String {
    bootrace_model::digest::hex(&Sha256::digest(value.to_string())[..4])
}
