//! From what was taken to rows: truth, measured, error, bound, verdict. Pure.

use std::collections::BTreeSet;

use super::{Calibration, Check, Quantity, Row, Taken, Verdict};
use crate::{
    analysis::{Mark, marks, median::median, slope},
    sample::{Accelerator, Outcome, Target},
};

/// Of slopes of times that must follow a known time.
const SLOPE_OF_TIME: f64 = 0.01;
/// Of slopes of memory and CPU time that must follow what is known, or must not.
const SLOPE_OF_AMOUNT: f64 = 0.02;
/// A guest's kernel needs some memory of its own to keep a file in its page cache, and the host can't tell that either.
const SLOPE_OF_GUEST_REST: f64 = 0.05;
/// Of CPU time and memory, as shares of what is known.
const SHARE: f64 = 0.02;
/// CPU that an idle instance may seem to use, of one core.
const IDLE: f64 = 0.005;
/// A stopwatch is started a few calls after the clock; more than this is no such thing.
const STOPWATCH_NS: f64 = 500_000.0;
const STOPWATCH_SHARE: f64 = 0.01;
/// Level of the intervals of slopes.
const LEVEL: f64 = 0.99;
/// Of those that must be zero. There are several in a calibration, each noisier than its bound on some hosts, and
/// chance must not fail one in a hundred.
const LEVEL_OF_NONE: f64 = 0.999;

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
                Check::Channel => rows.extend(channel(calibration, target)),
                Check::Teardown => subject.teardown(&mut rows),
            }
        }
    }
    rows.extend(left_over(calibration));
    rows
}

/// One check on one target.
struct Subject<'a> {
    check: Check,
    target: &'a Target,
    /// Of the host.
    cpus: u32,
    good: Vec<&'a Taken>,
    /// How many failed, and why the first did.
    bad: Option<(usize, &'a str)>,
}

/// A figure of an instance.
type Figure = fn(&Taken) -> Option<f64>;

fn launch(taken: &Taken) -> Option<f64> {
    Some(taken.sample.timeline_ns.phases()?.launch as f64)
}

fn footprint(taken: &Taken) -> Option<f64> {
    Some(taken.sample.memory_bytes.footprint? as f64)
}

fn cache(taken: &Taken) -> Option<f64> {
    Some(taken.sample.memory_bytes.cgroup_file? as f64)
}

impl<'a> Subject<'a> {
    fn new(calibration: &'a Calibration, check: Check, target: &'a Target) -> Self {
        // Every instance is torn down.
        let of = |taken: &&Taken| {
            taken.sample.target == target.name && (check == Check::Teardown || taken.check == check)
        };
        let mine: Vec<&Taken> = calibration.taken.iter().filter(of).collect();
        let (good, bad): (Vec<_>, Vec<_>) =
            mine.into_iter().partition(|taken| taken.sample.outcome == Outcome::Ok);
        let first = bad.first().map(|taken| taken.sample.error.as_deref().unwrap_or("no reason is known"));
        Subject { check, target, cpus: calibration.host.cpus, good, bad: first.map(|why| (bad.len(), why)) }
    }

    fn is_vm(&self) -> bool {
        self.target.accelerator != Accelerator::None
    }

    fn is_empty(&self) -> bool {
        self.good.is_empty() && self.bad.is_none()
    }

    /// A row of which only the subject is known.
    fn row(&self, metric: &str, says: impl Into<String>, quantity: Quantity) -> Row {
        Row {
            check: self.check,
            target: self.target.name.clone(),
            metric: metric.into(),
            says: says.into(),
            quantity,
            truth: None,
            measured: None,
            interval: None,
            level: None,
            error: None,
            relative: false,
            bound: None,
            verdict: Verdict::Stated,
            note: None,
            n: self.good.len(),
            points: Vec::new(),
        }
    }

    /// The verdict on a row whose error and bound are filled in.
    fn judged(&self, mut row: Row) -> Row {
        row.verdict = match (row.error, row.bound) {
            (Some(error), Some(bound)) if error.abs() <= bound => Verdict::Pass,
            _ => Verdict::Fail,
        };
        self.complete(row)
    }

