//! The rules for a scenario's values besides their form: bounds, and values that exclude each other.

use std::{collections::BTreeSet, ops::RangeInclusive, time::Duration};

use super::{
    Accel, Boot, Bytes, Image, Kind, PageCache, Ready, Sampling, Scenario, ScenarioTarget, Span, Start,
    Workload,
    document::Document,
    path::{Step, at},
    text::*,
};
use crate::foreign::quoted;

mod boots;
mod bounds;
mod build;
mod claims;
mod cloud;
mod cow;
mod density;
mod gate;
mod needs;

pub(super) use bounds::LARGEST_FILE;
use bounds::{PAUSE_MOST, TIMEOUT_LEAST, TIMEOUT_MOST, Wrong};
pub use cloud::is_url;

/// Allowed numbers of measured rounds. The analysis compares all pairs of rounds: it needs seconds for 2,000, and a
/// hundred times as long for ten times as many.
pub const SAMPLES: RangeInclusive<u32> = 1..=2000;
/// Allowed numbers of warm-up rounds.
pub const WARMUP: RangeInclusive<u32> = 0..=1000;
const CPUS: RangeInclusive<u32> = 1..=1024;
const TARGETS: usize = 64;
const MEMORY_MOST: Bytes = Bytes(16 << 40);
/// The kernel may account CPU time in ticks of 10 ms: fewer than ten of them give no reading.
const IDLE_LEAST: Span = Span(Duration::from_millis(100));

/// Checks a scenario, defaults filled in, and reports each violation to `document`, which has the positions.
pub(super) fn check(scenario: &Scenario, document: &mut Document<'_>) {
    let foreign = foreign_options(scenario, document);
    let mut wrong = |path: &[Step], result: Result<(), String>| {
        if let Err(text) = result {
            document.wrong(path, text);
        }
    };
    wrong(at!["name"], name(&scenario.name));
    if let Some(description) = &scenario.description {
        wrong(at!["description"], sentence(description));
    }
    build::check(scenario, &mut wrong);
    image(&scenario.image, &mut wrong);
    workload(&scenario.workload, &mut wrong);
    resources(scenario, &mut wrong);
    sampling(scenario, &mut wrong);
    cow::check(scenario.cow.as_ref(), &mut wrong);
    let stock = scenario.image.cloud.is_some()
        && scenario.targets.iter().any(|target| target.boot() == Some(Boot::Firmware));
    if scenario.cow.is_some() && stock {
        let text = "boot = \"firmware\" boots the cloud image unchanged, without a file for copy-on-write: leave out [cow] or such targets";
        wrong(at!["cow"], fail(text));
    }
    targets(&scenario.targets, &mut wrong);
    foreign.into_iter().for_each(|(index, key, text)| wrong(at!["target", index, key], Err(text)));
    for (index, target) in scenario.targets.iter().enumerate() {
        options(index, target, &scenario.workload, &mut wrong);
    }
    claims::check(scenario, &mut wrong);
    gate::check(scenario, &mut wrong);
    density::check(scenario, &mut wrong);
}

fn image(image: &Image, wrong: &mut Wrong<'_>) {
    let sources = [
        ("suite", image.suite.is_some()),
        ("tarball", image.tarball.is_some()),
        ("registry", image.registry.is_some()),
        ("cloud", image.cloud.is_some()),
    ];
    for (key, _) in sources.iter().filter(|(_, written)| *written).skip(1) {
        wrong(at!["image", *key], fail("give only one of suite, tarball, registry and cloud"));
    }
    let for_suites = [
        ("fallback", image.fallback.is_some()),
        ("mirror", image.mirror.is_some()),
        ("keyring", image.keyring.is_some()),
        ("components", !image.components.is_empty()),
    ];
    for (key, _) in for_suites.iter().filter(|(_, written)| *written && image.suite.is_none()) {
        wrong(
            at!["image", *key],
            fail("this goes with a suite: leave it out for a tarball, registry or cloud image"),
        );
    }
    for (key, text) in [("suite", &image.suite), ("fallback", &image.fallback)] {
        if let Some(text) = text {
            wrong(at!["image", key], suite(text));
        }
    }
    if image.fallback.is_some() && image.fallback == image.suite {
        wrong(at!["image", "fallback"], fail("this is the suite itself: name another one, or leave it out"));
    }
    for (key, file) in [("tarball", &image.tarball), ("keyring", &image.keyring)] {
        if let Some(file) = file {
            wrong(at!["image", key], file_on_host(&file.to_string_lossy()));
        }
    }
    if let Some(text) = &image.mirror {
        wrong(at!["image", "mirror"], mirror(text));
    }
    if let Some(text) = &image.registry {
        wrong(at!["image", "registry"], registry(text));
    }
    for (index, text) in image.components.iter().enumerate() {
        wrong(at!["image", "components", index], component(text));
    }
    for (index, text) in image.packages.iter().enumerate() {
        wrong(at!["image", "packages", index], package(text));
    }
    if image.tarball.is_some() && !image.packages.is_empty() {
        let text = "packages can't be added to a tarball: put them into it, or use suite or registry";
        wrong(at!["image", "packages"], fail(text));
    }
    cloud::check(image, wrong);
}

