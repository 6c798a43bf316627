//! How busy this host is: on a busy one a late answer is no sign of a hang.

use std::{fmt, fs, thread, time::Duration};

/// The most that a wait is prolonged.
const LONGEST: f64 = 10.0;
/// From this factor on the host counts as busy.
const BUSY: f64 = 1.5;

/// What the kernel says about the last minute.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Load {
    /// Processes that run or wait for a CPU or a disk; the mean of the last minute.
    load_1m: f64,
    cpus: usize,
    /// The largest share of the last ten seconds in which a process waited for a CPU, a disk or memory: 0 to 1.
    pressure: f64,
}

impl Load {
    /// The load now. What the kernel does not report counts as idle.
    pub fn now() -> Self {
        let load = fs::read_to_string("/proc/loadavg").ok().and_then(|text| load_1m(&text));
        let pressures = ["cpu", "io", "memory"].map(|resource| {
            let text = fs::read_to_string(format!("/proc/pressure/{resource}")).ok();
            text.and_then(|text| pressure(&text)).unwrap_or(0.0)
        });
        let cpus = thread::available_parallelism().map_or(1, usize::from);
        Load { load_1m: load.unwrap_or(0.0), cpus, pressure: pressures.into_iter().fold(0.0, f64::max) }
    }

    /// How many times as long as on an idle host an answer takes: by the share of a CPU that each process gets, or of
    /// the time that it does not wait.
    fn factor(self) -> f64 {
        let by_load = self.load_1m / self.cpus.max(1) as f64;
        let by_pressure = 1.0 / (1.0 - self.pressure).max(1.0 / LONGEST);
        by_load.max(by_pressure).clamp(1.0, LONGEST)
    }

    /// How long to wait for what may take `patience` on an idle host.
    pub fn prolong(self, patience: Duration) -> Duration {
        Duration::from_secs_f64((patience.as_secs_f64() * self.factor()).round().max(patience.as_secs_f64()))
    }

    /// Why an answer may be late.
    pub fn explain(self) -> String {
        match self.factor() >= BUSY {
            true => format!("the host is busy ({self})"),
            false => format!("it hangs, since the host is not busy ({self})"),
        }
    }
}

impl fmt::Display for Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "load {:.1} on {} CPUs", self.load_1m, self.cpus)?;
        match self.pressure >= 0.01 {
            true => write!(f, ", processes wait {:.0} % of the time", self.pressure * 100.0),
            false => Ok(()),
        }
    }
}

fn load_1m(text: &str) -> Option<f64> {
    text.split(' ').next()?.parse().ok()
}

/// `some avg10=8.51 ...`, in percent.
fn pressure(text: &str) -> Option<f64> {
    let some = text.lines().find_map(|line| line.strip_prefix("some avg10="))?;
    let percent: f64 = some.split(' ').next()?.parse().ok()?;
    Some((percent / 100.0).clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(load_1m: f64, cpus: usize, pressure: f64) -> Load {
        Load { load_1m, cpus, pressure }
    }

    #[test]
    fn a_busy_host_gets_more_time_and_only_an_idle_one_a_hang() {
        let patience = Duration::from_secs(30);
        for (of, seconds, busy) in [
            (load(0.3, 2, 0.0), 30, false),
            (load(2.0, 2, 0.1), 33, false),
            (load(8.0, 2, 0.0), 120, true),
            (load(0.1, 2, 0.75), 120, true),
            (load(900.0, 2, 1.0), 300, true),
            (load(9.0, 64, 0.0), 30, false),
        ] {
            assert_eq!(of.prolong(patience).as_secs(), seconds, "{of}");
            assert_eq!(of.explain().starts_with("the host is busy"), busy, "{}", of.explain());
            assert_eq!(of.explain().contains("it hangs"), !busy, "{}", of.explain());
        }
        let short = Duration::from_millis(1);
        assert_eq!(load(0.0, 1, 0.0).prolong(short), short);
        assert_eq!(
            load(8.0, 2, 0.43).explain(),
            "the host is busy (load 8.0 on 2 CPUs, processes wait 43 % of the time)"
        );
    }

    #[test]
    fn the_kernels_files_are_understood() {
        assert_eq!(load_1m("1.25 0.80 0.60 2/345 6789\n"), Some(1.25));
        let text = "some avg10=8.50 avg60=2.17 avg300=1.75 total=27590847\nfull avg10=0.00 total=1\n";
        assert_eq!(pressure(text), Some(0.085));
        assert_eq!((load_1m("x"), pressure("full avg10=9")), (None, None));
        assert!(Load::now().cpus > 0);
    }
}
