//! What a run of bootrace is about and what it leaves behind: a [`scenario`] of [`kind`]s of target, the [`plan`] of its
//! trials, the records of its [`sample`]s, and the [`metric`]s that are read from them.
//!
//! It reads scenario files and knows no engine.

pub mod foreign;
#[cfg(test)]
mod generated;
pub mod kind;
pub mod metric;
pub mod plan;
pub mod sample;
pub mod scenario;
