//! Figures of densities that are made up, so that what they must say is known.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;
use crate::sample::{Timeline, density::HostMemory};

const MIB: f64 = 1_048_576.0;

/// Instances that cost so many bytes each, on a host that has 10 GiB available.
fn density(costs: &[f64]) -> density::Density {
    let available = 10 << 30;
    let mut sum = 0.0;
    let step = |(i, cost): (usize, &f64)| {
        sum += cost;
        Step {
            n: i as u32 + 1,
            outcome: Outcome::Ok,
            error: None,
            timeline_ns: Timeline { ready: Some(300_000_000 + 2_000_000 * i as u64), ..Timeline::default() },
            cpu_startup_ns: Some(40_000_000),
            footprint_sum_bytes: Some(sum as u64),
            footprint_bytes: Some(*cost as u64),
            daemons_bytes: Some(1000 * i as i64),
            idle_cpu_sum_ns: Some(2_000_000 * (i as u64 + 1)),
            idle_window_ns: Some(1_000_000_000),
            host: HostMemory {
                available_bytes: Some(available - (sum * 1.5) as u64),
                ..HostMemory::default()
            },
            identity: None,
        }
    };
    density::Density {
        target: "docker".into(),
        most: 50,
        memory_left_bytes: 2 << 30,
        startup_limit_ns: 60_000_000_000,
        settle_ns: 0,
        limit: Some(Limit::Count),
        limit_why: Some("all were there".into()),
        before: HostMemory { available_bytes: Some(available), ..HostMemory::default() },
        steps: costs.iter().enumerate().map(step).collect(),
        died: 0,
        bursts: vec![Burst {
            n: 4,
            ready_ns: vec![100, 200, 300, 900],
            failed: 0,
            errors: Vec::new(),
            request_spread_ns: Some(5),
            all_ready_ns: Some(905),
        }],
        wall_ns: None,
        removal_ns: None,
    }
}

fn figures(costs: &[f64]) -> Density {
    one(&density(costs), Accelerator::None, 0.99)
}

#[test]
fn the_cost_of_each_instance_is_found() {
    let costs: Vec<f64> = (0..20).map(|i| (4.0 + if i % 2 == 0 { 0.25 } else { -0.25 }) * MIB).collect();
    let found = figures(&costs);
    let memory = found.memory.unwrap();
    let interval = memory.interval.unwrap();
    assert!((memory.value - 4.0 * MIB).abs() < 2.0 && memory.n == 20);
    // The increments' deviation is 0.25 * sqrt(20 / 19), t(0.99, 19) is 2.861.
    let far = 2.860_935 * 0.25 * MIB * (20.0_f64 / 19.0).sqrt() / 20.0_f64.sqrt();
    assert!((interval.high - memory.value - far).abs() < 10.0, "{interval:?}");
    assert!((found.available.unwrap().value - 6.0 * MIB).abs() < 2.0);
    assert_eq!(found.daemons.unwrap().value, 950.0);
    assert!((found.cpu.unwrap().value - 0.002).abs() < 1e-12);
    let startup = found.startup.unwrap();
    assert_eq!((startup.first, startup.last), (300e6, (20, 338e6)));
    assert_eq!(startup.slope.unwrap().value, 2e6);
    assert_eq!(found.reached, 20);
    assert!(!found.halves.unwrap().bends());
    // 8 GiB of room: 2048 of 4 MiB.
    let (fits, range) = found.fits(&memory).unwrap();
    let range = range.unwrap();
    assert!((2047.0..=2048.0).contains(&fits) && range.0 < fits && range.1 > fits, "{fits} {range:?}");
    assert_eq!(found.bursts[0].quantiles, Some([100.0, 250.0, 900.0, 900.0]));
}

#[test]
fn a_second_half_that_is_cheaper_bends_the_line_and_is_reported() {
    let costs: Vec<f64> =
        (0..30).map(|i| (if i < 15 { 8.0 } else { 5.0 } + f64::from(i % 3) * 0.1) * MIB).collect();
    let halves = figures(&costs).halves.unwrap();
    assert!(halves.bends() && halves.difference.unwrap().high < 0.0, "{halves:?}");
    assert!((halves.first - 8.1 * MIB).abs() < 2.0 && (halves.second - 5.1 * MIB).abs() < 2.0);
}

