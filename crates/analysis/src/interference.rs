//! Flags samples with interference, by kind; every sample stays in the figures.
//!
//! Thresholds lie above the activity of a quiet host and above an instance's effect on itself; a comment
//! gives the reason for each. All are shares of the sample's window ([`Interference::window_ns`]), and
//! none is shorter than the resolution of its counter.

use crate::sample::{Interference, Results, Sample};

use super::is_measured;

/// Activity of the host that can distort a sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum InterferenceKind {
    /// Other processes used the CPUs.
    BusyHost,
    /// A hypervisor took CPU time away.
    Stolen,
    /// Heat or a quota slowed the CPUs down.
    Throttled,
    /// Tasks waited for the disk.
    DiskPressure,
    /// Tasks waited for memory.
    MemoryPressure,
    /// Pages went to swap or came from there.
    Swapping,
}

/// CPU time of other processes, in CPUs: half a CPU, or a tenth of a host with fewer than five. Idle desktops and
/// daemons use less than a twentieth of a CPU; a compiler uses one or more.
const OTHERS_CPUS: f64 = 0.5;
const OTHERS_SHARE: f64 = 0.1;
/// The kernel counts CPU time in clock ticks per CPU: below this, it may be rounding alone.
const OTHERS_LEAST_NS: u64 = 50_000_000;
/// Share of all CPUs' time, and in CPUs: the hypervisor may steal from the one CPU that an instance is bound to. It
/// steals in slices of milliseconds, which lengthen the measured time directly.
const STEAL_SHARE: f64 = 0.01;
const STEAL_CPUS: f64 = 0.05;
/// Two ticks: one may be rounding.
const STEAL_LEAST_NS: u64 = 20_000_000;
/// A quota's period is usually 100 ms; one hit costs tens of them.
const QUOTA_SHARE: f64 = 0.01;
/// An instance that reads its image also waits for the disk, but for a small share of its window.
const DISK_SHARE: f64 = 0.2;
/// A start with enough memory never waits for it.
const MEMORY_SHARE: f64 = 0.05;
/// An instance whose window is a few ms may wait for its own first page through all of it.
const PRESSURE_LEAST_NS: u64 = 20_000_000;
/// 1 MiB of 4 KiB pages: a lone page that comes back is no swapping.
const SWAPPED_PAGES: u64 = 256;

impl InterferenceKind {
    /// Every kind, in the order of tables.
    pub const ALL: [InterferenceKind; 6] = [
        InterferenceKind::BusyHost,
        InterferenceKind::Stolen,
        InterferenceKind::Throttled,
        InterferenceKind::DiskPressure,
        InterferenceKind::MemoryPressure,
        InterferenceKind::Swapping,
    ];

    /// A word or two, for tables.
    pub fn word(self) -> &'static str {
        match self {
            InterferenceKind::BusyHost => "busy host",
            InterferenceKind::Stolen => "stolen",
            InterferenceKind::Throttled => "throttled",
            InterferenceKind::DiskPressure => "disk pressure",
            InterferenceKind::MemoryPressure => "memory pressure",
            InterferenceKind::Swapping => "swapping",
        }
    }

    /// Completes "samples were taken".
    fn clause(self) -> &'static str {
        match self {
            InterferenceKind::BusyHost => "while other processes used the CPUs",
            InterferenceKind::Stolen => "while a hypervisor took CPU time away (steal)",
            InterferenceKind::Throttled => "while heat or a CPU quota slowed the CPUs down",
            InterferenceKind::DiskPressure => {
                "while tasks, the instance's included, waited for the disk (PSI some)"
            }
            InterferenceKind::MemoryPressure => "while tasks waited for memory (PSI some)",
            InterferenceKind::Swapping => "while the host swapped",
        }
    }

    fn fix(self) -> &'static str {
        match self {
            InterferenceKind::BusyHost => {
                "stop other processes (top shows them) and run again; CSV exports name the samples"
            }
            InterferenceKind::Stolen => {
                "use a host with CPUs of its own, or run again when its neighbours are quiet"
            }
            InterferenceKind::Throttled => {
                "cool the host or run with --tune, which turns turbo off; lift a quota on bootrace's own cgroup"
            }
            InterferenceKind::DiskPressure => {
                "stop other users of the disk (iotop shows them); a workload that uses the disk itself causes this too"
            }
            InterferenceKind::MemoryPressure | InterferenceKind::Swapping => {
                "free memory, or lower the scenario's resources.memory"
            }
        }
    }

    fn holds(self, noise: &Interference, cpus: u32) -> bool {
        let cpus = f64::from(cpus.max(1));
        let window = noise.window_ns as f64;
        let above = |value: Option<u64>, limit: f64| value.is_some_and(|v| v > 0 && v as f64 >= limit);
        let waited = |value, share: f64| above(value, (share * window).max(PRESSURE_LEAST_NS as f64));
        match self {
            InterferenceKind::BusyHost => {
                let limit = OTHERS_CPUS.min(OTHERS_SHARE * cpus) * window;
                above(noise.others_cpu_ns, limit.max(OTHERS_LEAST_NS as f64))
            }
            InterferenceKind::Stolen => {
                let limit = STEAL_CPUS.min(STEAL_SHARE * cpus) * window;
                above(noise.steal_ns, limit.max(STEAL_LEAST_NS as f64))
            }
            InterferenceKind::Throttled => {
                above(noise.thermal_throttles, 1.0) || above(noise.quota_throttled_ns, QUOTA_SHARE * window)
            }
            InterferenceKind::DiskPressure => waited(noise.psi_io_ns, DISK_SHARE),
            InterferenceKind::MemoryPressure => waited(noise.psi_memory_ns, MEMORY_SHARE),
            InterferenceKind::Swapping => {
                let pages =
                    noise.swapped_in_pages.unwrap_or(0).saturating_add(noise.swapped_out_pages.unwrap_or(0));
                pages >= SWAPPED_PAGES
            }
        }
    }
}

