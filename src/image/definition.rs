//! The definition of a root file system: all inputs that decide its content. Their hash is the key of its cache entry.
//!
//! The values come from a scenario that `scenario::Scenario::parse` has checked: none of them can be mistaken for an
//! option, a path or a pattern.

use std::{
    fmt,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use bootrace_model::foreign::tail;
use serde::{Deserialize, Serialize};

use super::{error::Error, manifest::sha256};
use crate::scenario;

/// Changes when bootrace builds the same definition differently.
const RECIPE: u32 = 1;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Definition {
    recipe: u32,
    /// The kernel's name: `x86_64`, `aarch64`.
    architecture: String,
    pub source: Source,
    /// Sorted.
    pub packages: Vec<String>,
    /// With the packages for a boot as a whole system. False is omitted, so that older keys stay valid.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub bootable: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Source {
    Suite(Suite),
    Tarball(HostFile),
    /// An image reference with its tag.
    Registry(String),
    Cloud(Cloud),
}

/// A stock disk image of a whole OS.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Cloud {
    pub place: Place,
    /// The scenario's checksum in lower-case hex. A URL always has one: it stands for the content.
    pub sha256: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Place {
    File(HostFile),
    Url(String),
}

/// A distribution's suite, built by mmdebstrap.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Suite {
    pub distribution: Distribution,
    pub name: String,
    /// `None`: mmdebstrap's default for the suite.
    pub mirror: Option<String>,
    /// `None`: the distribution's own.
    pub keyring: Option<PathBuf>,
    pub components: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Distribution {
    Debian,
    Ubuntu,
}

/// A file of this host. Size and time of change show whether its content is still the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct HostFile {
    pub path: PathBuf,
    pub bytes: u64,
    inode: u64,
    modified_ns: i128,
    changed_ns: i128,
}

impl Definition {
    /// The scenario's first choice. Relative paths start at `base_dir`.
    ///
    /// # Errors
    /// When the source is not exactly one, its name or file is invalid, or it takes no packages.
    pub fn first(spec: &scenario::Image, base_dir: &Path) -> Result<Definition, Error> {
        let source = match (&spec.suite, &spec.tarball, &spec.registry, &spec.cloud) {
            (Some(suite), None, None, None) => Source::Suite(Suite::first(suite, spec, base_dir)?),
            (None, Some(tarball), None, None) => {
                Source::Tarball(HostFile::at(&base_dir.join(tarball), "tarball")?)
            }
            (None, None, Some(reference), None) => Source::Registry(tagged(reference)),
            (None, None, None, Some(cloud)) => Source::Cloud(Cloud::first(cloud, spec, base_dir)?),
            _ => return wrong("give exactly one of suite, tarball, registry and cloud".into()),
        };
        if matches!(source, Source::Tarball(_)) && !spec.packages.is_empty() {
            return wrong(
                "packages can't be added to a tarball: put them into it, or use suite or registry".into(),
            );
        }
        if matches!(source, Source::Cloud(_)) && !spec.packages.is_empty() {
            return wrong(
                "packages can't be added to a cloud image, which is booted as it is: put them into it \
                 (virt-customize does), or use suite"
                    .into(),
            );
        }
        Ok(Definition::new(source, &spec.packages))
    }

    /// The fallback for an unavailable first choice. The scenario's mirror, keyring and components belong to the first
    /// choice; the fallback uses its distribution's.
    ///
    /// # Errors
    /// When the fallback is no suite.
    pub fn fallback(spec: &scenario::Image) -> Result<Option<Definition>, Error> {
        let Some(fallback) = &spec.fallback else { return Ok(None) };
        let source = Source::Suite(Suite::plain(fallback)?);
        Ok(Some(Definition::new(source, &spec.packages)))
    }

    fn new(source: Source, packages: &[String]) -> Definition {
        let mut packages = packages.to_vec();
        packages.sort();
        packages.dedup();
        let architecture = std::env::consts::ARCH.into();
        Definition { recipe: RECIPE, architecture, source, packages, bootable: false }
    }

    /// The same definition, for a boot as a whole system if `bootable`. Tarballs and cloud images stay unchanged.
    pub fn bootable(self, bootable: bool) -> Definition {
        let bootable = bootable && !matches!(self.source, Source::Tarball(_) | Source::Cloud(_));
        Definition { bootable, ..self }
    }

    pub fn key(&self) -> String {
        sha256(serde_json::to_string(self).expect("strings and numbers are JSON"))
    }
}

