//! Gives criterion the samples of a finished run, for its report, its baselines and critcmp.
//!
//! criterion measures in blocks, one benchmark after the other, while a run interleaves its targets. So the runner
//! measures, and criterion's `iter_custom` gets one sample per call.

use std::{num::NonZeroU64, thread, time::Duration};

use bootrace::sample::{Outcome, Results, Sample};
use criterion::{Bencher, BenchmarkId, Criterion, SamplingMode};

/// The smallest number of samples that criterion accepts.
pub const LEAST: usize = 10;
/// Shorter than any call, so that criterion's warm-up is one call and each sample one iteration.
const SHORTEST: Duration = Duration::from_nanos(1);

/// The replayed metrics, with their names on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Metric {
    Startup,
    Work,
}

impl Metric {
    pub fn name(self) -> &'static str {
        match self {
            Metric::Startup => "startup",
            Metric::Work => "work.time",
        }
    }

    fn of(self, sample: &Sample) -> Option<NonZeroU64> {
        let ns = match self {
            Metric::Startup => sample.timeline_ns.startup(),
            Metric::Work => sample.work_ns.wall,
        };
        // criterion aborts at a duration of 0, which no measurement has.
        ns.and_then(NonZeroU64::new)
    }
}

/// One benchmark: `<scenario>/<metric>/<target>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Series {
    pub scenario: String,
    pub metric: Metric,
    pub target: String,
    /// Good samples without warm-up, in their order.
    pub samples: Vec<Duration>,
}

/// All metrics of all targets.
pub fn series(scenario: &str, metrics: &[Metric], results: &Results) -> Vec<Series> {
    let good = |target: &str, metric: Metric| {
        let of_target = results.samples.iter().filter(|s| s.target == target);
        let good = of_target.filter(|s| !s.warmup && s.outcome == Outcome::Ok);
        good.filter_map(|s| metric.of(s)).map(|ns| Duration::from_nanos(ns.get())).collect()
    };
    let one = |metric: Metric, target: &str| Series {
        scenario: scenario.to_owned(),
        metric,
        target: target.to_owned(),
        samples: good(target, metric),
    };
    metrics.iter().flat_map(|&m| results.targets.iter().map(move |t| one(m, &t.name))).collect()
}

/// Replays every series with enough samples. Returns the others.
pub fn replay(criterion: &mut Criterion, all: &[Series]) -> Vec<Series> {
    let (enough, few): (Vec<_>, Vec<_>) = all.iter().cloned().partition(|s| s.samples.len() >= LEAST);
    for one_group in enough.chunk_by(|a, b| a.scenario == b.scenario) {
        let mut group = criterion.benchmark_group(&one_group[0].scenario);
        group.sampling_mode(SamplingMode::Flat).warm_up_time(SHORTEST).measurement_time(SHORTEST);
        for series in one_group {
            let mut calls = Calls { samples: &series.samples, warm: false, next: 0 };
            let id = BenchmarkId::new(series.metric.name(), &series.target);
            group.sample_size(series.samples.len()).bench_function(id, |bencher| calls.answer(bencher));
        }
        group.finish();
    }
    few
}

/// criterion's calls for one benchmark: first the warm-up, which it ignores, then one per sample.
struct Calls<'a> {
    samples: &'a [Duration],
    warm: bool,
    next: usize,
}

impl Calls<'_> {
    fn answer(&mut self, bencher: &mut Bencher<'_>) {
        bencher.iter_custom(|_| {
            if !self.warm {
                self.warm = true;
                // criterion times the call itself: it must take longer than the warm-up time.
                thread::sleep(Duration::from_micros(10));
                return self.samples[0];
            }
            let sample = self.samples[self.next];
            self.next += 1;
            sample
        });
    }
}
