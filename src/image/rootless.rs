//! Refuses engines whose containers are in a user namespace: those that don't run as root, whose containers are in
//! their user's cgroups (if any) and mounts too, and those that map user ids. Such containers can't use root's image
//! and control socket, and their figures would not be comparable.

use std::path::{Path, PathBuf};

use bollard::models::SystemInfo;
use tokio::net::UnixStream;

use super::{Address, ContainerEngine, Refusal};
use crate::report::sudo_user;

/// Checks that the engine is not rootless and does not map user ids.
///
/// # Errors
/// When it is or does, with the fix.
pub async fn refuse(engine: ContainerEngine, info: &SystemInfo) -> Result<(), Refusal> {
    let address = engine.address().map_err(|unusable| unusable.refusal.clone())?;
    let user = listener(&address.uri).await.filter(|uid| *uid != 0);
    match reports(info, "rootless") || user.is_some() {
        true => Err(refusal(engine, address, user)),
        false if reports(info, "userns") => Err(Refusal {
            tried: format!("using containers of {} at {}", engine.name(), address.uri),
            why: "it maps its containers' user ids (userns-remap), so that they can't read an image or connect to \
                  bootrace as on other targets"
                .into(),
            hint: format!(
                "remove userns-remap from the engine's daemon.json, or name another engine in {}",
                engine.variable()
            ),
        }),
        false => Ok(()),
    }
}

/// Whether the engine reports this security option. Docker does; podman's answer lacks them.
fn reports(info: &SystemInfo, option: &str) -> bool {
    let named =
        |reported: &String| reported.split(',').any(|part| part.strip_prefix("name=") == Some(option));
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
    let uid = sudo_user::ids().map_or_else(|| rustix::process::geteuid().as_raw(), |(uid, _)| uid);
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
        assert!(reports(
            &info(include_str!("../target/container/samples/29/info-rootless.json")),
            "rootless"
        ));
        assert!(!reports(&info(include_str!("../target/container/samples/29/info.json")), "rootless"));
        assert!(!reports(&info(include_str!("../target/container/samples/20.10/info.json")), "rootless"));
        assert!(!reports(&info(include_str!("../target/container/samples/podman/info.json")), "rootless"));
    }

    #[test]
    fn docker_says_that_it_maps_user_ids() {
        let mut info = info(include_str!("../target/container/samples/29/info.json"));
        assert!(!reports(&info, "userns"));
        info.security_options.get_or_insert_default().push("name=userns".into());
        assert!(reports(&info, "userns") && !reports(&info, "rootless"));
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
