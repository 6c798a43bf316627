//! The resources of an instance on the host, for the search for left-overs.

use std::{fmt, sync::Arc};

use serde::Serialize;

use crate::kind::Kind;

/// Selects instances by name.
pub type Wanted = Arc<dyn Fn(&str) -> bool + Send + Sync>;

/// A resource on the host that carries an instance's label or name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LeftOver {
    pub kind: ResourceKind,
    /// The kind of target whose engine has it; `None` if the host has it.
    pub engine: Option<Kind>,
    /// Its name, or its path.
    pub name: String,
    /// The instance that it belongs to; the name contains the run's tag.
    pub instance: String,
}

/// The kinds of resources that an instance has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ResourceKind {
    Container,
    /// An image made for one trial.
    Image,
    Domain,
    /// libvirt's log of QEMU's output.
    Log,
    /// A process that has left its instance's cgroup.
    Process,
    Cgroup,
    /// The mounted root of a libvirt container.
    Mount,
    /// An instance's directory.
    Files,
    /// The lock of a running run.
    Lock,
}

impl fmt::Display for LeftOver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            ResourceKind::Container => "container",
            ResourceKind::Image => "image",
            ResourceKind::Domain => "domain",
            ResourceKind::Mount => "mount",
            ResourceKind::Log => "log",
            ResourceKind::Process => "process",
            ResourceKind::Cgroup => "cgroup",
            ResourceKind::Files => "files",
            ResourceKind::Lock => "lock",
        };
        // "container" and "domain" alone mean the standard kinds.
        match self.engine.filter(|engine| !engine.is_standard()) {
            Some(engine) => write!(f, "{engine} {kind} {}", self.name),
            None => write!(f, "{kind} {}", self.name),
        }
    }
}
