//! What a history needs of one run.

use sha2::{Digest, Sha256};

use crate::{
    LEVEL, Metric, baseline,
    kind::Kind,
    median::{self, Interval},
    sample::{Accelerator, Outcome, Results, Source, TargetRecord},
    series, short,
};

/// What is kept of one run.
#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    pub id: String,
    /// As the run says it.
    pub started_at: String,
    pub time: jiff::Timestamp,
    pub source: Option<Source>,
    pub interrupted: bool,
    /// It is a side of an A/B.
    pub of_an_ab: bool,
    pub scenario: String,
    pub host: HostName,
    pub targets: Vec<Measured>,
}

/// What tells a host from others.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostName {
    /// Empty where hosts are told by their hardware alone.
    pub name: String,
    pub cpu_model: String,
    pub cpus: u32,
}

/// One target of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct Measured {
    pub name: String,
    pub kind: Kind,
    pub accelerator: Accelerator,
    pub failed: usize,
    /// Of the metrics that were asked for, in their order; none where no sample has it.
    pub figures: Vec<Option<Figure>>,
    /// What changes figures, by name.
    pub conditions: Vec<(&'static str, String)>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Figure {
    pub n: usize,
    pub median: f64,
    /// `None`: need >= 6 samples.
    pub interval: Option<Interval>,
}

/// Why a run can't be placed in a history.
#[derive(Debug, thiserror::Error)]
#[error("its started_at, {0:?}, is no time")]
pub struct Timeless(String);

impl Run {
    /// What a history needs of a run: the figures of `metrics`.
    ///
    /// # Errors
    /// When it does not say when it started.
    pub fn of(results: &Results, metrics: &[Metric]) -> Result<Self, Timeless> {
        let run = &results.run;
        let time = run.started_at.parse().map_err(|_| Timeless(run.started_at.chars().take(40).collect()))?;
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

/// What changes a target's figures besides its host.
fn conditions(results: &Results, target: &TargetRecord) -> Vec<(&'static str, String)> {
    let (run, host) = (&results.run, &results.host);
    let mut scenario = run.scenario.clone();
    if let Some(scenario) = scenario.as_object_mut() {
        // Words, bounds and what is judged change no figure, and each target has its own options below.
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
    Sha256::digest(value.to_string()).iter().take(4).map(|byte| format!("{byte:02x}")).collect()
}