fn workload(workload: &Workload, wrong: &mut Wrong<'_>) {
    wrong(at!["workload", "command"], command(&workload.command));
    if let Some(work) = &workload.work {
        wrong(at!["workload", "work", "command"], command(&work.command));
    }
    if let Some(text) = &workload.user {
        wrong(at!["workload", "user"], user(text));
    }
    for (key, value) in &workload.env {
        wrong(at!["workload", "env", key.as_str()], variable(key, value));
    }
    wrong(at!["workload", "env"], variables(&workload.env));
    let (key, result) = match &workload.ready {
        Ready::Exit(code) if (0..=255).contains(code) => ("exit", Ok(())),
        Ready::Exit(code) => ("exit", Err(format!("{code} is no exit code: write one from 0 to 255"))),
        Ready::Line(pattern) => ("line", regex(pattern)),
        Ready::Tcp(0) => ("tcp", fail("0 is no port to wait for: write one from 1 to 65535")),
        Ready::Tcp(_) => ("tcp", Ok(())),
        Ready::File(file) => ("file", file_in_image(file)),
    };
    wrong(at!["workload", "ready", key], result);
}

fn resources(scenario: &Scenario, wrong: &mut Wrong<'_>) {
    let resources = &scenario.resources;
    wrong(at!["resources", "cpus"], within(resources.cpus.count(), CPUS));
    let memory = resources.memory;
    let most_needed = scenario.targets.iter().map(|target| target.kind().row().least_memory).max();
    let (least, why) = match most_needed {
        _ if boots::boots_system(scenario).is_some() => {
            (boots::MEMORY_SYSTEM, "a VM that boots the whole system, by systemd or firmware, needs as much")
        }
        Some((least, why)) => (Bytes(least), why),
        None => (Bytes(0), "memory is no less than nothing"),
    };
    wrong(at!["resources", "memory"], between(memory, least, MEMORY_MOST, why));
    if !memory.0.is_multiple_of(1 << 20) {
        let text = format!(
            "{memory} is not a whole number of MiB, which every target can limit exactly: write one, as in \"512MiB\""
        );
        wrong(at!["resources", "memory"], Err(text));
    }
}

fn sampling(scenario: &Scenario, wrong: &mut Wrong<'_>) {
    let sampling: &Sampling = &scenario.sampling;
    if sampling.samples > 0 || scenario.density.is_none() {
        wrong(at!["sampling", "samples"], within(sampling.samples, SAMPLES));
    }
    wrong(at!["sampling", "warmup"], within(sampling.warmup, WARMUP));
    let zero = Span(Duration::ZERO);
    let settle = between(sampling.settle, zero, PAUSE_MOST, "a longer wait adds nothing");
    wrong(at!["sampling", "settle"], settle);
    if sampling.idle != zero {
        let why = "kernels may count CPU time in steps of 10ms; \"0s\" leaves the reading out";
        wrong(at!["sampling", "idle"], between(sampling.idle, IDLE_LEAST, PAUSE_MOST, why));
    }
    let why = "start-up takes time, and a day is the longest wait";
    wrong(at!["sampling", "timeout"], between(sampling.timeout, TIMEOUT_LEAST, TIMEOUT_MOST, why));
    if sampling.page_cache == Some(PageCache::Warm) && sampling.warmup == 0 {
        let text = "no warm-up round fills the page cache: write warmup = 1 or more, or leave this out";
        wrong(at!["sampling", "page_cache"], fail(text));
    }
}

