//! `bootrace check`: validates scenarios offline.

use super::{Failure, GOOD, print};
use crate::scenario::{self, Scenario, Span};

#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// Scenario files, or names of shipped scenarios.
    #[arg(value_name = "SCENARIO", required = true)]
    pub scenarios: Vec<String>,
}

/// Checks all scenarios, and reports each that is wrong.
///
/// # Errors
/// [`Failure::Usage`] when at least one is wrong, after all were checked.
pub fn run(options: &Options) -> Result<(), Failure> {
    let mut failures = Vec::new();
    for name in &options.scenarios {
        match scenario::find(name) {
            Ok((scenario, _)) => print(&format!("{GOOD}ok{GOOD:#}  {name}: {}\n", summary(&scenario)))?,
            Err(error) => failures.push(error),
        }
    }
    let Some(last) = failures.pop() else { return Ok(()) };
    for failure in failures {
        Failure::Usage(failure.into()).print();
    }
    Err(Failure::Usage(last.into()))
}

/// One line: targets, rounds, claims and density.
fn summary(scenario: &Scenario) -> String {
    let sampling = &scenario.sampling;
    let rounds = sampling.warmup + sampling.samples;
    let instances = rounds as usize * scenario.targets.len();
    let waiting = (sampling.settle.0 + sampling.idle.0).saturating_mul(instances as u32);
    let claims = match scenario.claims.len() {
        0 => String::new(),
        1 => ", 1 claim".into(),
        n => format!(", {n} claims"),
    };
    let density = scenario.density.as_ref().map_or_else(String::new, |density| {
        format!("; density: {}", super::density::summary(density, scenario))
    });
    format!(
        "targets {}; {} samples of each and {} to warm up: {rounds} rounds, {instances} instances, \
         {} of settling and idling alone{claims}{density}",
        scenario.target_names(),
        sampling.samples,
        sampling.warmup,
        Span(waiting),
    )
}
