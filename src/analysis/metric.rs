//! The figures that are compared, by their published names.

pub use crate::scenario::Unit;
use crate::{
    sample::{Outcome, Sample},
    scenario,
};

/// One figure of an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Metric {
    /// requested -> ready, ns.
    Startup,
    /// requested -> the earlier of started and agent, ns.
    Engine,
    /// That -> agent, ns.
    Boot,
    /// Of the boot phase, ns: what was before the kernel's start by the guest's clock.
    Firmware,
    /// Kernel start -> the initrd's first program, ns.
    Kernel,
    /// -> systemd, or with an agent as that program -> agent, ns.
    Initrd,
    /// systemd's start -> that of the agent's unit, ns.
    Userspace,
    /// -> agent, ns.
    Unit,
    /// agent -> ready, ns.
    Launch,
    /// stopping -> gone, ns.
    Teardown,
    /// What the host would get back, without page cache, bytes.
    Footprint,
    /// Footprint less the baseline's footprint of the same round, bytes; may be negative.
    Overhead,
    /// Resident set of the workload as seen beside it, bytes.
    Workload,
    /// PSS of the engine's processes that exist for the instance alone, bytes.
    EngineMemory,
    /// Page cache charged to the instance's cgroup, bytes; not in the footprint.
    PageCache,
    /// Page cache of a VM's own kernel, as the guest has it, bytes; in the footprint.
    GuestCache,
    /// Growth of the engine's daemons, bytes; may be negative.
    Daemons,
    /// Host CPU time from requested to ready, ns of one core.
    CpuStartup,
    /// Host CPU time over the idle window, as a share of one core.
    CpuIdle,
    /// Wall time of the work command, ns.
    CpuWork,
    /// Host CPU time over the work command, ns of one core.
    CpuWorkHost,
    /// CPU time of the work command as its own kernel accounts for it, ns.
    CpuWorkGuest,
}

impl Metric {
    pub const ALL: [Metric; 22] = [
        Metric::Startup,
        Metric::Engine,
        Metric::Boot,
        Metric::Firmware,
        Metric::Kernel,
        Metric::Initrd,
        Metric::Userspace,
        Metric::Unit,
        Metric::Launch,
        Metric::Teardown,
        Metric::Footprint,
        Metric::Overhead,
        Metric::Workload,
        Metric::EngineMemory,
        Metric::PageCache,
        Metric::GuestCache,
        Metric::Daemons,
        Metric::CpuStartup,
        Metric::CpuIdle,
        Metric::CpuWork,
        Metric::CpuWorkHost,
        Metric::CpuWorkGuest,
    ];

    /// Its name in claims and exports.
    pub fn name(self) -> &'static str {
        match self {
            Metric::Startup => "startup",
            Metric::Engine => "startup.engine",
            Metric::Boot => "startup.boot",
            Metric::Firmware => "startup.firmware",
            Metric::Kernel => "startup.kernel",
            Metric::Initrd => "startup.initrd",
            Metric::Userspace => "startup.userspace",
            Metric::Unit => "startup.unit",
            Metric::Launch => "startup.launch",
            Metric::Teardown => "teardown",
            Metric::Footprint => "memory.footprint",
            Metric::Overhead => "memory.overhead",
            Metric::Workload => "memory.workload",
            Metric::EngineMemory => "memory.engine",
            Metric::PageCache => "memory.cache",
            Metric::GuestCache => "memory.guest_cache",
            Metric::Daemons => "memory.daemons",
            Metric::CpuStartup => "cpu.startup",
            Metric::CpuIdle => "cpu.idle",
            Metric::CpuWork => "cpu.work",
            Metric::CpuWorkHost => "cpu.work_host",
            Metric::CpuWorkGuest => "cpu.work_guest",
        }
    }

    pub fn from_name(name: &str) -> Option<Metric> {
        Metric::ALL.into_iter().find(|m| m.name() == name)
    }

    pub fn unit(self) -> Unit {
        scenario::unit_of(self.name()).expect("the list of metrics is the scenario's: a test compares them")
    }

    /// The sample's own value in the metric's unit; `None` where the target can't give it. Overhead
    /// needs the baseline's sample of the round and is `None` here.
    pub fn of(self, sample: &Sample) -> Option<f64> {
        let (time, memory, cpu) = (&sample.timeline_ns, &sample.memory_bytes, &sample.cpu_ns);
        let whole = |v: Option<u64>| v.map(|v| v as f64);
        match self {
            Metric::Startup => whole(time.startup()),
            Metric::Engine => whole(time.phases().map(|p| p.engine)),
            Metric::Boot => whole(time.phases().map(|p| p.boot)),
            Metric::Firmware => whole(sample.boot_ns.as_ref().and_then(|b| b.firmware)),
            Metric::Kernel => whole(sample.boot_ns.as_ref().and_then(|b| b.kernel)),
            Metric::Initrd => whole(sample.boot_ns.as_ref().and_then(|b| b.initrd)),
            Metric::Userspace => whole(sample.boot_ns.as_ref().and_then(|b| b.userspace)),
            Metric::Unit => whole(sample.boot_ns.as_ref().and_then(|b| b.unit)),
            Metric::Launch => whole(time.phases().map(|p| p.launch)),
            Metric::Teardown => whole(time.teardown()),
            Metric::Footprint => whole(memory.footprint),
            Metric::Overhead => None,
            Metric::Workload => whole(memory.workload_rss),
            Metric::EngineMemory => whole(memory.engine_pss),
            Metric::PageCache => whole(memory.cgroup_file),
            Metric::GuestCache => whole(memory.guest_cache),
            Metric::Daemons => memory.daemons.map(|v| v as f64),
            Metric::CpuStartup => whole(cpu.startup),
            Metric::CpuIdle => {
                let window = cpu.idle_window.filter(|w| *w > 0)?;
                Some(cpu.idle? as f64 / window as f64)
            }
            Metric::CpuWork => whole(cpu.work_wall),
            Metric::CpuWorkHost => whole(cpu.work_host),
            Metric::CpuWorkGuest => whole(cpu.work_guest),
        }
    }
}

/// True for a sample that figures are taken from: it went well and was no warm-up.
pub fn counts(sample: &Sample) -> bool {
    !sample.warmup && sample.outcome == Outcome::Ok
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_is_found_by_its_own_name() {
        for metric in Metric::ALL {
            assert_eq!(Metric::from_name(metric.name()), Some(metric));
        }
        assert_eq!(Metric::from_name("startup.nothing"), None);
    }

    #[test]
    fn metrics_are_those_that_scenarios_know() {
        assert_eq!(Metric::ALL.map(Metric::name), scenario::METRICS.map(|(name, _)| name));
    }
}
