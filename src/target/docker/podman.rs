//! Where podman is not as Docker is. It speaks Docker's API, and has no daemon that its containers would hang on: a
//! service answers at the socket, starts `conmon` for each container, and could be gone the next moment.

use std::time::Duration;

use bollard::{
    Docker as Client,
    errors::Error as ClientError,
    models::{ContainerState, ContainerStateStatusEnum, ResourcesUlimits},
};
use tokio::time::{Instant, sleep};

use super::{explain, status};
use crate::{
    image::ContainerEngine,
    probe::{limits, process},
};

/// How long podman may take to notice that a container has ended, where that only adds to what is said of it.
const NOTICE: Duration = Duration::from_secs(2);
/// And where it would be left behind. On a busy host podman takes its time for it.
const REMOVAL: Duration = Duration::from_secs(60);

/// The address of a podman whose processes can be read on this host.
pub(super) fn is_local(engine: ContainerEngine, address: &str) -> Result<(), String> {
    if engine == ContainerEngine::Docker || address.starts_with("unix://") {
        return Ok(());
    }
    Err("it is no socket of this host, and the container's processes are read here: name one in CONTAINER_HOST, as \
         in unix:///run/podman/podman.sock, or unset it"
        .into())
}

/// Seconds between asking a container to stop and killing it. Docker kills at once what is removed by force; podman
/// asks first, and the agent, being its namespace's PID 1, would not hear that.
pub(super) fn stop_timeout(engine: ContainerEngine) -> Option<i64> {
    (engine == ContainerEngine::Podman).then_some(0)
}

/// A container's limits of open files and processes: its service's own, as Docker's containers have their daemon's. By
/// itself podman gives more of both, which takes a right that root lacks where the host is itself a container.
pub(super) fn limits(engine: ContainerEngine) -> Option<Vec<ResourcesUlimits>> {
    if engine == ContainerEngine::Docker {
        return None;
    }
    let limits = limits::of(*services().first()?).ok()?;
    let number = |limit: Option<u64>| Some(limit.and_then(|limit| i64::try_from(limit).ok()).unwrap_or(-1));
    let named = |name: &str, limit: limits::Limit| ResourcesUlimits {
        name: Some(name.into()),
        soft: number(limit.soft),
        hard: number(limit.hard),
    };
    Some(vec![named("nofile", limits.files), named("nproc", limits.processes)])
}

/// Host pids of the services of this user's.
pub(super) fn services() -> Vec<u32> {
    process::named_with("podman", &["system", "service"])
}

/// The caveat of a service that ends by itself when nobody asks it for anything.
pub(super) fn ends_by_itself(services: &[u32]) -> Option<String> {
    let stays = |pid: &u32| process::arguments(*pid).windows(2).any(|two| stays(&two[0], &two[1]));
    if !services.is_empty() && services.iter().all(stays) {
        return None;
    }
    Some(
        "is at a podman whose service ends when nothing is asked of it for some seconds: what it costs to start it anew is then in no figure, or the \
         sample fails.          Start it with podman system service --time=0, as scripts/setup does"
            .into(),
    )
}

fn stays(word: &str, next: &str) -> bool {
    let joined = |word: &str| ["--time=0", "-t=0", "-t0"].contains(&word);
    joined(word) || joined(next) || (["--time", "-t"].contains(&word) && next == "0")
}

/// What podman says of a container that is not well. It learns of an end a moment after that, and since ours are
/// removed when they end, it then soon doesn't know them any more.
pub(super) async fn post_mortem(client: &Client, name: &str) -> Option<String> {
    let deadline = Instant::now() + NOTICE;
    loop {
        let said = match client.inspect_container(name, None).await {
            Ok(container) => ended(&container.state.unwrap_or_default()),
            Err(e) if status(&e) == Some(404) => {
                return Some("podman says that the container has ended and was removed".into());
            }
            // In the middle of removing one it says this or that, and not always in Docker's words.
            Err(e) if Instant::now() >= deadline => Some(explain(&e)),
            Err(_) => None,
        };
        if let Some(said) = said {
            return Some(format!("podman says {said}"));
        }
        if Instant::now() >= deadline {
            return None;
        }
        sleep(NOTICE / 40).await;
    }
}

