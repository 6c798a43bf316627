//! `bootrace run`: runs scenarios and writes their results and reports.

use std::{
    fs, io,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use anyhow::{Context, anyhow};
use rand::TryRng;

use super::{
    Failure, build,
    claims::{self, FailOn},
    density,
    options::{Rounds, Session},
    prepare::{Prepared, Request, prepare},
    print,
    progress::Progress,
    resume::{self, CommandLine},
    side::{Event, SideChannel, SideConfig},
    signals::{self, Signals},
    subject::{Resumed, Subject},
    warn,
};
use crate::{
    analysis,
    kind::Family,
    plan::plan,
    report::{self, sudo_user::as_sudo_user},
    runner::{self, Job},
    sample::{self, Results},
    scenario::{Scenario, ScenarioTarget},
    target::{Target, native},
    tune::Tuning,
};

/// Options as on the command line; `None` and empty: the scenario decides.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Options {
    /// Scenario files, or names of shipped scenarios [default: quickstart].
    #[arg(value_name = "SCENARIO|NAME")]
    pub scenarios: Vec<String>,
    #[command(flatten)]
    pub rounds: Rounds,
    #[command(flatten)]
    pub session: Session,
    /// Fail on claims: exit code 3 for a refuted one, 4 for an undecided one.
    #[arg(long, value_enum, default_value_t, value_name = "WHEN")]
    pub fail_on: FailOn,
    /// Run the [build] command of each scenario first, in the top folder of its git clone; by default a run builds nothing.
    #[arg(long)]
    pub build: bool,
    /// Commit to record for `bootrace history` [default: from CI's variables, else from git].
    #[arg(long, value_name = "SHA", value_parser = super::source::commit)]
    pub commit: Option<String>,
    /// Print results.json instead of the table.
    #[arg(long)]
    pub json: bool,
    /// Go on where this run was killed, failed or was interrupted, into the same directory; its scenario, image, bootrace
    /// and the host's boot must be the same.
    #[arg(long, value_name = "RUN_DIR", conflicts_with_all = ["as_side", "build", "commit"])]
    pub resume: Option<PathBuf>,
    /// Run as a side of `bootrace ab`, which sets this option.
    #[arg(long, hide = true, value_name = "JSON", conflicts_with_all = ["json", "tune", "build"])]
    pub as_side: Option<SideConfig>,
}

/// A finished run and its directory.
#[derive(Debug)]
pub struct Finished {
    pub results: Results,
    pub dir: PathBuf,
}

/// Runs one scenario after the other and writes results and reports. [`verdict`] judges the samples.
///
/// # Errors
/// [`Failure::Usage`] before anything runs; else the error of the first run that does not finish.
pub fn run(options: &Options) -> Result<Vec<Finished>, Failure> {
    let mut channel = match &options.as_side {
        Some(_) => Some(SideChannel::open().map_err(Failure::Run)?),
        None => None,
    };
    let subjects = subjects(options)?;
    if channel.is_some() && subjects.len() != 1 {
        return Err(Failure::Usage(anyhow!("--as-side is for one scenario")));
    }
    let is_process = |target: &ScenarioTarget| target.kind().family() == Family::Process;
    if subjects.iter().any(|subject| subject.scenario.targets.iter().any(is_process)) {
        native::isolate_mounts().map_err(|e| Failure::Run(e.into()))?;
    }
    let ran = signals::watched(async |signals, tuning| {
        let mut finished = Vec::new();
        if options.build {
            let progress = Progress::new(options.session.quiet || options.json);
            for Subject { scenario, folder, .. } in &subjects {
                build::in_clone(scenario, folder, &progress, signals).await?;
            }
        }
        for subject in subjects {
            finished.push(run_one(subject, options, signals, tuning, channel.as_mut()).await?);
        }
        Ok(finished)
    });
    ran.map_err(|failure| match failure {
        // The end of standard input has no signal number; it counts as a hang-up.
        Failure::Interrupted { signal, .. } | Failure::Stopped { signal } if options.as_side.is_some() => {
            Failure::SideStopped { signal: signal.max(1) }
        }
        other => other,
    })
}

