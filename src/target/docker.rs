//! The workload in a Docker container, through the Engine's API.

use std::{collections::HashMap, path::PathBuf};

use async_trait::async_trait;
use bollard::{
    Docker as Client,
    errors::Error as ClientError,
    models::{ContainerCreateBody, ContainerStateStatusEnum, HostConfig, HostConfigLogConfig},
    query_parameters::{
        CreateContainerOptionsBuilder, RemoveContainerOptionsBuilder, WaitContainerOptionsBuilder,
    },
};
use bootrace_agent::protocol::{AGENT_PATH, SOCKET_PATH};
use futures_util::StreamExt;

use super::{Cpus, Error, Instance, Target, Ticket};
use crate::{
    probe::{Scope, process},
    sample,
    scenario::{self, Init, Resources},
};

pub mod inspect;
pub mod left_over;
mod options;
mod system;

pub use options::check;

/// Marks a container as ours; its value is the run's id.
pub const LABEL: &str = "bootrace.run";
/// Repository of the images that are made for a trial alone; the tag is the instance's name.
pub const TRIAL_IMAGE: &str = "bootrace-trial";

/// Connects to the Engine that DOCKER_HOST names, or to the local one.
///
/// # Errors
/// When nothing answers there, with the reason and the mend.
pub async fn connect() -> Result<Client, Error> {
    let host = std::env::var("DOCKER_HOST").unwrap_or_else(|_| "unix:///var/run/docker.sock".into());
    let tried = format!("connecting to Docker at {host}");
    let failed = |e: ClientError| {
        let why = explain(&e);
        let absent = ["Socket not found", "Connection refused"].iter().any(|sign| why.contains(sign));
        Error { absent, ..Error::new(&tried, why) }
    };
    let client = Client::connect_with_defaults().map_err(failed)?;
    let client = client.negotiate_version().await.map_err(failed)?;
    tracing::debug!(host, version = %client.client_version(), "Docker answers");
    Ok(client)
}

/// A client error with its causes (the operating system's word is the last of them) and the mend.
fn explain(error: &ClientError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(e) = cause {
        let message = e.to_string();
        if !text.contains(&message) {
            text = format!("{text}: {message}");
        }
        cause = e.source();
    }
    let mend = [
        ("Permission denied", "run bootrace with sudo, or join the docker group"),
        ("Socket not found", "is Docker installed and running? scripts/setup installs and starts it"),
        ("Connection refused", "is dockerd running? scripts/setup starts it"),
    ];
    match mend.iter().find(|(sign, _)| text.contains(sign)) {
        Some((_, mend)) => format!("{text}. {mend}"),
        None => text,
    }
}

fn status(error: &ClientError) -> Option<u16> {
    match error {
        ClientError::DockerResponseServerError { status_code, .. } => Some(*status_code),
        _ => None,
    }
}

pub struct Docker {
    name: String,
    client: Client,
    image: String,
    resources: Resources,
    options: options::Resolved,
    cpus: Cpus,
    /// Where the image's systemd is PID 1.
    systemd: Option<system::Cgroups>,
    versions: Versions,
}

#[derive(Default)]
struct Versions {
    docker: Option<String>,
    containerd: Option<String>,
    runc: Option<String>,
    storage: Option<String>,
}

impl Docker {
    /// `image` is a reference that the Engine has; `network`: bridge in place of none, unless the target names one.
    ///
    /// # Errors
    /// When the Engine does not answer, or lacks what the target's options name.
    pub async fn connect(
        spec: &scenario::Target,
        resources: &Resources,
        network: bool,
        image: String,
    ) -> Result<Self, Error> {
        let client = connect().await?;
        let failed = |e: ClientError| Error::new("asking Docker for its version", explain(&e));
        let version = client.version().await.map_err(failed)?;
        let info = client.info().await.map_err(failed)?;
        let component = |name: &str| {
            let components = version.components.iter().flatten();
            components.filter(|c| c.name == name).map(|c| c.version.clone()).next()
        };
        let versions = Versions {
            docker: version.version.clone(),
            containerd: component("containerd"),
            runc: component("runc"),
            storage: info.driver.clone(),
        };
        let options = options::resolve(&client, &info, spec, network).await?;
        Ok(Docker {
            name: spec.name.clone(),
            client,
            image,
            resources: resources.clone(),
            options,
            cpus: Cpus::choose(&resources.cpus)?,
            systemd: match spec.init {
                Some(Init::Systemd) => Some(system::Cgroups::of_this_host()?),
                Some(Init::Agent) | None => None,
            },
            versions,
        })
    }
}

#[async_trait]
impl Target for Docker {
    fn info(&self) -> sample::Target {
        let mut options = serde_json::json!({
            "cpus": self.cpus.list(),
            "network": self.options.network,
            "log_driver": self.options.log_driver,
            "runtime": self.options.runtime,
            "storage_driver": self.versions.storage,
        });
        for (key, value) in self.systemd.iter().flat_map(system::Cgroups::options) {
            options[key] = value;
        }
        sample::Target {
            name: self.name.clone(),
            kind: "docker".into(),
            accelerator: sample::Accelerator::None,
            accelerator_reason: None,
            options,
        }
    }

    fn versions(&self, host: &mut sample::Host) {
        host.docker = self.versions.docker.clone();
        host.containerd = self.versions.containerd.clone();
        host.runc = self.versions.runc.clone();
    }

    fn boots(&self) -> bool {
        self.systemd.is_some()
    }

