//! `bootrace ab`: two sides on one host, their samples taken in turn.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};

use anyhow::Context;

use self::{
    coordinator::{Job, SideProcess},
    sides::SideSpec,
};
use super::{
    Failure, compare, density,
    paced::SideConfig,
    prepare::must_be_root,
    print,
    progress::Progress,
    run::{self, Finished},
    signals::{self, Signals},
    source,
};
use crate::{
    image::Cache,
    report::{self, comparison},
    sample::{Results, Setting, Side, Source},
    scenario,
    tune::Tuning,
};

mod child;
mod compiler;
mod coordinator;
mod protocol;
mod revision;
mod show;
mod sides;
mod sudo_user;

pub const EXAMPLES: &str = "\
Examples:
  bootrace ab --base base/bench.toml --new head/bench.toml    two scenarios, measured by this bootrace
  bootrace ab --base old/bootrace --new new/bootrace redis    two builds of bootrace, one scenario
  bootrace ab --base main --new HEAD --targets docker         two commits of bootrace, built first
  bootrace ab --base main --new rev:redis                     a branch that is called as a scenario is: rev:
  bootrace ab --base my.toml --new new/bootrace               this bootrace and another one, both with my.toml

The two samples of a pair are taken right after each other, so what drifts on the host meets both sides.
Written to reports/ab-TIME-SEED: index.html, summary.md and comparison.json, and base and new, each a run with its
report; reports/latest is the newest. What a clone has and no commit is in no revision: build it, and give its
executable. How it is judged: bootrace compare --help.

Exit codes: 0 done, 1 more of NEW's samples failed, a target has no good one, or a side was lost, 2 wrong command line or scenario, 3 regressed,
4 inconclusive (only with --fail-on inconclusive), 130 ended by Ctrl-C (what was measured is kept).";

/// As given on the command line; `None` and empty: as the scenario says.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// What is there already: a scenario, an executable of bootrace, or a git revision of it.
    #[arg(long, value_name = "SCENARIO|BINARY|REV")]
    pub base: String,
    /// What may replace it, one of the same three.
    #[arg(long, value_name = "SCENARIO|BINARY|REV")]
    pub new: String,
    /// The scenario of sides that are an executable or a revision; none: the other side's, where that is one, else
    /// quickstart.
    #[arg(value_name = "SCENARIO")]
    pub scenario: Option<String>,
    /// Only these targets of the scenarios, by name.
    #[arg(long, value_delimiter = ',', value_name = "A,B")]
    pub targets: Vec<String>,
    /// Measured rounds of each side.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(i64::from(*scenario::SAMPLES.start())..=i64::from(*scenario::SAMPLES.end())))]
    pub samples: Option<u32>,
    /// Warm-up rounds: recorded, excluded from all statistics.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(i64::from(*scenario::WARMUP.start())..=i64::from(*scenario::WARMUP.end())))]
    pub warmup: Option<u32>,
    /// Seed of the random order, of targets and of sides; none: a fresh one, recorded in the results.
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// Where it is written.
    #[arg(long, default_value = "reports", value_name = "DIR")]
    pub out: PathBuf,
    /// Set the CPU governor, turbo, KSM and swappiness for both sides, drop the page cache once, and put back what
    /// was found.
    #[arg(long)]
    pub tune: bool,
    #[command(flatten)]
    pub gate: compare::Gate,
    /// No progress bar, no table.
    #[arg(long, short)]
    pub quiet: bool,
    /// Print comparison.json in place of the table.
    #[arg(long)]
    pub json: bool,
}

/// Measures both sides and compares them.
///
/// # Errors
/// A usage error before anything runs; [`Failure::Run`] when a side was lost or a sample failed; what was measured is
/// kept.
pub fn run(options: &Options) -> Result<(), Failure> {
    let sides = sides(options)?;
    must_be_root().map_err(Failure::Run)?;
    signals::watched(async |signals, tuning| coordinate(sides, options, signals, tuning).await)
}

