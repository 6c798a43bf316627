//! Where podman differs from Docker. It speaks Docker's API without a daemon: a service answers at the socket, starts
//! `conmon` for each container, and may end at any time.

use std::time::Duration;

use bollard::{
    Docker as Client,
    errors::Error as ClientError,
    models::{ContainerState, ContainerStateStatusEnum, ResourcesUlimits},
};
use tokio::time::{Instant, sleep};

use super::{cause, explain};
use crate::{
    cause::Cause,
    image::ContainerEngine,
    probe::{limits, process},
    sys::load::Load,
};

/// How long to wait until podman notices a container's end, when that only adds to an error's text.
const NOTICE: Duration = Duration::from_secs(2);
/// How long to wait when the container would be left behind otherwise. On a busy host podman is slow at it.
const REMOVAL: Duration = Duration::from_secs(60);

/// Seconds between podman's SIGTERM and SIGKILL. Docker kills at once when a container is removed by force. podman
/// sends SIGTERM first, which the agent ignores as PID 1 of its namespace.
pub(super) fn stop_timeout(engine: ContainerEngine) -> Option<i64> {
    (engine == ContainerEngine::Podman).then_some(0)
}

/// The host's user namespace, whatever containers.conf says (`userns`): with mapped ids a container can't use the control
/// socket. Docker's own (userns-remap) is refused.
pub(super) fn user_namespace(engine: ContainerEngine) -> Option<String> {
    (engine == ContainerEngine::Podman).then(|| "host".into())
}

/// A container's limits of open files and processes: its service's own, as Docker's containers have their daemon's.
/// podman's defaults are higher, which root may not set if the host is itself a container.
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

/// Host pids of this user's podman services.
pub(super) fn services() -> Vec<u32> {
    process::named_with("podman", &["system", "service"])
}

/// The caveat about a service that ends by itself when it is idle.
pub(super) fn ends_by_itself(services: &[u32]) -> Option<String> {
    let runs_forever =
        |pid: &u32| process::arguments(*pid).windows(2).any(|two| runs_forever(&two[0], &two[1]));
    if !services.is_empty() && services.iter().all(runs_forever) {
        return None;
    }
    Some(
        "is at a podman whose service ends after some idle seconds: then no figure includes its restart, or the sample \
         fails. Start it with podman system service --time=0, as scripts/setup does"
            .into(),
    )
}

fn runs_forever(word: &str, next: &str) -> bool {
    let joined = |word: &str| ["--time=0", "-t=0", "-t0"].contains(&word);
    joined(word) || joined(next) || (["--time", "-t"].contains(&word) && next == "0")
}

/// podman's explanation of a container's failure. podman notices an end with a delay, and forgets the container soon
/// afterwards, since bootrace's containers are removed when they end.
pub(super) async fn post_mortem(client: &Client, name: &str) -> Option<String> {
    let deadline = Instant::now() + NOTICE;
    loop {
        let said = match client.inspect_container(name, None).await {
            Ok(container) => ended(&container.state.unwrap_or_default()),
            Err(e) if cause(&e) == Cause::NotFound => {
                return Some("podman says that the container has ended and was removed".into());
            }
            Err(e) if cause(&e) == Cause::Unreachable => return None,
            // While it removes a container, its answers vary and differ from Docker's.
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

/// How it has ended; `None` if it still runs.
fn ended(state: &ContainerState) -> Option<String> {
    let runs = |status: &ContainerStateStatusEnum| {
        matches!(status, ContainerStateStatusEnum::RUNNING | ContainerStateStatusEnum::EMPTY)
    };
    let status = state.status.filter(|status| !runs(status))?;
    let code = state.exit_code.map_or(String::new(), |code| format!(", exit code {code}"));
    let oom = if state.oom_killed == Some(true) { ", its memory limit was met" } else { "" };
    let error = state.error.as_deref().filter(|e| !e.is_empty());
    Some(format!("{status}{code}{oom}{}", error.map_or(String::new(), |e| format!(", {e}"))))
}

/// Whether podman refuses to remove a container because it is already removing it.
pub(super) fn is_going(engine: ContainerEngine, error: &ClientError) -> bool {
    let ClientError::DockerResponseServerError { status_code: 500, message } = error else { return false };
    let signs = ["no such container", "being removed", "no container with"];
    engine == ContainerEngine::Podman && signs.iter().any(|sign| message.contains(sign))
}

/// Returns when podman no longer lists the container.
pub(super) async fn gone(client: &Client, name: &str) -> Result<(), ClientError> {
    let deadline = Instant::now() + REMOVAL;
    loop {
        match client.inspect_container(name, None).await {
            Err(e) if cause(&e) == Cause::NotFound => return Ok(()),
            Err(e) if Instant::now() >= deadline => return Err(e),
            Ok(_) if Instant::now() >= deadline => {
                let why = Load::now().explain();
                let message = format!("podman still has it after {REMOVAL:?}: {why}");
                return Err(ClientError::DockerResponseServerError { status_code: 500, message });
            }
            // There is no event: this interval is the resolution of such a teardown.
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
        let runs_forever = |text: &str| words(text).windows(2).any(|two| runs_forever(&two[0], &two[1]));
        for text in [
            "podman system service --time=0 unix:///x",
            "podman system service -t 0",
            "podman system service --time 0",
        ] {
            assert!(runs_forever(text), "{text}");
        }
        for text in
            ["podman system service", "podman system service --time=5", "podman system service --time 05"]
        {
            assert!(!runs_forever(text), "{text}");
        }
        assert!(ends_by_itself(&[]).is_some(), "a missing service is started on demand");
    }

    #[test]
    fn only_ended_containers_are_reported_with_their_lack_of_memory() {
        let state = |status, oom_killed| ContainerState {
            status: Some(status),
            exit_code: Some(137),
            oom_killed: Some(oom_killed),
            ..ContainerState::default()
        };
        let (running, exited) = (ContainerStateStatusEnum::RUNNING, ContainerStateStatusEnum::EXITED);
        assert_eq!(ended(&state(running, false)), None);
        assert_eq!(ended(&state(running, true)), None, "the runner reads its cgroup");
        assert_eq!(ended(&state(exited, true)).unwrap(), "exited, exit code 137, its memory limit was met");
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
}
