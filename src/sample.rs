//! What a run leaves behind: the records of `results.json`, schema `bootrace.results/1`.
//!
//! These types know nothing of how they came about. A value that a target can't give is `None`
//! (null in the file), never 0. All times are nanoseconds, all sizes bytes; field and type names
//! carry the unit. `reports/results.schema.json` is the published form.

use serde::{Deserialize, Serialize};

mod boot;
pub mod density;
mod disk;
mod isolation;
mod kvm;
mod origin;

pub use boot::Boot;
pub use disk::{Copied, Disk};
pub use isolation::{Isolation, Namespace};
pub use kvm::{Kvm, KvmDegree};
pub use origin::{Ab, Side, Source};

/// The schema that this version writes.
pub const SCHEMA: &str = "bootrace.results/1";

/// One run: all rounds of one scenario on one host.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Results {
    pub schema: String,
    pub run: Run,
    pub host: Host,
    pub image: Image,
    pub targets: Vec<Target>,
    /// In the order in which they were taken.
    pub samples: Vec<Sample>,
    /// One for each target that was filled with instances; empty where the scenario asks for no density.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub density: Vec<density::Density>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// `<scenario>-<UTC time>-<seed>`: also the name of the run's directory. Of a side of an A/B: the A/B's id and
    /// the side.
    pub id: String,
    /// RFC 3339, UTC.
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
    #[serde(default)]
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

/// What the host is and what else it was doing.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Host {
    pub hostname: Option<String>,
    pub os: Option<String>,
    pub kernel_release: String,
    pub boot_id: String,
    pub cpu_model: Option<String>,
    pub cpus: u32,
    /// By range, so one entry on most hosts and two or three where cores differ; empty where nothing tells.
    #[serde(default)]
    pub frequencies: Vec<Frequency>,
    /// The first CPU's, as the kernel writes it.
    #[serde(default)]
    pub microcode: Option<String>,
    #[serde(default)]
    pub mitigations: Vec<Mitigation>,
    #[serde(default)]
    pub numa_nodes: Option<u32>,
    pub memory_bytes: u64,
    pub swap_bytes: u64,
    #[serde(default)]
    pub swap_used_bytes: Option<u64>,
    #[serde(default)]
    pub swappiness: Option<u32>,
    /// The hypervisor that the host itself runs under, `none` on bare metal.
    pub virtualised: Option<String>,
    /// What emulates the host's own processor, as in `Bochs` or `QEMU TCG`: no figure of this run is a speed. Null where
    /// nothing shows that one is emulated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub processor_emulator: Option<String>,
    /// Whether KVM here lets its guests run guests of their own.
    #[serde(default)]
    pub nested: Option<bool>,
    pub clock_source: Option<String>,
    pub governor: Option<String>,
    pub turbo: Option<bool>,
    pub smt: Option<bool>,
    pub ksm: Option<bool>,
    /// How many pages KSM saves now.
    #[serde(default)]
    pub ksm_pages: Option<u64>,
    /// Transparent huge pages: `always`, `madvise` or `never`.
    pub thp: Option<String>,
    /// `1` (legacy, hybrid included), `2` (unified), or 0 where none is mounted.
    pub cgroup_version: u8,
    pub noise_before: Noise,
    pub noise_after: Option<Noise>,
    /// Running before the first instance of this run; null where the run has no target that can ask.
    #[serde(default)]
    pub other_containers: Option<u32>,
    #[serde(default)]
    pub other_vms: Option<u32>,
    /// What `--tune` did; all facts above are as it left them. Null without it.
    #[serde(default)]
    pub tuned: Option<Vec<Setting>>,
    /// Versions as the programs say them.
    pub docker: Option<String>,
    pub containerd: Option<String>,
    pub runc: Option<String>,
    pub libvirt: Option<String>,
    pub qemu: Option<String>,
    /// Where a target has them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub podman: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crun: Option<String>,
}

