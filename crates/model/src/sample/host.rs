//! What the host is, and what else it did.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::kind::Program;

/// What the host is and what else it was doing.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
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
    pub microcode: Option<String>,
    #[serde(default)]
    pub mitigations: Vec<Mitigation>,
    pub numa_nodes: Option<u32>,
    pub memory_bytes: u64,
    pub swap_bytes: u64,
    pub swap_used_bytes: Option<u64>,
    pub swappiness: Option<u32>,
    /// The hypervisor that the host itself runs under, `none` on bare metal.
    pub virtualised: Option<String>,
    /// What emulates the host's own processor, as in `Bochs` or `QEMU TCG`: no figure of this run is a speed. Null where
    /// nothing shows that one is emulated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub processor_emulator: Option<String>,
    /// Whether KVM here lets its guests run guests of their own.
    pub nested: Option<bool>,
    pub clock_source: Option<String>,
    pub governor: Option<String>,
    pub turbo: Option<bool>,
    pub smt: Option<bool>,
    pub ksm: Option<bool>,
    /// How many pages KSM saves now.
    pub ksm_pages: Option<u64>,
    /// Transparent huge pages: `always`, `madvise` or `never`.
    pub thp: Option<String>,
    /// `1` (legacy, hybrid included), `2` (unified), or 0 where none is mounted.
    #[cfg_attr(test, schemars(range(max = 2)))]
    pub cgroup_version: u8,
    pub noise_before: Noise,
    pub noise_after: Option<Noise>,
    /// Running before the first instance of this run; null where the run has no target that can ask.
    pub other_containers: Option<u32>,
    pub other_vms: Option<u32>,
    /// What `--tune` did; all facts above are as it left them. Null without it.
    pub tuned: Option<Vec<Setting>>,
    /// Versions by program (`docker`, `runc`, `qemu`, ...) as the programs report them: those that this run's targets use.
    pub programs: BTreeMap<String, String>,
}

impl Host {
    /// Takes down a program's version; the first that is reported holds, and nothing is not one.
    pub fn report(&mut self, program: Program, version: Option<String>) {
        if let Some(version) = version {
            self.programs.entry(program.key().to_owned()).or_insert(version);
        }
    }

    /// As the program reports it; `None` where no target of the run uses it.
    pub fn version(&self, program: Program) -> Option<&str> {
        self.programs.get(program.key()).map(String::as_str)
    }

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
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Frequency {
    pub cpus: u32,
    pub min_khz: Option<u64>,
    pub max_khz: Option<u64>,
    /// Their mean, before the run.
    pub now_khz: Option<u64>,
}

/// A weakness of the processor and what the kernel does about it, in the kernel's words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Mitigation {
    pub name: String,
    pub state: String,
}

/// One thing that `--tune` knows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
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
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Noise {
    pub load_1m: Option<f64>,
    /// PSI `some avg10` of CPU, in percent.
    #[cfg_attr(test, schemars(range(min = 0.0, max = 100.0)))]
    pub psi_cpu_some_avg10: Option<f64>,
    #[cfg_attr(test, schemars(range(min = 0.0, max = 100.0)))]
    pub psi_io_some_avg10: Option<f64>,
    #[cfg_attr(test, schemars(range(min = 0.0, max = 100.0)))]
    pub psi_memory_some_avg10: Option<f64>,
    /// CPU time that a hypervisor took from this host since its boot.
    pub steal_ns: Option<u64>,
}

/// What else went on during one sample: from just before it was requested until just before it was stopped.
/// Null where the host doesn't tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
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
