//! One way to run the workload each: `native`, `docker` (podman too), `libvirt` (LXC too), and `fake` for tests.
//!
//! A target says *where* an instance can be seen ([`Scope`]); it reads nothing itself, so that all
//! targets are measured by the same code. It takes no time stamps either: the runner stamps around
//! [`Instance::start`] and [`Instance::remove`]. (How long making its own disk took is a difference, in
//! [`Instance::disk`].)

use std::{path::PathBuf, pin::Pin};

use async_trait::async_trait;
use rustix::thread::{CpuSet, sched_getaffinity};

use crate::{
    control::Greeting,
    image::rootless::Rootless,
    probe::{Scope, disk},
    sample,
    scenario::{CpuChoice, Start},
};

pub mod docker;
pub mod engine;
pub mod fake;
pub mod host_mounts;
mod left_over;
pub mod libvirt;
pub mod native;

pub use left_over::{LeftOver, ResourceKind};

/// What tells one instance from all others, and where its control socket is.
#[derive(Debug, Clone)]
pub struct InstanceId {
    /// Id of the run that it belongs to.
    pub run: String,
    /// Unique on this host, fit for a container, domain, cgroup or file name.
    pub instance: String,
    /// A directory of its own that holds [`CONTROL_SOCKET`] and goes when the instance is gone.
    pub dir: PathBuf,
}

/// The control socket's name within [`InstanceId::dir`]; the harness listens on it before `start`.
pub const CONTROL_SOCKET: &str = "control.sock";

impl InstanceId {
    pub fn socket(&self) -> PathBuf {
        self.dir.join(CONTROL_SOCKET)
    }
}

/// One way to run the workload, with its options and image, connected to its engine.
#[async_trait]
pub trait Target: Send + Sync {
    /// What goes into the results.
    fn info(&self) -> sample::TargetRecord;

    /// How its instances are started.
    fn begins(&self) -> Start {
        Start::Create
    }

    /// Caveats that are known before the first figure, each a sentence that names the target.
    fn warnings(&self) -> Vec<String> {
        Vec::new()
    }

    /// Fills in the versions of the engine's programs, as they say them.
    fn versions(&self, host: &mut sample::Host);

    /// Fills in what the engine runs before any instance of this run: containers or VMs of others. What it won't
    /// tell stays unknown.
    async fn neighbours(&self, _host: &mut sample::Host) {}

    /// When its agent is sent what to start.
    fn greeting(&self) -> Greeting {
        Greeting::AtOnce
    }

    /// Whether an instance boots something of which its agent can tell the parts: a kernel, or a systemd.
    fn boots(&self) -> bool {
        false
    }

    /// Host pids of the engine's daemons, which serve every instance; empty where there is none.
    fn daemons(&self) -> Vec<u32>;

    /// Prepares an instance for its request. Does only what a user would not count as part of its start.
    ///
    /// # Errors
    /// When its directory, disk or mounts can't be prepared, or the engine does not answer.
    async fn stage(&self, instance_id: &InstanceId) -> Result<Box<dyn Instance>, Error>;
}

/// One running copy of the workload's parent, the agent.
#[async_trait]
pub trait Instance: Send {
    /// Requested -> started: returns when the engine's start call has returned. The runner measures it. After
    /// [`Instance::rest`] it is the restart or resume.
    ///
    /// # Errors
    /// When the engine refuses or fails to start the instance.
    async fn start(&mut self) -> Result<(), Error>;

    /// Brings an instance that was ready into the state from which the target restarts or resumes it. Before a
    /// [`Start::Restart`] the runner has asked the agent to stop. Not measured.
    ///
    /// # Errors
    /// When the target has no such start, or the engine fails to pause, save or stop the instance.
    async fn rest(&mut self) -> Result<Rest, Error> {
        Err(Error::new("preparing a second start", "this target has none"))
    }

    /// Where its memory and CPU can be read; `leader` is the host pid at the other end of the
    /// control channel. Asks the engine nothing: that would cost CPU on the measured path.
    fn scope(&self, leader: u32) -> Scope;

    /// Where its disk is, once it runs. May ask the engine: it is called off the measured path. None where the target
    /// can't tell; then nothing is said of its disk.
    async fn disk(&mut self) -> Option<disk::Place> {
        None
    }

    /// Comes when the engine says by itself that the instance runs no more, and says how; asked for once before
    /// each `start`. It must cost nothing until then. None where the end of the control channel says as much.
    fn ended(&mut self) -> Option<Ended> {
        None
    }

    /// Why it stopped running by itself, if the engine can tell.
    async fn post_mortem(&mut self) -> Option<String>;

    /// Stopping -> gone: kills the instance and returns when nothing of it is left. Works in every state, also after a
    /// failed `start` and on a second call.
    ///
    /// # Errors
    /// When something of the instance is left, or the engine does not answer.
    async fn remove(&mut self) -> Result<(), Error>;

