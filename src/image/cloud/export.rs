//! Exports the files of a cloud image's disk as one archive, for its containers.
//!
//! The host's kernel mounts the partitions read-only in a private mount namespace. The namespace and its loop devices
//! disappear with their thread. The module follows no link of the image when it mounts, looks up or packs files.

use std::{
    io,
    os::fd::AsRawFd,
    path::{Path, PathBuf},
};

use bootrace_model::foreign;
use futures_util::{StreamExt, TryStreamExt};
use rustix::mount::{MountPropagationFlags, mount_bind, mount_change};
use tokio_util::{io::ReaderStream, sync::CancellationToken};

use super::super::{
    cache::make_dir,
    error::Error,
    job::Job,
    manifest::{Sum, save},
    tool::{Tool, require},
};
use super::{
    fstab,
    partitions::{self, Ext4, Partition},
};
use crate::sys::namespaces;
use crate::sys::rootfs::Rootfs;

/// The largest number of partitions that could be the root.
const MOST: usize = 16;
const MAX_FSTAB: u64 = 64 << 10;

/// A raw disk, and the image that it belongs to.
pub struct Disk {
    /// The image's name for messages.
    pub image: String,
    pub file: PathBuf,
    pub bytes: u64,
}

/// A partition with a file system that bootrace can mount.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Volume {
    partition: Partition,
    file_system: Ext4,
}

/// Writes the files of the disk's root, and of the mounts in its fstab, to `tar`. Mount points are made in `dir`.
/// Reports skipped mounts.
///
/// # Errors
/// When a program is missing, the disk has no single readable root or is too large, or a mount or tar fails.
pub async fn export(job: &Job<'_>, disk: Disk, dir: &Path, tar: &Path) -> Result<Sum, Error> {
    ["partx", "blkid", "mount", "tar"].into_iter().try_for_each(require)?;
    let volumes = disk.volumes(&job.cancel).await?;
    let cancel = job.cancel.child_token();
    let exporting = Export { disk, dir: dir.into(), tar: tar.into(), cancel: cancel.clone() };
    let (sum, left_out) = in_private_mounts(cancel, move || Box::pin(exporting.run(volumes))).await?;
    for entry in left_out {
        job.say(format!("left out {entry} of its /etc/fstab: it names no ext4 partition of this disk"));
    }
    Ok(sum)
}

impl Disk {
    fn wrong(&self, why: impl std::fmt::Display) -> Error {
        Error::Disk { image: self.image.clone(), why: why.to_string() }
    }

    /// The partitions that have an ext4 file system.
    async fn volumes(&self, cancel: &CancellationToken) -> Result<Vec<Volume>, Error> {
        let partitions = partitions::read(&self.file, self.bytes, cancel).await?;
        let mut volumes = Vec::new();
        for partition in partitions.map_err(|why| self.wrong(why))? {
            let found = partitions::file_system(&self.file, &partition, cancel).await?;
            volumes.extend(found.map(|file_system| Volume { partition, file_system }));
        }
        match volumes.len() > MOST {
            true => Err(self.wrong("it has too many partitions")),
            false => Ok(volumes),
        }
    }
}

struct Export {
    disk: Disk,
    dir: PathBuf,
    tar: PathBuf,
    cancel: CancellationToken,
}

impl Export {
    /// Runs in the thread with the private mount namespace.
    async fn run(self, volumes: Vec<Volume>) -> Result<(Sum, Vec<String>), Error> {
        let mut mounted = Vec::new();
        for volume in volumes {
            let at = self.dir.join(format!("mount-{}", volume.partition.number));
            self.mount(&volume.partition, &at).await?;
            mounted.push((volume, at));
        }
        let is_root = |at: &Path| {
            let root = Rootfs::open(at).ok();
            let has =
                |root: Rootfs| ["etc/os-release", "usr/lib/os-release"].iter().any(|p| root.file(p).is_ok());
            root.is_some_and(has)
        };
        let roots: Vec<&(Volume, PathBuf)> = mounted.iter().filter(|(_, at)| is_root(at)).collect();
        let root = match roots.as_slice() {
            [(_, root)] => root.clone(),
            [] => {
                return Err(self.disk.wrong(
                    "none of its partitions is a root: an ext4 file system with /etc/os-release. Others than ext4 \
                     can't be used",
                ));
            }
            _ => {
                return Err(self
                    .disk
                    .wrong("several of its partitions are roots, with /etc/os-release each"));
            }
        };
        let left_out = self.complete(&root, &mounted)?;
        Ok((self.pack(&root).await?, left_out))
    }

