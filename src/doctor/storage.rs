//! Room for images, containers and temporary files.

use std::path::Path;

use super::Check;
use crate::{image::Cache, kind::Kind};

/// Most that making an image takes, in bytes; instances write little beside it.
const FOR_AN_IMAGE: u64 = 2 << 30;
/// Most that instances of an existing image write, in bytes.
const FOR_INSTANCES: u64 = 256 << 20;
/// For sockets and lists, in bytes.
const FOR_TEMPORARY: u64 = 64 << 20;

/// The fix for a full cache.
pub const PRUNE: &str = "bootrace image prune --all, or another directory in BOOTRACE_CACHE";

/// Whether the cache of images has room. `have_image`: it has the default image.
pub fn cache(cache: &Result<Cache, String>, have_image: bool) -> Check {
    let (id, title) = ("space.cache", "space for images");
    match cache {
        Ok(cache) => room(id, title, cache.dir(), have_image, &Kind::ALL, PRUNE),
        Err(error) => Check::failed(id, title, error, &Kind::ALL).fix("name a directory in BOOTRACE_CACHE"),
    }
}

/// Whether the directory of temporary files has room.
pub fn temporary() -> Check {
    let (id, title) = ("space.temporary", "space for temporary files");
    let temp = std::env::temp_dir();
    match free_bytes(&temp) {
        Ok(free) if free >= FOR_TEMPORARY => Check::ok(id, title, describe(free, &temp)),
        Ok(free) => Check::failed(id, title, describe(free, &temp), &Kind::ALL)
            .fix("remove files there, or name another directory in TMPDIR"),
        Err(error) => Check::not_checked(id, title, error),
    }
}

/// Whether a directory has room for an image, or for instances if the image is there.
pub fn room(
    id: &'static str,
    title: &'static str,
    dir: &Path,
    have_image: bool,
    stops: &[Kind],
    fix: &str,
) -> Check {
    match free_bytes(dir) {
        Ok(free) => judge(id, title, &describe(free, dir), free, have_image, stops, fix),
        Err(error) => Check::not_checked(id, title, error),
    }
}

fn judge(
    id: &'static str,
    title: &'static str,
    found: &str,
    free: u64,
    have_image: bool,
    stops: &[Kind],
    fix: &str,
) -> Check {
    if free >= FOR_AN_IMAGE {
        return Check::ok(id, title, found);
    }
    let found = format!("{found}; building an image takes about {}", size(FOR_AN_IMAGE));
    match have_image && free >= FOR_INSTANCES {
        true => Check::warning(id, title, found).fix(fix),
        false => Check::failed(id, title, found, stops).fix(fix),
    }
}

fn describe(free: u64, dir: &Path) -> String {
    format!("{} free in {}", size(free), dir.display())
}

fn size(bytes: u64) -> String {
    match bytes >> 30 {
        0 => format!("{} MiB", bytes >> 20),
        gib => format!("{gib} GiB"),
    }
}

/// Free bytes for any user: root's reserve is not there for root everywhere, as in a container without that capability.
fn free_bytes(dir: &Path) -> Result<u64, String> {
    let stat =
        rustix::fs::statvfs(dir).map_err(|e| format!("reading the free space of {}: {e}", dir.display()))?;
    Ok(stat.f_bavail * stat.f_frsize)
}

#[cfg(test)]
mod tests {
    use super::{super::Status, *};

    #[test]
    fn room_that_is_short_stops_runs_only_where_the_image_is_yet_to_be_made() {
        let judge = |free, have_image| judge("", "", "", free, have_image, &[Kind::Docker], "").status;
        assert_eq!(judge(3 << 30, false), Status::Ok);
        assert_eq!(judge(1 << 30, false), Status::Failed);
        assert_eq!(judge(1 << 30, true), Status::Warning);
        assert_eq!(judge(10 << 20, true), Status::Failed);
    }

    #[test]
    fn sizes_are_in_units_that_people_read() {
        assert_eq!((size(5 << 30).as_str(), size(12 << 20).as_str()), ("5 GiB", "12 MiB"));
        assert!(free_bytes(Path::new("/no/such")).unwrap_err().contains("/no/such"));
    }
}
