//! Density for commands other than `run`: refusal, verdict, summary.

use std::path::Path;

use anyhow::anyhow;

use super::Failure;
use crate::{
    sample::{Results, density::Limit},
    scenario::{Density, Scenario},
};

/// Takes the density out of an A/B's scenario: instances that fill the host on one side would disturb the other side.
///
/// # Errors
/// [`Failure::Usage`] when the scenario has no rounds either.
pub fn leave_out(scenario: &mut Scenario) -> Result<(), Failure> {
    scenario.density = None;
    match scenario.sampling.samples {
        0 => Err(Failure::Usage(anyhow!(
            "an A/B compares rounds, and scenario {} has none (samples = 0)\nfix: give some, as in --samples 20",
            scenario.name
        ))),
        _ => Ok(()),
    }
}

/// Whether the run has density alone, so that its targets have no samples.
pub fn is_all(results: &Results) -> bool {
    results.run.scenario.pointer("/sampling/samples").and_then(serde_json::Value::as_u64) == Some(0)
}

/// # Errors
/// [`Failure::Run`] when instances failed, or a target has no instance.
pub fn check(results: &Results, dir: &Path) -> Result<(), Failure> {
    for density in &results.density {
        let why = density.limit_why.as_deref().unwrap_or("no reason is known");
        let (target, dir) = (&density.target, dir.display());
        if density.limit == Some(Limit::Failure) || density.reached() == 0 {
            let reached = density.reached();
            return Err(Failure::Run(anyhow!(
                "density of {target}: it ended with {reached} at once: {why}\n(all readings are kept in {dir})"
            )));
        }
        if let Some(burst) = density.bursts.iter().find(|burst| burst.failed > 0) {
            let error = burst.errors.first().map_or("no reason is known", String::as_str);
            return Err(Failure::Run(anyhow!(
                "density of {target}: {} of {} that were requested at once failed: {error}\n(all readings are kept in {dir})",
                burst.failed,
                burst.n
            )));
        }
    }
    Ok(())
}

/// A summary for `check`.
pub fn summary(density: &Density, scenario: &Scenario) -> String {
    let targets: Vec<&str> =
        scenario.targets.iter().map(|t| t.name.as_str()).filter(|name| density.has(name)).collect();
    let vms = density.vms.map_or_else(String::new, |vms| format!(", {vms} of VMs,"));
    let bursts = match density.bursts.as_slice() {
        [] => String::new(),
        bursts => {
            let sizes: Vec<String> = bursts.iter().map(ToString::to_string).collect();
            format!("; bursts of {}", sizes.join(", "))
        }
    };
    let instances = density.instances;
    format!("up to {instances}{vms} at once on {}{bursts}", targets.join(", "))
}