    /// What fails in the instances fails the row, and so does what is missing. A row that fails says what may have
    /// disturbed it.
    fn complete(&self, mut row: Row) -> Row {
        if row.measured.is_none() {
            row.verdict = Verdict::Fail;
            add(&mut row.note, "no instance gave this figure");
        }
        if let Some((count, why)) = self.bad {
            row.verdict = Verdict::Fail;
            let all = count + self.good.len();
            add(&mut row.note, &format!("{count} of {all} instances failed, the first: {why}"));
        }
        if let (Verdict::Fail, Some(disturbed)) = (row.verdict, self.disturbed()) {
            add(&mut row.note, &disturbed);
        }
        row
    }

    /// How many instances something on the host disturbed, and what.
    fn disturbed(&self) -> Option<String> {
        let marks =
            self.good.iter().map(|taken| marks(&taken.sample, self.cpus)).filter(|marks| !marks.is_empty());
        let marks: Vec<Vec<Mark>> = marks.collect();
        let kinds: BTreeSet<&str> = marks.iter().flatten().map(|mark| mark.word()).collect();
        let kinds = kinds.into_iter().collect::<Vec<_>>().join(", ");
        (!marks.is_empty())
            .then(|| format!("{} of {} instances were disturbed ({kinds})", marks.len(), self.good.len()))
    }

    /// Slope of a figure over the known amounts.
    fn slope(&self, metric: &str, says: &str, figure: Figure, level: f64) -> Row {
        let points: Vec<(f64, f64)> =
            self.good.iter().filter_map(|taken| Some((taken.amount as f64, figure(taken)?))).collect();
        let fit = slope::fit(&points, level);
        Row {
            measured: fit.map(|fit| fit.slope),
            interval: fit.map(|fit| [fit.low, fit.high]),
            level: Some(level),
            n: points.len(),
            points: points.into_iter().map(|(x, y)| [x, y]).collect(),
            ..self.row(metric, says, Quantity::Slope)
        }
    }

    fn follows(&self, metric: &str, says: &str, figure: Figure, bound: f64) -> Row {
        let row = self.slope(metric, says, figure, LEVEL);
        let mut row = self.judged(Row {
            truth: Some(1.0),
            error: row.measured.map(|m| m - 1.0),
            bound: Some(bound),
            ..row
        });
        if let (Verdict::Fail, Some([low, high])) = (row.verdict, row.interval)
            && low <= 1.0
            && high >= 1.0
        {
            add(
                &mut row.note,
                "the host's noise may be all of it: again on a quieter host, or with more --samples",
            );
        }
        row
    }

    /// A slope that must be none: beyond its bound it fails only where chance can't be the reason.
    fn stays(&self, metric: &str, says: &str, figure: Figure, bound: f64) -> Row {
        let row = self.slope(metric, says, figure, LEVEL_OF_NONE);
        let mut row = self.judged(Row { truth: Some(0.0), error: row.measured, bound: Some(bound), ..row });
        if let (Verdict::Fail, Some([low, high]), None) = (row.verdict, row.interval, self.bad)
            && low <= 0.0
            && high >= 0.0
        {
            row.verdict = Verdict::Pass;
            row.note = Some(format!(
                "within what this host's noise allows to tell: {:+.1} to {:+.1} %",
                low * 100.0,
                high * 100.0
            ));
        }
        row
    }

    /// The largest share by which a figure misses what is known of it.
    fn share(&self, metric: &str, says: &str, figure: Figure, known: Figure, bound: f64) -> Row {
        let pairs: Vec<(f64, f64)> =
            self.good.iter().filter_map(|t| Some((known(t).filter(|k| *k > 0.0)?, figure(t)?))).collect();
        let misses: Vec<f64> = pairs.iter().map(|(known, is)| is / known - 1.0).collect();
        self.judged(Row {
            truth: median(&pairs.iter().map(|p| p.0).collect::<Vec<_>>()),
            measured: median(&pairs.iter().map(|p| p.1).collect::<Vec<_>>()),
            error: median(&misses),
            relative: true,
            bound: Some(bound),
            n: pairs.len(),
            ..self.row(metric, says, Quantity::Time)
        })
    }

