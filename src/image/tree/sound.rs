//! Whether every engine makes the same instance of a root file system. Checks an archive before it is unpacked, and the
//! unpacked tree before the agent is put into it.

use std::{
    fs, io,
    os::unix::fs::{FileTypeExt, MetadataExt},
    path::Path,
};

use bootrace_model::foreign::{clean, tail};
use rustix::{
    fs::{OFlags, open, seek},
    io::Errno,
};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader};

use crate::sys::rootfs::Rootfs;

/// Directories that engines mount over or put files into. Through a link each would end up somewhere else.
const REAL_DIRECTORIES: [&str; 4] = ["dev", "etc", "proc", "sys"];
/// Files by which engines mark their containers.
const MARKERS: [&str; 2] = ["/.dockerenv", "/run/.containerenv"];
/// Holes that an image may have, in bytes: container engines write them out as zeros.
const MOST_HOLES: u64 = 1 << 30;
/// The longest path that an error shows, in characters.
const SHOWN: usize = 200;
/// The longest line of a listing, in bytes: longer than any path, with each byte escaped. An archive's names may be of
/// any length.
const LONGEST_LINE: u64 = 64 << 10;

/// Fails if the files of an archive, in the verbose listing of GNU tar, take more than `free` bytes.
pub(super) async fn fits(listing: impl AsyncRead + Unpin, free: u64) -> io::Result<Result<(), String>> {
    let mut lines = BufReader::new(listing);
    let (mut total, mut largest, mut line) = (0u64, (0u64, String::new()), Vec::new());
    let mut too_long = false;
    while (&mut lines).take(LONGEST_LINE).read_until(b'\n', &mut line).await? > 0 {
        // Reads on to the end: tar must not fail.
        too_long |= !line.ends_with(b"\n");
        if let Some((bytes, name)) = member(&String::from_utf8_lossy(&line)) {
            total = total.saturating_add(bytes);
            if bytes > largest.0 {
                largest = (bytes, clean(name, SHOWN));
            }
        }
        line.clear();
    }
    if too_long {
        return Ok(Err("a name in it is longer than a path can be; fix: leave that file out".into()));
    }
    let (bytes, name) = largest;
    Ok(match total > free {
        true => Err(format!(
            "its files take {total} bytes, {bytes} of them {name}, and only {free} bytes are free in the cache; \
             fix: leave that file out of the archive, or name a directory with more space in BOOTRACE_CACHE"
        )),
        false => Ok(()),
    })
}

/// Size and name of a member in a line such as `-rw-r--r-- 0/0 12 2026-01-31 10:00 ./etc/hosts`. Of whatever type: tar
/// unpacks those that it does not know (`?`) as regular files too. A device has no size.
pub(crate) fn member(line: &str) -> Option<(u64, &str)> {
    let mut rest = line;
    let mut field = || {
        let (field, after) = rest.trim_start().split_once(' ')?;
        rest = after;
        Some(field)
    };
    let (_mode, _owner, bytes, _date, _time) = (field()?, field()?, field()?, field()?, field()?);
    Some((bytes.parse().ok()?, rest.trim_end()))
}

/// Removes from the tree what every engine provides itself, and refuses what engines treat differently, with the fix.
///
/// # Errors
/// When the tree can't be read, or a file can't be removed.
pub(super) fn check(root: &Path) -> io::Result<Result<(), String>> {
    if let Some(why) = another_form(root)? {
        return Ok(Err(why));
    }
    for name in REAL_DIRECTORIES {
        match fs::symlink_metadata(root.join(name)) {
            Ok(meta) if meta.is_symlink() => {
                let target = fs::read_link(root.join(name))?;
                return Ok(Err(format!(
                    "/{name} is a symbolic link to {}, and each engine would put its files somewhere else; fix: make \
                     it a directory",
                    clean(&target.to_string_lossy(), SHOWN)
                )));
            }
            Ok(meta) if !meta.is_dir() => {
                return Ok(Err(format!("/{name} is no directory; fix: make it one")));
            }
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
    }
    let tree = Rootfs::open(root)?;
    MARKERS.into_iter().try_for_each(|marker| tree.remove(marker))?;
    empty(&root.join("dev"))?;
    walk(root)
}

/// What an archive is that has an image in another form, with the fix.
fn another_form(root: &Path) -> io::Result<Option<String>> {
    let has = |dir: &Path, name: &&str| dir.join(name).symlink_metadata().is_ok();
    if ["bin", "etc", "usr"].iter().any(|name| has(root, name)) {
        return Ok(None);
    }
    if ["manifest.json", "oci-layout"].iter().any(|name| has(root, name)) {
        return Ok(Some(
            "it is an image with its layers, from docker save or in the OCI layout, and no root file system; fix: \
             docker load it (an OCI layout: with Docker 25 or newer) and name the image in registry, which takes it \
             from the engine"
                .into(),
        ));
    }
    for entry in fs::read_dir(root)? {
        let entry = entry?;
        // A directory of a program alone may have a bin or an etc as well.
        if entry.file_type()?.is_dir() && ["etc", "usr"].iter().all(|name| has(&entry.path(), name)) {
            let name = clean(&entry.file_name().to_string_lossy(), SHOWN);
            return Ok(Some(format!(
                "its root is one directory too deep, in {name:?}; fix: pack it inside that directory, by tar -C"
            )));
        }
    }
    Ok(None)
}

/// Removes all that is in a directory, if there is one.
fn empty(dir: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        match entry.file_type()?.is_dir() {
            true => fs::remove_dir_all(entry.path())?,
            false => fs::remove_file(entry.path())?,
        }
    }
    Ok(())
}