impl Suite {
    fn first(suite: &str, spec: &scenario::Image, base_dir: &Path) -> Result<Suite, Error> {
        let mut suite = Suite::plain(suite)?;
        suite.mirror = spec.mirror.clone();
        if let Some(keyring) = &spec.keyring {
            suite.keyring = Some(HostFile::at(&base_dir.join(keyring), "keyring")?.path);
        }
        if !spec.components.is_empty() {
            suite.components = spec.components.clone();
        }
        Ok(suite)
    }

    fn plain(text: &str) -> Result<Suite, Error> {
        let (distribution, name) = match text.split_once('/') {
            Some(("debian", name)) => (Distribution::Debian, name),
            Some(("ubuntu", name)) => (Distribution::Ubuntu, name),
            _ => {
                let text = tail(text, 80);
                return wrong(format!(
                    "{text:?} is no suite: write debian/NAME or ubuntu/NAME, as in ubuntu/noble"
                ));
            }
        };
        let components: &[&str] = match distribution {
            Distribution::Debian => &["main"],
            Distribution::Ubuntu => &["main", "universe"],
        };
        let components = components.iter().map(ToString::to_string).collect();
        Ok(Suite { distribution, name: name.into(), mirror: None, keyring: None, components })
    }
}

impl HostFile {
    /// `what` is the file's name in messages.
    fn at(path: &Path, what: &str) -> Result<HostFile, Error> {
        let wrap = |error| Error::Scenario(format!("reading the {what} {}: {error}", path.display()));
        let path = path.canonicalize().map_err(wrap)?;
        let meta = path.metadata().map_err(wrap)?;
        if !meta.is_file() {
            return wrong(format!("the {what} {} is not a file", path.display()));
        }
        let ns = |seconds: i64, ns: i64| i128::from(seconds) * 1_000_000_000 + i128::from(ns);
        Ok(HostFile {
            path,
            bytes: meta.len(),
            inode: meta.ino(),
            modified_ns: ns(meta.mtime(), meta.mtime_nsec()),
            changed_ns: ns(meta.ctime(), meta.ctime_nsec()),
        })
    }
}

impl Cloud {
    fn first(cloud: &str, spec: &scenario::Image, base_dir: &Path) -> Result<Cloud, Error> {
        let sha256 = spec.sha256.clone();
        let place = match scenario::is_url(cloud) {
            true if sha256.is_none() => {
                return wrong(format!(
                    "{} has no sha256 beside it: what a URL gives may change",
                    tail(cloud, 200)
                ));
            }
            true => Place::Url(cloud.into()),
            false => Place::File(HostFile::at(&base_dir.join(cloud), "cloud image")?),
        };
        Ok(Cloud { place, sha256 })
    }

    /// Its origin: a URL or a file's name.
    pub fn name(&self) -> String {
        match &self.place {
            Place::File(file) => tail(&file.path.to_string_lossy(), 300),
            Place::Url(url) => tail(url, 300),
        }
    }
}

impl Distribution {
    pub fn name(self) -> &'static str {
        match self {
            Distribution::Debian => "debian",
            Distribution::Ubuntu => "ubuntu",
        }
    }
}

/// The source's name in messages.
impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Suite(suite) => {
                write!(f, "{}/{}", suite.distribution.name(), suite.name)?;
                suite.mirror.as_ref().map_or(Ok(()), |mirror| write!(f, " from {mirror}"))
            }
            Source::Tarball(tarball) => write!(f, "the tarball {}", tarball.path.display()),
            Source::Registry(reference) => write!(f, "the registry's image {reference}"),
            Source::Cloud(cloud) => cloud.fmt(f),
        }
    }
}

impl fmt::Display for Cloud {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::File(file) => write!(f, "the cloud image {}", file.path.display()),
            Place::Url(url) => write!(f, "the cloud image {url}"),
        }
    }
}

fn wrong<T>(why: String) -> Result<T, Error> {
    Err(Error::Scenario(why))
}

