//! `bootrace ab`: two sides on one host, interleaved.

use std::{ffi::OsString, path::Path};

use anyhow::{Context, anyhow};

use self::{
    coordinator::Job,
    prepare::SideRun,
    sides::{AbSide, SideProcess, SideSpec},
};
use super::{
    Failure, compare,
    prepare::must_be_root,
    print,
    progress::Progress,
    run::{self, Finished},
    side::SideConfig,
    signals::{self, Signals},
    source,
};
use crate::{
    report::{self, comparison},
    sample::{Results, Setting, Side, Source},
    scenario,
    tune::Tuning,
};

pub(super) mod checkout;
mod child;
mod compiler;
mod coordinator;
mod options;
mod prepare;
mod protocol;
mod revision;
mod show;
mod sides;

pub use options::{EXAMPLES, Options};

/// Measures both sides and compares them.
///
/// # Errors
/// [`Failure::Usage`] before anything runs; [`Failure::Run`] when a build fails, a side ends early or a sample fails;
/// all samples so far are kept.
pub fn run(options: &Options) -> Result<(), Failure> {
    if options.rounds.samples == Some(0) {
        return Err(Failure::Usage(anyhow!("an A/B compares rounds: --samples takes 1 or more")));
    }
    let sides =
        sides::both(&options.base, &options.new, options.scenario.as_deref()).map_err(Failure::Usage)?;
    prepare::check(&sides, options)?;
    must_be_root().map_err(Failure::Run)?;
    signals::watched(async |signals, tuning| coordinate(sides, options, signals, tuning).await)
}

async fn coordinate(
    sides: [AbSide; 2],
    options: &Options,
    signals: &Signals,
    tuning: &Tuning,
) -> Result<(), Failure> {
    let progress = Progress::new(options.session.quiet || options.json);
    // The checkouts stay until the sides have ended.
    let (_checkouts, runs) = prepare::prepare(&sides, options, &progress, signals).await?;
    let seed = options.session.seed.unwrap_or_else(run::fresh_seed);
    let mut tuned = None;
    if options.session.tune {
        tuned = Some(tuning.apply().map_err(|e| Failure::Run(e.into()))?);
    }
    let id = coordinator::make_dir(&options.session.out, seed).await.map_err(Failure::Run)?;
    let common = Common { id: &id, seed, options, tuned: &tuned };
    let [base, new] = &sides;
    let [base, new] = [side_process(base, &runs[0], &common), side_process(new, &runs[1], &common)];
    let job = Job {
        id,
        out: options.session.out.clone(),
        seed,
        sides: [base.map_err(Failure::Run)?, new.map_err(Failure::Run)?],
    };
    job.coordinate(&progress, signals).await?;
    tuning.changed().iter().for_each(|line| progress.say(line));
    let (base, new) = (job.dir_of(Side::Base), job.dir_of(Side::New));
    let sides = [load(&base)?, load(&new)?];
    let judged = judge(&sides, &options.session.out.join(&job.id), options);
    let finished: Vec<Finished> =
        sides.into_iter().zip([base, new]).map(|(results, dir)| Finished { results, dir }).collect();
    judged.map_err(|failure| with_cause(failure, &finished))?;
    // The gate judges the number of failures, but not a target without a single good sample.
    finished.iter().try_for_each(run::targets_are_good)
}

/// The errors of NEW's failed samples, if the gate finds too many of them.
fn with_cause(failure: Failure, finished: &[Finished]) -> Failure {
    let why = finished.last().map(run::samples_are_good);
    match (failure, why) {
        (Failure::Run(gate), Some(Err(Failure::Run(why)))) => Failure::Run(why.context(gate.to_string())),
        (failure, _) => failure,
    }
}

/// The common input of both sides.
struct Common<'a> {
    id: &'a str,
    seed: u64,
    options: &'a Options,
    tuned: &'a Option<Vec<Setting>>,
}

