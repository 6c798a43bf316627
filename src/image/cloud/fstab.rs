//! Reads an image's `/etc/fstab` as its systemd does: its partitions and their mount points.

use super::partitions::{Ext4, Partition};

/// The largest number of entries; more are refused.
const MOST: usize = 32;

/// File systems that have none of the image's files.
const WITHOUT_FILES: [&str; 9] =
    ["cgroup", "cgroup2", "devpts", "devtmpfs", "proc", "ramfs", "swap", "sysfs", "tmpfs"];

/// A line: a file system and its mount point.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    what: FstabSource,
    /// An absolute path; without `..` where `what` is a partition.
    pub at: String,
    /// Type of the file system: `ext4`, `vfat`.
    pub kind: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum FstabSource {
    Uuid(String),
    Label(String),
    PartUuid(String),
    /// The number in a name such as `/dev/vda16`.
    Number(u32),
    /// Something else than a partition of this disk, or one by a name that only its own machine knows.
    Other,
}

/// The lines that mount files below the root as the system boots, outer mounts before inner ones.
///
/// # Errors
/// With more lines than an image has.
pub fn read(text: &str) -> Result<Vec<Entry>, String> {
    let mut entries: Vec<Entry> = text.lines().filter_map(entry).take(MOST + 1).collect();
    if entries.len() > MOST {
        return Err(format!("more than {MOST} lines mount something below the root"));
    }
    entries.sort_by_key(|entry| entry.at.split('/').count());
    Ok(entries)
}

fn entry(line: &str) -> Option<Entry> {
    let mut words = line.split_whitespace();
    let (what, at, kind) = (unescaped(words.next()?), unescaped(words.next()?), words.next()?);
    let mut options = words.next().unwrap_or_default().split(',');
    let by_hand = options.clone().any(|o| o == "noauto") && !options.any(|o| o == "x-systemd.automount");
    if what.starts_with('#') || by_hand || WITHOUT_FILES.contains(&kind) {
        return None;
    }
    let below =
        at.strip_prefix('/').map(|below| below.trim_end_matches('/')).filter(|below| !below.is_empty())?;
    let plain = !below.split('/').any(|part| ["", ".", ".."].contains(&part)) && !below.contains('\0');
    let what = FstabSource::read(&what).filter(|_| plain).unwrap_or(FstabSource::Other);
    Some(Entry { what, at: format!("/{below}"), kind: kind.into() })
}

/// A field without its escapes, fstab(5): a backslash and three octal digits for a byte.
fn unescaped(field: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = field;
    while let Some((before, after)) = rest.split_once('\\') {
        bytes.extend(before.as_bytes());
        let byte = after.get(..3).and_then(|digits| u8::from_str_radix(digits, 8).ok());
        bytes.push(byte.unwrap_or(b'\\'));
        rest = if byte.is_some() { &after[3..] } else { after };
    }
    bytes.extend(rest.as_bytes());
    String::from_utf8_lossy(&bytes).into_owned()
}

impl FstabSource {
    fn read(text: &str) -> Option<FstabSource> {
        let (key, value) = match text.split_once('=') {
            Some((key, value)) => (key, value.trim_matches('"')),
            None => match text.strip_prefix("/dev/disk/by-").and_then(|rest| rest.split_once('/')) {
                Some(("uuid", value)) => ("UUID", value),
                Some(("label", value)) => ("LABEL", value),
                Some(("partuuid", value)) => ("PARTUUID", value),
                Some(_) => return None,
                None => ("", text.strip_prefix("/dev/")?),
            },
        };
        Some(match key {
            "UUID" => FstabSource::Uuid(value.to_ascii_lowercase()),
            "LABEL" => FstabSource::Label(value.into()),
            "PARTUUID" => FstabSource::PartUuid(value.to_ascii_lowercase()),
            // From `vda16` as well as `nvme0n1p16`.
            "" => FstabSource::Number(value.rsplit(|c: char| !c.is_ascii_digit()).next()?.parse().ok()?),
            _ => return None,
        })
    }
}