/// Looks at every file without following links.
fn walk(root: &Path) -> io::Result<Result<(), String>> {
    let mut dirs = vec![root.to_path_buf()];
    let mut holes = 0u64;
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(&dir)? {
            let entry = entry?;
            let (path, meta) = (entry.path(), entry.metadata()?);
            let shown = || {
                let inside = path.strip_prefix(root).unwrap_or(&path).to_string_lossy();
                format!("/{}", tail(&inside, SHOWN))
            };
            // The form of a deletion in a layer of an image, and in an overlay.
            if entry.file_name().as_encoded_bytes().starts_with(b".wh.") {
                return Ok(Err(format!(
                    "container engines take {} for the deletion of another file, since its name begins with .wh.; \
                     fix: rename or remove it",
                    shown()
                )));
            }
            if meta.file_type().is_char_device() && meta.rdev() == 0 {
                return Ok(Err(format!(
                    "overlays take {}, a character device 0:0, for the deletion of a file; fix: remove it",
                    shown()
                )));
            }
            if meta.is_dir() {
                dirs.push(path);
            } else if meta.is_file() && meta.len() > meta.blocks() * 512 {
                let bytes = holes_of(&path)?;
                holes = holes.saturating_add(bytes);
                if holes > MOST_HOLES {
                    return Ok(Err(format!(
                        "its files have {holes} bytes of holes, {bytes} of them in {}, and container engines write \
                         them out as zeros; fix: remove or shorten that file",
                        shown()
                    )));
                }
            }
        }
    }
    Ok(Ok(()))
}

