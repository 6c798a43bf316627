//! The files of `/etc` that container engines make: the names that an instance knows itself and its neighbours by, and
//! the table of its mounts. Engines lay them over the image's own, which other targets have: so every target gets these.

use std::io;

use bootrace_agent::protocol::HOSTNAME;

use crate::sys::rootfs::Rootfs;

/// `/etc/hosts`, as a Debian host without a name of its own has it.
fn hosts() -> String {
    format!(
        "127.0.0.1\tlocalhost\n127.0.1.1\t{HOSTNAME}\n::1\tlocalhost ip6-localhost ip6-loopback\n\
         ff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n"
    )
}

/// The files by their paths in the image. The last one, the resolver's, is for instances without a network.
pub fn files() -> [(&'static str, String); 3] {
    [("/etc/hosts", hosts()), ("/etc/hostname", format!("{HOSTNAME}\n")), (RESOLVER, String::new())]
}

/// The resolver's configuration. Without a network there is nothing to ask.
pub const RESOLVER: &str = "/etc/resolv.conf";

/// The table of mounts: a link, and where it leads.
const MOUNTS: (&str, &str) = ("/etc/mtab", "/proc/mounts");

/// Writes the files into a tree. A link in the resolver's place stays: it is that of a system that makes the file as it
/// boots.
///
/// # Errors
/// When one can't be written.
pub(super) fn add(tree: &Rootfs) -> io::Result<()> {
    for (path, content) in files() {
        if path != RESOLVER || !tree.is_link(path)? {
            tree.write(path, content.as_bytes(), 0o644)?;
        }
    }
    tree.link(MOUNTS.0, MOUNTS.1)
}

/// What [`add`] writes, for the image's digest.
pub(super) fn recipe() -> String {
    let files = files().map(|(path, content)| format!("{path}\n{content}")).concat();
    format!("{files}{} {}\n", MOUNTS.0, MOUNTS.1)
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;

    #[test]
    fn what_the_building_host_left_is_replaced_and_a_resolver_of_the_system_stays() {
        let dir = tempfile::tempdir().unwrap();
        let tree = Rootfs::open(dir.path()).unwrap();
        let etc = dir.path().join("etc");
        fs::create_dir(&etc).unwrap();
        for name in ["hostname", "resolv.conf"] {
            fs::write(etc.join(name), "the building host's").unwrap();
        }
        add(&tree).unwrap();
        assert_eq!(fs::read_link(etc.join("mtab")).unwrap(), std::path::Path::new("/proc/mounts"));
        for (path, content) in files() {
            assert_eq!(tree.read_text(path, 4096).unwrap(), content, "{path}");
        }
        fs::remove_file(etc.join("resolv.conf")).unwrap();
        symlink("../run/systemd/resolve/stub-resolv.conf", etc.join("resolv.conf")).unwrap();
        add(&tree).unwrap();
        assert!(etc.join("resolv.conf").is_symlink());
    }
}
