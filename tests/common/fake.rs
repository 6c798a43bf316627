//! A run on the fake target, for tests of order and failure.

use std::path::Path;

use bootrace::{
    runner::Job,
    sample::{self, Host, Results},
    scenario::Scenario,
    target::Target,
};

#[path = "fake_target.rs"]
#[allow(dead_code, reason = "not every test uses all of it")]
pub mod fake_target;

use fake_target::{Fake, Log, Part};

/// A run of this scenario on fake targets that play these parts.
pub fn job(id: &str, scenario: &str, dir: &Path, log: &Log, parts: &[(&str, &[Part])]) -> Job {
    let scenario = Scenario::parse(scenario, "a test").unwrap();
    let targets: Vec<Box<dyn Target>> =
        parts.iter().map(|(name, parts)| Box::new(Fake::new(name, log, parts)) as Box<dyn Target>).collect();
    let results = Results {
        schema: sample::SCHEMA.into(),
        run: sample::Run {
            id: id.into(),
            started_at: "2026-01-01T00:00:00Z".into(),
            seed: 7,
            bootrace_version: "0".into(),
            scenario: scenario.to_json(),
            interrupted: true,
            ..sample::Run::default()
        },
        host: Host::default(),
        image: sample::Image {
            digest: "0".repeat(64),
            distribution: "debian".into(),
            suite: "bookworm".into(),
            source: "fake".into(),
            ..sample::Image::default()
        },
        targets: targets.iter().map(|t| t.info()).collect(),
        samples: Vec::new(),
        density: Vec::new(),
    };
    Job { scenario, targets, results, instances: dir.into() }
}
