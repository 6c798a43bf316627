//! What is the error of our own figures? Workloads whose cost is known are measured by the very code that
//! measures all others, on every target, and what it says is held to the truth.
//!
//! ```text
//! reference workloads -> trials -> Taken -> rows: truth, measured, error, bound, verdict
//! ```
//! [`plan`] is what is run, [`judge`] makes rows of what was taken.
//! [`noise`](crate::noise) is the other half: the same target against itself, whose difference is known to be none.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::sample;

pub mod judge;
pub mod plan;

pub use plan::{Check, Plan};

/// The schema that this version writes.
pub const SCHEMA: &str = "bootrace.calibration/1";

/// All that one calibration took and says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    pub schema: String,
    /// `calibration-<UTC time>-<seed>`: also the name of its directory.
    pub id: String,
    /// RFC 3339, UTC.
    pub started_at: String,
    pub seed: u64,
    pub bootrace_version: String,
    /// What was broken on purpose, to see it found.
    pub broken: Option<Break>,
    /// True when it was cut short: what is missing was not judged.
    pub interrupted: bool,
    pub wall_ns: Option<u64>,
    pub host: sample::Host,
    pub image: sample::Image,
    pub targets: Vec<sample::TargetRecord>,
    /// Targets that can't run on this host, and why.
    pub left_out: BTreeMap<String, String>,
    /// Its caveats, as a run has them.
    #[serde(default)]
    pub warnings: Vec<String>,
    /// Made of all that follows, by [`judge::rows`].
    pub rows: Vec<Row>,
    /// In the order in which they were taken.
    pub taken: Vec<Taken>,
    /// What was still there of this calibration's instances when it was over; null before that.
    pub left_over: Option<Vec<String>>,
    /// What went wrong beside samples.
    pub errors: Vec<String>,
}

/// One instance of a reference workload.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Taken {
    pub check: Check,
    /// What is known of it: ns or bytes, as its check says.
    pub amount: u64,
    /// CPU time that its work burns, in ns; null without work.
    pub work_ns: Option<u64>,
    /// How long the target's start call took, by a stopwatch of the calibration's own.
    pub start_call_ns: Option<u64>,
    /// The same for its removal.
    pub remove_call_ns: Option<u64>,
    /// Anonymous and shared PSS of all processes that came with the instance, found without asking its target where
    /// they are.
    pub new_processes_bytes: Option<u64>,
    /// How many of those processes were still there a second after its removal.
    pub processes_left: u64,
    /// From host to agent and back in ns, in the order in which they were taken; empty but for the channel's check.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub round_trips_ns: Vec<u64>,
    pub sample: sample::Sample,
}

/// What a row's numbers are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Quantity {
    /// How much the figure grows per unit of what is known: 1 or 0.
    Slope,
    /// ns.
    Time,
    /// Bytes.
    Size,
    /// Of one core.
    Share,
    Count,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CheckVerdict {
    Pass,
    Fail,
    /// Beyond its bound, and no further from the truth than the noise of these instances reaches: not shown to be
    /// wrong, and not shown to be right.
    Noise,
    /// There is no truth to hold it to: it is told.
    Stated,
}

/// One thing that is known, and what was measured of it on one target.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Row {
    pub check: Check,
    pub target: String,
    /// The metric by its published name, or what else was measured.
    pub metric: String,
    /// What is held to what, in words.
    pub says: String,
    pub quantity: Quantity,
    pub truth: Option<f64>,
    pub measured: Option<f64>,
    /// Of `measured`, at `level`.
    pub interval: Option<[f64; 2]>,
    pub level: Option<f64>,
    /// `measured` less `truth`, in the quantity's unit; as a share of `truth` where `relative`.
    pub error: Option<f64>,
    pub relative: bool,
    /// The error may be so large in either direction.
    pub bound: Option<f64>,
    pub verdict: CheckVerdict,
    /// What else has to be known.
    pub note: Option<String>,
    /// How many instances it was made of.
    pub n: usize,
    /// What is known and what was measured, one pair an instance; empty where it is no fit.
    pub points: Vec<[f64; 2]>,
}

impl Calibration {
    /// Everything within its bound, and nothing missing. What was broken on purpose never passes: it is found, or that
    /// it isn't is the failure.
    pub fn passed(&self) -> bool {
        !self.interrupted
            && self.broken.is_none()
            && self.errors.is_empty()
            && self.rows.iter().all(|row| row.verdict != CheckVerdict::Fail)
    }

    /// Takes note of what was left of its instances when it was over, and of what could not be looked at; judges anew.
    pub fn see_what_is_left(&mut self, left_over: Vec<String>, unseen: impl IntoIterator<Item = String>) {
        self.errors.extend(unseen.into_iter().map(|error| format!("looking for what is left: {error}")));
        self.left_over = Some(left_over);
        self.judge();
    }

    /// Makes the rows anew of what was taken.
    pub fn judge(&mut self) {
        self.rows = judge::rows(self);
    }

    /// That a reader was broken on purpose and nothing failed, in words.
    pub fn not_found(&self) -> Option<String> {
        let broken = self.broken.filter(|_| self.failed_rows().next().is_none())?;
        Some(format!(
            "the broken reader ({}) was not found by these checks on these targets: it takes {}",
            broken.name(),
            broken.found_by()
        ))
    }

    pub fn failed_rows(&self) -> impl Iterator<Item = &Row> {
        self.rows.iter().filter(|row| row.verdict == CheckVerdict::Fail)
    }
}

/// A reader that is broken on purpose: a calibration that does not fail then is worth nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Break {
    /// Page cache counts as memory of the instance.
    PageCache,
    /// The engine's own processes (the container's shim) are not seen.
    Engine,
    /// The clock starts when the start call has returned.
    Clock,
}

impl Break {
    pub const ALL: [Break; 3] = [Break::PageCache, Break::Engine, Break::Clock];

    pub fn name(self) -> &'static str {
        match self {
            Break::PageCache => "page-cache",
            Break::Engine => "engine",
            Break::Clock => "clock",
        }
    }

    /// Which check finds it, in words.
    pub fn found_by(self) -> &'static str {
        match self {
            Break::PageCache => "the check file on a bare process or a container",
            Break::Engine => "the check idle on a container",
            Break::Clock => "the check delay",
        }
    }
}
