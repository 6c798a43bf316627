//! `bootrace list`: scenarios, and the targets that can run on this host.

use std::{fmt::Write, path::Path};

use anyhow::Context;
use serde::Serialize;

use super::{BAD, Failure, HEADING, doctor::abilities, options::EngineQuery, print};
use crate::{
    doctor::{self, Ability},
    scenario,
};

#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    #[command(flatten)]
    pub asking: EngineQuery,
}

/// Prints scenarios and targets. A target that can't run is no failure.
///
/// # Errors
/// [`Failure::Run`] when standard output can't be written.
pub fn run(options: &Options) -> Result<(), Failure> {
    let runtime =
        tokio::runtime::Runtime::new().context("starting the async runtime").map_err(Failure::Run)?;
    let listing = Listing {
        scenarios: scenario::names().into_iter().map(Entry::new).collect(),
        targets: runtime.block_on(doctor::quick_check(options.asking.patience())).targets,
    };
    // Without waiting for a blocking call that hangs.
    runtime.shutdown_background();
    print(&if options.asking.json { listing.json() } else { listing.text() })
}

#[derive(Debug, Serialize)]
struct Listing {
    scenarios: Vec<Entry>,
    targets: Vec<Ability>,
}

/// A scenario of the list.
#[derive(Debug, Serialize)]
struct Entry {
    name: String,
    description: Option<String>,
    /// Null for a built-in scenario.
    path: Option<String>,
    targets: Vec<String>,
    /// The first error of a wrong scenario.
    error: Option<String>,
}

impl Entry {
    fn new(name: String) -> Self {
        let path = format!("{}/{name}.toml", scenario::FOLDER);
        let path = Path::new(&path).exists().then_some(path);
        match scenario::find(&name) {
            Ok((scenario, _)) => Entry {
                name,
                description: scenario.description,
                path,
                targets: scenario.targets.into_iter().map(|target| target.name).collect(),
                error: None,
            },
            Err(error) => {
                Entry { name, description: None, path, targets: Vec::new(), error: Some(error.to_string()) }
            }
        }
    }
}

impl Listing {
    fn json(&self) -> String {
        let json = serde_json::to_string_pretty(self).expect("all keys are strings");
        format!("{json}\n")
    }

    fn text(&self) -> String {
        let mut text = format!("{HEADING}Scenarios{HEADING:#}\n");
        let width = self.scenarios.iter().map(|entry| entry.name.len()).max().unwrap_or(0);
        for entry in &self.scenarios {
            let source = entry.path.as_deref().unwrap_or("built in");
            let _ = match (&entry.error, &entry.description) {
                (Some(error), _) => {
                    let first = error.lines().next().unwrap_or_default();
                    writeln!(text, "  {:width$}  {BAD}wrong{BAD:#}: {first}", entry.name)
                }
                (None, Some(description)) => {
                    writeln!(text, "  {:width$}  {description} ({source})", entry.name)
                }
                (None, None) => writeln!(text, "  {:width$}  ({source})", entry.name),
            };
        }
        text + "\n" + &abilities(&self.targets)
    }
}
