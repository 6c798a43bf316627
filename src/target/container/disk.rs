//! Finds the files of an engine's images and containers on this host.

use std::{
    fs::File,
    io::Read,
    path::{Path, PathBuf},
};

use bollard::models::{ContainerInspectResponse, SystemInfo};
use bootrace_agent::protocol::IMAGE_DIGEST_PATH;
use serde::Deserialize;

use crate::{
    image::{SNAPSHOTTER, has_containerd_store},
    probe::{
        disk::{Files, Place},
        overlay::{self, Overlay},
        process,
    },
};

/// The longest manifest that is read, in bytes.
const LONGEST: u64 = 1 << 20;

/// How an engine stores images and containers, as it reports it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Store {
    /// Name of its storage driver or snapshotter: `overlay2`, `overlayfs`, `overlay`.
    pub name: String,
    /// containerd stores the images, by default since Docker 29: each is stored unpacked, and as the blobs that it was
    /// unpacked from.
    pub containerd: bool,
}

impl Store {
    pub fn of(info: &SystemInfo) -> Self {
        // Foreign text that is shown: cut to a short length.
        let name = info.driver.as_deref().unwrap_or("unknown").chars().take(40).collect();
        Store { name, containerd: has_containerd_store(info) }
    }

    /// Where a running container's disk is. Unknown places are left out: the engine may use another driver.
    pub fn place(&self, container: &ContainerInspectResponse) -> Place {
        let nothing = Place { storage: self.name.clone(), ..Place::default() };
        let overlay = seen(container).or_else(|error| {
            tracing::debug!(
                "{error}: the container's layers are taken from its engine's word, if it gives that"
            );
            reported(container).ok_or(())
        });
        match overlay {
            Ok(overlay) => self.place_of(overlay, manifest(container), nothing),
            Err(()) => nothing,
        }
    }

    /// bootrace's images have one layer. For each container Docker adds one with its mount points and /etc/hosts, and
    /// above it the one for writes.
    fn place_of(&self, overlay: Overlay, manifest: Option<&str>, nothing: Place) -> Place {
        let Overlay { upper, work, mut lower } = overlay;
        let Some(layer) = lower.pop() else { return nothing };
        let blobs = match self.containerd {
            true => manifest.and_then(|digest| blobs(&layer, digest)),
            false => Some(Vec::new()),
        };
        let files = layer.join(IMAGE_DIGEST_PATH.trim_start_matches('/')).is_file();
        Place {
            // The size of half an image would mislead.
            image: blobs.map(|blobs| [vec![layer.clone()], blobs].concat()).unwrap_or_default(),
            instance: [upper, work].into_iter().chain(lower).collect(),
            files: files.then_some(Files::Tree(layer)),
            ..nothing
        }
    }
}

/// The layers of a container's first process, if it runs on this host: its cgroup has the container's name.
fn seen(container: &ContainerInspectResponse) -> Result<Overlay, String> {
    let pid = container.state.as_ref().and_then(|state| state.pid).and_then(|pid| u32::try_from(pid).ok());
    let (pid, id) = pid.zip(container.id.as_deref()).ok_or("the container has no process")?;
    if id.is_empty() || !process::cgroups(pid).map_err(|e| e.to_string())?.contains(id) {
        return Err(format!("process {pid} of this host is another one"));
    }
    overlay::of(pid).map_err(|e| e.to_string())
}

/// The layers that the engine reports, for containers whose processes have another root, as under gVisor. Only Docker's
/// own image store reports them.
pub(crate) fn reported(container: &ContainerInspectResponse) -> Option<Overlay> {
    let data = &container.graph_driver.as_ref()?.data;
    let dir = |path: &str| {
        let path = PathBuf::from(path);
        (path.is_absolute() && path.is_dir()).then_some(path)
    };
    let lower = data.get("LowerDir")?.split(':').map(dir).collect::<Option<_>>()?;
    Some(Overlay { upper: dir(data.get("UpperDir")?)?, work: dir(data.get("WorkDir")?)?, lower })
}

