//! Checks whether the default image is in the cache or can be built.

use std::{path::Path, time::Duration};

use super::Check;
use crate::{
    image::{self, Cache, Reach},
    scenario::{self, Kind},
};

/// The state of the default image.
pub struct Found {
    pub checks: Vec<Check>,
    /// Its root file system, or its fallback's, is in the cache.
    pub cached: bool,
}

/// Asks for the default image's suite and its fallback.
pub async fn check(cache: Option<&Cache>, patience: Duration) -> Found {
    let spec = scenario::Image::default();
    let reached = match image::reach(&spec, Path::new("."), cache, patience).await {
        Ok(reached) => reached,
        Err(error) => {
            let check = Check::not_checked("image.mirror", MIRROR, error.to_string());
            return Found { checks: vec![check], cached: false };
        }
    };
    let cached = reached.iter().any(|reach| reach.cached);
    Found { checks: vec![programs(cached), mirror(&reached), cloud(image::missing_for_cloud())], cached }
}

fn programs(cached: bool) -> Check {
    let (id, title) = ("image.programs", "programs that make images");
    let missing = image::missing_programs();
    if missing.is_empty() {
        return Check::ok(id, title, "mmdebstrap, tar, mke2fs, qemu-img and what they need");
    }
    let found: Vec<String> = missing.iter().map(ToString::to_string).collect();
    let found = found.join("; ");
    match cached {
        true => Check::warning(id, title, format!("{found}; the default image is in the cache"))
            .fix("scripts/setup"),
        false => Check::failed(id, title, found, &Kind::ALL).fix("scripts/setup"),
    }
}

/// Programs for cloud images. No shipped scenario needs them, so their absence stops no target.
fn cloud(missing: Vec<String>) -> Check {
    let (id, title) = ("image.cloud", "stock cloud images ([image] cloud)");
    match missing.as_slice() {
        [] => Check::ok(id, title, "curl, xorriso, partx, blkid, mount and loop devices"),
        missing => Check::warning(id, title, missing.join("; "))
            .fix("scripts/setup; in a container also its loop devices"),
    }
}

const MIRROR: &str = "archive of the default image";

/// Fine if the first choice answers; a warning if only the fallback does, or only the cache has the image.
fn mirror(reached: &[Reach]) -> Check {
    let id = "image.mirror";
    let [first, rest @ ..] = reached else {
        return Check::not_checked(id, MIRROR, "the image has no archive");
    };
    let Some(error) = &first.error else { return Check::ok(id, MIRROR, format!("{} answers", first.name)) };
    let found = format!("{} can't be reached: {}", first.name, error.why);
    let fix = fixes(reached);
    if let Some(fallback) = rest.iter().find(|reach| reach.error.is_none()) {
        let found = format!("{found}; its fallback {} answers and replaces it", fallback.name);
        return Check::warning(id, MIRROR, found).fix(fix);
    }
    let others = rest.iter().filter_map(|reach| {
        let error = reach.error.as_ref()?;
        Some(format!("; nor can its fallback {}: {}", reach.name, error.why))
    });
    let found = others.fold(found, |found, other| found + &other);
    match reached.iter().find(|reach| reach.cached) {
        Some(cached) => {
            let found = format!("{found}; {} is in the cache, other images can't be built", cached.name);
            Check::warning(id, MIRROR, found).fix(fix)
        }
        None => Check::failed(id, MIRROR, found, &Kind::ALL).fix(fix),
    }
}

/// Fixes: one for missing programs, one for an archive that does not answer.
fn fixes(reached: &[Reach]) -> String {
    let any = |here| reached.iter().flat_map(|reach| &reach.error).any(|error| error.here == here);
    let here = any(true).then_some("scripts/setup, which installs the available programs and keyrings");
    let there = any(false).then_some(
        "see that the archive can be reached (http_proxy, apt's Acquire::http::Proxy), or name a mirror in the \
         scenario's [image]",
    );
    here.into_iter().chain(there).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::{super::Status, *};
    use crate::image::Unreachable;

    fn reach(name: &str, cached: bool, why: Option<&str>) -> Reach {
        let error = why.map(|why| Unreachable { why: why.into(), here: false });
        Reach { name: name.into(), cached, error }
    }

    #[test]
    fn programs_missing_for_cloud_images_are_a_warning_and_stop_no_target() {
        assert_eq!(cloud(Vec::new()).status, Status::Ok);
        let check = cloud(vec!["xorriso is not installed".into(), "there is no /dev/loop-control".into()]);
        assert_eq!((check.status, check.stops.len()), (Status::Warning, 0));
        assert_eq!(check.found, "xorriso is not installed; there is no /dev/loop-control");
    }

    #[test]
    fn no_archive_at_all_stops_everything_unless_the_image_is_there() {
        let answers = [reach("ubuntu/noble", false, None), reach("debian/bookworm", false, Some("no"))];
        assert_eq!(mirror(&answers).status, Status::Ok);
        let fallback = [reach("ubuntu/noble", false, Some("x")), reach("debian/bookworm", false, None)];
        let check = mirror(&fallback);
        assert_eq!(check.status, Status::Warning);
        assert!(
            check.found.ends_with("its fallback debian/bookworm answers and replaces it"),
            "{}",
            check.found
        );
        for (cached, status) in [(true, Status::Warning), (false, Status::Failed)] {
            let none = [reach("ubuntu/noble", false, Some("x")), reach("debian/bookworm", cached, Some("y"))];
            let check = mirror(&none);
            assert_eq!(check.status, status);
            assert!(check.found.contains("can't be reached: x; nor can its fallback debian/bookworm: y"));
            assert!(check.fix.unwrap().contains("http_proxy"));
        }
    }
}
