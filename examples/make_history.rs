//! Writes many run directories made from a real one, to try `bootrace history` with a long history:
//!
//!     cargo run --release --example make_history -- DIR 10000
//!
//! Start-ups get seeded noise within a run and between runs. Their level changes after a fifth, a half and four fifths
//! of the history. Everything else is the real run's, so each file is as large.

use std::{fs, io, path::Path};

use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};
use serde_json::Value;

/// The factor of start-up, from this share of the runs on.
pub const LEVELS: [(f64, f64); 4] = [(0.0, 1.0), (0.2, 1.15), (0.5, 0.9), (0.8, 1.08)];

/// A roughly normal deviate with mean 0 and standard deviation 1.
fn normal_deviate(random: &mut ChaCha8Rng) -> f64 {
    let uniform = |r: &mut ChaCha8Rng| f64::from(r.next_u32()) / f64::from(u32::MAX);
    (0..12).map(|_| uniform(random)).sum::<f64>() - 6.0
}

/// Writes `runs` directories below `dir`, one hour apart.
///
/// # Errors
/// When a directory or file can't be written.
pub fn make(template: &Value, dir: &Path, runs: usize, seed: u64) -> io::Result<()> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let start: jiff::Timestamp = "2025-01-01T00:00:00Z".parse().map_err(io::Error::other)?;
    for index in 0..runs {
        let through = index as f64 / runs as f64;
        let level = LEVELS.iter().rev().find(|(from, _)| through >= *from).map_or(1.0, |(_, level)| *level);
        let level = level * (0.02 * normal_deviate(&mut random)).exp();
        let at = start + jiff::SignedDuration::from_hours(index as i64);
        let mut run = template.clone();
        let id = format!("quickstart-{}-{index}", at.strftime("%Y%m%dT%H%M%SZ"));
        run["run"]["id"] = id.clone().into();
        run["run"]["started_at"] = at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string().into();
        run["run"]["source"] = serde_json::json!({
            "commit": format!("{:016x}{index:024x}", (index as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15)),
            "branch": "main",
            "url": "https://example.org/project",
            "dirty": false,
        });
        for sample in run["samples"].as_array_mut().into_iter().flatten() {
            let by = level * (0.03 * normal_deviate(&mut random)).exp();
            for moment in sample["timeline_ns"].as_object_mut().into_iter().flatten() {
                if let Some(ns) = moment.1.as_u64() {
                    *moment.1 = ((ns as f64 * by) as u64).into();
                }
            }
        }
        let dir = dir.join(id);
        fs::create_dir_all(&dir)?;
        fs::write(dir.join("results.json"), serde_json::to_vec_pretty(&run)?)?;
    }
    Ok(())
}

#[allow(dead_code, reason = "a test takes this file as a module")]
fn main() -> io::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let (Some(dir), Some(runs)) = (arguments.next(), arguments.next().and_then(|n| n.parse().ok())) else {
        return Err(io::Error::other("usage: make_history DIR RUNS"));
    };
    let template = concat!(env!("CARGO_MANIFEST_DIR"), "/reports/sample/results.json");
    make(&serde_json::from_slice(&fs::read(template)?)?, Path::new(&dir), runs, 1)
}