impl Host {
    /// The processor's model, and what emulates it: words for wherever a host is named.
    pub fn processor(&self) -> Option<String> {
        match (self.cpu_model.as_deref(), self.emulated_processor()) {
            (Some(model), Some(emulated)) => Some(format!("{model}, {emulated}")),
            (model, emulated) => model.map(str::to_owned).or(emulated),
        }
    }

    /// `emulated processor (Bochs)`, which goes wherever a figure of this host stands; none on a real one.
    pub fn emulated_processor(&self) -> Option<String> {
        self.processor_emulator.as_deref().map(|emulator| format!("emulated processor ({emulator})"))
    }
}

/// The clock rates of CPUs that share one range.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Frequency {
    pub cpus: u32,
    pub min_khz: Option<u64>,
    pub max_khz: Option<u64>,
    /// Their mean, before the run.
    pub now_khz: Option<u64>,
}

/// A weakness of the processor and what the kernel does about it, in the kernel's words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mitigation {
    pub name: String,
    pub state: String,
}

/// One thing that `--tune` knows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setting {
    /// `governor`, `turbo`, `ksm`, `swappiness` or `caches`.
    pub name: String,
    /// What was there before, several where CPUs differ; null where there is no such setting.
    pub found: Option<String>,
    /// What holds for the run, though it may have held before; null where it could not be set.
    pub set: Option<String>,
    /// Why not, or not everywhere.
    pub why_not: Option<String>,
}

/// What else the host was doing, at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Noise {
    pub load_1m: Option<f64>,
    /// PSI `some avg10` of CPU, in percent.
    pub psi_cpu_some_avg10: Option<f64>,
    pub psi_io_some_avg10: Option<f64>,
    pub psi_memory_some_avg10: Option<f64>,
    /// CPU time that a hypervisor took from this host since its boot.
    pub steal_ns: Option<u64>,
}

/// What else went on during one sample: from just before it was requested until just before it was stopped.
/// Null where the host doesn't tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Interference {
    pub window_ns: u64,
    /// CPU time of all but the instance, its engine and the harness, in ns of one core.
    pub others_cpu_ns: Option<u64>,
    /// CPU time that a hypervisor took from this host.
    pub steal_ns: Option<u64>,
    /// Time in which some task on the host waited (PSI `some`), the instance's own among them.
    pub psi_cpu_ns: Option<u64>,
    pub psi_io_ns: Option<u64>,
    pub psi_memory_ns: Option<u64>,
    /// Times that a core was slowed down for its heat.
    pub thermal_throttles: Option<u64>,
    /// Time that a CPU quota on the harness's own cgroup held it back.
    pub quota_throttled_ns: Option<u64>,
    pub swapped_in_pages: Option<u64>,
    pub swapped_out_pages: Option<u64>,
    pub major_faults: Option<u64>,
    /// The fastest CPU's clock rate at the window's end.
    pub cpu_khz: Option<u64>,
}

/// The one root file system that every target used.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Image {
    /// sha256 over root file system and agent, lower-case hex.
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
#[serde(rename_all = "lowercase")]
pub enum Accelerator {
    /// Not a VM.
    None,
    /// Linux's KVM; [`Target::kvm`] says of which degree.
    Kvm,
    /// Emulated by QEMU.
    Tcg,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Target {
    pub name: String,
    pub kind: String,
    pub accelerator: Accelerator,
    /// Why this accelerator, in words; null for what is no VM.
    pub accelerator_reason: Option<String>,
    /// What KVM is on this host; null where nobody asked, where there is none, and in results of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kvm: Option<Kvm>,
    pub options: serde_json::Value,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    Ok,
    Failed,
    TimedOut,
}

/// What one instance gave.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
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
    /// How the boot phase divides, of a VM and of a container that systemd runs in; absent elsewhere, and in files of
    /// versions that did not look.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot_ns: Option<Boot>,
    pub memory_bytes: Memory,
    pub cpu_ns: Cpu,
    pub identity: Option<Identity>,
    /// Null where the instance could not be staged, and in files of versions that did not look.
    #[serde(default)]
    pub noise: Option<Interference>,
    /// Absent where the target can't say where its disk is, and in files of versions that did not look.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk: Option<Disk>,
    /// Absent where the instance was not asked, and in files of versions that did not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub isolation: Option<Isolation>,
}

