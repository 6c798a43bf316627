//! Mount points.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// The mount points below a directory in this thread's namespace, the innermost first.
///
/// # Errors
/// When `/proc/thread-self/mountinfo` can't be read.
pub fn below(dir: &Path) -> io::Result<Vec<PathBuf>> {
    Ok(parse(&fs::read_to_string("/proc/thread-self/mountinfo")?, dir))
}

/// Whether the kernel has this file system now.
pub fn has_file_system(name: &str) -> bool {
    let known = fs::read_to_string("/proc/filesystems").unwrap_or_default();
    known.lines().any(|line| line.split('\t').nth(1) == Some(name))
}

/// The fifth field is the mount point, as in proc(5); later mounts may be within earlier ones.
pub(crate) fn parse(mountinfo: &str, dir: &Path) -> Vec<PathBuf> {
    let points = mountinfo.lines().filter_map(|line| line.split(' ').nth(4)).map(unescape);
    let mut below: Vec<PathBuf> =
        points.map(PathBuf::from).filter(|point| point != dir && point.starts_with(dir)).collect();
    below.reverse();
    below
}

/// mountinfo writes space, tab, newline and backslash as a backslash and three octal digits.
pub fn unescape(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let octal = (*first == b'\\')
            .then(|| tail.get(..3).and_then(|digits| std::str::from_utf8(digits).ok()))
            .flatten()
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        out.push(octal.unwrap_or(*first));
        rest = if octal.is_some() { &tail[3..] } else { tail };
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_lists_its_file_systems() {
        assert!(has_file_system("proc") && !has_file_system("nodev") && !has_file_system("pro"));
    }

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
