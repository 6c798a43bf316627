//! The host's properties, and what else it did during the run.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::kind::Program;

/// The host's hardware, kernel and settings, and its load around the run.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Host {
    /// Its name, as `uname -n` prints it.
    pub hostname: Option<String>,
    /// Distribution and release, as in `Linux (Debian GNU/Linux 12)`.
    pub os: Option<String>,
    /// As `uname -r` prints it.
    pub kernel_release: String,
    /// The kernel's random id of this boot.
    pub boot_id: String,
    /// The processor's model name.
    pub cpu_model: Option<String>,
    /// Logical CPUs, SMT siblings included.
    pub cpus: u32,
    /// One for each range of clock rates: one on most hosts, two or three where cores differ; empty where unknown.
    #[serde(default)]
    pub frequencies: Vec<Frequency>,
    /// The first CPU's microcode revision, as the kernel writes it.
    pub microcode: Option<String>,
    /// One for each processor weakness that the kernel lists, sorted by name.
    #[serde(default)]
    pub mitigations: Vec<Mitigation>,
    /// Memory nodes.
    pub numa_nodes: Option<u32>,
    /// Total RAM.
    pub memory_bytes: u64,
    /// Total swap space.
    pub swap_bytes: u64,
    /// Swap in use before the run.
    pub swap_used_bytes: Option<u64>,
    /// The kernel's `vm.swappiness`.
    pub swappiness: Option<u32>,
    /// The hypervisor that the host itself runs under, `none` on bare metal.
    pub virtualised: Option<String>,
    /// The emulator of the host's own processor, as in `Bochs` or `QEMU TCG`: this run's figures then say nothing
    /// about real hardware. Null where there is no sign of an emulator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub processor_emulator: Option<String>,
    /// Whether KVM on this host lets its guests run guests of their own.
    pub nested: Option<bool>,
    /// The kernel's clock source, as in `tsc` or `kvm-clock`.
    pub clock_source: Option<String>,
    /// CPU frequency governor; several, separated by commas, where CPUs differ.
    pub governor: Option<String>,
    /// Whether the processor may exceed its base clock rate.
    pub turbo: Option<bool>,
    /// Whether SMT (hyper-threading) is on.
    pub smt: Option<bool>,
    /// Whether kernel same-page merging (KSM) is on.
    pub ksm: Option<bool>,
    /// Pages that KSM saves, before the run.
    pub ksm_pages: Option<u64>,
    /// Transparent huge pages: `always`, `madvise` or `never`.
    pub thp: Option<String>,
    /// 1 (legacy, hybrid included), 2 (unified), or 0 where no cgroup hierarchy is mounted.
    #[cfg_attr(test, schemars(range(max = 2)))]
    pub cgroup_version: u8,
    /// The host's load before the first trial.
    pub noise_before: Noise,
    /// The host's load after the last trial; null where the run did not get there.
    pub noise_after: Option<Noise>,
    /// Containers that ran before the first instance of this run; null where no target of the run can ask.
    pub other_containers: Option<u32>,
    /// VMs that ran before the first instance of this run; null where no target of the run can ask.
    pub other_vms: Option<u32>,
    /// The settings of `--tune`; the properties above include them. Null without `--tune`.
    pub tuned: Option<Vec<Setting>>,
    /// Version by program (`docker`, `runc`, `qemu`, ...) as the program reports it, for those that this run's targets
    /// use.
    pub programs: BTreeMap<String, String>,
}

impl Host {
    /// Records a program's version. The first report wins; `None` is ignored.
    pub fn report(&mut self, program: Program, version: Option<String>) {
        if let Some(version) = version {
            self.programs.entry(program.key().to_owned()).or_insert(version);
        }
    }

    /// A program's version as the program reports it; `None` where no target of the run uses it.
    pub fn version(&self, program: Program) -> Option<&str> {
        self.programs.get(program.key()).map(String::as_str)
    }

