//! The form for the container engines Docker and podman: an image with one layer, imported from the tree.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    time::Instant,
};

use bollard::{
    models::{ImageInspect, ImageSummary},
    query_parameters::{CreateImageOptionsBuilder, ListImagesOptionsBuilder},
};
use futures_util::TryStreamExt;
use serde::{Deserialize, Serialize};
use tokio_util::{io::ReaderStream, sync::CancellationToken};

use super::{
    cache::Cache,
    engine::{Client, ContainerEngine, has_containerd_store, is_not_found},
    error::Error,
    job::Job,
    manifest::Manifest,
    podman,
    tool::Tool,
    tree::Tree,
};

/// The label with the image's digest.
pub const LABEL: &str = "bootrace.image";
/// The label with the cache directory that a container image belongs to.
const CACHE_LABEL: &str = "bootrace.cache";

/// A container image's data in its manifest.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct About {
    pub reference: String,
}

pub(super) fn place(image: &Path, engine: ContainerEngine) -> PathBuf {
    image.join(engine.key())
}

pub(super) fn reference(digest: &str) -> String {
    format!("bootrace:{}", digest.get(..16).unwrap_or(digest))
}

/// The reference of the image if the engine has it.
pub(super) async fn find(docker: &Client, digest: &str) -> Result<Option<String>, Error> {
    let reference = reference(digest);
    match docker.inspect_image(&reference).await {
        Ok(image) => Ok(is_of(image, digest).then_some(reference)),
        Err(error) if is_not_found(&error) => Ok(None),
        Err(error) => Err(docker.refused(format!("show the image {reference}"))(error)),
    }
}

/// Compares the label: an engine's image id is a digest of something else in each store.
pub(crate) fn is_of(image: ImageInspect, digest: &str) -> bool {
    let labels = image.config.and_then(|config| config.labels).unwrap_or_default();
    image_labels(&labels).is_some_and(|(its, _)| its == digest)
}

/// Streams the tree into the engine. Call it with the image's build lock held.
pub(super) async fn make(job: &Job<'_>, docker: &Client, image: &Path, tree: &Tree) -> Result<String, Error> {
    let begun = Instant::now();
    let digest = &tree.about.digest;
    let reference = reference(digest);
    let changes = changes(docker.engine, digest, &job.cache.dir().to_string_lossy());
    import(docker, &tree.root, changes, &reference, &job.cancel).await?;
    let temp = job.cache.temp()?;
    Manifest::new(About { reference: reference.clone() }, []).write(temp.path())?;
    temp.put(&place(image, docker.engine), job.cache)?;
    job.say(format!("imported it into {} in {:.1} s", docker.engine.name(), begun.elapsed().as_secs_f64()));
    find(docker, digest).await?.ok_or_else(|| Error::Engine {
        engine: docker.engine.name(),
        tried: format!("keep the image {reference}"),
        why: "it was imported, and is not there".into(),
    })
}

/// Streams a root file system into the engine. containerd keeps it compressed beside the unpacked one, and dockerd
/// would compress it by gzip on one CPU, which takes five times as long as all the rest.
pub(super) async fn import(
    docker: &Client,
    root: &Path,
    changes: Vec<String>,
    reference: &str,
    cancel: &CancellationToken,
) -> Result<(), Error> {
    let info = docker.info().await.map_err(docker.refused("say how it keeps images"))?;
    let compress = has_containerd_store(&info).then_some("--use-compress-program=zstd -1");
    let pack = Tool::new("tar")
        .args(compress)
        .args(["--create", "--numeric-owner", "--xattrs", "--xattrs-include=*", "--sort=name", "--directory"])
        .arg(root)
        .args(["--file=-", "."]);
    let packed = pack
        .with_stdout(cancel, |stdout| async {
            let files = ReaderStream::with_capacity(stdout, 256 << 10);
            if docker.engine == ContainerEngine::Podman {
                return podman::import(reference, &changes, files).await;
            }
            let options =
                CreateImageOptionsBuilder::new().from_src("-").repo(reference).changes(changes).build();
            let progress = docker.create_image(Some(options), Some(bollard::body_try_stream(files)), None);
            progress
                .try_for_each(|_| async { Ok(()) })
                .await
                .map_err(docker.refused(format!("import {reference}")))
        })
        .await;
    if packed.is_err() {
        // The engine may have accepted half an archive as complete.
        let _ = docker.remove(reference).await;
    }
    packed
}

/// The engine's images from this cache: reference and digest.
pub(super) async fn of_cache(docker: &Client, cache: &Cache) -> Result<Vec<(String, String)>, Error> {
    let filters = HashMap::from([("label", vec![LABEL])]);
    let options = ListImagesOptionsBuilder::new().filters(&filters).build();
    let images = docker.list_images(Some(options)).await.map_err(docker.refused("list images"))?;
    let (named, nameless) = named(images, &cache.dir().to_string_lossy());
    let mut ours = named;
    for (id, digest) in nameless {
        // An import is one step; what a user built on it has its labels and more steps.
        let is_import = match docker.image_history(&id).await {
            Ok(steps) => steps.len() == 1,
            Err(error) if is_not_found(&error) => false,
            Err(error) => return Err(docker.refused(format!("show the history of image {id}"))(error)),
        };
        if is_import {
            ours.push((id, digest));
        }
    }
    Ok(ours)
}

