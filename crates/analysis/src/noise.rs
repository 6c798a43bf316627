//! A/A tests: how much do two identical sides of a target differ?
//!
//! A session is a run in which a kind of target has two sides, a and b, interleaved like any two targets. With
//! a and b the medians of one metric in session s:
//!
//! - within: d_s = ln(b / a) has mean 0 and variance 2 w^2, where w is the deviation of one side's log median, so
//!   w^2 = mean(d_s^2) / 2;
//! - between: the deviation of ln(sqrt(a b)) over three sessions or more, which differ although nothing changed.
//!
//! The noise floor is the larger of the two, as a ratio less 1. A gate's margin is max(5 %, 3 sqrt(2) times the floor):
//! the difference of two sides has sqrt(2) times the deviation of one, and three deviations exclude chance (with fewer
//! than ten sessions, it takes more). One file keeps all sessions of a host, so that the floor covers days rather than
//! minutes.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{
    Analysis, Metric, Unit,
    gate::LEAST_MARGIN,
    kind::Kind,
    sample::{Accelerator, Host, Results},
    short,
};

/// The schema that this version writes.
pub const SCHEMA: &str = "bootrace.noise/2";
/// Number of newest sessions to keep for each kind of target.
const KEPT: usize = 200;
/// Fewest sessions with a deviation between them.
pub const FEWEST: usize = 3;

/// Every recorded session of one host.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// [`SCHEMA`].
    pub schema: String,
    /// Identifies the host: [`key`].
    pub host: String,
    /// Null where it is unknown.
    pub cpu_model: Option<String>,
    /// Number of logical CPUs.
    pub cpus: u32,
    /// As `uname -r` prints it.
    pub kernel_release: String,
    /// Oldest first.
    pub sessions: Vec<Session>,
}

/// One kind of target in one run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Session {
    /// Id of the run.
    pub run: String,
    /// RFC 3339, UTC.
    pub at: String,
    /// Version that took the samples.
    pub bootrace_version: String,
    /// Name of the kind of target.
    pub target: String,
    /// How a VM executed its code.
    pub accelerator: Accelerator,
    /// Conditions of the session, from [`conditions`]; only sessions with equal conditions are combined.
    pub conditions: String,
    /// Number of good samples of the smaller side.
    pub samples: usize,
    /// Medians of both sides by metric, in its unit and above zero.
    pub medians: BTreeMap<String, [f64; 2]>,
}

/// Noise floor of one metric: differences of two identical sides, as ratios less 1.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Floor {
    /// Name of the kind of target.
    pub target: String,
    /// How a VM executed its code.
    pub accelerator: Accelerator,
    /// Published name.
    pub metric: String,
    /// Conditions that all its sessions share.
    pub conditions: String,
    /// Number of sessions.
    pub sessions: usize,
    /// Deviation of one side within a session.
    pub within: f64,
    /// Null with fewer than three sessions.
    pub between: Option<f64>,
    /// The larger of the two.
    pub floor: f64,
    /// Smallest change that a gate may count, as a ratio less 1.
    pub margin: f64,
    /// b / a less 1, for each session.
    pub differences: Vec<f64>,
}

/// Names of the two sides of a kind of target.
pub fn sides(kind: Kind) -> [String; 2] {
    [format!("{kind}-a"), format!("{kind}-b")]
}

/// The sessions of one run: one for each kind of target with two sides.
pub fn sessions(results: &Results, analysis: &Analysis) -> Vec<Session> {
    let mut sessions = Vec::new();
    for target in &results.targets {
        let names = sides(target.kind);
        if target.name != names[0] {
            continue;
        }
        let [Some(a), Some(b)] = names.map(|name| analysis.target(&name)) else { continue };
        // Differences and shares have no ratio.
        let has_ratio = |metric: &Metric| metric.unit() != Unit::Share && !metric.row().signed;
        let medians = Metric::of_instances().filter(has_ratio).filter_map(|metric| {
            let pair = [a.median(metric)?, b.median(metric)?];
            pair.iter().all(|v| *v > 0.0).then(|| (metric.name().to_owned(), pair))
        });
        sessions.push(Session {
            run: results.run.id.clone(),
            at: results.run.started_at.clone(),
            bootrace_version: results.run.bootrace_version.clone(),
            target: target.kind.name().to_owned(),
            accelerator: target.accelerator,
            conditions: conditions(results, target),
            samples: a.counts.ok.min(b.counts.ok),
            medians: medians.collect(),
        });
    }
    sessions
}

/// Conditions that affect figures apart from noise: bootrace, engine, image, options, samples a side and tuning.
/// Sessions with different conditions are never combined.
fn conditions(results: &Results, target: &crate::sample::TargetRecord) -> String {
    let samples =
        results.run.scenario.get("sampling").and_then(|s| s.get("samples")).map(ToString::to_string);
    let [bootrace, engine, tuned] = of_the_host(results, target);
    let facts = [
        bootrace,
        engine,
        format!("image {}", short(&results.image.digest)),
        format!("options {}", short(&sha256(target.options.to_string()))),
        format!("{} samples a side", samples.unwrap_or_else(|| "unknown".into())),
        tuned,
    ];
    facts.join(", ")
}

/// The conditions that runs of any scenario share with A/A sessions.
fn of_the_host(results: &Results, target: &crate::sample::TargetRecord) -> [String; 3] {
    let host = &results.host;
    let programs = target.kind.row().programs.iter();
    let versions: Vec<&str> = programs.map(|program| host.version(*program).unwrap_or("-")).collect();
    let versions = if versions.is_empty() { "-".into() } else { versions.join("/") };
    [
        format!("bootrace {}", results.run.bootrace_version),
        format!("engine {versions}"),
        if host.tuned.is_some() { "tuned" } else { "not tuned" }.to_owned(),
    ]
}

