//! Where the partitions of a disk are, by its table: GPT, or the four entries of an MBR. Logical partitions are left
//! out, as no cloud image has them. Sectors are of 512 bytes, as they are on a virtual disk.

use std::io::{self, Read, Seek, SeekFrom};

const SECTOR: u64 = 512;
/// No table is larger: usual are 128 entries of 128 bytes.
const MOST_ENTRIES: u32 = 1024;
const LARGEST_ENTRY: u32 = 4096;
const LARGEST_TABLE: u64 = 1 << 20;
/// Of an MBR's partition that stands for a whole GPT.
const PROTECTIVE: u8 = 0xee;
/// Of an MBR's partition that holds logical ones.
const EXTENDED: [u8; 3] = [0x05, 0x0f, 0x85];

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

/// Reads the table of a disk of that size.
///
/// # Errors
/// When there is none, or it can't be right.
pub fn read(disk: &mut (impl Read + Seek), disk_bytes: u64) -> io::Result<Vec<Partition>> {
    let sector = at(disk, 0, SECTOR)?;
    if sector[510..] != [0x55, 0xaa] {
        return Err(io::Error::other("it has no partition table"));
    }
    let entries = || sector[446..510].chunks_exact(16);
    let partitions = match entries().any(|entry| entry[4] == PROTECTIVE) {
        true => gpt(disk)?,
        false => {
            let signature = u32_at(&sector, 440);
            let used = entries().zip(1..).filter(|(entry, _)| entry[4] != 0 && !EXTENDED.contains(&entry[4]));
            let partition = |(entry, number): (&[u8], u32)| Partition {
                number,
                start: u64::from(u32_at(entry, 8)) * SECTOR,
                bytes: u64::from(u32_at(entry, 12)) * SECTOR,
                uuid: format!("{signature:08x}-{number:02x}"),
            };
            used.map(partition).collect()
        }
    };
    for partition in &partitions {
        let end = partition.start.checked_add(partition.bytes);
        if partition.start == 0 || partition.bytes == 0 || end.is_none_or(|end| end > disk_bytes) {
            let number = partition.number;
            return Err(io::Error::other(format!(
                "its partition table is wrong: partition {number} is not on it"
            )));
        }
    }
    Ok(partitions)
}

fn gpt(disk: &mut (impl Read + Seek)) -> io::Result<Vec<Partition>> {
    let header = at(disk, SECTOR, SECTOR)?;
    if !header.starts_with(b"EFI PART") {
        return Err(io::Error::other("its partition table (GPT) is damaged"));
    }
    let (first, count, size) = (u64_at(&header, 72), u32_at(&header, 80), u32_at(&header, 84));
    let table = u64::from(count) * u64::from(size);
    let start = first.checked_mul(SECTOR).filter(|_| {
        count <= MOST_ENTRIES
            && (128..=LARGEST_ENTRY).contains(&size)
            && size.is_power_of_two()
            && table <= LARGEST_TABLE
    });
    let start = start.ok_or_else(|| io::Error::other("its partition table (GPT) can't be right"))?;
    let table = at(disk, start, table)?;
    let used = table.chunks_exact(size as usize).zip(1..).filter(|(entry, _)| entry[..16] != [0; 16]);
    let partition = |(entry, number): (&[u8], u32)| {
        let (first, last) = (u64_at(entry, 32), u64_at(entry, 40));
        // What does not fit in becomes what is on no disk.
        let sectors = last.checked_sub(first).and_then(|more| more.checked_add(1)).unwrap_or(0);
        Partition {
            number,
            start: first.checked_mul(SECTOR).unwrap_or(0),
            bytes: sectors.checked_mul(SECTOR).unwrap_or(0),
            uuid: guid(&entry[16..32]),
        }
    };
    Ok(used.map(partition).collect())
}

fn at(disk: &mut (impl Read + Seek), start: u64, bytes: u64) -> io::Result<Vec<u8>> {
    disk.seek(SeekFrom::Start(start))?;
    let mut content = Vec::new();
    disk.take(bytes).read_to_end(&mut content)?;
    match content.len() as u64 == bytes {
        true => Ok(content),
        false => Err(io::Error::other("it ends before its partition table does")),
    }
}

