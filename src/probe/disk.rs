//! The disk space of an image and an instance, and pages of a file in the host's page cache.

use std::{
    collections::{HashMap, HashSet},
    fs::{self, File},
    io,
    num::NonZero,
    os::{
        fd::AsRawFd,
        unix::fs::{FileExt, MetadataExt},
    },
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use rustix::fs::{Advice, CWD, Mode, OFlags, ResolveFlags, fadvise, openat, openat2};

use super::Error;

/// Where an instance's disk is on this host. Fields that a target does not know are empty.
#[derive(Debug, Clone, Default)]
pub struct Place {
    /// How the target stores instances' writes: `overlayfs`, `overlay2`, `qcow2`.
    pub storage: String,
    /// The image in this target's form: directories and files. Empty if not all of it is found.
    pub image: Vec<PathBuf>,
    /// The directories and files of this instance alone.
    pub instance: Vec<PathBuf>,
    /// How long it took to provision the instance's disk; `None` if the target did not time it.
    pub made: Option<Duration>,
    /// Where the image's files are; `None` if the host can't read them.
    pub files: Option<Files>,
}

/// Where the host can read the image's files.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Files {
    /// In a directory: the lower layer of an overlay.
    Tree(PathBuf),
    /// In a raw ext4 disk with blocks of 4 KiB.
    Ext4(PathBuf),
}

/// The largest number of files that are counted: a workload that makes more would hold up the run.
const MOST: usize = 2_000_000;
const PAGE: usize = 4096;
/// The largest folio of the page cache, in bytes. Each begins at a multiple of its size, and the kernel drops only
/// whole ones.
const FOLIO: u64 = 2 << 20;

/// Allocated blocks of these files and directories with their contents, in bytes. Counts hard links once, and no other
/// file systems that are mounted there.
///
/// # Errors
/// When one of them can't be read. Files that vanish below them meanwhile are no error.
pub fn allocated(paths: &[PathBuf]) -> Result<u64, Error> {
    let (mut bytes, mut files, mut linked) = (0, 0, HashSet::new());
    for top in paths {
        let meta = fs::symlink_metadata(top).map_err(|e| Error::io(top, &e))?;
        let device = meta.dev();
        let mut left = vec![(top.clone(), meta)];
        while let Some((path, meta)) = left.pop() {
            let other = meta.dev() != device;
            let seen = !meta.is_dir() && meta.nlink() > 1 && !linked.insert((meta.dev(), meta.ino()));
            if other || seen {
                continue;
            }
            files += 1;
            if files > MOST {
                return Err(Error::new(top, format!("more than {MOST} files: not counted")));
            }
            bytes += meta.blocks() * 512;
            if !meta.is_dir() {
                continue;
            }
            match fs::read_dir(&path) {
                Ok(entries) => {
                    let paths = entries.flatten().map(|entry| entry.path());
                    left.extend(
                        paths.filter_map(|path| Some((path.clone(), fs::symlink_metadata(&path).ok()?))),
                    );
                }
                Err(e) if e.kind() == io::ErrorKind::NotFound && path != *top => {}
                Err(e) => return Err(Error::io(&path, &e)),
            }
        }
    }
    Ok(bytes)
}

/// This process's cache of images' sizes: an image never changes, so its many files are walked only once.
static IMAGES: Mutex<Option<HashMap<Vec<PathBuf>, u64>>> = Mutex::new(None);
/// The cache of files' places within disks.
static SPOTS: Mutex<Option<HashMap<Files, Spot>>> = Mutex::new(None);

/// [`allocated`], cached, for files that never change.
///
/// # Errors
/// As for [`allocated`].
pub fn allocated_once(paths: &[PathBuf]) -> Result<u64, Error> {
    let known = || IMAGES.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(bytes) = known().as_ref().and_then(|images| images.get(paths)) {
        return Ok(*bytes);
    }
    let bytes = allocated(paths)?;
    known().get_or_insert_default().insert(paths.to_vec(), bytes);
    Ok(bytes)
}

