//! The record of a calibration: `calibration.json`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::plan::Check;
use crate::sample;

/// The schema that this version writes.
pub const SCHEMA: &str = "bootrace.calibration/1";

/// Measurements and verdicts of one calibration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    /// [`SCHEMA`].
    pub schema: String,
    /// `calibration-<UTC time>-<seed>`, also the name of its directory.
    pub id: String,
    /// RFC 3339, UTC.
    pub started_at: String,
    /// Seed of the order of instances.
    pub seed: u64,
    /// Version that ran the calibration.
    pub bootrace_version: String,
    /// The reader that this calibration breaks on purpose, to test its own checks; null in ordinary ones.
    pub broken: Option<Break>,
    /// Whether it was cut short; rows without a measurement are then left out.
    pub interrupted: bool,
    /// Duration of the whole calibration in ns; null before its end.
    pub wall_ns: Option<u64>,
    /// Host that it ran on.
    pub host: sample::Host,
    /// Root file system of all instances.
    pub image: sample::Image,
    /// Targets that ran, without the ones in `left_out`.
    pub targets: Vec<sample::TargetRecord>,
    /// Targets that can't run on this host, with the reason.
    pub left_out: BTreeMap<String, String>,
    /// Caveats, as of a run.
    #[serde(default)]
    pub warnings: Vec<String>,
    /// Derived from the fields below by [`rows`](super::judge::rows).
    pub rows: Vec<Row>,
    /// Every instance, in the order in which they ran.
    pub taken: Vec<ReferenceInstance>,
    /// Leftovers of its instances after the end; null before that.
    pub left_over: Option<Vec<String>>,
    /// Errors outside of samples.
    pub errors: Vec<String>,
}

/// One instance of a reference workload.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReferenceInstance {
    /// Check that the instance belongs to.
    pub check: Check,
    /// Known amount, in ns or bytes by its check.
    pub amount: u64,
    /// CPU time that its work uses, in ns; null without work.
    pub work_ns: Option<u64>,
    /// Duration of the target's start call, by the calibration's own stopwatch.
    pub start_call_ns: Option<u64>,
    /// Duration of its removal, by the same stopwatch.
    pub remove_call_ns: Option<u64>,
    /// Anonymous and shared PSS of all processes that came with the instance; the search for them does not use the
    /// target's code.
    pub new_processes_bytes: Option<u64>,
    /// Number of those processes that still run a second after its removal.
    pub processes_left: u64,
    /// Round trips from host to agent and back, in order; empty except in the channel's check.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub round_trips_ns: Vec<u64>,
    /// Measurement by the code of ordinary runs.
    pub sample: sample::Sample,
}

/// Quantity and unit of a row's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Quantity {
    /// Growth of the figure per unit of the known amount; the truth is 1 or 0.
    Slope,
    /// In ns.
    Time,
    /// In bytes.
    Size,
    /// Share of one core.
    Share,
    /// A number of objects.
    Count,
}

/// Verdict on a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CheckVerdict {
    /// The error is within its bound.
    Pass,
    /// The error is beyond its bound, an instance failed, or the figure is missing.
    Fail,
    /// Beyond its bound, but within the noise of these instances: neither right nor wrong is shown.
    Noise,
    /// Informative: the truth is unknown.
    Stated,
}

/// Comparison of one figure with the truth on one target.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// Check that the row belongs to.
    pub check: Check,
    /// Name of the target; `all` for leftovers.
    pub target: String,
    /// Published name of the metric, or a description of the figure.
    pub metric: String,
    /// What the row compares, as a clause.
    pub says: String,
    /// Decides the unit of `truth`, `measured` and `interval`.
    pub quantity: Quantity,
    /// Null where it is unknown.
    pub truth: Option<f64>,
    /// Null where no instance gave the figure.
    pub measured: Option<f64>,
    /// Interval of `measured` at `level`; null where the row has none.
    pub interval: Option<[f64; 2]>,
    /// Confidence level of `interval`, 0 to 1.
    pub level: Option<f64>,
    /// `measured` less `truth`, in the quantity's unit; as a share of `truth` where `relative`.
    pub error: Option<f64>,
    /// Whether `error` and `bound` are shares of `truth`.
    pub relative: bool,
    /// Largest permitted absolute error; null for informative rows.
    pub bound: Option<f64>,
    /// Fail where `measured` is null.
    pub verdict: CheckVerdict,
    /// Remarks on the row.
    pub note: Option<String>,
    /// Number of instances with the figure.
    pub n: usize,
    /// Known amount and measured figure of each instance; empty where the row is not a fit.
    pub points: Vec<[f64; 2]>,
}

impl Calibration {
    /// Whether no row failed and nothing is missing. A calibration with a broken reader never passes: either a check
    /// detects it, or the missing detection is the failure.
    pub fn passed(&self) -> bool {
        !self.interrupted
            && self.broken.is_none()
            && self.errors.is_empty()
            && self.rows.iter().all(|row| row.verdict != CheckVerdict::Fail)
    }

    /// Explains that no check detected the broken reader; `None` where one did and without one.
    pub fn not_found(&self) -> Option<String> {
        let broken = self.broken.filter(|_| self.failed_rows().next().is_none())?;
        Some(format!(
            "these checks on these targets did not detect the broken reader ({}): run {}",
            broken.name(),
            broken.found_by()
        ))
    }

    /// The rows with the verdict fail.
    pub fn failed_rows(&self) -> impl Iterator<Item = &Row> {
        self.rows.iter().filter(|row| row.verdict == CheckVerdict::Fail)
    }
}

/// A reader to break on purpose: a useful calibration must then fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Break {
    /// Counts page cache as memory of the instance.
    PageCache,
    /// Misses the engine's own processes (the container's shim).
    Engine,
    /// Starts the clock after the start call returned.
    Clock,
}

impl Break {
    /// Every breakable reader.
    pub const ALL: [Break; 3] = [Break::PageCache, Break::Engine, Break::Clock];

    /// As on the command line and in the JSON.
    pub fn name(self) -> &'static str {
        match self {
            Break::PageCache => "page-cache",
            Break::Engine => "engine",
            Break::Clock => "clock",
        }
    }

    /// The check that detects it, as the object of "run".
    pub fn found_by(self) -> &'static str {
        match self {
            Break::PageCache => "the check file on a bare process or a container",
            Break::Engine => "the check idle on a container",
            Break::Clock => "the check delay",
        }
    }
}