/// An image reference, with `:latest` if it has neither tag nor digest, as in Docker.
fn tagged(reference: &str) -> String {
    let name = reference.rsplit_once('/').map_or(reference, |(_, name)| name);
    let whole = name.contains([':', '@']);
    if whole { reference.into() } else { format!("{reference}:latest") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> scenario::Image {
        scenario::Image::default()
    }

    fn first(spec: &scenario::Image) -> Result<Definition, String> {
        Definition::first(spec, Path::new("/scenarios")).map_err(|error| error.to_string())
    }

    #[test]
    fn the_order_of_packages_does_not_make_another_image_and_a_package_does() {
        let with = |packages: &[&str]| {
            let packages = packages.iter().map(ToString::to_string).collect();
            first(&scenario::Image { packages, ..spec() }).unwrap().key()
        };
        assert_eq!(with(&["a1", "b1"]), with(&["b1", "a1", "b1"]));
        assert_ne!(with(&["a1"]), with(&["a1", "b1"]));
    }

    #[test]
    fn a_bootable_image_is_another_one_and_all_others_keep_their_keys() {
        let plain = first(&spec()).unwrap();
        assert_ne!(plain.clone().bootable(true).key(), plain.key());
        assert_eq!(plain.clone().bootable(false).key(), plain.key());
        assert!(!serde_json::to_string(&plain).unwrap().contains("bootable"));
    }

    #[test]
    fn mirror_keyring_and_components_stay_with_the_first_choice() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().canonicalize().unwrap();
        let spec = scenario::Image {
            mirror: Some("http://127.0.0.1:9/ubuntu".into()),
            keyring: Some("keys.gpg".into()),
            components: vec!["main".into()],
            ..spec()
        };
        let error = Definition::first(&spec, &dir).unwrap_err().to_string();
        assert!(
            error.starts_with(&format!("[image] reading the keyring {}/keys.gpg: ", dir.display())),
            "{error}"
        );
        std::fs::write(dir.join("keys.gpg"), "").unwrap();
        let Source::Suite(first) = Definition::first(&spec, &dir).unwrap().source else { panic!() };
        assert_eq!(first.mirror, spec.mirror);
        assert_eq!(first.keyring, Some(dir.join("keys.gpg")));
        assert_eq!(first.components, ["main"]);
        let Source::Suite(second) = Definition::fallback(&spec).unwrap().unwrap().source else { panic!() };
        assert_eq!(second, Suite::plain("debian/bookworm").unwrap());
    }

    #[test]
    fn ubuntu_has_universe_unless_the_scenario_names_components() {
        let Source::Suite(suite) = first(&spec()).unwrap().source else { panic!() };
        assert_eq!(suite.components, ["main", "universe"]);
    }

    #[test]
    fn a_reference_without_tag_means_latest_and_a_port_is_no_tag() {
        assert_eq!(tagged("redis"), "redis:latest");
        assert_eq!(tagged("127.0.0.1:5000/a/redis"), "127.0.0.1:5000/a/redis:latest");
        assert_eq!(tagged("a/redis:7"), "a/redis:7");
        assert_eq!(tagged("redis@sha256:00"), "redis@sha256:00");
    }

    #[test]
    fn a_cloud_image_is_another_one_by_its_sum_and_a_url_must_have_one() {
        let url = |sha256: Option<&str>| scenario::Image {
            suite: None,
            fallback: None,
            cloud: Some("http://host/a.img".into()),
            sha256: sha256.map(str::to_string),
            ..spec()
        };
        assert!(first(&url(None)).unwrap_err().contains("has no sha256 beside it"));
        assert_ne!(first(&url(Some("aa"))).unwrap().key(), first(&url(Some("ab"))).unwrap().key());
        let with = scenario::Image { packages: vec!["redis".into()], ..url(Some("aa")) };
        assert!(first(&with).unwrap_err().contains("packages can't be added to a cloud image"));
        let missing = scenario::Image { cloud: Some("no.img".into()), ..url(None) };
        let error = first(&missing).unwrap_err();
        assert!(
            error.starts_with("[image] reading the cloud image /scenarios/no.img: No such file"),
            "{error}"
        );
    }

    #[test]
    fn a_changed_tarball_is_another_image_and_a_missing_one_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let spec = scenario::Image { suite: None, tarball: Some("root.tar".into()), ..spec() };
        let key = || Definition::first(&spec, dir.path()).map(|definition| definition.key());
        let error = key().unwrap_err().to_string();
        assert!(error.contains("root.tar: No such file"), "{error}");
        std::fs::write(dir.path().join("root.tar"), "1").unwrap();
        let before = key().unwrap();
        assert_eq!(before, key().unwrap());
        std::fs::write(dir.path().join("root.tar"), "22").unwrap();
        assert_ne!(before, key().unwrap());
    }
}
