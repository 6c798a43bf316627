//! bootrace runs one workload from one root file system as a process, in containers and in virtual machines, and
//! measures the difference.
//!
//! ```text
//! scenario -> plan -> run(targets) -> samples -> analysis -> report
//! ```
//!
//! - A [`scenario`] names an image, a workload and targets.
//! - [`plan`] orders the trials.
//! - [`runner`] runs them on the [`target`]s, with the one clock and the one set of readers in [`probe`].
//! - [`sample`] has the types of `results.json`.
//! - [`analysis`] computes statistics from samples; [`report`] shows them. Both are pure.
//! - [`image`] builds the one root file system that every target uses, with the [`agent`] in it.
//! - [`calibration`] measures reference workloads, which shows bootrace's own error.
//! - [`doctor`] checks what works on this host.
//! - [`cli`] is the command line.

// Files of tests/ that the unit tests take too name the library.
#[cfg(test)]
extern crate self as bootrace;

pub use bootrace_analysis as analysis;
pub use bootrace_model::{digest, kind, metric, plan, sample, scenario};
pub use bootrace_report as report;

pub mod agent;
pub mod calibration;
pub mod cause;
pub mod cli;
pub mod control;
pub mod daemon;
pub mod doctor;
#[cfg(any(fuzzing, test))]
#[doc(hidden)]
pub mod fuzzing;
pub mod image;
pub mod probe;
pub mod runner;
mod supervisor;
mod sys;
pub mod target;
pub mod tune;

#[cfg(test)]
mod in_guest;
