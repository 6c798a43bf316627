//! The workload in a container of Docker or podman, through the API that both speak.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use bollard::{
    Docker as Client,
    errors::Error as ClientError,
    models::{ContainerCreateBody, ContainerStateStatusEnum, HostConfig, HostConfigLogConfig},
    query_parameters::{
        CreateContainerOptionsBuilder, RemoveContainerOptionsBuilder, WaitContainerOptionsBuilder,
    },
};
use bootrace_agent::{
    protocol::{AGENT_PATH, HOSTNAME, NONCE_VARIABLE, SOCKET_PATH},
    surroundings::SHM_BYTES,
};
use futures_util::StreamExt;

use super::{Cpus, Error, Instance, InstanceId, Rest, Target};
pub use crate::image::ContainerEngine;
use crate::{
    cause::Cause,
    image::rootless,
    kind::Program,
    probe::{Scope, disk::Place, process},
    sample,
    scenario::{self, Init, Resources, Start},
};

mod connection;
pub(crate) mod disk;
mod error;
pub mod inspect;
pub mod left_over;
mod names;
pub(crate) mod options;
mod podman;
mod privileges;
pub(crate) mod runtime;
mod system;

pub use connection::connect_to;
use error::{cause, explain, failed, status};
pub use options::check;

/// The label of bootrace's containers; its value is the run's id.
pub const LABEL: &str = "bootrace.run";
/// Repository of images for one trial; the tag is the instance's name.
pub const TRIAL_IMAGE: &str = "bootrace-trial";

/// Checks that the engine answers and its containers can be measured.
///
/// # Errors
/// When it doesn't answer, or is rootless.
pub async fn is_measurable(engine: ContainerEngine) -> Result<(), Error> {
    let client = connect_to(engine).await?;
    let failed = |e| failed(engine, format!("asking {} what it is", engine.name()), &e);
    Ok(rootless::refuse(engine, &client.info().await.map_err(failed)?).await?)
}

pub struct Docker {
    name: String,
    engine: ContainerEngine,
    client: Client,
    image: String,
    resources: Resources,
    options: options::Resolved,
    begins: Start,
    cpus: Cpus,
    /// Set if the image's systemd is PID 1.
    systemd: Option<system::Cgroups>,
    store: disk::Store,
    versions: Versions,
}

#[derive(Default)]
struct Versions {
    engine: Option<String>,
    containerd: Option<String>,
    runc: Option<String>,
    /// Version of the containers' runtime, as the runtime reports it.
    runtime: Option<runtime::Version>,
}

impl Docker {
    /// Connects to the engine. `image` is the reference of an image that it has. `network`: a bridge network instead of
    /// none, unless the target names one.
    ///
    /// # Errors
    /// When the engine does not answer, or lacks something that the target's options name.
    pub async fn connect(
        engine: ContainerEngine,
        spec: &scenario::ScenarioTarget,
        resources: &Resources,
        network: bool,
        image: String,
    ) -> Result<Self, Error> {
        let client = connect_to(engine).await?;
        let failed = |e: ClientError| failed(engine, format!("asking {} for its version", engine.name()), &e);
        let version = client.version().await.map_err(failed)?;
        let info = client.info().await.map_err(failed)?;
        let component = |name: &str| inspect::component(&version, name);
        let options = options::resolve(engine, &client, &info, spec, network).await?;
        let versions = Versions {
            engine: version.version.clone(),
            containerd: component("containerd"),
            runc: component("runc"),
            runtime: runtime::version(options.runtime.as_deref(), &info).await,
        };
        Ok(Docker {
            name: spec.name.clone(),
            engine,
            client,
            image,
            resources: resources.clone(),
            options,
            begins: spec.start,
            cpus: Cpus::choose(&resources.cpus)?,
            systemd: match spec.docker().and_then(|docker| docker.init) {
                Some(Init::Systemd) => Some(system::Cgroups::of_this_host()?),
                Some(Init::Agent) | None => None,
            },
            store: disk::Store::of(&info),
            versions,
        })
    }
}