/// The digest of a container's image manifest, if containerd stores the images.
pub(crate) fn manifest(container: &ContainerInspectResponse) -> Option<&str> {
    let manifest = container.image_manifest_descriptor.as_ref().and_then(|of| of.digest.as_deref());
    manifest.or(container.image.as_deref())
}

#[derive(Deserialize)]
pub(crate) struct Manifest {
    config: Blob,
    layers: Vec<Blob>,
}

#[derive(Deserialize)]
struct Blob {
    digest: String,
}

/// An image's blobs, its manifest first. They are beside the snapshots in containerd's directory, each named by its
/// digest.
fn blobs(snapshot: &Path, manifest: &str) -> Option<Vec<PathBuf>> {
    let is_root =
        |dir: &&Path| dir.file_name().is_some_and(|name| name.to_string_lossy().starts_with(SNAPSHOTTER));
    let root = snapshot.ancestors().find(is_root)?.parent()?;
    let blob = |digest: &str| {
        let hex = digest.strip_prefix("sha256:")?;
        let named = hex.len() == 64 && hex.bytes().all(|c| c.is_ascii_hexdigit());
        let path = root.join("io.containerd.content.v1.content/blobs/sha256").join(hex);
        (named && path.is_file()).then_some(path)
    };
    let path = blob(manifest)?;
    let mut text = Vec::new();
    File::open(&path).ok()?.take(LONGEST).read_to_end(&mut text).ok()?;
    let Manifest { config, layers } = serde_json::from_slice(&text).ok()?;
    let named = [config].into_iter().chain(layers).map(|it| blob(&it.digest));
    [Some(path)].into_iter().chain(named).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use bollard::models::{ContainerState, DriverData};

    use super::*;

    const DOCKER_29: &str = include_str!("samples/29/info.json");
    const DOCKER_20_10: &str = include_str!("samples/20.10/info.json");

    fn store(info: &str) -> Store {
        Store::of(&serde_json::from_str(info).unwrap())
    }

    /// A directory with these layers, and the overlay of them.
    fn overlay(upper: &str, lower: &[&str]) -> (tempfile::TempDir, Overlay) {
        let dir = tempfile::tempdir().unwrap();
        let make = |name: &str| {
            let path = dir.path().join(name);
            fs::create_dir_all(&path).unwrap();
            path
        };
        let lower: Vec<PathBuf> = lower.iter().map(|name| make(name)).collect();
        let digest = lower.last().unwrap().join(IMAGE_DIGEST_PATH.trim_start_matches('/'));
        fs::create_dir_all(digest.parent().unwrap()).unwrap();
        fs::write(digest, "d").unwrap();
        let overlay = Overlay { upper: make(upper), work: make("work"), lower };
        (dir, overlay)
    }

    #[test]
    fn an_engines_driver_tells_the_store_of_its_images() {
        assert_eq!(store(DOCKER_29), Store { name: "overlayfs".into(), containerd: true });
        assert_eq!(store(DOCKER_20_10), Store { name: "overlay2".into(), containerd: false });
        let long = SystemInfo { driver: Some("x".repeat(1000)), ..SystemInfo::default() };
        assert_eq!(Store::of(&long).name.len(), 40);
    }

    #[test]
    fn docker_29_says_which_manifest_a_container_is_of_and_nothing_of_its_layers() {
        let container: ContainerInspectResponse =
            serde_json::from_str(include_str!("samples/29/container.json")).unwrap();
        assert_eq!(container.graph_driver, None);
        assert!(container.state.as_ref().unwrap().pid.unwrap() > 0);
        let manifest = manifest(&container).unwrap();
        assert!(manifest.starts_with("sha256:"));
        assert_eq!(Some(manifest), container.image.as_deref(), "the id of an image of ours");
    }

    #[test]
    fn the_lowest_layer_is_the_images_and_those_above_are_the_containers() {
        let (dir, overlay) = overlay("1/diff", &["1-init/diff", "2/diff"]);
        let place = store(DOCKER_20_10).place_of(overlay, Some("sha256:of no matter"), Place::default());
        assert_eq!(place.image, [dir.path().join("2/diff")]);
        assert_eq!(place.instance, ["1/diff", "work", "1-init/diff"].map(|layer| dir.path().join(layer)));
        assert_eq!(place.files, Some(Files::Tree(dir.path().join("2/diff"))));
    }

    #[test]
    fn an_image_of_containerds_is_its_snapshot_and_the_blobs_of_its_manifest_or_unknown() {
        let snapshots = "io.containerd.snapshotter.v1.overlayfs/snapshots";
        let [upper, init, layer] = ["14/fs", "13/fs", "4/fs"].map(|name| format!("{snapshots}/{name}"));
        let (dir, overlay) = overlay(&upper, &[&init, &layer]);
        let manifest = include_str!("samples/29/manifest.json");
        let named = |digest: char| format!("sha256:{}", String::from(digest).repeat(64));
        let content = dir.path().join("io.containerd.content.v1.content/blobs/sha256");
        fs::create_dir_all(&content).unwrap();
        fs::write(content.join("a".repeat(64)), manifest).unwrap();
        let place = |digest: &str| store(DOCKER_29).place_of(overlay.clone(), Some(digest), Place::default());
        assert_eq!(place(&named('a')).image, [] as [PathBuf; 0], "its layer's blob is not there");
        let Manifest { config, layers } = serde_json::from_str(manifest).unwrap();
        let digests = [config.digest, layers[0].digest.clone()];
        let files = digests.map(|digest| content.join(digest.trim_start_matches("sha256:")));
        files.iter().for_each(|file| fs::write(file, "content").unwrap());
        let whole = place(&named('a'));
        let expected = [vec![dir.path().join(&layer), content.join("a".repeat(64))], files.into()].concat();
        assert_eq!(whole.image, expected);
        assert_eq!(whole.instance, [&upper, "work", &init].map(|name| dir.path().join(name)));
        for odd in ["sha256:../../../etc/passwd", "", "sha256:", &named('b')] {
            let place = place(odd);
            assert!(place.image.is_empty() && place.instance.len() == 3, "{odd}: {place:?}");
        }
    }

    #[test]
    fn an_unseen_store_is_taken_from_dockers_own_directory_or_left_out() {
        let (dir, overlay) = overlay("1/diff", &["1-init/diff", "2/diff"]);
        let path = |name: &str| dir.path().join(name).display().to_string();
        let data = [
            ("LowerDir", format!("{}:{}", path("1-init/diff"), path("2/diff"))),
            ("UpperDir", path("1/diff")),
            ("WorkDir", path("work")),
        ];
        let data = data.map(|(key, value)| (key.to_owned(), value));
        // The process is there and in none of the container's cgroups.
        let state = ContainerState { pid: Some(std::process::id().into()), ..ContainerState::default() };
        let mut container = ContainerInspectResponse {
            id: Some("55bd75a3542f".repeat(5)),
            state: Some(state),
            graph_driver: Some(DriverData { name: "overlay2".into(), data: data.into() }),
            ..ContainerInspectResponse::default()
        };
        assert!(seen(&container).unwrap_err().contains("is another one"));
        let place = store(DOCKER_20_10).place(&container);
        assert_eq!(place.instance, [overlay.upper, overlay.work, overlay.lower[0].clone()]);
        assert_eq!(place.image, [overlay.lower[1].clone()]);
        drop(dir);
        for driver in [container.graph_driver.clone(), None] {
            container.graph_driver = driver;
            let place = store(DOCKER_20_10).place(&container);
            assert_eq!(place.storage, "overlay2");
            assert!(place.image.is_empty() && place.instance.is_empty() && place.files.is_none());
        }
    }
}