impl Entry {
    /// Whether the line names this partition with this file system.
    pub fn means(&self, partition: &Partition, file_system: &Ext4) -> bool {
        match &self.what {
            FstabSource::Uuid(uuid) => *uuid == file_system.uuid,
            FstabSource::Label(label) => *label == file_system.label,
            FstabSource::PartUuid(uuid) => *uuid == partition.uuid,
            FstabSource::Number(number) => *number == partition.number,
            FstabSource::Other => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ubuntus_and_debians_files_are_read() {
        let ubuntu = "LABEL=cloudimg-rootfs\t/\text4\tdiscard,commit=30,errors=remount-ro 0 1\n\
            LABEL=UEFI /boot/efi vfat umask=0077 0 1\nLABEL=BOOT\t/boot\text4\tdefaults 0 2\n";
        let found = read(ubuntu).unwrap();
        assert_eq!(found.len(), 2, "the root is no mount below it: {found:?}");
        assert_eq!((found[0].at.as_str(), found[0].kind.as_str()), ("/boot", "ext4"));
        assert_eq!((found[1].at.as_str(), found[1].kind.as_str()), ("/boot/efi", "vfat"));
        let debian =
            "# <file system> ...\nPARTUUID=AB-1 / ext4 rw 0 1\nPARTUUID=ab-2 /boot/efi vfat defaults 0 0\n";
        assert_eq!(read(debian).unwrap().len(), 1);
    }

    #[test]
    fn a_partition_is_meant_by_any_of_its_names() {
        let partition = Partition { number: 16, start: 1, bytes: 1, uuid: "aa-bb".into() };
        let file_system = Ext4 { uuid: "01-02".into(), label: "BOOT".into() };
        for (what, meant) in [
            ("LABEL=BOOT", true),
            ("LABEL=\"BOOT\"", true),
            ("LABEL=boot", false),
            ("UUID=01-02", true),
            ("UUID=01-03", false),
            ("PARTUUID=AA-BB", true),
            ("/dev/vda16", true),
            ("/dev/nvme0n1p16", true),
            ("/dev/vda1", false),
            ("/dev/disk/by-label/BOOT", true),
            ("/dev/disk/by-uuid/01-02", true),
            ("/dev/disk/by-partuuid/aa-bb", true),
        ] {
            let entry = &read(&format!("{what} /boot ext4 defaults 0 0")).unwrap()[0];
            assert_eq!(entry.means(&partition, &file_system), meant, "{what}");
        }
    }

    #[test]
    fn lines_are_mounted_that_systemd_mounts_and_the_others_are_reported() {
        let text = "LABEL=BOOT /boot ext4 noauto 0 0\n\
            LABEL=BOOT /on/access ext4 ro,noauto,x-systemd.automount 0 0\n\
            LABEL=a\\040b /my\\040data ext4 defaults\n\
            /dev/disk/by-id/virtio-1 /srv ext4 defaults\n\
            server:/export /nfs nfs _netdev\n\
            PARTLABEL=x /parts ext4\n\
            tmpfs /tmp tmpfs\n";
        let found = read(text).unwrap();
        let at: Vec<&str> = found.iter().map(|entry| entry.at.as_str()).collect();
        assert_eq!(at, ["/my data", "/srv", "/nfs", "/parts", "/on/access"]);
        assert_eq!(found[0].what, FstabSource::Label("a b".into()));
        assert!(found[1..4].iter().all(|entry| entry.what == FstabSource::Other), "{found:?}");
        assert_eq!(unescaped("a\\134040\\9\\"), "a\\040\\9\\");
    }

    #[test]
    fn hostile_and_senseless_lines_mount_nothing() {
        for line in [
            "LABEL=a /../etc ext4",
            "LABEL=a /x/../../etc ext4",
            "LABEL=a /x/\\056\\056/etc ext4",
            "LABEL=a /x\\000 ext4",
            "/dev/vda /x ext4",
        ] {
            let found = read(line).unwrap();
            assert!(found.iter().all(|entry| entry.what == FstabSource::Other), "{line}: {found:?}");
        }
        let lines = [
            "LABEL=a ../etc ext4",
            "LABEL=a // ext4",
            "LABEL=a none swap",
            "tmpfs /tmp tmpfs",
            "LABEL=a /x",
            "",
        ];
        for line in lines {
            assert_eq!(read(line).unwrap(), [], "{line}");
        }
        let many = "LABEL=a /x ext4\n".repeat(MOST);
        assert_eq!(read(&many).unwrap().len(), MOST);
        assert!(read(&many.repeat(1000)).unwrap_err().starts_with("more than 32 lines"));
    }
}
