//! The form for VMs that firmware boots from a disk: the file system of the other VMs in a partition, and GRUB.
//!
//! GRUB is this host's, like SeaBIOS, OVMF and QEMU. It is part of the machine and not of the image, so the image stays
//! the same for all targets and needs no boot loader, and no program of the image runs on this host. The menu is in
//! GRUB's core: one entry, no wait, and no files but kernel and initrd.

use std::{
    fs::{self, File},
    io::{self, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    time::Instant,
};

use rustix::fs::SeekFrom as SparseSeek;
use serde::{Deserialize, Serialize};

use super::{
    SystemFiles,
    cache::open_up,
    error::Error,
    job::Job,
    kernel,
    manifest::{Manifest, sum_file},
    partitions::{EFI_SYSTEM, FIRST, LINUX, Partition, SECTOR, boot_record},
    suite::EPOCH,
    tool::Tool,
    tree::Tree,
    vm,
};
use crate::scenario::Firmware;

const DISK: &str = "disk.raw";
const OVERLAY: &str = "overlay.qcow2";
/// The directory of GRUB's parts, by platform.
const GRUB: &str = "/usr/lib/grub";
/// A BIOS's boot sector.
const BOOT_SECTOR: &str = "/usr/lib/grub/i386-pc/boot.img";
/// The largest GRUB program that is read, in bytes.
const MAX_LOADER: u64 = 16 << 20;
/// Size of the EFI system partition in sectors: 16 MiB.
const ESP: u64 = 32768;

/// A disk's data in its manifest.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct About {
    /// The overlay's backing file: the disk's absolute path.
    backing: PathBuf,
}

pub(super) fn place(image: &Path, firmware: Firmware) -> PathBuf {
    image.join(firmware.name())
}

/// The overlay; `None` also if the cache was moved.
pub(super) fn find(image: &Path, firmware: Firmware) -> Option<PathBuf> {
    let dir = place(image, firmware);
    let about = Manifest::<About>::load(&dir)?.about;
    (about.backing == dir.join(DISK)).then(|| dir.join(OVERLAY))
}

/// Builds disk and overlay. Call it with the image's build lock held. `root` is the other VMs' disk.
pub(super) async fn make(
    job: &Job<'_>,
    image: &Path,
    tree: &Tree,
    root: &Path,
    system: &SystemFiles,
    firmware: Firmware,
) -> Result<PathBuf, Error> {
    let begun = Instant::now();
    let temp = job.cache.temp()?;
    let backing = place(image, firmware).join(DISK);
    let digest = &tree.about.digest;
    let grub_config = grub_config(tree, system, &vm::uuid(digest))?;
    let front = match firmware {
        Firmware::Bios => bios(job, temp.path(), &grub_config).await?,
        Firmware::Uefi => uefi(job, temp.path(), &grub_config, digest).await?,
    };
    let (disk, root, signature) = (temp.join(DISK), root.to_path_buf(), signature(digest));
    let bytes = job.blocking(move || assemble(&disk, &front, &root, signature)).await?;
    let overlay = Tool::new("qemu-img")
        .args(["create", "-q", "-u", "-f", "qcow2", "-F", "raw", "-b"])
        .arg(&backing)
        .arg(temp.join(OVERLAY))
        .arg(bytes.to_string());
    overlay.run(&job.cancel).await?;
    let dir = temp.path().to_path_buf();
    job.blocking(move || seal(&dir, backing)).await?;
    temp.put(&place(image, firmware), job.cache)?;
    job.say(format!(
        "made the disk that a {} boots in {:.1} s",
        title(firmware),
        begun.elapsed().as_secs_f64()
    ));
    find(image, firmware).ok_or_else(|| Error::Cache {
        dir: place(image, firmware),
        why: "its new entry has disappeared; does another program clean this directory?".into(),
    })
}

fn title(firmware: Firmware) -> &'static str {
    match firmware {
        Firmware::Bios => "BIOS",
        Firmware::Uefi => "UEFI",
    }
}

/// The part of the disk before the root file system.
struct Front {
    /// Code in the first sector.
    code: Vec<u8>,
    /// The content between the first sector and the first partition.
    gap: Vec<u8>,
    /// The EFI system partition.
    esp: Option<PathBuf>,
}

impl Front {
    fn partitions(&self, root_bytes: u64) -> Vec<Partition> {
        let esp = self.esp.as_ref().map(|_| Partition {
            start: FIRST,
            sectors: ESP,
            kind: EFI_SYSTEM,
            active: false,
        });
        let start = esp.map_or(FIRST, |esp| esp.start + esp.sectors);
        let sectors = root_bytes.div_ceil(SECTOR);
        let root = Partition { start, sectors, kind: LINUX, active: esp.is_none() };
        esp.into_iter().chain([root]).collect()
    }
}

