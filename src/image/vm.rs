//! The form for direct-boot VMs: disk, overlay, kernel and initramfs.

use std::{
    fs::{self, File},
    io::BufWriter,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::Instant,
};

use serde::{Deserialize, Serialize};

use super::{
    SystemFiles, VmFiles, bootable,
    cache::open_up,
    error::Error,
    initramfs::{self, Module},
    job::Job,
    kernel,
    manifest::{Manifest, sum_file},
    suite::EPOCH,
    tool::Tool,
    tree::Tree,
};
use crate::{agent, sys::rootfs::Rootfs};

const DISK: &str = "disk.raw";
const OVERLAY: &str = "overlay.qcow2";
const KERNEL: &str = "vmlinuz";
const INITRAMFS: &str = "initramfs.cpio";
/// The distribution's initrd, if the image has one.
const INITRD: &str = "initrd";
/// Free space on a guest's disk, in bytes; a hole in the file.
const SLACK: u64 = 1 << 30;
/// The largest module that is read, in bytes.
const MAX_MODULE: u64 = 64 << 20;

/// The form's data in its manifest.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct About {
    /// The overlay's backing file: the disk's absolute path.
    backing: PathBuf,
    pub disk_bytes: u64,
    /// The kernel's command line for a boot of the whole system; `None` if the image has none.
    #[serde(default)]
    command_line: Option<String>,
}

pub(super) fn place(image: &Path) -> PathBuf {
    image.join("vm")
}

/// The files; `None` also if the cache was moved, since the overlay then has the wrong path.
pub(super) fn find(image: &Path) -> Option<(VmFiles, About)> {
    let dir = place(image);
    let about = Manifest::<About>::load(&dir)?.about;
    let system = about.command_line.clone().map(|command_line| SystemFiles {
        initrd: dir.join(INITRD),
        command_line,
        bios: None,
        uefi: None,
    });
    let [kernel, initramfs, disk, overlay] = [KERNEL, INITRAMFS, DISK, OVERLAY].map(|name| dir.join(name));
    let files = VmFiles { kernel, initramfs, disk, overlay, system };
    (about.backing == files.disk).then_some((files, about))
}

/// Builds all files. Call it with the image's build lock held.
pub(super) async fn make(job: &Job<'_>, image: &Path, tree: &Tree) -> Result<(VmFiles, About), Error> {
    let begun = Instant::now();
    let temp = job.cache.temp()?;
    let backing = place(image).join(DISK);
    let size = {
        let root = tree.root.clone();
        job.blocking(move || Size::of(&root)).await?
    };
    let boot = boot_files(job, tree, temp.path());
    let disk = disk_files(job, tree, temp.path(), &backing, size);
    let (boot, disk) = tokio::join!(boot, disk);
    boot?;
    disk?;
    let dir = temp.path().to_path_buf();
    let fstab = if mounts_by_fstab(&tree.open()?) { " fstab=no" } else { "" };
    let command_line = tree
        .about
        .initrd
        .is_ok()
        .then(|| format!("{}{fstab}", bootable::command_line(&uuid(&tree.about.digest))));
    job.blocking(move || seal(&dir, backing, command_line)).await?;
    temp.put(&place(image), job.cache)?;
    job.say(format!("made the VM's files in {:.1} s", begun.elapsed().as_secs_f64()));
    find(image).ok_or_else(|| Error::Cache {
        dir: place(image),
        why: "its new entry has disappeared; does another program clean this directory?".into(),
    })
}

/// Whether the system's fstab has partitions that this disk lacks, as that of a disk image does: its boot would wait
/// for them and fail.
fn mounts_by_fstab(root: &Rootfs) -> bool {
    let text = root.read_text("etc/fstab", 64 << 10).unwrap_or_default();
    text.lines().any(|line| !line.trim().is_empty() && !line.trim_start().starts_with('#'))
}