#[test]
fn few_instances_give_a_slope_without_an_interval_and_none_gives_nothing() {
    let five = figures(&[MIB; 5]);
    assert_eq!(five.memory.unwrap(), Each { value: MIB, interval: None, n: 5 });
    assert_eq!(five.startup.unwrap().slope, None);
    let none = figures(&[]);
    assert_eq!((none.memory, none.cpu, none.startup, none.reached), (None, None, None, 0));
}

#[test]
fn a_missing_reading_ends_the_series_and_a_death_ends_the_count_at_once() {
    let mut density = density(&[MIB; 10]);
    density.steps[7].footprint_sum_bytes = None;
    let found = one(&density, Accelerator::None, 0.99);
    assert_eq!((found.memory.unwrap().n, found.available.unwrap().n), (7, 10));
    density.steps[9].error = Some("number 3 ended".into());
    let found = one(&density, Accelerator::None, 0.99);
    assert_eq!((found.reached, found.available.unwrap().n), (9, 9));
}

#[test]
fn a_ratio_lies_between_those_of_the_ends_and_is_less_sure_than_either() {
    let of = |low, value, high| Each { value, interval: Some(Interval { low, high, coverage: 0.995 }), n: 8 };
    let ratio = ratio(&of(18.0, 20.0, 22.0), &of(4.0, 5.0, 6.0)).unwrap();
    let interval = ratio.interval.unwrap();
    assert_eq!((ratio.value, interval.low, interval.high), (4.0, 3.0, 5.5));
    assert!((interval.coverage - 0.99).abs() < 1e-12);
    assert!(super::ratio(&of(1.0, 2.0, 3.0), &of(-1.0, 0.0, 1.0)).is_err());
}

/// How often intervals hold the truth: by increments, and by least squares through the readings as if they were
/// independent. `cost` and `reading` are standard deviations beside a mean cost of 1.
fn coverage(cost: f64, reading: f64) -> (f64, f64) {
    const RUNS: usize = 2000;
    const N: usize = 20;
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    // A sum of twelve uniform variables is near enough to normal.
    let mut normal = move || (0..12).map(|_| rng.random::<f64>()).sum::<f64>() - 6.0;
    let (mut ours, mut naive) = (0, 0);
    for _ in 0..RUNS {
        let (mut sum, mut readings) = (0.0, vec![0.0]);
        for _ in 0..N {
            sum += 1.0 + cost * normal();
            readings.push(sum + reading * normal());
        }
        let increments: Vec<f64> = readings.windows(2).map(|pair| pair[1] - pair[0]).collect();
        let interval = mean(&increments, 0.99).unwrap().interval.unwrap();
        ours += usize::from(interval.low <= 1.0 && interval.high >= 1.0);
        let (middle, level) = (N as f64 / 2.0, readings.iter().sum::<f64>() / (N + 1) as f64);
        let square = |i: usize| (i as f64 - middle).powi(2);
        let across: f64 = (0..=N).map(square).sum();
        let line = (0..=N).map(|i| (i as f64 - middle) * (readings[i] - level)).sum::<f64>() / across;
        let rest: f64 = (0..=N).map(|i| (readings[i] - level - line * (i as f64 - middle)).powi(2)).sum();
        let far = (rest / (N - 1) as f64 / across).sqrt() * student::quantile(0.99, N - 1);
        naive += usize::from((line - 1.0).abs() <= far);
    }
    (ours as f64 / RUNS as f64, naive as f64 / RUNS as f64)
}

#[test]
fn the_interval_covers_at_its_level_where_least_squares_would_not() {
    let (ours, naive) = coverage(0.2, 0.0);
    assert!((0.98..=0.997).contains(&ours), "costs that vary: {ours}");
    assert!(naive < 0.8, "a line through readings that accumulate: {naive}");
    let (ours, _) = coverage(0.0, 0.5);
    assert!(ours >= 0.99, "readings that are off: {ours}");
    let (ours, _) = coverage(0.2, 0.3);
    assert!(ours >= 0.985, "both: {ours}");
}
