//! Lists and verifies the images in the cache.

use std::{
    fs::{self, File},
    os::unix::fs::MetadataExt,
    path::Path,
    time::{Duration, SystemTime},
};

use jiff::Timestamp;

use super::{
    Cache,
    base::{self, TAR},
    boot_disk,
    cache::entries,
    cloud::stock,
    docker,
    engine::{Client, ContainerEngine},
    error::Error,
    manifest::Manifest,
    tree, vm,
};
use crate::{agent, scenario::Firmware, sys::load::Load};

const FIRMWARES: [Firmware; 2] = [Firmware::Bios, Firmware::Uefi];

/// How long an engine may take to answer, on a host that is not busy.
const PATIENCE: Duration = Duration::from_secs(30);

/// A file with an image's last use as its mtime.
const USED: &str = "used";

/// An image in the cache.
#[derive(Debug, Clone)]
pub struct Stored {
    pub digest: String,
    /// `distribution/suite`.
    pub suite: String,
    /// The source as in the scenario.
    pub source: String,
    pub packages: Vec<String>,
    /// The existing forms: `tree`, `docker`, `podman`, `vm`, `bios`, `uefi`, `stock`.
    pub forms: Vec<&'static str>,
    /// Disk space in bytes, without the engines' copies.
    pub bytes: u64,
    pub created: Timestamp,
    pub last_used: Timestamp,
    /// True if it has this build's agent, so that this build can use it.
    pub current: bool,
    /// Key of its base in the cache.
    pub base: String,
}

/// All complete images, the most recently used first. No image lists an engine that does not answer, which `log` gets.
///
/// # Errors
/// When the cache can't be read, or an engine that answers can't list its images.
pub async fn list(cache: &Cache, log: &dyn Fn(&str)) -> Result<Vec<Stored>, Error> {
    let mut engines = Vec::new();
    let patience = Load::now().prolong(PATIENCE);
    for engine in ContainerEngine::ALL.into_iter().filter(|engine| engine.may_exist()) {
        match tokio::time::timeout(patience, Client::connect(engine)).await {
            Ok(Ok(client)) => engines.push(client),
            Ok(Err(error)) => log(&error.to_string()),
            Err(_) => {
                log(&format!("{} did not answer in {patience:?}: {}", engine.name(), Load::now().explain()));
            }
        }
    }
    let mut images = Vec::new();
    for dir in entries(&cache.images())? {
        let Some(mut stored) = read(&dir) else { continue };
        // Inserts the engines after the tree, in their order.
        for client in engines.iter().rev() {
            if docker::find(client, &stored.digest).await?.is_some() {
                stored.forms.insert(1, client.engine.key());
            }
        }
        images.push(stored);
    }
    images.sort_by_key(|image| std::cmp::Reverse(image.last_used));
    Ok(images)
}

pub(super) fn read(dir: &Path) -> Option<Stored> {
    let manifest = Manifest::<tree::About>::load(&tree::place(dir))?;
    let about = tree::find(dir)?.about;
    let mut forms = vec!["tree"];
    forms.extend(vm::find(dir).map(|_| "vm"));
    forms.extend(FIRMWARES.into_iter().filter(|&it| boot_disk::find(dir, it).is_some()).map(Firmware::name));
    forms.extend(stock::find(dir).map(|_| "stock"));
    Some(Stored {
        suite: format!("{}/{}", about.distribution, about.suite),
        current: about.agent_digest == agent::digest(),
        digest: about.digest,
        source: about.source,
        packages: about.packages,
        base: about.base,
        forms,
        bytes: disk_space(dir),
        created: manifest.created,
        last_used: last_used(dir).unwrap_or(manifest.created),
    })
}

/// Reads every file that has a checksum. Returns a line for each one that is missing or differs.
///
/// # Errors
/// When the cache's directories can't be listed.
pub fn verify(cache: &Cache) -> Result<Vec<String>, Error> {
    let mut wrong = Vec::new();
    for dir in entries(&cache.bases())? {
        match Manifest::<base::About>::load(&dir) {
            Some(manifest) => wrong.extend(named(&dir, manifest.verify(&dir))),
            None => wrong.push(format!("{}: {TAR} or its manifest is missing or cut short", dir.display())),
        }
    }
    for image in entries(&cache.images())? {
        if tree::find(&image).is_none() {
            wrong.push(format!("{}: no whole tree", image.display()));
        }
        let dir = vm::place(&image);
        match Manifest::<vm::About>::load(&dir) {
            Some(manifest) => wrong.extend(named(&dir, manifest.verify(&dir))),
            None if dir.exists() => {
                wrong.push(format!("{}: a file or the manifest is missing or cut short", dir.display()));
            }
            None => {}
        }
        let dir = stock::place(&image);
        match Manifest::<stock::About>::load(&dir) {
            Some(manifest) => wrong.extend(named(&dir, manifest.verify(&dir))),
            None if dir.exists() => {
                wrong.push(format!("{}: a file or the manifest is missing or cut short", dir.display()));
            }
            None => {}
        }
        for dir in FIRMWARES.map(|firmware| boot_disk::place(&image, firmware)) {
            match Manifest::<boot_disk::About>::load(&dir) {
                Some(manifest) => wrong.extend(named(&dir, manifest.verify(&dir))),
                None if dir.exists() => {
                    wrong.push(format!("{}: a file or the manifest is missing or cut short", dir.display()));
                }
                None => {}
            }
        }
    }
    Ok(wrong)
}

fn named(dir: &Path, wrong: Vec<String>) -> impl Iterator<Item = String> {
    let dir = dir.display().to_string();
    wrong.into_iter().map(move |what| format!("{dir}: {what}"))
}

/// Records that an image is used now.
pub(super) fn touch(image: &Path) -> Result<(), Error> {
    let path = image.join(USED);
    let touch = || {
        let file = File::options().create(true).append(true).open(&path)?;
        file.set_modified(SystemTime::now())
    };
    touch().map_err(Error::io("touching", &path))
}

pub(super) fn last_used(image: &Path) -> Option<Timestamp> {
    let modified = fs::metadata(image.join(USED)).and_then(|meta| meta.modified()).ok()?;
    Timestamp::try_from(modified).ok()
}

/// Disk space of a directory with its contents, in bytes. Unreadable files count as 0.
pub(super) fn disk_space(path: &Path) -> u64 {
    let Ok(meta) = fs::symlink_metadata(path) else { return 0 };
    let below = match meta.is_dir() {
        true => {
            fs::read_dir(path).into_iter().flatten().flatten().map(|entry| disk_space(&entry.path())).sum()
        }
        false => 0,
    };
    // A file with n hard links, such as a cloud image's, counts 1/n for each.
    let names = if meta.is_dir() { 1 } else { meta.nlink().max(1) };
    meta.blocks() * 512 / names + below
}
