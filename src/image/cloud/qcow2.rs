//! Checks the head of a qcow2 file before QEMU's programs open it. A hostile file may name other files of this host as
//! its backing or data file, which QEMU would then read.
//!
//! Layout: docs/interop/qcow2.txt of QEMU.

/// The number of bytes that [`check`] needs.
pub const HEAD: usize = 104;
/// The largest accepted disk, in bytes: a small file can stand for any amount of data.
pub const LARGEST_DISK: u64 = 256 << 30;

const MAGIC: [u8; 4] = *b"QFI\xfb";
/// Incompatible features that only change how clusters are read: compression type, extended L2 entries.
const HARMLESS: u64 = 1 << 3 | 1 << 4;
const DIRTY: u64 = 1 << 0;
const CORRUPT: u64 = 1 << 1;
const EXTERNAL_DATA: u64 = 1 << 2;

/// A file's data about its disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Size of the guest's disk in bytes.
    pub disk_bytes: u64,
}

/// Reads the head of a file of `file_bytes` bytes. The disk must be complete and need no other file.
///
/// # Errors
/// The reason why bootrace refuses the file, with the fix.
pub fn check(head: &[u8], file_bytes: u64) -> Result<Header, String> {
    let number = |at: usize| Some(u32::from_be_bytes(head.get(at..at + 4)?.try_into().ok()?));
    let long = |at: usize| Some(u64::from_be_bytes(head.get(at..at + 8)?.try_into().ok()?));
    let cut = || "it is cut short: fetch it again".to_string();
    if head.get(..4) != Some(&MAGIC) {
        return Err(
            "it is no qcow2 file: make one of it with qemu-img convert -O qcow2 FILE NEW.qcow2".into()
        );
    }
    let version = number(4).ok_or_else(cut)?;
    let features = match version {
        2 => 0,
        3 => long(72).ok_or_else(cut)?,
        other => return Err(format!("it is qcow2 of version {other}, and bootrace reads 2 and 3")),
    };
    if long(8).ok_or_else(cut)? != 0 {
        return Err(
            "it is only what differs from another file, its backing file: make it whole with qemu-img convert -O qcow2"
                .into(),
        );
    }
    if features & EXTERNAL_DATA != 0 {
        return Err("its data are in another file: put all into one with qemu-img convert -O qcow2".into());
    }
    if features & (DIRTY | CORRUPT) != 0 {
        return Err("its header says that it is damaged or was not closed: run qemu-img check".into());
    }
    if features & !HARMLESS != 0 {
        return Err(format!("it has qcow2 features that are not known here ({:#x})", features & !HARMLESS));
    }
    if number(32).ok_or_else(cut)? != 0 {
        return Err("it is encrypted: make a plain one of it with qemu-img convert".into());
    }
    // Beyond a file's end QEMU reads zeros, and a table of zeros hides that the file is truncated.
    let table = u64::from(number(36).ok_or_else(cut)?) * 8;
    if long(40).ok_or_else(cut)?.checked_add(table).is_none_or(|end| end > file_bytes) {
        return Err(cut());
    }
    let disk_bytes = long(24).ok_or_else(cut)?;
    if disk_bytes > LARGEST_DISK {
        return Err(format!(
            "its disk has {} GiB, and bootrace uses at most {} GiB",
            disk_bytes >> 30,
            LARGEST_DISK >> 30
        ));
    }
    Ok(Header { disk_bytes })
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: u64 = 1 << 20;

    fn check(head: &[u8]) -> Result<Header, String> {
        super::check(head, FILE)
    }

    /// The head of a file with a disk of 3 GiB and a table that ends at 256 KiB.
    fn head(version: u32) -> Vec<u8> {
        let mut head = vec![0; HEAD];
        head[..4].copy_from_slice(&MAGIC);
        head[4..8].copy_from_slice(&version.to_be_bytes());
        head[24..32].copy_from_slice(&(3u64 << 30).to_be_bytes());
        head[36..40].copy_from_slice(&8192u32.to_be_bytes());
        head[40..48].copy_from_slice(&(192u64 << 10).to_be_bytes());
        head
    }

    #[test]
    fn a_plain_disk_of_either_version_is_taken_with_its_size() {
        for version in [2, 3] {
            assert_eq!(check(&head(version)), Ok(Header { disk_bytes: 3 << 30 }));
        }
        let mut zstd = head(3);
        zstd[79] = 1 << 3;
        assert!(check(&zstd).is_ok());
        // Version 2 has no features: what stands there is something else.
        assert!(check(&[&head(2)[..72], &[0xff; 8]].concat()).is_ok());
    }

    #[test]
    fn a_qcow2_that_refers_to_other_files_is_refused() {
        let with = |at: usize, value: u8| {
            let mut head = head(3);
            head[at] = value;
            check(&head).unwrap_err()
        };
        assert!(with(15, 1).contains("its backing file"));
        assert!(with(79, 1 << 2).contains("in another file"));
    }

    #[test]
    fn a_broken_qcow2_is_named() {
        let with = |at: usize, value: u8| {
            let mut head = head(3);
            head[at] = value;
            check(&head).unwrap_err()
        };
        assert!(check(b"").unwrap_err().starts_with("it is no qcow2 file"));
        assert!(with(0, b'X').contains("qemu-img convert -O qcow2"));
        assert!(with(7, 9).contains("version 9"));
        assert!(with(79, 1 << 1).contains("damaged"));
        assert!(with(72, 1).contains("not known here"));
        assert!(with(35, 1).contains("encrypted"));
        assert!(with(24, 1).contains("at most 256 GiB"));
        for length in 4..HEAD {
            // Never a panic, whatever it is cut to.
            let _ = check(&head(3)[..length]);
        }
        assert!(check(&head(3)[..40]).unwrap_err().contains("cut short"));
        assert!(super::check(&head(3), 256 << 10).is_ok());
        assert!(super::check(&head(3), (256 << 10) - 1).unwrap_err().contains("cut short"));
        assert!(with(40, 0xff).contains("cut short"));
    }
}
