//! The workload as a bare process: in a cgroup with the scenario's memory limit, bound to its CPUs, chrooted into the
//! image, and nothing else. It has no namespaces of its own, so it sees the host's network and processes.
//!
//! Its root is an overlay over the image's tree, as a container's is, so that a workload's writes disappear with it.
//! Mounting it is staging, not start-up: a bare process needs no such mount. It needs no agent either. The agent is
//! only the instrument here: it waits in the root and the cgroups, and starts the workload at the request.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use bootrace_agent::protocol::AGENT_PATH;
use rustix::{
    mount::{self, MountPropagationFlags},
    process::{WaitOptions, waitpid},
};

use super::{Cpus, Error, Instance, InstanceId, Target};
use crate::{
    kind::Kind,
    probe::{
        Scope,
        disk::{Files, Place},
    },
    sample,
    scenario::{self, Resources},
    sys::{mounts, namespaces, processes, sockets},
};

mod groups;
mod launch;
pub(super) mod root;

pub use groups::{discard as discard_cgroup, find as find_cgroups, try_out as try_cgroups};
use launch::{Agent, launch};
pub use root::Root;

/// The host's resolver configuration.
pub(super) const RESOLVER: &str = "/etc/resolv.conf";

/// Gives this thread, and all threads and processes that it starts from now on, a private mount namespace. The host
/// then never sees a bare process's root, and it disappears with the harness however that ends. Call this before the
/// async runtime starts its threads.
///
/// # Errors
/// When this process is not root.
pub fn isolate_mounts() -> Result<(), Error> {
    super::host_mounts::remember();
    let propagation = MountPropagationFlags::REC | MountPropagationFlags::DOWNSTREAM;
    namespaces::own_mounts()
        .and_then(|()| Ok(mount::mount_change("/", propagation)?))
        .map_err(|e| Error::new("making mounts of our own for the native target", needs_root(e)))
}

/// Tries whether a bare process's root can be mounted in the empty directory `dir`, and unmounts it. Call
/// [`isolate_mounts`] first.
///
/// # Errors
/// When it can't be mounted, with the fix.
pub fn try_root(dir: &Path) -> Result<(), Error> {
    let (tree, mut root) = (dir.join("tree"), Root::new(dir));
    let tried = fs::create_dir_all(&tree).and_then(|()| root.mount(&tree));
    let tried = root.unmount().and(tried);
    tried.map_err(|e| {
        let fix = match e.kind() {
            io::ErrorKind::PermissionDenied => "run bootrace on the host itself, or in a privileged container",
            // The mount loads the module where it can.
            _ if !mounts::has_file_system("overlay") => "sudo modprobe overlay",
            _ => {
                "name a directory on a disk or volume in BOOTRACE_CACHE: an overlay, such as a container's own root, \
                 can't hold another one"
            }
        };
        Error::new(format!("trying a root in the cache, {}", dir.display()), needs_root(e)).with_hint(Some(fix))
    })
}

fn needs_root(error: impl Into<io::Error>) -> String {
    let error = error.into();
    match error.kind() {
        io::ErrorKind::PermissionDenied => {
            format!("{error}. A bare process in the image's root needs root: run bootrace with sudo")
        }
        _ => error.to_string(),
    }
}

pub struct Native {
    name: String,
    tree: PathBuf,
    resources: Resources,
    cpus: Cpus,
    network: bool,
}

impl Native {
    /// `tree` is the image's unpacked root file system. `network`: also copies the host's resolver configuration; the
    /// host's network is always in sight.
    ///
    /// # Errors
    /// When the scenario's CPUs are not available.
    pub fn new(
        spec: &scenario::ScenarioTarget,
        resources: &Resources,
        network: bool,
        tree: PathBuf,
    ) -> Result<Self, Error> {
        let cpus = Cpus::choose(&resources.cpus)?;
        Ok(Native { name: spec.name.clone(), tree, resources: resources.clone(), cpus, network })
    }
}

#[async_trait]
impl Target for Native {
    fn info(&self) -> sample::TargetRecord {
        sample::TargetRecord::without_vm(
            self.name.clone(),
            Kind::Native,
            serde_json::json!({ "cpus": self.cpus.list(), "network": "host", "root": "overlay" }),
        )
    }

    fn versions(&self, _host: &mut sample::Host) {}

    fn daemons(&self) -> Vec<u32> {
        Vec::new()
    }

