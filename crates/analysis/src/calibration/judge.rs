//! From what was taken to rows: truth, measured, error, bound, verdict. Pure.

use super::{Calibration, Check, CheckVerdict, Quantity, Row, Taken};
use crate::median::median;

mod subject;

use subject::{Figure, LEVEL, Subject, add};

/// Of slopes of times that must follow a known time.
const SLOPE_OF_TIME: f64 = 0.01;
/// Of the phases before a known time, on a VM that is emulated: its boots scatter by a tenth, so that 25 of them can't
/// tell a slope of 1 % from none.
const SLOPE_OF_EMULATED_BOOT: f64 = 0.05;
/// Of slopes of memory and CPU time that must follow what is known, or must not.
const SLOPE_OF_AMOUNT: f64 = 0.02;
/// A guest's kernel needs some memory of its own to keep a file in its page cache, and the host can't tell that either:
/// Ubuntu's 4 % of the file under TCG. Huge pages scatter it by as much (33 instances: 0.7 to 8.3 %).
const SLOPE_OF_GUEST_REST: f64 = 0.1;
/// Of CPU time and memory, as shares of what is known.
const SHARE: f64 = 0.02;
/// CPU that an idle instance may seem to use, of one core.
const IDLE: f64 = 0.005;
/// What everything that was taken says, check by check and target by target.
pub fn rows(calibration: &Calibration) -> Vec<Row> {
    let mut rows = Vec::new();
    for check in Check::ALL {
        for target in &calibration.targets {
            let subject = Subject::new(calibration, check, target);
            match check {
                Check::Delay => subject.delay(&mut rows),
                Check::Memory => subject.memory(&mut rows),
                Check::File => subject.file(&mut rows),
                Check::Cpu => subject.cpu(&mut rows),
                Check::Idle => subject.idle(&mut rows),
                Check::Channel => subject.channel(&mut rows),
                Check::Teardown => subject.teardown(&mut rows),
            }
        }
    }
    rows.extend(left_over(calibration));
    // What was cut short has not failed: it is not known.
    rows.retain(|row| !calibration.interrupted || row.measured.is_some());
    rows
}

/// What is left of all instances; nothing can be said of none.
fn left_over(calibration: &Calibration) -> Option<Row> {
    let left = calibration.left_over.as_ref().filter(|_| !calibration.taken.is_empty())?;
    let processes: u64 = calibration.taken.iter().map(|taken| taken.processes_left).sum();
    let count = left.len() as f64 + processes as f64;
    let mut note = (!left.is_empty()).then(|| left.join("; "));
    if processes > 0 {
        add(&mut note, &format!("{processes} processes outlived their instances"));
    }
    Some(Row {
        check: Check::Teardown,
        target: "all".into(),
        metric: "left over".into(),
        says: "containers, domains, cgroups, files and processes of this calibration".into(),
        quantity: Quantity::Count,
        truth: Some(0.0),
        measured: Some(count),
        interval: None,
        level: None,
        error: Some(count),
        relative: false,
        bound: Some(0.0),
        verdict: if count > 0.0 { CheckVerdict::Fail } else { CheckVerdict::Pass },
        note,
        n: calibration.taken.len(),
        points: Vec::new(),
    })
}

fn app(taken: &Taken) -> Option<f64> {
    Some(taken.sample.timeline_ns.phases()?.app as f64)
}

fn footprint(taken: &Taken) -> Option<f64> {
    Some(taken.sample.memory_bytes.footprint? as f64)
}

fn cache(taken: &Taken) -> Option<f64> {
    Some(taken.sample.memory_bytes.cgroup_file? as f64)
}

