//! `[density]`: how many instances a host holds at once, and the cost of each further one.

use std::{ops::RangeInclusive, time::Duration};

use serde::{Deserialize, Serialize};

use super::{
    Bytes, PageCache, Ready, Scenario, Span,
    path::at,
    rules::{PAUSE_MOST, TIMEOUT_LEAST, TIMEOUT_MOST, Wrong},
    text::{between, ensure, fail, within},
};
use crate::{foreign::quoted, kind::Network};

/// Allowed numbers of instances of a target at once. Each needs a thread and about ten open files of bootrace.
pub const INSTANCES: RangeInclusive<u32> = 1..=1000;
/// Fewer instances give no confidence interval, as for samples.
const FEWEST: u32 = 6;
/// Each instance of a burst has a task.
const BURST: RangeInclusive<u32> = 1..=256;
const BURSTS: usize = 16;
const LEFT_LEAST: Bytes = Bytes(64 << 20);
const LEFT_MOST: Bytes = Bytes(16 << 40);
/// Without `memory_left`, the host keeps a tenth of its memory, and at least this many bytes.
const LEFT_BY_DEFAULT: u64 = 1 << 30;

/// For each of its targets in turn, a run adds instances one at a time, and keeps them all, until it reaches a limit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Density {
    /// Most instances of a target at once.
    pub instances: u32,
    /// Most VMs of a target at once, as VMs cost more; none given: `instances`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vms: Option<u32>,
    /// The run starts no more once the host's available memory would fall below this; none given: a tenth
    /// of the host's memory, and no less than 1 GiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_left: Option<Bytes>,
    /// The run starts no more once an instance is not ready within this; none given: `sampling.timeout`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub startup: Option<Span>,
    /// Wait between the newest instance's ready and the reading.
    #[serde(default = "default_settle")]
    pub settle: Span,
    /// Sizes of bursts: instances requested at once, one burst after the other.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub bursts: Vec<u32>,
    /// Names of its targets; none given: all targets.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub targets: Vec<String>,
}

fn default_settle() -> Span {
    Span(Duration::from_secs(2))
}

impl Density {
    /// The memory that a host with `host` bytes of RAM keeps available.
    pub fn memory_left(&self, host: u64) -> Bytes {
        self.memory_left.unwrap_or(Bytes((host / 10).max(LEFT_BY_DEFAULT)))
    }

    /// Most instances at once, for a VM target or any other.
    pub fn most(&self, vm: bool) -> u32 {
        self.vms.filter(|_| vm).unwrap_or(self.instances)
    }

    /// Whether the density run includes this target.
    pub fn has(&self, target: &str) -> bool {
        self.targets.is_empty() || self.targets.iter().any(|name| name == target)
    }

    /// Keeps the targets among `names`; false where it named targets and none is left.
    pub(super) fn select(&mut self, names: &[String]) -> bool {
        let all = self.targets.is_empty();
        self.targets.retain(|target| names.contains(target));
        all || !self.targets.is_empty()
    }
}

pub(super) fn check(scenario: &Scenario, wrong: &mut Wrong<'_>) {
    let Some(density) = &scenario.density else { return };
    wrong(at!["density", "instances"], within(density.instances, INSTANCES));
    if let Some(vms) = density.vms {
        wrong(at!["density", "vms"], within(vms, INSTANCES));
    }
    if let Some(left) = density.memory_left {
        let why = "with less memory left, a host swaps or kills processes";
        wrong(at!["density", "memory_left"], between(left, LEFT_LEAST, LEFT_MOST, why));
    }
    if let Some(startup) = density.startup {
        let why = "start-up takes time, and a day is the longest wait";
        wrong(at!["density", "startup"], between(startup, TIMEOUT_LEAST, TIMEOUT_MOST, why));
    }
    let zero = Span(Duration::ZERO);
    let settle = between(density.settle, zero, PAUSE_MOST, "a longer wait adds nothing");
    wrong(at!["density", "settle"], settle);
    bursts(density, wrong);
    targets(scenario, density, wrong);
    lasting(scenario, density, wrong);
}

