//! `bootrace calibrate`: measures the error of the figures on this host.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use anyhow::{Context, anyhow};
use clap::builder::PossibleValuesParser;
use indicatif::ProgressBar;

use super::{
    Failure,
    options::Session,
    prepare::{Prepared, Request, must_be_root, prepare, unless_stopped},
    print,
    progress::Progress,
    run,
    signals::{self, Signals},
};
use crate::{
    calibration::{Break, Calibration, Check, Plan, SCHEMA, drive, record_left_overs},
    kind::Family,
    probe::host,
    report::calibration as report,
    runner::{
        self,
        left_over::{self, Owner},
    },
    sample::{self, Accelerator},
    scenario::{self, Kind, Scenario},
    target::{self, Target, engine, native},
    tune::Tuning,
};

mod aa;

pub const EXAMPLES: &str = "\
Examples:
  bootrace calibrate                                  every check on every target that can run here
  bootrace calibrate --targets docker --checks delay,memory
  bootrace calibrate --break page-cache               break a reader: the calibration must fail
  bootrace calibrate --aa                             each target against itself: this host's noise floor
  bootrace calibrate --json > calibration.json

It writes reports/calibration-.../index.html and calibration.json. With --aa it writes a run for each session,
and adds it to the noise record of this host in /var/lib/bootrace/noise (BOOTRACE_STATE names another directory).";

/// The default number of samples of each reference workload.
const SAMPLES: u32 = 5;

#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// Calibrate only these kinds of target; each must run here [default: those of native, docker and libvirt that run
    /// here].
    #[arg(long, value_delimiter = ',', value_name = "A,B", value_parser = PossibleValuesParser::new(Kind::ALL.map(Kind::name)))]
    pub targets: Vec<String>,
    /// Run only these checks.
    #[arg(long, value_delimiter = ',', value_name = "A,B", value_parser = PossibleValuesParser::new(Check::ALL.map(Check::name)))]
    pub checks: Vec<String>,
    /// Run each reference workload this often (default 5; half as often for those without noise); with --aa, take this
    /// many samples of each side in each session (default 10).
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(2..=1000))]
    pub samples: Option<u32>,
    /// Run each target against itself and record the noise floor, which sets the margin of a gate.
    #[arg(long, conflicts_with_all = ["checks", "broken"])]
    pub aa: bool,
    /// Number of A/A sessions.
    #[arg(long, value_name = "N", default_value_t = 3, requires = "aa", value_parser = clap::value_parser!(u32).range(1..=100))]
    pub sessions: u32,
    #[command(flatten)]
    pub session: Session,
    /// Print calibration.json (with --aa: the noise record and its floors) instead of the table.
    #[arg(long)]
    pub json: bool,
    /// Break a reader on purpose, to check that the calibration fails.
    #[arg(long = "break", value_name = "READER", value_parser = PossibleValuesParser::new(Break::ALL.map(Break::name)))]
    pub broken: Option<String>,
}

/// Runs the reference workloads and compares their figures to the known values.
///
/// # Errors
/// [`Failure::Run`] when a figure is beyond its bound, or no target can run.
pub fn run(options: &Options) -> Result<(), Failure> {
    // Before the runtime starts threads, since a mount namespace is per thread.
    let isolated = native::isolate_mounts();
    signals::watched(async |signals, tuning| {
        let (scenario, left_out) = unless_stopped(signals, runnable(options, isolated)).await?;
        match options.aa {
            true => aa::run(options, &scenario, &left_out, signals, tuning).await,
            false => calibrate(options, scenario, left_out, signals, tuning).await,
        }
    })
}

async fn calibrate(
    options: &Options,
    scenario: Scenario,
    left_out: LeftOut,
    signals: &Signals,
    tuning: &Tuning,
) -> Result<(), Failure> {
    let progress = Progress::new(options.session.quiet || options.json);
    report_left_out(&left_out, &progress);
    let request = Request {
        scenario: &scenario,
        folder: Path::new("."),
        tune: options.session.tune,
        resumed: None,
        side_config: None,
    };
    let Prepared { targets, image, host, warnings, instances } =
        prepare(&request, &progress, signals, tuning).await?;
    let calibration = header(options, &targets, left_out, image, host, warnings);
    let dir = options.session.out.join(&calibration.id);
    let lock = runner::Lock::take(&calibration.id).map_err(Failure::Run)?;
    let vms: Vec<bool> =
        targets.iter().map(|target| target.info().accelerator != Accelerator::None).collect();
    let plan = Plan::new(&checks(options), &vms, options.samples.unwrap_or(SAMPLES), calibration.seed);
    let mut bar = Bar { bar: progress.bar("calibrate", plan.0.len() as u64), dir: dir.clone() };
    let broken = Break::ALL.into_iter().find(|b| Some(b.name()) == options.broken.as_deref());
    let owner = Owner::Run(calibration.id.clone());
    let job = drive::Job { targets, plan, broken, calibration, instances: instances.clone() };
    let mut calibration = drive::run(job, &mut bar, &signals.stop).await.map_err(Failure::Run)?;
    drop(lock);
    bar.bar.finish_and_clear();
    if calibration.interrupted && calibration.taken.is_empty() {
        return Err(Failure::Stopped { signal: signals.signal() });
    }
    calibration.warnings.extend(tuning.changed());
    calibration.host.noise_after = Some(host::noise());
    record_left_overs(&mut calibration, left_over::find(&instances, &owner).await);

    report::write(&calibration, &dir).map_err(|e| Failure::Run(e.into()))?;
    show(&calibration, &dir, options)?;
    if calibration.interrupted {
        return Err(Failure::Interrupted { signal: signals.signal(), dir });
    }
    verdict(&calibration)
}

