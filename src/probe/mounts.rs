//! Mount points.

use std::path::{Path, PathBuf};

use super::{Error, cgroup::unescape, read};

/// The mount points below a directory in this thread's namespace, the innermost first.
///
/// # Errors
/// When `/proc/thread-self/mountinfo` can't be read.
pub fn below(dir: &Path) -> Result<Vec<PathBuf>, Error> {
    Ok(parse(&read(Path::new("/proc/thread-self/mountinfo"))?, dir))
}

/// The fifth field is the mount point, as in proc(5); later mounts may be within earlier ones.
fn parse(mountinfo: &str, dir: &Path) -> Vec<PathBuf> {
    let points = mountinfo.lines().filter_map(|line| line.split(' ').nth(4)).map(unescape);
    let mut below: Vec<PathBuf> =
        points.map(PathBuf::from).filter(|point| point != dir && point.starts_with(dir)).collect();
    below.reverse();
    below
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_below_a_directory_come_innermost_first_and_no_neighbours() {
        let mountinfo = "31 23 0:28 / /a rw,relatime - tmpfs tmpfs rw\n\
                         32 31 0:29 / /a/b\\040c/root rw - overlay overlay rw,lowerdir=/x\n\
                         33 32 0:30 / /a/b\\040c/root/proc rw - proc proc rw\n\
                         34 23 0:31 / /ab rw - tmpfs tmpfs rw\nnonsense\n";
        let found = parse(mountinfo, Path::new("/a"));
        assert_eq!(found, [Path::new("/a/b c/root/proc"), Path::new("/a/b c/root")]);
        assert_eq!(parse(mountinfo, Path::new("/b")), Vec::<PathBuf>::new());
    }
}