fn bursts(density: &Density, wrong: &mut Wrong<'_>) {
    for (index, &burst) in density.bursts.iter().enumerate() {
        let path = at!["density", "bursts", index];
        wrong(path, within(burst, BURST));
        wrong(
            path,
            ensure(burst <= density.instances, || {
                format!(
                    "{burst} at once are more than density.instances = {}: raise that, or write a smaller burst",
                    density.instances
                )
            }),
        );
        if density.bursts[..index].contains(&burst) {
            wrong(path, Err(format!("{burst} is in the list already: leave it out here")));
        }
    }
    if density.bursts.len() > BURSTS {
        let text = format!("{} bursts are too many: write up to {BURSTS}", density.bursts.len());
        wrong(at!["density", "bursts"], Err(text));
    }
}

fn targets(scenario: &Scenario, density: &Density, wrong: &mut Wrong<'_>) {
    for (index, name) in density.targets.iter().enumerate() {
        let path = at!["density", "targets", index];
        if !scenario.targets.iter().any(|target| target.name == *name) {
            let known = scenario.target_names();
            wrong(path, Err(format!("there is no target {}: the targets are {known}", quoted(name))));
        }
        if density.targets[..index].contains(name) {
            wrong(path, Err(format!("{} is in the list already: leave it out here", quoted(name))));
        }
    }
}

/// Instances must keep running, beside others of the same target.
fn lasting(scenario: &Scenario, density: &Density, wrong: &mut Wrong<'_>) {
    if scenario.sampling.page_cache == Some(PageCache::Cold) {
        let text = "instances added one by one find the page cache that the others filled: leave out page_cache = \"cold\" or \
                    [density]";
        wrong(at!["density"], fail(text));
    }
    let mut has = scenario.targets.iter().filter(|target| density.has(&target.name));
    if let Some(target) = has.find(|target| target.start.needs_initial_start()) {
        let text = "has another start than \"create\", but density creates each instance: list other targets";
        wrong(at!["density", "targets"], Err(format!("{} {text}", quoted(&target.name))));
    }
    match scenario.workload.ready {
        Ready::Exit(_) => wrong(
            at!["density"],
            fail(
                "instances must keep running, but this workload ends (workload.ready is an exit code): use one that stays, \
                 ready by a line, a file or a port",
            ),
        ),
        Ready::Tcp(port) => {
            // With one network, the second instance finds the port taken, and the first instance's answers.
            let shares = |target: &super::ScenarioTarget| match target.kind().row().network {
                Network::Host => true,
                Network::HostOnRequest => scenario.workload.network,
                Network::Own => target.container().and_then(|c| c.network.as_deref()) == Some("host"),
            };
            let mut sharing = scenario.targets.iter().filter(|target| density.has(&target.name));
            if let Some(target) = sharing.find(|target| shares(target)) {
                wrong(
                    at!["density", "targets"],
                    Err(format!(
                        "instances of {} share the host's network, and only one can listen on port {port}: list other targets",
                        quoted(&target.name)
                    )),
                );
            }
        }
        Ready::Line(_) | Ready::File(_) => {}
    }
}

/// Checks that this scenario measures density of a claim's targets.
pub(super) fn claimed<'a>(scenario: &Scenario, targets: impl Iterator<Item = &'a str>) -> Result<(), String> {
    let Some(density) = &scenario.density else { return Ok(()) };
    let targets: Vec<&str> = targets.collect();
    let few = |name: &&str| {
        let vm = scenario.targets.iter().any(|target| target.name == *name && target.kind().is_vm());
        density.most(vm) < FEWEST
    };
    if let Some(few) = targets.iter().find(|name| few(name)) {
        return Err(format!(
            "fewer than {FEWEST} instances of {} have no interval to judge by: raise density.instances (for VMs density.vms)",
            quoted(few)
        ));
    }
    let mut missing = targets.into_iter().filter(|target| !density.has(target));
    match missing.next() {
        Some(target) => Err(format!(
            "density.targets lacks {}: add it there, or make the claim about another target",
            quoted(target)
        )),
        None => Ok(()),
    }
}