    /// The median difference to a stopwatch of our own: one that is interrupted between the two is no late clock.
    fn stopwatch(&self, metric: &str, says: &str, figure: Figure, stopwatch: Figure) -> Row {
        let pairs: Vec<(f64, f64)> =
            self.good.iter().filter_map(|t| Some((stopwatch(t)?, figure(t)?))).collect();
        let truth = median(&pairs.iter().map(|p| p.0).collect::<Vec<_>>());
        let differences: Vec<f64> = pairs.iter().map(|(known, is)| is - known).collect();
        let worst = differences.iter().copied().fold(0.0, |a: f64, b| if b.abs() > a.abs() { b } else { a });
        self.judged(Row {
            truth,
            measured: median(&pairs.iter().map(|p| p.1).collect::<Vec<_>>()),
            error: median(&differences),
            bound: truth.map(|t| STOPWATCH_NS.max(t * STOPWATCH_SHARE)),
            n: pairs.len(),
            note: Some(format!("median; the largest difference is {:+.3} ms", worst / 1e6)),
            ..self.row(metric, says, Quantity::Time)
        })
    }

    fn delay(&self, rows: &mut Vec<Row>) {
        if self.is_empty() {
            return;
        }
        rows.push(self.follows(
            "startup.launch",
            "ready a known delay after its start",
            launch,
            SLOPE_OF_TIME,
        ));
        let engine: Figure = |t| Some(t.sample.timeline_ns.phases()?.engine as f64);
        let boot: Figure = |t| Some(t.sample.timeline_ns.phases()?.boot as f64);
        rows.push(self.stays("startup.engine", "does not move with that delay", engine, SLOPE_OF_TIME));
        rows.push(self.stays("startup.boot", "does not move with that delay", boot, SLOPE_OF_TIME));
        rows.push(self.stopwatch(
            "started",
            "the start call against a second stopwatch",
            |t| Some(t.sample.timeline_ns.started? as f64),
            |t| Some(t.start_call_ns? as f64),
        ));
        let (host, guest): (Figure, Figure) =
            (|t| Some(t.sample.cpu_ns.work_host? as f64), |t| Some(t.sample.cpu_ns.work_guest? as f64));
        let known: Figure = |t| Some(t.work_ns? as f64);
        if self.is_vm() {
            let row = self.share(
                "cpu.work_host",
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
            rows.push(self.share("cpu.work_host", "burns a known CPU time as its work", host, known, SHARE));
        }
        rows.push(self.share(
            "cpu.work_guest",
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
        add(&mut row.note, "kernel memory left out on both sides");
        rows.push(row);
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

    fn stated(&self, row: Row, note: &str) -> Row {
        let mut row = Row { verdict: Verdict::Stated, bound: None, ..row };
        row.note = Some(note.into());
        self.complete(row)
    }
}

fn channel(calibration: &Calibration, target: &Target) -> Vec<Row> {
    let Some(trips) = calibration.round_trips_ns.get(&target.name) else { return Vec::new() };
    let mut sorted: Vec<f64> = trips.iter().map(|ns| *ns as f64).collect();
    sorted.sort_by(f64::total_cmp);
    let at =
        |share: f64| sorted.get(((sorted.len() as f64 * share).ceil() as usize).saturating_sub(1)).copied();
    let subject = Subject { check: Check::Channel, target, cpus: 1, good: Vec::new(), bad: None };
    let row = |says: &str, share| {
        let row = subject.row("round trip", says, Quantity::Time);
        subject.stated(
            Row { measured: at(share), n: sorted.len(), ..row },
            "host to agent and back; an event comes after half of it, more or less",
        )
    };
    vec![
        row("asks the agent for an answer: median", 0.5),
        row("asks the agent for an answer: 99th percentile", 0.99),
    ]
}

fn left_over(calibration: &Calibration) -> Option<Row> {
    let left = calibration.left_over.as_ref()?;
    let (verdict, note) = match left.as_slice() {
        [] => (Verdict::Pass, None),
        some => (Verdict::Fail, Some(some.join("; "))),
    };
    Some(Row {
        check: Check::Teardown,
        target: "all".into(),
        metric: "left over".into(),
        says: "containers, domains, cgroups, processes and files of this calibration".into(),
        quantity: Quantity::Count,
        truth: Some(0.0),
        measured: Some(left.len() as f64),
        interval: None,
        level: None,
        error: Some(left.len() as f64),
        relative: false,
        bound: Some(0.0),
        verdict,
        note,
        n: calibration.taken.len(),
        points: Vec::new(),
    })
}

fn add(note: &mut Option<String>, text: &str) {
    *note = Some(match note.take() {
        Some(note) => format!("{note}; {text}"),
        None => text.into(),
    });
}

#[cfg(test)]
mod tests;