/// The floor to use for a comparison of runs: of the floors with the same kind, accelerator, bootrace, engine and
/// tuning, the one with the most sessions; `None` below three sessions.
pub fn of_runs<'a>(
    floors: &'a [Floor],
    results: &Results,
    target: &crate::sample::TargetRecord,
    metric: Metric,
) -> Option<&'a Floor> {
    let wanted = of_the_host(results, target);
    let alike = |floor: &&Floor| {
        let facts: Vec<&str> = floor.conditions.split(", ").collect();
        floor.target == target.kind.name()
            && floor.accelerator == target.accelerator
            && floor.metric == metric.name()
            && floor.between.is_some()
            && wanted.iter().all(|fact| facts.contains(&fact.as_str()))
    };
    floors.iter().filter(alike).max_by(|a, b| {
        (a.sessions, a.margin).partial_cmp(&(b.sessions, b.margin)).unwrap_or(std::cmp::Ordering::Equal)
    })
}

impl Record {
    /// An empty record of a host with this [`key`].
    pub fn new(key: String, host: &Host) -> Self {
        Record {
            schema: SCHEMA.into(),
            host: key,
            cpu_model: host.processor(),
            cpus: host.cpus,
            kernel_release: host.kernel_release.clone(),
            sessions: Vec::new(),
        }
    }

    /// Adds sessions and keeps the newest 200 of each kind of target.
    pub fn add(&mut self, sessions: Vec<Session>) {
        self.sessions.extend(sessions);
        let mut kept: BTreeMap<String, usize> = BTreeMap::new();
        let mut newest: Vec<Session> = self.sessions.drain(..).rev().collect();
        newest.retain(|session| {
            let count = kept.entry(session.target.clone()).or_default();
            *count += 1;
            *count <= KEPT
        });
        self.sessions = newest.into_iter().rev().collect();
    }

    /// The noise floor of each metric, for each kind of target and each set of conditions; sorted by kind, accelerator,
    /// metric and conditions.
    pub fn floors(&self) -> Vec<Floor> {
        let mut of: BTreeMap<_, Vec<&Session>> = BTreeMap::new();
        for session in &self.sessions {
            for metric in session.medians.keys() {
                let tcg = session.accelerator == Accelerator::Tcg;
                let key = (&session.target, tcg, metric, &session.conditions);
                of.entry(key).or_default().push(session);
            }
        }
        of.into_iter().filter_map(|((_, _, metric, _), sessions)| floor(metric, &sessions)).collect()
    }
}

fn floor(metric: &str, sessions: &[&Session]) -> Option<Floor> {
    let pairs: Vec<[f64; 2]> = sessions.iter().filter_map(|s| s.medians.get(metric).copied()).collect();
    let first = sessions.first()?;
    let (within, between) = deviations(&pairs);
    Some(Floor {
        target: first.target.clone(),
        accelerator: first.accelerator,
        metric: metric.into(),
        conditions: first.conditions.clone(),
        sessions: pairs.len(),
        within: within.exp_m1(),
        between: between.map(f64::exp_m1),
        floor: larger(within, between),
        margin: margin(&pairs),
        differences: pairs.iter().map(|[a, b]| b / a - 1.0).collect(),
    })
}

/// Margin for a gate, as a share, from the medians of both sides of each session (above zero).
pub fn margin(sessions: &[[f64; 2]]) -> f64 {
    let (within, between) = deviations(sessions);
    LEAST_MARGIN.max(deviations_needed(sessions.len()) * std::f64::consts::SQRT_2 * larger(within, between))
}

/// Number of deviations in a margin: three from ten sessions on. Fewer sessions may underestimate the deviation, so
/// they take Student's t with the same tail probability (0.135 %) and one degree of freedom less than sessions.
fn deviations_needed(sessions: usize) -> f64 {
    const T: [f64; 7] = [19.207, 9.219, 6.620, 5.507, 4.904, 4.530, 4.277];
    T.get(sessions.saturating_sub(FEWEST)).copied().unwrap_or(3.0)
}

fn larger(within: f64, between: Option<f64>) -> f64 {
    within.max(between.unwrap_or(0.0)).exp_m1()
}

/// Deviations of log medians within sessions, and between them where there are enough.
fn deviations(sessions: &[[f64; 2]]) -> (f64, Option<f64>) {
    let n = sessions.len() as f64;
    let within = (sessions.iter().map(|[a, b]| (b / a).ln().powi(2)).sum::<f64>() / n / 2.0).sqrt();
    let between = (sessions.len() >= FEWEST).then(|| {
        let centres: Vec<f64> = sessions.iter().map(|[a, b]| (a * b).ln() / 2.0).collect();
        let mean = centres.iter().sum::<f64>() / n;
        (centres.iter().map(|c| (c - mean).powi(2)).sum::<f64>() / (n - 1.0)).sqrt()
    });
    (within, between)
}

/// Key of a host's noise, 16 hex digits: a hash of machine id (or host name without one), processor and kernel.
pub fn key(machine_id: &str, host: &Host) -> String {
    let machine = machine_id;
    let facts = [
        machine.trim(),
        host.hostname.as_deref().filter(|_| machine.trim().is_empty()).unwrap_or_default(),
        host.cpu_model.as_deref().unwrap_or_default(),
        &host.cpus.to_string(),
        &host.kernel_release,
    ];
    sha256(facts.join("\n"))[..16].to_owned()
}

/// sha256 in lower-case hex.
fn sha256(text: String) -> String {
    bootrace_model::digest::hex(Sha256::digest(text))
}

#[cfg(test)]
mod tests;
