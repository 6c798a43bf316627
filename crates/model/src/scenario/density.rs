//! `[density]`: how many instances a host holds at once, and what each more costs.

use std::{ops::RangeInclusive, time::Duration};

use serde::{Deserialize, Serialize};

use super::{
    Bytes, PageCache, Ready, Scenario, Span,
    document::at,
    rules::{PAUSE_MOST, TIMEOUT_LEAST, TIMEOUT_MOST, Wrong},
    text::{between, ensure, fail, within},
};
use crate::{foreign::quoted, kind::Network};

/// Instances of a target at once. Each takes a thread and some ten open files of the harness.
pub const INSTANCES: RangeInclusive<u32> = 1..=1000;
/// Of fewer there is no interval, as of samples.
const FEWEST: u32 = 6;
/// A burst's instances have a task each.
const BURST: RangeInclusive<u32> = 1..=256;
const BURSTS: usize = 16;
const LEFT_LEAST: Bytes = Bytes(64 << 20);
const LEFT_MOST: Bytes = Bytes(16 << 40);
/// What is left to the host where the scenario does not say: a tenth of its memory, and no less than this.
const LEFT_BY_DEFAULT: u64 = 1 << 30;

/// Each of its targets in turn gets instances one at a time, all staying, until a limit is reached.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Density {
    /// At most so many at once on a target.
    pub instances: u32,
    /// The same for VMs, which cost more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vms: Option<u32>,
    /// No more are started once the host's available memory would fall below this; see [`Density::memory_left`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_left: Option<Bytes>,
    /// No more are started once one is not ready within this; none given: `sampling.timeout`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub startup: Option<Span>,
    /// From the last one's ready to the reading.
    #[serde(default = "default_settle")]
    pub settle: Span,
    /// So many requested at once, one burst after the other.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub bursts: Vec<u32>,
    /// By name; none given: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub targets: Vec<String>,
}

fn default_settle() -> Span {
    Span(Duration::from_secs(2))
}

impl Density {
    /// What must be left of a host with so many bytes of memory.
    pub fn memory_left(&self, host: u64) -> Bytes {
        self.memory_left.unwrap_or(Bytes((host / 10).max(LEFT_BY_DEFAULT)))
    }

    /// At most so many at once of VMs, or of anything else.
    pub fn most(&self, vm: bool) -> u32 {
        self.vms.filter(|_| vm).unwrap_or(self.instances)
    }

    /// Whether it has this target.
    pub fn has(&self, target: &str) -> bool {
        self.targets.is_empty() || self.targets.iter().any(|name| name == target)
    }

    /// Keeps its targets that are among these; false where none of its own is left.
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
        let why = "a host with less left is one that swaps or kills";
        wrong(at!["density", "memory_left"], between(left, LEFT_LEAST, LEFT_MOST, why));
    }
    if let Some(startup) = density.startup {
        let why = "no instance is ready at once, and none is worth waiting for for more than a day";
        wrong(at!["density", "startup"], between(startup, TIMEOUT_LEAST, TIMEOUT_MOST, why));
    }
    let zero = Span(Duration::ZERO);
    let settle = between(density.settle, zero, PAUSE_MOST, "waiting longer tells nothing new");
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

/// Instances have to stay, beside others of their like.
fn lasting(scenario: &Scenario, density: &Density, wrong: &mut Wrong<'_>) {
    if scenario.sampling.page_cache == Some(PageCache::Cold) {
        let text = "instances that are added one by one find what the others have read: leave out page_cache = \"cold\", or \
                    this";
        wrong(at!["density"], fail(text));
    }
    let mut has = scenario.targets.iter().filter(|target| density.has(&target.name));
    if let Some(target) = has.find(|target| target.start.unwrap_or_default().is_second()) {
        let text = "has a second start, and each one more is made anew: write targets without it";
        wrong(at!["density", "targets"], Err(format!("{} {text}", quoted(&target.name))));
    }
    match scenario.workload.ready {
        Ready::Exit(_) => wrong(
            at!["density"],
            fail(
                "a workload that has ended (workload.ready is an exit code) is none to keep: let it stay and be ready by \
                 a line, a file or a port",
            ),
        ),
        Ready::Tcp(port) => {
            // They share the host's network: the second finds the port taken, and the first one's answers.
            let shares = |target: &super::ScenarioTarget| match target.kind.row().network {
                Network::Host => true,
                Network::HostOnRequest => scenario.workload.network,
                Network::Own => target.network.as_deref() == Some("host"),
            };
            let mut sharing = scenario.targets.iter().filter(|target| density.has(&target.name));
            if let Some(target) = sharing.find(|target| shares(target)) {
                wrong(
                    at!["density", "targets"],
                    Err(format!(
                        "instances of {} share the host's network, so that only one can listen on port {port}: write \
                         targets without it",
                        quoted(&target.name)
                    )),
                );
            }
        }
        Ready::Line(_) | Ready::File(_) => {}
    }
}

/// That a claim's metric of density is one that this scenario gives of these targets.
pub(super) fn claimed<'a>(scenario: &Scenario, targets: impl Iterator<Item = &'a str>) -> Result<(), String> {
    let Some(density) = &scenario.density else { return Ok(()) };
    let targets: Vec<&str> = targets.collect();
    let few = |name: &&str| {
        let vm = scenario.targets.iter().any(|target| target.name == *name && target.kind.is_vm());
        density.most(vm) < FEWEST
    };
    if let Some(few) = targets.iter().find(|name| few(name)) {
        return Err(format!(
            "fewer than {FEWEST} of {} have no interval to judge by: raise density.instances (of VMs density.vms)",
            quoted(few)
        ));
    }
    let mut missing = targets.into_iter().filter(|target| !density.has(target));
    match missing.next() {
        Some(target) => Err(format!(
            "density.targets has not {}: add it there, or make the claim about another target",
            quoted(target)
        )),
        None => Ok(()),
    }
}