/// The targets that can't run here, with reasons.
type LeftOut = BTreeMap<String, String>;

fn report_left_out(left_out: &LeftOut, progress: &Progress) {
    for (name, why) in left_out {
        progress.say(&format!("{name} can't run here and is left out: {why}"));
    }
}

fn checks(options: &Options) -> Vec<Check> {
    let request =
        |check: &Check| options.checks.is_empty() || options.checks.iter().any(|c| c == check.name());
    Check::ALL.into_iter().filter(request).collect()
}

/// A scenario with the targets of `--targets`, else with the standard ones that can run here.
async fn runnable(
    options: &Options,
    isolated: Result<(), target::Error>,
) -> anyhow::Result<(Scenario, LeftOut)> {
    must_be_root()?;
    let mut scenario =
        Check::Idle.scenario(0).context("the calibration's own scenario is wrong: this is a bug")?;
    // A scenario that names no target has the standard ones; `--targets` adds the others.
    for kind in Kind::ALL.into_iter().filter(|kind| !kind.is_standard()) {
        if options.targets.iter().any(|name| name == kind.name()) {
            scenario.targets.push(scenario::ScenarioTarget {
                name: kind.name().into(),
                ..scenario::ScenarioTarget::new(kind)
            });
        }
    }
    scenario.select_targets(&options.targets)?;
    let mut isolated = isolated;
    let mut left_out = LeftOut::new();
    for target in scenario.targets.clone() {
        let answer = match target.kind().family() {
            Family::Process => std::mem::replace(&mut isolated, Ok(())),
            Family::Container | Family::Vm => engine::of(target.kind()).reach(&target).await,
        };
        match answer {
            Ok(()) => {}
            Err(e) if options.targets.is_empty() => {
                left_out.insert(target.name, e.to_string());
            }
            Err(e) => return Err(e.into()),
        }
    }
    scenario.targets.retain(|target| !left_out.contains_key(&target.name));
    anyhow::ensure!(
        !scenario.targets.is_empty(),
        "no target can run here\nfix: bootrace doctor names the fix of each"
    );
    Ok((scenario, left_out))
}

/// The calibration before its first row.
fn header(
    options: &Options,
    targets: &[Box<dyn Target>],
    left_out: LeftOut,
    image: sample::Image,
    host: sample::Host,
    warnings: Vec<String>,
) -> Calibration {
    let seed = options.session.seed.unwrap_or_else(run::fresh_seed);
    let now = jiff::Timestamp::now();
    Calibration {
        schema: SCHEMA.into(),
        id: format!("calibration-{}-{seed}", now.strftime("%Y%m%dT%H%M%SZ")),
        started_at: now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        seed,
        bootrace_version: env!("CARGO_PKG_VERSION").into(),
        broken: Break::ALL.into_iter().find(|b| Some(b.name()) == options.broken.as_deref()),
        interrupted: true,
        wall_ns: None,
        host,
        image,
        targets: targets.iter().map(|target| target.info()).collect(),
        left_out,
        warnings,
        rows: Vec::new(),
        taken: Vec::new(),
        left_over: None,
        errors: Vec::new(),
    }
}

fn show(calibration: &Calibration, dir: &Path, options: &Options) -> Result<(), Failure> {
    if options.json {
        let json = serde_json::to_string_pretty(calibration).context("writing the calibration as JSON");
        return print(&(json.map_err(Failure::Run)? + "\n"));
    }
    if options.session.quiet {
        return Ok(());
    }
    print(&(report::table(calibration) + "\n"))?;
    print(&format!("report: {}\n", dir.join("index.html").display()))
}

/// The verdict of a calibration as an exit code. The table has the details.
fn verdict(calibration: &Calibration) -> Result<(), Failure> {
    match (calibration.passed(), calibration.failed_rows().next()) {
        (true, _) => Ok(()),
        (false, None) => {
            let errors = calibration.not_found().into_iter().chain(calibration.errors.clone());
            let errors = errors.collect::<Vec<_>>().join("; ");
            Err(Failure::Run(anyhow!("the calibration failed: {errors}")))
        }
        (false, Some(first)) => Err(Failure::Run(anyhow!(
            "the calibration failed: {} figures are beyond their bounds, the first {} of {} ({})",
            calibration.failed_rows().count(),
            first.metric,
            first.target,
            first.says
        ))),
    }
}

/// Shows the progress, and saves each row.
struct Bar {
    bar: ProgressBar,
    dir: PathBuf,
}

impl drive::Watch for Bar {
    fn starting(&mut self, done: usize, check: Check, target: &str) {
        self.bar.set_position(done as u64);
        self.bar.set_message(format!("{} on {target}", check.name()));
    }

    fn taken(&mut self, calibration: &Calibration) -> anyhow::Result<()> {
        Ok(report::save(calibration, &self.dir)?)
    }
}