/// What each side is, as far as it can be told without running anything.
fn sides(options: &Options) -> Result<[(Side, String, SideSpec); 2], Failure> {
    let tell = |side: Side, text: &str| {
        let given =
            SideSpec::tell(text).with_context(|| format!("--{side} {text}")).map_err(Failure::Usage)?;
        Ok((side, text.to_owned(), given))
    };
    let sides = [tell(Side::Base, &options.base)?, tell(Side::New, &options.new)?];
    let mut rounds = Vec::new();
    for (_, _, given) in &sides {
        if let SideSpec::Scenario(name) = given {
            // A bootrace of another build may know other scenarios than this one: it says itself what is wrong.
            let (mut scenario, _) = run::load(name, &as_of_run(options))?;
            density::leave_out(&mut scenario)?;
            rounds.push((scenario.sampling.warmup, scenario.sampling.samples));
        }
    }
    match (&rounds[..], &options.scenario) {
        ([base, new], None) => {
            coordinator::alike(*base, *new).map_err(|why| Failure::Usage(anyhow::anyhow!(why)))?
        }
        ([_, _], Some(scenario)) => {
            return Err(Failure::Usage(anyhow::anyhow!(
                "both sides are scenarios, so nothing would run the scenario {scenario:?}: leave it out"
            )));
        }
        _ => {}
    }
    Ok(sides)
}

fn as_of_run(options: &Options) -> run::Options {
    run::Options {
        targets: options.targets.clone(),
        samples: options.samples,
        warmup: options.warmup,
        ..run::Options::default()
    }
}

async fn coordinate(
    sides: [(Side, String, SideSpec); 2],
    options: &Options,
    signals: &Signals,
    tuning: &Tuning,
) -> Result<(), Failure> {
    let progress = Progress::new(options.quiet || options.json);
    let mut programs = Vec::new();
    for (_, _, given) in &sides {
        programs.push(program(given, &progress, signals).await?);
    }
    let seed = options.seed.unwrap_or_else(run::fresh_seed);
    let mut tuned = None;
    if options.tune {
        tuned = Some(tuning.apply().map_err(|e| Failure::Run(e.into()))?);
    }
    let id = coordinator::make_dir(&options.out, seed).await.map_err(Failure::Run)?;
    let mut programs = programs.into_iter();
    let scenarios = scenarios([&sides[0].2, &sides[1].2], options.scenario.as_deref());
    let common = Common { id: &id, seed, options, tuned: &tuned, scenarios };
    let sides = sides.map(|(side, text, given)| {
        let program = programs.next().unwrap_or_default();
        side_process(side, text, given, program, &common)
    });
    let [base, new] = sides;
    let job = Job {
        id,
        out: options.out.clone(),
        seed,
        sides: [base.map_err(Failure::Run)?, new.map_err(Failure::Run)?],
    };
    job.coordinate(&progress, signals).await?;
    tuning.changed().iter().for_each(|line| progress.say(line));
    let (base, new) = (job.dir_of(Side::Base), job.dir_of(Side::New));
    let sides = [load(&base)?, load(&new)?];
    let judged = judge(&sides, &options.out.join(&job.id), options);
    let finished: Vec<Finished> =
        sides.into_iter().zip([base, new]).map(|(results, dir)| Finished { results, dir }).collect();
    judged.map_err(|failure| with_cause(failure, &finished))?;
    // How many failed is for the gate to say; a target of which there is none to judge is another matter.
    finished.iter().try_for_each(run::targets_were_good)
}

/// Where the gate says that too many of NEW's samples failed, what failed in them.
fn with_cause(failure: Failure, finished: &[Finished]) -> Failure {
    let why = finished.last().map(run::samples_are_good);
    match (failure, why) {
        (Failure::Run(gate), Some(Err(Failure::Run(why)))) => Failure::Run(why.context(gate.to_string())),
        (failure, _) => failure,
    }
}

/// The bootrace that runs a side.
async fn program(given: &SideSpec, progress: &Progress, signals: &Signals) -> Result<PathBuf, Failure> {
    match given {
        // Also where the file that it came from has been replaced.
        SideSpec::Scenario(_) => Ok("/proc/self/exe".into()),
        SideSpec::Binary(path) => Ok(path.clone()),
        SideSpec::Revision(revision) => {
            let cache = Cache::open(None).map_err(|e| Failure::Run(e.into()))?;
            revision.build(&cache, progress, signals).await
        }
    }
}

