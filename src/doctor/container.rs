//! Docker and podman: whether they answer, what they offer, and a container in each.

use std::{path::PathBuf, time::Duration};

use async_trait::async_trait;

use super::{Check, Diagnosis, Trials, asking, storage};
use crate::{
    image::ContainerEngine,
    target::container::inspect::{self, Engine, OLDEST_API},
};

/// The names of an engine's checks, and what differs between the engines.
struct Names {
    id: &'static str,
    /// Stable id of the trial, and its title.
    trial: (&'static str, &'static str),
    /// Stable id of the check of its storage, and its title.
    space: (&'static str, &'static str),
    /// The fix for storage that is full.
    prune: &'static str,
}

static DOCKER: Names = Names {
    id: "docker",
    trial: ("docker.trial", "a container"),
    space: ("space.docker", "space for Docker"),
    prune: "bootrace image prune, then docker image rm NAME (docker system df -v lists the names), or another directory: \
            data-root in /etc/docker/daemon.json; for containerd's images root in /etc/containerd/config.toml",
};

static PODMAN: Names = Names {
    id: "podman",
    trial: ("podman.trial", "a podman container"),
    space: ("space.podman", "space for podman"),
    prune: "bootrace image prune, then podman image rm NAME (podman system df -v lists the names), or another directory: \
            graphroot in /etc/containers/storage.conf",
};

pub struct Containers {
    engine: ContainerEngine,
    names: &'static Names,
    check: Check,
    /// `None` if the engine does not answer.
    answer: Option<Engine>,
}

/// Asks a container engine.
pub async fn ask(engine: ContainerEngine, patience: Duration) -> Containers {
    let names = match engine {
        ContainerEngine::Docker => &DOCKER,
        ContainerEngine::Podman => &PODMAN,
    };
    let (id, title, kind) = (names.id, engine.name(), engine.kind());
    let with = |check, answer| Containers { engine, names, check, answer };
    if !kind.is_standard() && !engine.may_exist() {
        let socket = engine.usual_address().trim_start_matches("unix://");
        let found = format!("there is no {socket}: only targets with kind = \"{kind}\" need it");
        return with(Check::absent(id, title, found, &[kind]).fix("scripts/setup"), None);
    }
    match asking::ask(patience, inspect::inspect(engine)).await {
        Ok(answer) => with(Check::ok(id, title, describe(engine, &answer)), Some(answer)),
        Err(error) => {
            let (found, fix) = error.explain(engine.daemon(), engine.place(), patience);
            with(Check::failed(id, title, found, &[kind]).fix(fix), None)
        }
    }
}

fn describe(engine: ContainerEngine, answer: &Engine) -> String {
    let (major, minor) = answer.api;
    let or_unknown = |text: &Option<String>| text.clone().unwrap_or_else(|| "unknown".into());
    let (name, version, storage) = (engine.name(), or_unknown(&answer.version), or_unknown(&answer.storage));
    let facts = match engine {
        ContainerEngine::Docker => {
            format!("storage driver {storage}, cgroup version {}", or_unknown(&answer.cgroup_version))
        }
        ContainerEngine::Podman => {
            format!("runtime {}, storage driver {storage}", or_unknown(&answer.runtime))
        }
    };
    let at = engine.address().map(|address| format!(", at {address}")).unwrap_or_default();
    format!("{name} {version}, API {major}.{minor}, {facts}{at}")
}

#[async_trait(?Send)]
impl Diagnosis for Containers {
    fn found(&self) -> String {
        match (self.engine, self.answer.as_ref().and_then(|answer| answer.version.as_ref())) {
            (ContainerEngine::Docker, Some(version)) => format!("Docker {version}"),
            (ContainerEngine::Docker, None) => "it answers".into(),
            (ContainerEngine::Podman, _) => self.check.found.clone(),
        }
    }

    fn quick_check(&self) -> Vec<Check> {
        vec![self.check.clone()]
    }

    async fn examine(&self, trials: &Trials<'_>) -> Vec<Check> {
        let mut checks = self.quick_check();
        let Some(answer) = &self.answer else { return checks };
        if self.engine == ContainerEngine::Docker {
            checks.extend([api(answer), limits(answer)]);
        }
        let (id, title) = self.names.trial;
        checks.push(match trials.bench {
            Ok(bench) => bench.container(self.engine, id, title).await,
            Err(why) => Check::not_checked(id, title, why),
        });
        checks
    }

    fn space(&self, have_image: bool) -> Option<Check> {
        let (id, title) = self.names.space;
        let root: Option<PathBuf> = self.answer.as_ref().and_then(|answer| answer.root.clone());
        let kind = self.engine.kind();
        match root {
            Some(root) if root.exists() => {
                Some(storage::room(id, title, &root, have_image, &[kind], self.names.prune))
            }
            Some(root) => {
                Some(Check::not_checked(id, title, format!("{} is not on this host", root.display())))
            }
            None if self.answer.is_some() => {
                let name = self.engine.name();
                let found = format!(
                    "{name} does not report the directory of its images; only root can see that of containerd"
                );
                Some(Check::not_checked(id, title, found))
            }
            None if kind.is_standard() => {
                Some(Check::not_checked(id, title, format!("{} does not answer", self.engine.name())))
            }
            None => None,
        }
    }
}

/// Whether bootrace is tested with its API.
fn api(engine: &Engine) -> Check {
    let (id, title) = ("docker.api", "Docker's API");
    let (major, minor) = engine.api;
    let (least_major, least_minor) = OLDEST_API;
    if engine.api >= OLDEST_API {
        let found = format!("{major}.{minor}; bootrace needs {least_major}.{least_minor} or later");
        return Check::ok(id, title, found);
    }
    let found = format!(
        "{major}.{minor}: older than {least_major}.{least_minor}, the oldest that bootrace is tested with"
    );
    Check::warning(id, title, found).fix("install Docker 20.10 or later")
}

/// Whether it can limit its containers.
fn limits(engine: &Engine) -> Check {
    let (id, title) = ("docker.limits", "Docker's limits");
    let concern = |warning: &&String| {
        let warning = warning.to_lowercase();
        ["memory limit", "swap limit", "cpuset"].iter().any(|limit| warning.contains(limit))
    };
    let warnings: Vec<&str> = engine.warnings.iter().filter(concern).map(String::as_str).collect();
    if warnings.is_empty() {
        return Check::ok(id, title, "Docker can limit memory, swap and CPUs");
    }
    Check::warning(id, title, warnings.join("; ")).fix(
        "boot with cgroup_enable=memory swapaccount=1 if the kernel has them off; in a container, run it with \
         --privileged and --cgroupns=host",
    )
}

#[cfg(test)]
mod tests {
    use super::{super::Status, *};

    #[test]
    fn an_old_api_and_a_missing_limit_are_warnings_and_other_complaints_are_not() {
        let engine = Engine {
            api: (1, 40),
            warnings: vec![
                "WARNING: No swap limit support".into(),
                "WARNING: No blkio weight support".into(),
            ],
            ..Engine::default()
        };
        let checks = [api(&engine), limits(&engine)];
        assert!(checks.iter().all(|check| check.status == Status::Warning && check.fix.is_some()));
        assert!(checks[0].found.starts_with("1.40: older than 1.41"));
        assert_eq!(checks[1].found, "WARNING: No swap limit support");
        let engine = Engine { api: (1, 41), ..Engine::default() };
        assert!([api(&engine), limits(&engine)].iter().all(|check| check.status == Status::Ok));
    }
}
