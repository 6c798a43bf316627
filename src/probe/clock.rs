//! The quality of the clock that takes all timestamps.

use std::fs;

use rustix::time::{ClockId, clock_gettime};

const SOURCE: &str = "/sys/devices/system/clocksource/clocksource0/current_clocksource";
const READINGS: u64 = 20_000;

/// Properties of CLOCK_MONOTONIC, measured by this process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clock {
    /// The kernel's clock source; `None` if the kernel does not report it.
    pub source: Option<String>,
    /// Average cost of one reading, in ns.
    pub cost_ns: u64,
    /// The smallest observed step between two readings, in ns; `None` if the clock stood still.
    pub step_ns: Option<u64>,
}

impl Clock {
    /// Whether a reading needs no system call, which takes some ten nanoseconds.
    pub fn is_quick(&self) -> bool {
        let quick = [
            "tsc",
            "kvm-clock",
            "arch_sys_counter",
            "hyperv_clocksource_tsc_page",
            "timebase",
            "riscv_clocksource",
        ];
        self.source.as_deref().is_none_or(|source| quick.contains(&source))
    }
}

/// Reads the clock some thousand times, which takes a few milliseconds.
pub fn measure() -> Clock {
    let now = || {
        let t = clock_gettime(ClockId::Monotonic);
        t.tv_sec as u64 * 1_000_000_000 + t.tv_nsec as u64
    };
    let begun = now();
    let (mut last, mut step_ns) = (begun, None);
    for _ in 0..READINGS {
        let reading = now();
        if reading > last {
            let step = reading - last;
            step_ns = Some(step_ns.map_or(step, |least: u64| least.min(step)));
        }
        last = reading;
    }
    let source = fs::read_to_string(SOURCE).ok().map(|text| text.trim().to_owned());
    Clock { source, cost_ns: (last - begun) / READINGS, step_ns }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_moves_and_a_reading_costs_time() {
        let clock = measure();
        assert!(clock.step_ns.unwrap() > 0 && clock.cost_ns > 0, "{clock:?}");
    }

    #[test]
    fn sources_that_leave_the_program_are_slow() {
        let of = |source: &str| Clock { source: Some(source.into()), cost_ns: 1, step_ns: None };
        assert!(of("tsc").is_quick() && of("kvm-clock").is_quick());
        assert!(!of("hpet").is_quick() && !of("acpi_pm").is_quick());
    }
}