/// References and digests.
type Images = Vec<(String, String)>;

/// The images that have the name that bootrace gives them, and those that lost it to another one, by their id (the digest
/// of the manifest or configuration). An image with another name is a user's: one that was built on bootrace's has the
/// same labels.
pub(crate) fn named(images: Vec<ImageSummary>, ours: &str) -> (Images, Images) {
    let (mut named, mut nameless) = (Vec::new(), Vec::new());
    for image in images {
        let Some((digest, _)) = image_labels(&image.labels).filter(|(_, cache)| *cache == ours) else {
            continue;
        };
        // Docker 20.10 reports a placeholder as the name of one that has none.
        let mut names = image.repo_tags.iter().filter(|name| *name != "<none>:<none>").peekable();
        if names.peek().is_none() {
            nameless.push((image.id.clone(), digest.to_owned()));
        }
        if let Some(name) = names.find(|name| ContainerEngine::short_name(name) == reference(digest)) {
            named.push((name.clone(), digest.to_owned()));
        }
    }
    (named, nameless)
}

/// The import's LABEL instructions. Docker takes several at once, podman only one with one label in it.
fn changes(engine: ContainerEngine, digest: &str, cache: &str) -> Vec<String> {
    let label = |name: &str, value: &str| format!("LABEL {name}={}", quoted(value));
    match engine {
        ContainerEngine::Docker => vec![label(LABEL, digest), label(CACHE_LABEL, cache)],
        ContainerEngine::Podman => vec![label(LABEL, &format!("{digest} {cache}"))],
    }
}

/// Digest and cache directory of a bootrace image, from its labels in either form.
fn image_labels(labels: &HashMap<String, String>) -> Option<(&str, &str)> {
    let image = labels.get(LABEL)?;
    let cache = labels.get(CACHE_LABEL).map_or("", String::as_str);
    Some(image.split_once(' ').unwrap_or((image, cache)))
}

/// Quotes a word for a Dockerfile's LABEL instruction.
pub(super) fn quoted(value: &str) -> String {
    format!("\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\"").replace('$', "\\$").replace('\n', " "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_images_name_has_the_start_of_its_digest() {
        assert_eq!(reference(&"0123456789abcdef".repeat(4)), "bootrace:0123456789abcdef");
    }

    #[test]
    fn digest_and_cache_are_read_from_both_forms_of_labels() {
        let labels = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
        };
        let docker: HashMap<_, _> = labels(&[(LABEL, "0123"), (CACHE_LABEL, "/a b")]);
        let podman: HashMap<_, _> = labels(&[(LABEL, "0123 /a b")]);
        assert_eq!(
            (image_labels(&docker), image_labels(&podman)),
            (Some(("0123", "/a b")), Some(("0123", "/a b")))
        );
        assert_eq!(image_labels(&labels(&[("another", "0123")])), None);
        assert_eq!(changes(ContainerEngine::Podman, "0123", "/a b").len(), 1);
    }

    #[test]
    fn docker_29s_answers_tell_the_store_of_an_image() {
        let image = || serde_json::from_str(include_str!("samples/docker-29.image.json")).unwrap();
        let digest = "25f204e157163b3429db6c597ad202a59632389e5935f8863318cd0aa8b1a829";
        assert!(is_of(image(), digest) && !is_of(image(), &digest.replace('2', "3")));
        let images = || serde_json::from_str(include_str!("samples/docker-29.images.json")).unwrap();
        let (ours, nameless) = named(images(), "/var/cache/bootrace");
        assert_eq!((ours, nameless), (vec![(reference(digest), digest.to_owned())], vec![]));
        assert_eq!(named(images(), "/another"), (vec![], vec![]));
    }

    #[test]
    fn an_image_that_lost_its_name_is_called_by_its_id_and_one_with_a_users_name_is_the_users() {
        let labels = [(LABEL, "0123"), (CACHE_LABEL, "/a")].map(|(name, value)| (name.into(), value.into()));
        let image = |repo_tags: &[&str]| ImageSummary {
            id: "sha256:272f".into(),
            labels: HashMap::from(labels.clone()),
            repo_tags: repo_tags.iter().map(ToString::to_string).collect(),
            ..ImageSummary::default()
        };
        let images = vec![
            image(&[]),
            image(&["<none>:<none>"]),
            image(&["my/own:1", "localhost/bootrace:0123"]),
            image(&["bootrace/mine:latest"]),
            image(&["my-bootrace:0123", "bootrace:latest"]),
        ];
        let (ours, nameless) = named(images, "/a");
        let digest = || "0123".to_owned();
        assert_eq!(ours, [("localhost/bootrace:0123".to_owned(), digest())]);
        assert_eq!(nameless, [("sha256:272f".to_owned(), digest()), ("sha256:272f".to_owned(), digest())]);
    }

    #[test]
    fn a_label_can_hold_any_path_without_becoming_an_instruction() {
        assert_eq!(quoted("/a b\"\\$x\nRUN y"), "\"/a b\\\"\\\\\\$x RUN y\"");
    }
}
