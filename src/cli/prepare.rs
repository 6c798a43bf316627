//! What every command that measures does before its first instance: engines, host, image, targets, caveats.

use std::path::{Path, PathBuf};

use super::{Failure, paced::SideConfig, progress::Progress, signals::Signals};
use crate::{
    image::{self, Cache, Forms, Image},
    probe::host,
    runner, sample,
    scenario::{PageCache, Scenario},
    sys,
    target::{Cpus, Target, engine},
    tune::{self, Tuning},
};

/// What is to be prepared for.
pub struct Wanted<'a> {
    pub scenario: &'a Scenario,
    /// Where its relative paths start.
    pub folder: &'a Path,
    pub tune: bool,
    /// Its part where it is a side of an A/B.
    pub part: Option<&'a SideConfig>,
}

/// Ready for the first instance.
pub struct Prepared {
    /// In the order of the scenario's.
    pub targets: Vec<Box<dyn Target>>,
    pub image: sample::Image,
    /// All that is known of it, tuned where that was wanted.
    pub host: sample::Host,
    /// Caveats that are known before the first figure; already printed.
    pub warnings: Vec<String>,
    /// Where instances keep their files.
    pub instances: PathBuf,
}

/// Builds the image if it isn't there, connects to the engines, tunes the host and looks at it.
///
/// # Errors
/// When an engine does not answer, the host can't do what the scenario asks for, or the image can't be had.
pub async fn prepare(
    wanted: &Wanted<'_>,
    progress: &Progress,
    signals: &Signals,
    tuning: &Tuning,
) -> Result<Prepared, Failure> {
    let Wanted { scenario, folder, tune, part } = *wanted;
    engines_answer(scenario).await.map_err(Failure::Run)?;
    host_can(scenario).await.map_err(Failure::Run)?;
    let cache = Cache::open(None).map_err(|e| Failure::Run(e.into()))?;
    let log = |line: &str| progress.say(line);
    let forms = Forms::of_image(&scenario.image, &scenario.targets);
    let image = tokio::select! {
        image = image::ensure(&scenario.image, folder, forms, &cache, &log) => {
            image.map_err(super::image::failure)?
        }
        _ = signals.stop.cancelled() => return Err(Failure::Stopped { signal: signals.signal() }),
    };
    // Writing out and dropping the page cache is no noise of others.
    let noise_before = host::noise();
    let tuned = match part {
        Some(part) => part.tuned.clone(),
        None if tune => Some(tuning.apply().map_err(|e| Failure::Run(e.into()))?),
        None => None,
    };
    let targets = connect(scenario, &image).await.map_err(Failure::Run)?;
    let mut host = sample::Host { tuned, noise_before, ..host::facts() };
    let mut asked = Vec::new();
    for target in &targets {
        target.versions(&mut host);
        // Once each engine: what its targets would count is the same.
        let kind = target.info().kind;
        if !asked.contains(&kind) {
            target.neighbours(&mut host).await;
            asked.push(kind);
        }
    }
    let warnings = warnings(&targets, tune, part.map(|part| &*part.partner));
    warnings.iter().for_each(|warning| progress.say(warning));
    Ok(Prepared { targets, image: image.info, host, warnings, instances: cache.instances_dir() })
}

fn warnings(targets: &[Box<dyn Target>], tune: bool, partner: Option<&str>) -> Vec<String> {
    let left = tune::left().first().filter(|_| !tune).map(|left| {
        format!(
            "a tuned run that was killed has left this host's settings as it set them ({left}): bootrace clean puts them back"
        )
    });
    let of_targets = targets.iter().flat_map(|target| target.warnings());
    runner::Lock::others(partner).into_iter().chain(left).chain(of_targets).collect()
}

/// Asks every engine that the scenario needs, before an image is built for it.
async fn engines_answer(scenario: &Scenario) -> anyhow::Result<()> {
    for spec in &scenario.targets {
        engine::of(spec.kind()).reach(spec).await?;
    }
    must_be_root()
}

pub fn must_be_root() -> anyhow::Result<()> {
    anyhow::ensure!(
        sys::is_root(),
        "a run needs root, to build images, make cgroups and read the memory of engines: run bootrace with sudo"
    );
    Ok(())
}

/// Tries what the scenario chooses of this host and its engines, before an image is built for it.
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
