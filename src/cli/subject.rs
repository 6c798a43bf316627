//! The input of one run: a scenario, or the rest of an interrupted run.

use std::path::PathBuf;

use sha2::{Digest, Sha256};

use super::options::Rounds;
use crate::{
    digest::hex,
    runner::Lock,
    sample::{Results, ScenarioFile},
    scenario::{self, Scenario},
};

pub struct Subject {
    pub scenario: Scenario,
    /// The base of its relative paths.
    pub folder: PathBuf,
    /// `None` for a scenario in the program.
    pub file: Option<ScenarioFile>,
    /// `None` for a new run.
    pub resumed: Option<Resumed>,
}

/// The earlier part of a run that goes on.
pub struct Resumed {
    pub results: Results,
    pub dir: PathBuf,
    pub lock: Lock,
}

impl Subject {
    /// A scenario in the program.
    pub fn built_in(scenario: Scenario) -> Self {
        Subject { scenario, folder: ".".into(), file: None, resumed: None }
    }

    /// Finds a scenario by name or path.
    ///
    /// # Errors
    /// When it is missing or wrong.
    pub fn find(name: &str) -> Result<Self, scenario::Error> {
        let (scenario, folder) = scenario::find(name)?;
        let path = scenario::file(name).and_then(|path| std::path::absolute(path).ok());
        // JSON has no other paths than text.
        let path = path.and_then(|path| path.to_str().map(str::to_owned));
        let file = path.map(|path| ScenarioFile { path, digest: digest(&scenario) });
        Ok(Subject { scenario, folder, file, resumed: None })
    }

    /// Replaces the scenario's targets and rounds as the command line says.
    ///
    /// # Errors
    /// When it has no such target, or nothing to measure is left.
    pub fn with(mut self, rounds: &Rounds) -> Result<Self, scenario::Error> {
        self.scenario.select_targets(&rounds.targets)?;
        if let Some(samples) = rounds.samples {
            self.scenario.set_samples(samples)?;
        }
        if let Some(warmup) = rounds.warmup {
            self.scenario.set_warmup(warmup)?;
        }
        Ok(self)
    }
}

/// sha256 of a scenario with every default filled in.
pub fn digest(scenario: &Scenario) -> String {
    hex(Sha256::digest(scenario.to_json().to_string()))
}