/// Makes the files readable and writes the manifest.
fn seal(dir: &Path, backing: PathBuf, command_line: Option<String>) -> Result<(), Error> {
    let mut files = Vec::new();
    let initrd = command_line.is_some().then_some(INITRD);
    for name in [DISK, OVERLAY, KERNEL, INITRAMFS].into_iter().chain(initrd) {
        open_up(&dir.join(name))?;
        files.push((name, sum_file(&dir.join(name))?));
    }
    let disk = dir.join(DISK);
    let meta = fs::metadata(&disk).map_err(Error::io("reading", &disk))?;
    Manifest::new(About { backing, disk_bytes: meta.blocks() * 512, command_line }, files).write(dir)
}

/// The content of a disk: bytes and inodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Size {
    inodes: u64,
    bytes: u64,
}

impl Size {
    const INODE: u64 = 256;

    fn of(root: &Path) -> Result<Size, Error> {
        let mut size = Size { inodes: 0, bytes: 0 };
        let mut dirs = vec![root.to_path_buf()];
        while let Some(dir) = dirs.pop() {
            for entry in fs::read_dir(&dir).map_err(Error::io("listing", &dir))? {
                let entry = entry.map_err(Error::io("listing", &dir))?;
                let meta = entry.metadata().map_err(Error::io("reading", entry.path()))?;
                size.inodes += 1;
                size.bytes += meta.len().next_multiple_of(4096);
                if meta.is_dir() {
                    dirs.push(entry.path());
                }
            }
        }
        // As many again for the guest, and the usual number for a file system of SLACK's size.
        let inodes = size.inodes * 2 + SLACK / 16384;
        // A twentieth is more than extent trees, directories and group descriptors take.
        let bytes = size.bytes + size.bytes / 20 + inodes * Self::INODE + SLACK;
        Ok(Size { inodes, bytes: bytes.next_multiple_of(1 << 20) })
    }
}

/// Builds the disk, and the overlay with the disk's final path.
async fn disk_files(job: &Job<'_>, tree: &Tree, dir: &Path, backing: &Path, size: Size) -> Result<(), Error> {
    let uuid = uuid(&tree.about.digest);
    let disk = Tool::new("mke2fs")
        // Sets both, since versions of e2fsprogs differ in which they know.
        .env("SOURCE_DATE_EPOCH", EPOCH)
        .env("E2FSPROGS_FAKE_TIME", EPOCH)
        .args(["-q", "-F", "-t", "ext4", "-b", "4096", "-m", "0", "-L", "bootrace"])
        .args(["-U", &uuid, "-N", &size.inodes.to_string()])
        // Initialises the inode tables, or the guest's kernel would write them during the measurement.
        .args(["-E", &format!("hash_seed={uuid},root_owner=0:0,lazy_itable_init=0")])
        .arg("-d")
        .arg(&tree.root)
        .arg(dir.join(DISK))
        .arg(format!("{}k", size.bytes >> 10));
    let overlay = Tool::new("qemu-img")
        .args(["create", "-q", "-u", "-f", "qcow2", "-F", "raw", "-b"])
        .arg(backing)
        .arg(dir.join(OVERLAY))
        .arg(size.bytes.to_string());
    disk.run(&job.cancel).await?;
    overlay.run(&job.cancel).await
}

/// A UUID derived from the digest, so that the same image has the same disk.
pub(super) fn uuid(digest: &str) -> String {
    let hex: String = digest.chars().chain(std::iter::repeat('0')).take(32).collect();
    // Version 8 (custom) and the RFC 9562 variant.
    format!("{}-{}-8{}-8{}-{}", &hex[..8], &hex[8..12], &hex[13..16], &hex[17..20], &hex[20..])
}

