//! The form for VMs that boot an unchanged cloud image: the image's file, an overlay on it, and the seed.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Instant,
};

use serde::{Deserialize, Serialize};

use super::super::{
    base::Base,
    cache::open_up,
    error::Error,
    job::Job,
    manifest::{Manifest, sum_file},
    tool::Tool,
    tree::Tree,
};
use super::{DISK, cloud_init, header, seed};
use crate::image::StockFiles;

const OVERLAY: &str = "overlay.qcow2";
const SEED: &str = "seed.iso";

/// The form's data in its manifest.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(in crate::image) struct About {
    /// The overlay's backing file: the disk's absolute path.
    backing: PathBuf,
}

pub(in crate::image) fn place(image: &Path) -> PathBuf {
    image.join("stock")
}

/// The files; `None` also if the cache was moved, since the overlay then has the wrong path.
pub(in crate::image) fn find(image: &Path) -> Option<StockFiles> {
    let dir = place(image);
    let manifest = Manifest::<About>::load(&dir)?;
    let disk_bytes = manifest.files.get(DISK)?.bytes;
    let files = StockFiles { overlay: dir.join(OVERLAY), seed: dir.join(SEED), disk_bytes };
    (manifest.about.backing == dir.join(DISK)).then_some(files)
}

/// Builds all files. Call it with the image's build lock held.
pub(in crate::image) async fn make(
    job: &Job<'_>,
    image: &Path,
    tree: &Tree,
    base: &Base,
) -> Result<StockFiles, Error> {
    let begun = Instant::now();
    cloud_init::reads_seed(&tree.open()?)
        .map_err(|why| Error::Disk { image: tree.about.source.clone(), why })?;
    let temp = job.cache.temp()?;
    let gone = || Error::Tree {
        image: base.definition().source.to_string(),
        why: format!("its cache entry {} has no {DISK}; run bootrace image prune --all", base.key),
    };
    let sum = base.manifest.files.get(DISK).ok_or_else(gone)?.clone();
    // A hard link: it takes no space, and exists as long as this image.
    let (from, disk) = (job.cache.base(&base.key).join(DISK), temp.join(DISK));
    fs::hard_link(&from, &disk).map_err(Error::io("linking", &from))?;
    let size =
        header(&disk).map_err(|why| Error::Disk { image: base.definition().source.to_string(), why })?;

    let backing = place(image).join(DISK);
    let overlay = Tool::new("qemu-img")
        .args(["create", "-q", "-u", "-f", "qcow2", "-F", "qcow2", "-b"])
        .arg(&backing)
        .arg(temp.join(OVERLAY))
        .arg(size.disk_bytes.to_string());
    overlay.run(&job.cancel).await?;
    seed::make(job, &tree.about.digest, temp.path(), &temp.join(SEED)).await?;

    let mut files = vec![(DISK, sum)];
    for name in [OVERLAY, SEED] {
        open_up(&temp.join(name))?;
        files.push((name, sum_file(&temp.join(name))?));
    }
    Manifest::new(About { backing }, files).write(temp.path())?;
    temp.put(&place(image), job.cache)?;
    job.say(format!("made the files of VMs that boot it as it is in {:.1} s", begun.elapsed().as_secs_f64()));
    find(image).ok_or_else(|| Error::Cache {
        dir: place(image),
        why: "its new entry has disappeared; does another program clean this directory?".into(),
    })
}
