//! Differences of two runs other than their figures: a gate compares like with like, or names the difference.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    kind::Program,
    sample::{self, Accelerator, Host, Results},
    scenario::Scenario,
    short,
};

/// A property with different values in BASE and NEW.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Difference {
    /// Decides whether figures stay comparable.
    pub subject: Subject,
    /// Name of the property, for example `CPU model` or a scenario's `workload.command`.
    pub what: String,
    /// Value in BASE; `none` where it has none.
    pub base: String,
    /// Value in NEW; `none` where it has none.
    pub new: String,
}

/// Area of a difference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Subject {
    /// Name, processor, CPUs, kernel or boot of the host.
    Host,
    /// Accelerator of a target, or the degree of its KVM.
    Accelerator,
    /// Digest of the root file system.
    Image,
    /// A key of the resolved scenario.
    Scenario,
    /// Versions and settings that may change on one host, bootrace's own among them; informative only.
    Software,
}

impl Difference {
    /// Whether the difference makes figures incomparable, unless the user asks for the comparison.
    pub fn forbids(&self) -> bool {
        self.subject != Subject::Software
    }
}

/// Keys of a scenario without an effect on a figure's meaning.
const MEANINGLESS: [&str; 7] =
    ["description", "build", "claim", "gate", "density", "sampling.samples", "sampling.warmup"];

/// Every difference, hosts first.
pub fn differences(base: &Results, new: &Results) -> Vec<Difference> {
    let mut found = Vec::new();
    if !one_host(&base.host, &new.host) {
        found.extend(hosts(&base.host, &new.host));
    }
    for target in &base.targets {
        let Some(other) = new.targets.iter().find(|t| t.name == target.name) else { continue };
        // A nested KVM and one on hardware are two accelerators; earlier versions did not record the degree.
        let known = target.kvm.is_some() && other.kvm.is_some();
        let word = |target: &sample::TargetRecord| {
            let name = serde_json::to_value(target.accelerator).ok()?.as_str()?.to_owned();
            let degree = target.kvm.filter(|_| known && target.accelerator == Accelerator::Kvm);
            Some(degree.map_or(name.clone(), |kvm| format!("{name} ({})", kvm.degree.name())))
        };
        let (a, b) = (word(target), word(other));
        found.extend(difference(Subject::Accelerator, format!("accelerator of {}", target.name), a, b));
    }
    let image = |results: &Results| {
        let image = &results.image;
        let fallback = if image.fallback { ", fallback" } else { "" };
        format!("{} {} ({}{fallback})", image.distribution, image.suite, short(&image.digest))
    };
    if base.image.digest != new.image.digest {
        found.push(Difference {
            subject: Subject::Image,
            what: "image".into(),
            base: image(base),
            new: image(new),
        });
    }
    scenarios("", &resolved(&base.run.scenario), &resolved(&new.run.scenario), &mut found);
    found.extend(software(base, new));
    found
}

/// Whether both hosts have the same boot id, which containers share too, or the same name, processor and kernel.
pub fn one_host(base: &Host, new: &Host) -> bool {
    let facts =
        |host: &Host| (host.hostname.clone(), host.processor(), host.cpus, host.kernel_release.clone());
    let one_boot = !base.boot_id.is_empty() && base.boot_id == new.boot_id;
    one_boot || (base.hostname.is_some() && facts(base) == facts(new))
}

/// Whether the runs are the two sides of one `bootrace ab`, in either order, so that their rounds pair.
pub fn are_sides_of_one(base: &Results, new: &Results) -> bool {
    match (&base.run.ab, &new.run.ab) {
        (Some(base), Some(new)) => base.id == new.id && base.side != new.side,
        _ => false,
    }
}

fn difference(
    subject: Subject,
    what: impl Into<String>,
    base: Option<String>,
    new: Option<String>,
) -> Option<Difference> {
    let shown = |value: Option<String>| value.unwrap_or_else(|| "none".into());
    (base != new).then(|| Difference { subject, what: what.into(), base: shown(base), new: shown(new) })
}

fn hosts(base: &Host, new: &Host) -> Vec<Difference> {
    let of = |what: &str, fact: &dyn Fn(&Host) -> Option<String>| {
        difference(Subject::Host, what, fact(base), fact(new))
    };
    let found: Vec<Difference> = [
        of("host", &|h| h.hostname.clone()),
        of("CPU model", &Host::processor),
        of("CPUs", &|h| Some(h.cpus.to_string())),
        of("kernel", &|h| Some(h.kernel_release.clone())),
    ]
    .into_iter()
    .flatten()
    .collect();
    match found.is_empty() {
        // Neither has a name.
        true => difference(Subject::Host, "boot", Some(base.boot_id.clone()), Some(new.boot_id.clone()))
            .into_iter()
            .collect(),
        false => found,
    }
}

/// Fills in the defaults of keys that are newer than the version that wrote the scenario.
fn resolved(scenario: &Value) -> Value {
    serde_json::from_value::<Scenario>(scenario.clone()).map_or_else(|_| scenario.clone(), |s| s.to_json())
}

/// Compares key by key where both values are tables.
pub(super) fn scenarios(path: &str, base: &Value, new: &Value, found: &mut Vec<Difference>) {
    if base == new || MEANINGLESS.contains(&path) {
        return;
    }
    let (Value::Object(a), Value::Object(b)) = (base, new) else {
        let shown = |value: &Value| if value.is_null() { None } else { Some(value.to_string()) };
        found.extend(difference(Subject::Scenario, path, shown(base), shown(new)));
        return;
    };
    let keys: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
    for key in keys {
        let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        let of = |map: &serde_json::Map<String, Value>| map.get(key).cloned().unwrap_or(Value::Null);
        scenarios(&path, &of(a), &of(b), found);
    }
}

fn software(base: &Results, new: &Results) -> Vec<Difference> {
    let of = |what: &str, fact: &dyn Fn(&Results) -> Option<String>| {
        difference(Subject::Software, what, fact(base), fact(new))
    };
    let tuned = |results: &Results| Some(if results.host.tuned.is_some() { "yes" } else { "no" }.to_owned());
    let programs = Program::ALL
        .into_iter()
        .map(|p| of(p.title(), &move |r: &Results| r.host.version(p).map(str::to_owned)));
    [of("bootrace", &|r| Some(r.run.bootrace_version.clone()))]
        .into_iter()
        .chain(programs)
        .chain([of("governor", &|r| r.host.governor.clone()), of("tuned by bootrace", &tuned)])
        .flatten()
        .collect()
}