    /// The processor's model and its emulator, for every text that names a host.
    pub fn processor(&self) -> Option<String> {
        match (self.cpu_model.as_deref(), self.emulated_processor()) {
            (Some(model), Some(emulated)) => Some(format!("{model}, {emulated}")),
            (model, emulated) => model.map(str::to_owned).or(emulated),
        }
    }

    /// `emulated processor (Bochs)`, for every text with a figure of this host; `None` on a real processor.
    pub fn emulated_processor(&self) -> Option<String> {
        self.processor_emulator.as_deref().map(|emulator| format!("emulated processor ({emulator})"))
    }
}

/// The clock rates of CPUs that share one range.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Frequency {
    /// CPUs in this range.
    pub cpus: u32,
    /// Lowest clock rate of the hardware.
    pub min_khz: Option<u64>,
    /// Highest clock rate of the hardware, turbo included.
    pub max_khz: Option<u64>,
    /// Mean of the CPUs' clock rates before the run.
    pub now_khz: Option<u64>,
}

/// A processor weakness and the kernel's mitigation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Mitigation {
    /// Name of the file in `/sys/devices/system/cpu/vulnerabilities`, as in `spectre_v2`.
    pub name: String,
    /// The file's text: the mitigation, `Vulnerable` or `Not affected`.
    pub state: String,
}

/// One setting that `--tune` changes for the run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Setting {
    /// `governor`, `turbo`, `ksm`, `swappiness` or `caches`.
    pub name: String,
    /// The value before, several where CPUs differ; null where the host has no such setting.
    pub found: Option<String>,
    /// The value during the run, changed or not; null where it could not be set.
    pub set: Option<String>,
    /// Why the value could not be set, or not on every CPU.
    pub why_not: Option<String>,
}

/// The host's load at one time.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Noise {
    /// Load average over one minute.
    pub load_1m: Option<f64>,
    /// PSI `some avg10` of CPU, in percent.
    #[cfg_attr(test, schemars(range(min = 0.0, max = 100.0)))]
    pub psi_cpu_some_avg10: Option<f64>,
    /// PSI `some avg10` of IO, in percent.
    #[cfg_attr(test, schemars(range(min = 0.0, max = 100.0)))]
    pub psi_io_some_avg10: Option<f64>,
    /// PSI `some avg10` of memory, in percent.
    #[cfg_attr(test, schemars(range(min = 0.0, max = 100.0)))]
    pub psi_memory_some_avg10: Option<f64>,
    /// CPU time that a hypervisor took from this host since its boot (steal).
    pub steal_ns: Option<u64>,
}

/// What else the host did during one sample: from just before the request until just before the stop. Null where the
/// host has no such counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Interference {
    /// Wall time that the counters below cover.
    pub window_ns: u64,
    /// CPU time of everything except the instance, its engine and the harness, in ns of one core.
    pub others_cpu_ns: Option<u64>,
    /// CPU time that a hypervisor took from this host (steal).
    pub steal_ns: Option<u64>,
    /// Time in which some task on the host waited for a CPU (PSI `some`), the instance's own tasks included.
    pub psi_cpu_ns: Option<u64>,
    /// Time in which some task on the host waited for IO.
    pub psi_io_ns: Option<u64>,
    /// Time in which some task on the host waited for memory.
    pub psi_memory_ns: Option<u64>,
    /// How often the processor slowed a core or package down because of heat.
    pub thermal_throttles: Option<u64>,
    /// Time for which a CPU quota on its cgroup throttled the harness.
    pub quota_throttled_ns: Option<u64>,
    /// Pages that the host read from swap.
    pub swapped_in_pages: Option<u64>,
    /// Pages that the host wrote to swap.
    pub swapped_out_pages: Option<u64>,
    /// Page faults on the host that waited for a disk.
    pub major_faults: Option<u64>,
    /// The fastest CPU's clock rate at the end of the window.
    pub cpu_khz: Option<u64>,
}
