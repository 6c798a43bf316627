//! A scenario file: image + workload + readiness + resources + targets + sampling + claims + gate + density.
//!
//! Strict TOML: unknown keys, wrong units and impossible values are errors that name file, line,
//! key and the fix. These are the settings as resolved, every default filled in.

use std::{
    collections::BTreeMap,
    io::Read,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{Deserialize, Serialize};

mod boots;
mod build;
mod claims;
mod cloud;
mod cow;
mod cpus;
mod density;
mod document;
mod fact;
mod fix;
mod gate;
mod needs;
mod options;
mod rules;
mod shipped;
mod text;
mod units;
pub mod uri;

pub use crate::kind::{Kind, Start};
pub use boots::{Boot, Firmware, Init};
pub use build::Build;
pub use claims::Claim;
pub use cloud::is_url;
pub use cow::CowFile;
pub use cpus::{CpuChoice, CpuList};
pub use density::Density;
pub use document::Problem;
pub use fact::FACTS;
pub use gate::Gate;
pub use options::{DiskCache, PageCache};
pub use rules::{SAMPLES, WARMUP};
pub use shipped::{FOLDER, SHIPPED, find, names};
pub use units::{Bound, Bytes, Share, Span};

/// The quickstart scenario, also for where no scenario file is at hand.
pub const QUICKSTART: &str = include_str!("../../../scenarios/quickstart.toml");

/// No scenario is longer; what is, is another kind of file.
const LARGEST_FILE: u64 = 1 << 20;

/// A scenario can't be had.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// In the order of the lines; never empty.
    #[error("{}", .0.iter().map(Problem::to_string).collect::<Vec<_>>().join("\n"))]
    Invalid(Vec<Problem>),
    #[error("reading the scenario {}: {why}", .path.display())]
    Unreadable { path: PathBuf, why: String },
    #[error(
        "no scenario is called {name}{nearest}: known are {known}; a file is given by its path, as in ./my.toml"
    )]
    Unknown { name: String, nearest: String, known: String },
    #[error("scenario {scenario} has no target {target}{nearest}: its targets are {known}")]
    UnknownTarget { scenario: String, target: String, nearest: String, known: String },
    #[error(
        "scenario {scenario} has page_cache = \"warm\", and nothing warms the page cache without a warm-up round: let it have one, or take page_cache out of its [sampling]"
    )]
    NeverWarm { scenario: String },
    #[error(
        "scenario {scenario} has nothing to do: without rounds (samples = 0) it takes a [density] with a target that is left"
    )]
    NothingToDo { scenario: String },
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    pub name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Builds what is measured; `bootrace run` ignores it without `--build`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub build: Option<Build>,
    #[serde(default)]
    pub image: Image,
    pub workload: Workload,
    #[serde(default)]
    pub resources: Resources,
    #[serde(default)]
    pub sampling: Sampling,
    /// None given: copy-on-write is not measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cow: Option<CowFile>,
    /// None given: native, docker and libvirt direct.
    #[serde(default = "default_targets", rename = "target")]
    pub targets: Vec<ScenarioTarget>,
    #[serde(default, rename = "claim", skip_serializing_if = "Vec::is_empty")]
    pub claims: Vec<Claim>,
    #[serde(default)]
    pub gate: Gate,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub density: Option<Density>,
}

