//! The preparation of every command that measures: engines, host, image, targets, caveats.

use std::path::{Path, PathBuf};

use super::{Failure, progress::Progress, side::SideConfig, signals::Signals};
use crate::{
    image::{self, Cache, Forms, Image},
    kind::ImageForm,
    probe::host,
    runner, sample,
    scenario::{PageCache, Scenario},
    sys,
    target::{Cpus, Target, engine, native, vm},
    tune::{self, Tuning},
};

/// The input of a preparation.
pub struct Request<'a> {
    pub scenario: &'a Scenario,
    /// The base of its relative paths.
    pub folder: &'a Path,
    pub tune: bool,
    /// The earlier part's id, where the run goes on: its lock is held already.
    pub resumed: Option<&'a str>,
    /// `None` unless the run is a side of an A/B.
    pub side_config: Option<&'a SideConfig>,
}

/// The result of a preparation.
pub struct Prepared {
    /// In the scenario's order.
    pub targets: Vec<Box<dyn Target>>,
    pub image: sample::Image,
    /// The facts of the host, after tuning.
    pub host: sample::Host,
    /// Caveats that do not depend on samples; already printed.
    pub warnings: Vec<String>,
    /// The directory of the instances' files.
    pub instances: PathBuf,
}

/// Builds the image if the cache lacks it, connects to the engines, tunes the host and reads its facts.
///
/// # Errors
/// When an engine does not answer, the host lacks what the scenario needs, or the image can't be built.
pub async fn prepare(
    request: &Request<'_>,
    progress: &Progress,
    signals: &Signals,
    tuning: &Tuning,
) -> Result<Prepared, Failure> {
    let Request { scenario, folder, tune, resumed, side_config } = *request;
    // An engine that hangs must not hold a user who stops the run.
    unless_stopped(signals, engines_answer(scenario)).await?;
    unless_stopped(signals, host_can(scenario)).await?;
    let cache = Cache::open(None).map_err(|e| Failure::Run(e.into()))?;
    holds_roots(&cache, scenario).map_err(Failure::Run)?;
    if scenario.targets.iter().any(|spec| spec.kind().is_vm()) {
        vm::check_socket(&cache.instances_dir()).map_err(|e| Failure::Run(e.into()))?;
    }
    let log = |line: &str| progress.say(line);
    let forms = Forms::of_image(&scenario.image, &scenario.targets);
    let image = tokio::select! {
        image = image::ensure(&scenario.image, folder, forms, &cache, &log) => {
            image.map_err(super::image::failure)?
        }
        _ = signals.stop.cancelled() => return Err(Failure::Stopped { signal: signals.signal() }),
    };
    // Before tuning: its writing out and dropping of the page cache is no noise of other programs.
    let noise_before = host::noise();
    let tuned = match side_config {
        Some(side_config) => side_config.tuned.clone(),
        None if tune => Some(tuning.apply().map_err(|e| Failure::Run(e.into()))?),
        None => None,
    };
    let targets = unless_stopped(signals, connect(scenario, &image)).await?;
    let mut host = sample::Host { tuned, noise_before, ..host::facts() };
    unless_stopped(signals, ask_engines(&targets, &mut host)).await?;
    let known = resumed.or(side_config.map(|side_config| &*side_config.partner));
    let warnings = warnings(&targets, tune, known);
    warnings.iter().for_each(|warning| progress.say(warning));
    Ok(Prepared { targets, image: image.info, host, warnings, instances: cache.instances_dir() })
}

/// Adds the engines' versions and other instances to the facts.
async fn ask_engines(targets: &[Box<dyn Target>], host: &mut sample::Host) -> anyhow::Result<()> {
    let mut asked = Vec::new();
    for target in targets {
        target.versions(host);
        // Once per engine, since its targets would count the same left-overs.
        let kind = target.info().kind;
        if !asked.contains(&kind) {
            target.neighbours(host).await;
            asked.push(kind);
        }
    }
    Ok(())
}

/// Ends `work` at the first signal.
///
/// # Errors
/// As `work`; [`Failure::Stopped`] at a signal.
pub async fn unless_stopped<T>(
    signals: &Signals,
    work: impl Future<Output = anyhow::Result<T>>,
) -> Result<T, Failure> {
    tokio::select! {
        done = work => done.map_err(Failure::Run),
        _ = signals.stop.cancelled() => Err(Failure::Stopped { signal: signals.signal() }),
    }
}

fn warnings(targets: &[Box<dyn Target>], tune: bool, known: Option<&str>) -> Vec<String> {
    let left = tune::left().iter().find(|left| left.original.is_some()).filter(|_| !tune).map(|left| {
        format!(
            "a killed tuned run left this host's settings changed ({left})\nfix: sudo bootrace clean restores them"
        )
    });
    let of_targets = targets.iter().flat_map(|target| target.warnings());
    runner::Lock::others(known).into_iter().chain(left).chain(of_targets).collect()
}

/// Asks every engine of the scenario, before an image is built.
async fn engines_answer(scenario: &Scenario) -> anyhow::Result<()> {
    for spec in &scenario.targets {
        engine::of(spec.kind()).reach(spec).await?;
    }
    must_be_root()
}

pub fn must_be_root() -> anyhow::Result<()> {
    anyhow::ensure!(
        sys::is_root(),
        "a run needs root, to build images, make cgroups and read the memory of engines\nfix: run bootrace with sudo"
    );
    Ok(())
}

/// Checks that this host and its engines offer the scenario's options, before an image is built.
async fn host_can(scenario: &Scenario) -> anyhow::Result<()> {
    Cpus::choose(&scenario.resources.cpus)?;
    for spec in &scenario.targets {
        engine::of(spec.kind()).validate(spec, &scenario.resources).await?;
    }
    if scenario.sampling.page_cache_state() == Some(PageCache::Cold) {
        runner::drop_caches().await?;
    }
    Ok(())
}

/// Checks that the cache can hold the overlays of targets that have the image's tree as their root, before the image is
/// built.
fn holds_roots(cache: &Cache, scenario: &Scenario) -> anyhow::Result<()> {
    if scenario.targets.iter().any(|target| target.kind().row().image == ImageForm::Tree) {
        native::try_root(cache.temp()?.path())?;
    }
    Ok(())
}

async fn connect(scenario: &Scenario, image: &Image) -> anyhow::Result<Vec<Box<dyn Target>>> {
    let mut targets = Vec::new();
    for spec in &scenario.targets {
        let request = engine::Request {
            spec,
            resources: &scenario.resources,
            network: scenario.workload.network,
            stock: scenario.image.cloud.is_some(),
        };
        targets.push(engine::of(spec.kind()).connect(&request, image).await?);
    }
    Ok(targets)
}
