//! Checks whether a scenario's image could be built now, without building it.

use std::{path::Path, time::Duration};

use tokio_util::sync::CancellationToken;

use super::{
    Cache, Error, ErrorOrigin, base,
    definition::{Definition, Source},
    manifest::Manifest,
    suite,
    tool::require,
};
use crate::scenario;

/// A source of root file systems, and whether it is available.
#[derive(Debug)]
pub struct Reach {
    /// Its name in messages.
    pub name: String,
    /// The cache has its content already, so it need not answer.
    pub cached: bool,
    pub error: Option<Unreachable>,
}

/// Why a source is not available.
#[derive(Debug)]
pub struct Unreachable {
    pub why: String,
    /// The cause is on this host (a keyring, a table, a program), not in the network.
    pub here: bool,
}

/// Asks for the scenario's first choice and its fallback as a build would, with mmdebstrap, apt, its proxies and its
/// keys, but only for the release files. Asks both at once, for at most `patience`.
///
/// # Errors
/// When the scenario's `[image]` is wrong.
pub async fn reach(
    spec: &scenario::Image,
    base_dir: &Path,
    cache: Option<&Cache>,
    patience: Duration,
) -> Result<Vec<Reach>, Error> {
    let first = Definition::first(spec, base_dir)?;
    let second = Definition::fallback(spec)?;
    let asked = [Some(first), second].into_iter().flatten();
    Ok(futures_util::future::join_all(asked.map(|definition| one(definition, cache, patience))).await)
}

async fn one(definition: Definition, cache: Option<&Cache>, patience: Duration) -> Reach {
    let cached =
        cache.is_some_and(|cache| Manifest::<base::About>::load(&cache.base(&definition.key())).is_some());
    let asked = match &definition.source {
        Source::Suite(suite) => {
            let cancel = CancellationToken::new();
            let asking = suite::ask(suite, cache, patience, &cancel);
            tokio::pin!(asking);
            match tokio::time::timeout(patience, &mut asking).await {
                Ok(asked) => asked,
                Err(_) => {
                    cancel.cancel();
                    asking.await
                }
            }
        }
        Source::Tarball(_) | Source::Registry(_) | Source::Cloud(_) => Ok(()),
    };
    let error = asked.err().map(|error| match error {
        Error::Source { why, origin, .. } => Unreachable { why, here: origin == ErrorOrigin::Here },
        Error::Interrupted => Unreachable {
            why: format!("its archive did not answer in {patience:?}: slow, or out of reach"),
            here: false,
        },
        other => Unreachable { why: other.to_string(), here: true },
    });
    Reach { name: definition.source.to_string(), cached, error }
}

/// What this host lacks for stock cloud images, each with its fix.
pub fn missing_for_cloud() -> Vec<String> {
    let programs = ["curl", "xorriso", "partx", "blkid", "mount"]
        .into_iter()
        .filter_map(|program| require(program).err());
    let loops = Path::new("/dev/loop-control").exists();
    let no_loops = (!loops).then(|| {
        "there is no /dev/loop-control, and so no loop device to read a disk by: modprobe loop".to_string()
    });
    programs.map(|error| error.to_string()).chain(no_loops).collect()
}

/// The missing programs for building images, each with its fix.
pub fn missing_programs() -> Vec<Error> {
    let needed = ["mmdebstrap", "tar", "mke2fs", "qemu-img", "unshare", "xz", "zstd", "cp"];
    needed.into_iter().filter_map(|program| require(program).err()).collect()
}
