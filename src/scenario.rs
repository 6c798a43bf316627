//! A scenario file: image + workload + readiness + resources + targets + sampling + claims.
//!
//! Strict TOML: unknown keys, wrong units and impossible values are errors that name file, line,
//! key and the mend. These are the settings as resolved, every default filled in.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The quickstart scenario, also for where no scenario file is at hand.
pub const QUICKSTART: &str = include_str!("../scenarios/quickstart.toml");

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    pub name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    #[serde(default)]
    pub image: Image,
    pub workload: Workload,
    #[serde(default)]
    pub resources: Resources,
    #[serde(default)]
    pub sampling: Sampling,
    /// None given: native, docker and libvirt direct.
    #[serde(default = "default_targets", rename = "target")]
    pub targets: Vec<Target>,
    #[serde(default, rename = "claim", skip_serializing_if = "Vec::is_empty")]
    pub claims: Vec<Claim>,
}

/// Where the root file system comes from: exactly one of `suite`, `tarball` and `registry`.
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
    /// Give the instance a network (docker: bridge; libvirt: user-mode NIC). Loopback is always there.
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
    /// Whole CPUs: vCPUs of a VM, CPU quota of a container or bare process.
    pub cpus: u32,
    /// RAM of a VM, cgroup limit of a container or bare process.
    pub memory: Bytes,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Sampling {
    /// Measured rounds.
    pub samples: u32,
    /// Rounds before them, kept and marked.
    pub warmup: u32,
    /// From ready to the memory reading.
    pub settle: Span,
    /// Window over which idle CPU is read, after the settle time; "0s": not read.
    pub idle: Span,
    /// Longest time from requested to ready, and for the work command.
    pub timeout: Span,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Target {
    /// Defaults to the kind; must be unique.
    #[serde(default)]
    pub name: String,
    pub kind: Kind,
    /// libvirt only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot: Option<Boot>,
    /// libvirt only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accel: Option<Accel>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    Native,
    Docker,
    Libvirt,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Boot {
    /// The image's own kernel with an initramfs that holds only the agent.
    #[default]
    Direct,
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

/// A sentence with a bound, judged by a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Claim {
    pub says: String,
    pub metric: String,
    pub target: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_most: Option<Bound>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_least: Option<Bound>,
}

/// A bound with the unit of its metric.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Bound {
    Time(Span),
    Size(Bytes),
}

/// A size: `"512MiB"` in TOML.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bytes(pub u64);

/// A time: `"2s"`, `"500ms"`, `"2m"` in TOML.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub Duration);

fn default_targets() -> Vec<Target> {
    [Kind::Native, Kind::Docker, Kind::Libvirt]
        .map(|kind| Target { name: String::new(), kind, boot: None, accel: None })
        .into()
}

impl Default for Image {
    fn default() -> Self {
        Image {
            suite: Some("ubuntu/noble".into()),
            fallback: Some("debian/bookworm".into()),
            tarball: None,
            registry: None,
            mirror: None,
            keyring: None,
            components: Vec::new(),
            packages: Vec::new(),
        }
    }
}

impl Default for Resources {
    fn default() -> Self {
        Resources { cpus: 1, memory: Bytes(512 << 20) }
    }
}

impl Default for Sampling {
    fn default() -> Self {
        let seconds = |s| Span(Duration::from_secs(s));
        Sampling { samples: 20, warmup: 1, settle: seconds(2), idle: seconds(1), timeout: seconds(120) }
    }
}

impl std::str::FromStr for Bytes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!("{text:?} is not a size: write a whole number and B, KiB, MiB or GiB, as in \"512MiB\"")
        };
        let digits = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
        let (number, unit) = text.split_at(digits);
        let factor: u64 = match unit.trim_start() {
            "B" => 1,
            "KiB" => 1 << 10,
            "MiB" => 1 << 20,
            "GiB" => 1 << 30,
            _ => return Err(wrong()),
        };
        let number: u64 = number.parse().map_err(|_| wrong())?;
        number.checked_mul(factor).map(Bytes).ok_or_else(wrong)
    }
}

impl std::fmt::Display for Bytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let units = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
        match units.into_iter().find(|(_, size)| self.0 > 0 && self.0 % size == 0) {
            Some((unit, size)) => write!(f, "{}{unit}", self.0 / size),
            None => write!(f, "{}B", self.0),
        }
    }
}

impl std::str::FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is not a time: write a whole number and ms, s or m, as in \"2s\"");
        let digits = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
        let (number, unit) = text.split_at(digits);
        let factor = match unit.trim_start() {
            "ms" => 1,
            "s" => 1000,
            "m" => 60_000,
            _ => return Err(wrong()),
        };
        let number: u64 = number.parse().map_err(|_| wrong())?;
        let millis = number.checked_mul(factor).ok_or_else(wrong)?;
        Ok(Span(Duration::from_millis(millis)))
    }
}

impl std::fmt::Display for Span {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0.as_millis() {
            ms if ms > 0 && ms % 60_000 == 0 => write!(f, "{}m", ms / 60_000),
            ms if ms % 1000 == 0 => write!(f, "{}s", ms / 1000),
            ms => write!(f, "{ms}ms"),
        }
    }
}

impl std::str::FromStr for Bound {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.parse().map(Bound::Time).or_else(|_| text.parse().map(Bound::Size)).map_err(|_: String| {
            format!("{text:?} is not a bound: write a time, as in \"2s\", or a size, as in \"512MiB\"")
        })
    }
}

impl std::fmt::Display for Bound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Bound::Time(span) => span.fmt(f),
            Bound::Size(bytes) => bytes.fmt(f),
        }
    }
}

/// Types that are a string with a unit in TOML and in the results.
macro_rules! as_text {
    ($($name:ty),*) => {$(
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
            }
        }
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.collect_str(self)
            }
        }
    )*};
}
as_text!(Bytes, Span, Bound);
