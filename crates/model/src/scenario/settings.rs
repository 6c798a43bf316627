//! The resolved settings of a scenario, keys as in its TOML.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

use super::{
    Build, Bytes, Capabilities, Claim, CowFile, CpuChoice, Density, Error, Gate, Kind, PageCache,
    ScenarioTarget, Span,
};
use crate::foreign::clean;

/// A scenario, keys as in its TOML.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// 1 to 64 of `a-z`, `0-9`, `.`, `_` and `-`; part of the run's id.
    pub name: String,
    /// One line for listings and reports.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The command that builds the program under test; `bootrace run` ignores it without `--build`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub build: Option<Build>,
    /// The root file system of every target.
    #[serde(default)]
    pub image: Image,
    /// The program to run, and the event that makes it ready.
    pub workload: Workload,
    /// CPUs, memory and privileges of every instance.
    #[serde(default)]
    pub resources: Resources,
    /// Number of rounds, waits and limits.
    #[serde(default)]
    pub sampling: Sampling,
    /// Measures copy-on-write on a file of the image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cow: Option<CowFile>,
    /// Ways to run the workload; none given: native, docker, and libvirt with `boot = "direct"`.
    #[serde(default = "default_targets", rename = "target")]
    pub targets: Vec<ScenarioTarget>,
    /// Sentences that the run judges.
    #[serde(default, rename = "claim", skip_serializing_if = "Vec::is_empty")]
    pub claims: Vec<Claim>,
    /// Metrics and margin for comparisons with another run.
    #[serde(default)]
    pub gate: Gate,
    /// Fills the host with instances, for the cost of one more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub density: Option<Density>,
}

/// Where the root file system comes from: exactly one of `suite`, `tarball`, `registry` and `cloud`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Image {
    /// `ubuntu/noble`, `debian/bookworm`, ...: mmdebstrap builds it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suite: Option<String>,
    /// Another suite, used only if the first one fails.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fallback: Option<String>,
    /// A root file system as a tar archive on this host, relative to the scenario file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tarball: Option<PathBuf>,
    /// An image reference that Docker can pull; a registry that needs a login gets that of `docker login`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registry: Option<String>,
    /// A stock cloud image, a qcow2: a file on this host, relative to the scenario file, or a http(s) URL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cloud: Option<String>,
    /// sha256 of the `cloud` file, lower-case hex; a URL must have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// Mirror for `suite`; none: mmdebstrap's own choice for the suite.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mirror: Option<String>,
    /// Keyring that verifies the mirror's release file; none: the distribution's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keyring: Option<PathBuf>,
    /// Components of the archive, as in `main`; none: a default for the distribution.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub components: Vec<String>,
    /// Packages to install, besides those of the base system.
    #[serde(default)]
    pub packages: Vec<String>,
    /// [`Scenario::cow`]: the image contains that file, so it is part of the image's definition.
    #[serde(skip)]
    pub cow: Option<CowFile>,
}

/// The program to run, the same on every target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Workload {
    /// Program and arguments; never passed to a shell.
    pub command: Vec<String>,
    /// Environment variables; the workload gets these and a fixed `PATH`, nothing else.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// The event that ends start-up.
    pub ready: Ready,
    /// The user that the program and its work command run as: `"name"`, `"uid"`, or either with `":group"`, by the
    /// `/etc/passwd` and `/etc/group` of the image. It sets `HOME` and `USER`. None given: root.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// A command to run and time after ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub work: Option<Work>,
    /// Gives the instance a network and a resolver: a container its engine's bridge (lxc: the host's network), a VM
    /// QEMU's user network, in which the host is 10.0.2.2. Without it they have loopback alone. A bare process always
    /// has the host's network; this gives it the host's resolver configuration.
    #[serde(default)]
    pub network: bool,
}

/// The event that makes a workload ready.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Ready {
    /// The workload exits with this code.
    Exit(i32),
    /// A line of its standard output or standard error matches this regular expression.
    Line(String),
    /// It accepts connections on this port of 127.0.0.1 or ::1.
    Tcp(u16),
    /// This absolute path exists, as the workload sees it.
    File(String),
}

/// A command that the instance runs once, after ready.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Work {
    /// Program and arguments; never passed to a shell.
    pub command: Vec<String>,
}

/// CPUs, memory and privileges of an instance, the same on every target.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Resources {
    /// Whole CPUs of the host, the same ones for every target; a VM has as many vCPUs.
    pub cpus: CpuChoice,
    /// RAM of a VM; cgroup limit of a container or bare process.
    pub memory: Bytes,
    /// The only capabilities that the workload may have, as root or by files; it gains no other privileges either. None
    /// given: CHOWN, DAC_OVERRIDE, FOWNER, FSETID, KILL, NET_BIND_SERVICE, SETGID, SETPCAP and SETUID.
    pub capabilities: Capabilities,
}

/// Rounds, waits and limits of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Sampling {
    /// Measured rounds; 0 only beside a `[density]`.
    pub samples: u32,
    /// Warm-up rounds before the measured ones: recorded, excluded from all statistics.
    pub warmup: u32,
    /// Wait between ready and the memory reading.
    pub settle: Span,
    /// Length of the window for idle CPU, after the settle time; "0s": no such reading.
    pub idle: Span,
    /// Longest time from requested to ready, and for the work command.
    pub timeout: Span,
    /// The page cache before each sample: `cold` drops it, `warm` leaves what warm-up rounds read. None given: `warm` with
    /// warm-up rounds, else as found.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub page_cache: Option<PageCache>,
}

impl Scenario {
    /// Keeps the targets with these names, in the scenario's order, and the claims about them; no names
    /// keep all.
    ///
    /// # Errors
    /// For a name that no target has, and where the rest has nothing to measure.
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

    /// Replaces the number of measured rounds.
    ///
    /// # Errors
    /// Where `rounds` is 0 and the scenario has no density.
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

    /// Replaces the number of warm-up rounds.
    ///
    /// # Errors
    /// Where `rounds` is 0 and the scenario asks for a warm page cache.
    pub fn set_warmup(&mut self, rounds: u32) -> Result<(), Error> {
        self.sampling.warmup = rounds;
        match self.sampling.page_cache {
            Some(PageCache::Warm) if rounds == 0 => Err(Error::NeverWarm { scenario: self.name.clone() }),
            _ => Ok(()),
        }
    }

    /// The resolved scenario, for the results.
    pub fn to_json(&self) -> serde_json::Value {
        let mut resolved = self.clone();
        resolved.sampling.page_cache = self.sampling.page_cache_state();
        serde_json::to_value(resolved).expect("all keys are strings and no value can fail to serialise")
    }

    /// The names of its targets, separated by commas: `native, docker`. What is no name is shown inert: the errors of a
    /// scenario list the names too.
    pub fn target_names(&self) -> String {
        self.targets.iter().map(|target| clean(&target.name, 64)).collect::<Vec<_>>().join(", ")
    }
}

impl Sampling {
    /// The effective state: the scenario's, else warm with warm-up rounds; `None`: whatever the host has.
    pub fn page_cache_state(&self) -> Option<PageCache> {
        self.page_cache.or((self.warmup > 0).then_some(PageCache::Warm))
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
        Resources {
            cpus: CpuChoice::Count(1),
            memory: Bytes(512 << 20),
            capabilities: Capabilities::default(),
        }
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
