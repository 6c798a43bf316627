//! One way to run the workload each: `native`, `docker`, `libvirt`, and `fake` for tests.
//!
//! A target says *where* an instance can be seen ([`Scope`]); it reads nothing itself, so that all
//! targets are measured by the same code. It takes no time stamps either: the runner stamps around
//! [`Instance::start`] and [`Instance::remove`].

use std::path::PathBuf;

use async_trait::async_trait;
use rustix::thread::{CpuSet, sched_getaffinity};

use crate::{probe::Scope, sample};

pub mod docker;
pub mod fake;
mod left_over;
pub mod libvirt;
pub mod native;

pub use left_over::{LeftOver, Thing};

/// What tells one instance from all others, and where its control socket is.
#[derive(Debug, Clone)]
pub struct Ticket {
    /// Id of the run that it belongs to.
    pub run: String,
    /// Unique on this host, fit for a container, domain, cgroup or file name.
    pub instance: String,
    /// A directory of its own that holds [`CONTROL_SOCKET`] and goes when the instance is gone.
    pub dir: PathBuf,
}

/// The control socket's name within [`Ticket::dir`]; the harness listens on it before `start`.
pub const CONTROL_SOCKET: &str = "control.sock";

impl Ticket {
    pub fn socket(&self) -> PathBuf {
        self.dir.join(CONTROL_SOCKET)
    }
}

/// One way to run the workload, with its options and image, connected to its engine.
#[async_trait]
pub trait Target: Send + Sync {
    /// What goes into the results.
    fn info(&self) -> sample::Target;

    /// Fills in the versions of the engine's programs, as they say them.
    fn versions(&self, host: &mut sample::Host);

    /// Host pids of the engine's daemons, which serve every instance; empty where there is none.
    fn daemons(&self) -> Vec<u32>;

    /// Gets an instance ready to be requested: only what no user would count as starting it.
    async fn stage(&self, ticket: &Ticket) -> Result<Box<dyn Instance>, Error>;
}

/// One running copy of the workload's parent, the agent.
#[async_trait]
pub trait Instance: Send {
    /// Requested -> started: returns when the engine's start call has returned. Measured.
    async fn start(&mut self) -> Result<(), Error>;

    /// Where its memory and CPU can be read; `leader` is the host pid at the other end of the
    /// control channel. Asks the engine nothing: that would cost CPU on the measured path.
    fn scope(&self, leader: u32) -> Scope;

    /// Why it stopped running by itself, if the engine can tell.
    async fn post_mortem(&mut self) -> Option<String>;

    /// Stopping -> gone: kills it and returns when nothing of it is left. Works in every state,
    /// also after a failed `start` and when called twice.
    async fn remove(&mut self) -> Result<(), Error>;

    /// Undoes [`Target::stage`], once removed. Not measured, as staging isn't.
    async fn unstage(&mut self) -> Result<(), Error> {
        Ok(())
    }
}

/// The CPUs that an instance is bound to, the same ones on every target: as many as the scenario says, the
/// highest-numbered that this process may use (the lowest get most interrupts). A quota would not do: for
/// shorter than its period it lets a program use every CPU of the host, and a VM has its number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cpus(Vec<usize>);

impl Cpus {
    /// # Errors
    /// When this process may not use that many.
    pub fn choose(count: u32) -> Result<Self, Error> {
        let tried = format!("binding the workload to {count} CPUs (resources.cpus)");
        let allowed = sched_getaffinity(None).map_err(|e| Error::new(&tried, e))?;
        let mut allowed: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|&cpu| allowed.is_set(cpu)).collect();
        let Some(first) = allowed.len().checked_sub(count as usize) else {
            return Err(Error::new(tried, format!("bootrace may use only {} here", allowed.len())));
        };
        Ok(Cpus(allowed.split_off(first)))
    }

    /// As the kernel, Docker and libvirt write it.
    pub fn list(&self) -> String {
        self.0.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
    }

    fn set(&self) -> CpuSet {
        let mut set = CpuSet::new();
        self.0.iter().for_each(|&cpu| set.set(cpu));
        set
    }
}

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
