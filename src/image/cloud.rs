//! A stock cloud image: a qcow2 with a whole OS, as distributions publish it. VMs boot it unchanged ([`seed`] brings
//! the agent in); containers get its files.

use std::{fs::File, io::Read, path::Path};

use super::{definition::Cloud, error::Error, job::Job, manifest::Sum, tool::Tool};

pub(crate) mod cloud_init;
mod export;
mod fetch;
pub(crate) mod fstab;
pub(crate) mod partitions;
pub(crate) mod qcow2;
mod seed;
pub(super) mod stock;

/// The image's file in its base's entry. Nobody writes to it.
pub(super) const DISK: &str = "disk.qcow2";

/// The result of a build in a base's entry.
pub(super) struct Built {
    pub tar: Sum,
    pub disk: Sum,
    /// The image's source for the results.
    pub origin: String,
}

/// Fetches the image into `dir` and writes its files to `tar`.
pub(super) async fn build(job: &Job<'_>, cloud: &Cloud, dir: &Path, tar: &Path) -> Result<Built, Error> {
    let file = dir.join(DISK);
    let disk = fetch::fetch(job, cloud, &file).await?;
    let wrong = |why: String| Error::Disk { image: cloud.to_string(), why };
    let header = header(&file).map_err(wrong)?;
    sound(job, cloud, &file).await?;

    job.say("reading its files");
    // Outside of the entry, since the raw disk is not kept.
    let temp = job.cache.temp()?;
    let raw = temp.join("disk.raw");
    let convert = Tool::new("qemu-img").within(&temp)?;
    let convert = convert.args(["convert", "-q", "-f", "qcow2", "-O", "raw"]).args([&file, &raw]);
    match convert.run(&job.cancel).await {
        Err(Error::Tool { outcome, output, .. }) => {
            return Err(wrong(format!("it can't be read, qemu-img convert {outcome}: {output}")));
        }
        other => other?,
    }
    let whole = export::Disk { image: cloud.to_string(), file: raw, bytes: header.disk_bytes };
    let tar = export::export(job, whole, temp.path(), tar).await?;
    let origin = format!("cloud image: {}, sha256 {}", cloud.name(), disk.sha256);
    Ok(Built { tar, disk, origin })
}

/// The file's header, if the file is usable.
fn header(file: &Path) -> Result<qcow2::Header, String> {
    let mut head = Vec::new();
    let mut read = || {
        let file = File::open(file)?;
        let bytes = file.metadata()?.len();
        file.take(qcow2::HEAD as u64).read_to_end(&mut head)?;
        Ok(bytes)
    };
    let bytes = read().map_err(|error: std::io::Error| format!("reading {}: {error}", file.display()))?;
    qcow2::check(&head, bytes)
}

/// Checks that the file is complete: a truncated one has clusters beyond its end, which read as zeros.
async fn sound(job: &Job<'_>, cloud: &Cloud, file: &Path) -> Result<(), Error> {
    match Tool::new("qemu-img").args(["check", "-q", "-f", "qcow2"]).arg(file).run(&job.cancel).await {
        Err(Error::Tool { outcome, output, .. }) => Err(Error::Disk {
            image: cloud.to_string(),
            why: format!(
                "it is damaged or cut short: fetch it again, or fix it (qemu-img check -r all). qemu-img check {outcome}: \
                 {output}"
            ),
        }),
        other => other,
    }
}