async fn boot_files(job: &Job<'_>, tree: &Tree, dir: &Path) -> Result<(), Error> {
    let no_kernel = |why| Error::NoKernel { image: tree.about.source.clone(), why };
    let root = tree.open()?;
    let kernel = kernel::find(&root).map_err(no_kernel)?;
    let modules = kernel::modules(&root, &kernel).map_err(no_kernel)?;

    take_out(&root, &kernel.image, &dir.join(KERNEL))?;
    if let Ok(initrd) = &tree.about.initrd {
        take_out(&root, initrd, &dir.join(INITRD))?;
    }

    let needed = unpack(job, tree, &root, modules.needed).await?;
    let network = unpack(job, tree, &root, modules.network).await?;
    let path = dir.join(INITRAMFS);
    let write = || {
        let mut file = BufWriter::new(File::create_new(&path)?);
        initramfs::write(&mut file, agent::EXECUTABLE, &needed, &network)?;
        file.into_inner()?;
        Ok(())
    };
    write().map_err(Error::io("writing", &path))
}

/// Copies a file out of the image.
fn take_out(root: &Rootfs, path: &str, to: &Path) -> Result<(), Error> {
    let mut from = root.file(path).map_err(Error::io("reading the image's", path))?;
    let mut file = File::create_new(to).map_err(Error::io("creating", to))?;
    std::io::copy(&mut from, &mut file).map_err(Error::io("writing", to))?;
    Ok(())
}

/// Reads modules by their paths in the image.
async fn unpack(job: &Job<'_>, tree: &Tree, root: &Rootfs, paths: Vec<String>) -> Result<Vec<Module>, Error> {
    let mut modules = Vec::new();
    for path in paths {
        let name = kernel::name(&path).ok_or_else(|| Error::NoKernel {
            image: tree.about.source.clone(),
            why: format!("{path} is no module's name"),
        })?;
        let compressed = [(".xz", "xz"), (".zst", "zstd"), (".gz", "gzip")];
        let unpacker = compressed.iter().find(|(ending, _)| path.ends_with(ending)).map(|(_, tool)| *tool);
        let content = match unpacker {
            None => root.read(&path, MAX_MODULE).map_err(Error::io("reading the image's", &path))?,
            Some(tool) => {
                let file = root.file(&path).map_err(Error::io("reading the image's", &path))?;
                Tool::new(tool).arg("-dc").stdin(file).output(MAX_MODULE, &job.cancel).await?
            }
        };
        modules.push(Module { name, content });
    }
    Ok(modules)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_disk_has_room_for_its_content_its_inodes_and_a_gibibyte() {
        let dir = tempfile::tempdir().unwrap();
        let empty = Size::of(dir.path()).unwrap();
        assert!(empty.bytes > SLACK && empty.bytes.is_multiple_of(1 << 20));
        fs::create_dir(dir.path().join("sub")).unwrap();
        File::create(dir.path().join("sub/large")).unwrap().set_len(100 << 20).unwrap();
        let size = Size::of(dir.path()).unwrap();
        assert_eq!(size.inodes, empty.inodes + 4);
        assert!(size.bytes >= empty.bytes + (100 << 20));
    }

    #[test]
    fn only_a_system_that_expects_other_partitions_gets_a_changed_fstab() {
        let dir = tempfile::tempdir().unwrap();
        let root = Rootfs::open(dir.path()).unwrap();
        assert!(!mounts_by_fstab(&root));
        root.write("etc/fstab", b"# UNCONFIGURED FSTAB FOR BASE SYSTEM\n\n", 0o644).unwrap();
        assert!(!mounts_by_fstab(&root));
        root.write("etc/fstab", b"# a comment\nLABEL=BOOT /boot ext4 defaults 0 2\n", 0o644).unwrap();
        assert!(mounts_by_fstab(&root));
    }

    #[test]
    fn the_disks_uuid_follows_from_the_digest() {
        let digest = "0123456789abcdef".repeat(4);
        assert_eq!(uuid(&digest), "01234567-89ab-8def-8123-456789abcdef");
    }
}
