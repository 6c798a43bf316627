//! bootrace: what does it cost to run the same thing in a container and in a virtual machine?
//!
//! ```text
//! scenario -> plan -> run(targets) -> samples -> analysis -> report
//! ```
//!
//! A [`scenario`] names an image, a workload and targets; [`plan`] orders the trials; [`runner`]
//! drives them through [`target`]s, with the one clock and the one set of readers in [`probe`];
//! [`sample`] is what is kept; [`analysis`] is pure statistics over it and [`report`] shows them.
//! [`image`] makes the one root file system that every target uses. [`agent`] is the guest
//! program that comes with it. [`calibration`] measures what is known, to tell the error of all that;
//! [`doctor`] says what of it works on this host. [`cli`] ties it together.

pub use bootrace_analysis as analysis;
pub use bootrace_model::{kind, metric, plan, sample, scenario};
pub use bootrace_report as report;

pub mod agent;
pub mod calibration;
pub mod cause;
pub mod cli;
pub mod control;
pub mod doctor;
pub mod image;
pub mod probe;
pub mod runner;
mod supervisor;
pub mod target;
pub mod tune;

#[cfg(test)]
mod in_guest;
