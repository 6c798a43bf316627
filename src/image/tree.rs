//! The unpacked root file system with the agent, from which all forms are built.

use std::{
    path::{Path, PathBuf},
    time::Instant,
};

use bootrace_agent::protocol::{AGENT_PATH, COW_PATH, IMAGE_DIGEST_PATH, SOCKET_PATH};
use bootrace_model::foreign::tail;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::{
    base::{Base, TAR},
    bootable,
    cache::discard,
    cow_file,
    error::Error,
    job::Job,
    kernel,
    manifest::{Manifest, sha256},
    tool::Tool,
};
use crate::{agent, sys::rootfs::Rootfs};

pub mod names;
pub(crate) mod sound;

/// Its directory in the entry.
const ROOT: &str = "root";
/// Mount points that the engines need, with their modes.
pub(super) const MOUNT_POINTS: [(&str, u32); 5] =
    [("proc", 0o755), ("sys", 0o755), ("dev", 0o755), ("run", 0o755), ("tmp", 0o1777)];

/// A tree's data in its manifest.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct About {
    pub digest: String,
    /// Key of its base.
    pub base: String,
    pub agent_digest: String,
    pub agent_build: String,
    /// From `/etc/os-release`.
    pub distribution: String,
    pub suite: String,
    /// The source's name in messages.
    pub source: String,
    pub packages: Vec<String>,
    pub fits_vm: Result<String, String>,
    /// Ok if systemd can be PID 1, else the reason.
    #[serde(default = "unknown")]
    pub fits_systemd: Result<(), String>,
    /// The path of the initrd that boots the whole system, or the reason why there is none.
    #[serde(default = "unknown")]
    pub initrd: Result<String, String>,
}

/// The value for trees of earlier versions, which did not check this.
fn unknown<T>() -> Result<T, String> {
    Err("an earlier version of bootrace made it".into())
}

/// A complete tree.
#[derive(Debug, Clone)]
pub(super) struct Tree {
    pub root: PathBuf,
    pub about: About,
}

impl Tree {
    /// Opens the tree's root.
    ///
    /// # Errors
    /// When the directory can't be opened.
    pub fn open(&self) -> Result<Rootfs, Error> {
        Rootfs::open(&self.root).map_err(Error::io("opening", &self.root))
    }
}

/// The image's digest: what is in the root file system, which agent and by which unit a systemd starts it, the files
/// that every target gets, and the size of the `[cow]` file, which decides that file's content.
pub(super) fn digest(base_sha256: &str, agent_digest: &str, cow_bytes: Option<u64>) -> String {
    let copy = cow_bytes.map(|bytes| format!("\ncopy {bytes}")).unwrap_or_default();
    let (unit, names) = (bootable::unit(), names::recipe());
    sha256(format!("bootrace image 3\n{base_sha256}\n{agent_digest}\n{unit}{names}{copy}"))
}

pub(super) fn place(image: &Path) -> PathBuf {
    image.join("tree")
}

pub(super) fn find(image: &Path) -> Option<Tree> {
    let root = place(image).join(ROOT);
    let manifest = Manifest::load(&place(image))?;
    root.is_dir().then_some(Tree { root, about: manifest.about })
}