/// The verdict on finished runs. A side of an A/B has none, since the coordinator judges both sides.
///
/// # Errors
/// [`Failure::Run`] when a sample failed or a target has none; else as [`claims::hold`].
pub fn verdict(finished: &[Finished], fail_on: FailOn) -> Result<(), Failure> {
    let alone = || finished.iter().filter(|finished| finished.results.run.ab.is_none());
    alone().try_for_each(samples_are_good)?;
    alone().try_for_each(|run| density::check(&run.results, &run.dir))?;
    claims::hold(alone().map(|run| &run.results), fail_on)
}

/// # Errors
/// [`Failure::Usage`] when the scenario is missing or wrong, or lacks a target of `--targets`.
pub(super) fn load(name: &str, options: &Options) -> Result<Subject, Failure> {
    let found = Subject::find(name).and_then(|subject| subject.with(&options.rounds));
    let mut subject = found.map_err(|e| Failure::Usage(e.into()))?;
    if options.as_side.is_some() {
        density::leave_out(&mut subject.scenario)?;
    }
    Ok(subject)
}

/// The scenarios of the command line, or the run that `--resume` names.
fn subjects(options: &Options) -> Result<Vec<Subject>, Failure> {
    let Options { scenarios, rounds, session, .. } = options;
    if let Some(dir) = &options.resume {
        return Ok(vec![resume::open(dir, &CommandLine { scenarios, rounds, session })?]);
    }
    match scenarios.is_empty() {
        true => Ok(vec![load("quickstart", options)?]),
        false => scenarios.iter().map(|name| load(name, options)).collect(),
    }
}

async fn run_one(
    subject: Subject,
    options: &Options,
    signals: &Signals,
    tuning: &Tuning,
    channel: Option<&mut SideChannel>,
) -> Result<Finished, Failure> {
    let progress = Progress::new(options.session.quiet || options.json || channel.is_some());
    let finished = measure(subject, options, &progress, signals, tuning, channel).await?;
    let Finished { results, dir } = &finished;
    show(results, dir, options)?;
    match results.run.interrupted {
        true => {
            if results.run.ab.is_none() && results.density.is_empty() {
                progress.say(&format!("to take the other samples: bootrace run --resume {}", dir.display()));
            }
            Err(Failure::Interrupted { signal: signals.signal(), dir: dir.clone() })
        }
        false => Ok(finished),
    }
}

/// Runs a scenario and writes results and report, also after an interrupt.
pub(super) async fn measure(
    subject: Subject,
    options: &Options,
    progress: &Progress,
    signals: &Signals,
    tuning: &Tuning,
    mut channel: Option<&mut SideChannel>,
) -> Result<Finished, Failure> {
    if let Some(channel) = &mut channel {
        channel.listen(&signals.stop);
    }
    let side_config = options.as_side.as_ref();
    let Subject { scenario, folder, file, resumed } = subject;
    let earlier = resumed.as_ref().map(|resumed| &resumed.results);
    let request = Request {
        scenario: &scenario,
        folder: &folder,
        tune: options.session.tune || earlier.is_some_and(|results| results.host.tuned.is_some()),
        resumed: earlier.map(|results| &*results.run.id),
        side_config,
    };
    let prepared = prepare(&request, progress, signals, tuning).await?;
    let (results, targets, instances, dir, lock) = match resumed {
        Some(resumed) => {
            resume::check_prepared(&resumed, &prepared)?;
            resume::sweep(&resumed, &prepared.instances).await?;
            let Resumed { mut results, dir, lock } = resumed;
            resume::record(&mut results, prepared.warnings);
            let (there, id) = (results.samples.len(), &results.run.id);
            progress.say(&format!("resuming {id} after {there} of {} samples", results.run.planned));
            (results, prepared.targets, prepared.instances, dir, lock)
        }
        None => {
            let Prepared { targets, image, host, warnings, instances } = prepared;
            let mut results = header(&scenario, &targets, image, host, warnings, options);
            results.run.scenario_file = file;
            results.run.source = match side_config {
                Some(side_config) => side_config.source.clone(),
                None => super::source::find(options.commit.as_deref(), &folder),
            };
            let dir = match side_config {
                Some(side_config) => side_config.dir.clone(),
                None => options.session.out.join(&results.run.id),
            };
            make_dir(&dir).map_err(Failure::Run)?;
            if side_config.is_none() {
                make_latest(&options.session.out, &results.run.id);
            }
            let lock = runner::Lock::take(&results.run.id).map_err(Failure::Run)?;
            (results, targets, instances, dir, lock)
        }
    };
    if side_config.is_none() {
        // A run that is killed in its first sample goes on too.
        report::save_results(&results, &dir).map_err(|e| Failure::Run(e.into()))?;
    }
    let job = Job { scenario, targets, results, instances };
    let mut recorder = progress.record(&dir, &job);
    let ran = match &mut channel {
        Some(channel) => {
            let mut watch = channel.watch(&job, &mut recorder);
            runner::run(job, &mut watch, &signals.stop).await
        }
        None => runner::run(job, &mut recorder, &signals.stop).await,
    };
    let mut results = ran.map_err(Failure::Run)?;
    drop(lock);
    if let Some(channel) = &mut channel {
        // The other side may still run its last trial, which a report's CPU time would disturb.
        channel.turn().await;
    }
    results.run.warnings.extend(tuning.changed());
    recorder.finish();
    report::write(&results, &dir).map_err(|e| Failure::Run(e.into()))?;
    if let Some(channel) = channel {
        channel.say(&Event::Finished { interrupted: results.run.interrupted });
    }
    Ok(Finished { results, dir })
}

