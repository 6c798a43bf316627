//! A root file system with only the agent in it, for `doctor`'s trial of an engine.

use std::{
    fs,
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::Path,
};

use bootrace_agent::protocol::{AGENT_PATH, SOCKET_PATH};
use tokio_util::sync::CancellationToken;

use super::{
    docker,
    engine::{Client, ContainerEngine},
    error::Error,
    tree::MOUNT_POINTS,
};
use crate::agent;

/// Creates `root` with the tree.
///
/// # Errors
/// When a directory or file can't be written.
pub fn make_tree(root: &Path) -> Result<(), Error> {
    let agent = root.join(AGENT_PATH.trim_start_matches('/'));
    let make = || {
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true).mode(0o755);
        for (name, _) in MOUNT_POINTS {
            builder.create(root.join(name))?;
        }
        // An engine that mounts the control socket there may not be able to create the directory.
        let socket = root.join(SOCKET_PATH.trim_start_matches('/'));
        socket.parent().map_or(Ok(()), |parent| builder.create(parent))?;
        agent.parent().map_or(Ok(()), |parent| builder.create(parent))?;
        fs::write(&agent, agent::EXECUTABLE)?;
        fs::set_permissions(&agent, fs::Permissions::from_mode(0o755))
    };
    make().map_err(Error::io("writing", &agent))
}

/// Imports the tree into the engine as the image `reference`, with this label.
///
/// # Errors
/// When the engine does not answer or refuses the import.
pub async fn import(
    engine: ContainerEngine,
    root: &Path,
    reference: &str,
    label: (&str, &str),
) -> Result<(), Error> {
    let docker = Client::connect(engine).await?;
    let (name, value) = label;
    let changes = vec![format!("LABEL {name}={}", docker::quoted(value))];
    docker::import(&docker, root, changes, reference, &CancellationToken::new()).await
}
