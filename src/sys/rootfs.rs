//! Reads and writes inside an unpacked root file system as if it were `/`: its symbolic links, which are foreign, never
//! lead out of it.

use std::{
    fs::File,
    io::{self, Read, Write},
    os::fd::OwnedFd,
    path::Path,
};

use rustix::{
    fs::{
        AtFlags, CWD, Dir, Mode, OFlags, ResolveFlags, fchmod, mkdirat, openat, openat2, readlinkat,
        symlinkat, unlinkat,
    },
    io::Errno,
};

/// How many dangling links [`Rootfs::ensure_dir`] follows, as many as the kernel does.
const MOST_LINKS: u32 = 40;

pub struct Rootfs(OwnedFd);

impl Rootfs {
    /// Opens the root directory.
    ///
    /// # Errors
    /// When `dir` is no directory or can't be opened.
    pub fn open(dir: &Path) -> io::Result<Rootfs> {
        let fd = openat(CWD, dir, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        Ok(Rootfs(fd))
    }

    /// Opens a regular file for reading.
    ///
    /// # Errors
    /// When it can't be opened or is no regular file.
    pub fn file(&self, path: &str) -> io::Result<File> {
        // Must not block on a fifo or read a device.
        let file = File::from(self.resolve(path, OFlags::RDONLY | OFlags::NONBLOCK)?);
        match file.metadata()?.is_file() {
            true => Ok(file),
            false => Err(io::Error::other("not a regular file")),
        }
    }

    /// Reads a file of at most `max` bytes.
    ///
    /// # Errors
    /// When it is no regular file, can't be read, or is larger.
    pub fn read(&self, path: &str, max: u64) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.file(path)?.take(max + 1).read_to_end(&mut bytes)?;
        match bytes.len() as u64 <= max {
            true => Ok(bytes),
            false => Err(io::Error::other(format!("larger than {max} bytes"))),
        }
    }

