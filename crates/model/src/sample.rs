//! The records of `results.json`, schema `bootrace.results/2`.
//!
//! These types depend on no engine. A value that a target can't give is `None`
//! (null in the file), never 0. All times are nanoseconds, all sizes bytes; field and type names
//! carry the unit. `reports/results.schema.json` is the published form.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    kind::{Kind, Start},
    plan::Trial,
};

mod boot;
pub mod density;
mod disk;
mod host;
mod identity;
mod isolation;
mod kvm;
mod origin;
mod outcome;
mod resumption;
#[cfg(test)]
mod schema;
mod timeline;

pub use boot::Boot;
pub use disk::{Cow, Disk};
pub use host::{Frequency, Host, Interference, Mitigation, Noise, Setting};
pub use identity::Identity;
pub use isolation::{Isolation, Namespace};
pub use kvm::{Kvm, KvmDegree};
pub use origin::{Ab, Side, Source};
pub use outcome::Outcome;
pub use resumption::{Resumption, ScenarioFile};
pub use timeline::{Phases, Timeline};

/// The schema that this version writes.
pub const SCHEMA: &str = "bootrace.results/2";

/// One run: all rounds of one scenario on one host.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Results {
    /// Name and version of this format; a reader refuses any other.
    pub schema: String,
    /// How the run went.
    pub run: Run,
    /// The host, and its load before and after the run.
    pub host: Host,
    /// The image that every target started from.
    pub image: Image,
    /// In the scenario's order; samples name them.
    pub targets: Vec<TargetRecord>,
    /// In the order in which the run took them, warm-up and failures included.
    pub samples: Vec<Sample>,
    /// One for each target that the run filled with instances; empty where the scenario asks for no density.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub density: Vec<density::Density>,
}

/// Identity, extent and caveats of a run.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Run {
    /// `<scenario>-<UTC time>-<seed>`: also the name of the run's directory. One side of an A/B has the A/B's
    /// id and the side.
    pub id: String,
    /// RFC 3339, UTC.
    #[cfg_attr(test, schemars(regex(pattern = r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d+)?Z$")))]
    pub started_at: String,
    /// Decides the order of the trials: the same seed and scenario give the same order.
    pub seed: u64,
    /// Version of the program that measured, as in `0.1.0`.
    pub bootrace_version: String,
    /// sha256 of that program's executable, lower-case hex; null where it could not be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub program_digest: Option<String>,
    /// The scenario with every default filled in, keys as in its TOML.
    pub scenario: serde_json::Value,
    /// Where it was read from; null for one in the program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scenario_file: Option<ScenarioFile>,
    /// How many samples the plan has, warm-up included; fewer in `samples` means the run was cut short.
    pub planned: u32,
    /// True when a signal (Ctrl-C, SIGTERM) or an error ended the run early.
    pub interrupted: bool,
    /// One for each time that the run went on after an interruption, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub resumptions: Vec<Resumption>,
    /// Wall time from the first trial to the end of the last, without image building; the sum over the parts of a resumed
    /// run, each until its last sample.
    pub wall_ns: Option<u64>,
    /// How much of `wall_ns` was start-up, settle, idle window, work and teardown of samples.
    pub measuring_ns: Option<u64>,
    /// How much of `wall_ns` went into dropping the page cache before samples; null where the scenario asks for none.
    pub cache_drop_ns: Option<u64>,
    /// Caveats of this run's figures, as sentences.
    pub warnings: Vec<String>,
    /// The state of the sources; null where neither version control nor CI gives it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<Source>,
    /// Set where this run is one side of an A/B: its samples pair with the other side's by target and round.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ab: Option<Ab>,
}

/// The one root file system that every target used.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Image {
    /// sha256 over root file system and agent, lower-case hex.
    #[cfg_attr(test, schemars(regex(pattern = r"^[0-9a-f]{64}$")))]
    pub digest: String,
    /// `debian`, `ubuntu`, or the `ID` of the image's os-release.
    pub distribution: String,
    /// The suite, as in `noble`, or the release that the image's os-release names.
    pub suite: String,
    /// `mmdebstrap`, `tarball`, `registry` or `cloud image` (with its file's sha256), and from where.
    pub source: String,
    /// True when the scenario's first choice failed and its fallback was used.
    pub fallback: bool,
    /// The first choice and why it failed; null without fallback.
    pub fallback_reason: Option<String>,
    /// Packages that the scenario adds.
    pub packages: Vec<String>,
    /// The kernel that a direct-boot VM of this image runs; null when the image has none.
    pub kernel: Option<String>,
    /// Size of the root file system's tar archive.
    pub tar_bytes: Option<u64>,
    /// Disk space of the VM's base disk, holes not counted.
    pub disk_bytes: Option<u64>,
}

/// The accelerator of a VM.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Accelerator {
    /// Not a VM.
    None,
    /// Linux's KVM; `kvm` of the target has its degree.
    Kvm,
    /// Emulated by QEMU.
    Tcg,
}

/// One target as the run used it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct TargetRecord {
    /// The scenario's name for it, unique within the run.
    pub name: String,
    /// How it runs the workload.
    pub kind: Kind,
    /// KVM or emulation; `none` except for a VM.
    pub accelerator: Accelerator,
    /// Why this accelerator, in words; null except for a VM.
    pub accelerator_reason: Option<String>,
    /// What the probe found about this host's KVM; null without a probe and without KVM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kvm: Option<Kvm>,
    /// The effective options, given or default: CPUs, start, network, storage and others of the kind.
    pub options: serde_json::Value,
}

