//! Where the Engine keeps a container's layers on this host, by what its storage driver says.

use std::path::PathBuf;

use bollard::models::DriverData;
use bootrace_agent::protocol::IMAGE_DIGEST_PATH;

use crate::probe::disk::{Files, Place};

/// What the driver calls itself, and the directories of the one whose are known. They are left out where they are not
/// on this host: an Engine may be elsewhere.
pub(super) fn place(driver: &DriverData) -> Place {
    // An Engine's own name for it: short, and shown.
    let storage: String = driver.name.chars().take(40).collect();
    let nothing = Place { storage, ..Place::default() };
    // The first is Docker's, the second podman's.
    if !["overlay2", "overlay"].contains(&driver.name.as_str()) {
        return nothing;
    }
    let given = |key: &str| driver.data.get(key).map_or("", String::as_str);
    let lower: Vec<PathBuf> =
        given("LowerDir").split(':').filter(|dir| !dir.is_empty()).map(PathBuf::from).collect();
    // The Engine makes one layer for each container, with its mount points and /etc/hosts, below the one for writes.
    let (init, image): (Vec<_>, Vec<_>) =
        lower.into_iter().partition(|dir| dir.ends_with("diff") && is_init(dir));
    let own = ["UpperDir", "WorkDir"].map(|key| PathBuf::from(given(key)));
    let instance: Vec<PathBuf> = own.into_iter().chain(init).collect();
    if image.is_empty() || !image.iter().chain(&instance).all(|dir| dir.is_absolute() && dir.is_dir()) {
        return nothing;
    }
    let files = image.iter().find(|dir| dir.join(IMAGE_DIGEST_PATH.trim_start_matches('/')).is_file());
    let files = files.cloned().map(Files::Tree);
    Place { image, instance, files, ..nothing }
}

fn is_init(dir: &std::path::Path) -> bool {
    let name = dir.parent().and_then(|layer| layer.file_name());
    name.is_some_and(|name| name.to_string_lossy().ends_with("-init"))
}

#[cfg(test)]
mod tests {
    use std::{collections::HashMap, fs, path::Path};

    use super::*;

    fn driver(name: &str, root: &Path) -> DriverData {
        let dir = |dir: &str| root.join(dir).display().to_string();
        let data = [
            ("LowerDir", format!("{}:{}", dir("1-init/diff"), dir("2/diff"))),
            ("UpperDir", dir("1/diff")),
            ("WorkDir", dir("1/work")),
            ("MergedDir", dir("1/merged")),
        ];
        let data = data.map(|(key, value)| (key.to_owned(), value));
        DriverData { name: name.into(), data: HashMap::from(data) }
    }

    #[test]
    fn the_init_layer_is_the_containers_and_the_rest_below_the_images() {
        let dir = tempfile::tempdir().unwrap();
        for layer in ["1/diff", "1/work", "1-init/diff", "2/diff/usr/lib/bootrace"] {
            fs::create_dir_all(dir.path().join(layer)).unwrap();
        }
        fs::write(dir.path().join("2/diff/usr/lib/bootrace/image-digest"), "d").unwrap();
        let place = place(&driver("overlay2", dir.path()));
        assert_eq!(place.storage, "overlay2");
        assert_eq!(place.image, [dir.path().join("2/diff")]);
        assert_eq!(place.instance, ["1/diff", "1/work", "1-init/diff"].map(|layer| dir.path().join(layer)));
        assert_eq!(place.files, Some(Files::Tree(dir.path().join("2/diff"))));
    }

    #[test]
    fn of_another_driver_or_an_engine_elsewhere_nothing_is_said_but_the_name() {
        let dir = tempfile::tempdir().unwrap();
        for driver in [
            driver("vfs", dir.path()),
            driver("overlay2", dir.path()),
            DriverData { name: "overlay2".into(), data: HashMap::new() },
        ] {
            let place = place(&driver);
            assert_eq!(place.storage, driver.name);
            assert!(place.image.is_empty() && place.instance.is_empty() && place.files.is_none());
        }
    }
}
