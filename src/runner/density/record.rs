//! New, empty records of density.

use crate::{
    probe::host,
    sample::{Sample, density},
    scenario::{Density, Scenario, Span},
};

/// A target's record before its first instance.
pub(super) fn record(
    scenario: &Scenario,
    density: &Density,
    target: &str,
    most: u32,
    host_bytes: u64,
) -> density::Density {
    let ns = |span: Span| span.0.as_nanos() as u64;
    density::Density {
        target: target.into(),
        most,
        memory_left_bytes: density.memory_left(host_bytes).0,
        startup_limit_ns: ns(density.startup.unwrap_or(scenario.sampling.timeout)),
        settle_ns: ns(density.settle),
        limit: None,
        limit_why: None,
        before: host::memory(),
        steps: Vec::new(),
        died: 0,
        bursts: Vec::new(),
        wall_ns: None,
        removal_ns: None,
    }
}

/// The caveat that memory is no limit, if the kernel does not report the available memory.
pub(super) fn unbounded(record: &density::Density) -> Option<String> {
    record.before.available_bytes.is_none().then(|| {
        format!(
            "density of {}: the kernel does not say how much memory is available (MemAvailable), so that \
             density.memory_left stops nothing; take few enough instances",
            record.target
        )
    })
}

/// The n-th step, from the sample of its start.
pub(super) fn step(n: u32, sample: &Sample) -> density::Step {
    density::Step {
        n,
        outcome: sample.outcome,
        error: sample.error.clone(),
        timeline_ns: sample.timeline_ns,
        cpu_startup_ns: sample.cpu_ns.startup,
        footprint_sum_bytes: None,
        footprint_bytes: None,
        daemons_bytes: None,
        idle_cpu_sum_ns: None,
        idle_window_ns: None,
        host: density::HostMemory::default(),
        identity: None,
    }
}
