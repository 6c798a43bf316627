//! Targets, one for each way to run the workload: [`native`], [`container`] (Docker and podman), [`lxc`] and [`vm`].
//!
//! A target reports *where* an instance can be measured ([`Scope`]). It measures nothing itself, so that the same code
//! measures all targets. It takes no timestamps either: the runner takes them around [`Instance::start`] and
//! [`Instance::remove`]. (The one duration of a target's own, how long it took to provision the disk, is in
//! [`Instance::disk`].)

use std::{path::PathBuf, pin::Pin};

use async_trait::async_trait;
use rustix::thread::{CpuSet, sched_getaffinity};

use crate::{
    cause::Cause,
    control::{Greeting, Nonce},
    image::Refusal,
    probe::{Scope, disk},
    sample,
    scenario::{CpuChoice, Start},
};

pub mod container;
pub mod engine;
#[cfg(test)]
#[path = "../tests/common/fake_target.rs"]
pub mod fake;
pub mod host_mounts;
pub mod instance_name;
mod left_over;
pub mod libvirt;
pub mod lxc;
pub mod native;
pub mod vm;

pub use left_over::{LeftOver, ResourceKind, Wanted};

/// An instance's unique name, the directory of its control socket, and its nonce.
#[derive(Debug, Clone)]
pub struct InstanceId {
    /// Id of the run that it belongs to.
    pub run: String,
    /// Unique on this host, and valid as the name of a container, domain, cgroup or file.
    pub instance: String,
    /// Its own directory, which has [`CONTROL_SOCKET`] and is removed with the instance.
    pub dir: PathBuf,
    /// The secret that the target gives its agent, and nobody else.
    pub nonce: Nonce,
}

/// The control socket's name within [`InstanceId::dir`]. The harness listens on it before `start`.
pub const CONTROL_SOCKET: &str = "control.sock";

impl InstanceId {
    pub fn socket(&self) -> PathBuf {
        self.dir.join(CONTROL_SOCKET)
    }
}

/// One way to run the workload, with its options and image, connected to its engine.
#[async_trait]
pub trait Target: Send + Sync {
    /// The target's record in the results.
    fn info(&self) -> sample::TargetRecord;

    /// How its instances are started.
    fn begins(&self) -> Start {
        Start::Create
    }

    /// Caveats that are known before the first sample, each a sentence that names the target.
    fn warnings(&self) -> Vec<String> {
        Vec::new()
    }

    /// Fills in the versions of the engine's programs, as they report them.
    fn versions(&self, host: &mut sample::Host);

    /// Fills in the numbers of other containers or VMs that the engine runs before this run's first instance. A number
    /// that it does not report stays unknown.
    async fn neighbours(&self, _host: &mut sample::Host) {}

    /// When the runner sends its agent the workload.
    fn greeting(&self) -> Greeting {
        Greeting::AtOnce
    }

    /// Whether an instance boots a kernel or a systemd, so that its agent can report the parts of the boot.
    fn boots(&self) -> bool {
        false
    }

    /// Host pids of the engine's daemons, which serve all instances; empty if it has none.
    fn daemons(&self) -> Vec<u32>;

    /// Prepares an instance for its request. Does only what a user would not count as part of its start.
    ///
    /// # Errors
    /// When its directory, disk or mounts can't be prepared, or the engine does not answer.
    async fn stage(&self, instance_id: &InstanceId) -> Result<Box<dyn Instance>, Error>;
}

/// One instance: the agent with the workload, in the target's environment.
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
        Err(Error::new("preparing a restart or resume", "this target has none"))
    }

    /// Where its memory and CPU can be read. `leader` is the host pid at the other end of the control channel. Must not
    /// ask the engine, which would cost CPU time on the measured path.
    fn scope(&self, leader: u32) -> Scope;

    /// Where its disk is, while it runs. May ask the engine: the runner calls it off the measured path. `None` if the
    /// target does not know; the sample then has no figures of its disk.
    async fn disk(&mut self) -> Option<disk::Place> {
        None
    }

    /// A future that completes when the engine reports by itself that the instance has ended, with the reason. The
    /// runner calls this once before each `start`. The future must cost nothing until then. `None` if the end of the
    /// control channel says as much.
    fn ended(&mut self) -> Option<EndNotice> {
        None
    }

    /// The engine's reason why it ended by itself; `None` if the engine has none.
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

/// How an instance waits for its restart or resume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rest {
    /// Paused: its processes exist and its control channel is open.
    Frozen,
    /// Ended: it will connect again.
    Ended,
}

/// Completes with the engine's report of an instance's end.
pub type EndNotice = Pin<Box<dyn Future<Output = String> + Send>>;

/// The CPUs that instances are bound to, the same ones on all targets: those that the scenario lists, or the number
/// that it gives, taken from the highest-numbered that this process may use (the lowest get most interrupts). A quota
/// is no substitute: within its period a program may use all CPUs of the host, while a VM has a fixed number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cpus(Vec<usize>);

impl Cpus {
    /// # Errors
    /// When this process may not use that many CPUs, or one of the list.
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

    /// The list in the form of the kernel, Docker and libvirt, such as `2,3`.
    pub fn list(&self) -> String {
        joined(&self.0)
    }

    /// Number of CPUs; a VM has as many vCPUs.
    fn count(&self) -> usize {
        self.0.len()
    }

    /// The set in the form of the kernel's calls.
    pub fn set(&self) -> CpuSet {
        let mut set = CpuSet::new();
        self.0.iter().for_each(|&cpu| set.set(cpu));
        set
    }
}

fn joined(cpus: &[usize]) -> String {
    cpus.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

/// Adds an engine's running containers to those of other engines. Call it once for each engine.
fn count_containers(host: &mut sample::Host, running: Option<u32>) {
    if let Some(running) = running {
        host.other_containers = Some(host.other_containers.unwrap_or(0).saturating_add(running));
    }
}

/// An engine failed to do something.
#[derive(Debug, thiserror::Error)]
#[error("{tried}: {why}{}", .hint.as_ref().map_or(String::new(), |hint| format!("; fix: {hint}")))]
pub struct Error {
    /// What bootrace tried, on what.
    pub tried: String,
    /// The engine's reason.
    pub why: String,
    /// The kind of failure, on which the program decides.
    pub cause: Cause,
    /// The fix, if it is known.
    pub hint: Option<String>,
}

impl Error {
    pub fn new(tried: impl Into<String>, why: impl ToString) -> Self {
        Error { tried: tried.into(), why: why.to_string(), cause: Cause::Other, hint: None }
    }

    /// Sets the cause.
    pub fn by(self, cause: Cause) -> Self {
        Error { cause, ..self }
    }

    /// Sets the fix, if there is one.
    pub fn with_hint(self, hint: Option<impl Into<String>>) -> Self {
        Error { hint: hint.map(Into::into).or(self.hint), ..self }
    }

    /// The error's text without the fix, for output that shows the fix separately.
    pub fn without_hint(&self) -> String {
        format!("{}: {}", self.tried, self.why)
    }

    /// Whether the engine is absent: no socket, or no process that listens at it.
    pub fn is_unreachable(&self) -> bool {
        self.cause == Cause::Unreachable
    }
}

impl From<Refusal> for Error {
    fn from(refused: Refusal) -> Self {
        Error::new(refused.tried, refused.why).with_hint(Some(refused.hint))
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
