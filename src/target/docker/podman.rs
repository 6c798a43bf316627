//! Where podman is not as Docker is. It speaks Docker's API, and has no daemon that its containers would hang on: a
//! service answers at the socket, starts `conmon` for each container, and could be gone the next moment.

use std::time::Duration;

use bollard::{
    Docker as Client,
    models::{ContainerStateStatusEnum, ResourcesUlimits},
};
use tokio::time::{Instant, sleep};

use super::status;
use crate::{
    image::ContainerEngine,
    probe::{limits, process},
};

/// Signs in an error, and what mends it.
pub(super) const MENDS: [(&str, &str); 3] = [
    ("Permission denied", "run bootrace with sudo"),
    ("Socket not found", "is podman's service running? scripts/setup installs podman and starts it"),
    ("Connection refused", "is podman's service running? scripts/setup starts it"),
];

/// How long podman may take to notice that a container has ended.
const NOTICE: Duration = Duration::from_secs(2);

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

/// What is doubtful where the service ends by itself when nobody asks it for anything.
pub(super) fn ends_by_itself(services: &[u32]) -> Option<String> {
    let stays = |pid: &u32| process::arguments(*pid).windows(2).any(|two| stays(&two[0], &two[1]));
    if !services.is_empty() && services.iter().all(stays) {
        return None;
    }
    Some(
        "is at a podman whose service ends when nothing is asked of it for some seconds: samples in which it does fail. \
         Start it with podman system service --time=0, as scripts/setup does"
            .into(),
    )
}

fn stays(word: &str, next: &str) -> bool {
    let joined = |word: &str| ["--time=0", "-t=0", "-t0"].contains(&word);
    joined(word) || joined(next) || (["--time", "-t"].contains(&word) && next == "0")
}

/// What podman says of a container that is not well. It learns of an end a moment after that, and since ours are
/// removed when they end, it may then not know them any more.
pub(super) async fn post_mortem(client: &Client, name: &str) -> Option<String> {
    let deadline = Instant::now() + NOTICE;
    loop {
        let state = match client.inspect_container(name, None).await {
            Ok(container) => container.state?,
            Err(e) if status(&e) == Some(404) => {
                return Some("podman says that the container has ended and was removed".into());
            }
            Err(_) => return None,
        };
        let oom = state.oom_killed == Some(true);
        let over = state.status.filter(|status| {
            !matches!(status, ContainerStateStatusEnum::RUNNING | ContainerStateStatusEnum::EMPTY)
        });
        if let Some(over) = over {
            let code = state.exit_code.map_or(String::new(), |code| format!(", exit code {code}"));
            let oom = if oom { ", killed for lack of memory" } else { "" };
            let error = state.error.filter(|e| !e.is_empty()).map_or(String::new(), |e| format!(", {e}"));
            return Some(format!("podman says {over}{code}{oom}{error}"));
        }
        if Instant::now() >= deadline {
            return oom.then(|| "podman says running, killed for lack of memory".into());
        }
        sleep(NOTICE / 40).await;
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
    fn a_podman_of_another_host_is_refused_and_a_docker_is_its_own_matter() {
        assert!(is_local(ContainerEngine::Podman, "ssh://root@elsewhere/run/podman.sock").is_err());
        assert_eq!(is_local(ContainerEngine::Podman, "unix:///run/podman/podman.sock"), Ok(()));
        assert_eq!(is_local(ContainerEngine::Docker, "tcp://127.0.0.1:2375"), Ok(()));
    }
}