#[async_trait]
impl Target for Docker {
    fn info(&self) -> sample::TargetRecord {
        let address = self.engine.address().ok();
        let mut options = serde_json::json!({
            "address": address.map(|address| &address.uri),
            "context": address.and_then(|address| address.context.as_ref()),
            "cpus": self.cpus.list(),
            "start": self.begins.name(),
            "network": self.options.network,
            "log_driver": self.options.log_driver,
            "runtime": self.options.runtime,
            "runtime_version": self.versions.runtime.as_ref().map(|runtime| &runtime.version),
            "storage_driver": self.store.name,
        });
        for (key, value) in self.systemd.iter().flat_map(system::Cgroups::options) {
            options[key] = value;
        }
        sample::TargetRecord::without_vm(self.name.clone(), self.engine.kind(), options)
    }

    fn begins(&self) -> Start {
        self.begins
    }

    fn warnings(&self) -> Vec<String> {
        let podman = self.engine == ContainerEngine::Podman;
        let warning = podman.then(|| podman::ends_by_itself(&self.daemons())).flatten();
        warning.map(|warning| format!("{} {warning}", self.name)).into_iter().collect()
    }

    fn versions(&self, host: &mut sample::Host) {
        let versions = &self.versions;
        host.report(self.engine.program(), versions.engine.clone());
        host.report(Program::Containerd, versions.containerd.clone());
        host.report(Program::Runc, versions.runc.clone());
        let runtime = versions.runtime.as_ref();
        let program =
            runtime.and_then(|runtime| Program::ALL.into_iter().find(|p| p.key() == runtime.program));
        if let Some(program) = program {
            host.report(program, runtime.map(|runtime| runtime.version.clone()));
        }
    }

    fn boots(&self) -> bool {
        self.systemd.is_some()
    }

    async fn neighbours(&self, host: &mut sample::Host) {
        let running = self.client.list_containers(None).await;
        let running = running.ok().and_then(|running| u32::try_from(running.len()).ok());
        super::count_containers(host, running);
    }

    fn daemons(&self) -> Vec<u32> {
        if self.engine == ContainerEngine::Podman {
            return podman::services();
        }
        // Excludes the rootless engines of users.
        let engines = process::named_with("dockerd", &[]);
        // Excludes the containerd of others, such as k3s.
        let ours = |pid: &u32| process::parent(*pid).is_some_and(|ppid| ppid == 1 || engines.contains(&ppid));
        let containerd = process::named(&["containerd"]).into_iter().filter(ours);
        engines.iter().copied().chain(containerd).collect()
    }

    async fn stage(&self, instance_id: &InstanceId) -> Result<Box<dyn Instance>, Error> {
        let names = names::binds(&instance_id.dir, self.options.network != options::NO_NETWORK)
            .map_err(|e| Error::new(format!("staging {}", instance_id.instance), e))?;
        let config = self.config(instance_id, names);
        Ok(Box::new(Container {
            engine: self.engine,
            client: self.client.clone(),
            name: instance_id.instance.clone(),
            config,
            begins: self.begins,
            store: self.store.clone(),
            rested: false,
            systemd: self.systemd.is_some(),
            created: false,
            abandoned: false,
            creating: None,
        }))
    }
}

impl Docker {
    fn config(&self, instance_id: &InstanceId, mut binds: Vec<String>) -> ContainerCreateBody {
        binds.push(format!("{}:{SOCKET_PATH}:ro", instance_id.socket().display()));
        let memory = self.resources.memory.0 as i64;
        let mut body = ContainerCreateBody {
            image: Some(self.image.clone()),
            hostname: Some(HOSTNAME.into()),
            entrypoint: Some(vec![AGENT_PATH.into()]),
            cmd: Some(Vec::new()),
            env: Some(vec![format!("{NONCE_VARIABLE}={}", instance_id.nonce.text())]),
            labels: Some(HashMap::from([(LABEL.into(), instance_id.run.clone())])),
            stop_timeout: podman::stop_timeout(self.engine),
            host_config: Some(HostConfig {
                binds: Some(binds),
                network_mode: Some(self.options.network.clone()),
                memory: Some(memory),
                // The same limit for memory and swap together: no swap.
                memory_swap: Some(memory),
                shm_size: i64::try_from(SHM_BYTES).ok(),
                cpuset_cpus: Some(self.cpus.list()),
                // Makes the agent PID 1, whatever the engine's default is.
                init: Some(false),
                log_config: Some(HostConfigLogConfig {
                    typ: Some(self.options.log_driver.clone()),
                    config: None,
                }),
                ulimits: podman::limits(self.engine),
                userns_mode: podman::user_namespace(self.engine),
                // None: the engine's default.
                runtime: self.options.runtime.clone(),
                sysctls: self.options.sysctls(),
                cap_drop: Some(vec!["ALL".into()]),
                cap_add: Some(privileges::added(&self.resources.capabilities)),
                security_opt: Some(vec![privileges::NO_NEW_PRIVILEGES.into()]),
                // The agent ends with its stream, so a killed harness leaves no container. A container that will be
                // restarted must outlive its end.
                auto_remove: Some(self.begins != Start::Restart),
                ..HostConfig::default()
            }),
            ..ContainerCreateBody::default()
        };
        if let Some(cgroups) = &self.systemd {
            cgroups.add_to(&mut body);
        }
        body
    }
}