/// Unpacks the base and adds the agent, and the `[cow]` file if the scenario has one. Call it with the image's build
/// lock held.
pub(super) async fn make(
    job: &Job<'_>,
    image: &Path,
    digest: &str,
    base: &Base,
    cow_bytes: Option<u64>,
) -> Result<Tree, Error> {
    let begun = Instant::now();
    let temp = job.cache.temp()?;
    let root = temp.join(ROOT);
    super::cache::make_dir(&root)?;
    let archive = job.cache.base(&base.key).join(TAR);
    let image_name = base.definition().source.to_string();
    let unpack = Tool::new("tar")
        .within(&temp)?
        .args(["--extract", "--preserve-permissions", "--same-owner", "--numeric-owner"])
        // What an overlay remembers of its layers means nothing here, and something else in another overlay.
        .args(["--xattrs", "--xattrs-include=*", "--xattrs-exclude=trusted.overlay.*"])
        // They are removed afterwards in any case, and not every host may make devices.
        .args(["--anchored", "--exclude=./dev/*", "--exclude=dev/*"])
        .arg("--directory")
        .arg(&root)
        .arg("--file")
        .arg(&archive);
    let unsound = |why: String| Error::Tree { why, image: image_name.clone() };
    if damaged(job, base).await? {
        return Err(unsound("its archive in the cache was damaged and is removed now: try again".into()));
    }
    let unpacked = match fits(&archive, temp.path(), &job.cancel).await {
        Ok(Ok(())) => unpack.run(&job.cancel).await,
        Ok(Err(why)) => return Err(unsound(why)),
        Err(error) => Err(error),
    };
    match unpacked {
        Err(Error::Tool { outcome, output, .. }) => {
            return Err(unsound(format!("it can't be unpacked, tar {outcome}: {output}")));
        }
        other => other?,
    }
    let checked = root.clone();
    let sound = job.blocking(move || sound::check(&checked).map_err(Error::io("checking", &checked))).await?;
    sound.map_err(unsound)?;
    let facts = Facts { digest: digest.into(), image: image_name.clone(), cow_bytes };
    let found = job.blocking(move || facts.complete(&root)).await?;
    let about = About {
        digest: digest.into(),
        base: base.key.clone(),
        agent_digest: agent::digest(),
        agent_build: agent::BUILD.into(),
        distribution: found.distribution,
        suite: found.suite,
        source: image_name,
        packages: base.definition().packages.clone(),
        fits_vm: found.fits_vm,
        fits_systemd: found.fits_systemd,
        initrd: found.initrd,
    };
    Manifest::new(about, []).write(temp.path())?;
    // This host's users must not run its set-user-ID programs.
    let private = std::os::unix::fs::PermissionsExt::from_mode(0o700);
    std::fs::set_permissions(temp.path(), private).map_err(Error::io("closing", temp.path()))?;
    temp.put(&place(image), job.cache)?;
    job.say(format!("unpacked it in {:.1} s", begun.elapsed().as_secs_f64()));
    find(image).ok_or_else(|| Error::Cache {
        dir: place(image),
        why: "its new entry has disappeared; does another program clean this directory?".into(),
    })
}

/// Whether the archive's files fit into the free space of the cache.
async fn fits(archive: &Path, cache: &Path, cancel: &CancellationToken) -> Result<Result<(), String>, Error> {
    let space =
        rustix::fs::statvfs(cache).map_err(|e| Error::io("reading the free space of", cache)(e.into()))?;
    let free = space.f_bavail.saturating_mul(space.f_frsize);
    let list = Tool::new("tar")
        .args(["--list", "--verbose", "--numeric-owner", "--quoting-style=escape", "--file"])
        .arg(archive);
    list.with_stdout(cancel, |listing| async {
        sound::fits(listing, free).await.map_err(Error::io("reading tar's list of", archive))
    })
    .await
}

/// Whether the base's archive has changed since it was made, in which case it is removed.
async fn damaged(job: &Job<'_>, base: &Base) -> Result<bool, Error> {
    let dir = job.cache.base(&base.key);
    let (manifest, place) = (base.manifest.clone(), dir.clone());
    let damaged = job.blocking(move || Ok(!manifest.verify(&place).is_empty())).await?;
    if damaged {
        discard(&dir, job.cache)?;
    }
    Ok(damaged)
}

struct Facts {
    digest: String,
    image: String,
    cow_bytes: Option<u64>,
}

struct Found {
    distribution: String,
    suite: String,
    fits_vm: Result<String, String>,
    fits_systemd: Result<(), String>,
    initrd: Result<String, String>,
}

impl Facts {
    /// Adds bootrace's files to the tree, and reads its distribution.
    fn complete(&self, root: &Path) -> Result<Found, Error> {
        let tree = Rootfs::open(root).map_err(Error::io("opening", root))?;
        self.add(&tree).map_err(|error| Error::Tree {
            image: self.image.clone(),
            why: format!("the agent can't be put into it: {error}"),
        })?;
        let (distribution, suite) = os_release(&tree);
        let kernel = kernel::find(&tree);
        Ok(Found {
            distribution,
            suite,
            fits_systemd: bootable::systemd(&tree),
            initrd: kernel.as_ref().map_err(Clone::clone).and_then(|kernel| bootable::initrd(&tree, kernel)),
            fits_vm: kernel.map(|kernel| kernel.release),
        })
    }