fn targets(targets: &[ScenarioTarget], wrong: &mut Wrong<'_>) {
    if targets.is_empty() {
        wrong(
            at!["target"],
            fail("there is no target: write [[target]] and kind = \"docker\", say, below it"),
        );
    }
    if targets.len() > TARGETS {
        wrong(at!["target"], Err(format!("{} targets are too many: write up to {TARGETS}", targets.len())));
    }
    for (index, target) in targets.iter().enumerate() {
        wrong(at!["target", index, "name"], name(&target.name));
        if let Some(first) = targets[..index].iter().position(|other| other.name == target.name) {
            let text = format!(
                "target[{first}] is called {} too: give each a name of its own",
                quoted(&target.name)
            );
            wrong(at!["target", index, "name"], Err(text));
        }
    }
}

/// Each option belongs to some kinds, and has safe characters only: it goes into XML or a request to an engine.
fn options(index: usize, target: &ScenarioTarget, workload: &Workload, wrong: &mut Wrong<'_>) {
    if let Some(vm) = target.vm() {
        wrong(at!["target", index, "firmware"], boots::firmware(vm));
        if let Some(model) = &vm.cpu_model {
            wrong(at!["target", index, "cpu_model"], cpu_model(model));
            if model == "host-passthrough" && vm.accel == Some(Accel::Tcg) {
                let text = "emulation (accel = \"tcg\") has no host CPU to pass through: write \"max\" for all features that it has, or accel = \"kvm\"";
                wrong(at!["target", index, "cpu_model"], fail(text));
            }
        }
    }
    wrong(at!["target", index, "start"], check_start(target, workload));
    if let Some(uri) = target.uri() {
        wrong(at!["target", index, "uri"], super::uri::fits(target.kind(), uri));
    }
    let container = target.container();
    if let Some(network) = container.and_then(|container| container.network.as_ref()) {
        wrong(at!["target", index, "network"], engine_name(network, "._-", "a network", "bridge"));
        if network == "none" && workload.network {
            let text = "this contradicts workload.network = true: write \"bridge\", \"host\" or a network of the engine, or leave one of the two out";
            wrong(at!["target", index, "network"], fail(text));
        }
    }
    if let Some(driver) = container.and_then(|container| container.log_driver.as_ref()) {
        wrong(at!["target", index, "log_driver"], engine_name(driver, "._-/:", "a log driver", "json-file"));
    }
    if let Some(runtime) = target.docker().and_then(|docker| docker.runtime.as_ref()) {
        wrong(at!["target", index, "runtime"], engine_name(runtime, "._-", "a runtime", "runc"));
    }
}

/// Options that a target has of another kind, with what to do: the target itself has no place for them.
fn foreign_options(scenario: &Scenario, document: &Document<'_>) -> Vec<(usize, &'static str, String)> {
    let keys: BTreeSet<&str> = Kind::ALL.iter().flat_map(|kind| kind.row().options).copied().collect();
    let mut found = Vec::new();
    for (index, target) in scenario.targets.iter().enumerate() {
        let own = target.kind().row().options;
        for key in keys.iter().filter(|key| !own.contains(key)) {
            if document.has(at!["target", index, *key]) {
                let kinds: Vec<String> = Kind::with_option(key).map(|kind| format!("\"{kind}\"")).collect();
                let text = format!("this is for kind = {} only: leave it out here", kinds.join(" or "));
                found.push((index, *key, text));
            }
        }
    }
    found
}

/// Each kind has its own start modes, and not every workload becomes ready again after a restart.
fn check_start(target: &ScenarioTarget, workload: &Workload) -> Result<(), String> {
    let start = target.start;
    if target.kind().started(start).is_none() {
        let starts: Vec<String> =
            target.kind().row().starts.iter().map(|(s, _)| format!("\"{s}\"")).collect();
        let this = match start {
            Start::Restore if target.kind().started(Start::Unpause).is_some() => {
                "a container that is frozen and resumed is \"unpause\""
            }
            Start::Unpause if target.kind().started(Start::Restore).is_some() => {
                "a VM that is saved and restored is \"restore\""
            }
            Start::Create | Start::Restart | Start::Unpause | Start::Restore => {
                &format!("kind = \"{}\" has no start = \"{start}\"", target.kind())
            }
        };
        return Err(format!("{this}: write {}, or leave this out", starts.join(" or ")));
    }
    match workload.ready {
        Ready::Exit(_) if start.keeps_memory() => Err(format!(
            "a workload that is ready when it ends has nothing to {start}: write \"restart\" or \"create\""
        )),
        Ready::File(_) if start == Start::Restart => fail(
            "the file of workload.ready still exists from the initial start: make it ready by a line or a port, or write \"create\"",
        ),
        Ready::Exit(_) | Ready::Line(_) | Ready::Tcp(_) | Ready::File(_) => Ok(()),
    }
}
