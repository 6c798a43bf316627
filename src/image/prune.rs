//! Removes from the cache what is no longer of use, Docker's images included.

use std::{fs, path::Path};

use bollard::Docker;
use jiff::{SignedDuration, Timestamp};

use super::{
    Cache, base,
    cache::{children, discard},
    docker, engine,
    error::Error,
    lock::{Kind, Lock},
    manifest::Manifest,
    stored::{self, Stored, disk_space},
};

/// What is to go. Never what a running bootrace uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Prune {
    /// What no run of this build can use: images with another build's agent, and broken entries.
    Stale,
    /// That, and what wasn't used for so long.
    UnusedFor(SignedDuration),
    /// Everything.
    All,
}

/// What went and what did not.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Digests of images, Docker references, and sources of root file systems.
    pub removed: Vec<String>,
    /// Disk space, Docker's not counted.
    pub freed_bytes: u64,
    /// What stayed because something uses it.
    pub in_use: Vec<String>,
    /// Why Docker was not asked; its images are still there.
    pub without_docker: Option<String>,
}

/// Removes what `what` says, and what interrupted builds left behind.
pub async fn prune(cache: &Cache, what: Prune) -> Result<Pruned, Error> {
    let mut pruned = Pruned::default();
    cache.sweep()?;
    let engine = match engine::connect().await {
        Ok(engine) => Some(engine),
        Err(error) => {
            pruned.without_docker = Some(error.to_string());
            None
        }
    };
    let mut needed_bases = Vec::new();
    let mut kept = Vec::new();
    for dir in children(&cache.images())? {
        let stored = stored::read(&dir);
        let name = name(&dir);
        let gone = what.takes(stored.as_ref())
            && remove_image(cache, &dir, &name, engine.as_ref(), &mut pruned).await?;
        if !gone {
            needed_bases.extend(stored.map(|stored| stored.base));
            kept.push(name);
        }
    }
    if let Some(engine) = &engine {
        remove_strays(cache, engine, &kept, &mut pruned).await?;
    }
    for dir in children(&cache.bases())? {
        let manifest = Manifest::<base::About>::load(&dir);
        let needed = needed_bases.contains(&name(&dir));
        let goes = match (&manifest, what) {
            (None, _) | (_, Prune::All) => true,
            (Some(manifest), Prune::UnusedFor(age)) => !needed && is_older(manifest.created, age),
            (Some(_), Prune::Stale) => false,
        };
        let title =
            manifest.map_or_else(|| name(&dir), |manifest| manifest.about.definition.source.to_string());
        if goes {
            remove_entry(cache, &dir, &title, &mut pruned)?;
        }
    }
    if what == Prune::All {
        for note in children(&cache.dir().join("choices"))? {
            fs::remove_file(&note).map_err(Error::io("removing", &note))?;
        }
    }
    Ok(pruned)
}

impl Prune {
    fn takes(self, image: Option<&Stored>) -> bool {
        let Some(image) = image else { return true };
        match self {
            Prune::Stale => !image.current,
            Prune::UnusedFor(age) => !image.current || is_older(image.last_used, age),
            Prune::All => true,
        }
    }
}

/// True if it is gone. Docker's copy goes first: if a container uses it, the image is in use.
async fn remove_image(
    cache: &Cache,
    dir: &Path,
    digest: &str,
    engine: Option<&Docker>,
    pruned: &mut Pruned,
) -> Result<bool, Error> {
    let Some(_locks) = alone(cache, digest)? else {
        pruned.in_use.push(digest.into());
        return Ok(false);
    };
    if let Some(engine) = engine
        && docker::find(engine, digest).await?.is_some()
        && !docker::remove(engine, &docker::reference(digest)).await?
    {
        pruned.in_use.push(format!("{} (by a container)", docker::reference(digest)));
        return Ok(false);
    }
    discard_entry(cache, dir, digest, pruned)?;
    Ok(true)
}

/// Docker images from this cache whose entry is gone.
async fn remove_strays(
    cache: &Cache,
    engine: &Docker,
    kept: &[String],
    pruned: &mut Pruned,
) -> Result<(), Error> {
    for (reference, digest) in docker::of_cache(engine, cache).await? {
        // One that is being made has its lock, and no manifest yet.
        if kept.contains(&digest) || digest.len() != 64 || !digest.chars().all(|c| c.is_ascii_hexdigit()) {
            continue;
        }
        match alone(cache, &digest)? {
            Some(_locks) if docker::remove(engine, &reference).await? => pruned.removed.push(reference),
            _ => pruned.in_use.push(reference),
        }
    }
    Ok(())
}

fn remove_entry(cache: &Cache, dir: &Path, title: &str, pruned: &mut Pruned) -> Result<(), Error> {
    match alone(cache, &name(dir))? {
        Some(_locks) => discard_entry(cache, dir, title, pruned),
        None => {
            pruned.in_use.push(title.into());
            Ok(())
        }
    }
}

fn discard_entry(cache: &Cache, dir: &Path, title: &str, pruned: &mut Pruned) -> Result<(), Error> {
    let bytes = disk_space(dir);
    discard(dir, cache)?;
    pruned.freed_bytes += bytes;
    pruned.removed.push(title.into());
    Ok(())
}

/// Both locks of an entry, if nobody makes or uses it.
fn alone(cache: &Cache, key: &str) -> Result<Option<(Lock, Lock)>, Error> {
    let build = Lock::attempt(&cache.build_lock(key), Kind::Exclusive)?;
    let using = Lock::attempt(&cache.use_lock(key), Kind::Exclusive)?;
    Ok(build.zip(using))
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn is_older(then: Timestamp, age: SignedDuration) -> bool {
    Timestamp::now().duration_since(then) > age
}
