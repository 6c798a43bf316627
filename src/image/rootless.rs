//! Refuses engines that don't run as root. A rootless engine's containers are in a user namespace, and in its user's
//! cgroups (if any) and mounts. They can't use root's image and control socket, and their figures would not be
//! comparable.

use std::path::{Path, PathBuf};

use bollard::models::SystemInfo;
use tokio::net::UnixStream;

use super::{Address, ContainerEngine, Refusal};
use crate::sys::users;

/// Checks that the engine is not rootless.
///
/// # Errors
/// When the engine is rootless, with the fix.
pub async fn refuse(engine: ContainerEngine, info: &SystemInfo) -> Result<(), Refusal> {
    let address = engine.address().map_err(|unusable| unusable.refusal.clone())?;
    let user = listener(&address.uri).await.filter(|uid| *uid != 0);
    match reports_rootless(info) || user.is_some() {
        true => Err(refusal(engine, address, user)),
        false => Ok(()),
    }
}

/// Whether the engine reports that it is rootless. Docker does; podman's answer lacks it.
fn reports_rootless(info: &SystemInfo) -> bool {
    let named = |option: &String| option.split(',').any(|part| part == "name=rootless");
    info.security_options.iter().flatten().any(named)
}

/// The uid of the process that listens at a socket of this host, from the kernel.
async fn listener(address: &str) -> Option<u32> {
    let stream = UnixStream::connect(address.strip_prefix("unix://")?).await.ok()?;
    Some(stream.peer_cred().ok()?.uid())
}

fn refusal(engine: ContainerEngine, address: &Address, user: Option<u32>) -> Refusal {
    let user = user.map_or("a user other than root".into(), |uid| format!("user {uid}"));
    let why = format!(
        "it is rootless: it runs as {user}, and its containers have cgroups, mounts and user namespaces of that \
         user's, in which bootrace can't measure as on other targets"
    );
    Refusal { tried: format!("using containers of {} at {address}", engine.name()), why, hint: fix(engine) }
}

fn fix(engine: ContainerEngine) -> String {
    let (variable, usual) = (engine.variable(), engine.usual_address());
    format!(
        "set {variable}={usual}, where root's {} answers; scripts/setup installs and starts it",
        engine.name()
    )
}

/// A hint at a rootless engine of this user, or of the sudo user, when root's engine is absent.
pub fn hint(engine: ContainerEngine) -> Option<String> {
    let uid = users::sudo_user().unwrap_or_else(|| rustix::process::geteuid().as_raw());
    let socket = found(engine, Path::new("/run/user"), uid)?;
    Some(format!("the one at {} is rootless, which bootrace does not support", socket.display()))
}

fn found(engine: ContainerEngine, users: &Path, uid: u32) -> Option<PathBuf> {
    let socket = match engine {
        ContainerEngine::Docker => "docker.sock",
        ContainerEngine::Podman => "podman/podman.sock",
    };
    Some(users.join(uid.to_string()).join(socket)).filter(|path| path.exists())
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::net::UnixListener};

    use super::*;

    fn info(text: &str) -> SystemInfo {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn docker_says_that_it_is_rootless() {
        assert!(reports_rootless(&info(include_str!("../target/container/samples/29/info-rootless.json"))));
        assert!(!reports_rootless(&info(include_str!("../target/container/samples/29/info.json"))));
        assert!(!reports_rootless(&info(include_str!("../target/container/samples/20.10/info.json"))));
        assert!(!reports_rootless(&info(include_str!("../target/container/samples/podman/info.json"))));
    }

    #[test]
    fn the_refusal_names_engine_user_reason_and_fix() {
        let at = |uri: &str| Address { uri: uri.into(), context: None, naming: None };
        let docker = at("unix:///run/user/1000/docker.sock");
        let error = refusal(ContainerEngine::Docker, &docker, Some(1000)).to_string();
        for sign in [
            "Docker at unix:///run/user/1000/docker.sock",
            "it is rootless: it runs as user 1000",
            "fix: set DOCKER_HOST=unix:///var/run/docker.sock",
        ] {
            assert!(error.contains(sign), "{error}");
        }
        let error = refusal(ContainerEngine::Podman, &at("unix:///x"), None).to_string();
        assert!(
            error.contains("a user other than root") && error.contains("CONTAINER_HOST=unix:///run/podman/")
        );
    }

    #[tokio::test]
    async fn the_kernel_reports_the_listening_user() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("engine.sock");
        let _listener = UnixListener::bind(&socket).unwrap();
        let uid = listener(&format!("unix://{}", socket.display())).await;
        assert_eq!(uid, Some(rustix::process::geteuid().as_raw()));
        assert_eq!(listener("unix:///nowhere/engine.sock").await, None);
        assert_eq!(listener("tcp://127.0.0.1:1").await, None);
    }

    #[test]
    fn a_rootless_engine_is_looked_for_at_its_users_sockets() {
        let users = tempfile::tempdir().unwrap();
        assert_eq!(found(ContainerEngine::Docker, users.path(), 1000), None);
        fs::create_dir(users.path().join("1000")).unwrap();
        fs::write(users.path().join("1000/docker.sock"), "").unwrap();
        assert!(found(ContainerEngine::Docker, users.path(), 1000).is_some());
        assert_eq!(found(ContainerEngine::Podman, users.path(), 1000), None);
    }
}
