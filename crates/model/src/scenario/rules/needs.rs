//! Whether a scenario measures the metrics that its claims and its gate name.

use crate::{
    metric::{self, Metric, Needs},
    scenario::{Kind, Scenario, text::fail},
};

/// The metric of this id, density's included, if the scenario measures it.
pub(super) fn claimed(scenario: &Scenario, name: &str) -> Result<Metric, String> {
    let metric = Metric::from_name(name).ok_or_else(|| metric::unknown(name, Metric::ALL.into_iter()))?;
    measured(scenario, metric).map(|()| metric)
}

/// Checks that this id is a metric of single instances that the scenario measures.
pub(super) fn gated(scenario: &Scenario, name: &str) -> Result<(), String> {
    let metric = Metric::from_name(name).filter(|metric| !metric.is_of_density());
    let metric = metric.ok_or_else(|| metric::unknown(name, Metric::of_instances()))?;
    measured(scenario, metric)
}

fn measured(scenario: &Scenario, metric: Metric) -> Result<(), String> {
    let idle = !scenario.sampling.idle.0.is_zero();
    let density = scenario.density.is_some();
    match metric.row().needs {
        Needs::Work if scenario.workload.work.is_none() => {
            fail("this scenario measures no work: give [workload] a work = { command = [...] }")
        }
        Needs::Cow if scenario.cow.is_none() => {
            fail("this scenario measures no copy-on-write: give it a [cow] with file = \"100MiB\"")
        }
        Needs::Native if !scenario.targets.iter().any(|target| target.kind() == Kind::BASELINE) => {
            fail("overhead is the difference to a bare process: add a target with kind = \"native\"")
        }
        Needs::Idle | Needs::DensityIdle if !idle => {
            fail("this scenario measures no idle CPU: give sampling.idle a time, as in \"1s\"")
        }
        Needs::Density | Needs::DensityIdle if !density => {
            fail("this scenario measures no density: give it a [density] with instances = 50, say")
        }
        Needs::Nothing
        | Needs::Work
        | Needs::Cow
        | Needs::Idle
        | Needs::Native
        | Needs::Density
        | Needs::DensityIdle => Ok(()),
    }
}