/// How it has ended; none for one that runs and has memory.
fn ended(state: &ContainerState) -> Option<String> {
    let runs = |status: &ContainerStateStatusEnum| {
        matches!(status, ContainerStateStatusEnum::RUNNING | ContainerStateStatusEnum::EMPTY)
    };
    let oom = state.oom_killed == Some(true);
    let status = state.status.filter(|status| oom || !runs(status))?;
    let code = state.exit_code.filter(|_| !runs(&status));
    let code = code.map_or(String::new(), |code| format!(", exit code {code}"));
    let oom = if oom { ", killed for lack of memory" } else { "" };
    let error = state.error.as_deref().filter(|e| !e.is_empty());
    Some(format!("{status}{code}{oom}{}", error.map_or(String::new(), |e| format!(", {e}"))))
}

/// Whether podman would not remove a container because it is just removing it, having seen its end.
pub(super) fn is_going(engine: ContainerEngine, error: &ClientError) -> bool {
    let ClientError::DockerResponseServerError { status_code: 500, message } = error else { return false };
    let signs = ["no such container", "being removed", "no container with"];
    engine == ContainerEngine::Podman && signs.iter().any(|sign| message.contains(sign))
}

/// Returns when podman doesn't know the container any more.
pub(super) async fn gone(client: &Client, name: &str) -> Result<(), ClientError> {
    let deadline = Instant::now() + REMOVAL;
    loop {
        match client.inspect_container(name, None).await {
            Err(e) if status(&e) == Some(404) => return Ok(()),
            Err(e) if Instant::now() >= deadline => return Err(e),
            Ok(_) if Instant::now() >= deadline => {
                let message = format!("it is still there after {REMOVAL:?}: podman is busy or hangs");
                return Err(ClientError::DockerResponseServerError { status_code: 500, message });
            }
            // No event tells: this is the resolution of such a teardown.
            _ => sleep(Duration::from_millis(2)).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_stays_only_where_its_time_is_none() {
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let stays = |text: &str| words(text).windows(2).any(|two| stays(&two[0], &two[1]));
        for text in [
            "podman system service --time=0 unix:///x",
            "podman system service -t 0",
            "podman system service --time 0",
        ] {
            assert!(stays(text), "{text}");
        }
        for text in
            ["podman system service", "podman system service --time=5", "podman system service --time 05"]
        {
            assert!(!stays(text), "{text}");
        }
        assert!(ends_by_itself(&[]).is_some(), "who isn't there yet is started when it is asked");
    }

    #[test]
    fn only_what_has_ended_or_lacks_memory_is_told() {
        let state = |status, oom_killed| ContainerState {
            status: Some(status),
            exit_code: Some(137),
            oom_killed: Some(oom_killed),
            ..ContainerState::default()
        };
        let (running, exited) = (ContainerStateStatusEnum::RUNNING, ContainerStateStatusEnum::EXITED);
        assert_eq!(ended(&state(running, false)), None);
        assert_eq!(ended(&state(running, true)).unwrap(), "running, killed for lack of memory");
        assert_eq!(ended(&state(exited, false)).unwrap(), "exited, exit code 137");
        assert_eq!(ended(&ContainerState::default()), None);
    }

    #[test]
    fn a_container_that_podman_is_removing_is_on_its_way() {
        let error = |status_code, message: &str| ClientError::DockerResponseServerError {
            status_code,
            message: message.into(),
        };
        let going = "container 4825 does not exist in database: no such container";
        assert!(is_going(ContainerEngine::Podman, &error(500, going)));
        assert!(!is_going(ContainerEngine::Docker, &error(500, going)));
        assert!(!is_going(ContainerEngine::Podman, &error(500, "no space left on device")));
    }

    #[test]
    fn a_podman_of_another_host_is_refused_and_a_docker_is_its_own_matter() {
        assert!(is_local(ContainerEngine::Podman, "ssh://root@elsewhere/run/podman.sock").is_err());
        assert_eq!(is_local(ContainerEngine::Podman, "unix:///run/podman/podman.sock"), Ok(()));
        assert_eq!(is_local(ContainerEngine::Docker, "tcp://127.0.0.1:2375"), Ok(()));
    }
}