/// GRUB's menu, in the small language of its core, without variables that others could set.
fn grub_config(tree: &Tree, system: &SystemFiles, root_uuid: &str) -> Result<String, Error> {
    let no_system = |why: String| Error::NoSystem { image: tree.about.source.clone(), why };
    let kernel = kernel::find(&tree.open()?).map_err(no_system)?;
    let initrd = tree.about.initrd.clone().map_err(no_system)?;
    // The image's file names are foreign.
    let plain = |c: char| c.is_ascii_alphanumeric() || "-._+~/".contains(c);
    if let Some(odd) = [&kernel.image, &initrd].into_iter().find(|path| !path.chars().all(plain)) {
        return Err(no_system(format!(
            "{odd:?} has characters that its boot loader does not take in a name"
        )));
    }
    Ok(format!(
        "search.fs_uuid {root_uuid} root\nlinux /{} {}\ninitrd /{initrd}\nboot\n",
        kernel.image, system.command_line
    ))
}

/// GRUB's core with `grub_config`, for one of GRUB's platforms.
async fn core(
    job: &Job<'_>,
    dir: &Path,
    grub_config: &str,
    platform: &str,
    modules: &[&str],
) -> Result<PathBuf, Error> {
    let packages = [
        ("i386-pc", "GRUB for a BIOS", "grub-pc-bin"),
        ("x86_64-efi", "GRUB for a UEFI", "grub-efi-amd64-bin"),
        ("arm64-efi", "GRUB for a UEFI", "grub-efi-arm64-bin"),
    ];
    let missing = packages.into_iter().find(|(name, ..)| *name == platform);
    if let Some((_, program, package)) = missing.filter(|_| !Path::new(GRUB).join(platform).is_dir()) {
        return Err(Error::MissingTool { program, package });
    }
    let (config, core) = (dir.join("grub.cfg"), dir.join("core"));
    fs::write(&config, grub_config).map_err(Error::io("writing", &config))?;
    let tool = Tool::new("grub-mkimage")
        .args(["--format", platform, "--prefix", "/boot/grub", "--config"])
        .arg(&config)
        .arg("--output")
        .arg(&core)
        .args(["part_msdos", "ext2", "search_fs_uuid", "linux", "boot"])
        .args(modules);
    tool.run(&job.cancel).await?;
    fs::remove_file(&config).map_err(Error::io("removing", &config))?;
    Ok(core)
}

/// The first sector loads the second, which loads the rest of the core behind it.
async fn bios(job: &Job<'_>, dir: &Path, grub_config: &str) -> Result<Front, Error> {
    let core = core(job, dir, grub_config, "i386-pc", &["biosdisk"]).await?;
    let gap = read(&core)?;
    fs::remove_file(&core).map_err(Error::io("removing", &core))?;
    if gap.len() as u64 > (FIRST - 1) * SECTOR {
        return Err(Error::Tool {
            command: "grub-mkimage".into(),
            outcome: "made too much".into(),
            output: format!("{} bytes do not fit before the first partition", gap.len()),
            code: None,
        });
    }
    Ok(Front { code: read(Path::new(BOOT_SECTOR))?, gap, esp: None })
}

/// The firmware reads a program with a fixed name from a FAT file system.
async fn uefi(job: &Job<'_>, dir: &Path, grub_config: &str, digest: &str) -> Result<Front, Error> {
    let (platform, name) = match std::env::consts::ARCH {
        "aarch64" => ("arm64-efi", "BOOTAA64.EFI"),
        _ => ("x86_64-efi", "BOOTX64.EFI"),
    };
    let core = core(job, dir, grub_config, platform, &["fat"]).await?;
    let esp = dir.join("esp");
    let mtools = |program| {
        Tool::new(program).env("SOURCE_DATE_EPOCH", EPOCH).env("MTOOLS_SKIP_CHECK", "1").arg("-i").arg(&esp)
    };
    let serial = format!("{:08x}", signature(digest));
    let steps = [
        mtools("mformat").args(["-C", "-T", &ESP.to_string(), "-N", &serial, "::"]),
        mtools("mmd").args(["::/EFI", "::/EFI/BOOT"]),
        mtools("mcopy").arg(&core).arg(format!("::/EFI/BOOT/{name}")),
    ];
    for step in steps {
        step.run(&job.cancel).await?;
    }
    fs::remove_file(&core).map_err(Error::io("removing", &core))?;
    Ok(Front { code: Vec::new(), gap: Vec::new(), esp: Some(esp) })
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(MAX_LOADER).read_to_end(&mut bytes));
    read.map(|_| bytes).map_err(Error::io("reading", path))
}

/// The disk's signature, derived from the image's digest.
fn signature(digest: &str) -> u32 {
    u32::from_str_radix(digest.get(..8).unwrap_or_default(), 16).unwrap_or(1)
}

