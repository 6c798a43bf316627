//! Facts about the host, and what else it was doing.
//!
//! Nothing here fails: what can't be read is not known.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    str::FromStr,
};

use sysinfo::{CpuRefreshKind, MemoryRefreshKind, RefreshKind, System};

use super::{cgroup, process};
use crate::sample;

/// All facts but the versions of engines, with `noise_before` as of now.
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
        cgroup_version: cgroup::hierarchy().map_or(0, |hierarchy| hierarchy.version),
        noise_before: noise(),
        virtualised: Root::host().virtualised(cpuid_signature()),
        ..Root::host().facts()
    }
}

/// What else the host is doing now.
pub fn noise() -> sample::Noise {
    Root::host().noise()
}

/// Where /proc, /sys and /etc are.
struct Root(PathBuf);

impl Root {
    fn host() -> Self {
        Root("/".into())
    }

    fn text(&self, path: impl AsRef<Path>) -> Option<String> {
        let text = fs::read_to_string(self.0.join(path)).ok()?;
        Some(text.trim().to_owned()).filter(|text| !text.is_empty())
    }

    fn number<T: FromStr>(&self, path: &str) -> Option<T> {
        self.text(path)?.parse().ok()
    }

    fn flag(&self, path: &str) -> Option<bool> {
        Some(self.number::<u8>(path)? != 0)
    }

    /// What sysinfo does not know.
    fn facts(&self) -> sample::Host {
        sample::Host {
            boot_id: self.text("proc/sys/kernel/random/boot_id").unwrap_or_default(),
            clock_source: self.text("sys/devices/system/clocksource/clocksource0/current_clocksource"),
            governor: self.governor(),
            turbo: self.turbo(),
            smt: self.flag("sys/devices/system/cpu/smt/active"),
            ksm: self.number::<u8>("sys/kernel/mm/ksm/run").map(|run| run == 1),
            thp: self.thp(),
            ..sample::Host::default()
        }
    }

    /// The governors of all frequency policies; more than one on some hosts.
    fn governor(&self) -> Option<String> {
        let policies = fs::read_dir(self.0.join("sys/devices/system/cpu/cpufreq")).ok()?;
        let governors: BTreeSet<String> = policies
            .flatten()
            .filter_map(|policy| self.text(policy.path().join("scaling_governor")))
            .collect();
        let governors = Vec::from_iter(governors).join(", ");
        Some(governors).filter(|governors| !governors.is_empty())
    }

    fn turbo(&self) -> Option<bool> {
        let intel = self.flag("sys/devices/system/cpu/intel_pstate/no_turbo").map(|off| !off);
        intel.or_else(|| self.flag("sys/devices/system/cpu/cpufreq/boost"))
    }

    /// `always [madvise] never`: the one in brackets holds.
    fn thp(&self) -> Option<String> {
        let modes = self.text("sys/kernel/mm/transparent_hugepage/enabled")?;
        Some(modes.split_once('[')?.1.split_once(']')?.0.to_owned())
    }

    /// `signature` is what the processor says through CPUID, if it can be asked.
    fn virtualised(&self, signature: Option<String>) -> Option<String> {
        let cpuinfo = self.text("proc/cpuinfo").unwrap_or_default();
        let flagged = value(&cpuinfo, "flags")
            .map(|flags| flags.split_ascii_whitespace().any(|flag| flag == "hypervisor"));
        let name = self.text("sys/hypervisor/type").or_else(|| signature.map(|text| known(&text).to_owned()));
        match flagged {
            Some(true) => {
                let product = self.text("sys/class/dmi/id/product_name");
                let vendor = self.text("sys/class/dmi/id/sys_vendor");
                let board: Vec<String> = vendor.into_iter().chain(product).collect();
                let name = name.unwrap_or_else(|| "unknown hypervisor".into());
                Some(if board.is_empty() { name } else { format!("{name} ({})", board.join(" ")) })
            }
            Some(false) => Some("none".into()),
            // Other processors have no such flag; only a Xen guest gives itself away.
            None => name,
        }
    }

    fn noise(&self) -> sample::Noise {
        let pressure = |resource: &str| {
            let text = self.text(Path::new("proc/pressure").join(resource))?;
            let some = text.lines().find_map(|line| line.strip_prefix("some "))?;
            some.split(' ').find_map(|field| field.strip_prefix("avg10="))?.parse().ok()
        };
        sample::Noise {
            load_1m: self.text("proc/loadavg").and_then(|text| text.split(' ').next()?.parse().ok()),
            psi_cpu_some_avg10: pressure("cpu"),
            psi_io_some_avg10: pressure("io"),
            psi_memory_some_avg10: pressure("memory"),
            steal_ns: self.steal_ns(),
        }
    }

    /// The eighth number of the line that sums up all processors, in clock ticks.
    fn steal_ns(&self) -> Option<u64> {
        let stat = self.text("proc/stat")?;
        let ticks: u64 =
            stat.lines().next()?.strip_prefix("cpu ")?.split_ascii_whitespace().nth(7)?.parse().ok()?;
        Some(ticks * process::tick_ns())
    }
}

/// The value of the first line that starts with exactly this key.
fn value(text: &str, key: &str) -> Option<String> {
    text.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        (name.trim() == key).then(|| value.trim().to_owned())
    })
}

/// The usual name behind a CPUID signature.
fn known(signature: &str) -> &str {
    match signature {
        "KVMKVMKVM" | "Linux KVM Hv" => "KVM",
        "TCGTCGTCGTCG" => "QEMU TCG (emulated)",
        "VMwareVMware" => "VMware",
        "Microsoft Hv" => "Hyper-V",
        "XenVMMXenVMM" => "Xen",
        "VBoxVBoxVBox" => "VirtualBox",
        "bhyve bhyve " => "bhyve",
        "ACRNACRNACRN" => "ACRN",
        other => other,
    }
}

