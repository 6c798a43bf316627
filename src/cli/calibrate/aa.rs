//! `bootrace calibrate --aa`: each target against itself, for the noise floor of this host.

use std::path::Path;

use anyhow::Context;

use super::{super::run, LeftOut, Options, report_left_out};
use crate::{
    analysis,
    calibration::noise::{self, Record, Session},
    cli::{Failure, print, progress::Progress, signals::Signals, subject::Subject},
    probe::host,
    report::calibration as shown,
    sample::Host,
    scenario::{self, Kind, Scenario},
    tune::Tuning,
};

/// The default number of good samples of each side in each session.
const SAMPLES: u32 = 10;

/// Runs the sessions, adds them to this host's noise record, and shows the floors.
///
/// # Errors
/// [`Failure::Run`] when a sample fails or the record can't be saved.
pub async fn run(
    options: &Options,
    runnable: &Scenario,
    left_out: &LeftOut,
    signals: &Signals,
    tuning: &Tuning,
) -> Result<(), Failure> {
    let progress = Progress::new(options.session.quiet || options.json);
    report_left_out(left_out, &progress);
    let kinds: Vec<Kind> = runnable.targets.iter().map(|target| target.kind()).collect();
    let scenario =
        scenario(&kinds, options.samples.unwrap_or(SAMPLES)).map_err(|e| Failure::Run(e.into()))?;
    let first_seed = options.session.seed.unwrap_or_else(run::fresh_seed);
    // Read the record before measuring, so that an unreadable one costs no session.
    let mut record = keep(&host::facts(), Vec::new())?;
    for number in 0..options.sessions {
        progress.say(&format!("session {} of {}", number + 1, options.sessions));
        let session = run::Options {
            session: super::Session {
                seed: Some(first_seed.wrapping_add(u64::from(number))),
                ..options.session.clone()
            },
            ..run::Options::default()
        };
        let subject = Subject::built_in(scenario.clone());
        let finished = run::measure(subject, &session, &progress, signals, tuning, None).await?;
        if finished.results.run.interrupted {
            return Err(Failure::Interrupted { signal: signals.signal(), dir: finished.dir });
        }
        run::samples_are_good(&finished)?;
        let results = &finished.results;
        // Save each session at once.
        record = keep(&results.host, noise::sessions(results, &analysis::analyse(results)))?;
    }
    show(&record, options)
}

/// The quickstart workload without its work command; each kind of target twice.
fn scenario(kinds: &[Kind], samples: u32) -> Result<Scenario, scenario::Error> {
    let mut scenario = Scenario::parse(scenario::QUICKSTART, "quickstart (built in)")?;
    let targets: String = kinds
        .iter()
        .flat_map(|kind| {
            noise::sides(*kind).map(|name| format!("[[target]]\nname = \"{name}\"\nkind = \"{kind}\"\n"))
        })
        .collect();
    let text = format!(
        "name = \"aa\"\ndescription = \"the same target against itself\"\n[workload]\ncommand = [\"true\"]\n\
         ready = {{ exit = 0 }}\n[sampling]\nsamples = {samples}\nwarmup = 1\nsettle = \"300ms\"\nidle = \"0s\"\n{targets}"
    );
    let aa = Scenario::parse(&text, "calibration")?;
    scenario.workload.work = None;
    Ok(Scenario { workload: scenario.workload, resources: scenario.resources, image: scenario.image, ..aa })
}

/// Adds sessions to this host's noise record and returns all of it.
fn keep(host: &Host, sessions: Vec<Session>) -> Result<Record, Failure> {
    let save = |record: &Record, path: &Path| shown::save_noise(record, path).map_err(anyhow::Error::from);
    noise::keep(host, sessions, save)
        .with_context(|| {
            let path = noise::file(&noise::key(host));
            format!(
                "saving this host's noise record {}\nfix: if it is damaged, move it away to begin a new one",
                path.display()
            )
        })
        .map_err(Failure::Run)
}

fn show(record: &Record, options: &Options) -> Result<(), Failure> {
    let floors = record.floors();
    if options.json {
        let json = serde_json::json!({ "record": record, "floors": floors });
        let json = serde_json::to_string_pretty(&json).context("writing the noise floors as JSON");
        return print(&(json.map_err(Failure::Run)? + "\n"));
    }
    if options.session.quiet {
        return Ok(());
    }
    print(&(shown::floors(record, &floors) + "\n"))?;
    print(&format!("kept in {}\n", noise::file(&record.host).display()))
}
