//! The names of a run's instances.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use anyhow::Context;

pub use crate::target::instance_name::tag;
use crate::{control::Nonce, target::InstanceId};

/// Makes an id for the run's `number`-th instance, with its nonce, and its directory.
///
/// # Errors
/// When the directory can't be made, or the kernel has no random numbers.
pub fn make_instance_id(instances: &Path, run: &str, number: usize) -> anyhow::Result<InstanceId> {
    let instance = format!("{}-{number}", tag(run));
    let dir = instances.join(&instance);
    let open = fs::Permissions::from_mode(0o755);
    fs::create_dir_all(&dir)
        // QEMU's user must be able to enter it, whatever the umask is.
        .and_then(|()| fs::set_permissions(&dir, open))
        .with_context(|| format!("making {}", dir.display()))?;
    let nonce = Nonce::random().context("taking a random number for the instance's nonce")?;
    Ok(InstanceId { run: run.into(), instance, dir, nonce })
}
