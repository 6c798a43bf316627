//! Checks the free space for images, containers and temporary files.

use std::path::{Path, PathBuf};

use super::Check;
use crate::{image::Cache, scenario::Kind};

/// The most that building an image takes, in bytes. Instances write far less.
const FOR_AN_IMAGE: u64 = 2 << 30;
/// The most that instances of an existing image write, in bytes.
const FOR_INSTANCES: u64 = 256 << 20;
/// For sockets and lists, in bytes.
const FOR_TEMPORARY: u64 = 64 << 20;

/// The fix for a full cache.
pub const PRUNE: &str = "bootrace image prune --all, or another directory in BOOTRACE_CACHE";

/// `have_image`: the default image is in the cache.
pub fn check(cache: &Result<Cache, String>, docker_root: Option<PathBuf>, have_image: bool) -> Vec<Check> {
    let (id, title) = ("space.cache", "space for images");
    let mut checks = vec![match cache {
        Ok(cache) => room(id, title, cache.dir(), have_image, &Kind::ALL, PRUNE),
        Err(error) => Check::failed(id, title, error, &Kind::ALL).fix("name a directory in BOOTRACE_CACHE"),
    }];
    let (id, title) = ("space.docker", "space for Docker");
    let prune = "docker system prune, or another directory: data-root in /etc/docker/daemon.json; for containerd's \
                 images root in /etc/containerd/config.toml";
    checks.push(match docker_root {
        Some(root) if root.exists() => room(id, title, &root, have_image, &[Kind::Docker], prune),
        Some(root) => Check::not_checked(id, title, format!("{} is not on this host", root.display())),
        None => Check::not_checked(
            id,
            title,
            "Docker doesn't report the place of its images; root can see containerd's",
        ),
    });
    let (id, title) = ("space.temporary", "space for temporary files");
    let temp = std::env::temp_dir();
    checks.push(match free_bytes(&temp) {
        Ok(free) if free >= FOR_TEMPORARY => Check::ok(id, title, describe(free, &temp)),
        Ok(free) => Check::failed(id, title, describe(free, &temp), &Kind::ALL)
            .fix("remove files there, or name another directory in TMPDIR"),
        Err(error) => Check::not_checked(id, title, error),
    });
    checks
}

fn room(
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

/// Free space for ordinary users: even root may lack the right to the reserved blocks, as in a container.
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