impl Subject<'_> {
    fn delay(&self, rows: &mut Vec<Row>) {
        if self.is_empty() {
            return;
        }
        rows.push(self.follows("startup.app", "ready a known delay after its start", app, SLOPE_OF_TIME));
        let beyond: Vec<f64> = self.good.iter().filter_map(|t| Some(app(t)? - t.amount as f64)).collect();
        let row = Row {
            measured: median(&beyond),
            n: beyond.len(),
            ..self.row(
                "app less the delay",
                "the part of the app phase beside the known delay",
                Quantity::Time,
            )
        };
        rows.push(self.stated(row, "executing the workload, and the event's way to the host's clock"));
        let engine: Figure = |t| Some(t.sample.timeline_ns.phases()?.engine as f64);
        let boot: Figure = |t| Some(t.sample.timeline_ns.phases()?.boot as f64);
        let bound = if self.is_emulated() { SLOPE_OF_EMULATED_BOOT } else { SLOPE_OF_TIME };
        rows.push(self.stays("startup.engine", "does not move with that delay", engine, bound));
        rows.push(self.stays("startup.boot", "does not move with that delay", boot, bound));
        rows.push(self.stopwatch(
            "started",
            "the start call against a second stopwatch",
            |t| Some(t.sample.timeline_ns.started? as f64),
            |t| Some(t.start_call_ns? as f64),
        ));
        let (host, guest): (Figure, Figure) =
            (|t| Some(t.sample.work_ns.cpu? as f64), |t| Some(t.sample.work_ns.cpu_guest? as f64));
        let known: Figure = |t| Some(t.work_ns? as f64);
        if self.is_vm() {
            let row = self.share(
                "work.cpu",
                "what its work of a known CPU time costs the host",
                host,
                known,
                SHARE,
            );
            let bound = None;
            rows.push(self.stated(
                Row { bound, ..row },
                "what the host pays for each second of the guest's: virtualisation's cost, not an error",
            ));
        } else {
            rows.push(self.share("work.cpu", "burns a known CPU time as its work", host, known, SHARE));
        }
        rows.push(self.share(
            "work.cpu_guest",
            "the same, as its own kernel accounts for it",
            guest,
            known,
            SHARE,
        ));
    }

    fn memory(&self, rows: &mut Vec<Row>) {
        if self.is_empty() {
            return;
        }
        rows.push(self.follows(
            "memory.footprint",
            "touches a known amount of anonymous memory",
            footprint,
            SLOPE_OF_AMOUNT,
        ));
        let rss: Figure = |t| Some(t.sample.memory_bytes.workload_rss? as f64);
        rows.push(self.follows(
            "memory.workload",
            "the same, as seen beside the workload",
            rss,
            SLOPE_OF_AMOUNT,
        ));
        rows.push(self.stays("memory.cache", "page cache does not grow with it", cache, SLOPE_OF_AMOUNT));
    }

    fn file(&self, rows: &mut Vec<Row>) {
        if self.is_empty() {
            return;
        }
        let says = "reads a known amount of file data, which is no footprint";
        if self.is_vm() {
            let row = self.slope("memory.footprint", says, footprint, LEVEL);
            let note = "a guest's page cache is the guest's memory: the host gets it back with the VM, so it is in the footprint";
            rows.push(self.stated(row, note));
            let guest: Figure = |t| Some(t.sample.memory_bytes.guest_cache? as f64);
            rows.push(self.follows(
                "guest's page cache",
                "and shows as page cache of the guest",
                guest,
                SLOPE_OF_AMOUNT,
            ));
            let rest: Figure = |t| Some(footprint(t)? - t.sample.memory_bytes.guest_cache? as f64);
            rows.push(self.stays(
                "footprint less that",
                "no footprint apart from that",
                rest,
                SLOPE_OF_GUEST_REST,
            ));
        } else {
            rows.push(self.stays("memory.footprint", says, footprint, SLOPE_OF_AMOUNT));
        }
        rows.push(self.follows(
            "memory.cache",
            "and shows as page cache on the host",
            cache,
            SLOPE_OF_AMOUNT,
        ));
    }

    fn cpu(&self, rows: &mut Vec<Row>) {
        if self.is_empty() {
            return;
        }
        let startup: Figure = |t| Some(t.sample.cpu_ns.startup? as f64);
        let says = "burns a known CPU time before it is ready";
        if self.is_vm() {
            let row = self.slope("cpu.startup", says, startup, LEVEL);
            rows.push(self.stated(
                row,
                "what the host pays for each second of the guest's: virtualisation's cost, not an error",
            ));
        } else {
            rows.push(self.follows("cpu.startup", says, startup, SLOPE_OF_AMOUNT));
        }
    }

    fn idle(&self, rows: &mut Vec<Row>) {
        if self.is_empty() {
            return;
        }
        let shares: Vec<f64> = self
            .good
            .iter()
            .filter_map(|t| {
                Some(t.sample.cpu_ns.idle? as f64 / t.sample.cpu_ns.idle_window.filter(|w| *w > 0)? as f64)
            })
            .collect();
        let row = Row {
            measured: median(&shares),
            n: shares.len(),
            ..self.row("cpu.idle", "does nothing", Quantity::Share)
        };
        rows.push(if self.is_vm() {
            self.stated(row, "an idle guest's own cost: timers, and QEMU's")
        } else {
            self.judged(Row { truth: Some(0.0), error: row.measured, bound: Some(IDLE), ..row })
        });
        let mut row = self.share(
            "memory.footprint",
            "has all processes that came with the instance",
            |t| Some(footprint(t)? - t.sample.memory_bytes.cgroup_kernel.unwrap_or(0) as f64),
            |t| Some(t.new_processes_bytes? as f64),
            SHARE,
        );
        row.quantity = Quantity::Size;
        add(
            &mut row.note,
            "without kernel memory; its processes are found by what is new on the host, and read by the same reader",
        );
        rows.push(row);
    }

    fn channel(&self, rows: &mut Vec<Row>) {
        if self.is_empty() {
            return;
        }
        let mut sorted: Vec<f64> =
            self.good.iter().flat_map(|taken| &taken.round_trips_ns).map(|ns| *ns as f64).collect();
        sorted.sort_by(f64::total_cmp);
        for (metric, share) in [("round trip, median", 0.5), ("round trip, p99", 0.99)] {
            let rank = (sorted.len() as f64 * share).ceil() as usize;
            let measured = sorted.get(rank.saturating_sub(1)).copied();
            let row = self.row(metric, "from host to agent and back", Quantity::Time);
            let n = sorted.len();
            rows.push(
                self.stated(
                    Row { measured, n, ..row },
                    "an event takes about half of it to the host's clock",
                ),
            );
        }
    }

    fn teardown(&self, rows: &mut Vec<Row>) {
        if self.is_empty() {
            return;
        }
        rows.push(self.stopwatch(
            "teardown",
            "the removal against a second stopwatch",
            |t| Some(t.sample.timeline_ns.teardown()? as f64),
            |t| Some(t.remove_call_ns? as f64),
        ));
    }
}

#[cfg(test)]
mod tests;
