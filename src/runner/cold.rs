//! Drops the page cache before each sample, for `page_cache = "cold"`.

use std::{fs, io, path::Path};

use anyhow::Context;

/// Drops clean pages, dentries and inodes.
const ALL: &str = "3\n";
const SWITCH: &str = "/proc/sys/vm/drop_caches";

/// Writes dirty pages back, since the kernel drops only clean ones, and drops the page cache. Pages that a running
/// program has mapped stay.
///
/// # Errors
/// Without root, and where /proc/sys is read-only, as in most containers.
pub async fn drop_caches() -> anyhow::Result<()> {
    tokio::task::spawn_blocking(|| drop_by(Path::new(SWITCH))).await.context("dropping the page cache")?
}

fn drop_by(switch: &Path) -> anyhow::Result<()> {
    rustix::fs::sync();
    let write =
        |switch| io::Write::write_all(&mut fs::OpenOptions::new().write(true).open(switch)?, ALL.as_bytes());
    write(switch).with_context(|| {
        format!(
            "dropping the page cache for page_cache = \"cold\" by {}: it takes root and a writable /proc/sys, which containers \
             lack. Run bootrace on the host with sudo, or take page_cache = \"cold\" out of [sampling]",
            switch.display()
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_switch_that_is_not_there_is_an_error_with_the_fix() {
        let dir = tempfile::tempdir().unwrap();
        let error = format!("{:#}", drop_by(&dir.path().join("drop_caches")).unwrap_err());
        for sign in ["drop_caches", "sudo", "No such file"] {
            assert!(error.contains(sign), "no {sign:?} in {error}");
        }
        assert!(!dir.path().join("drop_caches").exists(), "it is written to, never made");
    }

    #[test]
    fn all_kinds_of_caches_are_dropped() {
        let switch = tempfile::NamedTempFile::new().unwrap();
        drop_by(switch.path()).unwrap();
        assert_eq!(fs::read_to_string(switch.path()).unwrap(), "3\n");
    }
}