/// Kinds of interference with one sample on a host with `cpus` CPUs; empty where the sample has no readings.
pub fn interference(sample: &Sample, cpus: u32) -> Vec<InterferenceKind> {
    sample.interference.as_ref().map_or_else(Vec::new, |noise| of(noise, cpus))
}

fn of(noise: &Interference, cpus: u32) -> Vec<InterferenceKind> {
    InterferenceKind::ALL.into_iter().filter(|kind| kind.holds(noise, cpus)).collect()
}

/// Average number of CPUs that other processes kept busy during a sample; `None` without a reading.
pub fn others_cpus(sample: &Sample) -> Option<f64> {
    let noise = sample.interference.as_ref().filter(|noise| noise.window_ns > 0)?;
    Some(noise.others_cpu_ns? as f64 / noise.window_ns as f64)
}

/// One caveat for each kind of interference that good samples had.
pub(super) fn caveats(results: &Results) -> Vec<String> {
    let cpus = results.host.cpus;
    let caveat = |kind: InterferenceKind| {
        let mut each = Vec::new();
        let mut most: f64 = 0.0;
        for target in &results.targets {
            let good: Vec<&Sample> =
                results.samples.iter().filter(|s| s.target == target.name && is_measured(s)).collect();
            let affected: Vec<&&Sample> =
                good.iter().filter(|s| interference(s, cpus).contains(&kind)).collect();
            if !affected.is_empty() {
                each.push(format!("{} of {} samples of {}", affected.len(), good.len(), target.name));
            }
            most = affected.iter().filter_map(|s| others_cpus(s)).fold(most, f64::max);
        }
        let up_to = if kind == InterferenceKind::BusyHost {
            format!(", up to {most:.1} of {cpus}")
        } else {
            String::new()
        };
        let (what, fix) = (kind.clause(), kind.fix());
        (!each.is_empty()).then(|| format!("{} were taken {what}{up_to}: {fix}", each.join(", ")))
    };
    InterferenceKind::ALL.into_iter().filter_map(caveat).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    /// A quiet sample of two seconds with one change.
    fn affected(cpus: u32, change: impl FnOnce(&mut Interference)) -> Vec<InterferenceKind> {
        let mut noise = Interference {
            window_ns: 2 * SECOND,
            others_cpu_ns: Some(SECOND / 10),
            steal_ns: Some(SECOND / 100),
            // A VM whose threads wait for each other on its one CPU raises it, with no one else about.
            psi_cpu_ns: Some(SECOND),
            psi_io_ns: Some(SECOND / 10),
            psi_memory_ns: Some(0),
            thermal_throttles: Some(0),
            quota_throttled_ns: Some(0),
            swapped_in_pages: Some(8),
            swapped_out_pages: Some(0),
            major_faults: Some(30),
            cpu_khz: None,
        };
        change(&mut noise);
        of(&noise, cpus)
    }

    #[test]
    fn a_quiet_sample_has_no_interference_whatever_it_does_to_itself() {
        assert_eq!(affected(2, |_| ()), []);
        assert_eq!(affected(64, |n| n.major_faults = Some(100_000)), []);
    }

    #[test]
    fn each_kind_of_interference_is_found() {
        assert_eq!(affected(2, |n| n.others_cpu_ns = Some(SECOND)), [InterferenceKind::BusyHost]);
        assert_eq!(affected(2, |n| n.steal_ns = Some(SECOND / 20)), [InterferenceKind::Stolen]);
        assert_eq!(affected(2, |n| n.thermal_throttles = Some(1)), [InterferenceKind::Throttled]);
        assert_eq!(affected(2, |n| n.quota_throttled_ns = Some(SECOND / 10)), [InterferenceKind::Throttled]);
        assert_eq!(affected(2, |n| n.psi_io_ns = Some(SECOND)), [InterferenceKind::DiskPressure]);
        assert_eq!(affected(2, |n| n.psi_memory_ns = Some(SECOND / 4)), [InterferenceKind::MemoryPressure]);
        assert_eq!(affected(2, |n| n.swapped_out_pages = Some(300)), [InterferenceKind::Swapping]);
    }

    #[test]
    fn a_hog_is_seen_on_a_large_host_too_and_a_daemon_is_not() {
        assert_eq!(affected(64, |n| n.others_cpu_ns = Some(2 * SECOND)), [InterferenceKind::BusyHost]);
        assert_eq!(affected(64, |n| n.others_cpu_ns = Some(SECOND / 2)), []);
    }

    #[test]
    fn a_window_too_short_for_clock_ticks_has_no_interference_by_them() {
        let short = |n: &mut Interference| {
            (n.window_ns, n.psi_io_ns) = (5_000_000, Some(4_000_000));
            (n.others_cpu_ns, n.steal_ns) = (Some(40_000_000), Some(10_000_000));
        };
        assert_eq!(affected(2, short), []);
    }

    #[test]
    fn unknown_readings_are_no_interference() {
        assert_eq!(affected(2, |n| *n = Interference { window_ns: SECOND, ..Default::default() }), []);
        assert_eq!(affected(2, |n| *n = Interference::default()), []);
    }
}