    fn add(&self, tree: &Rootfs) -> std::io::Result<()> {
        for (dir, mode) in MOUNT_POINTS {
            tree.ensure_dir(dir, mode)?;
        }
        if let Some((dir, _)) = SOCKET_PATH.rsplit_once('/') {
            tree.ensure_dir(dir, 0o755)?;
        }
        names::add(tree)?;
        tree.write(AGENT_PATH, agent::EXECUTABLE, 0o755)?;
        if let Some(bytes) = self.cow_bytes {
            tree.create(COW_PATH, 0o644, |file| cow_file::write(file, bytes))?;
        }
        tree.write(IMAGE_DIGEST_PATH, format!("{}\n", self.digest).as_bytes(), 0o644)?;
        bootable::add(tree, &self.digest)
    }
}

/// Distribution and suite from the tree's os-release; "unknown" if it lacks them.
fn os_release(tree: &Rootfs) -> (String, String) {
    let text =
        ["etc/os-release", "usr/lib/os-release"].iter().find_map(|path| tree.read_text(path, 64 << 10).ok());
    system_of(&text.unwrap_or_default())
}

pub(crate) fn system_of(os_release: &str) -> (String, String) {
    let value = |key: &str| {
        let line = os_release.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='))?;
        let value = line.trim().trim_matches(['"', '\'']);
        (!value.is_empty()).then(|| tail(value, 64))
    };
    let distribution = value("ID").unwrap_or_else(|| "unknown".into());
    let suite = value("VERSION_CODENAME").or_else(|| value("VERSION_ID")).unwrap_or_else(|| "unknown".into());
    (distribution, suite)
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use super::*;

    fn rootfs(os_release: Option<&str>) -> (tempfile::TempDir, Rootfs) {
        let dir = tempfile::tempdir().unwrap();
        if let Some(text) = os_release {
            fs::create_dir(dir.path().join("etc")).unwrap();
            fs::write(dir.path().join("etc/os-release"), text).unwrap();
        }
        let rootfs = Rootfs::open(dir.path()).unwrap();
        (dir, rootfs)
    }

    #[test]
    fn the_digest_is_of_root_file_system_and_agent() {
        assert_eq!(
            digest("aa", "bb", None),
            sha256(format!("bootrace image 3\naa\nbb\n{}{}", bootable::unit(), names::recipe()))
        );
        assert_ne!(digest("aa", "bb", None), digest("aa", "bc", None));
        assert_ne!(digest("aa", "bb", None), digest("ab", "bb", None));
        assert_ne!(digest("aa", "bb", None), digest("aa", "bb", Some(1 << 20)));
        assert_ne!(digest("aa", "bb", Some(2 << 20)), digest("aa", "bb", Some(1 << 20)));
    }

    #[test]
    fn the_tree_gets_agent_digest_and_mount_points() {
        let (dir, _) = rootfs(None);
        let facts = Facts { digest: "d1".into(), image: "test".into(), cow_bytes: Some(1 << 20) };
        let found = facts.complete(dir.path()).unwrap();
        assert_eq!((found.distribution.as_str(), found.suite.as_str()), ("unknown", "unknown"));
        assert!(found.fits_vm.is_err());
        let path = |path: &str| dir.path().join(path.trim_start_matches('/'));
        assert_eq!(fs::read(path(AGENT_PATH)).unwrap(), agent::EXECUTABLE);
        assert_eq!(fs::metadata(path(AGENT_PATH)).unwrap().permissions().mode() & 0o7777, 0o755);
        assert_eq!(fs::read_to_string(path(IMAGE_DIGEST_PATH)).unwrap(), "d1\n");
        assert_eq!(fs::metadata(path(COW_PATH)).unwrap().len(), 1 << 20);
        assert_eq!(fs::metadata(path("tmp")).unwrap().permissions().mode() & 0o7777, 0o1777);
        for dir in ["proc", "sys", "dev", "run/bootrace"] {
            assert!(path(dir).is_dir(), "{dir}");
        }
    }

    #[test]
    fn distribution_and_suite_are_what_os_release_says_and_tamed() {
        let (_dir, tree) = rootfs(Some("NAME=\"Debian\"\nID=debian\nVERSION_CODENAME=bookworm\n"));
        assert_eq!(os_release(&tree), ("debian".into(), "bookworm".into()));
        let (_dir, tree) = rootfs(Some("ID=\"alpine\"\nVERSION_ID=3.20\u{1b}[2J\n"));
        assert_eq!(os_release(&tree), ("alpine".into(), "3.20\\u{1b}[2J".into()));
    }
}
