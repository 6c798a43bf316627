//! Disks made as distributions make their cloud images: a GPT, ext4 file systems in it, all of it a qcow2.

use std::{
    fs::{self, File},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    process::Command,
};

const SECTOR: u64 = 512;
/// Where the first partition may begin, in sectors.
const FIRST: u64 = 2048;

/// What is in a partition.
pub enum Content<'a> {
    /// An ext4 file system with this label and the files of a directory.
    Ext4 { label: &'a str, files: &'a Path },
    /// A FAT file system with this label and the program that a UEFI starts.
    Efi { label: &'a str, program: &'a Path },
    /// These bytes.
    Bytes(&'a [u8]),
}

/// A partition by its number.
pub struct Partition<'a> {
    pub number: u32,
    pub mib: u64,
    pub content: Content<'a>,
}

impl Partition<'_> {
    fn sectors(&self) -> u64 {
        self.mib << 20 >> 9
    }
}

/// Writes `disk` with these partitions, one after the other, each beginning where it says; returns where.
pub fn write(disk: &Path, partitions: &[Partition<'_>]) -> Vec<u64> {
    let mut starts = vec![FIRST];
    for partition in partitions {
        starts.push(starts[starts.len() - 1] + partition.sectors());
    }
    // Behind the last partition is room for the table's copy.
    let sectors = starts[partitions.len()] + FIRST;
    let file = File::create(disk).unwrap();
    file.set_len(sectors * SECTOR).unwrap();
    for (partition, start) in partitions.iter().zip(&starts) {
        let offset = start * SECTOR;
        match partition.content {
            Content::Ext4 { label, files } => {
                let mut mke2fs = Command::new("mke2fs");
                mke2fs.args(["-q", "-F", "-t", "ext4", "-b", "4096", "-L", label, "-d"]).arg(files);
                mke2fs.args(["-E", &format!("offset={offset},lazy_itable_init=0")]).arg(disk);
                run(mke2fs.arg(format!("{}m", partition.mib)));
            }
            Content::Efi { label, program } => {
                let image = disk.with_extension("fat");
                let sectors = partition.sectors().to_string();
                let mtools = |name: &str, args: &[&str]| {
                    let mut command = Command::new(name);
                    command.arg("-i").arg(&image).args(args);
                    command
                };
                run(&mut mtools("mformat", &["-C", "-T", &sectors, "-v", label, "::"]));
                run(&mut mtools("mmd", &["::/EFI", "::/EFI/BOOT"]));
                run(mtools("mcopy", &[]).arg(program).arg("::/EFI/BOOT/BOOTX64.EFI"));
                file.write_all_at(&fs::read(&image).unwrap(), offset).unwrap();
                fs::remove_file(image).unwrap();
            }
            Content::Bytes(bytes) => file.write_all_at(bytes, offset).unwrap(),
        }
    }
    let table = table(partitions, &starts, sectors);
    file.write_all_at(&table, SECTOR).unwrap();
    let mut protective = [0; 66];
    protective[4] = 0xee;
    protective[8..12].copy_from_slice(&1u32.to_le_bytes());
    protective[12..16].copy_from_slice(&u32::try_from(sectors - 1).unwrap().to_le_bytes());
    protective[64..].copy_from_slice(&[0x55, 0xaa]);
    file.write_all_at(&protective, 446).unwrap();
    starts.truncate(partitions.len());
    starts
}

/// A GPT's header and entries, from the second sector on.
fn table(partitions: &[Partition<'_>], starts: &[u64], sectors: u64) -> Vec<u8> {
    let mut entries = vec![0; 128 * 128];
    for (partition, start) in partitions.iter().zip(starts) {
        let entry = &mut entries[128 * (partition.number as usize - 1)..][..128];
        // "Linux file system data"; what a partition is for is no matter here.
        entry[..16].copy_from_slice(&[
            0xaf, 0x3d, 0xc6, 0x0f, 0x83, 0x84, 0x72, 0x47, 0x8e, 0x79, 0x3d, 0x69, 0xd8, 0x47, 0x7d, 0xe4,
        ]);
        entry[16..32].fill(partition.number as u8);
        entry[32..40].copy_from_slice(&start.to_le_bytes());
        entry[40..48].copy_from_slice(&(start + partition.sectors() - 1).to_le_bytes());
    }
    let mut header = vec![0; SECTOR as usize];
    header[..8].copy_from_slice(b"EFI PART");
    header[8..12].copy_from_slice(&[0, 0, 1, 0]);
    header[12..16].copy_from_slice(&92u32.to_le_bytes());
    for (at, value) in [(24, 1), (32, sectors - 1), (40, 34), (48, sectors - 34), (72, 2)] {
        header[at..at + 8].copy_from_slice(&u64::to_le_bytes(value));
    }
    header[56..72].fill(0xd1);
    header[80..84].copy_from_slice(&128u32.to_le_bytes());
    header[84..88].copy_from_slice(&128u32.to_le_bytes());
    header[88..92].copy_from_slice(&crc32(&entries).to_le_bytes());
    let sum = crc32(&header[..92]);
    header[16..20].copy_from_slice(&sum.to_le_bytes());
    [header, entries].concat()
}

/// As Linux checks a GPT by.
fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32, _| if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 };
    !bytes.iter().fold(!0, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), step))
}

/// A qcow2 of a raw disk, compressed as published ones are.
pub fn qcow2(disk: &Path, to: &Path) -> PathBuf {
    run(Command::new("qemu-img").args(["convert", "-q", "-c", "-O", "qcow2"]).args([disk, to]));
    to.into()
}

pub fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{command:?}: {said}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub fn sha256(path: &Path) -> String {
    run(Command::new("sha256sum").arg("--").arg(path)).split_whitespace().next().unwrap().to_string()
}
