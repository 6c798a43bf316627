//! The root file system of a bare process, and its devices.

use std::{
    fs, io,
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::fs::{MetadataExt, PermissionsExt},
    },
    path::{Path, PathBuf},
};

use bootrace_agent::surroundings::SHM_OPTIONS;
use rustix::{
    fs::{AtFlags, FileType, Mode, chmodat, makedev, mknodat, symlinkat},
    mount::{self, MountFlags, UnmountFlags},
};

use crate::sys::rootfs::Rootfs;

/// The instance's root file system: an overlay with the image's tree as its lower layer.
pub struct Root {
    dir: PathBuf,
    /// Where it is mounted.
    pub merged: PathBuf,
    mounted: bool,
}

impl Root {
    pub fn new(dir: &Path) -> Self {
        Root { dir: dir.into(), merged: dir.join("root"), mounted: false }
    }

    /// Gives the instance the host's resolver configuration, as Docker does. Writes it into the upper directory
    /// before the mount, since the image's own file may be a link.
    ///
    /// # Errors
    /// When the host's file can't be read or the copy can't be written.
    pub fn write_resolver(&self, host: &Path) -> io::Result<()> {
        let failed = |at: &Path, e: io::Error| io::Error::new(e.kind(), format!("{}: {e}", at.display()));
        let content = match fs::read(host) {
            // The host has none: keeps the image's own.
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            result => result.map_err(|e| failed(host, e))?,
        };
        let etc = self.dir.join("upper/etc");
        let file = etc.join("resolv.conf");
        fs::create_dir_all(&etc)
            .and_then(|()| fs::write(&file, content))
            .and_then(|()| fs::set_permissions(&etc, fs::Permissions::from_mode(0o755)))
            .and_then(|()| fs::set_permissions(&file, fs::Permissions::from_mode(0o644)))
            .map_err(|e| failed(&file, e))
    }

    /// Mounts the root with `/proc`, `/sys` and `/dev`, as a container has them.
    ///
    /// # Errors
    /// When a mount or a device can't be made.
    pub fn mount(&mut self, tree: &Path) -> io::Result<()> {
        self.mount_overlay(tree)?;
        // The image's links must not lead out of it.
        let root = Rootfs::open(&self.merged)?;
        let special = MountFlags::NOSUID | MountFlags::NOEXEC;
        for (kind, name, flags) in [
            ("proc", "proc", special | MountFlags::NODEV),
            ("sysfs", "sys", special | MountFlags::NODEV | MountFlags::RDONLY),
            ("tmpfs", "dev", special),
            ("devpts", "dev/pts", special),
            ("tmpfs", "dev/shm", special | MountFlags::NODEV),
        ] {
            let at = root.ensure_dir(name, 0o755)?;
            let options = match name {
                "dev" => Some(c"mode=0755"),
                "dev/pts" => Some(c"newinstance,ptmxmode=0666,mode=0620,gid=5"),
                "dev/shm" => Some(SHM_OPTIONS),
                _ => None,
            };
            mount::mount(kind, format!("/proc/self/fd/{}", at.as_raw_fd()), kind, flags, options)
                .map_err(|e| failed(&self.merged.join(name), e))?;
        }
        make_devices(&root.dir("dev")?)
    }

    /// The directories that belong to this instance alone.
    pub fn own(&self) -> Vec<PathBuf> {
        ["upper", "work"].map(|name| self.dir.join(name)).into()
    }

    /// Mounts the overlay alone: `tree` as the lower layer, the instance's own directory as the upper one.
    ///
    /// # Errors
    /// When a directory can't be created or the kernel refuses the mount.
    pub fn mount_overlay(&mut self, tree: &Path) -> io::Result<()> {
        for name in ["root", "upper", "work"] {
            fs::create_dir_all(self.dir.join(name))?;
        }
        // The merged root has the mode and owner of the upper directory, which must not depend on the umask.
        let (like, upper) = (fs::metadata(tree)?, self.dir.join("upper"));
        fs::set_permissions(&upper, like.permissions())?;
        std::os::unix::fs::chown(&upper, Some(like.uid()), Some(like.gid()))?;
        let (upper, work) = (self.dir.join("upper"), self.dir.join("work"));
        let options =
            format!("lowerdir={},upperdir={},workdir={}", tree.display(), upper.display(), work.display());
        let options = std::ffi::CString::new(options)?;
        let merged = &self.merged;
        mount::mount("overlay", merged, "overlay", MountFlags::empty(), options.as_c_str())
            .map_err(|e| failed(merged, e))?;
        self.mounted = true;
        Ok(())
    }

    /// Unmounts the root with all mounts below it.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn unmount(&mut self) -> io::Result<()> {
        if self.mounted {
            mount::unmount(&self.merged, UnmountFlags::DETACH)?;
            self.mounted = false;
        }
        Ok(())
    }
}

fn failed(at: &Path, error: rustix::io::Errno) -> io::Error {
    let error = io::Error::from(error);
    io::Error::new(error.kind(), format!("mounting {}: {error}", at.display()))
}

/// Makes the devices that a container gets, and no others of the host's.
fn make_devices(dev: &OwnedFd) -> io::Result<()> {
    let nodes =
        [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];
    for (name, major, minor) in nodes {
        let mode = Mode::from_raw_mode(0o666);
        mknodat(dev, name, FileType::CharacterDevice, mode, makedev(major, minor))?;
        // Sets the mode whatever the umask is.
        chmodat(dev, name, mode, AtFlags::empty())?;
    }
    let links = [("fd", ""), ("stdin", "/0"), ("stdout", "/1"), ("stderr", "/2")];
    for (name, rest) in links {
        symlinkat(format!("/proc/self/fd{rest}"), dev, name)?;
    }
    Ok(symlinkat("pts/ptmx", dev, "ptmx")?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hosts_resolver_configuration_lies_above_the_image_and_all_may_read_it() {
        let dir = tempfile::tempdir().unwrap();
        let (root, host) = (Root::new(dir.path()), dir.path().join("host"));
        root.write_resolver(&host).unwrap();
        assert!(!dir.path().join("upper").exists(), "the host has none");
        fs::write(&host, "nameserver 192.0.2.1\n").unwrap();
        root.write_resolver(&host).unwrap();
        for (path, mode) in [("upper/etc", 0o755), ("upper/etc/resolv.conf", 0o644)] {
            let meta = fs::metadata(dir.path().join(path)).unwrap();
            assert_eq!(meta.permissions().mode() & 0o777, mode, "{path}");
        }
        let content = fs::read_to_string(dir.path().join("upper/etc/resolv.conf")).unwrap();
        assert_eq!(content, "nameserver 192.0.2.1\n");
    }
}
