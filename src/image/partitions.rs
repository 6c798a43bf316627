//! Writes the partition table of a disk for firmware: a master boot record, which both BIOS and UEFI read.

pub(super) const SECTOR: u64 = 512;
/// Start of the first partition in sectors: 1 MiB, the default of partitioning programs. A BIOS's boot loader lies
/// before it.
pub(super) const FIRST: u64 = 2048;
/// Partition types.
pub(super) const LINUX: u8 = 0x83;
pub(super) const EFI_SYSTEM: u8 = 0xef;
/// Bytes for code in the first sector. The disk's signature and the table follow.
const CODE: usize = 440;
const TABLE: usize = 446;
const ENTRY: usize = 16;

/// A partition's place in sectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Partition {
    pub start: u64,
    pub sectors: u64,
    pub kind: u8,
    /// The boot flag, without which some BIOSes boot no partition.
    pub active: bool,
}

/// The first sector of a disk: the start of `code`, and the table with at most four partitions below 2 TiB.
pub(super) fn boot_record(
    code: &[u8],
    signature: u32,
    partitions: &[Partition],
) -> Result<[u8; SECTOR as usize], String> {
    let mut sector = [0; SECTOR as usize];
    let code = &code[..code.len().min(CODE)];
    sector[..code.len()].copy_from_slice(code);
    sector[CODE..CODE + 4].copy_from_slice(&signature.to_le_bytes());
    if partitions.len() > 4 {
        return Err("a boot record has room for four partitions".into());
    }
    for (partition, entry) in partitions.iter().zip(sector[TABLE..].chunks_exact_mut(ENTRY)) {
        let number = |value: u64| {
            u32::try_from(value).map_err(|_| "a disk of 2 TiB or more has no boot record".to_string())
        };
        // The old address by cylinder, head and sector: the value for "out of range".
        let beyond = [0xfe, 0xff, 0xff];
        entry[0] = if partition.active { 0x80 } else { 0 };
        entry[1..4].copy_from_slice(&beyond);
        entry[4] = partition.kind;
        entry[5..8].copy_from_slice(&beyond);
        entry[8..12].copy_from_slice(&number(partition.start)?.to_le_bytes());
        entry[12..16].copy_from_slice(&number(partition.sectors)?.to_le_bytes());
    }
    sector[510..].copy_from_slice(&[0x55, 0xaa]);
    Ok(sector)
}

/// Reads a table.
#[cfg(test)]
pub(super) fn parse(sector: &[u8]) -> Vec<Partition> {
    assert_eq!(sector[510..512], [0x55, 0xaa]);
    let number = |bytes: &[u8]| u64::from(u32::from_le_bytes(bytes.try_into().unwrap()));
    let entries = sector[TABLE..510].chunks_exact(ENTRY);
    let partition = |entry: &[u8]| Partition {
        start: number(&entry[8..12]),
        sectors: number(&entry[12..16]),
        kind: entry[4],
        active: entry[0] == 0x80,
    };
    entries.map(partition).filter(|partition| partition.kind != 0).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_boot_record_is_read_back_as_it_was_made_and_code_does_not_run_into_the_table() {
        let partitions = [
            Partition { start: FIRST, sectors: 16384, kind: EFI_SYSTEM, active: false },
            Partition { start: FIRST + 16384, sectors: u64::from(u32::MAX), kind: LINUX, active: true },
        ];
        let sector = boot_record(&[0x90; 512], 0x1234_5678, &partitions).unwrap();
        assert_eq!(parse(&sector), partitions);
        assert_eq!(sector[439], 0x90);
        assert_eq!(sector[440..446], [0x78, 0x56, 0x34, 0x12, 0, 0]);
    }

    #[test]
    fn a_disk_that_the_table_cannot_describe_is_refused() {
        let large = Partition { start: FIRST, sectors: 1 << 32, kind: LINUX, active: true };
        assert!(boot_record(&[], 0, &[large]).unwrap_err().contains("2 TiB"));
        assert!(boot_record(&[], 0, &[Partition { sectors: 1, ..large }; 5]).is_err());
    }
}
