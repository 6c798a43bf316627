//! Removes unused entries from the cache, and their images from the container engines.

use std::{
    fs,
    path::{Path, PathBuf},
};

use jiff::{SignedDuration, Timestamp};

use super::{
    Cache, base,
    cache::{children, discard, entries, is_hex},
    docker,
    engine::{Client, ContainerEngine},
    error::Error,
    lock::{Kind, Lock},
    manifest::Manifest,
    stored::{self, Stored, disk_space},
};

/// Which images to remove; never those that a running bootrace uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Prune {
    /// Images that this build can't use: those with another build's agent, and broken entries.
    Stale,
    /// Also images that were not used for so long.
    UnusedFor(SignedDuration),
    /// Everything.
    All,
}

/// The result of [`prune`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Removed digests of images, engines' references, sources of root file systems, and builds of revisions.
    pub removed: Vec<String>,
    /// Freed disk space in bytes, without the engines'.
    pub freed_bytes: u64,
    /// What was kept because it is in use.
    pub in_use: Vec<String>,
    /// Engines that did not answer, with the reason: their images are still there. Without engines that were never
    /// installed.
    pub unreachable: Vec<(ContainerEngine, String)>,
}

/// Removes the images that `what` selects, and what interrupted builds left behind.
///
/// # Errors
/// When the cache can't be read, or an entry or an engine's image can't be removed. An engine that does not answer is
/// no error: see [`Pruned`].
pub async fn prune(cache: &Cache, what: Prune) -> Result<Pruned, Error> {
    cache.sweep()?;
    let mut pruner = Pruner { cache, engines: Vec::new(), pruned: Pruned::default() };
    for engine in ContainerEngine::ALL {
        match Client::connect(engine).await {
            Ok(client) => {
                let images = docker::of_cache(&client, cache).await?;
                pruner.engines.push(Own { client, images });
            }
            Err(_) if !engine.kind().is_standard() && !engine.may_exist() => {}
            Err(error) => pruner.pruned.unreachable.push((engine, error.to_string())),
        }
    }
    let mut kept = Vec::new();
    let mut needed_bases = Vec::new();
    for dir in entries(&cache.images())? {
        let stored = stored::read(&dir);
        if !(what.removes(stored.as_ref()) && pruner.remove_image(&dir).await?) {
            needed_bases.extend(stored.map(|stored| stored.base));
            kept.push(name(&dir));
        }
    }
    pruner.remove_strays(&kept).await?;
    for dir in entries(&cache.bases())? {
        let manifest = Manifest::<base::About>::load(&dir);
        let needed = needed_bases.contains(&name(&dir));
        let goes = match (&manifest, what) {
            (None, _) | (_, Prune::All) => true,
            (Some(manifest), Prune::UnusedFor(age)) => !needed && is_older(manifest.created, age),
            (Some(_), Prune::Stale) => false,
        };
        if goes {
            let title = manifest.map(|manifest| manifest.about.definition.source.to_string());
            pruner.remove_base(&dir, &title.unwrap_or_else(|| name(&dir)))?;
        }
    }
    if what == Prune::All {
        let ours = |note: &PathBuf| name(note).strip_suffix(".json").is_some_and(|key| is_hex(key, 64));
        for note in children(&cache.dir().join("choices"))?.into_iter().filter(ours) {
            fs::remove_file(&note).map_err(Error::io("removing", &note))?;
        }
        pruner.remove_builds()?;
    }
    Ok(pruner.pruned)
}

impl Prune {
    fn removes(self, image: Option<&Stored>) -> bool {
        let Some(image) = image else { return true };
        match self {
            Prune::Stale => !image.current,
            Prune::UnusedFor(age) => !image.current || is_older(image.last_used, age),
            Prune::All => true,
        }
    }
}

struct Pruner<'a> {
    cache: &'a Cache,
    engines: Vec<Own>,
    pruned: Pruned,
}

/// An engine's images from this cache, by reference and digest. An image of another cache with the same digest and name
/// is left alone.
struct Own {
    client: Client,
    images: Vec<(String, String)>,
}

impl Pruner<'_> {
    /// Removes an image; true if it is gone. Removes the engines' copies first: if a container uses one, the image is
    /// in use.
    async fn remove_image(&mut self, dir: &Path) -> Result<bool, Error> {
        let digest = name(dir);
        let Some(_locks) = alone(self.cache, &digest)? else {
            self.pruned.in_use.push(digest);
            return Ok(false);
        };
        for own in &self.engines {
            for (reference, _) in own.images.iter().filter(|(_, of)| *of == digest) {
                if !own.client.remove(reference).await? {
                    self.pruned.in_use.push(format!("{reference} (by a container)"));
                    return Ok(false);
                }
            }
        }
        self.discard(dir, &digest)?;
        Ok(true)
    }

    /// Removes engines' images that have no entry any more.
    async fn remove_strays(&mut self, kept: &[String]) -> Result<(), Error> {
        let all =
            self.engines.iter().flat_map(|own| own.images.iter().map(move |image| (&own.client, image)));
        for (client, (reference, digest)) in all {
            if !is_hex(digest, 64) || kept.contains(digest) || self.pruned.removed.contains(digest) {
                continue;
            }
            // The locks of an image that is being built are held.
            match alone(self.cache, digest)? {
                Some(_locks) if client.remove(reference).await? => {
                    self.pruned.removed.push(reference.clone());
                }
                _ => self.pruned.in_use.push(reference.clone()),
            }
        }
        Ok(())
    }

    fn remove_base(&mut self, dir: &Path, title: &str) -> Result<(), Error> {
        match alone(self.cache, &name(dir))? {
            Some(_locks) => self.discard(dir, title)?,
            None => self.pruned.in_use.push(title.into()),
        }
        Ok(())
    }

    /// Removes the revisions that `bootrace ab` built, and the files that their builds keep.
    fn remove_builds(&mut self) -> Result<(), Error> {
        let (builds, clones) = (self.cache.builds_dir(), self.cache.clones_dir());
        let is_clone = |path: &PathBuf| {
            let name = name(path);
            path.is_dir() && is_hex(name.strip_suffix(".kept").unwrap_or(&name), 16)
        };
        for clone in children(&clones)?.into_iter().filter(is_clone) {
            let title = format!("build directory {}", name(&clone));
            match Lock::attempt(&clone.with_extension("lock"), Kind::Exclusive)? {
                Some(_lock) => self.discard(&clone, &title)?,
                None => self.pruned.in_use.push(title),
            }
        }
        // A commit, and the key of its build.
        let is_build = |path: &PathBuf| {
            let name = name(path);
            let parts = name.split_once('-');
            parts.is_some_and(|(commit, key)| [40, 64].iter().any(|n| is_hex(commit, *n)) && is_hex(key, 12))
        };
        for built in children(&builds)?.into_iter().filter(is_build) {
            self.discard(&built, &format!("build of {}", name(&built)))?;
        }
        Ok(())
    }

    fn discard(&mut self, dir: &Path, title: &str) -> Result<(), Error> {
        let bytes = disk_space(dir);
        discard(dir, self.cache)?;
        self.pruned.freed_bytes += bytes;
        self.pruned.removed.push(title.into());
        Ok(())
    }
}

/// Both locks of an entry, if no process builds or uses it.
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