/// The moments of one instance in ns since `requested`, all by the host's CLOCK_MONOTONIC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Timeline {
    /// Always 0.
    pub requested: u64,
    pub started: Option<u64>,
    pub agent: Option<u64>,
    pub ready: Option<u64>,
    pub stopping: Option<u64>,
    pub gone: Option<u64>,
}

/// Start-up cut into its phases, in ns; they add up to start-up exactly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Phases {
    /// requested -> the earlier of started and agent.
    pub engine: u64,
    /// -> agent.
    pub boot: u64,
    /// agent -> ready.
    pub launch: u64,
}

impl Timeline {
    /// requested -> ready, in ns.
    pub fn startup(&self) -> Option<u64> {
        self.ready
    }

    /// stopping -> gone, in ns.
    pub fn teardown(&self) -> Option<u64> {
        self.gone?.checked_sub(self.stopping?)
    }

    /// An engine's start call may return after the agent's hello; the hello then ends the engine
    /// phase and the boot phase is 0.
    pub fn phases(&self) -> Option<Phases> {
        let (agent, ready) = (self.agent?, self.ready?);
        let engine = self.started.map_or(agent, |started| started.min(agent));
        Some(Phases { engine, boot: agent - engine, launch: ready.checked_sub(agent)? })
    }
}

/// Memory of one instance in bytes, read after the settle time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
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
    #[serde(default)]
    pub guest_cache: Option<u64>,
    /// PSS of the engine's processes that exist for this instance alone (shim, QEMU); null for native.
    pub engine_pss: Option<u64>,
    /// PSS of every process that exists because of the instance.
    pub pss: Option<u64>,
    /// How much of `pss` is mapped files: page cache, not in the footprint.
    pub pss_file: Option<u64>,
    /// Growth of the engine's daemons' anonymous and shared PSS since before the instance (may shrink); null for
    /// native. Not in the footprint: a daemon doesn't give it back when the instance is gone.
    pub daemons: Option<i64>,
}

/// CPU time of one instance in ns of one core, except the two that say wall or window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Cpu {
    /// Host CPU time from requested to ready, engine daemons included.
    pub startup: Option<u64>,
    /// Host CPU time of the instance and its engine processes over the idle window, without the daemons.
    pub idle: Option<u64>,
    /// Wall time of the idle window.
    pub idle_window: Option<u64>,
    /// Wall time of the work command by the host's clock.
    pub work_wall: Option<u64>,
    /// Host CPU time of the instance and its engine processes over the work command, without the daemons.
    pub work_host: Option<u64>,
    /// CPU time of the work command as its own kernel accounts for it: in a VM, the guest's view.
    #[serde(default)]
    pub work_guest: Option<u64>,
}

/// Who ran where, as seen from inside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    pub image_digest: Option<String>,
    pub agent_digest: Option<String>,
    pub workload_digest: Option<String>,
    pub argv: Vec<String>,
    pub kernel_release: String,
    pub boot_id: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_add_up_whichever_of_started_and_agent_comes_first() {
        for started in [None, Some(10), Some(40), Some(90)] {
            let t = Timeline { started, agent: Some(40), ready: Some(100), ..Timeline::default() };
            let p = t.phases().unwrap();
            assert_eq!(p.engine + p.boot + p.launch, t.startup().unwrap());
            assert_eq!(p.engine, started.unwrap_or(40).min(40));
        }
    }

    #[test]
    fn an_instance_that_never_was_ready_has_no_phases() {
        assert_eq!(Timeline { agent: Some(4), ..Timeline::default() }.phases(), None);
    }
}