/// The results before the first sample.
fn header(
    scenario: &Scenario,
    targets: &[Box<dyn Target>],
    image: sample::Image,
    host: sample::Host,
    warnings: Vec<String>,
    options: &Options,
) -> Results {
    let seed = options.session.seed.unwrap_or_else(fresh_seed);
    let now = jiff::Timestamp::now();
    let id = match &options.as_side {
        Some(side_config) => side_config.run.clone(),
        None => format!("{}-{}-{seed}", scenario.name, now.strftime("%Y%m%dT%H%M%SZ")),
    };
    Results {
        schema: sample::SCHEMA.into(),
        run: sample::Run {
            id,
            started_at: now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            seed,
            bootrace_version: env!("CARGO_PKG_VERSION").into(),
            program_digest: crate::sys::program_digest(),
            scenario: scenario.to_json(),
            scenario_file: None,
            planned: plan(targets.len(), &scenario.sampling, seed).len() as u32,
            interrupted: true,
            resumptions: Vec::new(),
            wall_ns: None,
            measuring_ns: None,
            cache_drop_ns: None,
            warnings,
            source: None,
            ab: options.as_side.as_ref().map(SideConfig::record),
        },
        host,
        image,
        targets: targets.iter().map(|t| t.info()).collect(),
        samples: Vec::new(),
        density: Vec::new(),
    }
}

/// A new seed. 32 bits suffice, and keep the run's id short.
pub(super) fn fresh_seed() -> u64 {
    let mut bytes = [0; 4];
    match rand::rngs::SysRng.try_fill_bytes(&mut bytes) {
        Ok(()) => u32::from_le_bytes(bytes).into(),
        Err(_) => jiff::Timestamp::now().as_nanosecond() as u64 & 0xffff_ffff,
    }
}

fn make_dir(dir: &Path) -> anyhow::Result<()> {
    as_sudo_user(|| fs::create_dir_all(dir))
        .with_context(|| format!("making the run's directory {}", dir.display()))
}

/// Points `DIR/latest` at the run, atomically. Nothing depends on the link, so a failure is a warning.
pub(super) fn make_latest(out: &Path, id: &str) {
    let latest = out.join("latest");
    let new = out.join(format!(".latest-{id}"));
    if let Err(why) = as_sudo_user(|| replace_link(&latest, id, &new)) {
        warn(&format!(
            "pointing {} at this run: {why}\nfix: move it away, then the next run makes the link",
            latest.display()
        ));
    }
}

