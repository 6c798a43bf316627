//! Lists a disk's partitions with partx, and identifies their file systems with blkid (both of util-linux).

use std::path::Path;

use tokio_util::sync::CancellationToken;

use super::super::{error::Error, tool::Tool};

/// Sector size of a virtual disk, in bytes.
const SECTOR: u64 = 512;
/// The longest output that is read of partx and blkid, in bytes.
const MAX_OUTPUT: u64 = 256 << 10;
/// The largest number of partitions, that of a GPT of the usual size.
const MOST: usize = 128;

/// A partition, in bytes from the disk's start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition {
    /// From 1, as Linux numbers them.
    pub number: u32,
    pub start: u64,
    pub bytes: u64,
    /// As in `PARTUUID=`, in lower case.
    pub uuid: String,
}

/// The names of an ext2, ext3 or ext4 file system.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ext4 {
    /// As in `UUID=`, in lower case.
    pub uuid: String,
    pub label: String,
}

/// The partitions of a raw disk with this size; `Ok(Err(why))` if its table is missing or invalid.
///
/// # Errors
/// When partx can't be run or prints too much.
pub async fn read(
    disk: &Path,
    disk_bytes: u64,
    cancel: &CancellationToken,
) -> Result<Result<Vec<Partition>, String>, Error> {
    let partx =
        Tool::new("partx").args(["--raw", "--noheadings", "--output", "NR,START,SECTORS,UUID"]).arg(disk);
    match partx.output(MAX_OUTPUT, cancel).await {
        Ok(table) => Ok(parse(&String::from_utf8_lossy(&table), disk_bytes)),
        Err(Error::Tool { output, code: Some(1), .. }) => {
            Ok(Err(format!("it has no partition table: {output}")))
        }
        Err(error) => Err(error),
    }
}

pub(crate) fn parse(table: &str, disk_bytes: u64) -> Result<Vec<Partition>, String> {
    let partitions: Result<Vec<Partition>, String> = table.lines().map(partition).collect();
    let partitions = partitions?;
    if partitions.len() > MOST {
        return Err("it has too many partitions".into());
    }
    for Partition { number, start, bytes, .. } in &partitions {
        let on_disk = start.checked_add(*bytes).is_some_and(|end| end <= disk_bytes);
        if *start == 0 || *bytes == 0 || !on_disk {
            return Err(format!("its partition table is wrong: partition {number} is not on it"));
        }
    }
    Ok(partitions)
}

fn partition(line: &str) -> Result<Partition, String> {
    let mut words = line.split(' ');
    let mut number = || words.next().and_then(|word| word.parse::<u64>().ok());
    let (index, start, sectors) = (number(), number(), number());
    let mut read = || {
        Some(Partition {
            number: index?.try_into().ok()?,
            start: start?.checked_mul(SECTOR)?,
            bytes: sectors?.checked_mul(SECTOR)?,
            uuid: words.next().unwrap_or_default().to_ascii_lowercase(),
        })
    };
    read().ok_or_else(|| "its partition table is wrong: partx lists a partition without its place".into())
}