/// The holes of a file in bytes, by lseek(2). A file whose blocks are only compressed has none.
fn holes_of(path: &Path) -> io::Result<u64> {
    let file = open(path, OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC, rustix::fs::Mode::empty())?;
    let (mut holes, mut at) = (0, 0);
    loop {
        // The end of a file counts as a hole of no length.
        let hole = match seek(&file, rustix::fs::SeekFrom::Hole(at)) {
            Ok(hole) => hole,
            Err(Errno::NXIO) => return Ok(holes),
            Err(e) => return Err(e.into()),
        };
        at = match seek(&file, rustix::fs::SeekFrom::Data(hole)) {
            Ok(data) => data,
            Err(Errno::NXIO) => seek(&file, rustix::fs::SeekFrom::End(0))?,
            Err(e) => return Err(e.into()),
        };
        holes += at - hole;
        if at == hole {
            return Ok(holes);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{fs::File, os::unix::fs::symlink};

    use super::*;

    fn tree() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for name in ["dev", "etc", "proc", "sys", "var/log"] {
            fs::create_dir_all(dir.path().join(name)).unwrap();
        }
        dir
    }

    fn refusal(root: &Path) -> String {
        check(root).unwrap().unwrap_err()
    }

    #[test]
    fn links_at_the_engines_own_directories_are_refused_by_name() {
        for name in REAL_DIRECTORIES {
            let tree = tree();
            fs::remove_dir(tree.path().join(name)).unwrap();
            symlink("/elsewhere\u{1b}[2J", tree.path().join(name)).unwrap();
            let refusal = refusal(tree.path());
            assert!(refusal.starts_with(&format!("/{name} is a symbolic link to /elsewhere")), "{refusal}");
            assert!(refusal.contains("fix: ") && !refusal.contains('\u{1b}'), "{refusal}");
        }
        let tree = tree();
        fs::remove_dir(tree.path().join("etc")).unwrap();
        fs::write(tree.path().join("etc"), "").unwrap();
        assert!(refusal(tree.path()).starts_with("/etc is no directory"));
    }

    #[test]
    fn archives_of_another_form_are_named_with_the_fix() {
        let refusal_of = |files: &[&str]| {
            let dir = tempfile::tempdir().unwrap();
            for file in files {
                let path = dir.path().join(file);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, "").unwrap();
            }
            check(dir.path()).unwrap().err().unwrap_or_default()
        };
        for saved in [["manifest.json", "0123/layer.tar"], ["oci-layout", "blobs/sha256/0123"]] {
            assert!(refusal_of(&saved).contains("from docker save"), "{saved:?}");
        }
        // Alone, in a bundle of runc's, and in an image of LXD's.
        for beside in ["rootfs/bin/sh", "config.json", "metadata.yaml"] {
            let nested = refusal_of(&["rootfs/etc/os-release", "rootfs/usr/bin/sh", beside]);
            assert!(
                nested.starts_with("its root is one directory too deep, in \"rootfs\"; fix: "),
                "{nested}"
            );
        }
        // An image of one static program has no more than that.
        assert_eq!(refusal_of(&["srv/program"]), "");
        assert_eq!(refusal_of(&["opt/bin/program", "opt/etc/settings"]), "");
        assert_eq!(refusal_of(&["etc/x", "manifest.json"]), "");
    }

    #[test]
    fn files_that_look_like_deletions_are_refused_by_name() {
        let tree = tree();
        fs::write(tree.path().join("etc/.wh.passwd"), "").unwrap();
        assert!(refusal(tree.path()).contains("take /etc/.wh.passwd for the deletion"));
        fs::remove_file(tree.path().join("etc/.wh.passwd")).unwrap();
        fs::write(tree.path().join("etc/a.wh.b"), "").unwrap();
        assert_eq!(check(tree.path()).unwrap(), Ok(()));
    }

    #[test]
    fn devices_and_markers_of_engines_are_removed_whatever_the_archive_called_them() {
        let tree = tree();
        fs::create_dir_all(tree.path().join("dev/sub/deep")).unwrap();
        fs::create_dir_all(tree.path().join("var/run")).unwrap();
        symlink("/var/run", tree.path().join("run")).unwrap();
        for name in ["dev/sda", "dev/sub/deep/x", ".dockerenv", "var/run/.containerenv", "etc/dev"] {
            fs::write(tree.path().join(name), "").unwrap();
        }
        // A link leads nowhere but into the tree.
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("kept"), "").unwrap();
        symlink(outside.path(), tree.path().join("dev/out")).unwrap();
        assert_eq!(check(tree.path()).unwrap(), Ok(()));
        assert_eq!(fs::read_dir(tree.path().join("dev")).unwrap().count(), 0);
        assert!(
            !tree.path().join(".dockerenv").exists() && !tree.path().join("var/run/.containerenv").exists()
        );
        assert!(tree.path().join("etc/dev").exists() && outside.path().join("kept").exists());
    }

    #[test]
    fn holes_are_refused_by_size_and_name_but_not_small_ones() {
        let tree = tree();
        let long = |name: &str, bytes| File::create(tree.path().join(name)).unwrap().set_len(bytes).unwrap();
        long("var/log/faillog", 64 << 20);
        assert_eq!(check(tree.path()).unwrap(), Ok(()));
        long("var/log/lastlog", 60 << 30);
        let refusal = refusal(tree.path());
        assert!(refusal.contains(&format!("{} of them in /var/log/lastlog", 60u64 << 30)), "{refusal}");
    }

    #[tokio::test]
    async fn an_archive_that_is_larger_than_the_free_space_is_refused_by_its_largest_file() {
        let listing = "drwxr-xr-x 0/0               0 2026-01-31 10:00 ./\n\
                       -rw-r--r-- 0/0             100 2026-01-31 10:00 ./etc/a file\n\
                       -rw-r--r-- 0/0     64424509440 2026-01-31 10:00 ./var/log/last log\\n\n\
                       hrw-r--r-- 0/0               0 2026-01-31 10:00 ./b link to ./a\n\
                       crw-r--r-- 0/0             1,3 2026-01-31 10:00 ./null\n";
        assert_eq!(fits(listing.as_bytes(), 64_424_509_540).await.unwrap(), Ok(()));
        let refusal = fits(listing.as_bytes(), 64_424_509_539).await.unwrap().unwrap_err();
        let largest = "its files take 64424509540 bytes, 64424509440 of them ./var/log/last log\\n, and only";
        assert!(refusal.starts_with(largest), "{refusal}");
        for kind in ["C", "?"] {
            let file = format!("{kind}rw-r--r-- 0/0 10 2026-01-31 10:00 ./x unknown file type\n");
            assert!(fits(file.as_bytes(), 9).await.unwrap().is_err(), "tar unpacks it as a regular file");
        }
        let endless = [b'x'; LONGEST_LINE as usize + 1];
        assert!(fits(&endless[..], u64::MAX).await.unwrap().unwrap_err().contains("longer than a path"));
        let huge = format!("-rw-r--r-- 0/0 {} 2026-01-31 10:00 ./x\n", u64::MAX);
        assert!(fits(huge.repeat(2).as_bytes(), u64::MAX - 1).await.unwrap().is_err());
    }
}