/// The first three fields of a GUID are little-endian.
fn guid(bytes: &[u8]) -> String {
    let hex =
        |bytes: &mut dyn Iterator<Item = &u8>| bytes.map(|byte| format!("{byte:02x}")).collect::<String>();
    [
        hex(&mut bytes[..4].iter().rev()),
        hex(&mut bytes[4..6].iter().rev()),
        hex(&mut bytes[6..8].iter().rev()),
        hex(&mut bytes[8..10].iter()),
        hex(&mut bytes[10..16].iter()),
    ]
    .join("-")
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    const DISK: u64 = 8 << 20;

    fn mbr(entries: &[(u8, u32, u32)]) -> Vec<u8> {
        let mut disk = vec![0; DISK as usize];
        disk[440..444].copy_from_slice(&0xdead_beef_u32.to_le_bytes());
        for (n, (kind, start, sectors)) in entries.iter().enumerate() {
            let entry = &mut disk[446 + 16 * n..462 + 16 * n];
            entry[4] = *kind;
            entry[8..12].copy_from_slice(&start.to_le_bytes());
            entry[12..16].copy_from_slice(&sectors.to_le_bytes());
        }
        disk[510..512].copy_from_slice(&[0x55, 0xaa]);
        disk
    }

    /// Entries by their index, as first and last sector.
    fn gpt(entries: &[(usize, u64, u64)]) -> Vec<u8> {
        let mut disk = mbr(&[(PROTECTIVE, 1, u32::MAX)]);
        disk[512..520].copy_from_slice(b"EFI PART");
        disk[512 + 72..512 + 80].copy_from_slice(&2u64.to_le_bytes());
        disk[512 + 80..512 + 84].copy_from_slice(&128u32.to_le_bytes());
        disk[512 + 84..512 + 88].copy_from_slice(&128u32.to_le_bytes());
        for (index, first, last) in entries {
            let entry = &mut disk[1024 + 128 * index..1152 + 128 * index];
            entry[0] = 1;
            entry[16..32].copy_from_slice(&std::array::from_fn::<u8, 16, _>(|n| n as u8));
            entry[32..40].copy_from_slice(&first.to_le_bytes());
            entry[40..48].copy_from_slice(&last.to_le_bytes());
        }
        disk
    }

    fn parse(disk: Vec<u8>) -> Result<Vec<Partition>, String> {
        let bytes = disk.len() as u64;
        read(&mut Cursor::new(disk), bytes).map_err(|error| error.to_string())
    }

    #[test]
    fn an_mbrs_partitions_are_found_and_what_holds_logical_ones_is_not_one() {
        let found = parse(mbr(&[(0x83, 2048, 4096), (0, 0, 0), (0x05, 8192, 100), (0x83, 8192, 1)])).unwrap();
        let expected = Partition { number: 1, start: 1 << 20, bytes: 2 << 20, uuid: "deadbeef-01".into() };
        assert_eq!(found[0], expected);
        assert_eq!((found.len(), found[1].number, found[1].start), (2, 4, 4 << 20));
    }

    #[test]
    fn a_gpts_partitions_keep_their_numbers_and_have_the_uuids_that_linux_shows() {
        let found = parse(gpt(&[(0, 4096, 8191), (13, 2048, 4095)])).unwrap();
        assert_eq!(found.iter().map(|p| p.number).collect::<Vec<_>>(), [1, 14]);
        assert_eq!((found[1].start, found[1].bytes), (1 << 20, 1 << 20));
        assert_eq!(found[0].uuid, "03020100-0504-0706-0809-0a0b0c0d0e0f");
    }

    #[test]
    fn a_table_that_is_missing_or_hostile_is_refused() {
        assert_eq!(parse(vec![0; 4096]).unwrap_err(), "it has no partition table");
        assert_eq!(parse(vec![]).unwrap_err(), "it ends before its partition table does");
        for wrong in [
            mbr(&[(0x83, 0, 1)]),
            mbr(&[(0x83, 2048, u32::MAX)]),
            gpt(&[(0, 2048, 2047)]),
            gpt(&[(0, 2048, 1000)]),
            gpt(&[(0, u64::MAX, u64::MAX)]),
            gpt(&[(0, 1, u64::MAX)]),
            gpt(&[(0, 0, u64::MAX)]),
        ] {
            assert!(parse(wrong).unwrap_err().ends_with("is not on it"));
        }
        let with = |at: usize, value: u8| {
            let mut disk = gpt(&[]);
            disk[at] = value;
            parse(disk).unwrap_err()
        };
        assert!(with(512, 0).contains("damaged"));
        for at in [512 + 79, 512 + 82, 512 + 84, 512 + 86] {
            assert!(with(at, 0xff).contains("can't be right"), "{at}");
        }
        assert!(with(512 + 76, 1).contains("ends before"), "a table beyond the end");
    }
}
