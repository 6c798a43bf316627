//! The layers of the overlay that is a process's root file system, as the kernel reports them, whatever program mounted
//! it.

use std::{
    fs::{self, File},
    io::Read,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use super::Error;
use crate::sys::mounts::unescape;

/// The most of mountinfo that is read, in bytes.
const MOST: u64 = 4 << 20;

/// The layers' directories on this host, with links resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Overlay {
    pub upper: PathBuf,
    pub work: PathBuf,
    /// The topmost first.
    pub lower: Vec<PathBuf>,
}

/// The layers of a process's root, by its host pid.
///
/// # Errors
/// When its root is no overlay with a layer for writes, or the kernel's names of the layers are not valid here. The
/// kernel keeps the names that the mounting program used, which may have had other mounts or another working directory.
pub fn of(pid: u32) -> Result<Overlay, Error> {
    let path = PathBuf::from(format!("/proc/{pid}/mountinfo"));
    let mut mountinfo = String::new();
    let file = File::open(&path).map_err(|e| Error::io(&path, &e))?;
    file.take(MOST).read_to_string(&mut mountinfo).map_err(|e| Error::io(&path, &e))?;
    let named = parse(&mountinfo)
        .ok_or_else(|| Error::new(&path, "the process's root is no overlay with a layer for writes"))?;
    here(named, Path::new(&format!("/proc/{pid}/root")))
}

/// The fields of a mount are in proc(5), an overlay's options in the kernel's `ovl_show_options`.
pub(crate) fn parse(mountinfo: &str) -> Option<Overlay> {
    // Of several mounts at one place the last covers the others.
    let root = mountinfo.lines().rfind(|line| line.split(' ').nth(4) == Some("/"))?;
    let mut fields = root.split_once(" - ")?.1.split(' ');
    let options = (fields.next()? == "overlay").then(|| fields.nth(1)).flatten()?;
    let (mut upper, mut work, mut lower) = (None, None, Vec::new());
    for (name, value) in options.split(',').filter_map(|option| option.split_once('=')) {
        let value = unescape(value);
        match name {
            "upperdir" => upper = Some(value.into()),
            "workdir" => work = Some(value.into()),
            "lowerdir" => lower.extend(layers(&value)),
            // Linux 6.8 and later list them one by one.
            "lowerdir+" => lower.push(value.into()),
            _ => {}
        }
    }
    Some(Overlay { upper: upper?, work: work?, lower })
}

/// A colon ends a layer's name; a backslash escapes the next character.
fn layers(value: &str) -> Vec<PathBuf> {
    let (mut layers, mut chars) = (vec![String::new()], value.chars());
    while let Some(c) = chars.next() {
        match (c, layers.last_mut()) {
            (':', _) => layers.push(String::new()),
            ('\\', Some(layer)) => layer.extend(chars.next()),
            (c, Some(layer)) => layer.push(c),
            (_, None) => {}
        }
    }
    layers.into_iter().filter(|layer| !layer.is_empty()).map(PathBuf::from).collect()
}

/// Checks that the directories are the layers on this host. An overlay's root has the inode number of its upper
/// layer: a directory with another one only has the same name.
fn here(named: Overlay, root: &Path) -> Result<Overlay, Error> {
    let found = |path: PathBuf| match path.is_absolute() {
        true => fs::canonicalize(&path).map_err(|e| Error::io(&path, &e)),
        false => Err(Error::new(&path, "this layer's name is relative to where its engine mounted it")),
    };
    let inode = |path: &Path| fs::metadata(path).map(|meta| meta.ino()).map_err(|e| Error::io(path, &e));
    let upper = found(named.upper)?;
    if inode(&upper)? != inode(root)? {
        return Err(Error::new(
            &upper,
            "this is not the layer that the instance writes to: its engine has mounts of its own",
        ));
    }
    let lower = named.lower.into_iter().map(found).collect::<Result<_, _>>()?;
    Ok(Overlay { work: found(named.work)?, upper, lower })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// Of containers on real engines: Docker 29.1.3 with containerd's image store, and Docker 20.10 with its own.
    const CONTAINERD: &str = include_str!("samples/docker-29.mountinfo");
    const CLASSIC: &str = include_str!("samples/docker-20.10.mountinfo");

    #[test]
    fn the_layers_of_both_of_dockers_stores_are_read() {
        let overlay = parse(CONTAINERD).unwrap();
        let snapshot = |name: &str| {
            let snapshots = "/var/lib/containerd/io.containerd.snapshotter.v1.overlayfs/snapshots";
            Path::new(snapshots).join(name)
        };
        assert_eq!((overlay.upper, overlay.work), (snapshot("16/fs"), snapshot("16/work")));
        assert_eq!(overlay.lower, [snapshot("15/fs"), snapshot("4/fs")]);
        let overlay = parse(CLASSIC).unwrap();
        assert!(overlay.upper.starts_with("/var/lib/docker/overlay2") && overlay.upper.ends_with("diff"));
        assert_eq!(overlay.lower[1], Path::new("/var/lib/docker/overlay2/l/DD324APZXGOGOBEYTJQFFPONOR"));
    }

    #[test]
    fn names_with_signs_that_mean_something_and_layers_given_one_by_one_are_read() {
        let with = |options: &str| parse(&format!("1 0 0:40 / / rw - overlay overlay rw,{options}\n"));
        let odd = with(r"lowerdir=/a\134:b:/c\040d,upperdir=/u\054v,workdir=/w").unwrap();
        assert_eq!(odd.lower, [Path::new("/a:b"), Path::new("/c d")]);
        assert_eq!(odd.upper, Path::new("/u,v"));
        let single = with("lowerdir+=/a:b,lowerdir+=/c,upperdir=/u,workdir=/w,index=off").unwrap();
        assert_eq!(single.lower, [Path::new("/a:b"), Path::new("/c")]);
        assert_eq!(with("lowerdir=/a:/b"), None, "without a layer for writes");
        assert_eq!(parse("1 0 0:40 / /etc rw - overlay overlay rw,upperdir=/u,workdir=/w\n"), None);
        assert_eq!(parse("1 0 0:40 / / rw - ext4 /dev/vda rw,upperdir=/u,workdir=/w\n"), None);
        assert_eq!(parse("1 0 0:40 / / rw - overlay\nnonsense\n"), None);
    }

    #[test]
    fn only_the_directory_that_the_kernel_means_is_taken_for_it() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["upper", "work", "lower", "other"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        symlink("lower", dir.path().join("link")).unwrap();
        let named = |upper: &str, lower: PathBuf| Overlay {
            upper: dir.path().join(upper),
            work: dir.path().join("work"),
            lower: vec![lower],
        };
        // A directory has its own inode number, as an overlay's root has its upper layer's.
        let root = dir.path().join("upper");
        let found = here(named("upper", dir.path().join("link")), &root).unwrap();
        assert_eq!(found.lower, [fs::canonicalize(dir.path()).unwrap().join("lower")]);
        let error = |named| here(named, &root).unwrap_err().to_string();
        assert!(error(named("other", dir.path().join("link"))).contains("other: this is not the layer"));
        assert!(error(named("upper", "1/fs".into())).contains("1/fs: this layer's name is relative"));
        assert!(error(named("none", dir.path().join("link"))).contains("none: No such file"));
    }
}