impl TargetRecord {
    /// A target that is no VM.
    pub fn without_vm(name: String, kind: Kind, options: serde_json::Value) -> Self {
        let accelerator = Accelerator::None;
        TargetRecord { name, kind, accelerator, accelerator_reason: None, kvm: None, options }
    }

    /// How its instances start; `Create` where its options name no start.
    pub fn start(&self) -> Start {
        let named = self.options.get("start").and_then(|start| start.as_str());
        Start::ALL.into_iter().find(|start| Some(start.name()) == named).unwrap_or_default()
    }
}

/// The measurements of one instance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Sample {
    /// Name of the target.
    pub target: String,
    /// From 0; warm-up rounds come first and count too.
    pub round: u32,
    /// Place within the round, from 0.
    pub position: u32,
    /// True for a warm-up sample: recorded, excluded from all statistics.
    pub warmup: bool,
    /// Statistics use `ok` samples alone.
    pub outcome: Outcome,
    /// What failed, on what, and why; null when `ok`.
    pub error: Option<String>,
    /// When each event of the instance's life came.
    pub timeline_ns: Timeline,
    /// The parts of the boot phase, for a VM and for a container that runs systemd; absent elsewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot_ns: Option<Boot>,
    /// Read once, after the settle time.
    pub memory_bytes: Memory,
    /// CPU time of start-up and of the idle window.
    pub cpu_ns: Cpu,
    /// Cost of the scenario's work command.
    pub work_ns: Work,
    /// Which image, agent and workload ran, on which kernel; null where the agent did not report it.
    pub identity: Option<Identity>,
    /// What else the host did meanwhile; null where the instance could not be prepared.
    pub interference: Option<Interference>,
    /// Disk use; absent where the target's storage can't be located.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk: Option<Disk>,
    /// What the instance shares with the host; absent where bootrace did not ask it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub isolation: Option<Isolation>,
    /// What the workload found around it: value by name, as `limit.open_files`. A fact that can't be read is left out. Absent
    /// where an earlier sample of the target has the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub surroundings: Option<BTreeMap<String, String>>,
}

impl Sample {
    /// A sample of this target and trial without any measurement.
    pub fn blank(target: &str, trial: &Trial) -> Self {
        Sample {
            target: target.into(),
            round: trial.round,
            position: trial.position,
            warmup: trial.warmup,
            outcome: Outcome::Ok,
            error: None,
            timeline_ns: Timeline::default(),
            boot_ns: None,
            memory_bytes: Memory::default(),
            cpu_ns: Cpu::default(),
            work_ns: Work::default(),
            identity: None,
            interference: None,
            disk: None,
            isolation: None,
            surroundings: None,
        }
    }
}

/// Memory of one instance in bytes, read after the settle time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Memory {
    /// What the host gets back when the instance is gone, without page cache: anonymous and
    /// shared PSS of its processes (engine processes such as shim and QEMU included) and its
    /// cgroup's kernel memory.
    pub footprint: Option<u64>,
    /// Resident set of the workload, as the agent reads it inside (in a VM: the guest kernel's figure).
    pub workload_rss: Option<u64>,
    /// Anonymous and shared memory (tmpfs, memfd) charged to the instance's cgroup.
    pub cgroup_anon: Option<u64>,
    /// Page cache charged to the instance's cgroup.
    pub cgroup_file: Option<u64>,
    /// Kernel memory charged to the instance's cgroup; part of the footprint.
    pub cgroup_kernel: Option<u64>,
    /// Page cache of a VM's own kernel, as the guest reports it; null except for a VM. The host can't tell it from the
    /// guest's other memory and gets it back with the VM, so it is in the footprint.
    pub guest_cache: Option<u64>,
    /// PSS of the engine's processes that exist for this instance alone (shim, QEMU); null for native.
    pub engine_pss: Option<u64>,
    /// PSS of every process that exists because of the instance.
    pub pss: Option<u64>,
    /// How much of `pss` is mapped files: page cache, not in the footprint.
    pub pss_file: Option<u64>,
    /// Memory of the instance and its engine's processes in swap, or compressed in zswap; in none of the above.
    pub swap: Option<u64>,
    /// Growth of the engine's daemons' anonymous and shared PSS since before the instance (may shrink); null for
    /// native. Not in the footprint: a daemon doesn't give it back when the instance is gone.
    pub daemons: Option<i64>,
}

/// CPU time of one instance, in ns of one core; `idle_window` is wall time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Cpu {
    /// Host CPU time from requested to ready, engine daemons included.
    pub startup: Option<u64>,
    /// Host CPU time of the instance and its engine processes over the idle window, without the daemons.
    pub idle: Option<u64>,
    /// Wall time of the idle window.
    pub idle_window: Option<u64>,
}

/// Cost of the work command in ns; all null where the scenario has none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Work {
    /// Wall time by the host's clock.
    pub wall: Option<u64>,
    /// Host CPU time of the instance and its engine processes, without the daemons.
    pub cpu: Option<u64>,
    /// CPU time as the command's own kernel accounts for it: in a VM, the guest's view.
    pub cpu_guest: Option<u64>,
}