/// A page of a file on this host that has the start of a file of the image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spot {
    /// Relative to `root` if that is given; then no link of the image leads out of it.
    file: PathBuf,
    root: Option<PathBuf>,
    offset: u64,
}

impl Files {
    /// Where the first page of a file of the image is. Cached for each image.
    ///
    /// # Errors
    /// When the file is not found, or debugfs (of e2fsprogs) is missing or fails.
    pub fn spot(&self, path: &str) -> Result<Spot, Error> {
        let disk = match self {
            Files::Tree(root) => {
                let file = PathBuf::from(path.trim_start_matches('/'));
                return Ok(Spot { file, root: Some(root.clone()), offset: 0 });
            }
            Files::Ext4(disk) => disk,
        };
        let known = || SPOTS.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(spot) = known().as_ref().and_then(|spots| spots.get(self)) {
            return Ok(spot.clone());
        }
        let spot = Spot { file: disk.clone(), root: None, offset: first_block(disk, path)? * PAGE as u64 };
        known().get_or_insert_default().insert(self.clone(), spot.clone());
        Ok(spot)
    }
}

/// Number of the first block of a file on an ext4 disk. `path` must not be foreign: it goes into debugfs' command.
fn first_block(disk: &Path, path: &str) -> Result<u64, Error> {
    let search = std::env::var("PATH").unwrap_or_default();
    let output = Command::new("debugfs")
        // These directories are not in the PATH of users other than root.
        .env("PATH", format!("{search}:/usr/sbin:/sbin"))
        .args(["-c", "-R", &format!("blocks {path}")])
        .arg(disk)
        .stdin(Stdio::null())
        .output()
        .map_err(|e| Error::new(disk, format!("running debugfs: {e}; it is in e2fsprogs")))?;
    let said = String::from_utf8_lossy(&output.stdout);
    let block = said.split_ascii_whitespace().next().and_then(|word| word.parse().ok());
    // Block 0 means a hole.
    block.filter(|block| *block > 0).ok_or_else(|| {
        let why: String = String::from_utf8_lossy(&output.stderr).chars().take(200).collect();
        Error::new(disk, format!("debugfs can't say where {path} lies: {}", why.trim()))
    })
}

impl Spot {
    fn open(&self) -> io::Result<File> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let Some(root) = &self.root else { return File::open(&self.file) };
        let root =
            openat(CWD, root.as_path(), OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        Ok(File::from(openat2(&root, self.file.as_path(), flags, Mode::empty(), resolve)?))
    }

    /// Drops the page from the page cache, with the pages around it that may be in the same folio. Returns whether it
    /// is out now.
    ///
    /// # Errors
    /// When the file can't be opened.
    pub fn forget(&self) -> io::Result<bool> {
        let file = self.open()?;
        // The kernel drops only clean pages.
        file.sync_data()?;
        fadvise(&file, self.window(), NonZero::new(FOLIO), Advice::DontNeed)?;
        Ok(!is_cached(&file, self.offset)?)
    }

    /// Offset of the first page that is dropped with it.
    fn window(&self) -> u64 {
        self.offset - self.offset % FOLIO
    }

    /// Reads the page and those that were dropped with it, so that later instances find their image as warm as before.
    /// Returns whether the page is in the page cache now.
    ///
    /// # Errors
    /// When the file can't be read.
    pub fn read(&self) -> io::Result<bool> {
        let file = self.open()?;
        let (mut at, end, mut buffer) = (self.window(), self.window() + FOLIO, vec![0; 256 << 10]);
        while at < end {
            match file.read_at(&mut buffer, at)? {
                0 => break,
                n => at += n as u64,
            }
        }
        is_cached(&file, self.offset)
    }
}