/// Writes the disk; returns its size in bytes.
fn assemble(disk: &Path, front: &Front, root: &Path, signature: u32) -> Result<u64, Error> {
    let root_bytes = fs::metadata(root).map_err(Error::io("reading", root))?.len();
    let partitions = front.partitions(root_bytes);
    let record = boot_record(&front.code, signature, &partitions)
        .map_err(|why| Error::Cache { dir: disk.into(), why })?;
    let [.., last] = partitions.as_slice() else { unreachable!("there is a root in any case") };
    let bytes = (last.start + last.sectors) * SECTOR;
    let write = || {
        let mut file = File::create_new(disk)?;
        file.write_all(&record)?;
        file.write_all(&front.gap)?;
        if let Some(esp) = &front.esp {
            file.seek(SeekFrom::Start(FIRST * SECTOR))?;
            io::copy(&mut File::open(esp)?, &mut file)?;
            fs::remove_file(esp)?;
        }
        copy_sparse(&File::open(root)?, &mut file, last.start * SECTOR)?;
        file.set_len(bytes)
    };
    write().map_err(Error::io("writing", disk))?;
    Ok(bytes)
}

/// Copies a file to an offset of another one. Keeps holes.
fn copy_sparse(mut from: &File, to: &mut File, offset: u64) -> io::Result<()> {
    let mut at = 0;
    loop {
        let start = match rustix::fs::seek(from, SparseSeek::Data(at)) {
            Err(rustix::io::Errno::NXIO) => return Ok(()),
            start => start?,
        };
        let end = rustix::fs::seek(from, SparseSeek::Hole(start))?;
        from.seek(SeekFrom::Start(start))?;
        to.seek(SeekFrom::Start(offset + start))?;
        io::copy(&mut from.take(end - start), to)?;
        at = end;
    }
}

/// Makes the files readable and writes the manifest.
fn seal(dir: &Path, backing: PathBuf) -> Result<(), Error> {
    let mut files = Vec::new();
    for name in [DISK, OVERLAY] {
        open_up(&dir.join(name))?;
        files.push((name, sum_file(&dir.join(name))?));
    }
    Manifest::new(About { backing }, files).write(dir)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{FileExt, MetadataExt};

    use super::*;
    use crate::image::partitions::parse;

    /// A sparse "file system" of 8 MiB: data at its start and in its middle.
    fn root(dir: &Path) -> PathBuf {
        let path = dir.join("root");
        let file = File::create(&path).unwrap();
        file.write_all_at(b"start", 0).unwrap();
        file.write_all_at(b"middle", 5 << 20).unwrap();
        file.set_len(8 << 20).unwrap();
        path
    }

    fn at(disk: &Path, offset: u64, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        File::open(disk).unwrap().read_exact_at(&mut bytes, offset).unwrap();
        bytes
    }

    #[test]
    fn a_bioss_disk_has_the_loader_before_the_partition_and_the_file_system_in_it() {
        let dir = tempfile::tempdir().unwrap();
        let disk = dir.path().join("disk");
        let front = Front { code: vec![1; 512], gap: vec![2; 700], esp: None };
        let bytes = assemble(&disk, &front, &root(dir.path()), 7).unwrap();
        assert_eq!(bytes, fs::metadata(&disk).unwrap().len());
        let partitions = parse(&at(&disk, 0, 512));
        let expected = Partition { start: 2048, sectors: (8 << 20) / 512, kind: LINUX, active: true };
        assert_eq!(partitions, [expected]);
        assert_eq!(at(&disk, 512, 701), [vec![2; 700], vec![0]].concat());
        assert_eq!(at(&disk, 1 << 20, 5), b"start");
        assert_eq!(at(&disk, 6 << 20, 6), b"middle");
        assert!(fs::metadata(&disk).unwrap().blocks() * 512 < 1 << 20, "holes were filled");
    }

    #[test]
    fn a_uefis_disk_has_its_system_partition_first() {
        let dir = tempfile::tempdir().unwrap();
        let (disk, esp) = (dir.path().join("disk"), dir.path().join("esp"));
        fs::write(&esp, b"FAT").unwrap();
        let front = Front { code: Vec::new(), gap: Vec::new(), esp: Some(esp.clone()) };
        assemble(&disk, &front, &root(dir.path()), 7).unwrap();
        let partitions = parse(&at(&disk, 0, 512));
        assert_eq!(
            partitions.iter().map(|p| (p.kind, p.start)).collect::<Vec<_>>(),
            [(0xef, 2048), (0x83, 34816)]
        );
        assert_eq!(at(&disk, 1 << 20, 3), b"FAT");
        assert_eq!(at(&disk, 34816 * 512, 5), b"start");
        assert!(!esp.exists(), "it is on the disk, and no file of the entry");
    }

    #[test]
    fn the_disks_number_follows_from_the_digest() {
        assert_eq!(signature("89abcdef0123"), 0x89ab_cdef);
        assert_eq!(signature("x"), 1);
    }
}