/// The ext file system of a partition; `None` if it has another or none.
///
/// # Errors
/// When blkid can't be run or its result is ambiguous.
pub async fn file_system(
    disk: &Path,
    partition: &Partition,
    cancel: &CancellationToken,
) -> Result<Option<Ext4>, Error> {
    let blkid = Tool::new("blkid")
        .args(["--probe", "--match-types", "ext2,ext3,ext4", "--output", "export", "--no-encoding"])
        .args(["--offset", &partition.start.to_string(), "--size", &partition.bytes.to_string()])
        .arg(disk);
    match blkid.output(MAX_OUTPUT, cancel).await {
        Ok(said) => Ok(names(&String::from_utf8_lossy(&said))),
        // blkid found nothing.
        Err(Error::Tool { code: Some(2), .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Parses blkid's output. blkid also reports partition tables, whatever types it is asked for.
pub(crate) fn names(said: &str) -> Option<Ext4> {
    let value = |key: &str| {
        let line = said.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        line.unwrap_or_default().to_owned()
    };
    let is_ext4 = ["ext2", "ext3", "ext4"].contains(&value("TYPE").as_str());
    is_ext4.then(|| Ext4 { uuid: value("UUID").to_ascii_lowercase(), label: value("LABEL") })
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn partitions_have_their_numbers_places_and_uuids() {
        let found = parse("14 2048 8192 AA-BB\n1 10240 4096 \n", 8 << 20).unwrap();
        let expected = Partition { number: 14, start: 1 << 20, bytes: 4 << 20, uuid: "aa-bb".into() };
        assert_eq!((found.len(), &found[0], found[1].uuid.as_str()), (2, &expected, ""));
    }

    #[test]
    fn partitions_that_are_on_no_disk_are_refused() {
        let most = u64::MAX;
        for wrong in ["1 0 1 a", "1 2048 0 a", "1 2048 16384 a", &format!("1 {} 1 a", most / SECTOR)] {
            assert!(parse(wrong, 8 << 20).unwrap_err().ends_with("partition 1 is not on it"), "{wrong}");
        }
        for wrong in ["1", "x 1 1 a", "1 2048 -1 a", &format!("1 {most} 1 a"), &format!("{most} 1 1 a")] {
            assert!(parse(wrong, 8 << 20).unwrap_err().contains("without its place"), "{wrong}");
        }
    }

    #[test]
    fn no_program_is_run_for_each_of_a_thousand_partitions() {
        let many = |n: u32| (1..=n).map(|n| format!("{n} 2048 1 a\n")).collect::<String>();
        assert_eq!(parse(&many(128), 8 << 20).unwrap().len(), 128);
        assert_eq!(parse(&many(129), 8 << 20).unwrap_err(), "it has too many partitions");
    }

    #[tokio::test]
    async fn a_disk_without_a_table_and_a_place_without_a_file_system_are_reported() {
        let dir = tempfile::tempdir().unwrap();
        let disk = dir.path().join("disk.raw");
        let cancel = CancellationToken::new();
        std::fs::write(&disk, vec![0; 2 << 20]).unwrap();
        let refused = read(&disk, 2 << 20, &cancel).await.unwrap().unwrap_err();
        assert!(refused.starts_with("it has no partition table"), "{refused}");

        let whole = Partition { number: 1, start: 1 << 20, bytes: 1 << 20, uuid: String::new() };
        assert_eq!(file_system(&disk, &whole, &cancel).await.unwrap(), None);
        let offset = format!("offset={}", whole.start);
        let made = Command::new("/sbin/mke2fs")
            .args([
                "-q",
                "-F",
                "-L",
                "B\u{f6}\u{f6}T \"x\"",
                "-U",
                "00010203-0405-0607-0809-0A0B0C0D0E0F",
                "-E",
                &offset,
            ])
            .args([disk.as_os_str(), "1024k".as_ref()])
            .status();
        assert!(made.unwrap().success());
        let found = file_system(&disk, &whole, &cancel).await.unwrap().unwrap();
        assert_eq!(found.label, "B\u{f6}\u{f6}T \"x\"");
        assert_eq!(found.uuid, "00010203-0405-0607-0809-0a0b0c0d0e0f");
        let beyond = Partition { start: 1 << 40, ..whole };
        assert_eq!(file_system(&disk, &beyond, &cancel).await.unwrap(), None);
    }

    #[tokio::test]
    async fn an_extended_partition_has_no_file_system_although_blkid_finds_a_table_there() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("disk.raw");
        let cancel = CancellationToken::new();
        let mut disk = vec![0; 8 << 20];
        let mut table = |at: usize, kind: u8, start: u32, sectors: u32| {
            disk[at + 450] = kind;
            disk[at + 454..at + 458].copy_from_slice(&start.to_le_bytes());
            disk[at + 458..at + 462].copy_from_slice(&sectors.to_le_bytes());
            disk[at + 510..at + 512].copy_from_slice(&[0x55, 0xaa]);
        };
        table(0, 0x05, 2048, 8192);
        table(1 << 20, 0x83, 2048, 4096);
        std::fs::write(&path, disk).unwrap();
        let found = read(&path, 8 << 20, &cancel).await.unwrap().unwrap();
        assert_eq!(found.iter().map(|p| (p.number, p.start >> 20)).collect::<Vec<_>>(), [(1, 1), (5, 2)]);
        for partition in &found {
            assert_eq!(file_system(&path, partition, &cancel).await.unwrap(), None, "{partition:?}");
        }
    }
}
