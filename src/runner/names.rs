//! The names of a run's instances.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use anyhow::Context;

use crate::target::InstanceId;
pub use crate::target::instance_name::tag;

/// Makes an id for the run's `number`-th instance, and its directory.
///
/// # Errors
/// When the directory can't be made.
pub fn make_instance_id(instances: &Path, run: &str, number: usize) -> anyhow::Result<InstanceId> {
    let instance = format!("{}-{number}", tag(run));
    let dir = instances.join(&instance);
    let open = fs::Permissions::from_mode(0o755);
    fs::create_dir_all(&dir)
        // QEMU's user must be able to enter it, whatever the umask is.
        .and_then(|()| fs::set_permissions(&dir, open))
        .with_context(|| format!("making {}", dir.display()))?;
    Ok(InstanceId { run: run.into(), instance, dir })
}