    /// Undoes [`Target::stage`] after [`Instance::remove`]. Not measured, like staging.
    ///
    /// # Errors
    /// When a mount or file of the staging can't be removed.
    async fn unstage(&mut self) -> Result<(), Error> {
        Ok(())
    }
}

/// How an instance waits for its second start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rest {
    /// Its processes are there, and its control channel is open.
    Frozen,
    /// It runs no more: it will connect anew.
    Ended,
}

/// The end of an instance, in its engine's words.
pub type Ended = Pin<Box<dyn Future<Output = String> + Send>>;

/// The CPUs that an instance is bound to, the same ones on every target: those that the scenario lists, or as many
/// as it says, the highest-numbered that this process may use (the lowest get most interrupts). A quota would not
/// do: for shorter than its period it lets a program use every CPU of the host, and a VM has its number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cpus(Vec<usize>);

impl Cpus {
    /// # Errors
    /// When this process may not use that many, or not these.
    pub fn choose(wanted: &CpuChoice) -> Result<Self, Error> {
        let tried = match wanted {
            CpuChoice::Count(count) => format!("binding the workload to {count} CPUs (resources.cpus)"),
            CpuChoice::List(_) => {
                format!("binding the workload to CPUs {wanted} of the host (resources.cpus)")
            }
        };
        let allowed = sched_getaffinity(None).map_err(|e| Error::new(&tried, e))?;
        let allowed = (0..CpuSet::MAX_CPU).filter(|&cpu| allowed.is_set(cpu)).collect();
        Self::choose_of(wanted, allowed).map_err(|why| Error::new(tried, why))
    }

    fn choose_of(wanted: &CpuChoice, mut allowed: Vec<usize>) -> Result<Self, String> {
        match wanted {
            CpuChoice::Count(count) => match allowed.len().checked_sub(*count as usize) {
                Some(first) => Ok(Cpus(allowed.split_off(first))),
                None => Err(format!("bootrace may use only {} here", allowed.len())),
            },
            CpuChoice::List(list) => {
                let (usable, not): (Vec<usize>, Vec<usize>) =
                    list.cpus().iter().partition(|cpu| allowed.contains(cpu));
                if not.is_empty() {
                    return Ok(Cpus(usable));
                }
                Err(format!(
                    "CPU {} is not on this host, or not for bootrace: it may use {} here. Name some of these, or start \
                     it where it may use the others (taskset, the container's cpuset)",
                    joined(&not),
                    joined(&allowed)
                ))
            }
        }
    }

    /// As the kernel, Docker and libvirt write it.
    pub fn list(&self) -> String {
        joined(&self.0)
    }

    /// As many vCPUs has a VM.
    fn count(&self) -> usize {
        self.0.len()
    }

    /// As the kernel's calls take it.
    pub fn set(&self) -> CpuSet {
        let mut set = CpuSet::new();
        self.0.iter().for_each(|&cpu| set.set(cpu));
        set
    }
}

fn joined(cpus: &[usize]) -> String {
    cpus.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

/// Adds an engine's running containers to those of the others. To be done once for each engine.
fn count_containers(host: &mut sample::Host, running: Option<u32>) {
    if let Some(running) = running {
        host.other_containers = Some(host.other_containers.unwrap_or(0).saturating_add(running));
    }
}

/// What whoever may not do something of a run is to know at once, whatever it was.
pub const NEEDS_ROOT: &str = "a run needs root, whatever its targets: sudo bootrace run";

/// An engine would not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[error("{tried}: {why}")]
pub struct Error {
    /// What was tried, on what.
    pub tried: String,
    /// Why it failed, and what to do where that is known.
    pub why: String,
    /// True when nothing was there to be asked: no socket, or nobody who listens at it.
    pub absent: bool,
}

impl Error {
    pub fn new(tried: impl Into<String>, why: impl ToString) -> Self {
        Error { tried: tried.into(), why: why.to_string(), absent: false }
    }
}

impl From<Rootless> for Error {
    fn from(refused: Rootless) -> Self {
        Error::new(refused.tried, refused.why)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choose(wanted: &CpuChoice) -> Result<String, String> {
        Cpus::choose_of(wanted, vec![0, 1, 4, 5]).map(|cpus| cpus.list())
    }

    #[test]
    fn a_count_takes_the_highest_numbered_that_are_allowed() {
        assert_eq!(choose(&CpuChoice::Count(3)).unwrap(), "1,4,5");
        assert_eq!(choose(&CpuChoice::Count(5)).unwrap_err(), "bootrace may use only 4 here");
    }

    #[test]
    fn a_list_takes_exactly_its_cpus_and_names_those_that_are_not_to_be_had() {
        let choose = |list: &str| choose(&CpuChoice::List(list.parse().unwrap()));
        assert_eq!(choose("4,0-1").unwrap(), "0,1,4");
        let refused = choose("1-3").unwrap_err();
        assert!(
            refused.starts_with("CPU 2,3 is not on this host, or not for bootrace: it may use 0,1,4,5 here")
        );
    }
}