/// Where the root file system comes from: exactly one of `suite`, `tarball`, `registry` and `cloud`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Image {
    /// `ubuntu/noble`, `debian/bookworm`, ...: built by mmdebstrap.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suite: Option<String>,
    /// Another suite, used only if the first can't be had.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fallback: Option<String>,
    /// A root file system as a tar archive on this host, relative to the scenario file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tarball: Option<PathBuf>,
    /// An image reference that Docker can pull.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registry: Option<String>,
    /// A stock cloud image, a qcow2: a file on this host, relative to the scenario file, or a http(s) URL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cloud: Option<String>,
    /// Of `cloud`, lower-case hex; a URL must have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// Mirror for `suite`; none: mmdebstrap's own choice for the suite.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mirror: Option<String>,
    /// Keyring that the mirror's release file is checked against; none: the distribution's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keyring: Option<PathBuf>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub components: Vec<String>,
    #[serde(default)]
    pub packages: Vec<String>,
    /// [`Scenario::cow`]: the image has that file, so it is part of what the image is.
    #[serde(skip)]
    pub cow: Option<CowFile>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Workload {
    /// Program and arguments; never passed to a shell.
    pub command: Vec<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    pub ready: Ready,
    /// Timed once ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub work: Option<Work>,
    /// Gives the instance a network and a resolver: a container Docker's bridge, a VM QEMU's user network, in
    /// which the host is 10.0.2.2; else they have loopback alone. A bare process has the host's network in any
    /// case, and by this its resolver configuration.
    #[serde(default)]
    pub network: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Ready {
    Exit(i32),
    Line(String),
    Tcp(u16),
    File(String),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Work {
    pub command: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Resources {
    /// Whole CPUs of the host, the same ones for every target; a VM has as many vCPUs.
    pub cpus: CpuChoice,
    /// RAM of a VM, cgroup limit of a container or bare process.
    pub memory: Bytes,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Sampling {
    /// Measured rounds; 0 only beside a density.
    pub samples: u32,
    /// Warm-up rounds before them: recorded, excluded from all statistics.
    pub warmup: u32,
    /// From ready to the memory reading.
    pub settle: Span,
    /// Window over which idle CPU is read, after the settle time; "0s": not read.
    pub idle: Span,
    /// Longest time from requested to ready, and for the work command.
    pub timeout: Span,
    /// As written; [`Sampling::page_cache_state`] is what holds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub page_cache: Option<PageCache>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScenarioTarget {
    /// Defaults to the kind; must be unique.
    #[serde(default)]
    pub name: String,
    pub kind: Kind,
    /// How its instances are started; none given: created.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<Start>,
    /// libvirt only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot: Option<Boot>,
    /// libvirt with `boot = "firmware"` only; none given: `bios`, where machines have one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub firmware: Option<Firmware>,
    /// libvirt only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accel: Option<Accel>,
    /// libvirt only: `host-passthrough`, `host-model`, or a model of QEMU's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_model: Option<String>,
    /// libvirt only: the VM's memory is of the host's pool of huge pages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hugepages: Option<bool>,
    /// libvirt only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk_cache: Option<DiskCache>,
    /// libvirt and lxc only: a libvirt on this host; none given: the one that LIBVIRT_DEFAULT_URI names, else the
    /// system's of the kind's driver.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uri: Option<String>,
    /// docker and podman only: `none`, `bridge`, `host`, or a network that the engine has; none given: as
    /// `workload.network` says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<String>,
    /// docker and podman only; none given: `none`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_driver: Option<String>,
    /// docker only; none given: the Engine's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runtime: Option<String>,
    /// docker only: the container's PID 1; none given: the agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub init: Option<Init>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Accel {
    /// KVM where a probe guest ran at hardware speed, else TCG.
    #[default]
    Auto,
    Kvm,
    Tcg,
}

impl Scenario {
    /// Reads and checks a file of at most 1 MiB; paths in it are not looked at.
    pub fn load(path: &Path) -> Result<Self, Error> {
        let unreadable = |why: String| Error::Unreadable { path: path.into(), why };
        let file = std::fs::File::open(path).map_err(|e| unreadable(e.to_string()))?;
        let mut bytes = Vec::new();
        file.take(LARGEST_FILE + 1).read_to_end(&mut bytes).map_err(|e| unreadable(e.to_string()))?;
        if bytes.len() as u64 > LARGEST_FILE {
            return Err(unreadable("it is over 1 MiB, which no scenario is: name the TOML file".into()));
        }
        let text = String::from_utf8(bytes).map_err(|_| {
            unreadable("it is not UTF-8 text: name the TOML file, or save it as UTF-8".into())
        })?;
        Self::parse(&text, &path.display().to_string())
    }

    /// Reads and checks TOML; `origin` stands for the file in messages. All that is wrong with it is
    /// reported at once, where one error doesn't hide others.
    pub fn parse(text: &str, origin: &str) -> Result<Self, Error> {
        let mut document = document::Document::parse(text, origin).map_err(Error::Invalid)?;
        let scenario = document.read().map(|scenario| scenario.resolved(&document));
        if let Some(scenario) = &scenario {
            rules::check(scenario, &mut document);
        }
        let problems = document.into_problems();
        match scenario {
            Some(scenario) if problems.is_empty() => Ok(scenario),
            _ => Err(Error::Invalid(problems)),
        }
    }

    /// Fills in the defaults that depend on other keys.
    fn resolved(mut self, document: &document::Document<'_>) -> Self {
        for (index, target) in self.targets.iter_mut().enumerate() {
            if !document.has(document::at!["target", index, "name"]) {
                target.name = target.kind.to_string();
            }
        }
        let image = &mut self.image;
        image.cow = self.cow;
        let elsewhere = image.tarball.is_some() || image.registry.is_some() || image.cloud.is_some();
        if image.suite.is_none() && !elsewhere {
            let default = Image::default();
            image.suite = default.suite;
            image.fallback = image.fallback.take().or(default.fallback);
        }
        self
    }

    /// Keeps the targets with these names, in the scenario's order, and the claims about them; none
    /// given keeps all. Fails for a name that no target has.
    pub fn select_targets(&mut self, names: &[String]) -> Result<(), Error> {
        for name in names {
            let known: Vec<&str> = self.targets.iter().map(|target| target.name.as_str()).collect();
            if !known.contains(&name.as_str()) {
                return Err(Error::UnknownTarget {
                    scenario: self.name.clone(),
                    target: crate::foreign::quoted(name),
                    nearest: crate::foreign::did_you_mean(name, &known),
                    known: self.target_names(),
                });
            }
        }
        if !names.is_empty() {
            self.targets.retain(|target| names.contains(&target.name));
            self.claims.retain(|claim| claim.targets().all(|target| names.iter().any(|name| name == target)));
            if self.density.as_mut().is_some_and(|density| !density.select(names)) {
                self.density = None;
            }
        }
        self.has_work()
    }

    /// So many measured rounds in place of the scenario's. Fails where nothing would be left to be done.
    pub fn set_samples(&mut self, rounds: u32) -> Result<(), Error> {
        self.sampling.samples = rounds;
        self.has_work()
    }

    fn has_work(&self) -> Result<(), Error> {
        match self.sampling.samples == 0 && self.density.is_none() {
            true => Err(Error::NothingToDo { scenario: self.name.clone() }),
            false => Ok(()),
        }
    }

    /// So many warm-up rounds in place of the scenario's. Fails where its page cache would never get warm.
    pub fn set_warmup(&mut self, rounds: u32) -> Result<(), Error> {
        self.sampling.warmup = rounds;
        match self.sampling.page_cache {
            Some(PageCache::Warm) if rounds == 0 => Err(Error::NeverWarm { scenario: self.name.clone() }),
            _ => Ok(()),
        }
    }

    /// As resolved, for the results.
    pub fn to_json(&self) -> serde_json::Value {
        let mut resolved = self.clone();
        resolved.sampling.page_cache = self.sampling.page_cache_state();
        serde_json::to_value(resolved).expect("all keys are strings and no value can fail to serialise")
    }

    /// The names of its targets, as in `native, docker`.
    pub fn target_names(&self) -> String {
        self.targets.iter().map(|target| target.name.as_str()).collect::<Vec<_>>().join(", ")
    }
}

fn default_targets() -> Vec<ScenarioTarget> {
    Kind::standard().map(ScenarioTarget::new).collect()
}

impl Default for Image {
    fn default() -> Self {
        Image {
            suite: Some("ubuntu/noble".into()),
            fallback: Some("debian/bookworm".into()),
            tarball: None,
            registry: None,
            cloud: None,
            sha256: None,
            mirror: None,
            keyring: None,
            components: Vec::new(),
            packages: Vec::new(),
            cow: None,
        }
    }
}

impl Default for Resources {
    fn default() -> Self {
        Resources { cpus: CpuChoice::Count(1), memory: Bytes(512 << 20) }
    }
}

impl Default for Sampling {
    fn default() -> Self {
        let seconds = |s| Span(Duration::from_secs(s));
        Sampling {
            samples: 20,
            warmup: 1,
            settle: seconds(2),
            idle: seconds(1),
            timeout: seconds(120),
            page_cache: None,
        }
    }
}

#[cfg(test)]
mod tests;
