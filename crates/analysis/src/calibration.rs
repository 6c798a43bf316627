//! Determines the errors of bootrace's own figures: the code of ordinary runs measures reference workloads of known
//! cost on every target, and the calibration compares its figures with the truth.
//!
//! ```text
//! reference workloads -> trials -> ReferenceInstance -> rows: truth, measured, error, bound, verdict
//! ```
//! [`plan`] lists the instances to run, [`judge`] turns their measurements into rows.
//! [`noise`](crate::noise) complements it: an A/A test compares a target with itself, where the true difference is 0.

pub mod judge;
pub mod plan;
mod record;

pub use plan::{Check, Plan};
pub use record::{Break, Calibration, CheckVerdict, Quantity, ReferenceInstance, Row, SCHEMA};