/// Replaces a link, but nothing else that has its name.
fn replace_link(link: &Path, target: &str, new: &Path) -> io::Result<()> {
    match fs::symlink_metadata(link) {
        Ok(there) if there.is_dir() => {
            return Err(io::Error::other("it is a directory, and not bootrace's link"));
        }
        Ok(there) if !there.is_symlink() => {
            return Err(io::Error::other("it is a file, and not bootrace's link"));
        }
        _ => {}
    }
    symlink(target, new)?;
    fs::rename(new, link).inspect_err(|_| {
        let _ = fs::remove_file(new);
    })
}

fn show(results: &Results, dir: &Path, options: &Options) -> Result<(), Failure> {
    if options.json {
        let json = serde_json::to_string_pretty(results).context("writing results as JSON");
        return print(&(json.map_err(Failure::Run)? + "\n"));
    }
    if options.session.quiet || options.as_side.is_some() {
        return Ok(());
    }
    print(&(report::table(results, &analysis::analyse(results), true) + "\n"))?;
    print(&format!("report: {}\n", dir.join("index.html").display()))
}

/// Checks that every target has a good sample, unless the run is of density alone.
pub(super) fn targets_are_good(finished: &Finished) -> Result<(), Failure> {
    if density::is_all(&finished.results) {
        return Ok(());
    }
    let samples = &finished.results.samples;
    let good = |s: &sample::Sample, target: &sample::TargetRecord| {
        s.target == target.name && s.outcome == sample::Outcome::Ok && !s.warmup
    };
    let none = finished.results.targets.iter().find(|target| !samples.iter().any(|s| good(s, target)));
    let Some(target) = none else { return Ok(()) };
    let error = samples.iter().find(|s| s.target == target.name).and_then(|s| s.error.as_deref());
    let error = error.unwrap_or("it was never measured");
    Err(Failure::Run(anyhow!(
        "there is no good sample of {} in {}: {error}",
        target.name,
        finished.dir.display()
    )))
}

/// Checks that no sample failed: one failed sample fails the run.
pub(super) fn samples_are_good(finished: &Finished) -> Result<(), Failure> {
    let samples = &finished.results.samples;
    let measured =
        |target: &sample::TargetRecord| samples.iter().any(|s| s.target == target.name && !s.warmup);
    if !finished.results.targets.iter().all(measured) {
        targets_are_good(finished)?;
    }
    let bad: Vec<_> = samples.iter().filter(|s| !s.warmup && s.outcome != sample::Outcome::Ok).collect();
    let Some(first) = bad.first() else { return Ok(()) };
    let why = first.error.as_deref().unwrap_or("no reason is known");
    let warnings = finished.results.run.warnings.iter().filter(|warning| !why.contains(*warning));
    Err(Failure::Run(anyhow!(
        "{} of {} samples failed, the first on {} in round {}: {}{}\n(all samples are kept in {})",
        bad.len(),
        samples.iter().filter(|s| !s.warmup).count(),
        first.target,
        first.round + 1,
        why,
        warnings.map(|w| format!("\n{w}")).collect::<String>(),
        finished.dir.display(),
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latest_is_a_link_to_the_run_and_replaces_nothing_but_a_link() {
        let dir = tempfile::tempdir().unwrap();
        let (latest, new) = (dir.path().join("latest"), dir.path().join(".latest-b"));
        for id in ["a", "b"] {
            replace_link(&latest, id, &new).unwrap();
            assert_eq!(fs::read_link(&latest).unwrap(), Path::new(id));
        }
        fs::remove_file(&latest).unwrap();
        fs::write(&latest, "mine").unwrap();
        let error = replace_link(&latest, "c", &new).unwrap_err().to_string();
        assert_eq!(error, "it is a file, and not bootrace's link");
        assert_eq!(fs::read_to_string(&latest).unwrap(), "mine");
        fs::remove_file(&latest).unwrap();
        // An artifact of CI that was unpacked.
        fs::create_dir(&latest).unwrap();
        let error = replace_link(&latest, "c", &new).unwrap_err().to_string();
        assert_eq!(error, "it is a directory, and not bootrace's link");
        // A disk that the link can't be put on.
        replace_link(&dir.path().join("none/latest"), "c", &new).unwrap_err();
        assert!(!new.exists() && !new.is_symlink(), "nothing is left beside it");
    }
}