    async fn neighbours(&self, host: &mut sample::Host) {
        let running = self.client.list_containers(None).await;
        host.other_containers = running.ok().and_then(|running| u32::try_from(running.len()).ok());
    }

    fn daemons(&self) -> Vec<u32> {
        let engines = process::named(&["dockerd"]);
        // Others, such as k3s, bring a containerd of their own.
        let ours = |pid: &u32| process::parent(*pid).is_some_and(|ppid| ppid == 1 || engines.contains(&ppid));
        let containerd = process::named(&["containerd"]).into_iter().filter(ours);
        engines.iter().copied().chain(containerd).collect()
    }

    async fn stage(&self, ticket: &Ticket) -> Result<Box<dyn Instance>, Error> {
        Ok(Box::new(Container {
            client: self.client.clone(),
            name: ticket.instance.clone(),
            config: self.config(&ticket.run, ticket.socket()),
            systemd: self.systemd.is_some(),
            created: false,
            abandoned: false,
        }))
    }
}

impl Docker {
    fn config(&self, run: &str, socket: PathBuf) -> ContainerCreateBody {
        let memory = self.resources.memory.0 as i64;
        let mut body = ContainerCreateBody {
            image: Some(self.image.clone()),
            entrypoint: Some(vec![AGENT_PATH.into()]),
            cmd: Some(Vec::new()),
            labels: Some(HashMap::from([(LABEL.into(), run.into())])),
            host_config: Some(HostConfig {
                binds: Some(vec![format!("{}:{SOCKET_PATH}:ro", socket.display())]),
                network_mode: Some(self.options.network.clone()),
                memory: Some(memory),
                // The limit is on memory, swap doesn't widen it.
                memory_swap: Some(memory),
                cpuset_cpus: Some(self.cpus.list()),
                // The agent is PID 1, whatever the Engine's default is.
                init: Some(false),
                log_config: Some(HostConfigLogConfig {
                    typ: Some(self.options.log_driver.clone()),
                    config: None,
                }),
                // None: the Engine's default.
                runtime: self.options.runtime.clone(),
                // The agent ends when its stream does, so a killed harness leaves no container.
                auto_remove: Some(true),
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
    client: Client,
    name: String,
    config: ContainerCreateBody,
    systemd: bool,
    created: bool,
    /// The create call was given up before it was answered, and may still be carried out.
    abandoned: bool,
}

#[async_trait]
impl Instance for Container {
    async fn start(&mut self) -> Result<(), Error> {
        let failed =
            |what: &str, e: &ClientError| Error::new(format!("{what} container {}", self.name), explain(e));
        let options = CreateContainerOptionsBuilder::new().name(&self.name).build();
        // From here on it may exist, also when the call is cancelled or its answer is lost.
        (self.created, self.abandoned) = (true, true);
        let config = std::mem::take(&mut self.config);
        let created = self.client.create_container(Some(options), config).await;
        self.abandoned = false;
        created.map_err(|e| failed("creating", &e))?;
        self.client.start_container(&self.name, None).await.map_err(|e| failed("starting", &e))
    }

    fn scope(&self, leader: u32) -> Scope {
        if self.systemd {
            return system::scope(leader);
        }
        // The parent of a container's first process is its shim.
        Scope { leader, engine: process::parent(leader).into_iter().collect() }
    }

    async fn post_mortem(&mut self) -> Option<String> {
        let state = self.client.inspect_container(&self.name, None).await.ok()?.state?;
        let oom = if state.oom_killed == Some(true) { ", killed for lack of memory" } else { "" };
        let error = state.error.filter(|e| !e.is_empty()).map(|e| format!(", {e}")).unwrap_or_default();
        // That the agent still runs explains nothing.
        let status = state.status.filter(|status| !matches!(status, ContainerStateStatusEnum::RUNNING));
        match status {
            None if oom.is_empty() && error.is_empty() => None,
            None => Some(format!("Docker says running{oom}{error}")),
            Some(status) => Some(format!("Docker says {status}{oom}{error}")),
        }
    }

    async fn remove(&mut self) -> Result<(), Error> {
        if self.created {
            if self.abandoned {
                tokio::time::sleep(std::time::Duration::from_secs(1)).await;
            }
            remove(&self.client, &self.name).await?;
            self.created = false;
        }
        Ok(())
    }
}

/// Kills and removes a container, and returns when it is gone; one that is gone already is fine.
async fn remove(client: &Client, name: &str) -> Result<(), Error> {
    let failed = |e: &ClientError| Error::new(format!("removing container {name}"), explain(e));
    let options = RemoveContainerOptionsBuilder::new().force(true).v(true).build();
    match client.remove_container(name, Some(options)).await {
        Ok(()) => Ok(()),
        Err(e) if status(&e) == Some(404) => Ok(()),
        // It ended by itself and the Engine is removing it.
        Err(e) if status(&e) == Some(409) => {
            let options = WaitContainerOptionsBuilder::new().condition("removed").build();
            match client.wait_container(name, Some(options)).next().await {
                Some(Ok(_) | Err(ClientError::DockerContainerWaitError { .. })) => Ok(()),
                Some(Err(e)) if status(&e) == Some(404) => Ok(()),
                Some(Err(e)) => Err(failed(&e)),
                None => {
                    Err(Error::new(format!("removing container {name}"), "Docker ended its answer early"))
                }
            }
        }
        Err(e) => Err(failed(&e)),
    }
}
