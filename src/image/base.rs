//! The root file system from its source, without the agent: `base.tar`.
//!
//! It is cached by its definition, apart from the images made of it, so that a new agent needs no new build. If the
//! first choice is unavailable, the fallback takes its place. An archive that did not answer is not tried again for a
//! day.

use std::{path::Path, time::Instant};

use bootrace_model::foreign::tail;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::{
    cache::{Cache, open_up},
    cloud,
    definition::{Definition, Source},
    error::{Error, ErrorOrigin},
    job::Job,
    lock::Lock,
    manifest::{Manifest, Sum, read_json, sum_file, write_json},
    registry, suite,
    tool::Tool,
};
use crate::scenario;

pub(super) const TAR: &str = "base.tar";
/// How long an unavailable first choice is not tried again.
const PATIENCE: SignedDuration = SignedDuration::from_hours(24);

/// A base's data in its manifest.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct About {
    pub definition: Definition,
    /// `mmdebstrap`, `tarball`, `registry` or `cloud image`, and its origin.
    pub origin: String,
}

#[derive(Debug)]
pub(super) struct Base {
    pub key: String,
    pub manifest: Manifest<About>,
    /// Keeps the base from being removed.
    _in_use: Lock,
}

/// Why the first choice is not tried, and for how long.
#[derive(Debug, Serialize, Deserialize)]
struct Choice {
    asked: String,
    reason: String,
    until: Timestamp,
}

impl Base {
    pub fn definition(&self) -> &Definition {
        &self.manifest.about.definition
    }

    /// The checksum of the base's archive.
    ///
    /// # Errors
    /// When the entry's manifest does not list the archive; the error names the fix.
    pub fn sum(&self) -> Result<&Sum, Error> {
        self.manifest.files.get(TAR).ok_or_else(|| Error::Tree {
            image: self.definition().source.to_string(),
            why: format!("its cache entry {} has no {TAR}; run bootrace image prune --all", self.key),
        })
    }
}

/// The scenario's base and, for the fallback, the reason.
pub(super) async fn choose(
    job: &Job<'_>,
    spec: &scenario::Image,
    base_dir: &Path,
    bootable: bool,
) -> Result<(Base, Option<String>), Error> {
    let first = Definition::first(spec, base_dir)?.bootable(bootable);
    let Some(second) = Definition::fallback(spec)?.map(|second| second.bootable(bootable)) else {
        return Ok((Box::pin(ensure(job, first)).await?, None));
    };
    if let Some(base) = find(job, &first).await? {
        return Ok((base, None));
    }
    let note = job.cache.choice(&first.key());
    let fallback_name = second.source.to_string();
    let tried = match first.check() {
        Ok(()) => {
            if let Some(Choice { reason, until, .. }) = read_json(&note).filter(Choice::is_fresh)
                && let Some(base) = find(job, &second).await?
            {
                job.say(format!(
                    "using {fallback_name} in its place until {}, or bootrace image build --refresh: {reason}",
                    until.strftime("%Y-%m-%d %H:%M UTC")
                ));
                return Ok((base, Some(reason)));
            }
            Box::pin(ensure(job, first.clone())).await
        }
        Err(error) => Err(error),
    };
    let error = match tried {
        Ok(base) => return Ok((base, None)),
        Err(error) => error,
    };
    let Some(origin) = error.about_the_source() else { return Err(error) };
    let reason = tail(&error.to_string(), 1000);
    job.say(format!("using {fallback_name} in its place: {reason}"));
    let base = Box::pin(ensure(job, second)).await?;
    if origin == ErrorOrigin::There {
        let until = Timestamp::now() + PATIENCE;
        write_json(&note, &Choice { asked: first.source.to_string(), reason: reason.clone(), until })?;
    }
    Ok((base, Some(reason)))
}

