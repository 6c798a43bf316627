//! The root file system as its source gives it, before the agent is added: `base.tar`.
//!
//! Cached by its definition, apart from the images made of it, so that a new agent does not mean
//! a new build. When the first choice can't be had the fallback takes its place, and for a day the
//! first choice isn't tried again.

use std::{path::Path, time::Instant};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::{
    cache::open_up,
    definition::{Definition, Source},
    error::{Error, tame},
    job::Job,
    lock::Lock,
    manifest::{Manifest, Sum, read_json, sum_file, write_json},
    registry, suite,
    tool::Tool,
};
use crate::scenario;

pub(super) const TAR: &str = "base.tar";
/// How long a first choice that could not be had is not tried again.
const PATIENCE: SignedDuration = SignedDuration::from_hours(24);

/// What the manifest says of a base.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct About {
    pub definition: Definition,
    /// `mmdebstrap`, `tarball` or `registry`, and from where.
    pub origin: String,
}

#[derive(Debug)]
pub(super) struct Base {
    pub key: String,
    pub manifest: Manifest<About>,
    /// As long as it is held the base is not removed.
    _in_use: Lock,
}

/// Why the first choice is not tried.
#[derive(Debug, Serialize, Deserialize)]
struct Choice {
    asked: String,
    reason: String,
    at: Timestamp,
}

impl Base {
    pub fn definition(&self) -> &Definition {
        &self.manifest.about.definition
    }

    pub fn sum(&self) -> Result<&Sum, Error> {
        self.manifest.files.get(TAR).ok_or_else(|| Error::Tree {
            image: self.definition().source.to_string(),
            why: format!("its cache entry {} has no {TAR}; run bootrace image prune --all", self.key),
        })
    }
}

/// The scenario's base and, if it is the fallback, why.
pub(super) async fn choose(
    job: &Job<'_>,
    spec: &scenario::Image,
    base_dir: &Path,
) -> Result<(Base, Option<String>), Error> {
    let first = Definition::first(spec, base_dir)?;
    let Some(second) = Definition::fallback(spec)? else {
        return Ok((ensure(job, first).await?, None));
    };
    let note = job.cache.choice(&first.key());
    let report = |reason: &str| job.say(format!("using {} in its place: {reason}", second.source));
    if find(job, &first).await?.is_none()
        && let Some(choice) = read_json::<Choice>(&note).filter(Choice::is_fresh)
        && let Some(base) = find(job, &second).await?
    {
        report(&choice.reason);
        return Ok((base, Some(choice.reason)));
    }
    match ensure(job, first.clone()).await {
        Ok(base) => Ok((base, None)),
        Err(error) if error.is_about_the_source() => {
            let reason = tame(&error.to_string(), 1000);
            report(&reason);
            let base = ensure(job, second.clone()).await?;
            let choice = Choice { asked: first.source.to_string(), reason, at: Timestamp::now() };
            write_json(&note, &choice)?;
            Ok((base, Some(choice.reason)))
        }
        Err(error) => Err(error),
    }
}

impl Choice {
    fn is_fresh(&self) -> bool {
        let age = Timestamp::now().duration_since(self.at);
        // A clock that was set back does not make it fresh for years.
        age < PATIENCE && age > -PATIENCE
    }
}

/// The base from the cache.
async fn find(job: &Job<'_>, definition: &Definition) -> Result<Option<Base>, Error> {
    let key = definition.key();
    let in_use = job.use_lock(&key, &definition.source.to_string()).await?;
    let manifest = Manifest::load(&job.cache.base(&key));
    Ok(manifest.map(|manifest| Base { key, manifest, _in_use: in_use }))
}

/// The base from the cache, or else from its source.
async fn ensure(job: &Job<'_>, definition: Definition) -> Result<Base, Error> {
    if let Some(base) = find(job, &definition).await? {
        return Ok(base);
    }
    let key = definition.key();
    let what = definition.source.to_string();
    let _building = job.build_lock(&key, &what).await?;
    if let Some(base) = find(job, &definition).await? {
        return Ok(base);
    }
    job.cache.sweep()?;
    job.say(format!("making the root file system: {what}"));
    let begun = Instant::now();
    let temp = job.cache.temp()?;
    let (sum, origin) = build(job, &definition, &temp.join(TAR)).await?;
    let mb = sum.bytes / 1_000_000;
    Manifest::new(About { definition: definition.clone(), origin }, [(TAR, sum)]).write(temp.path())?;
    temp.put(&job.cache.base(&key), job.cache)?;
    job.say(format!("made the root file system: {mb} MB in {:.1} s", begun.elapsed().as_secs_f64()));
    find(job, &definition).await?.ok_or_else(|| Error::Cache {
        dir: job.cache.base(&key),
        why: "what was just put there is gone; does something else clean this directory?".into(),
    })
}

async fn build(job: &Job<'_>, definition: &Definition, tar: &Path) -> Result<(Sum, String), Error> {
    if !rustix::process::geteuid().is_root() {
        return Err(Error::NotRoot);
    }
    let packages = &definition.packages;
    match &definition.source {
        Source::Suite(suite) => {
            let sum = suite::build(job, suite, packages, tar).await?;
            Ok((sum, format!("mmdebstrap: {}", definition.source)))
        }
        Source::Registry(reference) => {
            let (sum, pinned) = registry::build(job, reference, packages, tar).await?;
            Ok((sum, format!("registry: {pinned}")))
        }
        Source::Tarball(tarball) => {
            let copy = Tool::new("cp").args(["--reflink=auto", "--"]).args([&tarball.path, tar]);
            copy.run(&job.cancel).await?;
            open_up(tar)?;
            let tar = tar.to_path_buf();
            let sum = job.blocking(move || sum_file(&tar)).await?;
            Ok((sum, format!("tarball: {}", tame(&tarball.path.to_string_lossy(), 300))))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_first_choice_that_failed_is_tried_again_after_a_day_whatever_the_clock_did() {
        let aged = |hours: i64| Choice {
            asked: String::new(),
            reason: String::new(),
            at: Timestamp::now() - SignedDuration::from_hours(hours),
        };
        assert!(aged(0).is_fresh() && aged(23).is_fresh());
        assert!(!aged(25).is_fresh() && !aged(-25).is_fresh());
    }
}
