//! Prepares both sides before the first turn: reads and compares their scenarios, and builds revisions.

use std::{ffi::OsString, path::PathBuf};

use anyhow::anyhow;

use super::{
    Options,
    checkout::{Checkout, Checkouts},
    coordinator,
    revision::Revision,
    sides::{AbSide, SideSpec},
};
use crate::{
    cli::{Failure, density, progress::Progress, run, signals::Signals},
    image::Cache,
    scenario::Build,
};

/// Reads the scenarios that are files here; [`prepare`] reads those of revisions.
///
/// # Errors
/// [`Failure::Usage`] when a scenario is wrong or the sides' rounds differ.
pub fn check(sides: &[AbSide; 2], options: &Options) -> Result<(), Failure> {
    let mut rounds = Vec::new();
    for side in sides.iter().filter(|side| matches!(side.spec, SideSpec::Scenario(_))) {
        rounds.push(read(&side.scenario, options)?.0);
    }
    check_rounds(&rounds)
}

/// The warm-up and measured rounds of a scenario that this bootrace runs, and its `[build]`.
fn read(scenario: &str, options: &Options) -> Result<((u32, u32), Option<Build>), Failure> {
    // Another build of bootrace may accept other scenarios, so it validates its own.
    let mut scenario = run::load(scenario, &as_of_run(options))?.scenario;
    density::leave_out(&mut scenario)?;
    Ok(((scenario.sampling.warmup, scenario.sampling.samples), scenario.build))
}

fn check_rounds(rounds: &[(u32, u32)]) -> Result<(), Failure> {
    match rounds {
        [base, new] => coordinator::rounds_match(*base, *new).map_err(|why| Failure::Usage(anyhow!(why))),
        _ => Ok(()),
    }
}

fn as_of_run(options: &Options) -> run::Options {
    run::Options { rounds: options.rounds.clone(), ..run::Options::default() }
}

/// Adds the side and its revision to the error of a scenario.
fn of_revision(side: &AbSide, revision: &Revision, failure: Failure) -> Failure {
    let (side, scenario) = (side.side, &side.scenario);
    let text = |error: anyhow::Error| {
        anyhow!("{error:#}")
            .context(format!("reading the scenario {scenario} of the {side} side, {revision}"))
    };
    match failure {
        Failure::Usage(error) => Failure::Usage(text(error)),
        Failure::Run(error) => Failure::Run(text(error)),
        other => other,
    }
}

/// Checks that both revisions make the bootrace that measures them, or neither does.
fn one_bootrace(found: &[Option<(Checkout, Option<Build>)>]) -> Result<(), Failure> {
    let makes = |build: &Option<Build>| build.as_ref().is_some_and(|build| build.program.is_some());
    let [Some((base, of_base)), Some((new, of_new))] = found else { return Ok(()) };
    match (makes(of_base), makes(of_new)) {
        (true, true) | (false, false) => Ok(()),
        (base_makes, _) => {
            let (one, other) = if base_makes { (base, new) } else { (new, base) };
            Err(Failure::Usage(anyhow!(
                "the [build] of {} makes the bootrace that measures it, and that of {} does not\nfix: give both or neither a program",
                one.revision,
                other.revision
            )))
        }
    }
}

/// The program and scenario of a side.
pub struct SideRun {
    /// The bootrace of an executable or of a build; `None`: this one.
    pub program: Option<PathBuf>,
    /// The scenario as that bootrace finds it.
    pub scenario: OsString,
}

/// Checks revisions out, reads their scenarios, then builds them, so that a wrong scenario of either side is reported
/// before any build.
///
/// # Errors
/// [`Failure::Usage`] when a revision's scenario is missing, wrong, or does not fit the other side's; as
/// [`Checkouts::build`] when a build fails.
pub async fn prepare(
    sides: &[AbSide; 2],
    options: &Options,
    progress: &Progress,
    signals: &Signals,
) -> Result<(Option<Checkouts>, Vec<SideRun>), Failure> {
    let mut checkouts = None;
    let (mut found, mut rounds) = (Vec::new(), Vec::new());
    for side in sides {
        let Some(revision) = side.revision() else {
            if matches!(side.spec, SideSpec::Scenario(_)) {
                rounds.push(read(&side.scenario, options)?.0);
            }
            found.push(None);
            continue;
        };
        if checkouts.is_none() {
            let cache = Cache::open(None).map_err(|e| Failure::Run(e.into()))?;
            checkouts = Some(Checkouts::open(&cache, &revision.clone, progress, signals).await?);
        }
        let Some(checkouts) = &mut checkouts else { continue };
        let checkout = checkouts.check_out(side.side, revision, &side.scenario)?;
        let build = match Build::of_program(&checkout.scenario) {
            Some(build) => Some(build),
            None => {
                let path = checkout.scenario.display().to_string();
                let read = read(&path, options).map_err(|failure| of_revision(side, revision, failure))?;
                rounds.push(read.0);
                read.1
            }
        };
        found.push(Some((checkout, build)));
    }
    check_rounds(&rounds)?;
    one_bootrace(&found)?;
    let mut runs = Vec::new();
    for (side, found) in sides.iter().zip(found) {
        runs.push(match (found, &side.spec, &mut checkouts) {
            (Some((checkout, build)), _, Some(checkouts)) => {
                let program = match build {
                    Some(build) => checkouts.build(&checkout, &build, progress, signals).await?,
                    None => None,
                };
                SideRun { program, scenario: checkout.scenario.into() }
            }
            (_, SideSpec::Binary(path), _) => {
                SideRun { program: Some(path.clone()), scenario: (&side.scenario).into() }
            }
            _ => SideRun { program: None, scenario: (&side.scenario).into() },
        });
    }
    Ok((checkouts, runs))
}
