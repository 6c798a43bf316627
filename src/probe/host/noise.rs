//! The host's other activity: now, and between two readings around a sample.
//!
//! The CPU time of other processes is the processors' busy time without that of the instance's meter (with its engine
//! and daemons) and of the harness. The kernel counts busy time in clock ticks per CPU, so the figure is meaningful
//! from some tenths of a second on. PSI can't be divided like that: an instance that waits for its own disk raises it
//! too.

use std::{path::Path, str::FromStr, time::Instant};

use rustix::time::{ClockId, clock_gettime};

use super::{
    super::cgroup::{Mounts, Places, UNIFIED},
    Root, process,
};
use crate::sample;

/// All counters at one time; two of them make a [`sample::Interference`].
#[derive(Debug, Clone)]
pub struct Reading {
    at: Instant,
    harness_cpu_ns: u64,
    totals: Totals,
}

/// The kernel's counters since boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Totals {
    busy_ns: Option<u64>,
    steal_ns: Option<u64>,
    psi_cpu_ns: Option<u64>,
    psi_io_ns: Option<u64>,
    psi_memory_ns: Option<u64>,
    thermal_throttles: Option<u64>,
    quota_throttled_ns: Option<u64>,
    swapped_in_pages: Option<u64>,
    swapped_out_pages: Option<u64>,
    major_faults: Option<u64>,
}

impl Reading {
    /// Reads some twenty small files, and two more per CPU. Starts no process.
    pub fn now() -> Self {
        let totals = Root::host().totals();
        let harness_cpu_ns = harness_cpu_ns();
        Reading {
            at: Instant::now(),
            harness_cpu_ns,
            totals: Totals { quota_throttled_ns: quota_throttled_ns(), ..totals },
        }
    }

    /// The activity from this reading until now. `instance_cpu_ns` is the instance's CPU time in that window by its
    /// meter; without it the others' CPU time is unknown.
    pub fn until_now(&self, instance_cpu_ns: Option<u64>) -> sample::Interference {
        let now = Reading::now();
        let interference = self.until(&now, instance_cpu_ns);
        sample::Interference { cpu_khz: Root::host().cpu_khz(), ..interference }
    }

    fn until(&self, end: &Reading, instance_cpu_ns: Option<u64>) -> sample::Interference {
        let (from, to) = (&self.totals, &end.totals);
        // A counter that fell was reset, for example by a CPU that went offline.
        let grown = |of: fn(&Totals) -> Option<u64>| of(to)?.checked_sub(of(from)?);
        let harness = end.harness_cpu_ns.saturating_sub(self.harness_cpu_ns);
        // Ticks are coarser than nanoseconds, so the own share may seem larger than the sum.
        let others = |busy: u64, instance: u64| busy.saturating_sub(instance + harness);
        sample::Interference {
            window_ns: end.at.duration_since(self.at).as_nanos() as u64,
            others_cpu_ns: grown(|t| t.busy_ns).zip(instance_cpu_ns).map(|(busy, own)| others(busy, own)),
            steal_ns: grown(|t| t.steal_ns),
            psi_cpu_ns: grown(|t| t.psi_cpu_ns),
            psi_io_ns: grown(|t| t.psi_io_ns),
            psi_memory_ns: grown(|t| t.psi_memory_ns),
            thermal_throttles: grown(|t| t.thermal_throttles),
            quota_throttled_ns: grown(|t| t.quota_throttled_ns),
            swapped_in_pages: grown(|t| t.swapped_in_pages),
            swapped_out_pages: grown(|t| t.swapped_out_pages),
            major_faults: grown(|t| t.major_faults),
            cpu_khz: None,
        }
    }
}

/// CPU times since boot, of all processors together.
pub(super) struct CpuTimes {
    busy_ns: u64,
    steal_ns: u64,
}

impl Root {
    pub(crate) fn noise(&self) -> sample::Noise {
        let pressure = |resource| self.pressure(resource, "avg10=");
        sample::Noise {
            load_1m: self.text("proc/loadavg").and_then(|text| text.split(' ').next()?.parse().ok()),
            psi_cpu_some_avg10: pressure("cpu"),
            psi_io_some_avg10: pressure("io"),
            psi_memory_some_avg10: pressure("memory"),
            steal_ns: self.cpu_times().map(|times| times.steal_ns),
        }
    }

