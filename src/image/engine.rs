//! Container engines for images: their addresses, clients and errors.

use std::{
    error::Error as _,
    ops::Deref,
    path::{Path, PathBuf},
    sync::OnceLock,
};

use bollard::{Docker, errors::Error as Bollard, models::SystemInfo, query_parameters::RemoveImageOptions};
use bootrace_model::foreign::tail;

use super::{
    address::{self, Address, Unusable},
    docker_config::DockerConfig,
    error::Error,
};
use crate::{
    cause::Cause,
    daemon::{self, Daemon, Place},
    kind::{Kind, Program},
    sys::{self, load::Load, users},
};

/// The longest part of an engine's message that an error shows, in bytes.
const SHOWN: usize = 500;

/// A container engine. Both speak Docker's API; this type has the differences.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContainerEngine {
    Docker,
    Podman,
}

impl ContainerEngine {
    pub const ALL: [ContainerEngine; 2] = [ContainerEngine::Docker, ContainerEngine::Podman];

    /// The name for users.
    pub fn name(self) -> &'static str {
        match self {
            ContainerEngine::Docker => "Docker",
            ContainerEngine::Podman => "podman",
        }
    }

    /// The name of its program and of its image form.
    pub fn key(self) -> &'static str {
        match self {
            ContainerEngine::Docker => "docker",
            ContainerEngine::Podman => "podman",
        }
    }

    /// The kind of its targets.
    pub fn kind(self) -> Kind {
        match self {
            ContainerEngine::Docker => Kind::Docker,
            ContainerEngine::Podman => Kind::Podman,
        }
    }

    /// Its program, for the versions in the results.
    pub fn program(self) -> Program {
        match self {
            ContainerEngine::Docker => Program::Docker,
            ContainerEngine::Podman => Program::Podman,
        }
    }

    /// The environment variable that names another address before all other settings.
    pub fn variable(self) -> &'static str {
        match self {
            ContainerEngine::Docker => "DOCKER_HOST",
            ContainerEngine::Podman => "CONTAINER_HOST",
        }
    }

    /// The address of its API. Settings are read once: a `docker context use` in mid-run moves no target.
    ///
    /// # Errors
    /// When a setting names an engine that bootrace can't use.
    pub fn address(self) -> Result<&'static Address, &'static Unusable> {
        static DOCKER: OnceLock<Result<Address, Unusable>> = OnceLock::new();
        static PODMAN: OnceLock<Result<Address, Unusable>> = OnceLock::new();
        let usual = address::Usual { name: self.name(), uri: self.usual_address() };
        let address = match self {
            ContainerEngine::Docker => {
                DOCKER.get_or_init(|| address::of_docker(&usual, sys::variable, DockerConfig::of_user))
            }
            ContainerEngine::Podman => {
                PODMAN.get_or_init(|| address::of_podman(&usual, sys::variable, podman_settings()))
            }
        };
        address.as_ref()
    }

    /// The default address of root's engine.
    pub fn usual_address(self) -> &'static str {
        match self {
            ContainerEngine::Docker => "unix:///var/run/docker.sock",
            ContainerEngine::Podman => "unix:///run/podman/podman.sock",
        }
    }

    /// The place of the daemon at [`ContainerEngine::address`].
    pub fn place(self) -> Place {
        let elsewhere = match self.address() {
            Ok(address) => address.naming.filter(|_| address.uri != self.usual_address()),
            Err(unusable) => Some(unusable.naming),
        };
        self.daemon().place(elsewhere)
    }

    /// Its daemon.
    pub fn daemon(self) -> &'static Daemon {
        match self {
            ContainerEngine::Docker => &daemon::DOCKER,
            ContainerEngine::Podman => &daemon::PODMAN,
        }
    }

    /// False if its usual socket is missing and no setting names another: then bootrace has never used it.
    pub fn may_exist(self) -> bool {
        let usual = self.usual_address().trim_start_matches("unix://");
        self.address().map_or(true, |address| address.naming.is_some()) || Path::new(usual).exists()
    }

    /// A client that has sent no request yet.
    ///
    /// # Errors
    /// When there is no socket.
    pub fn client(address: &Address) -> Result<Docker, Bollard> {
        Docker::connect_with_host(&address.uri)
    }

    /// The image name that bootrace gave: podman adds Docker's registry or `localhost` to it.
    pub fn short_name(name: &str) -> &str {
        ["docker.io/library/", "localhost/"].iter().find_map(|at| name.strip_prefix(at)).unwrap_or(name)
    }
}

/// podman's files of settings; a later one counts before the earlier.
fn podman_settings() -> Vec<PathBuf> {
    let last = sys::variable("CONTAINERS_CONF_OVERRIDE").map(PathBuf::from);
    if let Some(only) = sys::variable("CONTAINERS_CONF") {
        return [only.into()].into_iter().chain(last).collect();
    }
    let own = sys::variable("XDG_CONFIG_HOME").map(PathBuf::from);
    let own = own.or_else(|| Some(users::home()?.join(".config"))).map(|dir| dir.join("containers"));
    let mut files = vec![PathBuf::from("/usr/share/containers/containers.conf")];
    for dir in [PathBuf::from("/etc/containers")].into_iter().chain(own) {
        files.push(dir.join("containers.conf"));
        let parts = std::fs::read_dir(dir.join("containers.conf.d")).into_iter().flatten().flatten();
        let mut parts: Vec<PathBuf> = parts.map(|entry| entry.path()).collect();
        parts.retain(|part| part.extension().is_some_and(|extension| extension == "conf"));
        parts.sort();
        files.extend(parts);
    }
    files.extend(last);
    files
}