/// Forgets that the scenario's first choice was unavailable, so that the next build tries it again.
///
/// # Errors
/// When the scenario's `[image]` is wrong, or the note of the failure can't be removed.
pub fn forget_failure(spec: &scenario::Image, base_dir: &Path, cache: &Cache) -> Result<(), Error> {
    let first = Definition::first(spec, base_dir)?;
    for bootable in [false, true] {
        let note = cache.choice(&first.clone().bootable(bootable).key());
        match std::fs::remove_file(&note) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(Error::io("removing", &note)(error));
            }
            _ => {}
        }
    }
    Ok(())
}

impl Choice {
    fn is_fresh(&self) -> bool {
        let left = self.until.duration_since(Timestamp::now());
        // The upper bound guards against a clock that was set back.
        left > SignedDuration::ZERO && left <= PATIENCE
    }
}

/// The base from the cache.
async fn find(job: &Job<'_>, definition: &Definition) -> Result<Option<Base>, Error> {
    let key = definition.key();
    let in_use = job.use_lock(&key, &definition.source.to_string()).await?;
    let manifest = Manifest::load(&job.cache.base(&key));
    Ok(manifest.map(|manifest| Base { key, manifest, _in_use: in_use }))
}

/// The base from the cache, or built from its source.
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
    job.require_root()?;
    job.cache.sweep()?;
    job.say(format!("making the root file system: {what}"));
    let begun = Instant::now();
    let temp = job.cache.temp()?;
    let (files, origin) = build(job, &definition, temp.path()).await?;
    let mb = files.iter().find(|(name, _)| *name == TAR).map_or(0, |(_, sum)| sum.bytes / 1_000_000);
    Manifest::new(About { definition: definition.clone(), origin }, files).write(temp.path())?;
    temp.put(&job.cache.base(&key), job.cache)?;
    job.say(format!("made the root file system: {mb} MB in {:.1} s", begun.elapsed().as_secs_f64()));
    find(job, &definition).await?.ok_or_else(|| Error::Cache {
        dir: job.cache.base(&key),
        why: "its new entry has disappeared; does another program clean this directory?".into(),
    })
}

/// A base's files, each with its checksum.
type Files = Vec<(&'static str, Sum)>;

async fn build(job: &Job<'_>, definition: &Definition, dir: &Path) -> Result<(Files, String), Error> {
    let (packages, bootable, tar) = (&definition.packages, definition.bootable, dir.join(TAR));
    let tar = tar.as_path();
    let (sum, origin) = match &definition.source {
        Source::Suite(suite) => {
            let sum = suite::build(job, suite, packages, bootable, tar).await?;
            let whole = if bootable { ", with systemd and an initrd" } else { "" };
            (sum, format!("mmdebstrap: {}{whole}", definition.source))
        }
        Source::Registry(reference) => {
            let (sum, pinned) = registry::build(job, reference, packages, bootable, tar).await?;
            (sum, format!("registry: {pinned}"))
        }
        Source::Tarball(tarball) => {
            let copy = Tool::new("cp").args(["--reflink=auto", "--"]).args([&tarball.path, tar]);
            copy.run(&job.cancel).await?;
            open_up(tar)?;
            let copied = tar.to_path_buf();
            let sum = job.blocking(move || sum_file(&copied)).await?;
            (sum, format!("tarball: {}", tail(&tarball.path.to_string_lossy(), 300)))
        }
        Source::Cloud(cloud) => {
            let built = cloud::build(job, cloud, dir, tar).await?;
            return Ok((vec![(TAR, built.tar), (cloud::DISK, built.disk)], built.origin));
        }
    };
    Ok((vec![(TAR, sum)], origin))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_first_choice_that_failed_is_tried_again_after_a_day_whatever_the_clock_did() {
        let ending_in = |hours: i64| Choice {
            asked: String::new(),
            reason: String::new(),
            until: Timestamp::now() + SignedDuration::from_hours(hours),
        };
        assert!(ending_in(24).is_fresh() && ending_in(1).is_fresh());
        assert!(!ending_in(0).is_fresh() && !ending_in(-1).is_fresh() && !ending_in(26).is_fresh());
    }
}
