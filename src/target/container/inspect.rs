//! Asks an engine for its version, runtime and storage.

use std::path::{Path, PathBuf};

use bollard::{
    errors::Error as ClientError,
    models::{SystemInfo, SystemVersion},
};
use tokio::net::UnixStream;

use super::{Error, connect_to, failed, runtime};
use crate::{
    image::{ContainerEngine, has_containerd_store, rootless},
    probe::process,
};

/// The oldest API that bootrace is tested with: Docker 20.10's.
pub const OLDEST_API: (u32, u32) = (1, 41);

/// An engine that answers.
#[derive(Debug, Clone, Default)]
pub struct Engine {
    pub version: Option<String>,
    /// The containers' default runtime, with its version if it is known.
    pub runtime: Option<String>,
    /// The API version that client and engine agreed on.
    pub api: (u32, u32),
    pub storage: Option<String>,
    pub cgroup_version: Option<String>,
    /// The directory of its images.
    pub root: Option<PathBuf>,
    /// Its own warnings, such as limits that its kernel lacks.
    pub warnings: Vec<String>,
}

/// Connects, agrees on an API version and asks.
///
/// # Errors
/// When it does not answer, or is rootless.
pub async fn inspect(engine: ContainerEngine) -> Result<Engine, Error> {
    let client = connect_to(engine).await?;
    let failed = |e: ClientError| failed(engine, format!("asking {} about itself", engine.name()), &e);
    let agreed = client.client_version();
    let info = client.info().await.map_err(failed)?;
    rootless::refuse(engine, &info).await?;
    let version = client.version().await.map_err(failed)?;
    let runtime = match &info.default_runtime {
        Some(name) => {
            let version = runtime::version(Some(name), &info).await;
            Some(version.map_or(name.clone(), |known| format!("{name} {}", known.version)))
        }
        None => None,
    };
    let root = match has_containerd_store(&info) {
        true => containerds_root(&info).await,
        false => info.docker_root_dir.map(PathBuf::from),
    };
    Ok(Engine {
        version: version.version,
        runtime,
        api: (agreed.major_version as u32, agreed.minor_version as u32),
        storage: info.driver,
        cgroup_version: info.cgroup_version.map(|version| version.to_string()),
        root,
        warnings: info.warnings.unwrap_or_default(),
    })
}

/// The version of an engine's component, as the engine reports it.
pub(crate) fn component(version: &SystemVersion, name: &str) -> Option<String> {
    version.components.iter().flatten().find(|it| it.name == name).map(|it| it.version.clone())
}

/// The directory of the containerd that stores an engine's images. No API reports it: it is the directory of the
/// database that the process behind its socket has open.
async fn containerds_root(info: &SystemInfo) -> Option<PathBuf> {
    let socket = UnixStream::connect(info.containerd.as_ref()?.address.as_ref()?).await.ok()?;
    let pid = u32::try_from(socket.peer_cred().ok()?.pid()?).ok()?;
    let database = process::open_file(pid, "io.containerd.metadata.v1.bolt/meta.db")?;
    database.ancestors().nth(2).map(Path::to_path_buf)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn docker_29_names_its_programs() {
        let version = serde_json::from_str(include_str!("samples/29/version.json")).unwrap();
        assert_eq!(component(&version, "Engine").as_deref(), Some("29.1.3"));
        assert_eq!(component(&version, "containerd").as_deref(), Some("2.2.1"));
        assert_eq!(component(&version, "runc").as_deref(), Some("1.3.4-0ubuntu1~24.04.1"));
        assert_eq!(component(&version, "nosuch"), None);
    }
}