/// What the hypervisor leaf of CPUID says; nonsense on bare metal, so ask the `hypervisor` flag first.
#[cfg(target_arch = "x86_64")]
fn cpuid_signature() -> Option<String> {
    let leaf = std::arch::x86_64::__cpuid(0x4000_0000);
    let bytes = [leaf.ebx, leaf.ecx, leaf.edx].map(u32::to_le_bytes).concat();
    let text = String::from_utf8(bytes).ok()?;
    let text = text.trim_end_matches('\0');
    (!text.is_empty() && text.chars().all(|c| c.is_ascii_graphic() || c == ' ')).then(|| text.to_owned())
}

#[cfg(not(target_arch = "x86_64"))]
fn cpuid_signature() -> Option<String> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(files: &[(&str, &str)]) -> (tempfile::TempDir, Root) {
        let dir = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let root = Root(dir.path().to_owned());
        (dir, root)
    }

    const CPUINFO: &str = "processor\t: 0\nmodel\t\t: 17\nmodel name\t: AMD EPYC\nflags\t\t: fpu hypervisor sse\n\n\
                           processor\t: 1\nmodel\t\t: 17\nmodel name\t: AMD EPYC\nflags\t\t: fpu hypervisor sse\n";

    #[test]
    fn what_the_files_say_is_what_is_recorded() {
        let (_dir, root) = host(&[
            ("proc/sys/kernel/random/boot_id", "4d2f\n"),
            ("sys/devices/system/cpu/cpufreq/policy0/scaling_governor", "powersave\n"),
            ("sys/devices/system/cpu/cpufreq/policy1/scaling_governor", "performance\n"),
            ("sys/devices/system/cpu/cpufreq/policy2/scaling_governor", "powersave\n"),
            ("sys/devices/system/cpu/intel_pstate/no_turbo", "1\n"),
            ("sys/devices/system/cpu/smt/active", "1\n"),
            ("sys/kernel/mm/ksm/run", "2\n"),
            ("sys/kernel/mm/transparent_hugepage/enabled", "always [madvise] never\n"),
        ]);
        let facts = root.facts();
        assert_eq!(facts.boot_id, "4d2f");
        assert_eq!(facts.governor.as_deref(), Some("performance, powersave"));
        assert_eq!((facts.turbo, facts.smt, facts.ksm), (Some(false), Some(true), Some(false)));
        assert_eq!(facts.thp.as_deref(), Some("madvise"));
    }

    #[test]
    fn what_is_not_there_is_not_known_rather_than_off() {
        let (_dir, root) = host(&[]);
        let facts = root.facts();
        assert_eq!((facts.turbo, facts.smt, facts.ksm), (None, None, None));
        assert_eq!((facts.governor, facts.thp, facts.clock_source), (None, None, None));
        assert_eq!(root.virtualised(None), None);
        assert_eq!(root.noise(), sample::Noise::default());
    }

    #[test]
    fn boost_is_asked_where_there_is_no_intel_driver() {
        let (_dir, root) = host(&[("sys/devices/system/cpu/cpufreq/boost", "1\n")]);
        assert_eq!(root.turbo(), Some(true));
    }

    #[test]
    fn a_hypervisor_is_named_by_cpuid_and_board() {
        let (_dir, root) = host(&[("proc/cpuinfo", CPUINFO), ("sys/class/dmi/id/sys_vendor", "QEMU\n")]);
        assert_eq!(root.virtualised(Some("KVMKVMKVM".into())).as_deref(), Some("KVM (QEMU)"));
        assert_eq!(root.virtualised(None).as_deref(), Some("unknown hypervisor (QEMU)"));
    }

    #[test]
    fn bare_metal_is_not_fooled_by_what_cpuid_says_there() {
        let (_dir, root) = host(&[("proc/cpuinfo", &CPUINFO.replace("hypervisor ", ""))]);
        assert_eq!(root.virtualised(Some("GenuineJunk".into())).as_deref(), Some("none"));
    }

    #[test]
    fn noise_is_read_from_load_pressure_and_steal() {
        let (_dir, root) = host(&[
            ("proc/loadavg", "1.25 0.80 0.60 2/345 6789\n"),
            (
                "proc/pressure/cpu",
                "some avg10=8.51 avg60=2.17 avg300=1.75 total=27590847\nfull avg10=0.00 avg60=0.00\n",
            ),
            ("proc/pressure/io", "some avg10=0.84 avg60=0.25 avg300=0.49 total=7218902\n"),
            ("proc/stat", "cpu  8682 35715 13000 167707 1141 0 159 19 0 0\ncpu0 1 2 3 4 5 6 7 8 9 0\n"),
        ]);
        let noise = root.noise();
        assert_eq!(noise.load_1m, Some(1.25));
        assert_eq!((noise.psi_cpu_some_avg10, noise.psi_io_some_avg10), (Some(8.51), Some(0.84)));
        assert_eq!(noise.psi_memory_some_avg10, None);
        assert_eq!(noise.steal_ns, Some(19 * process::tick_ns()));
    }

    #[test]
    fn this_very_host_has_processors_memory_and_a_kernel() {
        let facts = facts();
        assert!(facts.cpus > 0 && facts.memory_bytes > 0);
        assert!(!facts.kernel_release.is_empty() && !facts.boot_id.is_empty());
        assert!(facts.noise_before.load_1m.is_some());
    }
}