/// What both sides have.
struct Common<'a> {
    id: &'a str,
    seed: u64,
    options: &'a Options,
    tuned: &'a Option<Vec<Setting>>,
    /// Base's, then new's.
    scenarios: [String; 2],
}

/// What each side runs: its own scenario, the one that is given, the other side's, quickstart.
fn scenarios(sides: [&SideSpec; 2], given: Option<&str>) -> [String; 2] {
    let own = sides.map(|side| match side {
        SideSpec::Scenario(name) => Some(name.as_str()),
        _ => None,
    });
    let of = |side: usize| own[side].or(given).or(own[1 - side]).unwrap_or("quickstart").to_owned();
    [of(0), of(1)]
}

/// What a side measures. Of an executable nothing is known.
fn source_of(given: &SideSpec) -> Option<Source> {
    match given {
        SideSpec::Scenario(name) => {
            let (_, folder) = scenario::find(name).ok()?;
            // One that is built in is of no folder.
            let built_in = folder == Path::new(".") && !name.contains('/') && !name.ends_with(".toml");
            if built_in { None } else { source::of_folder(&folder) }
        }
        SideSpec::Binary(_) => None,
        SideSpec::Revision(revision) => Some(revision.source()),
    }
}

fn side_process(
    side: Side,
    text: String,
    given: SideSpec,
    program: PathBuf,
    common: &Common,
) -> anyhow::Result<SideProcess> {
    let Common { id, seed, options, tuned, ref scenarios } = *common;
    let scenario = scenarios[side as usize].clone();
    let run = |side| format!("{id}-{side}");
    let part = SideConfig {
        ab: id.into(),
        side,
        run: run(side),
        partner: run(side.other()),
        dir: options.out.join(id).join(side.name()),
        tuned: tuned.clone(),
        source: source_of(&given),
    };
    let part = serde_json::to_string(&part).context("writing a side's configuration as JSON")?;
    let mut arguments: Vec<OsString> =
        ["run", "--quiet", "--paced", &part, "--seed", &seed.to_string()].map(OsString::from).into();
    let mut option = |name: &str, value: Option<String>| {
        arguments.extend(value.into_iter().flat_map(|value| [name.into(), value.into()]));
    };
    option("--targets", (!options.targets.is_empty()).then(|| options.targets.join(",")));
    option("--samples", options.samples.map(|n| n.to_string()));
    option("--warmup", options.warmup.map(|n| n.to_string()));
    arguments.extend(["--".into(), OsString::from(&scenario)]);
    let commit = match &given {
        SideSpec::Revision(revision) => Some(revision.commit.clone()),
        _ => None,
    };
    let named = match given {
        SideSpec::Scenario(_) => std::env::current_exe().context("asking which executable this is")?,
        _ => program.clone(),
    };
    Ok(SideProcess {
        side,
        given: text,
        start: program,
        program: named,
        commit,
        scenario,
        arguments,
        run: run(side),
    })
}

fn load(dir: &Path) -> Result<Results, Failure> {
    report::load(dir).map_err(|e| Failure::Run(e.into()))
}

/// Holds NEW against BASE, writes and shows that.
///
/// # Errors
/// When it can't be written; else as the gate ends.
fn judge([base, new]: &[Results; 2], dir: &Path, options: &Options) -> Result<(), Failure> {
    let pairs = [(base, new)];
    let comparison = compare::compare(&pairs, &options.gate)?;
    comparison::write(&comparison, &pairs, dir).map_err(|e| Failure::Run(e.into()))?;
    if options.json {
        print(&comparison::json(&comparison).map_err(|e| Failure::Run(e.into()))?)?;
    } else if !options.quiet {
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
    fn a_side_without_a_scenario_takes_the_other_ones() {
        let (scenario, binary) = (SideSpec::Scenario("my.toml".into()), SideSpec::Binary("/x".into()));
        assert_eq!(scenarios([&scenario, &binary], None), ["my.toml", "my.toml"]);
        assert_eq!(scenarios([&binary, &scenario], None), ["my.toml", "my.toml"]);
        assert_eq!(scenarios([&binary, &scenario], Some("redis")), ["redis", "my.toml"]);
        assert_eq!(scenarios([&binary, &binary], Some("redis")), ["redis", "redis"]);
        assert_eq!(scenarios([&binary, &binary], None), ["quickstart", "quickstart"]);
    }

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