struct Container {
    engine: ContainerEngine,
    client: Client,
    name: String,
    config: ContainerCreateBody,
    begins: Start,
    store: disk::Store,
    /// Stopped or paused for its restart or unpause.
    rested: bool,
    systemd: bool,
    created: bool,
    /// The harness gave up the create call before its answer: the engine may still carry it out.
    abandoned: bool,
    /// How long the create call took.
    creating: Option<Duration>,
}

#[async_trait]
impl Instance for Container {
    async fn start(&mut self) -> Result<(), Error> {
        let failed =
            |what: &str, e: &ClientError| failed(self.engine, format!("{what} container {}", self.name), e);
        if self.rested {
            return match self.begins {
                Start::Unpause => {
                    self.client.unpause_container(&self.name).await.map_err(|e| failed("unpausing", &e))
                }
                Start::Create | Start::Restart | Start::Restore => {
                    self.client.start_container(&self.name, None).await.map_err(|e| failed("starting", &e))
                }
            };
        }
        let options = CreateContainerOptionsBuilder::new().name(&self.name).build();
        // From here on it may exist, even if the call is cancelled or its answer is lost.
        (self.created, self.abandoned) = (true, true);
        let config = std::mem::take(&mut self.config);
        let begun = Instant::now();
        let created = self.client.create_container(Some(options), config).await;
        self.creating = Some(begun.elapsed());
        self.abandoned = false;
        // What could not be asked made nothing.
        self.created = !created.as_ref().is_err_and(|e| cause(e) == Cause::Unreachable);
        created.map_err(|e| failed("creating", &e))?;
        self.client.start_container(&self.name, None).await.map_err(|e| failed("starting", &e))
    }

    async fn rest(&mut self) -> Result<Rest, Error> {
        let failed =
            |what: &str, e: &ClientError| failed(self.engine, format!("{what} container {}", self.name), e);
        let rest = match self.begins {
            Start::Unpause => {
                self.client.pause_container(&self.name).await.map_err(|e| failed("pausing", &e))?;
                Rest::Frozen
            }
            Start::Create | Start::Restart | Start::Restore => {
                let options = WaitContainerOptionsBuilder::new().condition("not-running").build();
                match self.client.wait_container(&self.name, Some(options)).next().await {
                    Some(Ok(_) | Err(ClientError::DockerContainerWaitError { .. })) => {}
                    Some(Err(e)) => return Err(failed("waiting for the end of", &e)),
                    None => {
                        let tried = format!("waiting for the end of container {}", self.name);
                        return Err(Error::new(tried, "Docker ended its answer early"));
                    }
                }
                Rest::Ended
            }
        };
        self.rested = true;
        Ok(rest)
    }

    fn scope(&self, leader: u32) -> Scope {
        if self.systemd {
            return system::scope(leader);
        }
        // The parent of a container's first process is its shim, with podman conmon.
        Scope { leader, engine: process::parent(leader).into_iter().collect() }
    }

    async fn disk(&mut self) -> Option<Place> {
        let container = match self.client.inspect_container(&self.name, None).await {
            Ok(container) => container,
            Err(e) => {
                tracing::debug!("showing container {}: {}", self.name, explain(&e));
                return None;
            }
        };
        Some(Place { made: self.creating, ..self.store.place(&container) })
    }

