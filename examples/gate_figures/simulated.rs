//! Simulated start-ups with known distributions, unchanged and slowed down.

use bootrace::{
    analysis::gate::{LEAST_MARGIN, Values},
    calibration::noise,
};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::{MOST_FALSE_ALARMS, Tally, in_one_job, verdict};

const SEED: u64 = 4;
/// Comparisons per distribution, for sides of one job and for separate runs.
const COMPARISONS: usize = 1000;
const SAMPLES: usize = 20;
/// Sessions of the A/A record from which the margin of separate runs comes.
const SESSIONS: usize = 10;

/// A distribution of start-ups around 1.
struct Shape {
    name: &'static str,
    /// Duration of the `place`-th start-up of its session.
    one: fn(&mut ChaCha8Rng, place: usize) -> f64,
    /// Standard deviation between sessions.
    between: f64,
}

const SHAPES: [Shape; 8] = [
    Shape { name: "normal, 10 %", one: |rng, _| 1.0 + 0.1 * normal(rng), between: 0.0 },
    Shape { name: "skewed (log-normal, 15 %)", one: |rng, _| (0.15 * normal(rng)).exp(), between: 0.0 },
    Shape { name: "bimodal (three in ten 25 % slower)", one: bimodal, between: 0.0 },
    Shape { name: "slow tail (one in twenty up to threefold)", one: tail, between: 0.0 },
    Shape { name: "drifting by 1.5 % a sample", one: drifting, between: 0.0 },
    Shape { name: "slower by 15 % in waves of 4.5 samples", one: waves, between: 0.0 },
    Shape { name: "sessions differ by 2 %", one: |rng, _| 1.0 + 0.05 * normal(rng), between: 0.02 },
    Shape { name: "sessions differ by 5 %", one: |rng, _| 1.0 + 0.05 * normal(rng), between: 0.05 },
];

fn bimodal(rng: &mut ChaCha8Rng, _: usize) -> f64 {
    let mode = if rng.random_bool(0.3) { 1.25 } else { 1.0 };
    mode * (1.0 + 0.03 * normal(rng))
}

fn tail(rng: &mut ChaCha8Rng, _: usize) -> f64 {
    let slow = if rng.random_bool(0.05) { 1.0 + 2.0 * rng.random::<f64>() } else { 1.0 };
    slow * (1.0 + 0.05 * normal(rng))
}

fn drifting(rng: &mut ChaCha8Rng, place: usize) -> f64 {
    (1.0 + 0.05 * normal(rng)) * (1.0 + 0.015 * place as f64)
}

fn waves(rng: &mut ChaCha8Rng, place: usize) -> f64 {
    let wave = (2.0 * std::f64::consts::PI * place as f64 / 4.5).sin();
    (1.0 + 0.03 * normal(rng)) * (1.0 + 0.15 * wave)
}

/// Standard normal: Box and Muller 1958.
fn normal(rng: &mut ChaCha8Rng) -> f64 {
    let (u, v): (f64, f64) = (1.0 - rng.random::<f64>(), rng.random());
    (-2.0 * u.ln()).sqrt() * (2.0 * std::f64::consts::PI * v).cos()
}

/// An interleaved job: pairs in random order, with NEW `times` as slow.
fn job(shape: &Shape, rng: &mut ChaCha8Rng, samples: usize, times: f64) -> Vec<(f64, f64)> {
    let session = (shape.between * normal(rng)).exp();
    let mut pair = |round: usize| {
        // Like `plan::turns`.
        let new_first = rng.random_bool(0.5);
        let mut side = |second: bool| (shape.one)(rng, 2 * round + usize::from(second)).max(0.01) * session;
        let (first, second) = (side(false), side(true));
        let (base, new) = if new_first { (second, first) } else { (first, second) };
        (base, new * times)
    };
    (0..samples).map(&mut pair).collect()
}

/// A separate run.
fn run(shape: &Shape, rng: &mut ChaCha8Rng) -> Vec<f64> {
    let session = (shape.between * normal(rng)).exp();
    (0..SAMPLES).map(|place| (shape.one)(rng, place).max(0.01) * session).collect()
}

/// The margin of `bootrace calibrate --aa` after some sessions.
fn margin(shape: &Shape, rng: &mut ChaCha8Rng) -> f64 {
    let medians = (0..SESSIONS).map(|_| {
        let (a, b): (Vec<f64>, Vec<f64>) = job(shape, rng, SAMPLES, 1.0).into_iter().unzip();
        [a, b].map(|side| bootrace::analysis::median::median(&side).unwrap_or(1.0))
    });
    noise::margin(&medians.collect::<Vec<_>>())
}

/// Prints the tables. Returns the missed requirements.
pub fn report() -> Vec<String> {
    println!("#### Simulated, nothing changed, {SAMPLES} samples a side\n");
    let mut missed = Vec::new();
    for (title, apart) in [
        ("sides of one job (`bootrace ab`)", false),
        ("runs apart (`bootrace compare`), the margin from ten A/A sessions", true),
    ] {
        println!("{title}:\n");
        Tally::head();
        let mut all = Tally::default();
        for (number, shape) in SHAPES.iter().enumerate() {
            let mut rng = ChaCha8Rng::seed_from_u64(SEED + number as u64 + 100 * u64::from(apart));
            let mut tally = Tally::default();
            for _ in 0..COMPARISONS {
                tally.count(match apart {
                    false => in_one_job(job(shape, &mut rng, SAMPLES, 1.0)),
                    true => {
                        let margin = margin(shape, &mut rng);
                        let values =
                            Values::Unpaired { base: run(shape, &mut rng), new: run(shape, &mut rng) };
                        verdict(&values, margin)
                    }
                });
            }
            println!("{}", tally.line(shape.name));
            if tally.share(tally.regressed) > MOST_FALSE_ALARMS {
                missed.push(format!(
                    "{title}, {}: {} of {} are false alarms",
                    shape.name, tally.regressed, tally.all
                ));
            }
            all.add(&tally);
        }
        println!("{}\n", all.line("**all**"));
    }
    power();
    missed
}

fn power() {
    println!("#### Simulated, NEW slower, sides of one job: found\n");
    println!("| | +20 %, n = 20 | +10 %, n = 20 | +10 %, n = 40 | +7 %, n = 40 | +7 %, n = 100 |");
    println!("|:--|--:|--:|--:|--:|--:|");
    let columns = [(1.2, 20), (1.1, 20), (1.1, 40), (1.07, 40), (1.07, 100)];
    for (number, shape) in SHAPES.iter().enumerate() {
        let mut rng = ChaCha8Rng::seed_from_u64(SEED + 1000 + number as u64);
        let found = columns.map(|(times, samples)| {
            let verdicts = (0..COMPARISONS / 2).map(|_| in_one_job(job(shape, &mut rng, samples, times)));
            let mut tally = Tally::default();
            verdicts.for_each(|verdict| tally.count(verdict));
            format!("{:.0} %", tally.share(tally.regressed) * 100.0)
        });
        println!("| {} | {} |", shape.name, found.join(" | "));
    }
    println!("\n(The least margin is {:.0} %.)\n", LEAST_MARGIN * 100.0);
}