    /// Reads a file as text; bytes that are not UTF-8 are replaced.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn read_text(&self, path: &str, max: u64) -> io::Result<String> {
        Ok(String::from_utf8_lossy(&self.read(path, max)?).into_owned())
    }

    /// The names in a directory, sorted.
    ///
    /// # Errors
    /// When it is no directory or can't be read.
    pub fn list(&self, path: &str) -> io::Result<Vec<String>> {
        let fd = self.resolve(path, OFlags::RDONLY | OFlags::DIRECTORY)?;
        let mut names = Vec::new();
        for entry in Dir::read_from(fd)? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            if name != "." && name != ".." {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }

    /// Opens a directory as a mount point.
    ///
    /// # Errors
    /// When it is no directory or can't be opened.
    pub fn dir(&self, path: &str) -> io::Result<OwnedFd> {
        self.resolve(path, OFlags::PATH | OFlags::DIRECTORY)
    }

    /// Creates the missing directories of a path, the last one with `mode`, and those that a dangling link names.
    ///
    /// # Errors
    /// When a part of the path is a file, or a directory can't be created; the error names it.
    pub fn ensure_dir(&self, path: &str, mode: u32) -> io::Result<OwnedFd> {
        self.ensure_dir_within(path, mode, MOST_LINKS)
    }

    fn ensure_dir_within(&self, path: &str, mode: u32, links: u32) -> io::Result<OwnedFd> {
        let failed = |at: &str, e: io::Error| io::Error::new(e.kind(), format!("making {at}: {e}"));
        let mut done = String::new();
        let mut parent = self.resolve(".", OFlags::PATH | OFlags::DIRECTORY)?;
        let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
        for (i, part) in parts.iter().enumerate() {
            let above = done.clone();
            done = format!("{above}/{part}");
            parent = match self.resolve(&done, OFlags::PATH | OFlags::DIRECTORY) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    match mkdirat(&parent, *part, Mode::from_raw_mode(0o755)) {
                        // A dangling link: goes on where it leads.
                        Err(Errno::EXIST) if links > 0 => {
                            let target = readlinkat(&parent, *part, Vec::new())
                                .map_err(|e| failed(&done, e.into()))?;
                            let target = String::from_utf8_lossy(target.as_bytes()).into_owned();
                            let above = if target.starts_with('/') { "" } else { above.as_str() };
                            let rest = parts[i + 1..].join("/");
                            return self.ensure_dir_within(
                                &format!("{above}/{target}/{rest}"),
                                mode,
                                links - 1,
                            );
                        }
                        made => made.map_err(|e| failed(&done, e.into()))?,
                    }
                    let made = self.resolve(&done, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW)?;
                    let mode = if i + 1 == parts.len() { mode } else { 0o755 };
                    fchmod(&made, Mode::from_raw_mode(mode))?;
                    made
                }
                found => found.map_err(|e| failed(&done, e))?,
            };
        }
        Ok(parent)
    }

    /// Whether a name is that of a symbolic link; false if nothing has it.
    ///
    /// # Errors
    /// When its directory can't be read.
    pub fn is_link(&self, path: &str) -> io::Result<bool> {
        match self.resolve(path, OFlags::PATH | OFlags::NOFOLLOW) {
            Ok(file) => Ok(File::from(file).metadata()?.is_symlink()),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// Where a symbolic link leads, as its text.
    ///
    /// # Errors
    /// When nothing has this name, or it is no link.
    pub fn link_target(&self, path: &str) -> io::Result<String> {
        let link = self.resolve(path, OFlags::PATH | OFlags::NOFOLLOW)?;
        Ok(readlinkat(&link, "", Vec::new())?.to_string_lossy().into_owned())
    }

    /// Removes what has this name, unless it is a directory. Succeeds if nothing has.
    ///
    /// # Errors
    /// When it is a directory or can't be removed.
    pub fn remove(&self, path: &str) -> io::Result<()> {
        let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
        match self.dir(if parent.is_empty() { "." } else { parent }) {
            Ok(parent) => remove(&parent, name).map_err(at(path)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(e) => Err(e),
        }
    }

    /// Writes a file and replaces whatever has its name.
    ///
    /// # Errors
    /// As [`Self::create`].
    pub fn write(&self, path: &str, content: &[u8], mode: u32) -> io::Result<()> {
        self.create(path, mode, |file| file.write_all(content))
    }

    /// Creates a file with what `fill` writes, and replaces whatever has its name.
    ///
    /// # Errors
    /// When the path has a directory of that name, the file can't be created, or `fill` fails.
    pub fn create(
        &self,
        path: &str,
        mode: u32,
        fill: impl FnOnce(&mut File) -> io::Result<()>,
    ) -> io::Result<()> {
        let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
        let parent = self.ensure_dir(parent, 0o755)?;
        remove(&parent, name).map_err(at(path))?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut file =
            openat(&parent, name, flags, Mode::from_raw_mode(0o600)).map(File::from).map_err(at(path))?;
        fill(&mut file)?;
        fchmod(&file, Mode::from_raw_mode(mode))?;
        Ok(())
    }

    /// Creates a symbolic link and replaces whatever has its name.
    ///
    /// # Errors
    /// When the path has a directory of that name, or the link can't be created.
    pub fn link(&self, path: &str, target: &str) -> io::Result<()> {
        let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
        let parent = self.ensure_dir(parent, 0o755)?;
        remove(&parent, name).map_err(at(path))?;
        symlinkat(target, &parent, name).map_err(at(path))
    }

    fn resolve(&self, path: &str, flags: OFlags) -> io::Result<OwnedFd> {
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        Ok(openat2(&self.0, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve)?)
    }
}

/// Adds the path to an error.
fn at(path: &str) -> impl FnOnce(Errno) -> io::Error {
    move |errno| {
        let error = io::Error::from(errno);
        io::Error::new(error.kind(), format!("making or removing {path}: {error}"))
    }
}

/// Removes a file by its name in a directory, if it is there.
fn remove(parent: &OwnedFd, name: &str) -> Result<(), Errno> {
    match unlinkat(parent, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        os::unix::fs::{PermissionsExt, symlink},
    };

    use super::*;

    /// A root file system whose links try to get out, and a directory outside of it.
    fn tree() -> (tempfile::TempDir, Rootfs) {
        let dir = tempfile::tempdir().unwrap();
        let outside = dir.path().join("outside");
        fs::create_dir_all(&outside).unwrap();
        fs::write(outside.join("secret"), "secret").unwrap();
        let root = dir.path().join("root");
        fs::create_dir_all(root.join("usr")).unwrap();
        symlink(&outside, root.join("usr/lib")).unwrap();
        symlink(outside.join("secret"), root.join("absolute")).unwrap();
        symlink("../outside/secret", root.join("relative")).unwrap();
        let rootfs = Rootfs::open(&root).unwrap();
        (dir, rootfs)
    }

    #[test]
    fn a_link_does_not_lead_out_of_the_tree_when_reading() {
        let (_dir, root) = tree();
        assert!(root.read("absolute", 100).is_err());
        assert!(root.read("relative", 100).is_err());
        assert!(root.list("usr/lib").is_err());
    }

    #[test]
    fn a_link_does_not_lead_out_of_the_tree_when_writing() {
        let (dir, root) = tree();
        let _ = root.write("usr/lib/bootrace/agent", b"x", 0o755);
        root.write("absolute", b"inside", 0o644).unwrap();
        assert_eq!(fs::read(dir.path().join("outside/secret")).unwrap(), b"secret");
        assert_eq!(fs::read_dir(dir.path().join("outside")).unwrap().count(), 1);
        assert_eq!(root.read("absolute", 100).unwrap(), b"inside");
    }

    #[test]
    fn a_link_within_the_tree_works_as_it_would_after_chroot() {
        let (dir, root) = tree();
        let inside = dir.path().join("root");
        fs::create_dir(inside.join("real")).unwrap();
        symlink("/real", inside.join("link")).unwrap();
        root.write("link/bootrace/file", b"content", 0o755).unwrap();
        let meta = fs::metadata(inside.join("real/bootrace/file")).unwrap();
        assert_eq!(meta.permissions().mode() & 0o7777, 0o755);
        assert_eq!(root.list("link").unwrap(), ["bootrace"]);
    }

    #[test]
    fn a_dangling_link_gets_its_directory_inside_the_tree() {
        let (dir, root) = tree();
        let inside = dir.path().join("root");
        for (link, target) in
            [("run", "/var/elsewhere/run"), ("usr/up", "../../../state"), ("loop", "loop/x")]
        {
            symlink(target, inside.join(link)).unwrap();
        }
        root.write("/run/bootrace/file", b"content", 0o644).unwrap();
        assert_eq!(fs::read(inside.join("var/elsewhere/run/bootrace/file")).unwrap(), b"content");
        root.ensure_dir("usr/up/sub", 0o700).unwrap();
        assert!(inside.join("state/sub").is_dir() && !dir.path().join("state").exists());
        let error = root.ensure_dir("loop", 0o755).err().unwrap().to_string();
        assert!(error.starts_with("making /loop"), "{error}");
    }

    #[test]
    fn a_directory_in_a_files_place_is_named() {
        let (_dir, root) = tree();
        root.ensure_dir("/etc/hosts", 0o755).unwrap();
        for error in
            [root.write("/etc/hosts", b"", 0o644), root.link("/etc/hosts", "x"), root.remove("/etc/hosts")]
        {
            let error = error.unwrap_err().to_string();
            assert!(error.starts_with("making or removing /etc/hosts: "), "{error}");
        }
    }

    #[test]
    fn only_regular_files_of_bounded_size_are_read() {
        let (_dir, root) = tree();
        root.write("large", b"0123456789", 0o644).unwrap();
        assert!(root.read("large", 9).is_err());
        assert!(root.read("usr", 100).is_err());
    }

    #[test]
    fn a_directory_that_is_there_keeps_its_mode() {
        let (dir, root) = tree();
        root.ensure_dir("tmp", 0o1777).unwrap();
        root.ensure_dir("tmp", 0o755).unwrap();
        let mode = fs::metadata(dir.path().join("root/tmp")).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o1777);
    }
}