    async fn post_mortem(&mut self) -> Option<String> {
        if self.engine == ContainerEngine::Podman {
            return podman::post_mortem(&self.client, &self.name).await;
        }
        let state = self.client.inspect_container(&self.name, None).await.ok()?.state?;
        let error = state.error.filter(|e| !e.is_empty()).map(|e| format!(", {e}")).unwrap_or_default();
        // "running" explains nothing.
        let status = state.status.filter(|status| !matches!(status, ContainerStateStatusEnum::RUNNING));
        let oom = if state.oom_killed == Some(true) { ", its memory limit was met" } else { "" };
        match status {
            None if error.is_empty() => None,
            None => Some(format!("Docker says running{error}")),
            Some(status) => Some(format!("Docker says {status}{oom}{error}")),
        }
    }

    async fn remove(&mut self) -> Result<(), Error> {
        if self.created {
            if self.abandoned {
                tokio::time::sleep(std::time::Duration::from_secs(1)).await;
            }
            remove(self.engine, &self.client, &self.name).await?;
            self.created = false;
        }
        Ok(())
    }
}

/// Kills and removes a container, and returns when it is gone. Succeeds if it is gone already.
async fn remove(engine: ContainerEngine, client: &Client, name: &str) -> Result<(), Error> {
    let failed = |e: &ClientError| failed(engine, format!("removing container {name}"), e);
    let options = RemoveContainerOptionsBuilder::new().force(true).v(true).build();
    match client.remove_container(name, Some(options)).await {
        Ok(()) => Ok(()),
        Err(e) if cause(&e) == Cause::NotFound => Ok(()),
        Err(e) if podman::is_going(engine, &e) => podman::gone(client, name).await.map_err(|e| failed(&e)),
        // It has ended by itself and the engine is removing it.
        Err(e) if status(&e) == Some(409) => {
            let options = WaitContainerOptionsBuilder::new().condition("removed").build();
            match client.wait_container(name, Some(options)).next().await {
                Some(Ok(_) | Err(ClientError::DockerContainerWaitError { .. })) => Ok(()),
                Some(Err(e)) if cause(&e) == Cause::NotFound => Ok(()),
                Some(Err(e)) => Err(failed(&e)),
                None => {
                    let why = format!("{} ended its answer early", engine.name());
                    Err(Error::new(format!("removing container {name}"), why))
                }
            }
        }
        Err(e) => Err(failed(&e)),
    }
}

#[cfg(test)]
mod tests {
    use std::{io::Read, os::unix::net::UnixListener};

    use super::*;

    fn container(socket: &std::path::Path) -> Container {
        let client =
            Client::connect_with_socket(&socket.display().to_string(), 5, bollard::API_DEFAULT_VERSION);
        Container {
            engine: ContainerEngine::Docker,
            client: client.unwrap(),
            name: "bootrace-00000000-1".into(),
            config: ContainerCreateBody::default(),
            begins: Start::Create,
            store: disk::Store::of(&bollard::models::SystemInfo::default()),
            rested: false,
            systemd: false,
            created: false,
            abandoned: false,
            creating: None,
        }
    }

    #[tokio::test]
    async fn a_container_of_an_engine_that_could_not_be_asked_needs_no_removal() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("docker.sock");
        drop(UnixListener::bind(&socket).unwrap());
        let mut container = container(&socket);
        let error = container.start().await.unwrap_err();
        assert!(error.is_unreachable());
        assert_eq!(error.why, "Docker does not answer: Connection refused (os error 111)");
        container.remove().await.unwrap();
    }

    #[tokio::test]
    async fn an_engine_that_is_stopped_during_a_request_is_explained_and_the_container_may_exist() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("docker.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let stopped = std::thread::spawn(move || {
            let (mut client, _) = listener.accept().unwrap();
            client.read_exact(&mut [0; 16]).unwrap();
            // All that was sent is read: otherwise the kernel resets the connection.
            client.set_nonblocking(true).unwrap();
            let _ = client.read_to_end(&mut Vec::new());
        });
        let mut container = container(&socket);
        let error = container.start().await.unwrap_err();
        stopped.join().unwrap();
        assert_eq!(error.tried, "creating container bootrace-00000000-1");
        let reasons = ["it ended the connection before its answer was complete", "Connection reset by peer"];
        assert!(reasons.iter().any(|reason| error.why.starts_with(reason)), "{}", error.why);
        assert!(container.remove().await.unwrap_err().is_unreachable(), "it was asked for");
    }
}
