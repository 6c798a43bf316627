//! Facts about the host, and its other activity.
//!
//! Nothing here fails: a fact that can't be read is unknown. Two [`Reading`]s give the activity between them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::PathBuf,
};

use sysinfo::{CpuRefreshKind, MemoryRefreshKind, RefreshKind, System};

use super::{cgroup, process};
use crate::sample;

mod hypervisor;
mod memory;
pub(crate) mod noise;
pub(crate) mod root;

use hypervisor::cpuid_signature;
pub use memory::memory;
pub use noise::Reading;
use root::{Root, value};

/// The longest kernel text that is kept, in bytes, and the largest number of texts of a kind.
const LONGEST: usize = 200;
const MOST: usize = 64;

/// All facts but the engines' versions, with `noise_before` as of now.
pub fn facts() -> sample::Host {
    let wanted = RefreshKind::nothing()
        .with_cpu(CpuRefreshKind::nothing())
        .with_memory(MemoryRefreshKind::everything());
    let system = System::new_with_specifics(wanted).ok();
    let cpus = system.as_ref().map(System::cpus).unwrap_or_default();
    sample::Host {
        hostname: System::host_name().ok(),
        os: System::long_os_version().ok(),
        kernel_release: System::kernel_version().unwrap_or_default(),
        cpu_model: cpus.first().map(|cpu| cpu.brand().trim().to_owned()).filter(|model| !model.is_empty()),
        cpus: u32::try_from(cpus.len()).unwrap_or(u32::MAX),
        memory_bytes: system.as_ref().map_or(0, System::total_memory),
        swap_bytes: system.as_ref().map_or(0, System::total_swap),
        swap_used_bytes: system.as_ref().map(System::used_swap),
        cgroup_version: cgroup::hierarchy().map_or(0, |hierarchy| hierarchy.version),
        noise_before: noise(),
        virtualised: Root::host().virtualised(cpuid_signature()),
        processor_emulator: Root::host().processor_emulator(cpuid_signature()),
        ..Root::host().facts()
    }
}

/// The kernel's random id of this boot; empty where unknown.
pub fn boot_id() -> String {
    Root::host().boot_id()
}

/// The host's other activity now.
pub fn noise() -> sample::Noise {
    Root::host().noise()
}

impl Root {
    /// The facts that sysinfo does not have.
    pub(crate) fn facts(&self) -> sample::Host {
        sample::Host {
            boot_id: self.boot_id(),
            clock_source: self.text("sys/devices/system/clocksource/clocksource0/current_clocksource"),
            governor: self.governor(),
            turbo: self.turbo(),
            smt: self.flag("sys/devices/system/cpu/smt/active"),
            ksm: self.number::<u8>("sys/kernel/mm/ksm/run").map(|run| run == 1),
            ksm_pages: self.number("sys/kernel/mm/ksm/pages_sharing"),
            thp: self.thp(),
            frequencies: self.frequencies(),
            microcode: self.text("proc/cpuinfo").and_then(|cpuinfo| value(&cpuinfo, "microcode")),
            mitigations: self.mitigations(),
            numa_nodes: self.numa_nodes(),
            nested: self.nested(),
            swappiness: self.number("proc/sys/vm/swappiness"),
            ..sample::Host::default()
        }
    }

    fn boot_id(&self) -> String {
        self.text("proc/sys/kernel/random/boot_id").unwrap_or_default()
    }