/// Whether the page at `offset` is in the page cache. Mapping it does not read it.
#[expect(unsafe_code, reason = "mincore, which asks about a mapping")]
fn is_cached(file: &File, offset: u64) -> io::Result<bool> {
    let mut cached = 0_u8;
    // SAFETY: the mapping is private to this function and never accessed; `cached` has a byte for its one page.
    let reported = unsafe {
        let null = std::ptr::null_mut();
        let page = libc::mmap(null, PAGE, libc::PROT_READ, libc::MAP_SHARED, file.as_raw_fd(), offset as i64);
        if page == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let reported = if libc::mincore(page, PAGE, &raw mut cached) == 0 {
            Ok(())
        } else {
            Err(io::Error::last_os_error())
        };
        libc::munmap(page, PAGE);
        reported
    };
    reported.map(|()| cached & 1 == 1)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// Where files have blocks, which those of a tmpfs may have not before they are written out.
    fn dir() -> tempfile::TempDir {
        tempfile::tempdir_in(std::env::current_exe().unwrap().parent().unwrap()).unwrap()
    }

    fn write(path: &Path, bytes: usize) {
        let mut file = File::create(path).unwrap();
        io::Write::write_all(&mut file, &vec![0x5a; bytes]).unwrap();
        file.sync_all().unwrap();
    }

    #[test]
    fn blocks_are_counted_once_and_holes_and_links_elsewhere_are_not() {
        let dir = dir();
        let of = |name: &str| allocated(&[dir.path().join(name)]);
        fs::create_dir(dir.path().join("tree")).unwrap();
        let empty = of("tree").unwrap();
        write(&dir.path().join("tree/file"), 1 << 20);
        let one = of("tree").unwrap() - empty;
        assert!((1 << 20..(1 << 20) + 65536).contains(&one), "{one}");
        fs::hard_link(dir.path().join("tree/file"), dir.path().join("tree/again")).unwrap();
        File::create(dir.path().join("tree/hole")).unwrap().set_len(1 << 30).unwrap();
        write(&dir.path().join("outside"), 1 << 20);
        symlink("../outside", dir.path().join("tree/link")).unwrap();
        assert!(of("tree").unwrap() - empty < one + 65536);
        let both = allocated(&[dir.path().join("tree"), dir.path().join("outside")]).unwrap();
        assert!(both >= of("tree").unwrap() + (1 << 20));
        let error = of("nothing").unwrap_err().to_string();
        assert!(error.contains("nothing: No such file"), "{error}");
    }

    #[test]
    fn a_page_is_forgotten_and_read_again_and_its_file_is_not_looked_for_outside() {
        let dir = dir();
        write(&dir.path().join("file"), 3 * PAGE);
        let spot = Files::Tree(dir.path().into()).spot("/file").unwrap();
        assert!(spot.read().unwrap());
        assert!(spot.forget().unwrap(), "a clean page that nobody has mapped can go");
        assert!(spot.read().unwrap());
        fs::create_dir(dir.path().join("root")).unwrap();
        symlink("../file", dir.path().join("root/file")).unwrap();
        assert!(Files::Tree(dir.path().join("root")).spot("/file").unwrap().read().is_err());
    }

    #[test]
    fn a_file_is_found_within_a_disk_of_ext4() {
        let dir = dir();
        let (tree, disk) = (dir.path().join("tree"), dir.path().join("disk.raw"));
        fs::create_dir(&tree).unwrap();
        fs::write(tree.join("known"), "a known line\n").unwrap();
        let made = Command::new("mke2fs")
            .env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin")
            .args(["-q", "-F", "-t", "ext4", "-b", "4096", "-d"])
            .args([&tree, &disk])
            .arg("8192k")
            .stdout(Stdio::null())
            .status();
        assert!(made.unwrap().success());
        let spot = Files::Ext4(disk.clone()).spot("/known").unwrap();
        let mut content = [0; 13];
        File::open(&disk).unwrap().read_exact_at(&mut content, spot.offset).unwrap();
        assert_eq!(&content, b"a known line\n");
        let error = Files::Ext4(dir.path().join("none.raw")).spot("/known").unwrap_err().to_string();
        assert!(error.contains("none.raw: debugfs can't say where /known lies"), "{error}");
    }
}