    pub(crate) fn totals(&self) -> Totals {
        let times = self.cpu_times();
        let micros = |resource| self.pressure::<u64>(resource, "total=")?.checked_mul(1000);
        let vmstat = self.text("proc/vmstat").unwrap_or_default();
        let events = |key: &str| entry(&vmstat, key);
        Totals {
            busy_ns: times.as_ref().map(|t| t.busy_ns),
            steal_ns: times.as_ref().map(|t| t.steal_ns),
            psi_cpu_ns: micros("cpu"),
            psi_io_ns: micros("io"),
            psi_memory_ns: micros("memory"),
            thermal_throttles: self.thermal_throttles(),
            quota_throttled_ns: None,
            swapped_in_pages: events("pswpin"),
            swapped_out_pages: events("pswpout"),
            major_faults: events("pgmajfault"),
        }
    }

    /// A field of the line `some avg10=0.00 avg60=0.00 avg300=0.00 total=0`.
    fn pressure<T: FromStr>(&self, resource: &str, field: &str) -> Option<T> {
        let text = self.text(Path::new("proc/pressure").join(resource))?;
        let some = text.lines().find_map(|line| line.strip_prefix("some "))?;
        some.split(' ').find_map(|part| part.strip_prefix(field))?.parse().ok()
    }

    /// The line with the sum of all processors, in clock ticks: user, nice, system, idle, iowait, irq, softirq, steal.
    /// Guests' time is in user and nice already.
    fn cpu_times(&self) -> Option<CpuTimes> {
        let stat = self.text("proc/stat")?;
        let fields = stat.lines().next()?.strip_prefix("cpu ")?.split_ascii_whitespace();
        let ticks: Vec<u64> = fields.map(str::parse).collect::<Result<_, _>>().ok()?;
        let [user, nice, system, _idle, _iowait, irq, softirq, steal, ..] = ticks[..] else { return None };
        let tick = process::tick_ns();
        let busy = [nice, system, irq, softirq].into_iter().try_fold(user, u64::checked_add)?;
        Some(CpuTimes { busy_ns: busy.checked_mul(tick)?, steal_ns: steal.checked_mul(tick)? })
    }

    /// Siblings and packages count the same event more than once: only whether it is above 0 matters.
    fn thermal_throttles(&self) -> Option<u64> {
        let counts = |cpu: &std::path::PathBuf| {
            ["core_throttle_count", "package_throttle_count"]
                .into_iter()
                .filter_map(|file| self.text(cpu.join("thermal_throttle").join(file))?.parse::<u64>().ok())
                .reduce(u64::saturating_add)
        };
        self.numbered("sys/devices/system/cpu", "cpu").iter().filter_map(counts).reduce(u64::saturating_add)
    }

    /// The fastest CPU's clock rate.
    pub(crate) fn cpu_khz(&self) -> Option<u64> {
        let now = |policy: &std::path::PathBuf| self.text(policy.join("scaling_cur_freq"))?.parse().ok();
        self.policies().iter().filter_map(now).max().or_else(|| self.cpuinfo_khz().into_iter().max())
    }
}

/// The number behind a key of lines like `pswpin 42`.
fn entry(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok())
}

/// CPU time of this process with all its threads.
fn harness_cpu_ns() -> u64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// How long a CPU quota has throttled this process's cgroup, which is the container's if the harness runs in one.
/// `None` without the controller.
fn quota_throttled_ns() -> Option<u64> {
    let (mounts, places) = (Mounts::read().ok()?, Places::of(std::process::id()).ok()?);
    ["cpu", UNIFIED].into_iter().find_map(|controller| {
        let dir = mounts.dir(controller, places.path(controller)?)?;
        throttled_ns(&std::fs::read_to_string(dir.join("cpu.stat")).ok()?)
    })
}

/// The throttled time of a `cpu.stat`: version 1 reports ns, version 2 µs.
pub(crate) fn throttled_ns(stat: &str) -> Option<u64> {
    entry(stat, "throttled_time")
        .or_else(|| entry(stat, "throttled_usec").and_then(|micros| micros.checked_mul(1000)))
}

#[cfg(test)]
mod tests;
