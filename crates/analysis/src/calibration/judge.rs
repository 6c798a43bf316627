//! Derives rows from measurements: truth, measured, error, bound, verdict. Pure.

use super::{Calibration, Check, CheckVerdict, Quantity, ReferenceInstance, Row};
use crate::median::median;

mod subject;

use subject::{Figure, LEVEL, Subject, add};

/// Bound on slopes of times that must follow a known time.
const SLOPE_OF_TIME: f64 = 0.01;
/// Bound for the phases before a known time on an emulated VM: its boots scatter by a tenth, so 25 of them can't
/// distinguish a slope of 1 % from 0.
const SLOPE_OF_EMULATED_BOOT: f64 = 0.05;
/// Bound on slopes of memory and CPU time that must be 1 or 0.
const SLOPE_OF_AMOUNT: f64 = 0.02;
/// Bound on the growth of a VM's footprint beyond the guest's page cache. A guest's kernel needs memory to manage
/// cached files, 4 % of the file with Ubuntu under TCG. Huge pages scatter it by as much (33 instances:
/// 0.7 to 8.3 %).
const SLOPE_OF_GUEST_REST: f64 = 0.1;
/// Bound on errors of CPU time and memory, as shares of the known amount.
const SHARE: f64 = 0.02;
/// Largest apparent CPU use of an idle instance, as a share of one core.
const IDLE: f64 = 0.005;

/// The rows of all measurements, by check and target.
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
    // A figure that is missing because of an interruption has not failed.
    rows.retain(|row| !calibration.interrupted || row.measured.is_some());
    rows
}

impl Calibration {
    /// Records leftovers of its instances and errors of the search for them, then judges again.
    pub fn record_left_overs(&mut self, left_over: Vec<String>, unseen: impl IntoIterator<Item = String>) {
        self.errors.extend(unseen.into_iter().map(|error| format!("searching for leftovers: {error}")));
        self.left_over = Some(left_over);
        self.judge();
    }

    /// Derives the rows again from the measurements.
    pub fn judge(&mut self) {
        self.rows = rows(self);
    }
}

/// The row about leftovers of all instances; `None` without instances.
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

/// Note on a VM's CPU time.
const HOST_PER_GUEST: &str =
    "host CPU time for each second of guest CPU time: the cost of virtualisation, not an error";

fn app(taken: &ReferenceInstance) -> Option<f64> {
    Some(taken.sample.timeline_ns.phases()?.app as f64)
}

fn footprint(taken: &ReferenceInstance) -> Option<f64> {
    Some(taken.sample.memory_bytes.footprint? as f64)
}

fn cache(taken: &ReferenceInstance) -> Option<f64> {
    Some(taken.sample.memory_bytes.cgroup_file? as f64)
}

impl Subject<'_> {
    fn delay(&self, rows: &mut Vec<Row>) {
        if self.is_empty() {
            return;
        }
        rows.push(self.follows("startup.app", "is ready a known delay after its start", app, SLOPE_OF_TIME));
        let beyond: Vec<f64> = self.good.iter().filter_map(|t| Some(app(t)? - t.amount as f64)).collect();
        let row = Row {
            measured: median(&beyond),
            n: beyond.len(),
            ..self.row("app less the delay", "the app phase without the known delay", Quantity::Time)
        };
        rows.push(
            self.stated(row, "time to execute the workload and to deliver the event to the host's clock"),
        );
        let engine: Figure = |t| Some(t.sample.timeline_ns.phases()?.engine as f64);
        let boot: Figure = |t| Some(t.sample.timeline_ns.phases()?.boot as f64);
        let bound = if self.is_emulated() { SLOPE_OF_EMULATED_BOOT } else { SLOPE_OF_TIME };
        rows.push(self.stays("startup.engine", "does not depend on that delay", engine, bound));
        rows.push(self.stays("startup.boot", "does not depend on that delay", boot, bound));
        rows.push(self.stopwatch(
            "started",
            "the start call, compared with a second stopwatch",
            |t| Some(t.sample.timeline_ns.started? as f64),
            |t| Some(t.start_call_ns? as f64),
        ));
        let (host, guest): (Figure, Figure) =
            (|t| Some(t.sample.work_ns.cpu? as f64), |t| Some(t.sample.work_ns.cpu_guest? as f64));
        let known: Figure = |t| Some(t.work_ns? as f64);
        if self.is_vm() {
            let row = self.share(
                "work.cpu",
                "the host's CPU time for work of a known CPU time",
                host,
                known,
                SHARE,
            );
            let bound = None;
            rows.push(self.stated(Row { bound, ..row }, HOST_PER_GUEST));
        } else {
            rows.push(self.share("work.cpu", "uses a known CPU time for its work", host, known, SHARE));
        }
        rows.push(self.share(
            "work.cpu_guest",
            "the same, by the accounting of its own kernel",
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
        rows.push(self.follows("memory.workload", "the same, by the workload's RSS", rss, SLOPE_OF_AMOUNT));
        rows.push(self.stays("memory.cache", "page cache does not grow with it", cache, SLOPE_OF_AMOUNT));
    }

    fn file(&self, rows: &mut Vec<Row>) {
        if self.is_empty() {
            return;
        }
        let says = "reads a known amount of file data, which the footprint excludes";
        if self.is_vm() {
            let row = self.slope("memory.footprint", says, footprint, LEVEL);
            let note = "a guest's page cache is guest memory, which the host gets back only with the VM: the footprint includes it";
            rows.push(self.stated(row, note));
            let guest: Figure = |t| Some(t.sample.memory_bytes.guest_cache? as f64);
            rows.push(self.follows(
                "guest's page cache",
                "the file data appears in the guest's page cache",
                guest,
                SLOPE_OF_AMOUNT,
            ));
            let rest: Figure = |t| Some(footprint(t)? - t.sample.memory_bytes.guest_cache? as f64);
            rows.push(self.stays(
                "footprint less that",
                "the footprint without the guest's page cache does not grow",
                rest,
                SLOPE_OF_GUEST_REST,
            ));
        } else {
            rows.push(self.stays("memory.footprint", says, footprint, SLOPE_OF_AMOUNT));
        }
        rows.push(self.follows(
            "memory.cache",
            "the file data appears in the host's page cache",
            cache,
            SLOPE_OF_AMOUNT,
        ));
    }

    fn cpu(&self, rows: &mut Vec<Row>) {
        if self.is_empty() {
            return;
        }
        let startup: Figure = |t| Some(t.sample.cpu_ns.startup? as f64);
        let says = "uses a known CPU time before it is ready";
        if self.is_vm() {
            let row = self.slope("cpu.startup", says, startup, LEVEL);
            rows.push(self.stated(row, HOST_PER_GUEST));
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
            self.stated(row, "the cost of an idle guest: its timers, and QEMU")
        } else {
            self.judged(Row { truth: Some(0.0), error: row.measured, bound: Some(IDLE), ..row })
        });
        let mut row = self.share(
            "memory.footprint",
            "includes all processes that came with the instance",
            |t| Some(footprint(t)? - t.sample.memory_bytes.cgroup_kernel.unwrap_or(0) as f64),
            |t| Some(t.new_processes_bytes? as f64),
            SHARE,
        );
        row.quantity = Quantity::Size;
        add(
            &mut row.note,
            "without kernel memory; the check counts the processes that are new on the host, with the same reader",
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
                    "an event takes about half of this to the host's clock",
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
            "the removal, compared with a second stopwatch",
            |t| Some(t.sample.timeline_ns.teardown()? as f64),
            |t| Some(t.remove_call_ns? as f64),
        ));
    }
}

#[cfg(test)]
mod tests;