    async fn mount(&self, partition: &Partition, at: &Path) -> Result<(), Error> {
        make_dir(at)?;
        let Partition { start, bytes, number, .. } = partition;
        let mount = Tool::new("mount")
            .args(["-t", "ext4", "-o"])
            .arg(format!("loop,ro,nosuid,nodev,noexec,offset={start},sizelimit={bytes}"))
            .args([&self.disk.file, at]);
        match mount.run(&self.cancel).await {
            Err(Error::Tool { outcome, output, .. }) => {
                let fix = match output.contains("loop device") {
                    true => {
                        ". Reading a disk's files takes a loop device: modprobe loop, and in a container /dev/loop-control \
                         and /dev/loop*"
                    }
                    false => {
                        ". If the image was not shut down when it was made, start it once and shut it down, or use the \
                         published one"
                    }
                };
                let output = output.trim_end_matches('.');
                Err(self.disk.wrong(format!(
                    "its partition {number} can't be mounted, mount {outcome}: {output}{fix}"
                )))
            }
            other => other,
        }
    }

    /// Mounts the entries of its fstab below the root. Returns those that it skips.
    fn complete(&self, root: &Path, mounted: &[(Volume, PathBuf)]) -> Result<Vec<String>, Error> {
        let tree = Rootfs::open(root).map_err(Error::io("opening", root))?;
        let text = match tree.read_text("etc/fstab", MAX_FSTAB) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            other => {
                other.map_err(|error| self.disk.wrong(format!("its /etc/fstab can't be read: {error}")))?
            }
        };
        let mut left_out = Vec::new();
        let entries = fstab::read(&text)
            .map_err(|why| self.disk.wrong(format!("its /etc/fstab can't be used: {why}")))?;
        for entry in entries {
            let meant =
                |(volume, _): &&(Volume, PathBuf)| entry.means(&volume.partition, &volume.file_system);
            let Some((_, source)) = mounted.iter().find(meant) else {
                left_out.push(format!(
                    "{} ({})",
                    foreign::clean(&entry.at, 200),
                    foreign::tail(&entry.kind, 32)
                ));
                continue;
            };
            // Uses the directory's descriptor, since its path may lead out of the tree.
            let bound = tree
                .dir(&entry.at)
                .and_then(|at| Ok(mount_bind(source, format!("/proc/self/fd/{}", at.as_raw_fd()))?));
            bound.map_err(|error| {
                self.disk.wrong(format!("its /etc/fstab mounts {}, which can't be done: {error}", entry.at))
            })?;
        }
        Ok(left_out)
    }

    /// Packs the files reproducibly: the same files give the same archive.
    async fn pack(&self, root: &Path) -> Result<Sum, Error> {
        let tar = Tool::new("tar")
            .args(["--create", "--numeric-owner", "--sort=name", "--xattrs", "--xattrs-include=*"])
            .args(["--format=posix", "--pax-option=exthdr.name=%d/PaxHeaders/%f,delete=atime,delete=ctime"])
            .args(["--anchored", "--exclude=./lost+found", "--exclude=./boot/lost+found", "--directory"])
            .arg(root)
            .args(["--file=-", "."]);
        // Sparse files can be larger than their disk, and a hostile image may have many.
        let most = self.disk.bytes.saturating_mul(2).saturating_add(1 << 30);
        let mut left = most;
        let too_large = || self.disk.wrong(format!("its files are larger than {most} bytes, twice its disk"));
        tar.with_stdout(&self.cancel, |stdout| {
            let stream = ReaderStream::with_capacity(stdout, 256 << 10);
            let bounded =
                stream.map_err(|error| Error::io("reading the output of", "tar")(error)).map(move |chunk| {
                    let chunk = chunk?;
                    left = left.checked_sub(chunk.len() as u64).ok_or_else(&too_large)?;
                    Ok(chunk)
                });
            save(bounded, &self.tar)
        })
        .await
    }
}

/// Runs work in a thread with a private mount namespace, which the programs that it spawns share. Dropping the future
/// cancels the work through `cancel` and waits for the thread.
async fn in_private_mounts<T: Send + 'static, F: Future<Output = Result<T, Error>>>(
    cancel: CancellationToken,
    work: impl FnOnce() -> F + Send + 'static,
) -> Result<T, Error> {
    let (sender, receiver) = tokio::sync::oneshot::channel();
    let run = move || {
        isolate()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.map_err(Error::io("starting", "the async runtime"))?.block_on(work())
    };
    let spawned = std::thread::Builder::new().name("cloud-export".into()).spawn(move || {
        let _ = sender.send(run());
    });
    let thread = spawned.map_err(Error::io("starting", "a thread"))?;
    let _joined = Joined { cancel, thread: Some(thread) };
    // The thread panicked: the panic continues here.
    receiver.await.unwrap_or(Err(Error::Interrupted))
}

struct Joined {
    cancel: CancellationToken,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Drop for Joined {
    fn drop(&mut self) {
        self.cancel.cancel();
        if let Some(Err(panic)) = self.thread.take().map(std::thread::JoinHandle::join)
            && !std::thread::panicking()
        {
            std::panic::resume_unwind(panic);
        }
    }
}

fn isolate() -> Result<(), Error> {
    let private = MountPropagationFlags::REC | MountPropagationFlags::PRIVATE;
    namespaces::own_mounts()
        .and_then(|()| Ok(mount_change("/", private)?))
        .map_err(Error::io("making mounts of our own below", "/"))
}