    /// The subdirectories of `dir` with names of `prefix` and a number.
    fn numbered(&self, dir: &str, prefix: &str) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.0.join(dir)).into_iter().flatten().flatten();
        let is_one = |name: &str| {
            name.strip_prefix(prefix).is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
        };
        entries.filter(|entry| entry.file_name().to_str().is_some_and(is_one)).map(|e| e.path()).collect()
    }

    /// The frequency policies, each of one CPU or of several that share a clock.
    fn policies(&self) -> Vec<PathBuf> {
        self.numbered("sys/devices/system/cpu/cpufreq", "policy")
    }

    /// The governors of all frequency policies; more than one on some hosts.
    fn governor(&self) -> Option<String> {
        let policies = self.policies();
        let governors: BTreeSet<String> =
            policies.iter().filter_map(|policy| self.text(policy.join("scaling_governor"))).collect();
        let governors = Vec::from_iter(governors).join(", ");
        Some(governors).filter(|governors| !governors.is_empty())
    }

    fn turbo(&self) -> Option<bool> {
        let intel = self.flag("sys/devices/system/cpu/intel_pstate/no_turbo").map(|off| !off);
        let all = || self.flag("sys/devices/system/cpu/cpufreq/boost");
        intel.or_else(all).or_else(|| self.turbo_of_any_policy())
    }

    /// For drivers with a switch per policy instead of one for all.
    fn turbo_of_any_policy(&self) -> Option<bool> {
        let policies = fs::read_dir(self.0.join("sys/devices/system/cpu/cpufreq")).ok()?;
        policies
            .flatten()
            .filter_map(|policy| self.text(policy.path().join("boost")))
            .map(|boost| boost != "0")
            .reduce(|a, b| a || b)
    }

    /// Without policies, as in most guests, the clock rate of /proc/cpuinfo.
    fn frequencies(&self) -> Vec<sample::Frequency> {
        let mut ranges: BTreeMap<[Option<u64>; 2], (u32, Vec<u64>)> = BTreeMap::new();
        for policy in self.policies() {
            let khz = |file: &str| self.text(policy.join(file))?.parse().ok();
            let cpus = self.text(policy.join("related_cpus")).map_or(1, |cpus| cpus.split(' ').count());
            let range = ranges.entry(["cpuinfo_min_freq", "cpuinfo_max_freq"].map(khz)).or_default();
            range.0 += cpus as u32;
            range.1.extend(khz("scaling_cur_freq"));
        }
        let mean = |khz: &[u64]| khz.iter().sum::<u64>().checked_div(khz.len() as u64);
        if ranges.is_empty() {
            let khz = self.cpuinfo_khz();
            let one = sample::Frequency { cpus: khz.len() as u32, now_khz: mean(&khz), ..Default::default() };
            return if khz.is_empty() { Vec::new() } else { vec![one] };
        }
        ranges
            .into_iter()
            .map(|([min_khz, max_khz], (cpus, now))| sample::Frequency {
                cpus,
                min_khz,
                max_khz,
                now_khz: mean(&now),
            })
            .collect()
    }

    /// Each CPU's clock rate from /proc/cpuinfo, in kHz.
    fn cpuinfo_khz(&self) -> Vec<u64> {
        let cpuinfo = self.text("proc/cpuinfo").unwrap_or_default();
        let rate = |line: &str| {
            let (key, mhz) = line.split_once(':')?;
            let mhz: f64 = mhz.trim().parse().ok().filter(|_| key.trim() == "cpu MHz")?;
            Some((mhz * 1000.0).round() as u64)
        };
        cpuinfo.lines().filter_map(rate).collect()
    }

    fn mitigations(&self) -> Vec<sample::Mitigation> {
        let dir = self.0.join("sys/devices/system/cpu/vulnerabilities");
        let entries = fs::read_dir(dir).into_iter().flatten().flatten();
        let read = |entry: fs::DirEntry| {
            let name = bounded(entry.file_name().into_string().ok()?);
            Some(sample::Mitigation { name, state: bounded(self.text(entry.path())?) })
        };
        let mut found: Vec<_> = entries.filter_map(read).collect();
        found.sort_by(|a, b| a.name.cmp(&b.name));
        found.truncate(MOST);
        found
    }

    fn numa_nodes(&self) -> Option<u32> {
        let nodes = self.numbered("sys/devices/system/node", "node").len();
        u32::try_from(nodes).ok().filter(|nodes| *nodes > 0)
    }

    /// Intel's module says Y or N, AMD's 1 or 0.
    fn nested(&self) -> Option<bool> {
        let param = |module: &str| self.text(format!("sys/module/{module}/parameters/nested"));
        let said = param("kvm_intel").or_else(|| param("kvm_amd"))?;
        Some(matches!(said.as_str(), "Y" | "y" | "1"))
    }

    /// `always [madvise] never`: the one in brackets is in force.
    fn thp(&self) -> Option<String> {
        let modes = self.text("sys/kernel/mm/transparent_hugepage/enabled")?;
        Some(modes.split_once('[')?.1.split_once(']')?.0.to_owned())
    }
}

/// Cuts a text at a limit that no current kernel reaches.
fn bounded(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(LONGEST));
    text
}

#[cfg(test)]
mod tests;
