//! The data model of bootrace: a [`scenario`] with its [`kind`]s of target, the [`plan`] of its trials, the records of
//! its [`sample`]s, and the [`metric`]s that read them.
//!
//! This crate reads scenario files and depends on no engine.

pub mod digest;
pub mod foreign;
#[cfg(test)]
mod generated;
pub mod kind;
pub mod metric;
pub mod plan;
pub mod sample;
pub mod scenario;
