//! The initramfs of a direct-boot VM: the agent as `/init`, and the modules that it loads, `/modules` always and
//! `/modules-network` only for a scenario with a network. It is a newc cpio archive without compression, since it is
//! small and unpacking would cost the guest time.

use std::io::{self, Write};

/// A kernel module with its name.
pub(super) struct Module {
    pub name: String,
    pub content: Vec<u8>,
}

const DIRECTORY: u32 = 0o040_755;
const EXECUTABLE: u32 = 0o100_755;
const FILE: u32 = 0o100_644;
const CHARACTER_DEVICE: u32 = 0o020_600;

/// Writes the archive, with each list of modules in load order. The same input gives the same bytes.
pub(super) fn write(
    out: &mut impl Write,
    agent: &[u8],
    needed: &[Module],
    network: &[Module],
) -> io::Result<()> {
    let mut archive = Archive { out, inode: 0 };
    for dir in ["dev", "proc", "sys", "newroot", "modules", "modules-network"] {
        archive.entry(dir, DIRECTORY, (0, 0), &[])?;
    }
    // The kernel opens it before /init can mount anything.
    archive.entry("dev/console", CHARACTER_DEVICE, (5, 1), &[])?;
    archive.entry("init", EXECUTABLE, (0, 0), agent)?;
    for (dir, modules) in [("modules", needed), ("modules-network", network)] {
        for (number, module) in modules.iter().enumerate() {
            archive.entry(&format!("{dir}/{number:02}-{}.ko", module.name), FILE, (0, 0), &module.content)?;
        }
    }
    archive.inode = -1;
    archive.entry("TRAILER!!!", 0, (0, 0), &[])
}

struct Archive<'a, W> {
    out: &'a mut W,
    inode: i64,
}

impl<W: Write> Archive<'_, W> {
    fn entry(&mut self, name: &str, mode: u32, device: (u32, u32), content: &[u8]) -> io::Result<()> {
        self.inode += 1;
        let links = if mode & 0o170_000 == DIRECTORY & 0o170_000 { 2 } else { 1 };
        let size = u32::try_from(content.len()).map_err(|_| io::Error::other("a file of 4 GiB or more"))?;
        let fields = [
            self.inode as u32,
            mode,
            0, // uid
            0, // gid
            links,
            0, // mtime
            size,
            0, // device of the file itself
            0,
            device.0,
            device.1,
            name.len() as u32 + 1,
            0, // checksum: none in newc
        ];
        self.out.write_all(b"070701")?;
        for field in fields {
            write!(self.out, "{field:08x}")?;
        }
        self.out.write_all(name.as_bytes())?;
        self.out.write_all(b"\0")?;
        self.pad(6 + 13 * 8 + name.len() + 1)?;
        self.out.write_all(content)?;
        self.pad(content.len())
    }

    /// Pads the header with its name, and the content, to a multiple of 4.
    fn pad(&mut self, written: usize) -> io::Result<()> {
        self.out.write_all(&[0; 3][..written.next_multiple_of(4) - written])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads an archive: name, mode and content of each file.
    fn read(mut bytes: &[u8]) -> Vec<(String, u32, Vec<u8>)> {
        let mut entries = Vec::new();
        loop {
            assert_eq!(&bytes[..6], b"070701");
            let field = |n: usize| {
                let text = std::str::from_utf8(&bytes[6 + n * 8..14 + n * 8]).unwrap();
                u32::from_str_radix(text, 16).unwrap() as usize
            };
            let (mode, size, name_size) = (field(1) as u32, field(6), field(11));
            let name = String::from_utf8(bytes[110..109 + name_size].to_vec()).unwrap();
            let start = (110 + name_size).next_multiple_of(4);
            let content = bytes[start..start + size].to_vec();
            bytes = &bytes[(start + size).next_multiple_of(4)..];
            if name == "TRAILER!!!" {
                assert!(bytes.is_empty());
                return entries;
            }
            entries.push((name, mode, content));
        }
    }

    fn archive() -> Vec<u8> {
        let module = |name: &str| Module { name: name.into(), content: name.as_bytes().to_vec() };
        let mut bytes = Vec::new();
        let needed = [module("virtio"), module("virtio_ring")];
        write(&mut bytes, b"agent", &needed, &[module("virtio_net")]).unwrap();
        bytes
    }

    #[test]
    fn the_archive_has_the_agent_as_init_and_the_modules_in_load_order() {
        let entries = read(&archive());
        let find = |name: &str| entries.iter().find(|entry| entry.0 == name).unwrap();
        assert_eq!((find("init").1, find("init").2.as_slice()), (EXECUTABLE, b"agent".as_slice()));
        assert_eq!(find("dev/console").1, CHARACTER_DEVICE);
        assert_eq!(find("newroot").1, DIRECTORY);
        let modules: Vec<&str> =
            entries.iter().map(|entry| entry.0.as_str()).filter(|name| name.ends_with(".ko")).collect();
        let expected =
            ["modules/00-virtio.ko", "modules/01-virtio_ring.ko", "modules-network/00-virtio_net.ko"];
        assert_eq!(modules, expected);
    }

    #[test]
    fn the_same_input_gives_the_same_bytes() {
        assert_eq!(archive(), archive());
    }
}
