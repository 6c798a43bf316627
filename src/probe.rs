//! The only readers of /proc, /sys/fs/cgroup and host facts.
//!
//! A [`Meter`] belongs to one instance. The runner creates it just before the request, attaches it with a [`Scope`]
//! after the start, and reads CPU time and memory from it. [`host`] has facts about the host, [`disk`] an instance's
//! disk space, [`overlay`] its layers, [`host_isolation`] the host's side of its isolation, [`kvm`] the check of KVM,
//! [`clock`] the quality of the clock, and [`cgroup::hierarchy`] the directories for new cgroups.

pub mod cgroup;
pub mod clock;
pub mod disk;
mod file;
pub mod host;
pub mod host_isolation;
pub mod huge;
pub mod kvm;
pub mod limits;
mod meter;
pub mod overlay;
pub mod process;
mod scope;

pub use cgroup::Shortage;
pub use file::Error;
use file::{read, read_number};
pub use meter::{Meter, memory_shortage};
pub use scope::Scope;
