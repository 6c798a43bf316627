//! What the superblock of an ext2, ext3 or ext4 file system says of it.

use std::io::{self, Read, Seek, SeekFrom};

use super::super::error::tame;

/// A file system by the names that it goes by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ext4 {
    /// As in `UUID=`, in lower case.
    pub uuid: String,
    pub label: String,
    /// Its last changes are in its journal alone: it was not unmounted.
    pub unclean: bool,
}

/// Looks at what starts there on a disk; `None` if it is another file system, or none.
pub fn look(disk: &mut (impl Read + Seek), start: u64) -> io::Result<Option<Ext4>> {
    let mut block = [0; 136];
    disk.seek(SeekFrom::Start(start.saturating_add(1024)))?;
    match disk.read_exact(&mut block) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        result => result?,
    }
    if block[56..58] != [0x53, 0xef] {
        return Ok(None);
    }
    let hex: Vec<String> = block[104..120].iter().map(|byte| format!("{byte:02x}")).collect();
    let uuid =
        [&hex[..4], &hex[4..6], &hex[6..8], &hex[8..10], &hex[10..]].map(|part| part.concat()).join("-");
    let label = block[120..136].split(|byte| *byte == 0).next().unwrap_or_default();
    let label = tame(&String::from_utf8_lossy(label), 64);
    // EXT3_FEATURE_INCOMPAT_RECOVER
    Ok(Some(Ext4 { uuid, label, unclean: block[96] & 4 != 0 }))
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    fn disk(at: usize) -> Vec<u8> {
        let mut disk = vec![0; at + 4096];
        let block = &mut disk[at + 1024..];
        block[56..58].copy_from_slice(&[0x53, 0xef]);
        block[104..120].copy_from_slice(&std::array::from_fn::<u8, 16, _>(|n| n as u8));
        block[120..124].copy_from_slice(b"BOOT");
        disk
    }

    #[test]
    fn a_file_system_is_known_by_its_uuid_and_label() {
        let found = look(&mut Cursor::new(disk(8192)), 8192).unwrap().unwrap();
        assert_eq!(found.uuid, "00010203-0405-0607-0809-0a0b0c0d0e0f");
        assert_eq!((found.label.as_str(), found.unclean), ("BOOT", false));
        let mut unclean = disk(0);
        unclean[1024 + 96] = 4;
        assert!(look(&mut Cursor::new(unclean), 0).unwrap().unwrap().unclean);
    }

    #[test]
    fn another_file_system_or_the_end_of_the_disk_is_none() {
        assert_eq!(look(&mut Cursor::new(disk(8192)), 0).unwrap(), None);
        assert_eq!(look(&mut Cursor::new(disk(0)), 1 << 40).unwrap(), None);
        assert_eq!(look(&mut Cursor::new(disk(0)), u64::MAX).unwrap(), None);
    }
}