    async fn stage(&self, instance_id: &InstanceId) -> Result<Box<dyn Instance>, Error> {
        let mut bare = Bare {
            root: Root::new(&instance_id.dir),
            tree: self.tree.clone(),
            mounting: None,
            cgroups: Vec::new(),
            agent: None,
        };
        match bare.prepare(self, instance_id) {
            Ok(()) => Ok(Box::new(bare)),
            Err(e) => {
                let _ = bare.remove().await;
                let _ = bare.unstage().await;
                Err(Error::new(format!("staging {}", instance_id.instance), needs_root(e)))
            }
        }
    }
}

struct Bare {
    root: Root,
    tree: PathBuf,
    /// How long the mount took.
    mounting: Option<Duration>,
    cgroups: Vec<PathBuf>,
    agent: Option<Agent>,
}

impl Bare {
    fn prepare(&mut self, target: &Native, instance_id: &InstanceId) -> io::Result<()> {
        if target.network {
            self.root.write_resolver(Path::new(RESOLVER))?;
        }
        let begun = Instant::now();
        self.root.mount(&target.tree)?;
        self.mounting = Some(begun.elapsed());
        groups::make(&instance_id.instance, &target.resources, &mut self.cgroups)?;
        let channel = sockets::connect(&instance_id.socket())?;
        let launched =
            launch(&self.root.merged, &self.cgroups, target.cpus.set(), channel, &instance_id.nonce);
        let at = self.root.merged.display();
        self.agent = Some(
            launched.map_err(|e| io::Error::new(e.kind(), format!("executing {AGENT_PATH} in {at}: {e}")))?,
        );
        Ok(())
    }
}

#[async_trait]
impl Instance for Bare {
    async fn start(&mut self) -> Result<(), Error> {
        let tried = "telling the agent to start the workload";
        let agent = self.agent.as_ref().ok_or_else(|| Error::new(tried, "it is not staged"))?;
        agent.go().map_err(|e| Error::new(tried, e))
    }

    /// The leader is the agent, not `peer`: the harness itself opened the channel.
    fn scope(&self, peer: u32) -> Scope {
        let leader = self.agent.as_ref().map_or(peer, |agent| agent.pid.as_raw_pid().unsigned_abs());
        Scope { leader, engine: Vec::new() }
    }

    async fn disk(&mut self) -> Option<Place> {
        Some(Place {
            storage: "overlayfs".into(),
            image: vec![self.tree.clone()],
            instance: self.root.own(),
            made: self.mounting,
            files: Some(Files::Tree(self.tree.clone())),
        })
    }

    async fn post_mortem(&mut self) -> Option<String> {
        let pid = self.agent.as_ref()?.pid;
        let (_, status) = waitpid(Some(pid), WaitOptions::NOHANG).ok()??;
        self.agent = None;
        let how = match (status.exit_status(), status.terminating_signal()) {
            (Some(code), _) => format!("with code {code}"),
            (_, Some(signal)) => format!("by signal {signal}"),
            _ => "somehow".into(),
        };
        Some(format!("the agent ended {how}"))
    }

    async fn remove(&mut self) -> Result<(), Error> {
        let leader = self.agent.as_ref().map(|agent| agent.pid.as_raw_pid().unsigned_abs());
        for dir in &self.cgroups {
            groups::kill(dir, leader)
                .map_err(|e| Error::new(format!("ending the processes in {}", dir.display()), e))?;
        }
        if let Some(agent) = &self.agent {
            // The agent by its pidfd, in case it is not in its cgroup.
            processes::end(&agent.handle)
                .and_then(|()| Ok(waitpid(Some(agent.pid), WaitOptions::NOHANG)?))
                .map_err(|e| Error::new(format!("ending the agent, process {}", agent.pid), e))?;
            self.agent = None;
        }
        Ok(())
    }

    async fn unstage(&mut self) -> Result<(), Error> {
        // Comes first: the removal of the instance's directory must not walk into mounts.
        self.root
            .unmount()
            .map_err(|e| Error::new(format!("unmounting {}", self.root.merged.display()), e))?;
        while let Some(dir) = self.cgroups.last() {
            groups::remove(dir).map_err(|e| Error::new(format!("removing {}", dir.display()), e))?;
            self.cgroups.pop();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_says_that_root_is_needed() {
        assert!(needs_root(io::Error::from(io::ErrorKind::PermissionDenied)).contains("sudo"));
        assert!(!needs_root(io::Error::from(io::ErrorKind::NotFound)).contains("sudo"));
    }
}