/// The commit that a side measures; `None` for an executable, whose commit is unknown.
fn source_of(given: &SideSpec) -> Option<Source> {
    match given {
        SideSpec::Scenario(name) => {
            let (_, folder) = scenario::find(name).ok()?;
            // A built-in scenario has no folder.
            let built_in = folder == Path::new(".") && !name.contains('/') && !name.ends_with(".toml");
            if built_in { None } else { source::of_folder(&folder) }
        }
        SideSpec::Binary(_) => None,
        SideSpec::Revision(revision) => Some(revision.source()),
    }
}

fn side_process(of: &AbSide, how: &SideRun, common: &Common) -> anyhow::Result<SideProcess> {
    let Common { id, seed, options, tuned } = *common;
    let side = of.side;
    let run = |side| format!("{id}-{side}");
    let side_config = SideConfig {
        ab: id.into(),
        side,
        run: run(side),
        partner: run(side.other()),
        dir: options.session.out.join(id).join(side.name()),
        tuned: tuned.clone(),
        source: source_of(&of.spec),
    };
    let side_config =
        serde_json::to_string(&side_config).context("writing a side's configuration as JSON")?;
    let mut arguments: Vec<OsString> =
        ["run", "--quiet", "--as-side", &side_config, "--seed", &seed.to_string()].map(OsString::from).into();
    let mut option = |name: &str, value: Option<String>| {
        arguments.extend(value.into_iter().flat_map(|value| [name.into(), value.into()]));
    };
    option("--targets", (!options.rounds.targets.is_empty()).then(|| options.rounds.targets.join(",")));
    option("--samples", options.rounds.samples.map(|n| n.to_string()));
    option("--warmup", options.rounds.warmup.map(|n| n.to_string()));
    arguments.extend(["--".into(), how.scenario.clone()]);
    let program = match &how.program {
        Some(program) => program.clone(),
        None => std::env::current_exe().context("asking which executable this is")?,
    };
    Ok(SideProcess {
        side,
        argument: of.argument.clone(),
        // The running program, even if its file has been replaced.
        start: how.program.clone().unwrap_or_else(|| "/proc/self/exe".into()),
        program,
        commit: of.revision().map(|revision| revision.commit.clone()),
        scenario: of.scenario.clone(),
        arguments,
        run: run(side),
    })
}

fn load(dir: &Path) -> Result<Results, Failure> {
    report::load(dir).map_err(|e| Failure::Run(e.into()))
}

/// Compares NEW to BASE, writes the comparison and shows it.
///
/// # Errors
/// When a file can't be written; else with the gate's verdict.
fn judge([base, new]: &[Results; 2], dir: &Path, options: &Options) -> Result<(), Failure> {
    let pairs = [(base, new)];
    let comparison = compare::compare(&pairs, &options.gate)?;
    comparison::write(&comparison, &pairs, dir).map_err(|e| Failure::Run(e.into()))?;
    if options.json {
        print(&comparison::json(&comparison).map_err(|e| Failure::Run(e.into()))?)?;
    } else if !options.session.quiet {
        print(&comparison::table(&comparison, false))?;
        print(&format!("report: {}\n", dir.join("index.html").display()))?;
    }
    compare::verdict(&comparison, options.gate.fail_on)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn the_source_of_a_side_is_its_own_folders_or_none() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a.toml");
        std::fs::copy("scenarios/quickstart.toml", &file).unwrap();
        let side = SideSpec::Scenario(file.display().to_string());
        // The working directory is a clone; it isn't asked.
        assert_eq!(source_of(&side), None);
        let git = |arguments: &[&str]| {
            let mut git = Command::new("git");
            git.arg("-C").arg(dir.path()).args(["-c", "user.name=a", "-c", "user.email=a@b"]).args(arguments);
            let output = git.output().unwrap();
            assert!(output.status.success(), "{arguments:?}");
            String::from_utf8(output.stdout).unwrap().trim().to_owned()
        };
        git(&["init", "--quiet"]);
        git(&["add", "a.toml"]);
        git(&["commit", "--quiet", "--message", "a"]);
        // git is given up on where the machine is slow.
        let source = (0..20).find_map(|_| source_of(&side)).unwrap();
        assert_eq!(source.commit, git(&["rev-parse", "HEAD"]));
        assert_eq!(source_of(&SideSpec::Binary("/bin/true".into())), None);
    }
}
