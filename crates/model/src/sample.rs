//! What a run leaves behind: the records of `results.json`, schema `bootrace.results/2`.
//!
//! These types know nothing of how they came about. A value that a target can't give is `None`
//! (null in the file), never 0. All times are nanoseconds, all sizes bytes; field and type names
//! carry the unit. `reports/results.schema.json` is the published form.

use serde::{Deserialize, Serialize};

use crate::{
    kind::{Kind, Start},
    plan::Trial,
};

mod boot;
pub mod density;
mod disk;
mod host;
mod isolation;
mod kvm;
mod origin;
#[cfg(test)]
mod schema;
mod timeline;

pub use boot::Boot;
pub use disk::{Cow, Disk};
pub use host::{Frequency, Host, Interference, Mitigation, Noise, Setting};
pub use isolation::{Isolation, Namespace};
pub use kvm::{Kvm, KvmDegree};
pub use origin::{Ab, Side, Source};
pub use timeline::{Phases, Timeline};

/// The schema that this version writes.
pub const SCHEMA: &str = "bootrace.results/2";

/// One run: all rounds of one scenario on one host.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Results {
    pub schema: String,
    pub run: Run,
    pub host: Host,
    pub image: Image,
    pub targets: Vec<TargetRecord>,
    /// In the order in which they were taken.
    pub samples: Vec<Sample>,
    /// One for each target that was filled with instances; empty where the scenario asks for no density.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub density: Vec<density::Density>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Run {
    /// `<scenario>-<UTC time>-<seed>`: also the name of the run's directory. Of a side of an A/B: the A/B's id and
    /// the side.
    pub id: String,
    /// RFC 3339, UTC.
    #[cfg_attr(test, schemars(regex(pattern = r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d+)?Z$")))]
    pub started_at: String,
    pub seed: u64,
    pub bootrace_version: String,
    /// The scenario with every default filled in, as its TOML would read.
    pub scenario: serde_json::Value,
    /// How many samples the plan has, warm-up included; fewer in `samples` means the run was cut short.
    pub planned: u32,
    /// True when the run was interrupted (Ctrl-C, SIGTERM) or stopped by an error.
    pub interrupted: bool,
    /// Wall time from the first trial to the end of the last, without image building.
    pub wall_ns: Option<u64>,
    /// How much of `wall_ns` was start-up, settle, idle window, work and teardown of samples.
    pub measuring_ns: Option<u64>,
    /// How much of `wall_ns` went into dropping the page cache before samples; null where the scenario asks for none.
    pub cache_drop_ns: Option<u64>,
    /// Caveats of this run's figures, as sentences.
    pub warnings: Vec<String>,
    /// What was measured, where version control or CI tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<Source>,
    /// Where this run is one side of an A/B: its samples pair with the other side's by target and round.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ab: Option<Ab>,
}

/// The one root file system that every target used.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Image {
    /// sha256 over root file system and agent, lower-case hex.
    #[cfg_attr(test, schemars(regex(pattern = r"^[0-9a-f]{64}$")))]
    pub digest: String,
    pub distribution: String,
    pub suite: String,
    /// `mmdebstrap`, `tarball`, `registry` or `cloud image` (with its file's sha256), and from where.
    pub source: String,
    /// True when the scenario's first choice could not be had.
    pub fallback: bool,
    /// What was asked for and why it could not be had; null without fallback.
    pub fallback_reason: Option<String>,
    pub packages: Vec<String>,
    /// The kernel that a direct-boot VM of this image runs; null when the image has none.
    pub kernel: Option<String>,
    /// Size of the root file system's tar archive.
    pub tar_bytes: Option<u64>,
    /// Disk space of the VM's base disk, holes not counted.
    pub disk_bytes: Option<u64>,
}

/// What speeds a VM up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Accelerator {
    /// Not a VM.
    None,
    /// Linux's KVM; [`TargetRecord::kvm`] says of which degree.
    Kvm,
    /// Emulated by QEMU.
    Tcg,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct TargetRecord {
    pub name: String,
    pub kind: Kind,
    pub accelerator: Accelerator,
    /// Why this accelerator, in words; null for what is no VM.
    pub accelerator_reason: Option<String>,
    /// What KVM is on this host; null where nobody asked and where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kvm: Option<Kvm>,
    pub options: serde_json::Value,
}

impl TargetRecord {
    /// How its instances are started; created where its options don't say.
    pub fn start(&self) -> Start {
        let named = self.options.get("start").and_then(|start| start.as_str());
        Start::ALL.into_iter().find(|start| Some(start.name()) == named).unwrap_or_default()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    Ok,
    Failed,
    TimedOut,
}

/// What one instance gave.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Sample {
    /// Name of the target.
    pub target: String,
    /// Counted from 0; warm-up rounds come first and are counted too.
    pub round: u32,
    /// Place within the round, from 0.
    pub position: u32,
    pub warmup: bool,
    pub outcome: Outcome,
    /// What was tried, on what, why it failed; null when `ok`.
    pub error: Option<String>,
    pub timeline_ns: Timeline,
    /// How the boot phase divides, of a VM and of a container that systemd runs in; absent elsewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot_ns: Option<Boot>,
    pub memory_bytes: Memory,
    pub cpu_ns: Cpu,
    pub work_ns: Work,
    pub identity: Option<Identity>,
    /// Null where the instance could not be staged.
    pub interference: Option<Interference>,
    /// Absent where the target can't say where its disk is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk: Option<Disk>,
    /// Absent where the instance was not asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub isolation: Option<Isolation>,
}

impl Sample {
    /// One of this target's that says nothing yet.
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
        }
    }
}

/// Memory of one instance in bytes, read after the settle time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Memory {
    /// What the host would get back if the instance were gone, without page cache: anonymous and
    /// shared PSS of its processes (engine processes such as shim and QEMU included) and its
    /// cgroup's kernel memory.
    pub footprint: Option<u64>,
    /// Resident set of the workload as seen beside it (in a VM: by the guest).
    pub workload_rss: Option<u64>,
    /// Anonymous and shared memory (tmpfs, memfd) charged to the instance's cgroup.
    pub cgroup_anon: Option<u64>,
    /// Page cache charged to the instance's cgroup.
    pub cgroup_file: Option<u64>,
    pub cgroup_kernel: Option<u64>,
    /// Page cache of a VM's own kernel, as the guest has it; null for what is no VM. The host can't tell it from other
    /// memory of the guest and gets it back with the VM, so it is in the footprint.
    pub guest_cache: Option<u64>,
    /// PSS of the engine's processes that exist for this instance alone (shim, QEMU); null for native.
    pub engine_pss: Option<u64>,
    /// PSS of every process that exists because of the instance.
    pub pss: Option<u64>,
    /// How much of `pss` is mapped files: page cache, not in the footprint.
    pub pss_file: Option<u64>,
    /// What of the instance and its engine's processes is in swap, or compressed in zswap: in none of the above.
    pub swap: Option<u64>,
    /// Growth of the engine's daemons' anonymous and shared PSS since before the instance (may shrink); null for
    /// native. Not in the footprint: a daemon doesn't give it back when the instance is gone.
    pub daemons: Option<i64>,
}

/// CPU time of one instance in ns of one core, except the window.
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

/// Who ran where, as seen from inside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Identity {
    pub image_digest: Option<String>,
    pub agent_digest: Option<String>,
    pub workload_digest: Option<String>,
    pub argv: Vec<String>,
    pub kernel_release: String,
    pub boot_id: String,
}