/// Whether containerd stores an engine's images, by default since Docker 29: unpacked in its snapshots, and as the
/// compressed blobs that they were unpacked from.
pub fn has_containerd_store(info: &SystemInfo) -> bool {
    let is_snapshotter = |pair: &Vec<String>| matches!(&pair[..], [key, kind] if key == "driver-type" && kind.starts_with(SNAPSHOTTER));
    info.driver_status.iter().flatten().any(is_snapshotter)
}

/// Prefix of the names of containerd's snapshot plugins and their directories.
pub const SNAPSHOTTER: &str = "io.containerd.snapshotter.";

/// A client with its engine.
#[derive(Debug, Clone)]
pub(super) struct Client {
    pub engine: ContainerEngine,
    api: Docker,
}

impl Deref for Client {
    type Target = Docker;

    fn deref(&self) -> &Docker {
        &self.api
    }
}

impl Client {
    /// Connects as the engine's own program does, and agrees on the API's version.
    ///
    /// # Errors
    /// When the engine does not answer.
    pub async fn connect(engine: ContainerEngine) -> Result<Self, Error> {
        let tried = "answer";
        let address = engine.address().map_err(|unusable| unusable.refusal.clone())?;
        let api = ContainerEngine::client(address).map_err(refused_by(engine, tried))?;
        let mut api = api.negotiate_version().await.map_err(refused_by(engine, tried))?;
        // The answer to an import or export may take as long as the image is large.
        api.set_timeout(std::time::Duration::from_secs(1800));
        Ok(Client { engine, api })
    }

    /// For `map_err`: an error with what the engine was asked to do and its reason.
    pub fn refused(&self, tried: impl Into<String>) -> impl FnOnce(Bollard) -> Error {
        refused_by(self.engine, tried)
    }

    /// Removes an image. Returns false if a container uses it, true if it is gone.
    ///
    /// # Errors
    /// When the engine does not answer or refuses otherwise.
    pub async fn remove(&self, reference: &str) -> Result<bool, Error> {
        match self.remove_image(reference, None::<RemoveImageOptions>, None).await {
            Ok(_) => Ok(true),
            Err(error) if is_not_found(&error) => Ok(true),
            Err(error) if is_conflict(&error) => Ok(false),
            Err(error) => Err(self.refused(format!("remove the image {reference}"))(error)),
        }
    }
}

/// Connects to Docker.
pub(super) async fn connect() -> Result<Client, Error> {
    Client::connect(ContainerEngine::Docker).await
}

/// For `map_err`: an error with what Docker was asked to do and its reason.
pub(super) fn refused(tried: impl Into<String>) -> impl FnOnce(Bollard) -> Error {
    refused_by(ContainerEngine::Docker, tried)
}

fn refused_by(engine: ContainerEngine, tried: impl Into<String>) -> impl FnOnce(Bollard) -> Error {
    move |error| Error::Engine { engine: engine.name(), tried: tried.into(), why: why(engine, &error) }
}

pub(super) fn is_not_found(error: &Bollard) -> bool {
    matches!(error, Bollard::DockerResponseServerError { status_code: 404, .. })
}

/// Whether the engine refused because the object is in use.
fn is_conflict(error: &Bollard) -> bool {
    matches!(error, Bollard::DockerResponseServerError { status_code: 409, .. })
}

/// The engine's message; for a failed connection the system's error with the fix.
fn why(engine: ContainerEngine, error: &Bollard) -> String {
    let fix = engine.daemon().hint(cause(error), engine.place());
    format!("{}{}", explain(error), fix.map(|fix| format!("; fix: {fix}")).unwrap_or_default())
}

/// A client's error in words for users, who know the engine and not its client.
pub fn explain(error: &Bollard) -> String {
    let text = match error {
        Bollard::DockerResponseServerError { status_code, message } if message.is_empty() => {
            format!("it answered with status {status_code}")
        }
        Bollard::DockerResponseServerError { message, .. } => message.clone(),
        Bollard::DockerStreamError { error } => error.clone(),
        Bollard::RequestTimeoutError => format!("it did not answer in time: {}", Load::now().explain()),
        Bollard::JsonDataError { message, .. } => {
            format!("its answer is none that bootrace understands: {message}")
        }
        Bollard::HyperLegacyError { .. } | Bollard::HyperResponseError { .. } | Bollard::IOError { .. } => {
            let interrupted =
                "it ended the connection before its answer was complete: was it stopped or restarted?";
            system_error(error).map_or(interrupted.into(), ToString::to_string)
        }
        other => other.to_string(),
    };
    tail(&text, SHOWN)
}

/// The operating system's error among the sources of a client's.
fn system_error(error: &Bollard) -> Option<&std::io::Error> {
    if let Bollard::IOError { err } = error {
        return Some(err);
    }
    let mut source = error.source();
    while let Some(error) = source {
        if let Some(error) = error.downcast_ref() {
            return Some(error);
        }
        source = error.source();
    }
    None
}

/// The cause of a client's error.
pub fn cause(error: &Bollard) -> Cause {
    match error {
        Bollard::SocketNotFoundError(_) => Cause::Unreachable,
        Bollard::RequestTimeoutError => Cause::TimedOut,
        Bollard::DockerResponseServerError { status_code: 404, .. } => Cause::NotFound,
        _ => system_error(error).map_or(Cause::Other, Cause::of_reaching),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_images_name_is_ours_however_podman_completed_it() {
        for name in ["docker.io/library/bootrace:1", "localhost/bootrace:1", "bootrace:1"] {
            assert_eq!(ContainerEngine::short_name(name), "bootrace:1");
        }
        assert_eq!(ContainerEngine::short_name("quay.io/library/bootrace:1"), "quay.io/library/bootrace:1");
    }
}
